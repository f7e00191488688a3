/**
 * Runs of daemons on a real host: a command in a subcontainer, or a function that may lead to one.
 */
import { constants } from "node:os";
import { clearTimeout, setTimeout } from "node:timers";
import { ConnectionError } from "../errors.ts";
import type { Outcome } from "../generated/protocol.ts";
import type { Process } from "../process/process.ts";
import type { SubContainer } from "../subcontainer/subcontainer.ts";
import { eager, type Sub } from "./checks.ts";
import type { Instance } from "./driver.ts";
import { type ExecCommandOptions, type ExecFnOptions, UseEntrypoint } from "./exec.ts";
import { Follow } from "./follow.ts";
import type { Cause } from "./machine.ts";
import { causeOf } from "./status.ts";
import type { Tail } from "./tail.ts";

const STDIO = ["ignore", "log", "log"] as const;

/** How a command is started. */
export interface CommandStart {
  readonly sub: Sub;
  readonly exec: ExecCommandOptions;
  /** It leads its subcontainer, in which nobody else runs: as PID 1 or under our init. */
  readonly leads: boolean;
  readonly tail: Tail;
}

/** Starts a command; resolves when it runs. */
export async function startCommand(start: CommandStart, signal: AbortSignal): Promise<Instance> {
  const { exec, leads } = start;
  const { command, runAsInit, launch, onStdout: _, onStderr: __, sigtermTimeout: ___, ...inside } = exec;
  const sub = await eager(start.sub);
  const words = command instanceof UseEntrypoint ? await command.of(sub) : command;
  const argv = typeof words === "string" ? ["/bin/sh", "-c", words] : words;
  signal.throwIfAborted();
  // The signal ends a start, not what was started: its end is asked for with a grace.
  const options = { ...inside, stdio: STDIO };
  const since = Date.now() - 1;
  let process: Process;
  if (leads) {
    process = await sub.launch(argv, {
      ...launch,
      ...options,
      init: !runAsInit || (launch?.init ?? false),
    });
  } else {
    if (launch !== undefined) await sub.lead(launch);
    const { log, logDriver } = launch ?? {};
    process = await sub.spawn(argv, { ...options, log, logDriver, tree: true });
  }
  return new Running(start, sub, process, since);
}

/** A command that runs. */
class Running implements Instance {
  readonly pid: number;
  readonly #start: CommandStart;
  readonly #sub: SubContainer;
  readonly #output: Follow;
  #process: Process;
  #killer: NodeJS.Timeout | undefined;

  constructor(start: CommandStart, sub: SubContainer, process: Process, since: number) {
    const { exec, tail } = start;
    this.#start = start;
    this.#sub = sub;
    this.#process = process;
    this.pid = process.pid;
    this.#output = new Follow(sub, process.pid, since, ({ stream, data }) => {
      tail.add(data);
      (stream === "stdout" ? exec.onStdout : exec.onStderr)?.(data);
    });
  }

  async ended(): Promise<Cause> {
    try {
      const { outcome } = await this.#process.wait();
      await this.#output.finish();
      return this.#causeOf(outcome);
    } catch (error) {
      await this.#output.interrupt();
      throw error;
    } finally {
      clearTimeout(this.#killer);
    }
  }

  async stop(grace: number): Promise<void> {
    clearTimeout(this.#killer);
    const kill = (): Promise<boolean> => this.#process.kill("SIGKILL", { tree: true });
    if (grace <= 0) return void (await kill());
    this.#killer = setTimeout(() => void kill().catch(() => {}), grace);
    await this.#process.kill("SIGTERM");
  }

  /** Leaders outlive their host, and the next one knows them; commands beside one are ended by it. */
  async back(): Promise<Cause | null> {
    const { state } = await this.#sub.inspect();
    if (!this.#start.leads) return { kind: "unknown" };
    if (state.status === "exited") return this.#causeOf(state.outcome);
    if (state.status !== "running" || state.pid !== this.pid) return { kind: "unknown" };
    const process = await this.#sub.leader({ stdio: STDIO });
    if (process === null) return { kind: "unknown" };
    this.#process = process;
    this.#output.resume();
    return null;
  }

  /** Our init ends with 128 and the number of the signal that has ended its child, as a shell does. */
  #causeOf(outcome: Outcome): Cause {
    const { leads, exec } = this.#start;
    if (outcome.kind === "exit" && leads && (!exec.runAsInit || exec.launch?.init)) {
      const signal = Object.entries(constants.signals).find(
        ([, number]) => number === outcome.code - 128,
      )?.[0];
      if (signal !== undefined) return { kind: "signal", signal };
    }
    return causeOf(outcome);
  }
}

/** Runs a function, then the command that it gives. */
export function startFunction(sub: Sub | null, exec: ExecFnOptions, leads: boolean, tail: Tail): Instance {
  const abort = new AbortController();
  let giveUp: (() => void) | undefined;
  let timer: NodeJS.Timeout | undefined;
  let command: Instance | undefined;
  let told: number | undefined;
  const run = async (): Promise<Cause> => {
    const late = new Promise<null>((resolve) => {
      giveUp = () => resolve(null);
    });
    // A function cannot be ended from outside: after its grace it is left to itself.
    const call = async () => exec.fn((sub && (await eager(sub))) as SubContainer, abort.signal);
    const given = await Promise.race([call(), late]);
    clearTimeout(timer);
    if (given === null || abort.signal.aborted) return { kind: "exit", code: 0 };
    if (sub === null) throw new Error("a command needs a subcontainer");
    command = await startCommand({ sub, exec: given, leads, tail }, abort.signal);
    if (told !== undefined) await command.stop(told);
    return command.ended();
  };
  let over = run().catch((error: unknown): Cause => {
    if (error instanceof ConnectionError) throw error;
    return { kind: "error", message: error instanceof Error ? error.message : String(error) };
  });
  // It may be asked for late.
  over.catch(() => {});
  return {
    get pid() {
      return command?.pid ?? null;
    },
    ended: () => over,
    back: async () => {
      if (command?.back === undefined) throw new Error("it was lost before its command ran");
      const cause = await command.back();
      if (cause === null) over = command.ended();
      return cause;
    },
    stop: async (grace) => {
      told = grace;
      abort.abort();
      if (command !== undefined) return command.stop(grace);
      clearTimeout(timer);
      timer = setTimeout(() => giveUp?.(), grace);
    },
  };
}
