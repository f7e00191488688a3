import { describe, expect } from "vitest";
import type { Event, LogLine } from "../../src/index.ts";
import { test } from "./fixture.ts";

async function all<T>(from: AsyncIterable<T>): Promise<T[]> {
  const out: T[] = [];
  for await (const item of from) out.push(item);
  return out;
}

describe("S28: streams that are kept", () => {
  test("are read as lines, and as bytes, by stream, time and number", async ({ sub }) => {
    const before = Date.now();
    const script = "echo one; sleep 0.1; echo oops >&2; sleep 0.1; printf '\\303\\244\\377\\nend'";
    const leader = await sub.launch(["sh", "-c", script], { stdio: "log" });
    expect([leader.stdin, leader.stdout, leader.stderr]).toEqual([null, null, null]);
    expect(await leader.wait()).toMatchObject({ exitCode: 0 });
    const lines = await all(sub.logs());
    expect(lines.map(({ stream, text }) => [stream, text])).toEqual([
      ["stdout", "one"],
      ["stderr", "oops"],
      ["stdout", "ä\ufffd"],
      ["stdout", "end"],
    ]);
    expect(new Set(lines.map(({ pid }) => pid))).toEqual(new Set([leader.pid]));
    const [first, second] = lines as [LogLine, LogLine];
    expect(first.time).toBeGreaterThanOrEqual(before);
    expect(second.time - first.time).toBeGreaterThan(90);
    expect((await all(sub.logs({ since: second.time }))).length).toBeLessThan(4);
    expect((await all(sub.logs({ tail: 1 }))).map(({ text }) => text)).toEqual(["end"]);
    expect((await all(sub.logs({ stream: "stderr" }))).map(({ text }) => text)).toEqual(["oops"]);
    const pieces = await all(sub.logs({ encoding: "buffer", stream: "stdout" }));
    expect(Buffer.concat(pieces.map(({ data }) => data))).toEqual(
      Buffer.concat([Buffer.from("one\nä"), Buffer.from([0xff]), Buffer.from("\nend")]),
    );
  });

  test("are followed as they come, until the last writer ends", async ({ sub }) => {
    const leader = await sub.launch(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"], {
      stdio: ["ignore", "log", "log"],
      log: { size: 100_000, files: 2 },
    });
    const seen: string[] = [];
    for await (const { text } of sub.logs({ follow: true })) seen.push(text);
    expect(seen).toEqual(["1", "2", "3"]);
    await leader.wait();
    // A command beside an idle leader, and a loop that is left, and one that is aborted.
    await sub.launch(null, { stdio: "ignore" });
    const spawned = await sub.spawn(["sh", "-c", "while sleep 0.02; do echo tick; done"], { stdio: "log" });
    for await (const { text, pid } of sub.logs({ follow: true, tail: 0 })) {
      expect([text, pid]).toEqual(["tick", spawned.pid]);
      break;
    }
    const abort = new AbortController();
    const loop = all(sub.logs({ follow: true, signal: abort.signal }));
    setTimeout(() => abort.abort(new Error("enough")), 100);
    await expect(loop).rejects.toThrow("enough");
    await spawned.kill("SIGKILL", { tree: true });
  });

  test("that cannot be are refused", async ({ sub }) => {
    await expect(sub.launch(["true"], { stdio: "log", log: { files: 0 } })).rejects.toMatchObject({
      kind: "invalid",
    });
    await expect(all(sub.logs({ tail: -1 }))).rejects.toThrow(RangeError);
    await sub.destroy();
    expect(() => sub.logs()).toThrow("destroyed");
  });
});

describe("S28: events", () => {
  test("are told since a time, with who ended it, and health", async ({ host, sub }) => {
    const since = Date.now();
    await sub.launch(["sleep", "1000"], { stdio: "ignore" });
    await host.request("events.health", { guid: sub.guid, name: "web", status: "healthy" });
    await host.request("subcontainer.stop", { guid: sub.guid, timeout: 0 });
    const seen: Event[] = [];
    for await (const event of host.events({ guid: sub.guid, since })) {
      seen.push(event);
      if (event.event === "exited") break;
    }
    // It was made in the same millisecond, perhaps.
    expect(seen.filter(({ event }) => event !== "created")).toMatchObject([
      { event: "launched" },
      { event: "health", name: "web", status: "healthy" },
      { event: "exited", by: "stopTimeout" },
    ]);
    expect(seen.map(({ id }) => id)).toEqual([...seen.map(({ id }) => id)].sort((a, b) => a - b));
  });
});
