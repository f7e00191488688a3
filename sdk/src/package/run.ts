/**
 * `main` while it runs: its daemons, and how it is called again when something has changed that it has read.
 *
 * ```text
 * start ──▶ main ──▶ daemons ──restart──▶ daemons end ──▶ main ──▶ … ──stop──▶ daemons end
 * ```
 */
import type { PackageEffects } from "./effects.ts";
import type { Main } from "./sdk.ts";

interface Round {
  effects: PackageEffects;
  daemons: { term(): Promise<unknown>; status(): unknown };
}

/** See the module. */
export class MainRun {
  readonly #main: Main;
  readonly #effects: PackageEffects;
  #round: Round | undefined;
  #changing: Promise<void> = Promise.resolve();
  #asked = false;
  #stopped = false;

  constructor(main: Main, effects: PackageEffects) {
    this.#main = main;
    this.#effects = effects;
  }

  /** Calls it, and starts its daemons. */
  async start(): Promise<void> {
    const effects = this.#effects.child(() => this.restart());
    try {
      const daemons = await (await this.#main({ effects })).build();
      this.#round = { effects, daemons: daemons as Round["daemons"] };
    } catch (error) {
      await effects.leave();
      throw error;
    }
  }

  /** Ends the daemons and starts it again. Those who ask meanwhile share one restart. What it throws, nobody catches. */
  restart(): void {
    if (this.#asked || this.#stopped) return;
    this.#asked = true;
    this.#changing = this.#changing.then(async () => {
      this.#asked = false;
      if (this.#stopped) return;
      await this.#end();
      await this.start();
    });
  }

  /** What its daemons do. */
  status(): unknown {
    return this.#round?.daemons.status() ?? {};
  }

  /** Ends it. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#changing;
    await this.#end();
  }

  async #end(): Promise<void> {
    const round = this.#round;
    this.#round = undefined;
    if (round === undefined) return;
    try {
      await round.daemons.term();
    } finally {
      await round.effects.leave();
    }
  }
}
