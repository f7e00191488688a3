/**
 * What is known of a daemon before it runs: everything that the state machine decides by, as data.
 */

/** What a health check says: the words of `@start9labs/start-sdk`. */
export type HealthStatus = "success" | "loading" | "disabled" | "starting" | "waiting" | "failure";

/** What a health check found. */
export interface HealthCheckResult {
  result: HealthStatus;
  /** For people. */
  message: string | null;
}

/**
 * Milliseconds between the end of a check and the next one: one number, or one for each result, see
 * {@link cooldownTrigger} and {@link statusTrigger}.
 */
export type Trigger = number | ({ readonly default: number } & { readonly [S in HealthStatus]?: number });

/** The same time between all checks. */
export function cooldownTrigger(ms: number): Trigger {
  return { default: ms };
}

/** A time for each result; `ms` for those that are not named. Default 30,000. */
export function statusTrigger(ms: number, intervals: { [S in HealthStatus]?: number } = {}): Trigger {
  return { ...intervals, default: ms };
}

/** How the health of one daemon is judged. Times in milliseconds. */
export interface HealthPlan {
  /** After a start, a failure says `starting` for so long, until the first success. */
  readonly gracePeriod: number;
  /** Between two checks. */
  readonly trigger: Trigger | null;
  /** A check that takes longer has failed. */
  readonly timeout: number;
  /** Successes in a row that make it ready. */
  readonly successThreshold: number;
  /** Failures in a row that end that. */
  readonly failureThreshold: number;
  /** Whether a daemon that fails is started anew, or only said to fail. */
  readonly onFailure: "report" | "restart";
}

/** When a daemon that has ended is started again. Times in milliseconds. */
export interface RestartPlan {
  /** The wait after the first end. */
  readonly initial: number;
  /** What it is multiplied by after each further one. */
  readonly factor: number;
  /** The longest wait. */
  readonly max: number;
  /** The part of each wait that chance decides, 0 to 1: many that end together do not start together. */
  readonly jitter: number;
  /** A run that took longer was a good one: the count of ends begins anew. */
  readonly stableAfter: number;
  /** So many ends without a good run between them are a crash loop. */
  readonly crashLoop: number;
  /** In a crash loop, the wait until it is tried once more; null: never, until somebody asks for it. */
  readonly retryAfter: number | null;
}

/** One daemon, one-shot or health check. */
export interface UnitPlan {
  readonly id: string;
  readonly kind: "daemon" | "oneshot" | "health";
  /** Those that must be ready first. */
  readonly requires: readonly string[];
  /** Null for a one-shot: its exit code says it. */
  readonly health: HealthPlan | null;
  readonly restart: RestartPlan;
  /** Milliseconds between SIGTERM and SIGKILL. */
  readonly grace: number;
  /** Two plans with the same hash are the same daemon. */
  readonly hash: string;
}

/** What holds where nothing is said. */
export const DEFAULT_HEALTH: HealthPlan = {
  gracePeriod: 10_000,
  trigger: null,
  timeout: 30_000,
  successThreshold: 1,
  failureThreshold: 3,
  onFailure: "report",
};

/** What holds where nothing is said. */
export const DEFAULT_RESTART: RestartPlan = {
  initial: 500,
  factor: 2,
  max: 30_000,
  jitter: 0.5,
  stableAfter: 60_000,
  crashLoop: 10,
  retryAfter: 300_000,
};

/** Milliseconds that a daemon has after SIGTERM. */
export const DEFAULT_GRACE = 30_000;

/**
 * Milliseconds until it is started again.
 *
 * @param failures - ends in a row without a good run, the last one included
 * @param random - from 0 to 1
 */
export function backoff(plan: RestartPlan, failures: number, random: number): number {
  const whole = Math.min(plan.max, plan.initial * plan.factor ** Math.min(failures - 1, 64));
  return whole * (1 - plan.jitter * random);
}

/** Milliseconds to the next check. */
export function interval(plan: HealthPlan, result: HealthStatus, checks: number): number {
  const { trigger } = plan;
  if (typeof trigger === "number") return trigger;
  if (trigger !== null) return trigger[result] ?? trigger.default;
  const settled = result === "success" || result === "disabled" || result === "loading";
  // Most services are there within a few moments, and others wait for them.
  return settled ? 30_000 : Math.min(1000, 50 * 2 ** Math.min(checks, 10));
}
