/**
 * Carries out what the state machine decides: starts, stops and checks, and tells it what came of that. Decides nothing
 * by itself.
 */
import { clearTimeout, setTimeout } from "node:timers";
import { ConnectionError } from "../errors.ts";
import {
  type Cause,
  type Effect,
  type Event,
  isActive,
  NOTHING,
  type State,
  step,
  wakeAt,
} from "./machine.ts";
import type { HealthCheckResult, UnitPlan } from "./plan.ts";
import { type DaemonChange, type DaemonStatus, differs, statuses } from "./status.ts";

/** One run of a daemon: there from the moment it was started until nothing of it is left. */
export interface Instance {
  readonly pid: number | null;
  /** Resolves when nothing of it is left. Rejected with a `ConnectionError` when nobody can know. */
  ended(): Promise<Cause>;
  /** Asks it to end, and makes it after `grace` milliseconds. Resolves when it has been told, not when it has ended. */
  stop(grace: number): Promise<void>;
  /**
   * After the host was lost: resolves when there is one again, with null when this runs still, else with how it ended.
   * Rejected when none will come back.
   */
  back?(): Promise<Cause | null>;
}

/** What a daemon is made of, for the driver. */
export interface Runner {
  readonly plan: UnitPlan;
  /** Starts it. Leaves nothing behind when it fails or is aborted. */
  start(signal: AbortSignal): Promise<Instance>;
  check(signal: AbortSignal): Promise<HealthCheckResult>;
  /** Takes what its health is said to be. */
  tell?(status: DaemonStatus): void;
  /** It is not used any more, by this daemon. */
  release(): Promise<void>;
}

/** Time and chance. */
export interface Clock {
  /** Milliseconds, never set back. */
  now(): number;
  /** Calls once, later; the returned function prevents it. */
  after(ms: number, call: () => void): () => void;
  /** From 0 to 1. */
  random(): number;
}

/** The longest that a timer of Node can wait. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** The real one. A wait keeps the program running, as the daemons do. */
export const CLOCK: Clock = {
  now: () => performance.now(),
  after: (ms, call) => {
    const timer = setTimeout(call, Math.min(Math.ceil(ms), LONGEST_TIMER));
    return () => clearTimeout(timer);
  },
  random: () => Math.random(),
};

interface Run {
  readonly run: number;
  readonly abort: AbortController;
  instance: Instance | undefined;
  /** It was told to end, and how long it has. */
  grace: number | undefined;
}

/** Milliseconds until a process that could not be told to end is told again. */
const TELL_AGAIN = 1000;

/** Changes that a slow reader has not taken; more of one daemon than this are put together. */
const WAITING_CHANGES = 1024;

/** See the module. */
export class Driver {
  readonly #clock: Clock;
  readonly #runs = new Map<string, Run>();
  readonly #checks = new Map<string, AbortController>();
  readonly #runners = new Map<string, Runner>();
  readonly #next = new Map<string, Runner>();
  readonly #listeners = new Set<(change: DaemonChange | null) => void>();
  readonly #releasing = new Set<Promise<void>>();
  readonly #failures: unknown[] = [];
  readonly #queue: Event[] = [];
  #busy = false;
  #state: State = NOTHING;
  #said = new Map<string, DaemonStatus>();
  #timer: (() => void) | undefined;
  #over = false;

  constructor(clock: Clock = CLOCK) {
    this.#clock = clock;
  }

  /** The state, for tests and for those who decide by it. */
  get state(): State {
    return this.#state;
  }

  /** The status of each, by id. */
  status(): Map<string, DaemonStatus> {
    const pids = new Map([...this.#runs].map(([id, { instance }]) => [id, instance?.pid ?? null]));
    return statuses(this.#state, pids, this.#clock.now());
  }

  /** These are wanted from now on, and nothing else. Runners of daemons that stay as they are are released. */
  plan(runners: readonly Runner[]): void {
    for (const runner of this.#next.values()) this.#release(runner);
    this.#next.clear();
    for (const runner of runners) {
      const { id, hash } = runner.plan;
      const current = this.#runners.get(id);
      if (current === undefined) this.#runners.set(id, runner);
      else if (current.plan.hash !== hash) this.#next.set(id, runner);
      else if (current !== runner) this.#release(runner);
    }
    this.post({ type: "plan", plans: runners.map(({ plan }) => plan) });
  }

  /** Takes an event; everything that follows from it is under way when this returns. */
  post(event: Event): void {
    this.#queue.push(event);
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        const at = { now: this.#clock.now(), random: this.#clock.random() };
        const { state, effects } = step(this.#state, next, at);
        this.#state = state;
        for (const effect of effects) this.#carryOut(effect);
      }
    } finally {
      this.#busy = false;
    }
    this.#tell();
    this.#timer?.();
    const wake = this.#over ? Number.POSITIVE_INFINITY : wakeAt(this.#state);
    this.#timer =
      wake === Number.POSITIVE_INFINITY
        ? undefined
        : this.#clock.after(Math.max(0, wake - this.#clock.now()), () => this.post({ type: "tick" }));
  }

  /** Resolves when `holds` does, of the state as it is now or later. Rejected with the signal's reason. */
  until(holds: (status: ReadonlyMap<string, DaemonStatus>) => boolean, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (!holds(this.status())) return;
        done();
        resolve();
      };
      const onAbort = (): void => {
        done();
        reject(signal?.reason);
      };
      const done = (): void => {
        this.#listeners.delete(look);
        signal?.removeEventListener("abort", onAbort);
      };
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#listeners.add(look);
      try {
        look();
      } catch (error) {
        done();
        reject(error);
      }
    });
  }

  /** Ends all of them, the dependents first, and releases what they had. */
  async term(): Promise<void> {
    this.post({ type: "term" });
    await this.until(() => ![...this.#state.units.values()].some(isActive));
    this.#over = true;
    this.#timer?.();
    this.#timer = undefined;
    for (const runner of [...this.#runners.values(), ...this.#next.values()]) this.#release(runner);
    this.#runners.clear();
    this.#next.clear();
    await Promise.all(this.#releasing);
    for (const listener of this.#listeners) listener(null);
    if (this.#failures.length === 1) throw this.#failures[0];
    if (this.#failures.length > 1) throw new AggregateError(this.#failures, "release what daemons had");
  }

  /** Every change, as it happens, after one for each daemon as it is now. Ends with the set. */
  async *changes(signal?: AbortSignal): AsyncGenerator<DaemonChange, void, undefined> {
    const waiting: DaemonChange[] = [...this.status().values()].map((status) => ({ status }));
    let over = this.#over;
    let wake: (() => void) | undefined;
    const listen = (change: DaemonChange | null): void => {
      if (change === null) over = true;
      else if (waiting.length >= WAITING_CHANGES) merge(waiting, change);
      else waiting.push(change);
      wake?.();
    };
    const awake = (): void => wake?.();
    this.#listeners.add(listen);
    signal?.addEventListener("abort", awake, { once: true });
    try {
      for (;;) {
        for (let change = waiting.shift(); change !== undefined; change = waiting.shift()) yield change;
        if (over || signal?.aborted) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      this.#listeners.delete(listen);
      signal?.removeEventListener("abort", awake);
    }
  }

  #carryOut(effect: Effect): void {
    switch (effect.type) {
      case "start":
        this.#start(effect.id, effect.run);
        return;
      case "stop":
        this.#stop(effect.id, effect.run, effect.grace);
        return;
      case "check":
        this.#check(effect.id, effect.run, effect.number);
        return;
      case "cancelCheck":
        this.#checks.get(effect.id)?.abort();
        this.#checks.delete(effect.id);
        return;
      case "gone": {
        const runner = this.#runners.get(effect.id);
        const next = this.#next.get(effect.id);
        this.#runners.delete(effect.id);
        this.#next.delete(effect.id);
        if (next !== undefined) this.#runners.set(effect.id, next);
        if (runner !== undefined) this.#release(runner);
      }
    }
  }

  #start(id: string, number: number): void {
    const runner = this.#runners.get(id);
    const run: Run = { run: number, abort: new AbortController(), instance: undefined, grace: undefined };
    this.#runs.set(id, run);
    const starting =
      runner === undefined
        ? Promise.reject(new Error(`no runner of ${id}`))
        : attempt(() => runner.start(run.abort.signal));
    starting.then(
      (instance) => {
        run.instance = instance;
        this.post({ type: "started", id, run: number });
        if (run.grace !== undefined) this.#tellToEnd(id, run, instance, run.grace);
        this.#watch(id, run, instance);
      },
      (error: unknown) => {
        this.#runs.delete(id);
        this.post({ type: "startFailed", id, run: number, message: messageOf(error) });
      },
    );
  }

  #watch(id: string, run: Run, instance: Instance): void {
    const over = (cause: Cause): void => {
      if (this.#runs.get(id) === run) this.#runs.delete(id);
      this.post({ type: "exited", id, run: run.run, cause });
    };
    attempt(() => instance.ended()).then(over, (error: unknown) => {
      const back = instance.back?.bind(instance);
      if (!(error instanceof ConnectionError) || back === undefined) {
        over({ kind: "unknown" });
        return;
      }
      this.post({ type: "lost", id, run: run.run });
      attempt(back).then(
        (cause) => {
          if (cause !== null) return over(cause);
          this.post({ type: "found", id, run: run.run });
          this.#watch(id, run, instance);
        },
        () => over({ kind: "unknown" }),
      );
    });
  }

  #stop(id: string, number: number, grace: number): void {
    const run = this.#runs.get(id);
    if (run === undefined || run.run !== number) return;
    run.grace = grace;
    if (run.instance === undefined) run.abort.abort();
    else this.#tellToEnd(id, run, run.instance, grace);
  }

  #tellToEnd(id: string, run: Run, instance: Instance, grace: number): void {
    attempt(() => instance.stop(grace)).catch((error: unknown) => {
      // Told again when the host is there again.
      if (error instanceof ConnectionError) return;
      this.#clock.after(TELL_AGAIN, () => {
        if (this.#runs.get(id) === run) this.#tellToEnd(id, run, instance, grace);
      });
    });
  }

  #check(id: string, run: number, number: number): void {
    const runner = this.#runners.get(id);
    if (runner === undefined) return;
    const abort = new AbortController();
    this.#checks.set(id, abort);
    const answer = (found: HealthCheckResult): void => {
      if (this.#checks.get(id) === abort) this.#checks.delete(id);
      if (!abort.signal.aborted) this.post({ type: "checked", id, run, number, found });
    };
    attempt(() => runner.check(abort.signal)).then(answer, (error: unknown) => {
      // That nobody can be asked says nothing about the daemon. Where it does not come back, its time limit is left.
      if (error instanceof ConnectionError) return;
      answer({ result: "failure", message: messageOf(error) });
    });
  }

  #release(runner: Runner): void {
    const releasing = attempt(() => runner.release())
      .catch((error: unknown) => void this.#failures.push(error))
      .finally(() => this.#releasing.delete(releasing));
    this.#releasing.add(releasing);
  }

  #tell(): void {
    const now = this.status();
    for (const [id, status] of now) {
      const before = this.#said.get(id);
      if (before !== undefined && !differs(before, status)) continue;
      const change: DaemonChange = before === undefined ? { status } : { status, before };
      this.#runners.get(id)?.tell?.(status);
      for (const listener of [...this.#listeners]) listener(change);
    }
    this.#said = now;
  }
}

/** One that throws at once is one that is rejected. */
async function attempt<T>(work: () => Promise<T>): Promise<T> {
  return work();
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Puts a change together with the last one of the same daemon that still waits. */
function merge(waiting: DaemonChange[], change: DaemonChange): void {
  for (let index = waiting.length - 1; index >= 0; index--) {
    const last = waiting[index] as DaemonChange;
    if (last.status.id !== change.status.id) continue;
    waiting[index] = { ...last, status: change.status };
    return;
  }
  waiting.push(change);
}
