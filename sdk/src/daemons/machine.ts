/**
 * All daemons of one set, as a state machine: `(state, event, now) → (state, effects)`. Pure: no clock, no chance and
 * no process here; the driver brings the first two and owns the last.
 *
 * ```text
 *                requirements ready            started
 *        idle ---------------------> starting ---------> running ----- exited ----> backoff | gaveUp | succeeded
 *         ^                              |                  |                           |
 *         |                              |   not wanted:    |                           | time over, or
 *         |                              v  dependents are  v                           | somebody asks
 *         +------- exited ----------- stopping <------- (waits for them)                v
 *         +------------------------------------------------------------------------- starting
 *
 *        starting | running | stopping -- the host is gone --> lost -- found --> running | exited, as above
 * ```
 * What holds in every state:
 * - each daemon runs at most once: a run is over only when its `exited` or `startFailed` has come;
 * - a daemon starts when all that it requires are ready, and is stopped when one of them is not, or is not wanted;
 * - nobody is stopped while one of its dependents, near or far, still runs;
 * - every end leads to a decision: again after a wait, given up, succeeded, or not wanted.
 */
import { failing, type Health, observe, UNKNOWN } from "./health.ts";
import { backoff, type HealthCheckResult, interval, type UnitPlan } from "./plan.ts";

/** Why a daemon does not run any more. */
export type Cause =
  /** It ended by itself. */
  | { readonly kind: "exit"; readonly code: number }
  /** A signal ended it. */
  | { readonly kind: "signal"; readonly signal: string }
  /** The kernel ended it: no memory left. */
  | { readonly kind: "outOfMemory" }
  /** Its health check failed. */
  | { readonly kind: "health"; readonly message: string | null }
  /** Somebody asked for it: `pause`, `restart`, `term`. */
  | { readonly kind: "operator"; readonly what: "pause" | "restart" | "term" }
  /** What it requires is not ready. */
  | { readonly kind: "requirement"; readonly id: string }
  /** It is to run in another way, or not at all any more. */
  | { readonly kind: "config" }
  /** It could not be started. */
  | { readonly kind: "error"; readonly message: string }
  /** Nobody saw how it ended. */
  | { readonly kind: "unknown" };

/** Where a daemon is. */
export type Phase =
  | { readonly name: "idle" }
  | { readonly name: "starting" }
  | { readonly name: "running"; readonly since: number }
  | { readonly name: "stopping"; readonly why: Cause }
  | { readonly name: "lost"; readonly since: number | null }
  | { readonly name: "backoff"; readonly until: number; readonly crashLoop: boolean }
  | { readonly name: "gaveUp" }
  | { readonly name: "succeeded" };

/** One daemon. */
export interface Unit {
  readonly plan: UnitPlan;
  readonly phase: Phase;
  /** Counts starts; names the run. */
  readonly run: number;
  /** Ends in a row without a good run. */
  readonly failures: number;
  /** It is to be stopped although it is required. */
  readonly paused: boolean;
  /** It is to be stopped and started anew, and why. */
  readonly again: Cause | null;
  /** It goes once it is stopped; or this is what it becomes then. */
  readonly next: UnitPlan | "removed" | null;
  readonly health: Health;
  /** The number of the check under way, and when it has failed; or when the next one is due. */
  readonly check: { readonly number: number; readonly deadline: number } | { readonly due: number };
  /** How many checks there were in this run. */
  readonly checks: number;
  /** Why it does not run, or did not before. */
  readonly cause: Cause | null;
}

/** See the module. */
export interface State {
  /** By id, those that are required before those that require. */
  readonly units: ReadonlyMap<string, Unit>;
  /** Nothing starts any more. */
  readonly ending: boolean;
}

/** What happened. */
export type Event =
  /** Time has passed. */
  | { readonly type: "tick" }
  /** A start went well. */
  | { readonly type: "started"; readonly id: string; readonly run: number }
  /** A start failed; nothing runs. */
  | { readonly type: "startFailed"; readonly id: string; readonly run: number; readonly message: string }
  /** A run is over: nothing of it is left. */
  | { readonly type: "exited"; readonly id: string; readonly run: number; readonly cause: Cause }
  /** Nobody knows whether it runs. */
  | { readonly type: "lost"; readonly id: string; readonly run: number }
  /** It runs still. */
  | { readonly type: "found"; readonly id: string; readonly run: number }
  /** A check was answered. */
  | {
      readonly type: "checked";
      readonly id: string;
      readonly run: number;
      readonly number: number;
      readonly found: HealthCheckResult;
    }
  | { readonly type: "pause" | "resume" | "restart"; readonly id: string }
  /** These are wanted from now on, and nothing else. */
  | { readonly type: "plan"; readonly plans: readonly UnitPlan[] }
  /** Nothing is wanted any more. */
  | { readonly type: "term" };

/** What the driver has to do. */
export type Effect =
  /** Answered by `started` or `startFailed`, then by `exited`. */
  | { readonly type: "start"; readonly id: string; readonly run: number }
  /** Answered by `exited` or `startFailed`, sooner or later. */
  | { readonly type: "stop"; readonly id: string; readonly run: number; readonly grace: number }
  /** Answered by `checked`, unless it is cancelled. */
  | { readonly type: "check"; readonly id: string; readonly run: number; readonly number: number }
  | { readonly type: "cancelCheck"; readonly id: string; readonly number: number }
  /** It was removed: what it had may go. */
  | { readonly type: "gone"; readonly id: string };

/** The time, and chance. */
export interface Moment {
  /** Milliseconds, of a clock that is never set. */
  readonly now: number;
  /** From 0 to 1. */
  readonly random: number;
}

/** Nothing yet: a `plan` says what. */
export const NOTHING: State = { units: new Map(), ending: false };

/** What happens to the state, and what has to be done. */
export function step(state: State, event: Event, at: Moment): { state: State; effects: Effect[] } {
  const work = new Step(state, at);
  work.take(event);
  work.settle();
  return { state: { units: work.units, ending: work.ending }, effects: work.effects };
}

/** When the next `tick` is needed; `Infinity`: not at all. */
export function wakeAt(state: State): number {
  const wanted = wants(state);
  let first = Number.POSITIVE_INFINITY;
  for (const [id, unit] of state.units) {
    if (unit.phase.name === "backoff" && wanted.get(id) === true) first = Math.min(first, unit.phase.until);
    if (unit.phase.name !== "running" || unit.plan.health === null) continue;
    if ("deadline" in unit.check) first = Math.min(first, unit.check.deadline);
    else if (wanted.get(id) === true) first = Math.min(first, unit.check.due);
  }
  return first;
}

/** Whether those that require it may run. */
export function isReady(state: State, id: string): boolean {
  return wants(state).get(id) === true && readyBut(state.units.get(id));
}

/** Whether something of it may run. */
export function isActive(unit: Unit): boolean {
  const { name } = unit.phase;
  return name === "starting" || name === "running" || name === "stopping" || name === "lost";
}

/** Ready, if it is wanted at all. */
function readyBut(unit: Unit | undefined): boolean {
  if (unit === undefined) return false;
  if (unit.plan.kind === "oneshot") return unit.phase.name === "succeeded";
  return (unit.phase.name === "running" || unit.phase.name === "lost") && unit.health.ready;
}

/** Which are to run, as far as others let them: true, or why not. */
export function wants(state: State): Map<string, true | Cause> {
  const wanted = new Map<string, true | Cause>();
  for (const [id, unit] of state.units) {
    const missing = unit.plan.requires.find(
      (other) => wanted.get(other) !== true || !readyBut(state.units.get(other)),
    );
    wanted.set(
      id,
      state.ending
        ? { kind: "operator", what: "term" }
        : unit.next !== null
          ? { kind: "config" }
          : unit.paused
            ? { kind: "operator", what: "pause" }
            : unit.again !== null
              ? unit.again
              : missing !== undefined
                ? { kind: "requirement", id: missing }
                : true,
    );
  }
  return wanted;
}

class Step {
  readonly units: Map<string, Unit>;
  readonly effects: Effect[] = [];
  ending: boolean;
  readonly #at: Moment;

  constructor(state: State, at: Moment) {
    this.units = new Map(state.units);
    this.ending = state.ending;
    this.#at = at;
  }

  take(event: Event): void {
    switch (event.type) {
      case "tick":
        return;
      case "term":
        this.ending = true;
        return;
      case "plan":
        this.#plan(event.plans);
        return;
      case "pause":
      case "resume":
      case "restart":
        this.#ask(event.type, event.id);
        return;
      default: {
        const unit = this.units.get(event.id);
        // Of a run that is over: a late answer.
        if (unit === undefined || unit.run !== event.run || !isActive(unit)) return;
        this.#hear(unit, event);
      }
    }
  }

  #hear(
    unit: Unit,
    event: Exclude<Event, { type: "tick" | "term" | "plan" | "pause" | "resume" | "restart" }>,
  ): void {
    const { now } = this.#at;
    const { phase } = unit;
    switch (event.type) {
      case "started":
        if (phase.name === "starting") {
          this.#set(unit, { phase: { name: "running", since: now }, check: { due: now } });
        }
        return;
      case "startFailed":
        this.#over(unit, { kind: "error", message: event.message });
        return;
      case "exited":
        this.#over(unit, event.cause);
        return;
      case "lost":
        this.#forgetCheck(unit);
        this.#set(unit, { phase: { name: "lost", since: phase.name === "running" ? phase.since : null } });
        return;
      case "found":
        if (phase.name === "lost") {
          this.#set(unit, { phase: { name: "running", since: phase.since ?? now }, check: { due: now } });
        }
        return;
      case "checked":
        if (phase.name !== "running" || !("number" in unit.check) || unit.check.number !== event.number)
          return;
        this.#observe(unit, event.found);
    }
  }

  #observe(unit: Unit, found: HealthCheckResult): void {
    const plan = unit.plan.health;
    if (plan === null || unit.phase.name !== "running") return;
    const { now } = this.#at;
    const health = observe(unit.health, plan, found, now - unit.phase.since);
    const restart = plan.onFailure === "restart" && failing(health) && unit.plan.kind === "daemon";
    this.#set(unit, {
      health,
      check: { due: now + interval(plan, found.result, unit.checks) },
      ...(restart && unit.again === null
        ? { again: { kind: "health", message: health.said.message } as const }
        : {}),
    });
  }

  /** A run is over. */
  #over(unit: Unit, how: Cause): void {
    this.#forgetCheck(unit);
    const { phase, plan } = unit;
    const { now, random } = this.#at;
    const planned = phase.name === "stopping" ? phase.why : null;
    const clear = { health: UNKNOWN, check: { due: now }, checks: 0 } as const;
    if (plan.kind === "oneshot" && how.kind === "exit" && how.code === 0 && planned === null) {
      this.#set(unit, { ...clear, phase: { name: "succeeded" }, failures: 0, cause: how });
      return;
    }
    if (planned !== null && planned.kind !== "health") {
      this.#set(unit, { ...clear, phase: { name: "idle" }, cause: planned });
      return;
    }
    const since = phase.name === "running" || phase.name === "lost" ? phase.since : null;
    const stable = since !== null && now - since >= plan.restart.stableAfter;
    const failures = (stable ? 0 : unit.failures) + 1;
    const crashLoop = failures >= plan.restart.crashLoop;
    const wait = crashLoop ? plan.restart.retryAfter : backoff(plan.restart, failures, random);
    this.#set(unit, {
      ...clear,
      failures,
      again: unit.again?.kind === "health" ? null : unit.again,
      cause: planned ?? how,
      phase: wait === null ? { name: "gaveUp" } : { name: "backoff", until: now + wait, crashLoop },
    });
  }

  #ask(what: "pause" | "resume" | "restart", id: string): void {
    const unit = this.units.get(id);
    if (unit === undefined) return;
    if (what === "pause") {
      this.#set(unit, { paused: true });
      return;
    }
    // Whoever asks has done something about it: the count of failures begins anew.
    const anew = { failures: 0, paused: false };
    if (what === "restart") {
      this.#set(unit, { ...anew, again: { kind: "operator", what: "restart" } });
    } else if (unit.phase.name === "gaveUp" || unit.phase.name === "backoff") {
      this.#set(unit, { ...anew, phase: { name: "idle" } });
    } else {
      this.#set(unit, anew);
    }
  }

  #plan(plans: readonly UnitPlan[]): void {
    const wanted = new Map(plans.map((plan) => [plan.id, plan]));
    for (const unit of this.units.values()) {
      const plan = wanted.get(unit.plan.id);
      const same = plan !== undefined && plan.hash === unit.plan.hash;
      this.#set(unit, { next: same ? null : (plan ?? "removed") });
    }
    for (const plan of plans) if (!this.units.has(plan.id)) this.units.set(plan.id, fresh(plan, null));
    this.#order();
  }

  /** Those that are required first; what goes keeps what it requires until it has gone. */
  #order(): void {
    const sorted = new Map<string, Unit>();
    const seen = new Set<string>();
    const visit = (id: string): void => {
      const unit = this.units.get(id);
      // What is about to change may require in circles with what has changed.
      if (unit === undefined || seen.has(id)) return;
      seen.add(id);
      for (const other of unit.plan.requires) visit(other);
      sorted.set(id, unit);
    };
    for (const id of this.units.keys()) visit(id);
    this.units.clear();
    for (const [id, unit] of sorted) this.units.set(id, unit);
  }

  /** Does whatever can be done now. */
  settle(): void {
    for (let again = true; again; ) {
      again = false;
      const wanted = wants(this);
      // Last ones first: what is stopped here is not in the way of what it requires in the next round.
      for (const [id, unit] of [...this.units].reverse()) {
        const want = wanted.get(id);
        if (want !== undefined && want !== true) again = this.#unwanted(unit, want) || again;
      }
      for (const [id, unit] of this.units) {
        if (wanted.get(id) === true) again = this.#wanted(unit) || again;
      }
    }
  }

  /** True when something has changed for others. */
  #unwanted(unit: Unit, why: Cause): boolean {
    const { name } = unit.phase;
    if (name === "starting" || name === "running") {
      this.#forgetCheck(unit);
      if (this.#heldUp(unit)) return false;
      if (unit.plan.kind === "health") {
        this.#set(unit, {
          phase: { name: "idle" },
          health: UNKNOWN,
          check: { due: 0 },
          checks: 0,
          cause: why,
        });
        return true;
      }
      this.#set(unit, { phase: { name: "stopping", why }, health: UNKNOWN });
      this.effects.push({ type: "stop", id: unit.plan.id, run: unit.run, grace: unit.plan.grace });
      return true;
    }
    if (name === "stopping" || name === "lost") return false;
    // Nothing of it runs. Whatever waits for its turn, or has had it, begins anew when it is wanted again.
    if (name !== "idle" && name !== "succeeded" && why.kind !== "requirement") {
      this.#set(unit, { phase: { name: "idle" } });
      return true;
    }
    if (this.ending || (unit.next === null && unit.again === null) || this.#heldUp(unit)) return false;
    if (unit.next !== null) {
      this.units.delete(unit.plan.id);
      this.effects.push({ type: "gone", id: unit.plan.id });
      if (unit.next !== "removed") {
        this.units.set(unit.plan.id, fresh(unit.next, unit));
        this.#order();
      }
    } else {
      this.#set(unit, { again: null, phase: { name: "idle" } });
    }
    return true;
  }

  /** True when something has changed for others. */
  #wanted(unit: Unit): boolean {
    const { now } = this.#at;
    const { phase, plan } = unit;
    if (phase.name === "idle" || (phase.name === "backoff" && phase.until <= now)) {
      const run = unit.run + 1;
      if (plan.kind === "health") {
        this.#set(unit, { run, phase: { name: "running", since: now }, check: { due: now } });
      } else {
        this.#set(unit, { run, phase: { name: "starting" } });
        this.effects.push({ type: "start", id: plan.id, run });
      }
      return true;
    }
    if (phase.name !== "running" || plan.health === null) return false;
    if ("deadline" in unit.check) {
      if (unit.check.deadline > now) return false;
      this.#forgetCheck(unit);
      const message = `no answer within ${plan.health.timeout} ms`;
      this.#observe(unit, { result: "failure", message });
      return true;
    }
    if (unit.check.due > now) return false;
    const number = unit.checks + 1;
    this.#set(unit, { checks: number, check: { number, deadline: now + plan.health.timeout } });
    this.effects.push({ type: "check", id: plan.id, run: unit.run, number });
    return false;
  }

  /** Whether something that requires it, near or far, still runs. */
  #heldUp(unit: Unit): boolean {
    const above = new Set([unit.plan.id]);
    for (const [id, other] of this.units) {
      if (above.has(id) || !other.plan.requires.some((required) => above.has(required))) continue;
      if (isActive(other)) return true;
      above.add(id);
    }
    return false;
  }

  #forgetCheck(unit: Unit): void {
    if (!("number" in unit.check)) return;
    this.effects.push({ type: "cancelCheck", id: unit.plan.id, number: unit.check.number });
    this.#set(unit, { check: { due: this.#at.now } });
  }

  #set(unit: Unit, changes: Partial<Unit>): void {
    // Not what the caller holds: that may be older than what is known.
    const now = this.units.get(unit.plan.id) ?? unit;
    this.units.set(unit.plan.id, { ...now, ...changes });
  }
}

function fresh(plan: UnitPlan, former: Unit | null): Unit {
  return {
    plan,
    phase: { name: "idle" },
    run: former?.run ?? 0,
    failures: 0,
    paused: former?.paused ?? false,
    again: null,
    next: null,
    health: UNKNOWN,
    check: { due: 0 },
    checks: 0,
    cause: former === null ? null : { kind: "config" },
  };
}
