/**
 * What package code has of the world: the host through the package's own socket, and the time for which that holds.
 */
import type { RequestOptions } from "../client/connection.ts";
import type { Effects } from "../daemons/effects.ts";
import type { HealthStatus } from "../daemons/plan.ts";
import type { Methods } from "../generated/protocol.ts";
import type { MethodName } from "../wire/messages.ts";
import type { ActionResult } from "./actions.ts";
import type { PackageHost } from "./host.ts";
import { NotOnThisHostError, notHere } from "./not-here.ts";
import type { ModuleState } from "./state.ts";
import { PackageTasks } from "./tasks.ts";
import { ExtendedVersion } from "./version.ts";

/** Health of something, as whoever runs it has said it last. */
export interface HealthReport {
  id: string;
  name: string;
  result: HealthStatus;
  message: string | null;
}

const NO_NETWORK = "nothing publishes a package's ports on this host, so it has no address there";
const NO_NAMES = "this host gives packages no names, and so no certificates for them";

/**
 * What every function of a package gets. Calls that have no name here are those of `host`. It holds for a while: for one step of
 * `setupInit`, for `main` until that is run again, for the whole life of the module.
 */
export class PackageEffects implements Effects {
  /** The host, as this package sees it: keys, secrets, files, requests, notices. */
  readonly host: PackageHost;
  /** Has the function called again that these were given to. */
  readonly constRetry: (() => void) | undefined;
  /** What has come of its own actions, and what people are asked to run. */
  readonly action: PackageTasks;
  /** @internal */
  readonly state: ModuleState;
  readonly #leave: (() => void | Promise<void>)[] = [];
  #left = false;

  /** @internal */
  constructor(state: ModuleState, constRetry?: () => void) {
    this.state = state;
    this.host = state.host;
    this.constRetry = constRetry;
    this.action = new PackageTasks(this);
  }

  /** The same for a while of its own. `constRetry` is called when something has changed that was read with `const`. */
  child(constRetry?: () => void): PackageEffects {
    return new PackageEffects(this.state, constRetry);
  }

  /** Aborted when the package's code is about to be unloaded. */
  get signal(): AbortSignal {
    return this.state.core.signal;
  }

  /** Whose code this is. */
  get packageId(): string {
    return this.host.packageId;
  }

  /** The path of the package's socket. */
  get socketPath(): string {
    return this.host.socketPath;
  }

  /** Bytes of data that one message carries. */
  get maxData(): number {
    return this.host.maxData;
  }

  /** Whether these hold still. */
  get isInContext(): boolean {
    return !this.#left;
  }

  /** One of the host's own methods, in what the package has made. See `PackageHost.request`. */
  request<M extends MethodName, T = Methods[M]["result"]>(
    method: M,
    params: Methods[M]["params"],
    convert?: (result: Methods[M]["result"]) => T,
    options?: RequestOptions,
  ): Promise<T> {
    return this.host.request(method, params, convert, options);
  }

  /** Called when these do not hold any more, the last one first. */
  onLeaveContext(fn: () => void | Promise<void>): void {
    this.#leave.push(fn);
  }

  /** Takes the health of something: daemons that have a name for people say theirs by themselves. */
  async setHealth(health: HealthReport): Promise<null> {
    this.state.health.set(health.id, health);
    this.state.changed();
    return null;
  }

  /** What was said last of each. */
  get health(): HealthReport[] {
    return [...this.state.health.values()];
  }

  /** Which version the package's data is of, or null where nobody has said so. Needs keys of the group `sdk`. */
  async getDataVersion(): Promise<string | null> {
    this.#mustRemember();
    return (await this.state.recall<string>("dataVersion")) ?? null;
  }

  /** Remembers which version the package's data is of. Needs keys of the group `sdk`. */
  async setDataVersion({ version }: { version: string | null }): Promise<null> {
    this.#mustRemember();
    await this.state.keep("dataVersion", version === null ? null : ExtendedVersion.parse(version).toString());
    return null;
  }

  #mustRemember(): void {
    if (this.state.remembers) return;
    throw new Error("versions of data need the capabilities kv:read and kv:write for the group sdk");
  }

  /** Ends what runs, and calls `main` again. */
  async restart(): Promise<null> {
    this.state.restart();
    return null;
  }

  /** Tells the operator. Needs `notify:send` for the channel `sdk`. */
  readonly notification: {
    create(options: { level?: string; title: string; message: string; data?: string | null }): Promise<null>;
  } = {
    create: async ({ title, message }) => {
      await this.host.notify("sdk", title, message);
      return null;
    },
  };

  /** Not on this host. @throws NotOnThisHostError */
  readonly shutdown: () => never = notHere("shutdown", "only the operator stops a package");
  /** Not on this host. @throws NotOnThisHostError */
  readonly getSystemSmtp: (options?: object) => never = notHere(
    "getSystemSmtp",
    "this host sends no mail: ask for a server by an action, and reach it with net",
  );
  /** Not on this host. @throws NotOnThisHostError */
  readonly getHostInfo: (options?: object) => never = notHere("getHostInfo", NO_NETWORK);
  /** Not on this host. @throws NotOnThisHostError */
  readonly getServicePortForward: (options?: object) => never = notHere("getServicePortForward", NO_NETWORK);
  /** Not on this host. @throws NotOnThisHostError */
  readonly getContainerIp: (options?: object) => never = notHere("getContainerIp", NO_NETWORK);
  /** Not on this host. @throws NotOnThisHostError */
  readonly getOsIp: (options?: object) => never = notHere("getOsIp", NO_NETWORK);
  /** Not on this host. @throws NotOnThisHostError */
  readonly getOutboundGateway: (options?: object) => never = notHere("getOutboundGateway", NO_NETWORK);
  /** Not on this host. @throws NotOnThisHostError */
  readonly getSslCertificate: (options?: object) => never = notHere("getSslCertificate", NO_NAMES);
  /** Not on this host. @throws NotOnThisHostError */
  readonly getSslKey: (options?: object) => never = notHere("getSslKey", NO_NAMES);
  /** Not on this host. @throws NotOnThisHostError */
  readonly getInstalledPackages: (options?: object) => never = notHere(
    "getInstalledPackages",
    "a package sees those that it depends on, and no others: checkDependencies",
  );

  /** Runs one of the package's own actions. @throws NotOnThisHostError for another package's */
  runAction(options: {
    packageId?: string;
    actionId: string;
    input?: unknown;
  }): Promise<ActionResult | null> {
    const { packageId, actionId, input } = options;
    if (packageId !== undefined && packageId !== this.packageId)
      throw new NotOnThisHostError("action.run", "packages run their own actions only");
    const { actions } = this.state;
    if (actions === undefined) throw new RangeError(`there is no action ${actionId}`);
    return actions.get(actionId).run({ effects: this, input });
  }

  /** Ends what was begun with it. @internal */
  async leave(): Promise<void> {
    this.#left = true;
    for (let fn = this.#leave.pop(); fn !== undefined; fn = this.#leave.pop()) await fn();
  }
}
