/**
 * What makes a daemon ready, as its author writes it.
 */
import type { CommandOptions } from "../process/options.ts";
import type { SubContainer } from "../subcontainer/subcontainer.ts";
import {
  DEFAULT_HEALTH,
  DEFAULT_RESTART,
  type HealthCheckResult,
  type HealthPlan,
  type RestartPlan,
  type Trigger,
} from "./plan.ts";

/** What a check may use. */
export interface CheckContext {
  /** Where the daemon runs; null where it has none. */
  readonly subcontainer: SubContainer | null;
  /** Aborted when nobody wants the answer any more. */
  readonly signal: AbortSignal;
}

/** How to look at a daemon. */
export type Check =
  /** A function of yours. */
  | { fn: (context: CheckContext) => HealthCheckResult | Promise<HealthCheckResult> }
  /** A command inside: exit code 0 is success. */
  | { exec: readonly string[] | ({ command: readonly string[] } & CommandOptions) }
  /** Text for `/bin/sh` inside: exit code 0 is success. */
  | { script: string }
  /** Something listens at this TCP port, in the daemon's own network. */
  | { port: number | { port: number; address?: string } }
  /** A URL, asked for in the daemon's own network; the host in it is only a name, see {@link HttpCheck}. */
  | { http: string | HttpCheck };

/** How to ask a web server. */
export interface HttpCheck {
  /** `http://localhost:8080/health`. The connection goes to `address`, whatever host this names. */
  url: string;
  /** The IP address in the daemon's network. Default: its loopback. */
  address?: string;
  /** Which answers are success. Default: 200 to 399. */
  status?: (code: number) => boolean;
}

/** When and how often to look, and what that means. Times in milliseconds. */
export interface ReadyOptions {
  /** A name for people, or null to keep it from them. */
  display: string | null;
  /** Failures say `starting` for so long after a start, until the first success. Default 10,000. */
  gracePeriod?: number | undefined;
  /**
   * The time between two checks. Default: from 50 ms up to 1 s until it is ready, then 30 s. A number, or what
   * {@link cooldownTrigger} and {@link statusTrigger} give.
   */
  trigger?: Trigger | undefined;
  /** A check that takes longer has failed. Default 30,000. */
  timeout?: number | undefined;
  /** Successes in a row that make it ready. Default 1. */
  successThreshold?: number | undefined;
  /** Failures in a row that end that. Default 3. */
  failureThreshold?: number | undefined;
  /** `restart`: a daemon that fails is started anew. Default `report`: its health says so. */
  onFailure?: "report" | "restart" | undefined;
}

/** What makes a daemon ready, and keeps it so. */
export type Ready = ReadyOptions & Check;

/** When a daemon that has ended is started again. Times in milliseconds; what is absent is as in the default. */
export type RestartOptions = Partial<RestartPlan>;

/** The plan of a check. @throws RangeError */
export function healthPlan(id: string, ready: Ready): HealthPlan {
  const plan: HealthPlan = {
    gracePeriod: ready.gracePeriod ?? DEFAULT_HEALTH.gracePeriod,
    trigger: ready.trigger ?? null,
    timeout: ready.timeout ?? DEFAULT_HEALTH.timeout,
    successThreshold: ready.successThreshold ?? DEFAULT_HEALTH.successThreshold,
    failureThreshold: ready.failureThreshold ?? DEFAULT_HEALTH.failureThreshold,
    onFailure: ready.onFailure ?? DEFAULT_HEALTH.onFailure,
  };
  positive(id, "successThreshold", plan.successThreshold, 1);
  positive(id, "failureThreshold", plan.failureThreshold, 1);
  positive(id, "gracePeriod", plan.gracePeriod, 0);
  positive(id, "timeout", plan.timeout, 1);
  const times = typeof plan.trigger === "number" ? [plan.trigger] : Object.values(plan.trigger ?? {});
  for (const time of times) positive(id, "trigger", time, 1);
  return plan;
}

/** The plan of restarts. @throws RangeError */
export function restartPlan(id: string, options: RestartOptions = {}): RestartPlan {
  const plan: RestartPlan = { ...DEFAULT_RESTART, ...options };
  positive(id, "initial", plan.initial, 1);
  positive(id, "factor", plan.factor, 1);
  positive(id, "max", plan.max, plan.initial);
  positive(id, "stableAfter", plan.stableAfter, 0);
  positive(id, "crashLoop", plan.crashLoop, 1);
  if (plan.retryAfter !== null) positive(id, "retryAfter", plan.retryAfter, 1);
  if (!(plan.jitter >= 0 && plan.jitter <= 1))
    throw new RangeError(`${id}: jitter is not from 0 to 1: ${plan.jitter}`);
  return plan;
}

function positive(id: string, name: string, value: number, least: number): void {
  if (!(value >= least)) throw new RangeError(`${id}: ${name} is less than ${least}: ${value}`);
}
