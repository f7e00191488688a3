/**
 * The health of one run of a daemon, pure.
 *
 * ```text
 * starting -- successThreshold successes --> ready -- failureThreshold failures --> not ready
 *     \-- a failure after the grace period --> failure --- successes as before ----> ready
 * ```
 * One bad answer ends nothing, and one good one begins nothing, unless the thresholds say 1.
 */
import type { HealthCheckResult, HealthPlan } from "./plan.ts";

/** See the module. */
export interface Health {
  /** What is said of it now. */
  readonly said: HealthCheckResult;
  /** Those that require it may run. */
  readonly ready: boolean;
  /** It was ready once in this run. */
  readonly wasReady: boolean;
  /** Successes in a row. */
  readonly good: number;
  /** Answers in a row that count against it. */
  readonly bad: number;
}

/** Nothing is known yet. */
export const UNKNOWN: Health = {
  said: { result: "starting", message: null },
  ready: false,
  wasReady: false,
  good: 0,
  bad: 0,
};

/**
 * Takes what a check found.
 *
 * @param age - milliseconds since the start of the run
 */
export function observe(health: Health, plan: HealthPlan, found: HealthCheckResult, age: number): Health {
  if (found.result === "success" || found.result === "disabled") {
    const good = health.good + 1;
    const ready = health.ready || good >= plan.successThreshold;
    return {
      said: ready ? found : health.said,
      ready,
      wasReady: health.wasReady || ready,
      good,
      bad: 0,
    };
  }
  // While it is ready every other answer counts against it; before, only a failure does.
  const counts = found.result === "failure" || health.ready;
  const next = { ...health, good: 0, bad: counts ? health.bad + 1 : 0 };
  if (found.result === "failure" && !health.wasReady && age < plan.gracePeriod) {
    return { ...next, said: { result: "starting", message: found.message } };
  }
  if (counts && next.bad < plan.failureThreshold) return next;
  return { ...next, said: found, ready: false };
}

/** It has failed, by what is said of it. */
export function failing(health: Health): boolean {
  return health.said.result === "failure";
}
