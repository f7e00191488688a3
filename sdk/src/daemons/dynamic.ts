/**
 * A set of daemons that follows a function: called again whenever something has changed, it gives the list anew, and
 * only what is different is touched.
 */
import type { Sub } from "./checks.ts";
import type { Daemons } from "./daemons.ts";
import type { Effects } from "./effects.ts";
import { configHash, type Entry } from "./entry.ts";
import { DaemonSet } from "./set.ts";

/** Gives the list, not built. */
export type DaemonsBuilder<E extends Effects = Effects> = (options: {
  /** The effects, with a function that has the list made again. */
  effects: E & { constRetry: () => void };
}) => Pick<Daemons, "entries"> | Promise<Pick<Daemons, "entries">>;

/** See the module. `Daemons.dynamic` makes it. */
export class DaemonsReconciler<E extends Effects = Effects> extends DaemonSet<string> {
  readonly #fn: DaemonsBuilder<E>;
  readonly #given: E & { constRetry: () => void };
  #entries: readonly Entry[] = [];
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  /** Use `Daemons.dynamic`. */
  constructor(effects: E, fn: DaemonsBuilder<E>) {
    super(effects);
    this.#fn = fn;
    // Whatever the effects are, with one more function.
    this.#given = new Proxy(effects, {
      get: (target, name) => {
        if (name === "constRetry") return () => this.#retry();
        const value = Reflect.get(target, name, target) as unknown;
        return typeof value === "function" ? value.bind(target) : value;
      },
    }) as E & { constRetry: () => void };
  }

  override async build(): Promise<this> {
    await this.reconcile();
    return this;
  }

  /**
   * Has the list made again, and follows it. Calls that come while one is under way share the next one. Resolves when
   * what has changed is under way.
   *
   * @throws whatever the function throws; the daemons are as they were then
   */
  reconcile(): Promise<void> {
    if (this.#running === undefined) {
      this.#running = this.#reconcile().finally(() => {
        this.#running = undefined;
      });
      return this.#running;
    }
    const current = this.#running;
    this.#next ??= current
      .catch(() => {})
      .then(() => {
        this.#next = undefined;
        return this.reconcile();
      });
    return this.#next;
  }

  protected override async ending(): Promise<void> {
    await this.#running?.catch(() => {});
  }

  #retry(): void {
    // Nobody waits for it: what cannot be made is as it was, and says why.
    this.reconcile().catch((error: unknown) => {
      if (!this.terminating) process.emitWarning(error instanceof Error ? error : String(error));
    });
  }

  async #reconcile(): Promise<void> {
    const made = await this.#fn({ effects: this.#given });
    // Ended meanwhile: what was made was never used.
    if (this.terminating) return;
    const entries = shared(this.#entries, made.entries);
    this.apply(entries);
    this.#entries = entries;
  }
}

/**
 * The new entries, with the handles of the old ones where those stay: what shares a handle in the list goes on sharing
 * it, also when only one of them has changed.
 */
function shared(before: readonly Entry[], now: readonly Entry[]): Entry[] {
  const old = new Map(before.map((entry) => [entry.id, entry]));
  const same = new Map<Sub, Sub>();
  for (const entry of now) {
    const former = old.get(entry.id);
    if (former === undefined || configHash(former) !== configHash(entry)) continue;
    if (entry.subcontainer !== null && former.subcontainer !== null) {
      same.set(entry.subcontainer, former.subcontainer);
    }
  }
  return now.map((entry) => ({
    ...entry,
    subcontainer: entry.subcontainer === null ? null : (same.get(entry.subcontainer) ?? entry.subcontainer),
  }));
}
