/**
 * The effects of the module that runs, for what is called without any: `FileHelper.read().once()`, files of volumes. A script has
 * its own copy of this, and one module.
 */
import type { PackageEffects } from "./effects.ts";

let running: PackageEffects | undefined;

/** These are they from now on; undefined: there are none. */
export function setAmbient(effects: PackageEffects | undefined): void {
  running = effects;
}

/** @throws Error before `init`, and after `uninit` */
export function ambient(): PackageEffects {
  if (running === undefined) throw new Error("the package does not run");
  return running;
}
