/**
 * Files of a subcontainer's rootfs, in the shape of `node:fs/promises`. Works with and without a running command
 * inside, needs no shell or tool there, and follows no link out of the rootfs: the host resolves every path inside it.
 *
 * Errors are {@link HostError} with Node's `code`: `ENOENT`, `EEXIST`, `ENOTDIR`.
 */
import { Buffer } from "node:buffer";
import { posix } from "node:path";
import type { HostConnection } from "../client/host-connection.ts";
import { HostError } from "../errors.ts";
import type { Methods, WriteParams } from "../generated/protocol.ts";
import { fromInput, toBytes } from "../wire/data.ts";
import { Dirent, Stats } from "./stats.ts";

/** What any file call may be given. */
export interface FileOptions {
  /** Ends the call; it is rejected with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** What to write: text, bytes, or anything that yields them. */
export type Content =
  | string
  | NodeJS.ArrayBufferView
  | Iterable<string | NodeJS.ArrayBufferView>
  | AsyncIterable<string | NodeJS.ArrayBufferView>;

/** How to write. */
export interface WriteOptions extends FileOptions {
  /** Permission bits of a file that is created. Default 0o666 less the umask 0o022. */
  mode?: number | undefined;
  /** `w` replaces (default), `a` adds to the end, `wx` and `ax` fail if it exists. */
  flag?: "w" | "a" | "wx" | "ax" | undefined;
}

/** Bytes of one message. A larger file travels in several. */
const CHUNK = 4 * 1024 * 1024;

type FileMethod = Extract<keyof Methods, `file.${string}`>;

/** See the module. Paths are absolute inside the rootfs; a relative one counts from its root. */
export class Files {
  readonly #host: () => Promise<HostConnection> | HostConnection;
  readonly #guid: () => Promise<string> | string;

  /**
   * @param host - the connection; asked at each call, and may refuse
   * @param guid - the subcontainer
   */
  constructor(host: () => Promise<HostConnection> | HostConnection, guid: () => Promise<string> | string) {
    this.#host = host;
    this.#guid = guid;
  }

  /** The whole file: bytes, or text with an encoding. */
  readFile(path: string, options?: ({ encoding?: null | undefined } & FileOptions) | null): Promise<Buffer>;
  readFile(
    path: string,
    options: BufferEncoding | ({ encoding: BufferEncoding } & FileOptions),
  ): Promise<string>;
  async readFile(
    path: string,
    options?: BufferEncoding | ({ encoding?: BufferEncoding | null | undefined } & FileOptions) | null,
  ): Promise<string | Buffer> {
    const { encoding, signal } = typeof options === "string" ? { encoding: options } : (options ?? {});
    const chunks: Buffer[] = [];
    for await (const chunk of this.createReadable(path, { signal })) chunks.push(chunk);
    const bytes = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
    return encoding ? bytes.toString(encoding) : bytes;
  }

  /** The file piece by piece, for those that should not be in memory as a whole. */
  async *createReadable(path: string, options: FileOptions = {}): AsyncGenerator<Buffer, void, void> {
    for (let offset = 0; ; ) {
      const { data, eof } = await this.#call("file.read", { path, offset, length: CHUNK }, options);
      const bytes = toBytes(data);
      if (bytes.length > 0) yield bytes;
      if (eof) return;
      offset += bytes.length;
    }
  }

  /** Writes a file, replacing what was there. Its directory must exist. */
  async writeFile(
    path: string,
    data: Content,
    options?: BufferEncoding | WriteOptions | null,
  ): Promise<void> {
    const encoding = typeof options === "string" ? options : "utf8";
    const how: WriteOptions = typeof options === "string" ? {} : (options ?? {});
    const flag = how.flag ?? "w";
    const first: Omit<WriteParams, "guid" | "path" | "data"> = {};
    if (flag.startsWith("a")) first.append = true;
    if (flag.endsWith("x")) first.exclusive = true;
    if (how.mode !== undefined) first.mode = how.mode;
    let begun = false;
    const { maxData = CHUNK } = await this.#host();
    for await (const chunk of chunks(data, encoding, Math.min(maxData, CHUNK))) {
      const more: typeof first = begun ? { append: true } : first;
      await this.#call("file.write", { path, data: fromInput(chunk), ...more }, how);
      begun = true;
    }
    if (!begun) await this.#call("file.write", { path, data: { text: "" }, ...first }, how);
  }

  /** Adds to the end of a file, which is created where it is missing. */
  async appendFile(
    path: string,
    data: Content,
    options?: BufferEncoding | WriteOptions | null,
  ): Promise<void> {
    const how = typeof options === "string" ? undefined : (options ?? undefined);
    const encoded =
      typeof options === "string" && typeof data === "string" ? Buffer.from(data, options) : data;
    await this.writeFile(path, encoded, { ...how, flag: "a" });
  }

  /** The names in a directory, sorted; with `withFileTypes`, its entries. */
  readdir(path: string, options?: { withFileTypes?: false | undefined } & FileOptions): Promise<string[]>;
  readdir(path: string, options: { withFileTypes: true } & FileOptions): Promise<Dirent[]>;
  async readdir(
    path: string,
    options: { withFileTypes?: boolean | undefined } & FileOptions = {},
  ): Promise<string[] | Dirent[]> {
    const { entries } = await this.#call("file.readdir", { path }, options);
    return options.withFileTypes
      ? entries.map((entry) => new Dirent(entry, path))
      : entries.map(({ name }) => name);
  }

  /** Describes what a path leads to. */
  async stat(path: string, options: FileOptions = {}): Promise<Stats> {
    return new Stats(await this.#call("file.stat", { path }, options));
  }

  /** Describes a path itself, also where it is a link. */
  async lstat(path: string, options: FileOptions = {}): Promise<Stats> {
    return new Stats(await this.#call("file.stat", { path, noFollow: true }, options));
  }

  /** Resolves if the path leads to something, and is rejected if not. */
  async access(path: string, options: FileOptions = {}): Promise<void> {
    await this.#call("file.stat", { path }, options);
  }

  /** Whether the path leads to something. */
  async exists(path: string, options: FileOptions = {}): Promise<boolean> {
    try {
      await this.access(path, options);
      return true;
    } catch (error) {
      if (error instanceof HostError && (error.code === "ENOENT" || error.code === "ENOTDIR")) return false;
      throw error;
    }
  }

  /** Creates a directory; with `recursive`, its parents too, and no error if it exists. */
  async mkdir(
    path: string,
    options: { recursive?: boolean | undefined; mode?: number | undefined } & FileOptions = {},
  ): Promise<void> {
    const { recursive, mode } = options;
    await this.#call(
      "file.mkdir",
      { path, ...(recursive ? { recursive } : {}), ...(mode === undefined ? {} : { mode }) },
      options,
    );
  }

  /**
   * Removes a file or a link; with `recursive`, a directory and all in it; with `force`, without an error if it does
   * not exist. A mount inside is an error and is never entered.
   */
  async rm(
    path: string,
    options: { recursive?: boolean | undefined; force?: boolean | undefined } & FileOptions = {},
  ): Promise<void> {
    const { recursive, force } = options;
    await this.#call(
      "file.remove",
      { path, ...(recursive ? { recursive } : {}), ...(force ? { force } : {}) },
      options,
    );
  }

  /** Renames or moves inside the rootfs. */
  async rename(from: string, to: string, options: FileOptions = {}): Promise<void> {
    await this.#call("file.rename", { from, to }, options);
  }

  /** Creates a symbolic link at `path` that says `target`. */
  async symlink(target: string, path: string, options: FileOptions = {}): Promise<void> {
    await this.#call("file.symlink", { target, path }, options);
  }

  /** Where a symbolic link points, as it is stored. */
  async readlink(path: string, options: FileOptions = {}): Promise<string> {
    return (await this.#call("file.readlink", { path }, options)).target;
  }

  /** Changes permission bits. */
  async chmod(path: string, mode: number, options: FileOptions = {}): Promise<void> {
    await this.#call("file.chmod", { path, mode }, options);
  }

  /** Changes owner and group. */
  async chown(path: string, uid: number, gid: number, options: FileOptions = {}): Promise<void> {
    await this.#call("file.chown", { path, uid, gid }, options);
  }

  /** Writes a file and creates the directories that it lies in. */
  async writeFileDeep(
    path: string,
    data: Content,
    options?: BufferEncoding | WriteOptions | null,
  ): Promise<void> {
    const parent = posix.dirname(posix.join("/", path));
    if (parent !== "/") await this.mkdir(parent, { recursive: true });
    await this.writeFile(path, data, options);
  }

  async #call<M extends FileMethod>(
    method: M,
    params: Omit<Methods[M]["params"], "guid">,
    options: FileOptions,
  ): Promise<Methods[M]["result"]> {
    options.signal?.throwIfAborted();
    const host = await this.#host();
    const guid = await this.#guid();
    return host.request(
      method,
      { guid, ...params } as Methods[M]["params"],
      undefined,
      options.signal === undefined ? undefined : { signal: options.signal },
    );
  }
}

/** Cuts content into pieces that fit into a message; small pieces go together. */
async function* chunks(
  data: Content,
  encoding: BufferEncoding,
  most: number,
): AsyncGenerator<Uint8Array | string, void, void> {
  if (typeof data === "string" && encoding === "utf8" && data.length * 6 < most) {
    yield data;
    return;
  }
  const parts = typeof data === "string" || ArrayBuffer.isView(data) ? [data] : data;
  let held: Buffer[] = [];
  let size = 0;
  for await (const part of parts) {
    let bytes =
      typeof part === "string"
        ? Buffer.from(part, encoding)
        : Buffer.from(part.buffer, part.byteOffset, part.byteLength);
    while (size + bytes.length >= most) {
      yield Buffer.concat([...held, bytes.subarray(0, most - size)]);
      bytes = bytes.subarray(most - size);
      held = [];
      size = 0;
    }
    if (bytes.length > 0) {
      // The caller may use its buffer again after yielding it.
      held.push(Buffer.from(bytes));
      size += bytes.length;
    }
  }
  if (size > 0) yield Buffer.concat(held);
}
