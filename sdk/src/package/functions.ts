/**
 * Types of light functions: what answers requests or runs at certain times without a process of its own (`docs/packages.md`).
 *
 * ```ts
 * // src/functions/hello.ts, in the manifest { urlFunction: { function: "entries/functions/hello.js", path: "/hello" } }
 * import type { UrlFunction } from "start-container/package";
 *
 * export default (async (request, host) => {
 *   const { value } = await host.kv("settings").get<string>("name");
 *   return Response.json({ hello: request.query.name ?? value ?? "you" });
 * }) satisfies UrlFunction;
 * ```
 *
 * Types alone: a function runs in an isolate for each call, and can import nothing of the SDK's at run time. What is there
 * beside ECMAScript: `Headers`, `Response`, `TextEncoder`, `TextDecoder`, `setTimeout`, `clearTimeout`, `console`.
 *
 * @module
 */
import type { KvKey, KvSetParams, LogLevel, PackageMethods } from "../generated/protocol.ts";
import type { PackageMethod, Revisioned } from "./host.ts";

/** Headers: names in any case. */
export interface FunctionHeaders extends Iterable<[string, string]> {
  /** The value; several joined by commas; null where there is none. */
  get(name: string): string | null;
  has(name: string): boolean;
  entries(): Iterable<[string, string]>;
}

/** A request, whole. */
export interface FunctionRequest {
  /** `GET`, in capitals. */
  readonly method: string;
  /** As the manifest has it: `/hello`. */
  readonly path: string;
  /** The path, with `?` and the query where there is one. */
  readonly url: string;
  /** The first value of each name. */
  readonly query: Readonly<Record<string, string | undefined>>;
  readonly headers: FunctionHeaders;
  /** At most 512 KiB. */
  readonly body: Uint8Array;
  /** The body as UTF-8. */
  text(): Promise<string>;
  /** The body as JSON. Throws `SyntaxError` where it is none. */
  json(): Promise<unknown>;
}

/** A part of a body. */
export type FunctionPart = string | ArrayBuffer | ArrayBufferView;

/** A body: whole, or in parts as they are taken. At most 4 MiB. */
export type FunctionBody = FunctionPart | Iterable<FunctionPart> | AsyncIterable<FunctionPart> | null;

/** What a function may answer with; nothing means 204. */
export type FunctionAnswer =
  | FunctionPart
  | Response
  | {
      status?: number;
      headers?: Iterable<readonly [string, string]> | Record<string, string>;
      body?: FunctionBody;
    }
  | null
  | undefined
  // biome-ignore lint/suspicious/noConfusingVoidType: a function without a `return` is one.
  | void;

/** Keys of the package's store, in one group. Needs `kv:read` and `kv:write` for it. */
export interface FunctionKv {
  get<T = unknown>(key: string): Promise<Revisioned<T>>;
  /** Gives the new revision. `ifRevision`: fails with kind `conflict` where it has another one by now. */
  set(
    key: string,
    value: unknown,
    options?: Omit<Partial<KvSetParams>, "group" | "key" | "value">,
  ): Promise<number>;
  /** Reads, changes and writes, again where somebody else was faster. Gives what was written. */
  update<T>(key: string, change: (value: T | undefined) => T): Promise<T>;
  /** Whether it was there. */
  delete(key: string, options?: { ifRevision?: number }): Promise<boolean>;
  /** Keys that begin so, in order. */
  list(prefix?: string): AsyncIterable<KvKey>;
}

/** What a function reaches: what its package was granted. */
export interface FunctionHost {
  /** Any call of `docs/packages.md`. Throws an error whose `kind` says why, whose `missing` which capability. */
  call<M extends PackageMethod>(
    method: M,
    params: PackageMethods[M]["params"],
  ): Promise<PackageMethods[M]["result"]>;
  kv(group: string): FunctionKv;
  /** To the package's log. Needs `log:write`. */
  log(message: unknown, level?: LogLevel): Promise<void>;
}

/** The default export of a `urlFunction`: answers a request within 5 seconds. */
export type UrlFunction = (
  request: FunctionRequest,
  host: FunctionHost,
) => FunctionAnswer | Promise<FunctionAnswer>;

/** The default export of a `scheduledFunction`: runs within 60 seconds. What it returns is nobody's. */
export type ScheduledFunction = (
  event: {
    /** When it was due: milliseconds since 1970. */
    readonly scheduledTime: number;
  },
  host: FunctionHost,
) => unknown;
