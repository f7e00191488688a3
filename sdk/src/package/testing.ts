/**
 * A package as its tests see it: what `start-container package test` has installed on a host that is there for just that.
 */
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, type Host } from "../client/host.ts";
import type { PackageInfo } from "../generated/protocol.ts";
import type { ActionDescription, ActionResult } from "./actions.ts";
import type { HealthReport } from "./effects.ts";

/** How a test reaches it. */
export interface TestedOptions {
  /** Whose tests these are. Default: what `package test` says. */
  packageId?: string;
  /** Of the host. Default: what `package test` says. */
  dataDir?: string;
}

/**
 * Connects to the package that is tested.
 *
 * @throws Error outside of `start-container package test`, unless both options are there
 */
export async function connectTested(options: TestedOptions = {}): Promise<TestedPackage> {
  const packageId = options.packageId ?? process.env.START_CONTAINER_TESTED;
  if (packageId === undefined) throw new Error("nothing is tested: run `start-container package test`");
  const { dataDir } = options;
  return new TestedPackage(await connect({ ...(dataDir && { dataDir }), client: "tests" }), packageId);
}

/** See {@link connectTested}. Close it, or the test never ends. */
export class TestedPackage implements AsyncDisposable {
  /** The operator's connection: everything that the host does. */
  readonly host: Host;
  readonly packageId: string;

  /** Use {@link connectTested}. */
  constructor(host: Host, packageId: string) {
    this.host = host;
    this.packageId = packageId;
  }

  /** Calls what the script's `call` knows by this name. @throws HostError what it has thrown */
  async call<T = unknown>(name: string, input: unknown = null): Promise<T> {
    const params = { packageId: this.packageId, function: name, input };
    return (await this.host.request("package.call", params)).output as T;
  }

  /** Carries an action out. */
  action(id: string, input: unknown = {}): Promise<ActionResult | null> {
    return this.call(`action:${id}`, input);
  }

  /** What is shown of its actions. */
  actions(): Promise<ActionDescription[]> {
    return this.call("actions");
  }

  /** What the host says of it. */
  status(): Promise<PackageInfo> {
    return this.host.request("package.inspect", { packageId: this.packageId });
  }

  /** What its daemons have said of their health. */
  health(): Promise<HealthReport[]> {
    return this.call("health");
  }

  /** Waits until everything that says how it is, is well. @throws Error with what is not, after `timeout` milliseconds */
  async healthy(timeout = 60_000): Promise<void> {
    const end = Date.now() + timeout;
    for (;;) {
      const health = await this.health();
      const bad = health.filter(({ result }) => result !== "success" && result !== "disabled");
      if (bad.length === 0 && health.length > 0) return;
      if (Date.now() > end) throw new Error(`not healthy: ${JSON.stringify(bad)}`);
      await sleep(100);
    }
  }

  /** Ends the connection. */
  close(): void {
    this.host.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}
