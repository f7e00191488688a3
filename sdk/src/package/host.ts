/**
 * The host, as the code of a package sees it: through the package's own socket, with what it was granted and nothing else.
 *
 * ```text
 * connectHost ── hello ──▶ open ── any number of calls, each checked and written down ──▶ closed
 * ```
 *
 * A small client over the generated types: every call of the broker's is a {@link PackageHost.call}, and the usual ones have
 * names. Nothing here decides what is allowed; the host does.
 */
import { Buffer } from "node:buffer";
import { connect as connectSocket } from "node:net";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { Channel } from "../client/channel.ts";
import { Connection, type RequestOptions } from "../client/connection.ts";
import type { HostConnection } from "../client/host-connection.ts";
import { connected } from "../client/inside.ts";
import { ConnectionError, HostError } from "../errors.ts";
import type {
  AuditEntry,
  DirEntry,
  HttpFetchParams,
  KvKey,
  LogLevel,
  Methods,
  NodeInfo,
  Outcome,
  PackageHelloResult,
  PackageMethods,
  StatsResult,
  TaskInfo,
  VolumeInfo,
} from "../generated/protocol.ts";
import { fromInput, toBytes } from "../wire/data.ts";
import { decode, type MethodName } from "../wire/messages.ts";

/** Where a package finds the host. */
const SOCKET = "/media/startos/rpc/host.sock";
/** Bytes that one call carries. */
const CHUNK = 512 * 1024;

/** How to connect. */
export interface ConnectHostOptions {
  /** The package's socket. Default: `/media/startos/rpc/host.sock`, where it is in every service of a package. */
  socket?: string;
  /** Name and version of this program, for the host's log. */
  client?: string;
  /** Gives up. */
  signal?: AbortSignal;
}

/** A value, and which revision of it. */
export interface Revisioned<T> {
  /** Undefined where there is none. */
  value: T | undefined;
  /** 0 where there is none. */
  revision: number;
}

/** Capabilities by name, each with what it reaches. */
export type Scopes = PackageHelloResult["granted"];

/** A name of a call: `kv.get`. */
export type PackageMethod = keyof PackageMethods;

type Request = <M extends PackageMethod>(
  method: M,
  params: PackageMethods[M]["params"],
  convert?: undefined,
  options?: RequestOptions,
) => Promise<PackageMethods[M]["result"]>;

/**
 * Connects to the host as this package.
 *
 * @throws ConnectionError when nobody answers: the package is not active, or this is no service of one
 */
export async function connectHost(options: ConnectHostOptions = {}): Promise<PackageHost> {
  const socket = options.socket ?? SOCKET;
  const client = options.client ?? "a package";
  const { connection, hello } = await Connection.open({ socket }, client, options.signal);
  // The same words on another socket: what they carry there is told by `PackageMethods`.
  return new PackageHost(connection, hello as unknown as PackageHelloResult);
}

/**
 * See {@link connectHost}. With the capability `subcontainers` it takes the place of the `host` that `connect` gives:
 *
 * ```ts
 * await using host = await connectHost();
 * await using db = await SubContainer.of(host, { imageId: "main" }, Mounts.of().mountVolume({ … }));
 * const { stdout } = await db.execFail(["echo", "hello"]);
 * ```
 *
 * Images are those of the manifest, by their names there; what is made is in the package's sandbox. What would loosen that is
 * refused by its name. Closing the connection destroys what was created through it and not detached; the end of the package
 * destroys everything. `exec` keeps 512 KiB of each output unless `maxBuffer` says otherwise.
 */
export class PackageHost implements HostConnection, AsyncDisposable {
  /** Bytes of data that one message carries. */
  readonly maxData: number = CHUNK;
  /** Whose code this is. */
  readonly packageId: string;
  /** What it was granted when it connected. */
  readonly granted: Scopes;
  /** Files beneath the paths that were granted. */
  readonly files: PackageFiles;
  /** Secrets, by the names that were granted. They cannot be listed. */
  readonly secrets: PackageSecrets;
  readonly #connection: Connection;

  /** @internal */
  constructor(connection: Connection, hello: PackageHelloResult) {
    this.#connection = connection;
    this.packageId = hello.packageId;
    this.granted = hello.granted;
    this.files = new PackageFiles(this, connection.socketPath);
    this.secrets = new PackageSecrets(this);
  }

  /**
   * Any call.
   *
   * @throws HostError with `kind` `denied` and what is `missing` when it was not granted, `unavailable` when this version of
   * the host does not carry it out, `quarantined`, `exhausted` when it is too much
   */
  call<M extends PackageMethod>(
    method: M,
    params: PackageMethods[M]["params"],
    options?: RequestOptions,
  ): Promise<PackageMethods[M]["result"]> {
    const request = this.#connection.request.bind(this.#connection) as unknown as Request;
    return request(method, params, undefined, options);
  }

  /** The path of the package's socket. */
  get socketPath(): string {
    return this.#connection.socketPath;
  }

  /** Why the connection has ended; undefined while it is open. */
  get ended(): ConnectionError | undefined {
    return this.#connection.ended;
  }

  /**
   * One of the host's own methods, in what the package has made. Subcontainers, files, processes and daemons are made of this.
   *
   * @throws HostError with `kind` `denied` when it was not granted, or would loosen what holds the package; `notFound` for
   * what the package has not made, whoever has
   */
  request<M extends MethodName, T = Methods[M]["result"]>(
    method: M,
    params: Methods[M]["params"],
    convert?: (result: Methods[M]["result"]) => T,
    options?: RequestOptions,
  ): Promise<T> {
    return this.#connection.request(method, params, convert, options);
  }

  /** The keys of a group of the package's own store. */
  kv(group: string): PackageKeys {
    return new PackageKeys(this, group);
  }

  /** Starts a command in the package's sandbox, word for word as it was granted. */
  async run(command: string[], options: { service?: string } = {}): Promise<PackageProcess> {
    const { process } = await this.call("process.run", { command, ...options });
    return new PackageProcess(this, process);
  }

  /**
   * Runs a job of the manifest to its end, in a subcontainer of its own.
   *
   * @returns how it ended and what it printed; `error` says why it could not be run
   * @throws HostError with `kind` `busy` while it runs already, or the signal's reason, which ends the wait and not the job
   */
  async runTask(task: string, options: { signal?: AbortSignal } = {}): Promise<TaskInfo> {
    const { runs } = await this.call("task.run", { task }, options);
    for (let pause = 10; ; pause = Math.min(pause * 2, 1000)) {
      const [info] = await this.tasks(task);
      if (info !== undefined && (!info.running || info.runs !== runs)) return info;
      await sleep(pause, undefined, options);
    }
  }

  /** What became of the last run of each job of the manifest, or of one. */
  async tasks(task?: string): Promise<TaskInfo[]> {
    return (await this.call("task.read", task === undefined ? {} : { task })).tasks;
  }

  /** The volumes that were granted with `volumes`, and their room. */
  async volumes(): Promise<VolumeInfo[]> {
    return (await this.call("volumes.list", {})).volumes;
  }

  /** What the machine is like: nothing that tells which one it is. */
  node(): Promise<NodeInfo> {
    return this.call("node.read", {});
  }

  /** Sends a request to the outside. */
  fetch(request: HttpFetchParams, options?: RequestOptions): Promise<PackageMethods["http.fetch"]["result"]> {
    return this.call("http.fetch", request, options);
  }

  /**
   * Connects to a host and port of another machine, by TCP, through the host. Whoever gets the stream has to `destroy` it; it
   * ends with the package.
   *
   * @param to - as granted with `net`: `db.example.com:5432`
   * @param options - `timeout`: milliseconds to connect, 30,000 by default and at most
   * @throws HostError `denied` when it was not granted, or its address is none of the public network's; `network`; `timedOut`;
   * or the signal's reason
   */
  async connect(to: string, options: { timeout?: number; signal?: AbortSignal } = {}): Promise<Duplex> {
    const { timeout, signal } = options;
    signal?.throwIfAborted();
    const params = { to, ...(timeout === undefined ? {} : { timeout }) };
    return await connected(Channel.outside(this.socketPath, params), signal);
  }

  /** Writes to the host's log. */
  async log(message: string, level: LogLevel = "info"): Promise<void> {
    await this.call("log.write", { level, message });
  }

  /** Tells the operator. */
  async notify(channel: string, title: string, message = ""): Promise<void> {
    await this.call("notify.send", { channel, title, message });
  }

  /** What the package's sandbox uses. */
  usage(): Promise<StatsResult> {
    return this.call("monitor.read", {});
  }

  /** What was written down about this package, oldest first. */
  async audit(last = 100): Promise<AuditEntry[]> {
    return (await this.call("audit.read", { last })).entries;
  }

  /** Ends the connection. */
  close(): void {
    this.#connection.close();
  }

  /** As {@link PackageHost.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}

/** Keys of one group. */
export class PackageKeys {
  readonly #host: PackageHost;
  readonly #group: string;

  /** @internal */
  constructor(host: PackageHost, group: string) {
    this.#host = host;
    this.#group = group;
  }

  /** Reads a key. */
  async get<T = unknown>(key: string): Promise<Revisioned<T>> {
    const { value, revision } = await this.#host.call("kv.get", { group: this.#group, key });
    return { value: revision === 0 ? undefined : (value as T), revision };
  }

  /**
   * Writes a key. With `ifRevision`, only if that is its revision (0: if there is none).
   *
   * @returns its new revision
   * @throws HostError with `kind` `conflict` when it has another revision
   */
  async set(key: string, value: unknown, options: { ifRevision?: number } = {}): Promise<number> {
    return (await this.#host.call("kv.set", { group: this.#group, key, value, ...options })).revision;
  }

  /** Reads, changes and writes a key, again and again until nobody else has written in between. */
  async update<T>(key: string, change: (value: T | undefined) => T): Promise<T> {
    for (;;) {
      const { value, revision } = await this.get<T>(key);
      const changed = change(value);
      try {
        await this.set(key, changed, { ifRevision: revision });
        return changed;
      } catch (error) {
        if (!(error instanceof HostError && error.kind === "conflict")) throw error;
      }
    }
  }

  /** Deletes a key. @returns whether there was one */
  async delete(key: string, options: { ifRevision?: number } = {}): Promise<boolean> {
    return (await this.#host.call("kv.delete", { group: this.#group, key, ...options })).deleted;
  }

  /** All keys that begin like this, in the order of their bytes. */
  async *list(prefix = ""): AsyncGenerator<KvKey, void, undefined> {
    for (let after: string | undefined; ; ) {
      const page = await this.#host.call("kv.list", {
        group: this.#group,
        prefix,
        ...(after === undefined ? {} : { after }),
      });
      yield* page.keys;
      if (!page.more) return;
      after = page.keys.at(-1)?.key;
    }
  }
}

/** Secrets of a package. */
export class PackageSecrets {
  readonly #host: PackageHost;

  /** @internal */
  constructor(host: PackageHost) {
    this.#host = host;
  }

  /** Reads a secret; undefined where nobody has set it. */
  async get(name: string): Promise<Buffer | undefined> {
    const { value } = await this.#host.call("secrets.get", { name });
    return value === undefined ? undefined : toBytes(value);
  }

  /** Writes a secret, 64 KiB at most. */
  async set(name: string, value: string | Uint8Array): Promise<void> {
    await this.#host.call("secrets.set", { name, value: fromInput(value) });
  }

  /** Deletes a secret. @returns whether there was one */
  async delete(name: string): Promise<boolean> {
    return (await this.#host.call("secrets.delete", { name })).deleted;
  }
}

/** Files of a package, by absolute paths as the package sees them. */
export class PackageFiles {
  readonly #host: PackageHost;
  readonly #socket: string;

  /** @internal */
  constructor(host: PackageHost, socket: string) {
    this.#host = host;
    this.#socket = socket;
  }

  /** Reads a whole file, chunk by chunk. */
  async *chunks(path: string): AsyncGenerator<Buffer, void, undefined> {
    for (let offset = 0; ; ) {
      const { data, eof } = await this.#host.call("files.read", { path, offset });
      const bytes = toBytes(data);
      if (bytes.length > 0) yield bytes;
      if (eof) return;
      offset += bytes.length;
    }
  }

  /** Reads a whole file into memory. */
  async read(path: string): Promise<Buffer> {
    return Buffer.concat(await collect(this.chunks(path)));
  }

  /** Writes a file in the place of what was there, in one step. */
  async write(path: string, content: string | Uint8Array): Promise<void> {
    const bytes = typeof content === "string" ? Buffer.from(content, "utf8") : content;
    if (bytes.length <= CHUNK) await this.#host.call("files.write", { path, data: fromInput(content) });
    else await send(this.#socket, path, bytes);
  }

  /** Adds to the end of a file. */
  async append(path: string, content: string | Uint8Array): Promise<void> {
    await this.#host.call("files.write", { path, data: fromInput(content), append: true });
  }

  /** What is in a directory. */
  async *list(path: string): AsyncGenerator<DirEntry, void, undefined> {
    for (let after: string | undefined; ; ) {
      const page = await this.#host.call("files.list", { path, ...(after === undefined ? {} : { after }) });
      yield* page.entries;
      if (!page.more) return;
      after = page.entries.at(-1)?.name;
    }
  }

  /** Deletes a file or directory. @returns whether there was one */
  async delete(path: string, options: { recursive?: boolean } = {}): Promise<boolean> {
    return (await this.#host.call("files.delete", { path, ...options })).deleted;
  }
}

/** A command in the package's sandbox. It ends with the sandbox. */
export class PackageProcess {
  /** Its name. */
  readonly process: string;
  readonly #host: PackageHost;

  /** @internal */
  constructor(host: PackageHost, process: string) {
    this.#host = host;
    this.process = process;
  }

  /** How it ended; undefined while it runs. */
  async outcome(): Promise<Outcome | undefined> {
    return (await this.#host.call("process.status", { process: this.process })).outcome;
  }

  /** Ends it, with all that it started. */
  async stop(): Promise<void> {
    await this.#host.call("process.stop", { process: this.process });
  }
}

async function collect<T>(all: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const one of all) list.push(one);
  return list;
}

/** Sends the bytes of a file on a connection of their own. */
function send(socketPath: string, path: string, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connectSocket({ path: socketPath, allowHalfOpen: true });
    let text = "";
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => {
      text += chunk;
    });
    let broken: Error | undefined;
    socket.on("error", (cause) => {
      broken = cause;
    });
    socket.on("end", () => socket.destroy());
    socket.on("close", () => {
      const end = text.indexOf("\n");
      if (end === -1) {
        const why = broken?.message ?? "the host closed the connection";
        reject(new ConnectionError("lost", socketPath, `files.stream: ${why}`, { cause: broken }));
        return;
      }
      const answer = decode(text.slice(0, end));
      if (answer.type !== "error") resolve();
      else reject(new HostError("files.stream", answer.message, answer.code, answer.data));
    });
    const params = { path, mode: "write", size: bytes.length };
    socket.write(`${JSON.stringify({ jsonrpc: "2.0", id: 1, method: "files.stream", params })}\n`);
    socket.write(bytes);
  });
}
