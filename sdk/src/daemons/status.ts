/**
 * What is said of daemons to people and programs.
 */
import type { Outcome } from "../generated/protocol.ts";
import { type Cause, isReady, type State, type Unit, wants } from "./machine.ts";
import type { HealthCheckResult } from "./plan.ts";

/** What a daemon does. */
export type DaemonState =
  /** What it requires is not ready. */
  | "waiting"
  /** Somebody paused it. */
  | "paused"
  | "starting"
  | "running"
  | "stopping"
  /** It has ended, and is started again after a moment. */
  | "backoff"
  /** It ends again and again: tried once more after a long while. */
  | "crashLoop"
  /** It ended again and again, and is not tried any more. */
  | "gaveUp"
  /** A one-shot that has done its work. */
  | "succeeded"
  /** The host does not answer: nobody knows. */
  | "lost"
  /** The set was ended. */
  | "stopped";

/** One daemon, as of now. */
export interface DaemonStatus {
  readonly id: string;
  readonly kind: "daemon" | "oneshot" | "health";
  readonly state: DaemonState;
  /** Those that require it may run. */
  readonly ready: boolean;
  /** What its health check says; of one that does not run, `waiting` or `starting`. */
  readonly health: HealthCheckResult;
  /** Process id on the host, of one that runs. */
  readonly pid: number | null;
  /** How often it was started. */
  readonly starts: number;
  /** Ends in a row without a good run between them. */
  readonly failures: number;
  /** Milliseconds since it runs. */
  readonly uptime: number | null;
  /** Milliseconds until it is tried again. */
  readonly retryIn: number | null;
  /** Why it does not run, or did not before it ran. */
  readonly cause: Cause | null;
}

/** One daemon's status has changed. */
export interface DaemonChange {
  readonly status: DaemonStatus;
  /** Absent for the first one. */
  readonly before?: DaemonStatus;
}

/** The status of each, by id. */
export function statuses(
  state: State,
  pids: ReadonlyMap<string, number | null>,
  now: number,
): Map<string, DaemonStatus> {
  const wanted = wants(state);
  const all = new Map<string, DaemonStatus>();
  for (const [id, unit] of state.units) {
    const want = wanted.get(id) ?? true;
    const { phase } = unit;
    const name = stateOf(unit, want);
    all.set(id, {
      id,
      kind: unit.plan.kind,
      state: name,
      ready: isReady(state, id),
      health: healthOf(unit, name, want),
      pid: phase.name === "running" || phase.name === "stopping" ? (pids.get(id) ?? null) : null,
      starts: unit.run,
      failures: unit.failures,
      uptime: phase.name === "running" ? now - phase.since : null,
      retryIn: phase.name === "backoff" ? Math.max(0, phase.until - now) : null,
      cause: unit.cause,
    });
  }
  return all;
}

function stateOf(unit: Unit, want: true | Cause): DaemonState {
  const { phase } = unit;
  switch (phase.name) {
    case "backoff":
      return phase.crashLoop ? "crashLoop" : "backoff";
    case "idle":
      if (want !== true && want.kind === "operator" && want.what !== "restart") {
        return want.what === "term" ? "stopped" : "paused";
      }
      return "waiting";
    default:
      return phase.name;
  }
}

function healthOf(unit: Unit, state: DaemonState, want: true | Cause): HealthCheckResult {
  switch (state) {
    case "running":
    case "lost":
      if (unit.plan.kind !== "oneshot") return unit.health.said;
      return { result: "loading", message: null };
    case "succeeded":
      return { result: "success", message: null };
    case "paused":
    case "stopped":
      return { result: "disabled", message: state };
    case "waiting":
      return {
        result: "waiting",
        message: want !== true && want.kind === "requirement" ? `for ${want.id}` : null,
      };
    case "backoff":
    case "crashLoop":
    case "gaveUp": {
      const why = unit.cause === null ? "it ended" : describeCause(unit.cause);
      const what = {
        backoff: "it is started again",
        crashLoop: `crash loop: ${unit.failures} times in a row`,
        gaveUp: `given up after ${unit.failures} times in a row`,
      }[state];
      return { result: "failure", message: `${why}; ${what}` };
    }
    default:
      return { result: "starting", message: null };
  }
}

/** A cause in words. */
export function describeCause(cause: Cause): string {
  switch (cause.kind) {
    case "exit":
      return `exit code ${cause.code}`;
    case "signal":
      return `ended by ${cause.signal}`;
    case "outOfMemory":
      return "out of memory";
    case "health":
      return `unhealthy${cause.message === null ? "" : `: ${cause.message}`}`;
    case "operator":
      return `asked to ${cause.what}`;
    case "requirement":
      return `${cause.id} is not ready`;
    case "config":
      return "it was changed";
    case "error":
      return cause.message;
    case "unknown":
      return "ended unwatched";
  }
}

/** How a process ended, as a cause. */
export function causeOf(outcome: Outcome): Cause {
  switch (outcome.kind) {
    case "exit":
      return { kind: "exit", code: outcome.code };
    case "signal":
      return { kind: "signal", signal: outcome.signal };
    case "outOfMemory":
      return { kind: "outOfMemory" };
    default:
      return { kind: "unknown" };
  }
}

/** Whether something has changed that is worth telling: not the time alone. */
export function differs(a: DaemonStatus, b: DaemonStatus): boolean {
  return (
    a.state !== b.state ||
    a.ready !== b.ready ||
    a.starts !== b.starts ||
    a.failures !== b.failures ||
    a.pid !== b.pid ||
    a.health.result !== b.health.result ||
    a.health.message !== b.health.message ||
    a.cause !== b.cause
  );
}
