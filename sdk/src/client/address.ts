/**
 * Where the host's door is.
 */
import { join } from "node:path";
import { ConnectionError } from "../errors.ts";

/** Where to look for the host. */
export interface Address {
  /** The socket itself. Default: `rpc/host.sock` in the data directory. */
  socket?: string;
  /** The host's data directory. Default: `START_CONTAINER_DATA_DIR`, else `/var/lib/start-container`. */
  dataDir?: string;
}

const DEFAULT_DATA_DIR = "/var/lib/start-container";

/** The path of the host's socket. */
export function socketPath(address: Address): string {
  if (address.socket !== undefined) return address.socket;
  return join(
    address.dataDir ?? process.env.START_CONTAINER_DATA_DIR ?? DEFAULT_DATA_DIR,
    "rpc",
    "host.sock",
  );
}

/** Says why there was no connection, and what to do about it. */
export function unreachable(socket: string, address: Address, cause: NodeJS.ErrnoException): ConnectionError {
  const reason =
    cause.code === "ENOENT"
      ? "no such socket"
      : cause.code === "ECONNREFUSED"
        ? "nobody answers"
        : cause.code === "EACCES" || cause.code === "EPERM"
          ? "permission denied; the host serves its own user, usually root"
          : cause.message;
  const dir = address.dataDir ?? process.env.START_CONTAINER_DATA_DIR;
  const start = `start-container daemon${dir === undefined ? "" : ` --data-dir ${dir}`}`;
  return new ConnectionError(
    "unreachable",
    socket,
    `connect to the host at ${socket}: ${reason}. Start the host with: ${start}`,
    { cause },
  );
}
