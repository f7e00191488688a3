/**
 * Output as lines of text.
 */
import { Buffer } from "node:buffer";
import { StringDecoder } from "node:string_decoder";

/** Characters after which a line without an end is handed out in pieces. */
export const LONGEST_LINE: number = 8 * 1024 * 1024;

/**
 * Splits bytes into lines, without their `\n` or `\r\n`. What follows the last newline is a line too, unless it is
 * empty. Characters are never split; what is not UTF-8 becomes U+FFFD.
 *
 * @param longest - characters after which a line is handed out in pieces, so that memory stays bounded
 */
export async function* lines(
  chunks: AsyncIterable<Uint8Array>,
  longest: number = LONGEST_LINE,
): AsyncGenerator<string, void, void> {
  const decoder = new StringDecoder("utf8");
  let pieces: string[] = [];
  let held = 0;
  function* split(text: string): Generator<string, void, void> {
    let start = 0;
    for (let end = text.indexOf("\n"); end !== -1; end = text.indexOf("\n", start)) {
      pieces.push(text.slice(start, end));
      const line = pieces.length === 1 ? (pieces[0] as string) : pieces.join("");
      pieces = [];
      held = 0;
      start = end + 1;
      yield line.endsWith("\r") ? line.slice(0, -1) : line;
    }
    if (start === text.length) return;
    pieces.push(text.slice(start));
    held += text.length - start;
    if (held >= longest) {
      yield pieces.join("");
      pieces = [];
      held = 0;
    }
  }
  for await (const chunk of chunks) {
    yield* split(decoder.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)));
  }
  yield* split(decoder.end());
  if (held > 0) yield pieces.join("");
}
