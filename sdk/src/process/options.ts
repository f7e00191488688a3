/**
 * What a command may be given, and how that is written on the wire. Nothing here changes what the caller gave.
 */
import type * as wire from "../generated/protocol.ts";
import type { Input } from "./input.ts";

/** Environment, working directory and user of a command. */
export interface CommandOptions {
  /** Variables beyond the image's own; the same name replaces it. Those that are undefined are left out. */
  env?: { readonly [name in string]?: string | undefined } | undefined;
  /** Working directory inside. Default: the image's, else `/`. */
  cwd?: string | undefined;
  /** `name`, `uid`, `name:group` or `uid:gid`, looked up inside. Default: the image's, else root. */
  user?: string | undefined;
  /** The file mode creation mask. Default: that of the launch, else 0o022. */
  umask?: number | undefined;
  /**
   * Limits of each process, by the names of `setrlimit(2)` in small letters (`nofile`, `nproc`, `core`, …); -1 is none.
   * Default for each: that of the launch, else one that does not depend on who runs the host.
   */
  ulimits?: { readonly [name in string]?: wire.Ulimit | undefined } | undefined;
  /**
   * How early the kernel kills it when memory runs out, -1000 to 1000. Default: that of the launch, else 0. Less than
   * the host's own is refused where the host lacks `CAP_SYS_RESOURCE`.
   */
  oomScoreAdj?: number | undefined;
}

/** How long a command may run, and what ends it. */
export interface LimitOptions {
  /** Ends the command and everything that it started. One that is aborted already starts nothing. */
  signal?: AbortSignal | undefined;
  /** Milliseconds until the command and everything that it started is ended; null for no limit. */
  timeout?: number | null | undefined;
  /** Milliseconds between SIGTERM and SIGKILL at a timeout or an abort. Default 0: SIGKILL at once. */
  grace?: number | undefined;
}

/** Input and output of a command that runs to its end. */
export interface ExecOptions extends LimitOptions {
  /** Standard input. Without it the command reads end of file at once. */
  input?: Input | undefined;
  /** Bytes to keep of each of stdout and stderr; the rest is read and dropped. Default 8 MiB. */
  maxBuffer?: number | undefined;
  /** `utf8` (default): output is text. `buffer`: output is bytes, unchanged. */
  encoding?: "utf8" | "buffer" | undefined;
}

/**
 * What becomes of a standard stream: `pipe` reaches this program as a stream, `inherit` goes to this program's own
 * stdout or stderr (its stdin is never taken: the command reads end of file), `ignore` is `/dev/null`, `log` is kept by
 * the host, for `logs()` (of stdin, as `ignore`).
 */
export type StdioKind = "pipe" | "inherit" | "ignore" | "log";

/** The standard streams of a command that is not waited for. */
export interface StdioOptions {
  /** One for all, or one each for stdin, stdout and stderr. */
  stdio?: StdioKind | readonly [StdioKind, StdioKind, StdioKind] | undefined;
  /** A terminal of this size instead of stdin and stdout; stderr stays apart when it is `pipe` or `log`. */
  terminal?: wire.TerminalSize | undefined;
  /**
   * How much is kept of streams that are `log`, of all processes in the subcontainer together: `size` bytes of each of
   * `files` files. Default: what was asked for there before, else three files of 10 MB.
   */
  log?: wire.LogBounds | undefined;
  /**
   * Where else streams that are `log` go: `journald` is the machine's journal, a line each, with `CONTAINER_ID`,
   * `CONTAINER_NAME` and a `PRIORITY` (6 for stdout, 3 for stderr). Default: the host's (`--log-driver`). Refused where no
   * journald runs.
   */
  logDriver?: wire.LogDriver | undefined;
}

/** 8 MiB, the most that one `exec` message carries. */
export const MAX_BUFFER: number = 8 * 1024 * 1024;

/** The wire's form of the options, or undefined when there are none. */
export function commandOptions(options: CommandOptions): wire.CommandOptions | undefined {
  const { env, cwd, user, umask, ulimits, oomScoreAdj } = options;
  const out: wire.CommandOptions = {};
  if (env !== undefined) {
    const set: Record<string, string> = {};
    for (const [name, value] of Object.entries(env))
      if (value !== undefined && value !== null) set[name] = value;
    out.env = set;
  }
  if (cwd !== undefined) out.cwd = cwd;
  if (user !== undefined) out.user = user;
  if (umask !== undefined) out.umask = umask;
  if (ulimits !== undefined) {
    const set: Record<string, wire.Ulimit> = {};
    for (const [name, limit] of Object.entries(ulimits)) if (limit !== undefined) set[name] = limit;
    out.ulimits = set;
  }
  if (oomScoreAdj !== undefined) out.oomScoreAdj = oomScoreAdj;
  return Object.keys(out).length === 0 ? undefined : out;
}

/** The standard streams, one by one. */
export function stdio(
  options: StdioOptions,
  fallback: StdioKind,
): readonly [StdioKind, StdioKind, StdioKind] {
  const chosen = options.stdio ?? fallback;
  return typeof chosen === "string" ? [chosen, chosen, chosen] : chosen;
}

/** The wire's form of the standard streams. */
export function streams(
  [stdin, stdout, stderr]: readonly [StdioKind, StdioKind, StdioKind],
  { terminal, log, logDriver }: StdioOptions,
): wire.Streams {
  const out: wire.Streams = {};
  if (stdin === "pipe") out.stdin = "pipe";
  if (stdout !== "ignore") out.stdout = stdout === "log" ? "log" : "pipe";
  if (stderr !== "ignore") out.stderr = stderr === "log" ? "log" : "pipe";
  if (log !== undefined) out.log = log;
  if (logDriver !== undefined) out.logDriver = logDriver;
  if (terminal !== undefined) {
    out.terminal = { rows: terminal.rows, cols: terminal.cols };
    delete out.stdin;
    delete out.stdout;
    if (stderr === "inherit") delete out.stderr;
  }
  return out;
}

/** Milliseconds as the wire wants them: whole, not negative. */
export function milliseconds(value: number, name: string): number {
  if (!(value >= 0)) throw new RangeError(`${name} is not a number of milliseconds: ${value}`);
  return Math.min(Math.ceil(value), Number.MAX_SAFE_INTEGER);
}

/** The text of a command for messages: its first word. */
export function program(command: readonly string[]): string {
  return command[0] ?? "(no command)";
}
