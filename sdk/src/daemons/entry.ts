/**
 * One entry of a set of daemons: what its author wrote, its plan, and what runs it.
 */
import { SubContainerLazy } from "../subcontainer/lazy.ts";
import type { Sub } from "./checks.ts";
import { eager, look } from "./checks.ts";
import type { Instance, Runner } from "./driver.ts";
import type { Effects } from "./effects.ts";
import { type ExecCommandOptions, type ExecFnOptions, structure } from "./exec.ts";
import { DEFAULT_GRACE, type HealthCheckResult, type UnitPlan } from "./plan.ts";
import { startCommand, startFunction } from "./process.ts";
import { healthPlan, type Ready, type RestartOptions, restartPlan } from "./ready.ts";
import type { Shares } from "./shares.ts";
import type { DaemonStatus } from "./status.ts";
import type { Tail } from "./tail.ts";

/** What was recorded. */
export interface Entry {
  readonly id: string;
  readonly kind: "daemon" | "oneshot" | "health";
  readonly subcontainer: Sub | null;
  readonly exec: ExecCommandOptions | ExecFnOptions | null;
  readonly ready: Ready | null;
  readonly requires: readonly string[];
  readonly restart: RestartOptions | undefined;
}

/**
 * What makes two entries the same daemon: everything but functions. A handle that exists is the same when its
 * subcontainer is; one that does not yet is the same when it would make the same.
 */
export function configHash(entry: Entry): string {
  const { kind, id, exec, ready, restart } = entry;
  const sub = entry.subcontainer;
  return JSON.stringify(
    sorted({
      kind,
      id,
      requires: [...entry.requires].sort(),
      subcontainer: sub === null ? null : sub instanceof SubContainerLazy ? sub.descriptor : sub.guid,
      exec: exec === null ? null : structure(exec),
      ready,
      restart,
    }),
  );
}

/** The same, with the names of every object in one order; without functions, as JSON leaves them out. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([name, one]) => [name, sorted(one)]));
}

/**
 * Those of a set that lead their subcontainer: who said so, and who may because nobody else runs in there but one-shots
 * that are over before he starts.
 */
export function leaders(entries: readonly Entry[]): Set<string> {
  const known = new Map(entries.map((entry) => [entry.id, entry]));
  const required = (entry: Entry, found: Set<string> = new Set()): Set<string> => {
    for (const id of entry.requires) {
      const other = known.get(id);
      if (other !== undefined && !found.has(id)) required(other, found.add(id));
    }
    return found;
  };
  const leads = (entry: Entry): boolean => {
    const { exec, subcontainer, kind } = entry;
    if (exec === null || subcontainer === null) return false;
    if ("command" in exec && exec.runAsInit !== undefined) return exec.runAsInit;
    if (kind !== "daemon") return false;
    const before = required(entry);
    return entries.every(
      (other) =>
        other === entry ||
        other.exec === null ||
        other.subcontainer !== subcontainer ||
        (other.kind === "oneshot" && before.has(other.id)),
    );
  };
  return new Set(entries.filter(leads).map(({ id }) => id));
}

/** The plan of an entry. @throws RangeError when a number makes no sense */
export function planOf(entry: Entry, leads: boolean): UnitPlan {
  const { id, kind, exec, ready } = entry;
  const grace = exec?.sigtermTimeout ?? DEFAULT_GRACE;
  if (!(grace >= 0)) throw new RangeError(`${id}: sigtermTimeout is less than 0: ${grace}`);
  return {
    id,
    kind,
    requires: entry.requires,
    health: ready === null ? null : healthPlan(id, ready),
    restart: restartPlan(id, entry.restart),
    grace,
    hash: `${leads ? "leads " : ""}${configHash(entry)}`,
  };
}

/** Of what the host keeps of a name. In characters: none is longer than three bytes, or is two of these. */
const LONGEST_NAME = 66;

/** Runs an entry on a host. */
export class EntryRunner implements Runner {
  readonly plan: UnitPlan;
  readonly entry: Entry;
  readonly #effects: Effects;
  readonly #leads: boolean;
  readonly #shares: Shares;
  readonly #tail: Tail;
  #told: string | undefined;
  #telling: Promise<void> = Promise.resolve();

  constructor(effects: Effects, entry: Entry, leads: boolean, shares: Shares, tail: Tail) {
    this.plan = planOf(entry, leads);
    this.#leads = leads;
    this.entry = entry;
    this.#effects = effects;
    this.#shares = shares;
    this.#tail = tail;
    if (entry.subcontainer !== null) shares.take(entry.subcontainer, this);
  }

  async start(signal: AbortSignal): Promise<Instance> {
    const { subcontainer, exec } = this.entry;
    if (exec === null) throw new Error("nothing to run");
    const [leads, tail] = [this.#leads, this.#tail];
    if ("fn" in exec) return startFunction(subcontainer, exec, leads, tail);
    if (subcontainer === null) throw new Error("a command needs a subcontainer");
    return startCommand({ sub: subcontainer, exec, leads, tail }, signal);
  }

  async check(signal: AbortSignal): Promise<HealthCheckResult> {
    const { ready, subcontainer } = this.entry;
    if (ready === null) return { result: "success", message: null };
    const timeout = this.plan.health?.timeout ?? 0;
    return look(ready, { host: this.#effects, subcontainer, timeout, signal });
  }

  tell(status: DaemonStatus): void {
    const { id, ready } = this.entry;
    this.#tellHost(status);
    if (ready === null || ready.display === null || this.#effects.setHealth === undefined) return;
    const health = { id, name: ready.display, ...status.health };
    // Whoever listens: what he makes of it is nothing to the daemon.
    (async () => this.#effects.setHealth?.(health))().catch(() => {});
  }

  /** For who looks at the machine (`start-container ls`): in the order in which it happens, and nobody waits for it. */
  #tellHost({ state, health }: DaemonStatus): void {
    const { id, ready, subcontainer } = this.entry;
    if (ready === null || subcontainer === null) return;
    if (subcontainer instanceof SubContainerLazy && !subcontainer.created) return;
    const { result, message } = health;
    const status = result === "success" ? "healthy" : result === "failure" ? "unhealthy" : "starting";
    const told = JSON.stringify([status, message, state === "running"]);
    if (told === this.#told) return;
    this.#told = told;
    this.#telling = this.#telling
      .then(async () => {
        const { guid } = await eager(subcontainer);
        const name = id.slice(0, LONGEST_NAME);
        const said = message === null ? {} : { message };
        await this.#effects.request("events.health", { guid, name, status, ...said });
      })
      // It is gone, or the host is: the next one is told of the next change.
      .catch(() => {});
  }

  async release(): Promise<void> {
    const { subcontainer } = this.entry;
    if (subcontainer !== null) await this.#shares.release(subcontainer, this);
  }
}
