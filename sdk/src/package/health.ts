/**
 * Health checks that need to know no subcontainer: all of a package's share one network, so any that runs will do.
 */
import {
  checkPortListening as checkPort,
  checkWebUrl as checkUrl,
  runHealthScript,
} from "../daemons/checks.ts";
import type { HealthCheckResult } from "../daemons/plan.ts";
import type { SubContainer } from "../subcontainer/index.ts";
import type { PackageEffects } from "./effects.ts";

/** What is said of what was found. */
export interface CheckOptions {
  successMessage?: string | null;
  errorMessage?: string;
  /** Said when nothing answers in time. Default: `errorMessage`. */
  timeoutMessage?: string;
  /** Milliseconds. Default 1000. */
  timeout?: number;
}

/** A subcontainer of the package that runs. */
async function inside(effects: PackageEffects): Promise<string | undefined> {
  const { subcontainers } = await effects.request("subcontainer.list", {});
  return subcontainers.find(({ state }) => state.status === "running")?.guid;
}

async function look(
  effects: PackageEffects,
  options: CheckOptions,
  check: (sub: SubContainer) => Promise<HealthCheckResult>,
): Promise<HealthCheckResult> {
  const guid = await inside(effects);
  const message = options.errorMessage ?? "nothing of the package runs";
  return guid === undefined ? { result: "failure", message } : check({ guid } as SubContainer);
}

/** Success when something listens at a TCP port in the package's network. */
export function checkPortListening(
  effects: PackageEffects,
  port: number,
  options: CheckOptions = {},
): Promise<HealthCheckResult> {
  return look(effects, options, (sub) => checkPort(effects, sub, port, options));
}

/** Success when a web server in the package's network answers. The host in the URL is only a name. */
export function checkWebUrl(
  effects: PackageEffects,
  url: string,
  options: CheckOptions = {},
): Promise<HealthCheckResult> {
  return look(effects, options, (sub) => checkUrl(effects, sub, url, options));
}

export { runHealthScript };
