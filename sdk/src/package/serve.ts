/**
 * What the host calls of a package's script, made of the parts that its author wrote.
 *
 * ```text
 * init:   connect ─▶ the author's init ─▶ main ─▶ its daemons start
 * call:   actions, action:<id>, health, interfaces, daemons, tasks
 *         backup: daemons end ─▶ what comes before a backup; the host stops the package then
 * uninit: daemons end, the last ones first ─▶ the author's uninit ─▶ the connection is closed
 * ```
 */
import type { Core, UnloadCore } from "../worker/core.ts";
import type { Actions } from "./actions.ts";
import { setAmbient } from "./ambient.ts";
import type { CreateBackup } from "./backups.ts";
import { PackageEffects } from "./effects.ts";
import { connectHost } from "./host.ts";
import { MainRun } from "./run.ts";
import type { Init, InitKind, Main, Uninit } from "./sdk.ts";
import { ModuleState } from "./state.ts";
import { recallTasks } from "./tasks.ts";

/** The parts of a package: what the `index.ts` of one for StartOS exports, or some of them by name. */
export interface ServedPackage {
  /** Its version is what `init` is told of. */
  manifest: { version: string };
  /** What runs. */
  main?: Main;
  /** Before it. */
  init?: Init;
  /** After it. */
  uninit?: Uninit;
  /** What people can ask for. */
  actions?: Actions<string> | Actions<never>;
  /** Before a backup. */
  createBackup?: CreateBackup;
}

/** What a worker entry's script exports. */
export interface Served {
  init(core: Core): Promise<void>;
  uninit(core: UnloadCore): Promise<void>;
  call(name: string, input: unknown): Promise<unknown>;
}

interface Running {
  effects: PackageEffects;
  main: MainRun | undefined;
}

/** See the module. */
export function serve(parts: ServedPackage): Served {
  let running: Running | undefined;
  const actions = parts.actions as Actions<string> | undefined;
  const { version } = parts.manifest;
  const end = async ({ effects, main }: Running, target: string | null): Promise<void> => {
    try {
      await main?.stop();
      await parts.uninit?.({ effects, target });
    } finally {
      setAmbient(undefined);
      await effects.leave();
      effects.host.close();
    }
  };
  return {
    async init(core: Core): Promise<void> {
      const host = await connectHost({ client: `${core.packageId}/${core.module}`, signal: core.signal });
      const state = new ModuleState(host, core, actions);
      const effects = new PackageEffects(state);
      const main = parts.main === undefined ? undefined : new MainRun(parts.main, effects);
      state.restart = () => main?.restart();
      setAmbient(effects);
      try {
        await recallTasks(state);
        await parts.init?.({ effects, kind: core.restored ? "restore" : await initKind(state, version) });
        await state.keep("version", version);
        await main?.start();
      } catch (error) {
        // Why it did not begin is what is to be told. Its data is as its init has left it: nothing comes in its place.
        await end({ effects, main }, null).catch((left: unknown) => console.error(left));
        throw error;
      }
      running = { effects, main };
    },
    async uninit(core: UnloadCore): Promise<void> {
      const ends = running;
      running = undefined;
      if (ends !== undefined) await end(ends, core.target ?? null);
    },
    async call(name: string, input: unknown): Promise<unknown> {
      if (running === undefined) throw new Error("the package does not run");
      const { effects, main } = running;
      if (name === "actions") return (await actions?.describe(effects)) ?? [];
      if (name === "health") return effects.health;
      if (name === "backup" && parts.createBackup !== undefined) {
        await main?.stop();
        return parts.createBackup({ effects });
      }
      if (name === "daemons") return main?.status() ?? {};
      if (name === "interfaces") return effects.state.interfaces;
      if (name === "tasks") return [...effects.state.tasks.values()];
      if (name.startsWith("action:") && actions !== undefined)
        return effects.runAction({ actionId: name.slice("action:".length), input });
      throw new RangeError(
        `nothing is called ${name}: there are actions, action:<id>, daemons, health, interfaces, tasks`,
      );
    },
  };
}

async function initKind(state: ModuleState, version: string): Promise<InitKind> {
  if (!state.remembers) return null;
  const known = await state.recall<string>("version");
  if (known === undefined) return "install";
  return known === version ? null : "update";
}
