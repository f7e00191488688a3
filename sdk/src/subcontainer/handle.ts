/**
 * What the owning and the counted handle have in common: every call, refused once the handle is given up.
 */
import "../polyfill.ts";
import { setTimeout as sleep } from "node:timers/promises";
import { DestroyedError } from "../errors.ts";
import type { Content, Files, WriteOptions } from "../files/files.ts";
import type { Limits, StatsResult, SubcontainerInfo } from "../generated/protocol.ts";
import type { MountArray, Mounts } from "../mounts/mounts.ts";
import { toWire } from "../mounts/options.ts";
import { milliseconds, type StdioOptions } from "../process/options.ts";
import type { Process } from "../process/process.ts";
import type { LaunchOptions, RunOptions, SpawnOptions } from "./commands.ts";
import * as commands from "./commands.ts";
import type { Core } from "./core.ts";
import type { SubContainerOwned } from "./owned.ts";
import type { SubContainerRc } from "./rc.ts";
import type { Abort, Exec, ExecFail, RunCommand, SubContainer, WatchOptions } from "./subcontainer.ts";

/** Milliseconds that `exec` allows when nobody says how long. */
const EXEC_TIMEOUT = 30_000;

/** See the module. */
export abstract class Handle implements SubContainer {
  abstract readonly destroy: () => Promise<null>;
  abstract rc(): SubContainerRc;
  abstract isOwned(): this is SubContainerOwned;
  /** Whether this handle was given up. */
  protected abstract get released(): boolean;
  readonly #core: Core;

  protected constructor(core: Core) {
    this.#core = core;
  }

  get imageId(): string {
    return this.#core.imageId;
  }

  get rootfs(): string {
    return this.#core.rootfs;
  }

  get guid(): string {
    return this.#core.guid;
  }

  get files(): Files {
    return this.#enter("files").files;
  }

  subpath(path: string): string {
    return path.startsWith("/") ? this.rootfs + path : `${this.rootfs}/${path}`;
  }

  async mount(mounts: Mounts | MountArray): Promise<this> {
    const core = this.#enter("mount");
    // One after the other: a mount may lie inside the one before.
    for (const { mountpoint, options } of Array.isArray(mounts) ? mounts : mounts.build()) {
      await core.host.request("subcontainer.mount", { guid: core.guid, mount: toWire(mountpoint, options) });
    }
    return this;
  }

  async unmount(mountpoint: string): Promise<void> {
    const core = this.#enter("unmount");
    await core.host.request("subcontainer.unmount", { guid: core.guid, mountpoint });
  }

  readonly exec: Exec = ((
    command: readonly string[],
    options?: RunOptions,
    timeoutMs?: number | null,
    abort?: Abort,
  ): Promise<unknown> => {
    try {
      return commands.exec(this.#enter("exec"), command, limited(options, timeoutMs, abort));
    } catch (error) {
      return Promise.reject(error);
    }
  }) as Exec;

  readonly execFail: ExecFail = (async (
    command: readonly string[],
    options?: RunOptions,
    timeoutMs?: number | null,
    abort?: Abort,
  ): Promise<unknown> => {
    const result = await commands.exec(this.#enter("execFail"), command, limited(options, timeoutMs, abort));
    return result.throw();
  }) as ExecFail;

  readonly run: RunCommand = ((command: readonly string[], options: RunOptions = {}) =>
    commands.run(this.#enter("run"), command, options)) as RunCommand;

  async launch(command: readonly string[] | null, options: LaunchOptions = {}): Promise<Process> {
    return commands.launch(this.#enter("launch"), command, options);
  }

  async leader(options: StdioOptions = {}): Promise<Process | null> {
    return commands.leader(this.#enter("leader"), options);
  }

  async spawn(command: readonly string[], options: SpawnOptions = { stdio: "inherit" }): Promise<Process> {
    return commands.spawn(this.#enter("spawn"), command, options);
  }

  async writeFile(
    path: string,
    data: Content,
    options?: BufferEncoding | WriteOptions | null,
  ): Promise<void> {
    await this.#enter("writeFile").files.writeFileDeep(path, data, options);
  }

  readonly readFile: Files["readFile"] = (async (path: string, options: { encoding: BufferEncoding }) =>
    this.#enter("readFile").files.readFile(path, options)) as Files["readFile"];

  async inspect(): Promise<SubcontainerInfo> {
    const core = this.#enter("inspect");
    return core.host.request("subcontainer.inspect", { guid: core.guid });
  }

  async stats(): Promise<StatsResult> {
    const core = this.#enter("stats");
    return core.host.request("subcontainer.stats", { guid: core.guid });
  }

  async *watchStats(options: WatchOptions = {}): AsyncGenerator<StatsResult, void, undefined> {
    const interval = milliseconds(options.interval ?? 1000, "interval");
    const { signal } = options;
    while (!signal?.aborted) {
      const stats = await this.stats();
      if (stats.processes === 0) return;
      yield stats;
      await sleep(interval, undefined, signal ? { signal } : {}).catch(() => {});
    }
  }

  async update(options: { limits: Limits }): Promise<Limits> {
    const core = this.#enter("update");
    const { limits } = await core.host.request("subcontainer.update", {
      guid: core.guid,
      limits: options.limits,
    });
    return limits;
  }

  hold(): () => Promise<void> {
    return this.#enter("hold").hold();
  }

  async detach(): Promise<string> {
    const core = this.#enter("detach");
    await core.host.request("subcontainer.detach", { guid: core.guid });
    core.detached = true;
    return core.guid;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy();
  }

  /** The shared part, for a call that needs the subcontainer to be there. */
  #enter(what: string): Core {
    if (this.released) throw new DestroyedError(what, this.#core.guid);
    this.#core.assertAlive(what);
    return this.#core;
  }
}

/** The options with the limits that were given as arguments, as a new object. */
export function limited(
  options: RunOptions | undefined,
  timeoutMs: number | null | undefined,
  abort: Abort | undefined,
): RunOptions {
  const given = timeoutMs === undefined ? options?.timeout : timeoutMs;
  const timeout = given === undefined ? EXEC_TIMEOUT : given;
  if (options === undefined && abort === undefined) return { timeout };
  const second = abort === undefined ? undefined : "signal" in abort ? abort.signal : abort;
  const first = options?.signal;
  const signal = first && second ? AbortSignal.any([first, second]) : (first ?? second);
  return { ...options, timeout, signal };
}
