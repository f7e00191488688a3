/**
 * A connection that carries the bytes of one stream of a process, of a log, or of a TCP connection to a port inside.
 *
 * ```text
 * socket connects, its one request is written with it -- answered --> raw bytes, both ways -- end --> closed
 * ```
 *
 * Backpressure is the socket's own: a reader that stops reading stops the process.
 */
import { Buffer } from "node:buffer";
import { connect as connectSocket, type Socket } from "node:net";
import { Duplex, type DuplexOptions } from "node:stream";
import { ConnectionError, HostError } from "../errors.ts";
import type { ConnectParams, LogsParams, NetConnectParams, StreamKind } from "../generated/protocol.ts";
import { decode, encodeRequest } from "../wire/messages.ts";

const NEWLINE = 10;
/** The answer is short; more without a newline is no answer. */
const ANSWER_LIMIT = 64 * 1024;
/** Large reads cost fewer wake-ups; the process blocks when this much waits unread. */
const HIGH_WATER_MARK = 1024 * 1024;
/** More than a socket of Linux holds by default. */
const LARGE_READ = 256 * 1024;
const SMALL_READ = 32 * 1024;

/** The first and only request of a connection that then carries bytes. */
type Opening =
  | { readonly method: "stream.attach"; readonly params: { process: string; stream: StreamKind } }
  | { readonly method: "stream.connect"; readonly params: ConnectParams }
  | { readonly method: "net.connect"; readonly params: NetConnectParams }
  | { readonly method: "logs.read"; readonly params: LogsParams };

/** One stream of one process, a log, or a connection to a port. Reading and writing may begin at once. */
export class Channel extends Duplex {
  readonly #socket: Socket;
  readonly #path: string;
  readonly #method: Opening["method"];
  readonly #kind: StreamKind | "port" | "log";
  #answer: Buffer | undefined = Buffer.alloc(0);
  #buffer: Buffer | undefined;
  #written = false;
  #finished: ((error?: Error | null) => void) | undefined;

  /** Called once the other side is there. */
  #opened: (() => void) | undefined;

  private constructor(socketPath: string, opening: Opening) {
    const other = opening.method === "logs.read" ? "log" : "port";
    const kind = opening.method === "stream.attach" ? opening.params.stream : other;
    // What only carries output has no writing side, and the other way round. Node's types lack these two options.
    const sides = {
      readable: kind !== "stdin",
      writable: kind === "stdin" || kind === "terminal" || kind === "port",
    };
    super({ highWaterMark: HIGH_WATER_MARK, ...sides } as DuplexOptions);
    this.#path = socketPath;
    this.#kind = kind;
    this.#method = opening.method;
    this.#socket = connectSocket({
      path: socketPath,
      allowHalfOpen: true,
      // Past the socket's own stream, in reads as large as the kernel has them: twice as fast as `data` events.
      onread: { buffer: () => this.#room(), callback: (length) => this.#filled(length) },
    });
    this.#socket.write(encodeRequest(1, opening.method, opening.params));
    this.#socket.on("end", () => this.#inputEnded());
    this.#socket.on("error", (error: NodeJS.ErrnoException) => this.#failed(error));
    this.#socket.on("close", () => this.#closed());
  }

  /** One stream of one process. */
  static of(socketPath: string, process: string, stream: StreamKind): Channel {
    return new Channel(socketPath, { method: "stream.attach", params: { process, stream } });
  }

  /** What was kept of a container's output. */
  static log(socketPath: string, params: LogsParams): Channel {
    return new Channel(socketPath, { method: "logs.read", params });
  }

  /** A port inside. */
  static to(socketPath: string, params: ConnectParams): Channel {
    return new Channel(socketPath, { method: "stream.connect", params });
  }

  /** A port of another machine, for package code. */
  static outside(socketPath: string, params: NetConnectParams): Channel {
    return new Channel(socketPath, { method: "net.connect", params });
  }

  /** Resolves when the other side is there; rejected with why it is not. */
  attached(): Promise<this> {
    return new Promise((resolve, reject) => {
      if (this.#answer === undefined || this.destroyed) return resolve(this);
      this.#opened = () => resolve(this);
      this.on("error", reject);
    });
  }

  override _read(): void {
    if (this.#answer === undefined) this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#socket.write(chunk, done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this.#socket.cork();
    for (const [index, { chunk }] of chunks.entries()) {
      if (index === chunks.length - 1) this.#socket.write(chunk, done);
      else this.#socket.write(chunk);
    }
    this.#socket.uncork();
  }

  override _final(done: (error?: Error | null) => void): void {
    // End of file reaches the process when the writing half is shut down. The socket itself stays until the answer
    // has come: closing a Unix socket with bytes unread resets it, and what was written would be lost with it.
    this.#finished = done;
    this.#socket.end(() => {
      this.#written = true;
      this.#finish();
    });
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.destroy();
    this.#finish();
    done(error);
  }

  #finish(): void {
    if (!this.destroyed && (this.#answer !== undefined || !this.#written)) return;
    this.#finished?.();
    this.#finished = undefined;
  }

  /** Where the next bytes go. */
  #room(): Buffer {
    this.#buffer ??= Buffer.allocUnsafeSlow(this.#kind === "stdin" ? SMALL_READ : LARGE_READ);
    return this.#buffer;
  }

  /** Says whether to go on reading. */
  #filled(length: number): boolean {
    const bytes = this.#room().subarray(0, length);
    if (length < SMALL_READ) return this.#take(Buffer.from(bytes));
    // A reader gets a buffer that is well filled as it is, and the next bytes another one.
    this.#buffer = undefined;
    return this.#take(bytes);
  }

  #take(chunk: Buffer): boolean {
    if (this.#answer === undefined) return this.#kind === "stdin" || this.push(chunk);
    const answer = Buffer.concat([this.#answer, chunk]);
    const end = answer.indexOf(NEWLINE);
    if (end === -1) {
      if (answer.length > ANSWER_LIMIT) this.#broken(`no answer to ${this.#method}`);
      this.#answer = answer;
      return true;
    }
    this.#answer = undefined;
    try {
      const message = decode(answer.toString("utf8", 0, end));
      if (message.type === "error") {
        this.destroy(new HostError(this.#method, message.message, message.code, message.data));
        return true;
      }
    } catch (error) {
      this.#broken(error instanceof Error ? error.message : String(error));
      return true;
    }
    this.#opened?.();
    this.#finish();
    const rest = answer.subarray(end + 1);
    return rest.length === 0 || this.#take(rest);
  }

  #inputEnded(): void {
    if (this.#answer !== undefined) {
      this.destroy(
        new ConnectionError("lost", this.#path, `the host closed the connection of ${this.#kind}`),
      );
    } else if (this.#kind === "stdin") {
      // The process has closed its end, or is gone: what is not written yet is wanted by nobody.
      if (this.writableFinished) this.#socket.end();
      else this.destroy();
    } else {
      this.push(null);
      if (!this.writable) this.#socket.end();
    }
  }

  #failed(error: NodeJS.ErrnoException): void {
    const gone = error.code === "EPIPE" || error.code === "ECONNRESET";
    // A process that does not read all of its input is no failure, as in a shell's pipeline.
    if (gone && this.#answer === undefined && this.writable) this.destroy();
    else
      this.destroy(
        new ConnectionError("lost", this.#path, `the connection of ${this.#kind} broke: ${error.message}`, {
          cause: error,
        }),
      );
  }

  #closed(): void {
    if (this.#kind !== "stdin" && !this.readableEnded && this.#answer === undefined && !this.destroyed) {
      this.push(null);
    }
    if (!this.destroyed && this.#answer !== undefined) this.#inputEnded();
    if (!this.destroyed && this.#kind === "stdin") this.destroy();
  }

  #broken(reason: string): void {
    this.destroy(new ConnectionError("protocol", this.#path, `the host broke the protocol: ${reason}`));
  }
}
