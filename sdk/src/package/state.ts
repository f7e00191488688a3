/**
 * What one module of a package knows of itself while it runs, and keeps in its store: the version of its data, tasks; and what it
 * tells the operator of itself.
 *
 * ```text
 * changed ──▶ (at most five times a second) ──▶ told to the host ──▶ `package status`
 * ```
 */
import { setTimeout } from "node:timers";
import type { ModuleTold } from "../generated/protocol.ts";
import type { Core } from "../worker/core.ts";
import type { Actions } from "./actions.ts";
import type { Requirements } from "./dependencies.ts";
import type { HealthReport } from "./effects.ts";
import type { PackageHost } from "./host.ts";
import type { ExportedInterface } from "./interfaces.ts";
import type { Task } from "./tasks.ts";

/** The group of keys in which a package's SDK keeps what it knows, where it may. */
const GROUP = "sdk";
/** Milliseconds between two tellings. */
const TELLING = 200;
/** What the host takes of each kind. */
const MOST = 64;

/** See the module. */
export class ModuleState {
  readonly host: PackageHost;
  readonly core: Core;
  /** What people can ask for. */
  readonly actions: Actions<string> | undefined;
  /** What was said last of each. */
  readonly health: Map<string, HealthReport> = new Map();
  /** By their replay ids. */
  readonly tasks: Map<string, Task> = new Map();
  interfaces: readonly ExportedInterface[] = [];
  /** What it needs of others now. */
  requirements: Requirements = {};
  /** Has what runs started again. */
  restart: () => void = () => {};
  #telling = false;

  constructor(host: PackageHost, core: Core, actions: Actions<string> | undefined) {
    this.host = host;
    this.core = core;
    this.actions = actions;
  }

  /** It may keep keys of its own. */
  get remembers(): boolean {
    const may = (name: string): boolean => this.host.granted[name]?.groups?.includes(GROUP) ?? false;
    return may("kv:read") && may("kv:write");
  }

  /** A key of its own; undefined where there is none, or it may keep none. */
  async recall<T>(key: string): Promise<T | undefined> {
    return this.remembers ? (await this.host.kv(GROUP).get<T>(key)).value : undefined;
  }

  /** Keeps a key of its own, where it may. */
  async keep(key: string, value: unknown): Promise<void> {
    if (!this.remembers) return;
    const keys = this.host.kv(GROUP);
    if (JSON.stringify((await keys.get(key)).value) !== JSON.stringify(value)) await keys.set(key, value);
  }

  /** Tells the operator in a moment: what changes again and again is told once. */
  changed(): void {
    // Of a host that is older, there is nobody who listens.
    if (this.#telling || this.core.tell === undefined) return;
    this.#telling = true;
    setTimeout(() => {
      this.#telling = false;
      if (this.host.ended === undefined) this.core.tell(this.#told());
    }, TELLING).unref();
  }

  #told(): Omit<ModuleTold, "module"> {
    const tasks = [...this.tasks.values()].map(({ actionId, severity, reason }) => ({
      action: actionId,
      severity,
      ...(reason === undefined ? {} : { reason }),
    }));
    const health = [...this.health.values()].map(({ id, name, result, message }) => ({
      id,
      name,
      result,
      ...(message === null ? {} : { message }),
    }));
    const interfaces = this.interfaces.map(({ id, name, type, address }) => ({ id, name, type, address }));
    return {
      tasks: tasks.slice(0, MOST),
      health: health.slice(0, MOST),
      interfaces: interfaces.slice(0, MOST),
    };
  }
}
