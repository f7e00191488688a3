/**
 * The last of what a daemon printed.
 */
import { Buffer } from "node:buffer";

const KEPT = 64 * 1024;

/** Keeps the end of a stream of bytes, of all runs of one daemon. */
export class Tail {
  #chunks: Buffer[] = [];
  #length = 0;

  /** Takes the next bytes. */
  add(chunk: Uint8Array): void {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    this.#chunks.push(bytes.length > KEPT ? bytes.subarray(-KEPT) : bytes);
    this.#length += bytes.length;
    // Now and then, so that each byte is copied once or twice and not for every line.
    if (this.#length > 2 * KEPT || this.#chunks.length > 1024) this.#shorten();
  }

  /** What was kept, as text, from the beginning of a line where the rest was dropped. */
  text(): string {
    this.#shorten();
    const text = (this.#chunks[0] ?? Buffer.alloc(0)).toString("utf8");
    return this.#length < KEPT ? text : text.slice(text.indexOf("\n") + 1);
  }

  #shorten(): void {
    const all = Buffer.concat(this.#chunks);
    // A copy of its own: a part of a large buffer would keep all of it.
    this.#chunks = [all.length > KEPT ? Buffer.from(all.subarray(-KEPT)) : all];
    this.#length = Math.min(this.#length, KEPT);
  }
}
