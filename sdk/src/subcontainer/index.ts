/**
 * The ways to get a subcontainer.
 */
import type { HostConnection } from "../client/host-connection.ts";
import type { MountArray, Mounts } from "../mounts/mounts.ts";
import { SubContainerLazy } from "./lazy.ts";
import { type RunOnce, runOnce } from "./once.ts";
import { SubContainerOwned } from "./owned.ts";
import type * as handle from "./subcontainer.ts";

/** A subcontainer: a writable tree over an image, and the processes inside. */
export type SubContainer = handle.SubContainer;

/** The ways to get a subcontainer. */
export const SubContainer: {
  /** Creates one. */
  of: typeof SubContainerOwned.of;
  /** Creates a throw-away one, runs `fn` with it, and destroys it, whatever `fn` does. */
  withTemp: typeof SubContainerOwned.withTemp;
  /** Makes a throw-away one for one command, in one round trip. */
  runOnce: RunOnce;
  /** Takes over a detached one by its guid. */
  attach: typeof SubContainerOwned.attach;
  /** A handle that creates it at its first use. */
  lazy: (
    host: HostConnection,
    image: handle.ImageOptions,
    mounts?: Mounts | MountArray | null,
    name?: string | null,
  ) => SubContainerLazy;
} = {
  of: SubContainerOwned.of,
  withTemp: SubContainerOwned.withTemp,
  runOnce,
  attach: SubContainerOwned.attach,
  lazy: (host, image, mounts, name) => new SubContainerLazy(host, image, mounts, name),
};
