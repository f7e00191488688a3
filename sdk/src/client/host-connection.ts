/**
 * The part of a host that subcontainers, files and processes need. Anything of this shape will do: the `host` that
 * `connect` gives, or something that forwards to one.
 */
import type { Methods } from "../generated/protocol.ts";
import type { MethodName } from "../wire/messages.ts";
import type { RequestOptions } from "./connection.ts";

/** See the module. */
export interface HostConnection {
  /** The path of the host's socket; byte streams connect to it by themselves. */
  readonly socketPath: string;
  /** Bytes of data that one message to it carries at most; more goes in several, or by a stream. Default: 8 MiB. */
  readonly maxData?: number | undefined;
  /**
   * Sends one request and resolves with its answer.
   *
   * @param convert - applied to the answer before the promise is resolved
   */
  request<M extends MethodName, T = Methods[M]["result"]>(
    method: M,
    params: Methods[M]["params"],
    convert?: (result: Methods[M]["result"]) => T,
    options?: RequestOptions,
  ): Promise<T>;
}
