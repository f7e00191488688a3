/**
 * What a daemon runs, as its author writes it.
 */
import type { CommandOptions } from "../process/options.ts";
import type { LaunchOptions } from "../subcontainer/commands.ts";
import type { SubContainer } from "../subcontainer/subcontainer.ts";

/** What a launch decides for all that is in a subcontainer. */
export type DaemonLaunch = Pick<
  LaunchOptions,
  | "init"
  | "sharedDevSys"
  | "sharedRun"
  | "capAdd"
  | "capDrop"
  | "seccomp"
  | "limits"
  | "network"
  | "log"
  | "logDriver"
>;

/** The command of an image: its entrypoint, and after it its own arguments or others. */
export class UseEntrypoint {
  /** In the place of the image's own arguments. */
  readonly overridCmd: readonly string[] | undefined;

  constructor(overridCmd?: readonly string[]) {
    this.overridCmd = overridCmd;
  }

  /** The whole command, as the image of a subcontainer has it. @throws RangeError where it has none */
  async of(subcontainer: SubContainer): Promise<string[]> {
    const { entrypoint = [], cmd = [] } = await subcontainer.inspect();
    const command = [...entrypoint, ...(this.overridCmd ?? cmd)];
    if (command.length === 0) throw new RangeError(`the image ${subcontainer.imageId} has no command`);
    return command;
  }
}

/** What can stand for a command: words, a text for `/bin/sh`, or the image's own. */
export type CommandType = readonly string[] | string | UseEntrypoint;

/** A command as a daemon. */
export interface ExecCommandOptions extends CommandOptions {
  /** The program and its arguments. */
  command: CommandType;
  /** Milliseconds after SIGTERM until SIGKILL for it and everything that it started. Default 30,000. */
  sigtermTimeout?: number | undefined;
  /**
   * Run it as PID 1 of its subcontainer: everything inside ends with it. Default: where nobody else runs in its
   * subcontainer, beyond one-shots that it requires, it leads that under our init, and so outlives the host; else it runs
   * beside an idle init, and false says so in any case.
   */
  runAsInit?: boolean | undefined;
  /** Limits, network and privileges of the subcontainer, where this daemon is what has it launched. */
  launch?: DaemonLaunch | undefined;
  /** Called with each piece of its standard output. */
  onStdout?: ((chunk: Uint8Array) => void) | undefined;
  /** Called with each piece of its standard error. */
  onStderr?: ((chunk: Uint8Array) => void) | undefined;
}

/**
 * A function as a daemon: it runs until its promise is settled, then as the command that it gives, if any. It ends when
 * `abort` is.
 */
export interface ExecFnOptions<C extends SubContainer | null = SubContainer | null> {
  fn: (subcontainer: C, abort: AbortSignal) => Promise<C extends null ? null : ExecCommandOptions | null>;
  /** Milliseconds after the abort, or after SIGTERM. Default 30,000. */
  sigtermTimeout?: number | undefined;
}

/** The structure of it: what makes two of them the same. Functions are not looked at. */
export function structure(exec: ExecCommandOptions | ExecFnOptions): unknown {
  if ("fn" in exec) return { fn: true, sigtermTimeout: exec.sigtermTimeout };
  const { onStdout: _, onStderr: __, ...rest } = exec;
  return rest;
}
