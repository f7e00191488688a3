import { Buffer } from "node:buffer";
import { describe, expect, test } from "vitest";
import { fromInput, toBytes, toText } from "../../src/wire/data.ts";
import { decode, encodeRequest } from "../../src/wire/messages.ts";

describe("messages", () => {
  test.each([
    ["", SyntaxError],
    ["nonsense", SyntaxError],
    ["[]", TypeError],
    ["null", TypeError],
    ["7", TypeError],
    ['{"jsonrpc":"1.0","id":1,"result":{}}', TypeError],
    ['{"jsonrpc":"2.0","id":"1","result":{}}', TypeError],
    ['{"jsonrpc":"2.0","id":1}', TypeError],
    ['{"jsonrpc":"2.0","id":1,"method":"x"}', TypeError],
    ['{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}', TypeError],
  ])("what is no message is refused: %s", (line, kind) => {
    expect(() => decode(line)).toThrow(kind);
  });

  test("half of a surrogate pair never reaches the wire, and what looks like one is left alone", () => {
    const sent = (value: string): string => {
      const { params } = JSON.parse(encodeRequest(1, "image.inspect", { imageId: value })) as {
        params: { imageId: string };
      };
      return params.imageId;
    };
    expect(sent("a\ud800b")).toBe("a\ufffdb");
    expect(sent("\udc00\ud800")).toBe("\ufffd\ufffd");
    expect(sent("\\ud800")).toBe("\\ud800");
    expect(sent("🎉\\ud800")).toBe("🎉\\ud800");
  });
});

describe("S18: bytes in messages", () => {
  test("any bytes come back", () => {
    for (const bytes of [Buffer.alloc(0), Buffer.from([0, 255, 254]), Buffer.from("grüße")]) {
      expect(toBytes(fromInput(bytes))).toEqual(bytes);
      expect(toBytes(fromInput(new Uint8Array([9, ...bytes]).subarray(1)))).toEqual(bytes);
    }
    expect(toText(fromInput("grüße 🎉"), false)).toBe("grüße 🎉");
  });

  test("output that was cut inside a character loses that character only", () => {
    const bytes = Buffer.from("añ🎉");
    for (let length = 0; length <= bytes.length; length++) {
      const text = toText({ base64: bytes.subarray(0, length).toString("base64") }, true);
      expect("añ🎉".startsWith(text)).toBe(true);
    }
  });
});
