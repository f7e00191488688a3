/**
 * What happens to subcontainers, as it happens.
 */
import type { Event } from "../generated/protocol.ts";
import type { Address } from "./address.ts";
import { Connection } from "./connection.ts";

/**
 * Subscribes on a connection of its own, which the end of the loop closes. Events that come while the loop is busy
 * wait; when too many wait at the host, it drops some and says so with a `lagged` event.
 */
export async function* events(
  address: Address,
  client: string,
  options: {
    guid?: string | undefined;
    since?: Date | number | undefined;
    signal?: AbortSignal | undefined;
  },
): AsyncGenerator<Event, void, void> {
  const { guid, since, signal } = options;
  const { connection } = await Connection.open(address, client, signal);
  const waiting: Event[] = [];
  let wake: (() => void) | undefined;
  const awake = (): void => wake?.();
  connection.onEvent = (event) => {
    waiting.push(event);
    awake();
  };
  connection.onEnd = awake;
  signal?.addEventListener("abort", awake, { once: true });
  try {
    await connection.request("events.subscribe", {
      ...(guid === undefined ? {} : { guid }),
      ...(since === undefined ? {} : { since: Math.ceil(Number(since)) }),
    });
    for (;;) {
      for (let event = waiting.shift(); event !== undefined; event = waiting.shift()) yield event;
      signal?.throwIfAborted();
      if (connection.ended !== undefined) throw connection.ended;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  } finally {
    signal?.removeEventListener("abort", awake);
    connection.close();
  }
}
