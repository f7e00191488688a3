/**
 * Tasks: actions that a package asks its operator to run. They are shown by `package status` until that has happened, also
 * after a restart.
 */
import type { TaskSeverity } from "../generated/protocol.ts";
import type { ActionResult } from "./actions.ts";
import type { PackageEffects } from "./effects.ts";
import { NotOnThisHostError } from "./not-here.ts";
import type { ModuleState } from "./state.ts";

/** How a task is made. */
export interface TaskOptions {
  /** Why: shown to the operator. */
  reason?: string;
  /** A task of the same id is the same task. Default: the package's id and the action's. */
  replayId?: string;
  /** With `input-not-matches`, only an input that fits one of `input.accept` ends it. */
  when?: { condition: "input-not-matches"; once: boolean };
  /** Inputs that end it, each with some of the fields; and what the form is filled with. */
  input?: { kind: "partial"; accept: readonly object[]; set: object };
}

/** A task, as it is kept. */
export interface Task extends TaskOptions {
  actionId: string;
  severity: TaskSeverity;
}

/** Of one action: what a task needs to know of it. */
export interface ActionInfo {
  readonly id: string;
}

const KEY = "tasks";

/** `effects.action`. */
export class PackageTasks {
  readonly #effects: PackageEffects;

  /** @internal */
  constructor(effects: PackageEffects) {
    this.#effects = effects;
  }

  /** Asks the operator to run an action of this package. @throws NotOnThisHostError for another package's */
  async createTask(options: Task & { packageId: string }): Promise<null> {
    const { packageId, ...task } = options;
    const { state } = this.#effects;
    if (packageId !== this.#effects.packageId)
      throw new NotOnThisHostError("createTask", "packages ask for their own actions only");
    state.actions?.get(task.actionId);
    state.tasks.set(task.replayId ?? `${packageId}:${task.actionId}`, task);
    await keep(state);
    return null;
  }

  /** Asks no longer: for these, by their replay ids, or for all others. */
  async clearTasks(options: { only: readonly string[] } | { except: readonly string[] }): Promise<null> {
    const { state } = this.#effects;
    const goes = (id: string): boolean =>
      "only" in options ? options.only.includes(id) : !options.except.includes(id);
    for (const id of [...state.tasks.keys()]) if (goes(id)) state.tasks.delete(id);
    await keep(state);
    return null;
  }

  /** Runs an action of this package. */
  run(options: { packageId?: string; actionId: string; input?: unknown }): Promise<ActionResult | null> {
    return this.#effects.runAction(options);
  }
}

async function keep(state: ModuleState): Promise<void> {
  await state.keep(KEY, Object.fromEntries(state.tasks));
  state.changed();
}

/** Those that were there before. */
export async function recallTasks(state: ModuleState): Promise<void> {
  const kept = (await state.recall<Record<string, Task>>(KEY)) ?? {};
  for (const [id, task] of Object.entries(kept)) state.tasks.set(id, task);
  state.changed();
}

/** An action was run: its tasks have been done, but for those that this input does not fit. */
export async function done(state: ModuleState, actionId: string, input: unknown): Promise<void> {
  const fits = ({ when, input: wanted }: Task): boolean =>
    when?.condition !== "input-not-matches" || (wanted?.accept ?? []).some((some) => holds(input, some));
  const over = [...state.tasks].filter(([, task]) => task.actionId === actionId && fits(task));
  if (over.length === 0) return;
  for (const [id] of over) state.tasks.delete(id);
  await keep(state);
}

/** Whether a value has all that another one has. */
function holds(whole: unknown, part: unknown): boolean {
  if (typeof part !== "object" || part === null) return whole === part || (whole ?? null) === (part ?? null);
  if (typeof whole !== "object" || whole === null) return false;
  return Object.entries(part).every(([name, one]) => holds((whole as Record<string, unknown>)[name], one));
}
