/**
 * One connection to the host that carries requests. Owns the socket, the requests under way and their cancelling;
 * knows nothing of what they mean.
 *
 * ```text
 * connecting -- hello answered --> open -- close(), socket's end, broken protocol --> ended
 *      \------------------ refused, other version ------------------------------------/
 * ```
 *
 * A request costs one write, one read and one promise: no timer, no listener, no further microtask unless it was
 * asked for. That is what makes an `exec` cheaper than a local `spawn`.
 */
import { Buffer } from "node:buffer";
import { connect as connectSocket, type Socket } from "node:net";
import { ConnectionError, HostError } from "../errors.ts";
import type { Event, HelloResult, Methods, ProgressParams } from "../generated/protocol.ts";
import { MAX_LINE, PROTOCOL_VERSION, REQUEST_CANCELLED } from "../generated/protocol.ts";
import { LineSplitter } from "../wire/lines.ts";
import { decode, encodeNotification, encodeRequest, type MethodName } from "../wire/messages.ts";
import { type Address, socketPath, unreachable } from "./address.ts";

/** How far a request is. */
export type Progress = Omit<ProgressParams, "id">;

/** What any request may be given. */
export interface RequestOptions {
  /**
   * Ends the request. The promise is rejected with the signal's reason once whatever the request had started is
   * gone; at once when it was aborted before.
   */
  signal?: AbortSignal | undefined;
  /** Called as the request progresses. */
  onProgress?: ((progress: Progress) => void) | undefined;
}

interface Pending {
  readonly method: MethodName;
  readonly resolve: (value: never) => void;
  readonly reject: (reason: unknown) => void;
  readonly convert: ((result: never) => unknown) | undefined;
  readonly signal: AbortSignal | undefined;
  readonly onAbort: (() => void) | undefined;
  readonly onProgress: ((progress: Progress) => void) | undefined;
}

const READ_BUFFER = 128 * 1024;

/** See the module. */
export class Connection {
  /** The path of the host's socket. */
  readonly socketPath: string;
  /** Called with each `event` notification. */
  onEvent: ((event: Event) => void) | undefined;
  /** Called once, when the connection has ended. */
  onEnd: ((error: ConnectionError) => void) | undefined;

  readonly #address: Address;
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  readonly #lines: LineSplitter = new LineSplitter(MAX_LINE, (line) => this.#receive(line));
  #connected = false;
  #nextId = 1;
  #ended: ConnectionError | undefined;

  private constructor(address: Address) {
    this.#address = address;
    this.socketPath = socketPath(address);
    // With `onread` the bytes go from the kernel to the splitter in one reused buffer, past the stream machinery.
    this.#socket = connectSocket({
      path: this.socketPath,
      onread: {
        buffer: Buffer.allocUnsafeSlow(READ_BUFFER),
        callback: (length, buffer) => {
          this.#read(buffer as Buffer, length);
          return true;
        },
      },
    });
    this.#socket.on("connect", () => {
      this.#connected = true;
    });
    this.#socket.on("error", (error: NodeJS.ErrnoException) => {
      this.#end(
        this.#connected
          ? new ConnectionError(
              "lost",
              this.socketPath,
              `the connection to the host broke: ${error.message}`,
              {
                cause: error,
              },
            )
          : unreachable(this.socketPath, this.#address, error),
      );
    });
    this.#socket.on("end", () => this.#lost());
    this.#socket.on("close", () => this.#lost());
  }

  /**
   * Connects and agrees on a version.
   *
   * @param session - the one that an earlier host gave, to go on with it
   * @throws ConnectionError when no host answers, HostError when it speaks another version
   */
  static async open(
    address: Address,
    client: string,
    signal?: AbortSignal,
    session?: string,
  ): Promise<{ connection: Connection; hello: HelloResult }> {
    signal?.throwIfAborted();
    const connection = new Connection(address);
    try {
      const hello = await connection.request(
        "hello",
        { protocol: PROTOCOL_VERSION, client, ...(session === undefined ? {} : { session }) },
        undefined,
        signal === undefined ? undefined : { signal },
      );
      return { connection, hello };
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** Why the connection ended; undefined while it is open. */
  get ended(): ConnectionError | undefined {
    return this.#ended;
  }

  /**
   * Sends a request.
   *
   * @param convert - applied to the result before the promise is resolved, which saves a promise of its own
   * @throws HostError, ConnectionError, or the signal's reason
   */
  request<M extends MethodName, T = Methods[M]["result"]>(
    method: M,
    params: Methods[M]["params"],
    convert?: (result: Methods[M]["result"]) => T,
    options?: RequestOptions,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#ended !== undefined) {
        reject(this.#refusal(method));
        return;
      }
      const signal = options?.signal;
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      const id = this.#nextId++;
      const line = encodeRequest(id, method, params);
      const onAbort = signal && (() => this.#cancel(id));
      this.#pending.set(id, {
        method,
        resolve,
        reject,
        convert,
        signal,
        onAbort,
        onProgress: options?.onProgress,
      });
      if (onAbort) signal.addEventListener("abort", onAbort, { once: true });
      this.#socket.write(line);
    });
  }

  /** Closes the connection. Requests under way are rejected; what the connection owned is destroyed by the host. */
  close(): void {
    this.#end(new ConnectionError("closed", this.socketPath, "the connection to the host was closed"));
  }

  #cancel(id: number): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    // Nothing is over until the host says so: its answer comes once whatever had been started is gone. Only the
    // first request has started nothing yet, and whoever has not said hello may never answer.
    if (pending.method === "hello") this.close();
    else this.#socket.write(encodeNotification("$/cancelRequest", { id }));
  }

  #read(buffer: Buffer, length: number): void {
    try {
      this.#lines.push(length === buffer.length ? buffer : buffer.subarray(0, length));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#end(
        new ConnectionError("protocol", this.socketPath, `the host broke the protocol: ${reason}`, {
          cause: error,
        }),
      );
    }
  }

  #receive(line: string): void {
    if (this.#ended !== undefined) return;
    const message = decode(line);
    if (message.type === "notification") {
      this.#notify(message.method, message.params);
      return;
    }
    const pending = this.#pending.get(message.id);
    if (pending === undefined)
      throw new TypeError(`an answer to request ${message.id}, which is not under way`);
    this.#pending.delete(message.id);
    if (pending.onAbort) pending.signal?.removeEventListener("abort", pending.onAbort);
    if (message.type === "error") {
      const cancelled = message.code === REQUEST_CANCELLED && pending.signal?.aborted;
      pending.reject(
        cancelled
          ? pending.signal?.reason
          : new HostError(pending.method, message.message, message.code, message.data),
      );
      return;
    }
    if (pending.convert === undefined) {
      pending.resolve(message.result as never);
      return;
    }
    try {
      pending.resolve(pending.convert(message.result as never) as never);
    } catch (error) {
      pending.reject(error);
    }
  }

  #notify(method: string, params: unknown): void {
    if (method === "$/progress") {
      const { id, ...progress } = params as ProgressParams;
      guarded(this.#pending.get(id)?.onProgress, progress);
    } else if (method === "event") {
      guarded(this.onEvent, params as Event);
    }
    // Others are of a later version; a client that does not know them does not need them.
  }

  #lost(): void {
    const half = this.#lines.held > 0 ? ", in the middle of a message" : "";
    this.#end(new ConnectionError("lost", this.socketPath, `the host closed the connection${half}`));
  }

  #end(error: ConnectionError): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#socket.destroy();
    for (const pending of this.#pending.values()) {
      if (pending.onAbort) pending.signal?.removeEventListener("abort", pending.onAbort);
      const hello = pending.method === "hello";
      if (hello && pending.signal?.aborted) pending.reject(pending.signal.reason);
      else pending.reject(hello ? error : this.#interruption(pending.method, error));
    }
    this.#pending.clear();
    this.onEnd?.(error);
  }

  /** What becomes of a request that was sent and not answered. */
  #interruption(method: string, error: ConnectionError): ConnectionError {
    const message = `${method}: ${error.message}; whether it was carried out is not known`;
    return new ConnectionError(error.failure, this.socketPath, message, { cause: error, outcome: "unknown" });
  }

  /** A fresh error for each late request, so that its stack names who made it. */
  #refusal(method: string): ConnectionError {
    const ended = this.#ended as ConnectionError;
    return new ConnectionError(ended.failure, this.socketPath, `${method}: ${ended.message}`, {
      cause: ended,
    });
  }
}

/** Calls what the user gave. An error in there is the user's: it must not look like a broken connection. */
function guarded<T>(callback: ((value: T) => void) | undefined, value: T): void {
  try {
    callback?.(value);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
