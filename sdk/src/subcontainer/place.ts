/**
 * What commands run in: a subcontainer by any of its handles, or a sandbox. Every call is refused once that is gone.
 */
import type { Files } from "../files/files.ts";
import type { StatsResult } from "../generated/protocol.ts";
import { chunks, type LogOptions, type Logs, logLines } from "../logs/logs.ts";
import { listed, type MountArray, type Mounts } from "../mounts/mounts.ts";
import { toWire } from "../mounts/options.ts";
import type { Process } from "../process/process.ts";
import type { RunOptions, SpawnOptions } from "./commands.ts";
import * as commands from "./commands.ts";
import type { Core } from "./core.ts";
import type { Abort, Exec, ExecFail, RunCommand } from "./subcontainer.ts";

/** Milliseconds that `exec` allows when nobody says how long. */
const EXEC_TIMEOUT = 30_000;

/** See the module. */
export abstract class Place {
  readonly #core: Core;

  protected constructor(core: Core) {
    this.#core = core;
  }

  /** Where its rootfs is mounted on the host. */
  get rootfs(): string {
    return this.#core.rootfs;
  }

  /** Its id. */
  get guid(): string {
    return this.#core.guid;
  }

  /** Its files, in the shape of `node:fs/promises`; of a sandbox, its own. */
  get files(): Files {
    return this.enter("files").files;
  }

  /** See `SubContainer.mount`; in a sandbox, for its own processes. */
  async mount(mounts: Mounts | MountArray): Promise<this> {
    const core = this.enter("mount");
    // One after the other: a mount may lie inside the one before.
    for (const { mountpoint, options } of listed(mounts)) {
      await core.host.request("subcontainer.mount", { guid: core.guid, mount: toWire(mountpoint, options) });
    }
    return this;
  }

  /** See `SubContainer.unmount`. */
  async unmount(mountpoint: string): Promise<void> {
    const core = this.enter("unmount");
    await core.host.request("subcontainer.unmount", { guid: core.guid, mountpoint });
  }

  /** See `SubContainer.exec`; in a sandbox, beside its subcontainers, whose processes it sees. */
  readonly exec: Exec = ((
    command: readonly string[],
    options?: RunOptions,
    timeoutMs?: number | null,
    abort?: Abort,
  ): Promise<unknown> => {
    try {
      return commands.exec(this.enter("exec"), command, limited(options, timeoutMs, abort));
    } catch (error) {
      return Promise.reject(error);
    }
  }) as Exec;

  /** See `SubContainer.execFail`. */
  readonly execFail: ExecFail = (async (
    command: readonly string[],
    options?: RunOptions,
    timeoutMs?: number | null,
    abort?: Abort,
  ): Promise<unknown> => {
    const result = await commands.exec(this.enter("execFail"), command, limited(options, timeoutMs, abort));
    return result.throw();
  }) as ExecFail;

  /** See `SubContainer.run`. */
  readonly run: RunCommand = ((command: readonly string[], options: RunOptions = {}) =>
    commands.run(this.enter("run"), command, options)) as RunCommand;

  /** See `SubContainer.spawn`. */
  async spawn(command: readonly string[], options: SpawnOptions = { stdio: "inherit" }): Promise<Process> {
    return commands.spawn(this.enter("spawn"), command, options);
  }

  /** See `SubContainer.stats`; of a sandbox, what everything in it uses together, its subcontainers included. */
  async stats(): Promise<StatsResult> {
    const core = this.enter("stats");
    return core.host.request("subcontainer.stats", { guid: core.guid });
  }

  /** See `SubContainer.logs`; of a sandbox, of its own processes. */
  readonly logs: Logs = ((options: LogOptions & { encoding?: "utf8" | "buffer" } = {}) => {
    const { host, guid } = this.enter("logs");
    const pieces = chunks(host, guid, options);
    return options.encoding === "buffer" ? pieces : logLines(pieces);
  }) as Logs;

  /** The shared part, for a call that needs it to be there. */
  protected enter(what: string): Core {
    this.#core.assertAlive(what);
    return this.#core;
  }
}

/** The options with the limits that were given as arguments, as a new object. */
function limited(
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
