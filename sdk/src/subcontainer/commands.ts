/**
 * Commands inside a subcontainer: the short way, one message there and one back, and the long way, a process with
 * streams of its own.
 */
import { Buffer } from "node:buffer";
import type { HostConnection } from "../client/host-connection.ts";
import { HostError } from "../errors.ts";
import type * as wire from "../generated/protocol.ts";
import type {
  ExecParams,
  LaunchParams,
  Limits,
  Network,
  RunParams,
  SpawnParams,
} from "../generated/protocol.ts";
import { type Input, isWhole } from "../process/input.ts";
import {
  type CommandOptions,
  commandOptions,
  type ExecOptions,
  type LimitOptions,
  MAX_BUFFER,
  milliseconds,
  program,
  type StdioKind,
  type StdioOptions,
  stdio,
  streams,
} from "../process/options.ts";
import { Process } from "../process/process.ts";
import { ExecResult, type Output } from "../process/result.ts";
import { Run } from "../process/run.ts";
import { fromInput, toBytes, toText } from "../wire/data.ts";
import type { Core } from "./core.ts";

/** What `exec` and `run` take. */
export type RunOptions = CommandOptions & ExecOptions;

/** What `spawn` takes. */
export type SpawnOptions = CommandOptions &
  StdioOptions &
  LimitOptions & {
    /** Standard input, written as fast as the process reads, then closed. */
    input?: Input | undefined;
    /** Bytes that `result()` keeps of each output. Default 8 MiB. */
    maxBuffer?: number | undefined;
    /** When it ends, so does everything that it started. Default false: that ends with the subcontainer. */
    tree?: boolean | undefined;
  };

/** What the first process of a container is allowed, and all others with it. */
export interface ContainOptions {
  /** Run the command under our init instead of as PID 1 itself. Default false. */
  init?: boolean | undefined;
  /** Share the host's `/dev` and `/sys` instead of a private `/dev` and a read-only `/sys`. */
  sharedDevSys?: boolean | undefined;
  /** Share the host's `/run`. */
  sharedRun?: boolean | undefined;
  /** Capabilities beyond the default ones that root inside has: `"NET_ADMIN"`, or `"ALL"`. */
  capAdd?: readonly string[] | undefined;
  /** Capabilities that it has not, or `"ALL"`; taken away before `capAdd` gives any. */
  capDrop?: readonly string[] | undefined;
  /**
   * Which system calls pass: `"default"` (what the OCI engines allow), `"socketcall"` (that, and a call by which most
   * 32-bit programs open their sockets, of whatever family), `"unconfined"` (all), or a filter in the form of
   * `linux.seccomp` of the OCI runtime spec. Commands that run in it later pass the same.
   */
  seccomp?: "default" | "socketcall" | "unconfined" | Readonly<Record<string, unknown>> | undefined;
  /** What everything in it may use together: memory, processors, processes. Default: no limits. */
  limits?: Limits | undefined;
  /**
   * Its network: the machine's (the default), none, or a private one, `{ mode: "private", publish: ["8080:80"] }`.
   */
  network?: Network | undefined;
}

/** What `launch` takes. */
export type LaunchOptions = SpawnOptions & ContainOptions;

/** The longest input that travels in the message itself; escapes may make text six times as long. */
const INLINE_BYTES = 8 * 1024 * 1024;
const TEXT_SHARE = 4;

/** Runs a command to its end; in one round trip unless input or output is too large, or comes in pieces. */
export function exec(
  core: Core,
  command: readonly string[],
  options: RunOptions,
): Promise<ExecResult<string> | ExecResult<Uint8Array>> {
  if (core.led === false && options.signal?.aborted !== true) {
    return lead(core).then(() => exec(core, command, options));
  }
  if (!fits(core.host, options)) return run(core, command, options).result();
  const params: ExecParams = { guid: core.guid, command: command as string[] };
  const answer = core.host.request(
    "subcontainer.exec",
    bounded(params, options),
    (result) => toResult(result, command, options),
    options.signal && { signal: options.signal },
  );
  return options.signal === undefined ? answer : answer.catch((error) => aborted(error, command, options));
}

/** Whether input and output fit into one message each. */
export function fits(host: HostConnection, { input, maxBuffer }: RunOptions): boolean {
  const { maxData = INLINE_BYTES } = host;
  return (
    (input === undefined ||
      (isWhole(input) && input.length <= (typeof input === "string" ? maxData / TEXT_SHARE : maxData))) &&
    (maxBuffer === undefined || maxBuffer <= MAX_BUFFER)
  );
}

/** Writes into the parameters what bounds a command that is run to its end, and what it reads. */
export function bounded<P extends ExecParams | RunParams>(params: P, options: RunOptions): P {
  const { input, maxBuffer, timeout, grace } = options;
  const inside = commandOptions(options);
  if (inside !== undefined) params.options = inside;
  if (input !== undefined && isWhole(input)) params.input = fromInput(input);
  if (timeout !== undefined && timeout !== null) params.timeout = milliseconds(timeout, "timeout");
  if (grace !== undefined) params.grace = milliseconds(grace, "grace");
  if (maxBuffer !== undefined) params.maxBuffer = maxBuffer;
  return params;
}

/** The result of a command that was run to its end. */
export function toResult(
  answer: wire.ExecResult,
  command: readonly string[],
  { encoding, grace }: RunOptions,
): ExecResult<string> | ExecResult<Uint8Array> {
  const { outcome, stdout, stderr, stdoutTruncated, stderrTruncated } = answer;
  const common = {
    command: program(command),
    outcome,
    stdoutTruncated,
    stderrTruncated,
    grace: grace ?? 0,
  };
  return encoding === "buffer"
    ? new ExecResult<Uint8Array>({ ...common, stdout: toBytes(stdout), stderr: toBytes(stderr) })
    : new ExecResult({
        ...common,
        stdout: toText(stdout, stdoutTruncated),
        stderr: toText(stderr, stderrTruncated),
      });
}

/** Starts a command whose result may be awaited and whose output may be iterated. */
export function run(
  core: Core,
  command: readonly string[],
  options: RunOptions,
): Run<string> & Run<Uint8Array> {
  const process = spawn(core, command, { ...options, stdio: ["ignore", "pipe", "pipe"] });
  const collect = (started: Process): Promise<ExecResult<Output>> =>
    options.encoding === "buffer" ? started.result("buffer") : started.result("utf8");
  const running = new Run<Output>(process, collect, (error) => aborted(error, command, options));
  return running as Run<string> & Run<Uint8Array>;
}

/** Starts a command and gives back its process. */
export async function spawn(
  core: Core,
  command: readonly string[],
  options: SpawnOptions,
  fallback: StdioKind = "pipe",
): Promise<Process> {
  const kinds = wanted(options, fallback);
  const params: SpawnParams = { guid: core.guid, command: command as string[], ...written(options, kinds) };
  if (options.tree) params.tree = true;
  options.signal?.throwIfAborted();
  if (core.led === false) await lead(core);
  return core.host.request(
    "subcontainer.spawn",
    params,
    (started) => toProcess(core, command, options, kinds, started),
    options.signal && { signal: options.signal },
  );
}

/** Starts the leader, after ending the one that there was. */
export async function launch(
  core: Core,
  command: readonly string[] | null,
  options: LaunchOptions,
): Promise<Process> {
  const kinds = wanted(options, "inherit");
  const params = launchParams(core, command, options, kinds);
  const request = async (): Promise<Process> => {
    await core.leading;
    core.leader = await core.host.request(
      "subcontainer.launch",
      params,
      (started) => toProcess(core, command ?? ["init"], options, kinds, started),
      options.signal && { signal: options.signal },
    );
    core.led = true;
    return core.leader;
  };
  try {
    return await request();
  } catch (error) {
    if (!(error instanceof HostError) || error.kind !== "exists") throw error;
    const former = await leader(core, { stdio: "ignore" });
    // Not launched by this host: nothing here can end it.
    if (former === null) throw error;
    await former.stop({ grace: LEADER_GRACE });
  }
  return request();
}

function launchParams(
  core: Core,
  command: readonly string[] | null,
  options: LaunchOptions,
  kinds: readonly [StdioKind, StdioKind, StdioKind],
): LaunchParams {
  const params: LaunchParams = { guid: core.guid, ...written(options, kinds) };
  if (command !== null) params.command = command as string[];
  return contained(params, options);
}

/** Writes into the parameters what the first process of a container is allowed. */
export function contained<P extends LaunchParams | RunParams>(params: P, options: ContainOptions): P {
  if (options.init) params.init = true;
  if (options.sharedDevSys) params.sharedDevSys = true;
  if (options.sharedRun) params.sharedRun = true;
  if (options.limits) params.limits = options.limits;
  if (options.network) params.network = options.network;
  const { capAdd, capDrop, seccomp } = options;
  if (capAdd || capDrop || seccomp) {
    params.privileges = {
      ...(capAdd && { capAdd: [...capAdd] }),
      ...(capDrop && { capDrop: [...capDrop] }),
      ...(seccomp && { seccomp }),
    };
  }
  return params;
}

/** The process that leads now, where this host launched it. */
export async function leader(core: Core, options: StdioOptions): Promise<Process | null> {
  const { state } = await core.host.request("subcontainer.inspect", { guid: core.guid });
  if (state.status !== "running" || state.process === undefined) return null;
  // Its end is told once: whoever launched it here has the handle that hears of it.
  if (core.leader?.id === state.process) return core.leader ?? null;
  const kinds = stdio(options, "ignore");
  return toProcess(core, ["leader"], options, kinds, { process: state.process, pid: state.pid });
}

/** Milliseconds that a leader has after SIGTERM when another is launched in its place. */
const LEADER_GRACE = 30_000;

/**
 * Starts the idle init before the first command, unless something leads already. The host would do so by itself; but
 * only what was launched by name can be ended again when a `launch` wants its place.
 */
export function lead(core: Core, options: LaunchOptions = {}): Promise<void> {
  core.leading ??= core.host
    .request("subcontainer.launch", launchParams(core, null, options, ["ignore", "ignore", "ignore"]))
    .then(
      () => {},
      (error: unknown) => {
        if (!(error instanceof HostError) || error.kind !== "exists") throw error;
      },
    )
    .then(() => {
      core.led = true;
    })
    .finally(() => {
      core.leading = undefined;
    });
  return core.leading;
}

function wanted(options: SpawnOptions, fallback: StdioKind): readonly [StdioKind, StdioKind, StdioKind] {
  const [stdin, stdout, stderr] = stdio(options, fallback);
  return [options.input === undefined ? stdin : "pipe", stdout, stderr];
}

function written(
  options: SpawnOptions,
  kinds: readonly [StdioKind, StdioKind, StdioKind],
): Pick<SpawnParams, "options" | "streams"> {
  const inside = commandOptions(options);
  return {
    ...(inside === undefined ? {} : { options: inside }),
    streams: streams(kinds, options),
  };
}

function toProcess(
  core: Core,
  command: readonly string[],
  options: SpawnOptions,
  kinds: readonly [StdioKind, StdioKind, StdioKind],
  started: { process: string; pid: number },
): Process {
  return new Process({
    host: core.host,
    id: started.process,
    pid: started.pid,
    command: program(command),
    stdio: kinds,
    terminal: options.terminal,
    limits: options,
    input: options.input,
    maxBuffer: options.maxBuffer,
  });
}

/** The result of a command that an abort ended, or kept from starting. */
export function aborted(error: unknown, command: readonly string[], options: RunOptions): ExecResult<never> {
  if (options.signal?.aborted !== true || error !== options.signal.reason) throw error;
  const nothing = (options.encoding === "buffer" ? Buffer.alloc(0) : "") as never;
  return new ExecResult<never>({
    command: program(command),
    outcome: { kind: "abort" },
    stdout: nothing,
    stderr: nothing,
    stdoutTruncated: false,
    stderrTruncated: false,
    grace: options.grace ?? 0,
    cause: error,
  });
}
