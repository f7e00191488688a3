import { Buffer } from "node:buffer";
import { describe, expect, test, vi } from "vitest";
import { LineSplitter } from "../../src/wire/lines.ts";

function split(chunks: Uint8Array[], limit = 1 << 20): string[] {
  const out: string[] = [];
  const splitter = new LineSplitter(limit, (line) => out.push(line));
  for (const chunk of chunks) splitter.push(Buffer.from(chunk));
  return out;
}

/** Every way to cut bytes into two, and into single bytes. */
function* cuts(bytes: Buffer): Generator<Buffer[]> {
  for (let at = 0; at <= bytes.length; at++) yield [bytes.subarray(0, at), bytes.subarray(at)];
  yield [...bytes].map((byte) => Buffer.from([byte]));
}

describe("framing", () => {
  test("lines come out whole however the bytes were cut", () => {
    const bytes = Buffer.from('{"a":1}\n\n{"grüße":"🎉"}\nlast\n');
    for (const chunks of cuts(bytes)) {
      expect(split(chunks)).toEqual(['{"a":1}', "", '{"grüße":"🎉"}', "last"]);
    }
  });

  test("the buffer may be used again after push", () => {
    const out: string[] = [];
    const splitter = new LineSplitter(100, (line) => out.push(line));
    const buffer = Buffer.from("abc");
    splitter.push(buffer);
    buffer.fill("x");
    splitter.push(Buffer.from("\n"));
    expect(out).toEqual(["abc"]);
  });

  test("a line at the limit passes and one byte more does not, in one piece or in many", () => {
    expect(split([Buffer.from("12345\n")], 5)).toEqual(["12345"]);
    for (const chunks of cuts(Buffer.from("123456\n"))) expect(() => split(chunks, 5)).toThrow(RangeError);
  });

  test("an endless line is refused before its end has come", () => {
    const splitter = new LineSplitter(1000, () => {});
    expect(() => {
      for (let i = 0; i < 2000; i++) splitter.push(Buffer.from("x"));
    }).toThrow(/longer than 1000 bytes/);
  });

  test("a long line in many pieces is copied a bounded number of times", () => {
    const piece = Buffer.alloc(1024, "a");
    const count = 4096;
    let copied = 0;
    const { concat, from } = Buffer;
    const spies = [
      vi.spyOn(Buffer, "concat").mockImplementation((list) => {
        const whole = concat(list);
        copied += whole.length;
        return whole;
      }),
      vi.spyOn(Buffer, "from").mockImplementation(((bytes: Buffer) => {
        copied += bytes.length;
        return from(bytes);
      }) as never),
    ];
    let got = 0;
    const splitter = new LineSplitter(1 << 30, (line) => {
      got = line.length;
    });
    for (let i = 0; i < count; i++) splitter.push(piece);
    splitter.push(from("\n"));
    for (const spy of spies) spy.mockRestore();
    expect(got).toBe(piece.length * count);
    expect(copied).toBeLessThanOrEqual(2 * got + 1);
  });
});
