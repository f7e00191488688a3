/**
 * Newline framing: bytes in, whole lines out. Never looks into a line.
 *
 * A line that arrives in many pieces is joined once, when its end has come, so that a long one costs linear time;
 * text is decoded from whole lines only, so that no character is ever split.
 */
import { Buffer } from "node:buffer";

const NEWLINE = 10;

/** Takes a connection's bytes apart into lines. */
export class LineSplitter {
  readonly #limit: number;
  readonly #onLine: (line: string) => void;
  #pieces: Buffer[] = [];
  #held = 0;

  /**
   * @param limit - bytes of the longest line, without its newline
   * @param onLine - called with each line, in order
   */
  constructor(limit: number, onLine: (line: string) => void) {
    this.#limit = limit;
    this.#onLine = onLine;
  }

  /** Bytes of the line that has begun and not ended. */
  get held(): number {
    return this.#held;
  }

  /**
   * Takes the next bytes. They are copied where they are kept, so the caller may use the buffer again.
   *
   * @throws RangeError when a line is longer than the limit
   */
  push(chunk: Buffer): void {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(NEWLINE, start);
      if (end === -1) break;
      if (this.#held + end - start > this.#limit) throw this.#tooLong();
      let line: string;
      if (this.#held === 0) {
        line = chunk.toString("utf8", start, end);
      } else {
        this.#pieces.push(chunk.subarray(start, end));
        line = Buffer.concat(this.#pieces).toString("utf8");
        this.#pieces = [];
        this.#held = 0;
      }
      start = end + 1;
      this.#onLine(line);
    }
    const rest = chunk.length - start;
    if (rest === 0) return;
    if (this.#held + rest > this.#limit) throw this.#tooLong();
    this.#pieces.push(Buffer.from(chunk.subarray(start)));
    this.#held += rest;
  }

  #tooLong(): RangeError {
    return new RangeError(`a line is longer than ${this.#limit} bytes`);
  }
}
