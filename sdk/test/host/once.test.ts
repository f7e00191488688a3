import { describe, expect, inject } from "vitest";
import { connect, Mounts, SubContainer } from "../../src/index.ts";
import { commandLines, NAME, test, until } from "./fixture.ts";

const image = { imageId: "busybox" };
const named = { name: NAME };

describe("S16, S19: runOnce", () => {
  test("runs a command as PID 1 over an image, and nothing of it is left", async ({ host }) => {
    const result = await SubContainer.runOnce(
      host,
      image,
      ["sh", "-c", "echo $$; cat; echo err >&2; exit 3"],
      {
        ...named,
        input: "read\n",
      },
    );
    expect(result).toMatchObject({ exitCode: 3, stdout: "1\nread\n", stderr: "err\n" });
    expect((await host.list()).filter(({ name }) => name === NAME)).toEqual([]);
    const bytes = await SubContainer.runOnce(host, image, ["printf", "\\377"], {
      ...named,
      encoding: "buffer",
    });
    expect([...bytes.stdout]).toEqual([255]);
  });

  test("is contained as it was asked for, with what was mounted", async ({ host }) => {
    const { stdout } = await SubContainer.runOnce(
      host,
      { ...image, userns: true, rootfsSize: 32 * 2 ** 20 },
      [
        "sh",
        "-c",
        // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the shell that reads it
        "echo $(cut -c1-11 /proc/self/uid_map) $(ls /sys/class/net) $(grep -c ' /late tmpfs' /proc/mounts) ${A} $(ulimit -n)",
      ],
      {
        ...named,
        mounts: Mounts.of().mountTmpfs({ mountpoint: "/late" }),
        network: { mode: "none" },
        limits: { pids: 16 },
        env: { A: "b" },
        ulimits: { nofile: { soft: 77 } },
      },
    );
    expect(stdout).toBe("0 lo 1 b 77\n");
    const forks = "for i in 1 2 3 4 5 6 7 8 9; do sleep 0.2 & done; wait";
    const refused = await SubContainer.runOnce(host, image, ["sh", "-c", forks], {
      ...named,
      limits: { pids: 4 },
    });
    expect(refused.stderr).toMatch(/fork/);
  });

  test.for([
    { what: "an image", image: { imageId: "nobody's" }, command: ["true"], options: {}, kind: "notFound" },
    { what: "a command", image, command: ["nope"], options: {}, kind: "commandNotFound" },
    { what: "a user", image, command: ["true"], options: { user: "nobody-knows" }, kind: "unknownUser" },
    {
      what: "a mount",
      image,
      command: ["true"],
      options: { mounts: Mounts.of().mountAssets({ mountpoint: "/a", subpath: "nothing" }) },
      kind: "notFound",
    },
  ])("leaves nothing where $what is missing", async ({ image, command, options, kind }, { host }) => {
    const running = SubContainer.runOnce(host, image, command, { ...named, ...options });
    await expect(running).rejects.toMatchObject({ kind });
    expect((await host.list()).filter(({ name }) => name === NAME)).toEqual([]);
  });

  test("a time limit ends it, kindly first where there is time for that", async ({ host }) => {
    const kind = ["sh", "-c", "trap 'echo bye; exit 0' TERM; echo on; while :; do sleep 0.1; done"];
    const asked = await SubContainer.runOnce(host, image, kind, { ...named, timeout: 1000, grace: 20_000 });
    expect(asked).toMatchObject({ outcome: { kind: "timeout" }, stdout: "on\nbye\n" });
    const deaf = ["sh", "-c", "trap '' TERM; echo on; while :; do sleep 0.1; done"];
    const forced = await SubContainer.runOnce(host, image, deaf, { ...named, timeout: 500, grace: 200 });
    expect(forced).toMatchObject({ outcome: { kind: "timeout" }, stdout: "on\n" });
    expect((await host.list()).filter(({ name }) => name === NAME)).toEqual([]);
  });

  test("an abort ends it", async ({ host }) => {
    const stop = new AbortController();
    const running = SubContainer.runOnce(host, image, ["sleep", "7331"], { ...named, signal: stop.signal });
    await until("it runs", () => commandLines().includes("sleep 7331"));
    stop.abort();
    expect((await running).outcome).toEqual({ kind: "abort" });
    await until("it is gone", async () => (await host.list()).every(({ name }) => name !== NAME));
    expect(commandLines()).not.toContain("sleep 7331");
  });

  test("the end of the connection ends it", async ({ host }) => {
    const other = await connect({ dataDir: inject("dataDir"), client: "tests" });
    const running = SubContainer.runOnce(other, image, ["sleep", "7332"], named);
    running.catch(() => {});
    await until("it runs", () => commandLines().includes("sleep 7332"));
    other.close();
    await until("it is gone", async () => (await host.list()).every(({ name }) => name !== NAME));
    expect(commandLines()).not.toContain("sleep 7332");
    await expect(running).rejects.toThrow();
  });

  test("many at once are each on their own", async ({ host }) => {
    const all = Array.from({ length: 24 }, async (_, i) => {
      const { stdout } = await SubContainer.runOnce(
        host,
        image,
        ["sh", "-c", `echo ${i} >/f; sleep 0.1; cat /f`],
        named,
      );
      return stdout;
    });
    expect(await Promise.all(all)).toEqual(Array.from({ length: 24 }, (_, i) => `${i}\n`));
  });

  test("what does not fit into a message is refused before anything is made", async ({ host }) => {
    const running = SubContainer.runOnce(host, image, ["true"], { ...named, maxBuffer: 2 ** 30 });
    await expect(running).rejects.toThrow(RangeError);
  });
});
