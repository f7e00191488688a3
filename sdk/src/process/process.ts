/**
 * A running process inside a subcontainer.
 */
import "../polyfill.ts";
import type { Duplex, Readable, Writable } from "node:stream";
import { clearTimeout, setTimeout } from "node:timers";
import { Channel } from "../client/channel.ts";
import type { HostConnection } from "../client/host-connection.ts";
import { ConnectionError, HostError } from "../errors.ts";
import type { Outcome, TerminalSize } from "../generated/protocol.ts";
import { feed, type Input } from "./input.ts";
import { Limits } from "./limits.ts";
import { lines } from "./lines.ts";
import { type LimitOptions, MAX_BUFFER, type StdioKind } from "./options.ts";
import { exitCodeOf, exitSignalOf } from "./outcome.ts";
import { ProcessOutput } from "./output.ts";
import { ExecResult } from "./result.ts";

const STOP_GRACE = 10_000;

/** One of the two outputs of a process. */
export type From = "stdout" | "stderr";

/** How a process ended. */
export interface Ended {
  /** By itself, by a signal, by the time limit, by an abort, or out of memory. */
  outcome: Outcome;
  /** 0 to 255, or null when it did not end by itself. */
  exitCode: number | null;
  /** The signal that ended it, or null. */
  exitSignal: NodeJS.Signals | null;
}

/** What a {@link Process} is made from. */
export interface ProcessInit {
  host: HostConnection;
  /** The host's name for it. */
  id: string;
  pid: number;
  command: string;
  stdio: readonly [StdioKind, StdioKind, StdioKind];
  terminal: TerminalSize | undefined;
  limits: LimitOptions;
  input: Input | undefined;
  maxBuffer: number | undefined;
}

/**
 * A running process. Reading its output is what lets it go on: a stream that nobody reads fills up and stops the
 * writer, until {@link wait} or {@link result} drains it.
 *
 * The process belongs to its subcontainer and ends with it, at the latest.
 */
export class Process implements AsyncIterable<string>, AsyncDisposable {
  /** Process id on the host. */
  readonly pid: number;
  /** The host's name for it. Another host has another. */
  readonly id: string;
  readonly #init: ProcessInit;
  readonly #limits: Limits;
  readonly #outputs: { stdout?: ProcessOutput; stderr?: ProcessOutput } = {};
  #stdin: Channel | undefined;
  #terminal: Channel | undefined;
  #fed: Promise<void> | undefined;
  #exited: Promise<Outcome> | undefined;
  #ended: Promise<Ended> | undefined;

  constructor(init: ProcessInit) {
    this.#init = init;
    this.id = init.id;
    this.pid = init.pid;
    const keep = init.maxBuffer ?? MAX_BUFFER;
    const [stdin, stdout, stderr] = init.stdio;
    const output = (from: From): ProcessOutput => new ProcessOutput(() => this.#open(from), keep);
    if (init.terminal === undefined && (stdout === "pipe" || stdout === "inherit"))
      this.#outputs.stdout = output("stdout");
    if (stderr === "pipe" || (stderr === "inherit" && init.terminal === undefined)) {
      this.#outputs.stderr = output("stderr");
    }
    if (stdout === "inherit") this.#outputs.stdout?.stream().pipe(process.stdout, { end: false });
    if (stderr === "inherit") this.#outputs.stderr?.stream().pipe(process.stderr, { end: false });
    this.#limits = new Limits(init.limits, (signal) => this.kill(signal, { tree: true }));
    if (init.input !== undefined && stdin === "pipe") {
      this.#stdin = this.#open("stdin");
      this.#fed = feed(init.input, this.#stdin);
      this.#fed.catch(() => this.kill("SIGKILL", { tree: true }).catch(() => {}));
    }
  }

  /**
   * Standard input, or null when it is no pipe. `end()` is end of file for the process. A process that closes it,
   * or ends, without reading everything closes this stream without an error.
   */
  get stdin(): Writable | null {
    if (this.#init.terminal !== undefined || this.#init.stdio[0] !== "pipe") return null;
    this.#stdin ??= this.#open("stdin");
    return this.#stdin;
  }

  /** Standard output as a stream of bytes, or null when it is no pipe. */
  get stdout(): Readable | null {
    return this.#outputs.stdout?.stream() ?? null;
  }

  /** Standard error as a stream of bytes, or null when it is no pipe. */
  get stderr(): Readable | null {
    return this.#outputs.stderr?.stream() ?? null;
  }

  /** The process's terminal, both ways, or null when it has none. */
  get terminal(): Duplex | null {
    if (this.#init.terminal === undefined) return null;
    this.#terminal ??= this.#open("terminal");
    return this.#terminal;
  }

  /**
   * Sends a signal.
   *
   * @param options - `tree`: to everything that the process started, too; SIGKILL then leaves none alive
   * @returns whether there was still a process to send it to
   */
  async kill(signal: NodeJS.Signals = "SIGTERM", options: { tree?: boolean } = {}): Promise<boolean> {
    try {
      const { delivered } = await this.#init.host.request("subcontainer.kill", {
        process: this.#init.id,
        signal,
        ...(options.tree ? { tree: true } : {}),
      });
      return delivered;
    } catch (error) {
      // Forgotten by the host: it has ended, and its end was reported.
      if (error instanceof HostError && error.kind === "notFound") return false;
      throw error;
    }
  }

  /**
   * Asks it to end and waits until it has: SIGTERM, then, after the grace, SIGKILL to it and everything that it
   * started. What it printed may still be read afterwards.
   *
   * @param options - `signal`: another than SIGTERM; `grace`: milliseconds, default 10,000
   */
  async stop(options: { signal?: NodeJS.Signals; grace?: number } = {}): Promise<Ended> {
    const grace = setTimeout(
      () => this.kill("SIGKILL", { tree: true }).catch(() => {}),
      options.grace ?? STOP_GRACE,
    );
    try {
      await this.kill(options.signal ?? "SIGTERM");
      // It may want to print before it ends.
      this.#drain();
      return this.#asEnded(await this.#outcome());
    } finally {
      clearTimeout(grace);
      this.#limits.release();
    }
  }

  /** Changes the size of its terminal. */
  async resize(size: TerminalSize): Promise<void> {
    await this.#init.host.request("subcontainer.resize", {
      process: this.#init.id,
      size: { rows: size.rows, cols: size.cols },
    });
  }

  /** The bytes of one output as they come, only as fast as they are taken. Leaving the loop ends nothing. */
  async *bytes(from: From = "stdout"): AsyncGenerator<Uint8Array, void, void> {
    const output = this.#outputs[from];
    if (output === undefined) return;
    // What is not being read must not stop the process in the meantime.
    const other = this.#outputs[from === "stdout" ? "stderr" : "stdout"];
    if (other !== undefined) queueMicrotask(() => other.drain());
    yield* output.iterate();
  }

  /** The lines of one output as they come, without their newlines. */
  lines(from: From = "stdout"): AsyncGenerator<string, void, void> {
    return lines(this.bytes(from));
  }

  /** The lines of standard output. */
  [Symbol.asyncIterator](): AsyncGenerator<string, void, void> {
    return this.lines();
  }

  /**
   * Waits until the process and its output have ended. Output that nobody reads is read and kept as
   * {@link result} says; standard input that nobody writes to is closed.
   *
   * @throws ConnectionError when the host is gone, or whatever the input threw
   */
  wait(): Promise<Ended> {
    this.#ended ??= this.#wait();
    return this.#ended;
  }

  /**
   * Waits as {@link wait} does and gives back what was printed, as far as it was not read from {@link stdout} and
   * {@link stderr} themselves, at most `maxBuffer` bytes of each.
   */
  async result(encoding: "buffer"): Promise<ExecResult<Uint8Array>>;
  async result(encoding?: "utf8"): Promise<ExecResult<string>>;
  async result(encoding: "utf8" | "buffer" = "utf8"): Promise<ExecResult<string> | ExecResult<Uint8Array>> {
    const { outcome } = await this.wait();
    const { stdout, stderr } = this.#outputs;
    const common = {
      command: this.#init.command,
      outcome,
      stdoutTruncated: stdout?.collector.truncated ?? false,
      stderrTruncated: stderr?.collector.truncated ?? false,
      grace: this.#limits.grace,
      cause: this.#limits.cause,
    };
    return encoding === "buffer"
      ? new ExecResult<Uint8Array>({
          ...common,
          stdout: stdout?.collector.bytes() ?? new Uint8Array(),
          stderr: stderr?.collector.bytes() ?? new Uint8Array(),
        })
      : new ExecResult({
          ...common,
          stdout: stdout?.collector.text() ?? "",
          stderr: stderr?.collector.text() ?? "",
        });
  }

  /** Ends it and everything that it started, and waits. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill("SIGKILL", { tree: true });
    await this.wait();
  }

  async #wait(): Promise<Ended> {
    try {
      this.#drain();
      await Promise.all([this.#outputs.stdout?.ended(), this.#outputs.stderr?.ended()]);
      await this.#limits.settled;
      const outcome = await this.#outcome();
      await this.#inputError();
      await this.#limits.settled;
      return this.#asEnded(outcome);
    } finally {
      this.#limits.release();
      this.#stdin?.destroy();
    }
  }

  /** Asks the host how it ended; the host says so once. */
  #outcome(): Promise<Outcome> {
    this.#exited ??= this.#ask();
    return this.#exited;
  }

  async #ask(): Promise<Outcome> {
    const ask = (): Promise<Outcome> =>
      this.#init.host.request("subcontainer.wait", { process: this.#init.id }, ({ outcome }) => outcome);
    for (let lost: ConnectionError | undefined; ; ) {
      try {
        return await ask();
      } catch (error) {
        // A host that was replaced knows the process still. One that was killed has taken it along.
        const again = error instanceof ConnectionError && error.failure === "lost";
        if (!again || error.outcome !== "unknown") throw lost ?? error;
        lost = error;
      }
    }
  }

  #asEnded(outcome: Outcome): Ended {
    const reason = this.#limits.reason;
    // A handler of SIGTERM may end with any exit code: it was the limit that ended it all the same.
    const ended: Outcome = reason === undefined ? outcome : { kind: reason };
    return {
      outcome: ended,
      exitCode: exitCodeOf(ended),
      exitSignal: exitSignalOf(ended, this.#limits.grace),
    };
  }

  /** Closes the input that nobody writes to, and reads the output that nobody reads. */
  #drain(): void {
    if (this.#init.terminal === undefined) {
      if (this.#stdin === undefined) this.stdin?.end();
    } else if (this.#terminal === undefined) {
      this.terminal?.resume();
    }
    this.#outputs.stdout?.drain();
    this.#outputs.stderr?.drain();
  }

  /** Rejects if the input failed; does not wait for an input that nobody reads any more. */
  async #inputError(): Promise<void> {
    if (this.#fed !== undefined) await Promise.race([this.#fed, Promise.resolve()]);
  }

  #open(kind: "stdin" | "stdout" | "stderr" | "terminal"): Channel {
    return Channel.of(this.#init.host.socketPath, this.#init.id, kind);
  }
}
