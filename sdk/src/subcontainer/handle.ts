/**
 * What the owning and the counted handle have in common: every call, refused once the handle is given up.
 */
import "../polyfill.ts";
import { setTimeout as sleep } from "node:timers/promises";
import { DestroyedError } from "../errors.ts";
import type { Content, Files, WriteOptions } from "../files/files.ts";
import type { Limits, StatsResult, SubcontainerInfo } from "../generated/protocol.ts";
import { milliseconds, type StdioOptions } from "../process/options.ts";
import type { Process } from "../process/process.ts";
import type { LaunchOptions } from "./commands.ts";
import * as commands from "./commands.ts";
import type { Core } from "./core.ts";
import type { SubContainerOwned } from "./owned.ts";
import { Place } from "./place.ts";
import type { SubContainerRc } from "./rc.ts";
import type { StopOptions, Stopped, SubContainer, WatchOptions } from "./subcontainer.ts";

/** See the module. */
export abstract class Handle extends Place implements SubContainer {
  abstract readonly destroy: () => Promise<null>;
  abstract rc(): SubContainerRc;
  abstract isOwned(): this is SubContainerOwned;
  /** Whether this handle was given up. */
  protected abstract get released(): boolean;
  readonly #core: Core;

  protected constructor(core: Core) {
    super(core);
    this.#core = core;
  }

  get imageId(): string {
    return this.#core.imageId;
  }

  subpath(path: string): string {
    return path.startsWith("/") ? this.rootfs + path : `${this.rootfs}/${path}`;
  }

  async launch(command: readonly string[] | null, options: LaunchOptions = {}): Promise<Process> {
    return commands.launch(this.enter("launch"), command, options);
  }

  async lead(options?: LaunchOptions): Promise<void> {
    return commands.lead(this.enter("lead"), options);
  }

  async leader(options: StdioOptions = {}): Promise<Process | null> {
    return commands.leader(this.enter("leader"), options);
  }

  async writeFile(
    path: string,
    data: Content,
    options?: BufferEncoding | WriteOptions | null,
  ): Promise<void> {
    await this.enter("writeFile").files.writeFileDeep(path, data, options);
  }

  readonly readFile: Files["readFile"] = (async (path: string, options: { encoding: BufferEncoding }) =>
    this.enter("readFile").files.readFile(path, options)) as Files["readFile"];

  async stop(options: StopOptions = {}): Promise<Stopped> {
    const core = this.enter("stop");
    const { timeout, signal } = options;
    const params = {
      guid: core.guid,
      ...(timeout === undefined ? {} : { timeout: milliseconds(timeout, "timeout") }),
      ...(signal === undefined ? {} : { signal }),
    };
    const { outcome, killed } = await core.host.request("subcontainer.stop", params);
    return { outcome: outcome ?? null, killed };
  }

  async inspect(): Promise<SubcontainerInfo> {
    const core = this.enter("inspect");
    return core.host.request("subcontainer.inspect", { guid: core.guid });
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
    const core = this.enter("update");
    const { limits } = await core.host.request("subcontainer.update", {
      guid: core.guid,
      limits: options.limits,
    });
    return limits;
  }

  hold(): () => Promise<void> {
    return this.enter("hold").hold();
  }

  async detach(): Promise<string> {
    const core = this.enter("detach");
    await core.host.request("subcontainer.detach", { guid: core.guid });
    core.detached = true;
    return core.guid;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy();
  }

  protected override enter(what: string): Core {
    if (this.released) throw new DestroyedError(what, this.guid);
    return super.enter(what);
  }
}
