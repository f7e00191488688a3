/**
 * What a command may be fed with.
 */
import { Buffer } from "node:buffer";
import type { Writable } from "node:stream";

/**
 * Standard input: text, bytes, or anything that yields them one after the other (an array, a generator, a Node or
 * web stream). A stream is read only as fast as the command reads.
 */
export type Input =
  | string
  | Uint8Array
  | Iterable<string | Uint8Array>
  | AsyncIterable<string | Uint8Array>
  | ReadableStream<Uint8Array>;

/** Whether it is there in full, and needs no stream. */
export function isWhole(input: Input): input is string | Uint8Array {
  return typeof input === "string" || input instanceof Uint8Array;
}

/**
 * Writes all of it and ends the stream. Stops without an error when the command wants no more.
 *
 * @throws whatever the input throws
 */
export async function feed(input: Input, stdin: Writable): Promise<void> {
  // A command that ends without reading its input is no failure; its exit code says what it is.
  stdin.on("error", () => {});
  try {
    if (isWhole(input)) {
      stdin.end(input);
      return;
    }
    for await (const chunk of input as AsyncIterable<string | Uint8Array>) {
      if (stdin.destroyed) return;
      const more = stdin.write(typeof chunk === "string" ? Buffer.from(chunk, "utf8") : chunk);
      if (!more) await drained(stdin);
    }
    stdin.end();
  } catch (error) {
    stdin.destroy();
    throw error;
  }
}

function drained(stdin: Writable): Promise<void> {
  if (stdin.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      stdin.off("drain", done);
      stdin.off("close", done);
      resolve();
    };
    stdin.on("drain", done);
    stdin.on("close", done);
  });
}
