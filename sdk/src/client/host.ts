/**
 * A connection to the host: where a program begins.
 */
import "../polyfill.ts";
import type { ConnectionError } from "../errors.ts";
import type { Event, HelloResult, Methods, SubcontainerInfo } from "../generated/protocol.ts";
import type { MethodName } from "../wire/messages.ts";
import type { Address } from "./address.ts";
import { Connection, type RequestOptions } from "./connection.ts";
import { events } from "./events.ts";
import type { HostConnection } from "./host-connection.ts";
import { Images } from "./images.ts";

/** Where the host is, and who connects. */
export interface ConnectOptions extends Address {
  /** Name and version of the program, for the host's log. */
  client?: string | undefined;
  /** Gives up connecting. */
  signal?: AbortSignal | undefined;
}

const CLIENT = "start-container sdk";

/**
 * Connects to the host.
 *
 * ```ts
 * await using host = await connect();
 * ```
 *
 * @throws ConnectionError `unreachable` when no host runs there; its message says how to start one
 */
export async function connect(options: ConnectOptions = {}): Promise<Host> {
  const { client = CLIENT, signal, ...address } = options;
  const { connection, hello } = await Connection.open(address, client, signal);
  return new Host(connection, hello, address, client);
}

/**
 * A connection to the host. An open one keeps the program running. Closing it, or the end of the program however it
 * comes, destroys every subcontainer that was created through it and not detached.
 */
export class Host implements HostConnection, AsyncDisposable {
  /** The images in the host's store. */
  readonly images: Images;
  /** What the host said of itself: version and data directory. */
  readonly info: HelloResult;
  readonly #connection: Connection;
  readonly #address: Address;
  readonly #client: string;

  /** Use {@link connect}. */
  constructor(connection: Connection, info: HelloResult, address: Address, client: string) {
    this.#connection = connection;
    this.#address = address;
    this.#client = client;
    this.info = info;
    this.images = new Images(this);
  }

  /** The path of the host's socket. */
  get socketPath(): string {
    return this.#connection.socketPath;
  }

  /** Why the connection has ended; undefined while it is open. */
  get ended(): ConnectionError | undefined {
    return this.#connection.ended;
  }

  /**
   * Sends one request of the protocol as it is. Everything else here is made of this.
   *
   * @throws HostError, ConnectionError, or the signal's reason
   */
  request<M extends MethodName, T = Methods[M]["result"]>(
    method: M,
    params: Methods[M]["params"],
    convert?: (result: Methods[M]["result"]) => T,
    options?: RequestOptions,
  ): Promise<T> {
    return this.#connection.request(method, params, convert, options);
  }

  /** Every subcontainer of the host, oldest first, whoever owns it. */
  list(options?: RequestOptions): Promise<SubcontainerInfo[]> {
    return this.request("subcontainer.list", {}, ({ subcontainers }) => subcontainers, options);
  }

  /**
   * What happens to subcontainers, as it happens: created, launched, exited, mounted, unmounted, destroyed.
   *
   * @param options - `guid`: only of that one; `signal`: ends the loop, which then throws the signal's reason
   */
  events(
    options: { guid?: string | undefined; signal?: AbortSignal | undefined } = {},
  ): AsyncGenerator<Event, void, void> {
    return events(this.#address, this.#client, options);
  }

  /** Closes the connection. Requests under way are rejected. */
  close(): void {
    this.#connection.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}
