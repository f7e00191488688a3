/**
 * Daemons as a service's author writes them down: a list in which each names those before it that it needs.
 */
import type { SubContainerLazy } from "../subcontainer/lazy.ts";
import type { SubContainer } from "../subcontainer/subcontainer.ts";
import { type DaemonsBuilder, DaemonsReconciler } from "./dynamic.ts";
import type { Effects } from "./effects.ts";
import type { Entry } from "./entry.ts";
import type { ExecCommandOptions, ExecFnOptions } from "./exec.ts";
import type { Ready, RestartOptions } from "./ready.ts";
import { DaemonSet } from "./set.ts";

/** What a daemon may run in. Once it is built, the set owns it: `term` destroys it. */
export type DaemonSubContainer = SubContainer | SubContainerLazy | null;

type Eager<C> = C extends null ? null : SubContainer;

/** What to run, and where. */
export interface RunParams<C extends DaemonSubContainer> {
  /** Where; null for a function that needs none. Several may share one. */
  subcontainer: C;
  /** A command, or a function. */
  exec: ExecFnOptions<Eager<C>> | (C extends null ? never : ExecCommandOptions);
  /** When it is started again after it has ended. */
  restart?: RestartOptions | undefined;
}

/** A daemon. */
export type AddDaemonParams<
  Ids extends string,
  Id extends string,
  C extends DaemonSubContainer,
> = RunParams<C> & {
  /** What makes it ready. */
  ready: Ready;
  /** Those before it that must be ready while it runs. */
  requires: readonly Exclude<Ids, Id>[];
};

/** A one-shot. */
export type AddOneshotParams<
  Ids extends string,
  Id extends string,
  C extends DaemonSubContainer,
> = RunParams<C> & {
  /** Those before it that must be ready while it runs. */
  requires: readonly Exclude<Ids, Id>[];
};

/** A health check of its own. */
export interface AddHealthCheckParams<Ids extends string, Id extends string> {
  /** What it looks at. */
  ready: Ready;
  /** Where it looks. Default: nowhere, for a function. */
  subcontainer?: SubContainer | SubContainerLazy | null | undefined;
  /** Those before it that must be ready while it looks. */
  requires: readonly Exclude<Ids, Id>[];
}

/** An id that no other one of the set has; else a text that says so, which no id is. */
type NewId<Ids extends string, Id extends string> = "" extends Id
  ? never
  : Id extends Ids
    ? `The id '${Id}' is already used`
    : Id;

type Optional<T> = T | (() => T | null);
type OptionalLater<T> = () => Promise<T | null>;

/**
 * A list of daemons, put together step by step, and what runs once it is built. Nothing starts before `build`.
 *
 * ```ts
 * const daemons = await Daemons.of(host)
 *   .addDaemon("web", {
 *     subcontainer: SubContainer.lazy(host, { imageId: "busybox" }),
 *     exec: { command: ["httpd", "-f", "-p", "127.0.0.1:8080", "-h", "/etc"] },
 *     ready: { display: "Web", port: 8080 },
 *     requires: [],
 *   })
 *   .build();
 * await daemons.allReady();
 * await daemons.term();
 * ```
 */
export class Daemons<Ids extends string = never> extends DaemonSet<Ids> {
  /** The ids, in the order in which they were added. */
  readonly ids: readonly Ids[];
  readonly #entries: readonly Entry[];
  #built: Promise<this> | undefined;

  private constructor(effects: Effects, entries: readonly Entry[], ids: readonly Ids[]) {
    super(effects);
    this.#entries = entries;
    this.ids = ids;
  }

  /** An empty list. `options` is the host, or an object that holds it as `effects`. */
  static of(options: Effects | { effects: Effects }): Daemons<never> {
    return new Daemons("effects" in options ? options.effects : options, [], []);
  }

  /**
   * Daemons that change while they run: `fn` gives the list, at first and whenever something has changed. Those that are
   * as they were go on; the others are stopped, started, or restarted with what requires them.
   *
   * `fn` is called again by `reconcile`, and by the `constRetry` of the effects that it gets. Use
   * `SubContainer.lazy` in it: a handle that was made anew is another one, even if it is alike.
   */
  static dynamic<E extends Effects>(effects: E, fn: DaemonsBuilder<E>): DaemonsReconciler<E> {
    return new DaemonsReconciler(effects, fn);
  }

  /** What was recorded. */
  get entries(): readonly Entry[] {
    return this.#entries;
  }

  /**
   * Adds what runs for as long as the set does, and is started again when it ends.
   *
   * @param options - or a function that gives them, or null: then it is left out, and nobody waits for it
   */
  addDaemon<Id extends string, C extends DaemonSubContainer>(
    id: NewId<Ids, Id> & Id,
    options: Optional<AddDaemonParams<Ids, Id, C>>,
  ): Daemons<Ids | Id>;
  addDaemon<Id extends string, C extends DaemonSubContainer>(
    id: NewId<Ids, Id> & Id,
    options: OptionalLater<AddDaemonParams<Ids, Id, C>>,
  ): Promise<Daemons<Ids | Id>>;
  addDaemon<Id extends string, C extends DaemonSubContainer>(
    id: Id,
    options: Optional<AddDaemonParams<Ids, Id, C>> | OptionalLater<AddDaemonParams<Ids, Id, C>>,
  ): Daemons<Ids | Id> | Promise<Daemons<Ids | Id>> {
    return this.#add(id, options, "daemon");
  }

  /**
   * Adds what runs once, and is ready when it has ended with exit code 0; with another, it is tried again. That it has
   * succeeded holds for as long as the set does, or until it is restarted.
   */
  addOneshot<Id extends string, C extends DaemonSubContainer>(
    id: NewId<Ids, Id> & Id,
    options: Optional<AddOneshotParams<Ids, Id, C>>,
  ): Daemons<Ids | Id>;
  addOneshot<Id extends string, C extends DaemonSubContainer>(
    id: NewId<Ids, Id> & Id,
    options: OptionalLater<AddOneshotParams<Ids, Id, C>>,
  ): Promise<Daemons<Ids | Id>>;
  addOneshot<Id extends string, C extends DaemonSubContainer>(
    id: Id,
    options: Optional<AddOneshotParams<Ids, Id, C>> | OptionalLater<AddOneshotParams<Ids, Id, C>>,
  ): Daemons<Ids | Id> | Promise<Daemons<Ids | Id>> {
    return this.#add(id, options, "oneshot");
  }

  /** Adds a health check without a process: something that others require, or that people want to know. */
  addHealthCheck<Id extends string>(
    id: NewId<Ids, Id> & Id,
    options: Optional<AddHealthCheckParams<Ids, Id>>,
  ): Daemons<Ids | Id>;
  addHealthCheck<Id extends string>(
    id: NewId<Ids, Id> & Id,
    options: OptionalLater<AddHealthCheckParams<Ids, Id>>,
  ): Promise<Daemons<Ids | Id>>;
  addHealthCheck<Id extends string>(
    id: Id,
    options: Optional<AddHealthCheckParams<Ids, Id>> | OptionalLater<AddHealthCheckParams<Ids, Id>>,
  ): Daemons<Ids | Id> | Promise<Daemons<Ids | Id>> {
    return this.#add(id, options, "health");
  }

  /** Starts them, in the order that `requires` says. Resolves when that has begun; see `allReady`. */
  override build(): Promise<this> {
    this.#built ??= (async () => {
      this.apply(this.#entries);
      return this;
    })();
    return this.#built;
  }

  /**
   * Starts them, waits until all are ready, and ends them: for what a service has to do once with its daemons running.
   *
   * @param timeout - milliseconds, or null for no limit
   * @throws Error when the time is over, or one of them is given up; all of them are ended then, too
   */
  async runUntilSuccess(timeout: number | null): Promise<null> {
    try {
      await this.build();
      await this.allReady(timeout === null ? undefined : AbortSignal.timeout(timeout));
    } catch (error) {
      const waiting = Object.values<{ id: string; ready: boolean }>(this.status()).filter(
        ({ ready }) => !ready,
      );
      const late = error instanceof DOMException && error.name === "TimeoutError";
      const names = waiting.map(({ id }) => id).join(", ");
      throw late ? new Error(`not ready after ${timeout} ms: ${names}`, { cause: error }) : error;
    } finally {
      await this.term();
    }
    return null;
  }

  #add<Id extends string>(
    id: Id,
    options: unknown,
    kind: Entry["kind"],
  ): Daemons<Ids | Id> | Promise<Daemons<Ids | Id>> {
    if (id === "" || (this.ids as readonly string[]).includes(id)) {
      throw new RangeError(id === "" ? "an id is empty" : `the id '${id}' is already used`);
    }
    const given = typeof options === "function" ? options() : options;
    return given instanceof Promise
      ? given.then((later) => this.#with(id, later, kind))
      : this.#with(id, given, kind);
  }

  #with<Id extends string>(id: Id, given: Partial<Entry> | null, kind: Entry["kind"]): Daemons<Ids | Id> {
    const ids = [...this.ids, id];
    // Left out: those that require it do not wait for it.
    if (given === null) return new Daemons<Ids | Id>(this.effects, this.#entries, ids);
    const there = new Set(this.#entries.map((entry) => entry.id));
    const entry: Entry = {
      id,
      kind,
      subcontainer: given.subcontainer ?? null,
      exec: given.exec ?? null,
      ready: kind === "oneshot" ? null : (given.ready ?? null),
      requires: (given.requires ?? []).filter((other) => there.has(other) || !ids.includes(other as Id)),
      restart: given.restart,
    };
    return new Daemons<Ids | Id>(this.effects, [...this.#entries, entry], ids);
  }
}
