/**
 * What every handle of a subcontainer can do, and the ways to get one.
 */
import type { Content, Files, WriteOptions } from "../files/files.ts";
import type { Limits, Outcome, StatsResult, SubcontainerInfo } from "../generated/protocol.ts";
import type { Logs } from "../logs/logs.ts";
import type { MountArray, Mounts } from "../mounts/mounts.ts";
import type { CommandOptions, ExecOptions, StdioOptions } from "../process/options.ts";
import type { Process } from "../process/process.ts";
import type { ExecResult } from "../process/result.ts";
import type { Run } from "../process/run.ts";
import type { Sandbox } from "../sandbox/sandbox.ts";
import type { LaunchOptions, RunOptions, SpawnOptions } from "./commands.ts";
import type { SubContainerOwned } from "./owned.ts";
import type { SubContainerRc } from "./rc.ts";

/** How to watch. */
export interface WatchOptions {
  /** Milliseconds between two looks. Default 1000. */
  interval?: number | undefined;
  /** Ends it. */
  signal?: AbortSignal | undefined;
}

/** The image of a new subcontainer, and what it shares with the host. */
export interface ImageOptions {
  /** The image: its name, or its digest `sha256:…`, or an unambiguous beginning of it. */
  imageId: string;
  /** Share the host's `/run`. Default false. */
  sharedRun?: boolean | undefined;
  /** Share the host's `/dev` and `/sys` instead of a private `/dev` and a read-only `/sys`. Default false. */
  sharedDevSys?: boolean | undefined;
  /** What is written to the rootfs need not survive a crash of the machine: faster to destroy. */
  throwaway?: boolean | undefined;
  /** Give it a user namespace: root inside is nobody outside. Default false. */
  userns?: boolean | undefined;
  /**
   * The sandbox that it is in, or its guid: its users, network, `/dev` and `/sys` are that one's, `sharedRun` means that
   * one's `/run`, and it ends with it.
   */
  sandbox?: Sandbox | string | undefined;
  /**
   * Bytes on the machine's disk that what is written to the rootfs takes at most, 16 MiB to 16 TiB; beyond it, writes
   * fail with `ENOSPC`. It is a file system of its own then, which needs some of that for itself.
   */
  rootfsSize?: number | undefined;
  /** It outlives this connection. Default false: it is destroyed when the connection ends. */
  detached?: boolean | undefined;
}

/** The wire's form of `sandbox`. */
export function withinSandbox({ sandbox }: ImageOptions): { sandbox?: string } {
  if (sandbox === undefined) return {};
  return { sandbox: typeof sandbox === "string" ? sandbox : sandbox.guid };
}

/** Ends a command from outside: a controller, as in `@start9labs/start-sdk`, or a signal. */
export type Abort = AbortController | AbortSignal;

/** `exec` of either encoding. */
export interface Exec {
  /**
   * Runs a command to its end and captures its output, in one round trip. Resolves however the command ended; where
   * nothing leads the subcontainer yet, an idle init is started first.
   *
   * @param command - the program, looked up in the container's PATH, and its arguments
   * @param timeoutMs - milliseconds; default `options.timeout`, else 30,000; null for no limit
   * @param abort - ends the command, as `options.signal` does
   * @throws HostError when the command could not be started: no such command, user or subcontainer
   */
  (
    command: readonly string[],
    options: RunOptions & { encoding: "buffer" },
    timeoutMs?: number | null,
    abort?: Abort,
  ): Promise<ExecResult<Uint8Array>>;
  (
    command: readonly string[],
    options?: CommandOptions & ExecOptions & { encoding?: "utf8" | undefined },
    timeoutMs?: number | null,
    abort?: Abort,
  ): Promise<ExecResult<string>>;
}

/** `execFail` of either encoding. */
export interface ExecFail {
  /**
   * As `exec`, but rejected unless the command ended with exit code 0.
   *
   * @throws ExitError, which holds how it ended, what it printed and the end of its standard error
   */
  (
    command: readonly string[],
    options: RunOptions & { encoding: "buffer" },
    timeoutMs?: number | null,
    abort?: Abort,
  ): Promise<{ stdout: Uint8Array; stderr: Uint8Array }>;
  (
    command: readonly string[],
    options?: CommandOptions & ExecOptions & { encoding?: "utf8" | undefined },
    timeoutMs?: number | null,
    abort?: Abort,
  ): Promise<{ stdout: string; stderr: string }>;
}

/** `run` of either encoding. */
export interface RunCommand {
  /**
   * Starts a command and gives back, at once, what can be awaited for its result and iterated for its lines. No time
   * limit unless `options.timeout` says one.
   */
  (command: readonly string[], options: RunOptions & { encoding: "buffer" }): Run<Uint8Array>;
  (command: readonly string[], options?: RunOptions & { encoding?: "utf8" | undefined }): Run<string>;
}

/** How `stop` asks. */
export interface StopOptions {
  /** Milliseconds until everything inside is killed. Default 10,000. */
  timeout?: number | undefined;
  /** Default: the image's, else `SIGTERM`. */
  signal?: NodeJS.Signals | undefined;
}

/** What became of it. */
export interface Stopped {
  /** How the leader ended; null when none ran. */
  readonly outcome: Outcome | null;
  /** It did not end in its time. */
  readonly killed: boolean;
}

/** A subcontainer: a writable tree over an image, and the processes inside. */
export interface SubContainer extends AsyncDisposable {
  /** The image that was asked for. */
  readonly imageId: string;
  /** Where the rootfs is mounted on the host. */
  readonly rootfs: string;
  /** Its id. */
  readonly guid: string;
  /** Its files, in the shape of `node:fs/promises`. */
  readonly files: Files;
  /** `path` inside as a path on the host. Text only: nothing is resolved and nothing is checked. */
  subpath(path: string): string;
  /** Mounts them, before or while commands run. A mountpoint in use is an error. */
  mount(mounts: Mounts | MountArray): Promise<this>;
  /** Unmounts what {@link mount} mounted. */
  unmount(mountpoint: string): Promise<void>;
  /**
   * Gives up this handle. The one that owns the subcontainer, or the last counted one, destroys it: everything
   * inside is ended, everything unmounted, the rootfs deleted. Calling it again does nothing more.
   *
   * What runs inside is not asked first: `await service.stop()` before does that.
   */
  readonly destroy: () => Promise<null>;
  readonly exec: Exec;
  readonly execFail: ExecFail;
  readonly run: RunCommand;
  /**
   * Starts the command as PID 1 inside, in place of the leader that there is, which gets SIGTERM and 30 seconds.
   * Everything inside ends with it. Its output goes to this program's own unless `stdio` says otherwise.
   *
   * @param command - null for our idle init
   */
  launch(command: readonly string[] | null, options?: LaunchOptions): Promise<Process>;
  /** Launches our idle init with these options, unless something leads it already. */
  lead(options?: LaunchOptions): Promise<void>;
  /**
   * The process that leads it now, or null when nothing does, or when it was launched without the host. Meant for
   * what was attached by its guid; `stdio` names the streams that were pipes when it was launched.
   */
  leader(options?: StdioOptions): Promise<Process | null>;
  /**
   * Starts a command next to the leader. Resolves when it runs. Without options its output goes to this program's
   * own; with options, also empty ones, `stdio` is `pipe` unless it says otherwise, as in Node.
   */
  spawn(command: readonly string[], options?: SpawnOptions): Promise<Process>;
  /** Writes a file and creates the directories that it lies in. */
  writeFile(path: string, data: Content, options?: BufferEncoding | WriteOptions | null): Promise<void>;
  /** The whole file: bytes, or text with an encoding. */
  readonly readFile: Files["readFile"];
  /**
   * Asks the leader to end, whoever launched it, and kills everything inside when its time is over. The subcontainer
   * stays, and can be launched again.
   *
   * @param options - `timeout`: milliseconds that it has, default 10,000; `signal`: default the image's, else SIGTERM
   * @returns how it ended, null when nothing ran, and whether it had to be killed
   */
  stop(options?: StopOptions): Promise<Stopped>;
  /** What it is, what it does, what is mounted, and how healthy those say it is who look after it. */
  inspect(): Promise<SubcontainerInfo>;
  readonly logs: Logs;
  /** What everything inside uses together. What the kernel does not count for it is absent. */
  stats(): Promise<StatsResult>;
  /**
   * The same again and again: at once, then after each interval, for as long as anything runs inside. Ends when
   * `signal` is aborted, too.
   */
  watchStats(options?: WatchOptions): AsyncGenerator<StatsResult, void, undefined>;
  /**
   * Changes the limits of the container that runs, for all that is in it. What is not named stays; `2 ** 53 - 1` takes a
   * limit away. Returns those that hold now.
   *
   * @throws HostError `busy` for less memory than is in use; `invalid` for memory where none was counted, which is where
   * the launch named no limit at all
   */
  update(options: { limits: Limits }): Promise<Limits>;
  /** A counted handle. The last one that is released destroys the subcontainer. */
  rc(): SubContainerRc;
  /** Whether this handle's `destroy` destroys at once. */
  isOwned(): this is SubContainerOwned;
  /** Keeps it alive, whatever `destroy` says, until the returned function is called. */
  hold(): () => Promise<void>;
  /**
   * Lets it outlive this connection. From then on only `destroy`, by this handle or by one of
   * `SubContainer.attach`, ends it.
   *
   * @returns its guid
   */
  detach(): Promise<string>;
}
