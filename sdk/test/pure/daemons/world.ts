/**
 * The other side of the state machine: daemons that start, end and answer as a test says. Checks, at each effect, what
 * must hold whatever happened before.
 */
import { expect } from "vitest";
import {
  type Cause,
  type Effect,
  type Event,
  isActive,
  NOTHING,
  type State,
  step,
  wakeAt,
} from "../../../src/daemons/machine.ts";
import {
  backoff,
  DEFAULT_HEALTH,
  DEFAULT_RESTART,
  type HealthStatus,
  type UnitPlan,
} from "../../../src/daemons/plan.ts";

/** A plan with the defaults. */
export function plan(id: string, requires: string[] = [], more: Partial<UnitPlan> = {}): UnitPlan {
  const kind = more.kind ?? "daemon";
  return {
    id,
    kind,
    requires,
    health: kind === "oneshot" ? null : DEFAULT_HEALTH,
    restart: DEFAULT_RESTART,
    grace: 1000,
    hash: `${id} 1`,
    ...more,
  };
}

/** See the module. */
export class World {
  state: State = NOTHING;
  now = 0;
  random = 0.5;
  /** The run of each that lives, and whether it was told to end. */
  readonly alive: Map<string, { run: number; started: boolean; told: boolean }> = new Map<
    string,
    { run: number; started: boolean; told: boolean }
  >();
  /** Checks that wait for an answer. */
  readonly checks: Map<string, { run: number; number: number }> = new Map<
    string,
    { run: number; number: number }
  >();
  readonly log: Effect[] = [];

  constructor(plans: readonly UnitPlan[]) {
    this.post({ type: "plan", plans });
  }

  post(event: Event): Effect[] {
    const before = this.state;
    const { state, effects } = step(before, event, { now: this.now, random: this.random });
    this.state = state;
    for (const effect of effects) this.#see(effect, before);
    this.log.push(...effects);
    this.#look();
    return effects;
  }

  #see(effect: Effect, before: State): void {
    switch (effect.type) {
      case "start": {
        expect(this.alive.has(effect.id), `two of ${effect.id}`).toBe(false);
        expect(this.state.ending, `${effect.id} starts after the end`).toBe(false);
        for (const other of this.#requires(effect.id)) {
          const unit = this.state.units.get(other);
          if (unit?.plan.kind !== "daemon") continue;
          expect(this.alive.get(other), `${effect.id} starts without ${other}`).toMatchObject({
            started: true,
            told: false,
          });
        }
        this.alive.set(effect.id, { run: effect.run, started: false, told: false });
        return;
      }
      case "stop": {
        for (const other of this.#dependents(effect.id, before)) {
          expect(this.alive.has(other), `${effect.id} is stopped before ${other}`).toBe(false);
        }
        const one = this.alive.get(effect.id);
        expect(one?.run, `${effect.id} is stopped, and does not run`).toBe(effect.run);
        if (one) one.told = true;
        return;
      }
      case "check":
        expect(this.checks.has(effect.id), `two checks of ${effect.id}`).toBe(false);
        this.checks.set(effect.id, { run: effect.run, number: effect.number });
        return;
      case "cancelCheck":
        expect(this.checks.get(effect.id)?.number).toBe(effect.number);
        this.checks.delete(effect.id);
        return;
      case "gone":
        expect(this.alive.has(effect.id), `${effect.id} goes while it runs`).toBe(false);
        for (const other of this.#dependents(effect.id, before)) {
          expect(this.alive.has(other), `${effect.id} goes before ${other} has stopped`).toBe(false);
        }
    }
  }

  /** What the machine believes is what is. */
  #look(): void {
    for (const [id, unit] of this.state.units) {
      if (unit.plan.kind !== "health") expect(isActive(unit), id).toBe(this.alive.has(id));
      expect(unit.failures, id).toBeGreaterThanOrEqual(0);
    }
    for (const id of this.alive.keys()) expect(this.state.units.has(id), `${id} was forgotten`).toBe(true);
  }

  #requires(id: string, found: Set<string> = new Set()): Set<string> {
    for (const other of this.state.units.get(id)?.plan.requires ?? []) {
      if (!found.has(other)) this.#requires(other, found.add(other));
    }
    return found;
  }

  #dependents(id: string, state: State): Set<string> {
    const found = new Set([id]);
    for (let grown = true; grown; ) {
      grown = false;
      for (const [other, unit] of state.units) {
        if (found.has(other) || !unit.plan.requires.some((one) => found.has(one))) continue;
        found.add(other);
        grown = true;
      }
    }
    found.delete(id);
    return found;
  }

  started(id: string): void {
    const one = this.alive.get(id);
    if (one === undefined || one.started) return;
    one.started = true;
    this.post({ type: "started", id, run: one.run });
  }

  startFailed(id: string): void {
    const one = this.alive.get(id);
    if (one === undefined || one.started) return;
    this.alive.delete(id);
    this.post({ type: "startFailed", id, run: one.run, message: "no" });
  }

  exited(id: string, cause: Cause = { kind: "exit", code: 1 }): void {
    const one = this.alive.get(id);
    if (one === undefined) return;
    this.alive.delete(id);
    const before = this.state.units.get(id);
    this.post({ type: "exited", id, run: one.run, cause });
    const after = this.state.units.get(id);
    if (after?.phase.name === "backoff" && before !== undefined) {
      const { restart } = after.plan;
      const wait = after.phase.until - this.now;
      if (after.phase.crashLoop) {
        expect(after.failures).toBeGreaterThanOrEqual(restart.crashLoop);
        expect(wait).toBe(restart.retryAfter);
      } else {
        expect(wait).toBeLessThanOrEqual(restart.max + 1e-6);
        expect(wait).toBeLessThanOrEqual(backoff(restart, after.failures, 0) + 1e-6);
        // Times are added to and taken from larger ones.
        expect(wait).toBeGreaterThanOrEqual(backoff(restart, after.failures, 1) - 1e-6);
      }
    }
  }

  /** An answer of a run that is over comes late. */
  late(id: string): void {
    const run = (this.state.units.get(id)?.run ?? 0) - 1;
    this.post({ type: "exited", id, run, cause: { kind: "unknown" } });
    this.post({ type: "startFailed", id, run, message: "late" });
    this.post({ type: "started", id, run });
    this.post({ type: "lost", id, run });
  }

  lost(id: string): void {
    const one = this.alive.get(id);
    if (one !== undefined) this.post({ type: "lost", id, run: one.run });
  }

  found(id: string): void {
    const one = this.alive.get(id);
    if (one === undefined || this.state.units.get(id)?.phase.name !== "lost") return;
    one.started = true;
    this.post({ type: "found", id, run: one.run });
  }

  checked(id: string, result: HealthStatus): void {
    const check = this.checks.get(id);
    if (check === undefined) return;
    this.checks.delete(id);
    this.post({ type: "checked", id, ...check, found: { result, message: null } });
  }

  /** Lets time pass, waking the machine only when it asked for it. */
  pass(ms: number): void {
    const end = this.now + ms;
    for (let wake = wakeAt(this.state); wake <= end; wake = wakeAt(this.state)) {
      // It asks for a moment that has come, but never twice for the same one.
      this.now = Math.max(this.now, wake);
      this.post({ type: "tick" });
      expect(wakeAt(this.state), "woken for nothing").toBeGreaterThan(this.now);
    }
    this.now = end;
  }

  /** Everybody does what he is asked to. */
  obey(rounds = 100): void {
    for (let round = 0; round < rounds; round++) {
      for (const [id, one] of [...this.alive]) {
        const kind = this.state.units.get(id)?.plan.kind;
        if (this.state.units.get(id)?.phase.name === "lost") this.found(id);
        else if (one.told) this.exited(id, { kind: "signal", signal: "SIGTERM" });
        else if (!one.started) this.started(id);
        else if (kind === "oneshot") this.exited(id, { kind: "exit", code: 0 });
      }
      for (const id of [...this.checks.keys()]) this.checked(id, "success");
    }
  }
}
