/**
 * A command that has ended.
 */
import type { Outcome } from "../generated/protocol.ts";
import { describe, exitCodeOf, exitSignalOf, tail } from "./outcome.ts";

/** What a command printed: text, or bytes where `encoding: "buffer"` was asked for. */
export type Output = string | Uint8Array;

/** A command that has ended, however it ended. */
export class ExecResult<T extends Output = string> {
  /** How it ended: by itself, by a signal, by the time limit, by an abort, or out of memory. */
  readonly outcome: Outcome;
  /** 0 to 255, or null when it did not end by itself. */
  readonly exitCode: number | null;
  /** The signal that ended it, or null. */
  readonly exitSignal: NodeJS.Signals | null;
  /** Its standard output. */
  readonly stdout: T;
  /** Its standard error. */
  readonly stderr: T;
  /** Standard output was longer than `maxBuffer`; the rest was dropped. */
  readonly stdoutTruncated: boolean;
  /** Standard error was longer than `maxBuffer`; the rest was dropped. */
  readonly stderrTruncated: boolean;
  readonly #command: string;
  readonly #cause: unknown;

  constructor(fields: {
    command: string;
    outcome: Outcome;
    stdout: T;
    stderr: T;
    stdoutTruncated: boolean;
    stderrTruncated: boolean;
    grace?: number;
    cause?: unknown;
  }) {
    this.#command = fields.command;
    this.#cause = fields.cause;
    this.outcome = fields.outcome;
    this.exitCode = exitCodeOf(fields.outcome);
    this.exitSignal = exitSignalOf(fields.outcome, fields.grace ?? 0);
    this.stdout = fields.stdout;
    this.stderr = fields.stderr;
    this.stdoutTruncated = fields.stdoutTruncated;
    this.stderrTruncated = fields.stderrTruncated;
  }

  /**
   * The output, if the command ended with exit code 0.
   *
   * @throws ExitError if it did not
   */
  throw(): { stdout: T; stderr: T } {
    if (this.exitCode === 0) return { stdout: this.stdout, stderr: this.stderr };
    throw new ExitError(this.#command, this, this.#cause === undefined ? undefined : { cause: this.#cause });
  }
}

/** What an {@link ExitError} knows of the command. */
export interface ExitResult {
  exitCode: number | null;
  exitSignal: NodeJS.Signals | null;
  stdout: Output;
  stderr: Output;
  /** Absent only where a program makes an `ExitError` by itself. */
  outcome?: Outcome;
}

/** A command did not end with exit code 0. The message holds the end of its standard error. */
export class ExitError extends Error {
  override readonly name = "ExitError";
  /** The program: the first word of the command. */
  readonly command: string;
  /** How it ended and what it printed. */
  readonly result: ExitResult;

  constructor(command: string, result: ExitResult, options?: ErrorOptions) {
    const outcome: Outcome =
      result.outcome ??
      (result.exitCode
        ? { kind: "exit", code: result.exitCode }
        : result.exitSignal !== null
          ? { kind: "signal", signal: result.exitSignal, number: 0 }
          : { kind: "exit", code: 0 });
    const text = tail(outcome.kind === "exit" && outcome.code === 0 ? result.stdout : result.stderr);
    super(`${command} ${describe(outcome)}${text === "" ? "" : `: ${text}`}`, options);
    this.command = command;
    this.result = result;
  }

  /** 0 to 255, or null when it did not end by itself. */
  get exitCode(): number | null {
    return this.result.exitCode;
  }

  /** The signal that ended it, or null. */
  get exitSignal(): NodeJS.Signals | null {
    return this.result.exitSignal;
  }

  /** Its standard output. */
  get stdout(): Output {
    return this.result.stdout;
  }

  /** Its standard error. */
  get stderr(): Output {
    return this.result.stderr;
  }
}
