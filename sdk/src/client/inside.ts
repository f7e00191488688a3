/**
 * A TCP connection to a port inside a subcontainer, in its own network, whichever that is: private, none, or the
 * machine's.
 */
import type { Duplex } from "node:stream";
import { Channel } from "./channel.ts";
import type { HostConnection } from "./host-connection.ts";

/** Where to. */
export interface InsideOptions {
  /** The subcontainer. It has to run. */
  guid: string;
  port: number;
  /** An IP address there. Default: its loopback, 127.0.0.1, else ::1. */
  address?: string | undefined;
  /** Milliseconds to connect. Default 1000. */
  timeout?: number | undefined;
  /** Gives up connecting. */
  signal?: AbortSignal | undefined;
}

/**
 * Connects. Whoever gets the stream has to `destroy` it.
 *
 * @throws HostError `network` with the code `ECONNREFUSED` when nobody listens there, `ETIMEDOUT` when nobody answers,
 * `notRunning`; or the signal's reason
 */
export async function connectInside(host: HostConnection, options: InsideOptions): Promise<Duplex> {
  const { guid, port, address, timeout, signal } = options;
  signal?.throwIfAborted();
  const channel = Channel.to(host.socketPath, {
    guid,
    port,
    ...(address === undefined ? {} : { address }),
    ...(timeout === undefined ? {} : { timeout }),
  });
  return await connected(channel, signal);
}

/** A connection whose other side is there; destroyed where its signal says so before. */
export async function connected(channel: Channel, signal: AbortSignal | undefined): Promise<Duplex> {
  const onAbort = (): void => void channel.destroy(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    return await channel.attached();
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw error;
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}
