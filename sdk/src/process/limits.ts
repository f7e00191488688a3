/**
 * Ends a process that this program watches: at a time limit or at an abort, SIGTERM to the whole tree, then, after
 * the grace, SIGKILL to what is left of it.
 *
 * ```text
 * watching -- timeout | abort --> ending -- tree gone, or grace over and SIGKILL sent --> ended
 *     \------ process ended by itself: release() --------------------------------------> ended
 * ```
 */
import { clearTimeout, setTimeout } from "node:timers";
import { setTimeout as sleep } from "node:timers/promises";
import { type LimitOptions, milliseconds } from "./options.ts";

/** Sends a signal to the process and all that it started; says whether anything was there to get it. */
export type KillTree = (signal: NodeJS.Signals) => Promise<boolean>;

const POLL = 20;
/** The longest that a timer of Node and browsers can wait. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** See the module. */
export class Limits {
  readonly #kill: KillTree;
  readonly #grace: number;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort: () => void;
  #timer: NodeJS.Timeout | undefined;
  #reason: "timeout" | "abort" | undefined;
  #ending: Promise<void> | undefined;
  #delivered = false;

  constructor(options: LimitOptions, kill: KillTree) {
    this.#kill = kill;
    this.#grace = milliseconds(options.grace ?? 0, "grace");
    this.#signal = options.signal;
    this.#onAbort = (): void => this.#end("abort");
    this.#signal?.addEventListener("abort", this.#onAbort, { once: true });
    const timeout = options.timeout ?? null;
    if (timeout !== null) {
      this.#timer = setTimeout(
        () => this.#end("timeout"),
        Math.min(milliseconds(timeout, "timeout"), LONGEST_TIMER),
      );
    }
    if (this.#signal?.aborted) this.#end("abort");
  }

  /** What ended the process, if it was this: one that had ended before the signal came was not. */
  get reason(): "timeout" | "abort" | undefined {
    return this.#delivered ? this.#reason : undefined;
  }

  /** Milliseconds between SIGTERM and SIGKILL. */
  get grace(): number {
    return this.#grace;
  }

  /** Why it was aborted. */
  get cause(): unknown {
    return this.reason === "abort" ? this.#signal?.reason : undefined;
  }

  /** Resolves at once while nothing is being ended, else once the tree is gone or has got its SIGKILL. */
  get settled(): Promise<void> {
    return this.#ending ?? Promise.resolve();
  }

  /** The process has ended: watch no longer. */
  release(): void {
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener("abort", this.#onAbort);
  }

  #end(reason: "timeout" | "abort"): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    this.release();
    // A host that is gone has ended the process with everything else; its own error is reported by the wait.
    this.#ending = this.#endTree().catch(() => {});
  }

  async #endTree(): Promise<void> {
    if (this.#grace > 0) {
      const deadline = performance.now() + this.#grace;
      let alive = await this.#kill("SIGTERM");
      this.#delivered = alive;
      while (alive && performance.now() < deadline) {
        await sleep(Math.min(POLL, Math.max(1, deadline - performance.now())));
        // SIGCONT changes nothing for a process that runs; its answer says whether anything is left of the tree.
        alive = await this.#kill("SIGCONT");
      }
      if (!alive) return;
    }
    const killed = await this.#kill("SIGKILL");
    this.#delivered ||= killed;
  }
}
