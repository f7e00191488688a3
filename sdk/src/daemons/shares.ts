/**
 * Who uses which subcontainer: several daemons may share one, and the last one that goes destroys it.
 */
import type { Sub } from "./checks.ts";

/** See the module. */
export class Shares {
  readonly #users = new Map<Sub, Set<object>>();

  /** `user` uses it from now on. */
  take(sub: Sub, user: object): void {
    const users = this.#users.get(sub);
    if (users === undefined) this.#users.set(sub, new Set([user]));
    else users.add(user);
  }

  /** `user` uses it no more. */
  async release(sub: Sub, user: object): Promise<void> {
    const users = this.#users.get(sub);
    if (users === undefined || !users.delete(user) || users.size > 0) return;
    this.#users.delete(sub);
    await sub.destroy();
  }
}
