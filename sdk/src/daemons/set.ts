/**
 * What can be done with a set of daemons that runs, however it came about.
 */
import "../polyfill.ts";
import { Driver } from "./driver.ts";
import type { Effects } from "./effects.ts";
import { type Entry, EntryRunner, leaders } from "./entry.ts";
import { Shares } from "./shares.ts";
import type { DaemonChange, DaemonStatus } from "./status.ts";
import { Tail } from "./tail.ts";

/** See the module. */
export abstract class DaemonSet<Ids extends string> implements AsyncDisposable {
  /** Where they run, and who is told of them. */
  readonly effects: Effects;
  readonly #driver = new Driver();
  readonly #shares = new Shares();
  readonly #tails = new Map<string, Tail>();
  #terminating: Promise<void> | undefined;
  #detached = false;
  #bound = false;

  constructor(effects: Effects) {
    this.effects = effects;
  }

  /** Starts them. */
  abstract build(): Promise<this>;

  /** What each does now; of one alone, where its id is given. Nothing before `build`. */
  status(): { [Id in Ids]: DaemonStatus };
  status(id: Ids): DaemonStatus | undefined;
  status(id?: Ids): { [Id in Ids]: DaemonStatus } | DaemonStatus | undefined {
    const all = this.#driver.status();
    if (id !== undefined) return all.get(id);
    // No prototype: an id may be any word.
    const out: Record<string, DaemonStatus> = Object.create(null);
    for (const [name, status] of all) out[name] = status;
    return out as { [Id in Ids]: DaemonStatus };
  }

  /**
   * Each change of a status, as it happens, after one for each daemon as it is now. Ends with the set, or with `signal`.
   * A slow reader loses no daemon's last status, only those in between.
   */
  changes(signal?: AbortSignal): AsyncGenerator<DaemonChange, void, undefined> {
    return this.#driver.changes(signal);
  }

  /** The last 64 KiB that a daemon printed, on both outputs, in all of its runs. */
  output(id: Ids): string {
    return this.#tails.get(id)?.text() ?? "";
  }

  /**
   * Stops one, and before it what requires it; its subcontainer stays, with all that is in it. Resolves when it has
   * stopped. `resume` starts it again.
   */
  async pause(id: Ids): Promise<void> {
    this.#must(id);
    this.#driver.post({ type: "pause", id });
    await this.#driver.until((status) => !isActive(status.get(id)));
  }

  /** Takes a `pause` back, and tries one again that was given up. */
  resume(id: Ids): void {
    this.#must(id);
    this.#driver.post({ type: "resume", id });
  }

  /** Stops one, and before it what requires it, and starts it again; at once where it waits for its next try. */
  restart(id: Ids): void {
    this.#must(id);
    this.#driver.post({ type: "restart", id });
  }

  /**
   * Resolves when all are ready.
   *
   * @throws Error when one of them is not tried any more; the signal's reason
   */
  async allReady(signal?: AbortSignal): Promise<void> {
    await this.#driver.until((status) => {
      for (const one of status.values()) {
        if (one.state === "gaveUp" || one.state === "stopped") {
          throw new Error(`${one.id} ${one.state === "stopped" ? "was ended" : one.health.message}`);
        }
      }
      // Of one that is lost, it is only known that it was.
      return [...status.values()].every(({ ready, state }) => ready && state !== "lost");
    }, signal);
  }

  /**
   * Ends all, those first that others are not required by, and destroys the subcontainers that they were given. Nothing
   * starts any more. Everybody who asks shares one promise.
   */
  term(): Promise<void> {
    this.#terminating ??= this.ending().then(() => this.#driver.term());
    return this.#terminating;
  }

  /** Lets them outlive the context in which they were built: only `term` ends them. */
  detach(): void {
    this.#detached = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.term();
  }

  /** What has to be over before they are ended. */
  protected async ending(): Promise<void> {}

  /** Whether `term` was called. */
  protected get terminating(): boolean {
    return this.#terminating !== undefined;
  }

  /** These are to run from now on. @throws RangeError, and nothing has changed */
  protected apply(entries: readonly Entry[]): void {
    if (this.terminating) throw new Error("these daemons were ended");
    const known = new Set<string>();
    for (const { id, requires } of entries) {
      const missing = requires.find((other) => !known.has(other));
      if (missing !== undefined)
        throw new RangeError(`${id} requires ${missing}, which is not added before it`);
      known.add(id);
    }
    const leading = leaders(entries);
    const runners = entries.map(
      (entry) =>
        new EntryRunner(this.effects, entry, leading.has(entry.id), this.#shares, this.#tail(entry.id)),
    );
    this.#bind();
    this.#driver.plan(runners);
  }

  #bind(): void {
    if (this.#bound) return;
    this.#bound = true;
    this.effects.onLeaveContext?.(async () => {
      if (!this.#detached) await this.term();
    });
  }

  #tail(id: string): Tail {
    let tail = this.#tails.get(id);
    if (tail === undefined) {
      tail = new Tail();
      this.#tails.set(id, tail);
    }
    return tail;
  }

  #must(id: string): void {
    if (this.#driver.status().get(id) === undefined) throw new RangeError(`no daemon ${id} is there`);
  }
}

function isActive(status: DaemonStatus | undefined): boolean {
  return status !== undefined && ["starting", "running", "stopping", "lost"].includes(status.state);
}
