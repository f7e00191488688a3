/**
 * Output kept in memory, up to a limit.
 */
import { Buffer } from "node:buffer";
import { StringDecoder } from "node:string_decoder";

/** Keeps the first bytes of a stream and says whether there were more. */
export class Collector {
  readonly #limit: number;
  #chunks: Buffer[] = [];
  #kept = 0;
  #truncated = false;

  /** @param limit - bytes to keep */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** There was more than the limit. */
  get truncated(): boolean {
    return this.#truncated;
  }

  /** Takes the next bytes. */
  add(chunk: Buffer): void {
    const room = this.#limit - this.#kept;
    if (chunk.length > room) {
      this.#truncated = true;
      if (room === 0) return;
    }
    const kept = chunk.length > room ? chunk.subarray(0, room) : chunk;
    this.#chunks.push(kept);
    this.#kept += kept.length;
  }

  /** What was kept. */
  bytes(): Buffer {
    if (this.#chunks.length !== 1) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0] as Buffer;
  }

  /** What was kept, as text. A character that the limit cut in two is left out. */
  text(): string {
    return this.#truncated ? new StringDecoder("utf8").write(this.bytes()) : this.bytes().toString("utf8");
  }
}
