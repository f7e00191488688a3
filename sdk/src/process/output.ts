/**
 * One output stream of a process: read by whoever asks first, kept up to a limit, drained when nobody asks.
 *
 * ```text
 * idle -- stream() ---> handed out; the reader's own business
 *   \---- iterate() --> read by a loop, kept too; what the loop leaves is drained
 *    \--- drain() ----> read to its end, kept
 * ```
 */
import type { Buffer } from "node:buffer";
import type { Readable } from "node:stream";
import { Collector } from "./collect.ts";

/** See the module. */
export class ProcessOutput {
  readonly collector: Collector;
  readonly #open: () => Readable;
  #source: Readable | undefined;
  #state: "idle" | "handed out" | "iterated" | "drained" = "idle";
  #ended: Promise<void> | undefined;

  /**
   * @param open - connects to the stream
   * @param limit - bytes to keep
   */
  constructor(open: () => Readable, limit: number) {
    this.#open = open;
    this.collector = new Collector(limit);
  }

  /** Connects, where that has not happened yet. */
  connect(): Readable {
    if (this.#source === undefined) {
      const source = this.#open();
      this.#source = source;
      this.#ended = new Promise((resolve, reject) => {
        source.once("end", resolve);
        source.once("error", reject);
        // Closed without an end: the reader destroyed it, which is the reader's own end of it.
        source.once("close", resolve);
      });
      this.#ended.catch(() => {});
    }
    return this.#source;
  }

  /** The stream itself. What is read from it is not kept. */
  stream(): Readable {
    if (this.#state === "idle") this.#state = "handed out";
    return this.connect();
  }

  /** The bytes as they come. At most one loop reads a stream. */
  async *iterate(): AsyncGenerator<Buffer, void, void> {
    if (this.#state !== "idle") throw new Error(`this output is being read already (${this.#state})`);
    this.#state = "iterated";
    const source = this.connect();
    let whole = false;
    try {
      // `destroyOnReturn: false` lets a loop be left while the process goes on.
      for await (const chunk of source.iterator({ destroyOnReturn: false })) {
        this.collector.add(chunk as Buffer);
        yield chunk as Buffer;
      }
      whole = true;
    } finally {
      if (!whole) {
        this.#state = "idle";
        this.drain();
      }
    }
  }

  /** Reads what nobody else reads. */
  drain(): void {
    if (this.#state !== "idle") return;
    this.#state = "drained";
    this.connect().on("data", (chunk: Buffer) => this.collector.add(chunk));
  }

  /** Resolves when the output has ended and was read. */
  async ended(): Promise<void> {
    this.drain();
    await this.#ended;
  }
}
