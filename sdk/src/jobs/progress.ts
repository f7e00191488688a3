/**
 * How far a job is, for as many readers as there are.
 */

/** How far a job is. */
export interface JobProgress {
  /** What is being done: `dump`, `verify`. */
  readonly phase: string;
  /** Units done in this phase: bytes, unless the job says otherwise. */
  readonly done: number | null;
  /** Units in all, where that is known. */
  readonly total: number | null;
  /** 0 to 100, where that is known. */
  readonly percent: number | null;
}

/** What a job tells. */
export interface ProgressUpdate {
  phase: string;
  done?: number | null | undefined;
  total?: number | null | undefined;
  /** Default: what `done` and `total` make. */
  percent?: number | null | undefined;
}

/** The last thing that was told. A reader who is slow misses what was in between, never the last. */
export class ProgressFeed implements AsyncIterable<JobProgress> {
  #last: JobProgress | undefined;
  #version = 0;
  #over = false;
  readonly #waiting = new Set<() => void>();

  /** Tells. After the end, it means nothing. */
  readonly tell = (update: ProgressUpdate): void => {
    if (this.#over) return;
    const { phase, done = null, total = null } = update;
    const part = done !== null && total !== null && total > 0 ? (100 * done) / total : null;
    const percent = update.percent ?? part;
    this.#last = {
      phase,
      done,
      total,
      percent: percent === null ? null : Math.min(100, Math.max(0, percent)),
    };
    this.#version += 1;
    this.#wake();
  };

  /** There is no more. */
  end(): void {
    this.#over = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<JobProgress, void, undefined> {
    let seen = 0;
    for (;;) {
      if (this.#version > seen && this.#last !== undefined) {
        seen = this.#version;
        yield this.#last;
      } else if (this.#over) {
        return;
      } else {
        await new Promise<void>((resolve) => this.#waiting.add(resolve));
      }
    }
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}
