/**
 * What daemons need of the world: a connection to the host, and what else whoever runs them may give.
 */
import type { HostConnection } from "../client/host-connection.ts";
import type { HealthStatus } from "./plan.ts";

/**
 * The `host` that `connect` gives, or anything of its shape. The rest is for whoever runs packages, and has the form
 * that `@start9labs/start-sdk` gives it.
 */
export interface Effects extends HostConnection {
  /** Calls when the context ends in which the daemons were built: they end with it. */
  onLeaveContext?(fn: () => void | Promise<void>): void;
  /** Takes the health of each that has a name for people. */
  setHealth?(health: { id: string; name: string; result: HealthStatus; message: string | null }): unknown;
}
