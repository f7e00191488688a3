/**
 * Locks of the host's, by name: whoever has one excludes others, in whichever programs they are.
 */
import type { HostConnection } from "../client/host-connection.ts";
import { ConnectionError, HostError } from "../errors.ts";

/** How to take a lock. */
export interface LockOptions {
  /** Wait until it is free, after those that came before. Default false: `busy` at once. */
  wait?: boolean | undefined;
  /** What for, to tell others. */
  purpose?: string | undefined;
  /** Gives up waiting. */
  signal?: AbortSignal | undefined;
}

/**
 * Takes a lock. It is free again when it is released, or when the connection ends, however that comes. When the host is
 * killed, the next one keeps it for this program for as long as it waits for its clients.
 *
 * @returns what releases it, and says whether it was held until then
 * @throws HostError `busy`, whose message names who has it and what for; the signal's reason
 */
export async function acquireLock(
  host: HostConnection,
  name: string,
  options: LockOptions = {},
): Promise<() => Promise<boolean>> {
  const { wait, purpose, signal } = options;
  try {
    await host.request(
      "lock.acquire",
      { name, ...(wait ? { wait } : {}), ...(purpose === undefined ? {} : { purpose }) },
      undefined,
      signal && { signal },
    );
  } catch (error) {
    // The host went away before it could say whether it is ours: the next one is told that nobody needs it.
    if (error instanceof ConnectionError && error.outcome === "unknown")
      host.request("lock.release", { name }).catch(() => {});
    throw error;
  }
  let released: Promise<boolean> | undefined;
  return () => {
    released ??= host
      .request("lock.release", { name }, () => true)
      .catch((error: unknown) => {
        // It went with the connection, or with the host.
        if (error instanceof ConnectionError || (error instanceof HostError && error.kind === "notFound"))
          return false;
        throw error;
      });
    return released;
  };
}
