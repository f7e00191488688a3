/**
 * A connection that outlives its host. Owns the connection of the moment and the session by which the next host knows what
 * this program owns.
 *
 * ```text
 * open -- lost --> away -- a host answers in time --> open …
 *   \               \---- none does ----------------> ended
 *    \-- close(), broken protocol, other version --> ended
 * ```
 */
import { setTimeout as sleep } from "node:timers/promises";
import { ConnectionError } from "../errors.ts";
import type { HelloResult, Methods } from "../generated/protocol.ts";
import type { MethodName } from "../wire/messages.ts";
import type { Address } from "./address.ts";
import { Connection, type RequestOptions } from "./connection.ts";

/** The first pause between two attempts, and the longest, in milliseconds. */
const FIRST_PAUSE = 20;
const LONGEST_PAUSE = 1000;

/** How a {@link Session} connects. */
export interface SessionOptions extends Address {
  client: string;
  /** How long to look for another host, in milliseconds. */
  reconnect: number;
}

/** See the module. */
export class Session {
  /** Called when the host has gone away, and another is looked for. */
  onDisconnect: ((error: ConnectionError) => void) | undefined;
  /** Called when another has come. */
  onReconnect: ((hello: HelloResult) => void) | undefined;

  /** What the host said of itself. */
  hello: HelloResult;
  readonly #options: SessionOptions;
  #connection: Connection;
  #away: Promise<void> | undefined;
  #closed: AbortController = new AbortController();

  private constructor(options: SessionOptions, connection: Connection, hello: HelloResult) {
    this.#options = options;
    this.#connection = connection;
    this.hello = hello;
    this.#watch();
  }

  /** Connects. Throws as {@link Connection.open} does. */
  static async open(options: SessionOptions, signal?: AbortSignal): Promise<Session> {
    const { connection, hello } = await Connection.open(options, options.client, signal);
    return new Session(options, connection, hello);
  }

  /** The path of the host's socket. */
  get socketPath(): string {
    return this.#connection.socketPath;
  }

  /** Why it has ended; undefined while it is open, and while another host is looked for. */
  get ended(): ConnectionError | undefined {
    return this.#away === undefined ? this.#connection.ended : undefined;
  }

  /** As {@link Connection.request}. While no host is there, it waits for one. */
  request<M extends MethodName, T = Methods[M]["result"]>(
    method: M,
    params: Methods[M]["params"],
    convert?: (result: Methods[M]["result"]) => T,
    options?: RequestOptions,
  ): Promise<T> {
    if (this.#away === undefined) return this.#connection.request(method, params, convert, options);
    // In both cases the connection says what there is to say: the new one, or the one that has ended for good.
    return aborted(this.#away, options?.signal).then(() =>
      this.#connection.request(method, params, convert, options),
    );
  }

  /** Ends it, and the search for a host. */
  close(): void {
    this.#closed.abort();
    this.#connection.close();
  }

  #watch(): void {
    this.#connection.onEnd = (error) => {
      if (error.failure !== "lost" || this.#options.reconnect <= 0 || this.#closed.signal.aborted) return;
      this.#away = this.#search().finally(() => {
        this.#away = undefined;
      });
      // After the requests under way are told.
      queueMicrotask(() => this.onDisconnect?.(error));
    };
  }

  /** Comes to an end when there is another host, or none in time. Does not throw. */
  async #search(): Promise<void> {
    const until = performance.now() + this.#options.reconnect;
    const { signal } = this.#closed;
    for (let pause = FIRST_PAUSE; performance.now() < until; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
      try {
        // Not all at the same moment, when many have lost one host.
        await sleep(pause * (0.5 + Math.random() / 2), undefined, { signal });
        const { session } = this.hello;
        const { connection, hello } = await Connection.open(
          this.#options,
          this.#options.client,
          signal,
          session,
        );
        this.#connection = connection;
        this.hello = hello;
        this.#watch();
        queueMicrotask(() => this.onReconnect?.(hello));
        return;
      } catch (error) {
        if (signal.aborted) return;
        const retry = error instanceof ConnectionError && error.failure !== "protocol";
        // Another version, or no host of ours: nothing is better later.
        if (!retry) return;
      }
    }
  }
}

/** Waits, unless it is aborted first. */
function aborted(promise: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(() => {
      signal.removeEventListener("abort", abort);
      resolve();
    }, reject);
  });
}
