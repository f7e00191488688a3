/**
 * A job: work in a subcontainer that is there for just that, with what it mounts.
 *
 * ```text
 * lock the target -- before -- create and mount -- work -- destroy -- after -- release the lock
 *                       \--------- whatever fails, or is cancelled ------^
 * ```
 * Whatever becomes of the work, the subcontainer and its mounts go before anything else is done, and the target is not
 * anybody else's before that. When this program dies, the host does both; `after` is then nobody's.
 */
import "../polyfill.ts";
import type { HostConnection } from "../client/host-connection.ts";
import type { MountArray, Mounts } from "../mounts/mounts.ts";
import { SubContainerOwned } from "../subcontainer/owned.ts";
import type { ImageOptions, SubContainer } from "../subcontainer/subcontainer.ts";
import { acquireLock } from "./lock.ts";
import { type JobProgress, ProgressFeed, type ProgressUpdate } from "./progress.ts";

/** What a job is. */
export interface JobOptions {
  /** A name for people; also that of its subcontainer. */
  name: string;
  /** What it works on, by whatever name: two jobs on one target exclude each other, also those of other programs. */
  target: string;
  /** Wait for the target. Default false: a job that finds it taken fails with `busy`. */
  wait?: boolean | undefined;
  /** Where it runs. */
  image: ImageOptions;
  /** What it sees. */
  mounts?: Mounts | MountArray | null | undefined;
  /** Done first, when the target is ours: stop a service, take a snapshot. */
  before?: ((context: HookContext) => void | Promise<void>) | undefined;
  /** Done last, once `before` has begun, whatever became of the rest, and when it was cancelled, too. */
  after?: ((outcome: JobOutcome) => void | Promise<void>) | undefined;
  /** Cancels it. One that is aborted already starts nothing. */
  signal?: AbortSignal | undefined;
}

/** What a hook may use. */
export interface HookContext {
  /** Aborted when the job is cancelled. */
  readonly signal: AbortSignal;
  /** Says how far it is. */
  readonly progress: (update: ProgressUpdate) => void;
}

/** What the work may use. */
export interface JobContext extends HookContext {
  /** Gone when the work is over. */
  readonly sub: SubContainer;
}

/** What became of the work. */
export type JobOutcome =
  | { readonly ok: true }
  | { readonly ok: false; readonly cancelled: boolean; readonly error: unknown };

/** A job under way: `await` it for its result; iterate over it for how far it is. */
export class Job<T> implements PromiseLike<T>, AsyncIterable<JobProgress>, AsyncDisposable {
  readonly #feed = new ProgressFeed();
  readonly #cancel = new AbortController();
  readonly #result: Promise<T>;

  /** Use {@link runJob}. */
  constructor(host: HostConnection, options: JobOptions, work: (context: JobContext) => Promise<T>) {
    const { signal } = options;
    const both = signal === undefined ? this.#cancel.signal : AbortSignal.any([signal, this.#cancel.signal]);
    const context = { signal: both, progress: this.#feed.tell };
    this.#result = carryOut(host, options, context, work).finally(() => this.#feed.end());
    // Whoever awaits it gets the error.
    this.#result.catch(() => {});
  }

  /** Ends it. What it had is gone when the job is settled: rejected with `reason`. */
  cancel(reason?: unknown): void {
    this.#cancel.abort(reason);
  }

  /** How far it is, until it is over. A slow reader misses what was in between. */
  [Symbol.asyncIterator](): AsyncGenerator<JobProgress, void, undefined> {
    return this.#feed[Symbol.asyncIterator]();
  }

  // biome-ignore lint/suspicious/noThenProperty: being awaitable is what this class is for
  then<A = T, B = never>(
    onResult?: ((result: T) => A | PromiseLike<A>) | null,
    onError?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#result.then(onResult, onError);
  }

  /** As a promise's own. */
  catch<B = never>(onError?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<T | B> {
    return this.#result.catch(onError);
  }

  /** As a promise's own. */
  finally(onSettled?: (() => void) | null): Promise<T> {
    return this.#result.finally(onSettled);
  }

  /** Cancels it where it is under way, and waits until nothing of it is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.cancel();
    await this.#result.catch(() => {});
  }
}

/**
 * Starts a job.
 *
 * ```ts
 * const job = runJob(
 *   host,
 *   {
 *     name: "nightly backup",
 *     target: "backup:people",
 *     image: { imageId: "postgres" },
 *     mounts: Mounts.of().mountBackups({ mountpoint: "/backup" }),
 *   },
 *   (context) => dumpPostgres(context, { database: "people", file: "/backup/people.dump" }),
 * );
 * for await (const { phase, done } of job) console.log(phase, done);
 * const { sha256 } = await job;
 * ```
 *
 * @throws HostError `busy` when somebody works on the target; its message says who. Whatever the work or a hook throws;
 * an AggregateError of both when `after` fails after a failure
 */
export function runJob<T>(
  host: HostConnection,
  options: JobOptions,
  work: (context: JobContext) => Promise<T>,
): Job<T> {
  return new Job(host, options, work);
}

async function carryOut<T>(
  host: HostConnection,
  options: JobOptions,
  context: HookContext,
  work: (context: JobContext) => Promise<T>,
): Promise<T> {
  const { signal, progress } = context;
  signal.throwIfAborted();
  const { target, name: purpose, wait } = options;
  if (wait) progress({ phase: "wait" });
  const release = await acquireLock(host, target, { wait, purpose, signal });
  let result: T;
  try {
    result = await withHooks(options, context, () => inside(host, options, context, work));
  } catch (error) {
    await release().catch(() => {});
    throw error;
  }
  // With another host came others, perhaps, who have worked on the same meanwhile.
  if (!(await release()))
    throw new Error(`${purpose}: the lock on ${target} was lost meanwhile, with the host`);
  return result;
}

async function withHooks<T>(options: JobOptions, context: HookContext, work: () => Promise<T>): Promise<T> {
  const { before, after } = options;
  let result: T;
  try {
    if (before !== undefined) {
      context.progress({ phase: "before" });
      await before(context);
    }
    context.signal.throwIfAborted();
    result = await work();
  } catch (error) {
    context.progress({ phase: "after" });
    try {
      await after?.({ ok: false, cancelled: context.signal.aborted, error });
    } catch (second) {
      throw new AggregateError([error, second], "a job failed, and what comes after it, too");
    }
    throw error;
  }
  context.progress({ phase: "after" });
  await after?.({ ok: true });
  return result;
}

async function inside<T>(
  host: HostConnection,
  options: JobOptions,
  context: HookContext,
  work: (context: JobContext) => Promise<T>,
): Promise<T> {
  const { signal, progress } = context;
  progress({ phase: "create" });
  const image = { throwaway: true, ...options.image };
  const sub = await SubContainerOwned.of(host, image, options.mounts ?? null, options.name);
  let onAbort: (() => void) | undefined;
  try {
    signal.throwIfAborted();
    // Work that does not look at the signal ends when what it runs in is gone.
    const cancelled = new Promise<never>((_, reject) => {
      onAbort = () => void sub.destroy().then(() => reject(signal.reason), reject);
      signal.addEventListener("abort", onAbort, { once: true });
    });
    const working = work({ ...context, sub });
    working.catch(() => {});
    const result = await Promise.race([working, cancelled]);
    signal.throwIfAborted();
    return result;
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    if (onAbort !== undefined) signal.removeEventListener("abort", onAbort);
    await sub.destroy();
  }
}
