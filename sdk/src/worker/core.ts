/**
 * What a module of a worker gets, from `bootstrap.js`, which calls it.
 */
import type { ModuleTold } from "../generated/protocol.ts";

/** What a module gets. */
export interface Core {
  /** Whose code it is. */
  readonly packageId: string;
  /** The name of its entry. */
  readonly module: string;
  /** How often it was loaded before, into this process. */
  readonly generation: number;
  /** The package's data have just been taken from a backup: `init` has to make of them what it needs. */
  readonly restored: boolean;
  /** Aborted when it is about to be unloaded, before its `uninit`. */
  readonly signal: AbortSignal;
  /**
   * Tells the operator, in `package status`, of its interfaces, its tasks and its health: all of it, in the place of what it
   * told before. Not more often than a few times a second: whoever tells all the time is ended.
   */
  tell(told: Omit<ModuleTold, "module">): void;
}

/** What `uninit` gets. */
export interface UnloadCore extends Core {
  /** The version of the package that comes in the place of this one, if one does. */
  readonly target: string | undefined;
}
