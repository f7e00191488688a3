/**
 * Every error that the SDK throws by itself. How a command ended is no error: see {@link ExitError}, which only
 * `execFail` and `ExecResult.throw()` throw.
 */
import type { ConnectOptions } from "./client/host.ts";
import type { ErrorData, ErrorKind } from "./generated/protocol.ts";

/** Node's error codes for the kinds that have one, so that code written for `node:fs` keeps working. */
const CODES: Partial<Record<ErrorKind, string>> = {
  notFound: "ENOENT",
  exists: "EEXIST",
  busy: "EBUSY",
  invalid: "EINVAL",
  escape: "EXDEV",
  denied: "EACCES",
  timedOut: "ETIMEDOUT",
  commandNotFound: "ENOENT",
  commandNotExecutable: "EACCES",
};

/**
 * The host refused a request, or failed to carry it out. Nothing that the request had started is left.
 */
export class HostError extends Error {
  override readonly name = "HostError";
  /** The request: `subcontainer.mount`. */
  readonly method: string;
  /** What sort of failure it is. */
  readonly kind: ErrorKind;
  /** The step that failed: `mount volume`. */
  readonly step: string;
  /** The thing it was done to: a path, an image, a command. */
  readonly subject: string;
  /** As in `node:fs`: `ENOENT`. The kernel's own where it was the kernel, else the nearest to {@link kind}. */
  readonly code: string | undefined;
  /** The JSON-RPC code. */
  readonly rpcCode: number;
  /** To package code: what would have to be granted, exactly. */
  readonly missing: ErrorData["missing"];

  constructor(method: string, message: string, rpcCode: number, data?: Partial<ErrorData>) {
    super(message);
    this.method = method;
    this.kind = data?.kind ?? "internal";
    this.step = data?.step ?? method;
    this.subject = data?.subject ?? "";
    this.code = data?.errno ?? CODES[this.kind];
    this.rpcCode = rpcCode;
    this.missing = data?.missing;
  }
}

/** Why a {@link ConnectionError} came about. */
export type ConnectionFailure =
  /** No host answers at that socket. */
  | "unreachable"
  /** The connection ended while a request was under way, or before it. */
  | "lost"
  /** This side closed it. */
  | "closed"
  /** The other side broke the protocol. */
  | "protocol";

/**
 * There is no connection to the host, or not any more. Every request under way is rejected with it. What the connection
 * owned is destroyed; where it was the host that went away (`lost`), only if no other one is found in time, see
 * {@link ConnectOptions.reconnect}.
 */
export class ConnectionError extends Error {
  override readonly name = "ConnectionError";
  /** Why. */
  readonly failure: ConnectionFailure;
  /** The host's socket. */
  readonly socket: string;
  /** `unknown`: the request was sent, and may have been carried out. `notStarted`: it was not. */
  readonly outcome: "unknown" | "notStarted";

  constructor(
    failure: ConnectionFailure,
    socket: string,
    message: string,
    options?: ErrorOptions & { outcome?: "unknown" | "notStarted" },
  ) {
    super(message, options);
    this.failure = failure;
    this.socket = socket;
    this.outcome = options?.outcome ?? "notStarted";
  }
}

/** A handle was used after its `destroy`. */
export class DestroyedError extends Error {
  override readonly name = "DestroyedError";
  /** The subcontainer that it held, where there was one. */
  readonly guid: string | undefined;

  constructor(what: string, guid?: string) {
    super(
      `${what}: the subcontainer ${guid ?? ""}`
        .trimEnd()
        .concat(" is destroyed, or this handle was released"),
    );
    this.guid = guid;
  }
}
