import { Buffer } from "node:buffer";
import { Readable, Writable } from "node:stream";
import { describe, expect, test } from "vitest";
import { Collector } from "../../src/process/collect.ts";
import { feed } from "../../src/process/input.ts";
import { lines } from "../../src/process/lines.ts";
import { ProcessOutput } from "../../src/process/output.ts";
import { ExitError } from "../../src/process/result.ts";

async function all(chunks: Uint8Array[], longest?: number): Promise<string[]> {
  const out: string[] = [];
  for await (const line of lines(Readable.from(chunks), longest)) out.push(line);
  return out;
}

describe("S18: lines", () => {
  test("the same lines however the bytes were cut, no character split", async () => {
    const bytes = Buffer.from("eins\nzwölf\r\n\n🎉 last");
    const expected = ["eins", "zwölf", "", "🎉 last"];
    for (let at = 0; at <= bytes.length; at++) {
      expect(await all([bytes.subarray(0, at), bytes.subarray(at)])).toEqual(expected);
    }
    expect(await all([...bytes].map((byte) => Buffer.from([byte])))).toEqual(expected);
    expect(await all([])).toEqual([]);
    expect(await all([Buffer.from("\n")])).toEqual([""]);
  });

  test("a line without an end is handed out in pieces", async () => {
    const pieces = await all(
      Array.from({ length: 10 }, () => Buffer.alloc(100, "x")),
      250,
    );
    expect(pieces.join("")).toHaveLength(1000);
    expect(Math.max(...pieces.map((piece) => piece.length))).toBeLessThanOrEqual(350);
  });
});

describe("S18: bounded buffers", () => {
  test("keep the first bytes and say that there were more", () => {
    const collector = new Collector(5);
    collector.add(Buffer.from("abc"));
    expect(collector.truncated).toBe(false);
    collector.add(Buffer.from("de"));
    expect(collector.truncated).toBe(false);
    collector.add(Buffer.from("f"));
    collector.add(Buffer.alloc(1 << 20));
    expect(collector.truncated).toBe(true);
    expect(collector.text()).toBe("abcde");
  });

  test("leave out a character that the limit cut", () => {
    const collector = new Collector(2);
    collector.add(Buffer.from("aé"));
    expect(collector.text()).toBe("a");
    expect(collector.bytes()).toHaveLength(2);
  });

  test("a loop that is left early keeps and drains the rest", async () => {
    const output = new ProcessOutput(
      () => Readable.from([Buffer.from("a"), Buffer.from("b"), Buffer.from("c")]),
      10,
    );
    for await (const chunk of output.iterate()) {
      expect(chunk.toString()).toBe("a");
      break;
    }
    await output.ended();
    expect(output.collector.text()).toBe("abc");
  });
});

describe("S19: input", () => {
  const sink = (highWaterMark = 4): { stream: Writable; got: () => string } => {
    const got: Buffer[] = [];
    const stream = new Writable({
      highWaterMark,
      write(chunk, _encoding, done) {
        got.push(chunk);
        setImmediate(done);
      },
    });
    return { stream, got: () => Buffer.concat(got).toString() };
  };

  test.each([
    ["text", () => "grüße"],
    ["bytes", () => new TextEncoder().encode("grüße")],
    ["an array", () => ["grü", new TextEncoder().encode("ße")]],
    [
      "a generator",
      () =>
        (async function* () {
          yield "grü";
          yield "ße";
        })(),
    ],
    ["a Node stream", () => Readable.from([Buffer.from("grüße")])],
    ["a web stream", () => new Blob(["grüße"]).stream()],
  ])("%s arrives and then ends", async (_name, input) => {
    const { stream, got } = sink();
    const finished = new Promise((resolve) => stream.on("finish", resolve));
    await feed(input(), stream);
    await finished;
    expect(got()).toBe("grüße");
  });

  test("is read no faster than it is taken", async () => {
    let produced = 0;
    const stream = new Writable({ highWaterMark: 1, write() {} });
    void feed(
      (function* () {
        for (;;) {
          produced += 1;
          yield "xxxx";
        }
      })(),
      stream,
    );
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(produced).toBeLessThan(4);
    stream.destroy();
  });

  test("stops when nobody takes it any more, and an error of the input is the caller's", async () => {
    const { stream } = sink();
    stream.destroy();
    await feed(["a", "b"], stream);
    await expect(
      feed(
        (async function* () {
          yield "a";
          throw new Error("no more");
        })(),
        sink().stream,
      ),
    ).rejects.toThrow("no more");
  });
});

describe("S16: ExitError", () => {
  test.each([
    [{ exitCode: 3, exitSignal: null, stdout: "", stderr: "bad\n" }, "psql failed with exit code 3: bad"],
    [
      { exitCode: null, exitSignal: "SIGTERM" as const, stdout: "", stderr: "" },
      "psql terminated with signal SIGTERM",
    ],
    [{ exitCode: 0, exitSignal: null, stdout: "fine", stderr: "" }, "psql succeeded: fine"],
    [
      { exitCode: null, exitSignal: null, stdout: "", stderr: "", outcome: { kind: "timeout" as const } },
      "psql took longer than its time limit",
    ],
    [
      { exitCode: null, exitSignal: null, stdout: "", stderr: "", outcome: { kind: "outOfMemory" as const } },
      "psql was killed: out of memory",
    ],
  ])("%o", (result, message) => {
    const error = new ExitError("psql", result);
    expect(error.message).toBe(message);
    expect(error.command).toBe("psql");
    expect(error.exitCode).toBe(result.exitCode);
  });

  test("holds the end of a long standard error", () => {
    const error = new ExitError("x", {
      exitCode: 1,
      exitSignal: null,
      stdout: "",
      stderr: `${"a".repeat(100_000)} the reason`,
    });
    expect(error.message.length).toBeLessThan(5000);
    expect(error.message).toMatch(/the reason$/);
  });
});
