/**
 * Bytes inside JSON messages.
 */
import { Buffer } from "node:buffer";
import { StringDecoder } from "node:string_decoder";
import type { Data } from "../generated/protocol.ts";

/** The bytes that a message carries. */
export function toBytes(data: Data): Buffer {
  return "text" in data ? Buffer.from(data.text, "utf8") : Buffer.from(data.base64, "base64");
}

/**
 * The text that a message carries. What is not UTF-8 becomes U+FFFD; where output was cut in the middle of a
 * character, that character is left out.
 */
export function toText(data: Data, cut: boolean): string {
  if ("text" in data) return data.text;
  const bytes = Buffer.from(data.base64, "base64");
  // `write` without `end` keeps an incomplete last character to itself.
  return cut ? new StringDecoder("utf8").write(bytes) : bytes.toString("utf8");
}

/** Puts bytes or text into a message. */
export function fromInput(input: string | Uint8Array): Data {
  if (typeof input === "string") return { text: input };
  return { base64: Buffer.from(input.buffer, input.byteOffset, input.byteLength).toString("base64") };
}
