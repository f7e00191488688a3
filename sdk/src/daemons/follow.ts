/**
 * What a daemon prints, from the log of its subcontainer: the host keeps that, so that a daemon goes on printing while no
 * host is there, and nothing is lost.
 */
import type { LogChunk } from "../logs/logs.ts";
import type { SubContainer } from "../subcontainer/subcontainer.ts";

/** Milliseconds. */
const LONGEST_READ = 10_000;

/** Follows the part of a log that one process writes. */
export class Follow {
  readonly #sub: SubContainer;
  readonly #pid: number;
  readonly #take: (chunk: LogChunk) => void;
  #last: number;
  #stop: AbortController = new AbortController();
  #following: Promise<void>;

  /**
   * @param since - milliseconds since the epoch: before the process was started
   * @param take - called with each piece, once
   */
  constructor(sub: SubContainer, pid: number, since: number, take: (chunk: LogChunk) => void) {
    this.#sub = sub;
    this.#pid = pid;
    this.#take = take;
    this.#last = since;
    this.#following = this.#read(true);
  }

  /** The process has ended: takes what it had still written. Others in there may go on. */
  async finish(): Promise<void> {
    await this.interrupt();
    await this.#read(false);
  }

  /** Follows no more. */
  async interrupt(): Promise<void> {
    this.#stop.abort();
    await this.#following;
  }

  /** Goes on after {@link interrupt}, where it was. */
  resume(): void {
    this.#stop = new AbortController();
    this.#following = this.#read(true);
  }

  /** What cannot be read is not what a daemon's life depends on. */
  async #read(follow: boolean): Promise<void> {
    const { signal } = this.#stop;
    try {
      const since = Math.floor(this.#last);
      // What there is, is there at once: a host that does not say so holds up no daemon.
      const limit = follow ? signal : AbortSignal.timeout(LONGEST_READ);
      const options = { follow, since, encoding: "buffer", signal: limit } as const;
      for await (const chunk of this.#sub.logs(options)) {
        // The log is asked for by whole milliseconds: some of what is there was read before.
        if (chunk.pid !== this.#pid || chunk.time <= this.#last) continue;
        this.#last = chunk.time;
        try {
          this.#take(chunk);
        } catch (error) {
          // The user's own: it must not look like a log that cannot be read.
          queueMicrotask(() => {
            throw error;
          });
        }
      }
    } catch {
      // The host is gone, or the subcontainer, or somebody has said that it is enough.
    }
  }
}
