/**
 * A command that has been asked for: awaitable for its result, iterable for its lines as they come.
 */

import type { From, Process } from "./process.ts";
import type { ExecResult, Output } from "./result.ts";

/**
 * A command under way. `await` it for its result; iterate over it for the lines of its standard output; do both, and
 * the result holds what was iterated too.
 *
 * ```ts
 * const make = sub.run(["make", "-j4"]);
 * for await (const line of make) console.log(line);
 * const { exitCode } = await make;
 * ```
 */
export class Run<T extends Output = string> implements PromiseLike<ExecResult<T>>, AsyncIterable<string> {
  /** The process, once it runs. Rejected when it could not be started. */
  readonly process: Promise<Process>;
  readonly #collect: (process: Process) => Promise<ExecResult<T>>;
  readonly #recover: (error: unknown) => ExecResult<T>;
  #result: Promise<ExecResult<T>> | undefined;

  /**
   * @param process - resolves when it runs
   * @param collect - makes a result of it
   * @param recover - makes a result of a failed start, or throws
   */
  constructor(
    process: Promise<Process>,
    collect: (process: Process) => Promise<ExecResult<T>>,
    recover: (error: unknown) => ExecResult<T>,
  ) {
    this.process = process;
    this.#collect = collect;
    this.#recover = recover;
    // Whoever awaits or iterates gets the error; one that nobody asked for is not an unhandled one.
    process.catch(() => {});
  }

  /** The result, once the command and its output have ended. Never rejected for how the command ended. */
  result(): Promise<ExecResult<T>> {
    this.#result ??= this.process.then(this.#collect, this.#recover);
    return this.#result;
  }

  // biome-ignore lint/suspicious/noThenProperty: being awaitable is what this class is for
  then<A = ExecResult<T>, B = never>(
    onResult?: ((result: ExecResult<T>) => A | PromiseLike<A>) | null,
    onError?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.result().then(onResult, onError);
  }

  /** As a promise's own. */
  catch<B = never>(onError?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<ExecResult<T> | B> {
    return this.result().catch(onError);
  }

  /** As a promise's own. */
  finally(onSettled?: (() => void) | null): Promise<ExecResult<T>> {
    return this.result().finally(onSettled);
  }

  /** Sends a signal, SIGTERM unless another is named. */
  async kill(signal?: NodeJS.Signals, options?: { tree?: boolean }): Promise<boolean> {
    return (await this.process).kill(signal, options);
  }

  /** The lines of one output as they come. */
  async *lines(from: From = "stdout"): AsyncGenerator<string, void, void> {
    yield* (await this.process).lines(from);
  }

  /** The bytes of one output as they come. */
  async *bytes(from: From = "stdout"): AsyncGenerator<Uint8Array, void, void> {
    yield* (await this.process).bytes(from);
  }

  /** The lines of standard output. */
  [Symbol.asyncIterator](): AsyncGenerator<string, void, void> {
    return this.lines();
  }
}
