/**
 * A connection to the host: where a program begins.
 */
import "../polyfill.ts";
import type { ConnectionError } from "../errors.ts";
import type { Event, HelloResult, Methods, SubcontainerInfo } from "../generated/protocol.ts";
import type { MethodName } from "../wire/messages.ts";
import type { Address } from "./address.ts";
import type { RequestOptions } from "./connection.ts";
import { events } from "./events.ts";
import type { HostConnection } from "./host-connection.ts";
import { Images } from "./images.ts";
import { Session } from "./session.ts";

/** Where the host is, and who connects. */
export interface ConnectOptions extends Address {
  /** Name and version of the program, for the host's log. */
  client?: string | undefined;
  /** Gives up connecting. */
  signal?: AbortSignal | undefined;
  /**
   * How long to look for another host when this one goes away, in milliseconds. Default 30,000; 0: not at all.
   *
   * A host that was killed, or replaced by a newer one, leaves containers running, and the next one keeps what belongs to
   * this program for a while (`info.grace`). Handles stay as they are. Requests that were under way are rejected with a
   * {@link ConnectionError} whose `outcome` is `unknown`; those that are made meanwhile wait. Processes of `exec` and `spawn`
   * are ended by the next host, their streams with the old one; leaders go on.
   */
  reconnect?: number | undefined;
}

const CLIENT = "start-container sdk";
const RECONNECT = 30_000;

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
  const { client = CLIENT, signal, reconnect = RECONNECT, ...address } = options;
  const session = await Session.open({ ...address, client, reconnect }, signal);
  return new Host(session, address, client);
}

/**
 * A connection to the host. An open one keeps the program running. Closing it, or the end of the program however it
 * comes, destroys every subcontainer that was created through it and not detached. The end of the host does not: see
 * {@link ConnectOptions.reconnect}.
 */
export class Host implements HostConnection, AsyncDisposable {
  /** The images in the host's store. */
  readonly images: Images;
  /** Called when the host has gone away and another is looked for. */
  onDisconnect: ((error: ConnectionError) => void) | undefined;
  /** Called when another has come; with the guids of what this program owned, and owns still. */
  onReconnect: ((resumed: readonly string[]) => void) | undefined;
  readonly #session: Session;
  readonly #address: Address;
  readonly #client: string;

  /** Use {@link connect}. */
  constructor(session: Session, address: Address, client: string) {
    this.#session = session;
    this.#address = address;
    this.#client = client;
    this.images = new Images(this);
    session.onDisconnect = (error) => this.onDisconnect?.(error);
    session.onReconnect = ({ resumed }) => this.onReconnect?.(resumed);
  }

  /** What the host of the moment said of itself: version and data directory. */
  get info(): HelloResult {
    return this.#session.hello;
  }

  /** The path of the host's socket. */
  get socketPath(): string {
    return this.#session.socketPath;
  }

  /** Why the connection has ended; undefined while it is open, and while another host is looked for. */
  get ended(): ConnectionError | undefined {
    return this.#session.ended;
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
    return this.#session.request(method, params, convert, options);
  }

  /** Every subcontainer of the host, oldest first, whoever owns it. */
  list(options?: RequestOptions): Promise<SubcontainerInfo[]> {
    return this.request("subcontainer.list", {}, ({ subcontainers }) => subcontainers, options);
  }

  /**
   * What happens to subcontainers and images, as it happens: created, launched, exited and by whom, health, limits,
   * mounted, unmounted, destroyed, imported, pulled, removed.
   *
   * @param options - `guid`: only of that one; `since`: first what happened since then, as far as it is kept (one to two
   * megabytes, across restarts of the host); `signal`: ends the loop, which then throws the signal's reason
   */
  events(
    options: {
      guid?: string | undefined;
      since?: Date | number | undefined;
      signal?: AbortSignal | undefined;
    } = {},
  ): AsyncGenerator<Event, void, void> {
    return events(this.#address, this.#client, options);
  }

  /** Closes the connection. Requests under way are rejected. */
  close(): void {
    this.#session.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}
