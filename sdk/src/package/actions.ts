/**
 * Actions: what people can ask of a package while it runs, each with a form for its input.
 */
import type { PackageEffects } from "./effects.ts";
import type { FieldSpec, InputSpec } from "./input.ts";
import { done } from "./tasks.ts";

/** What is shown of an action. */
export interface ActionMetadata {
  name: string;
  description: string;
  /** Shown before it is carried out. */
  warning: string | null;
  /** When it can be asked for. */
  allowedStatuses: "any" | "only-running" | "only-stopped";
  /** Actions of one group are shown together. */
  group: string | null;
  visibility: "enabled" | "hidden" | { disabled: string };
}

/** What came of it. */
export interface ActionResult {
  version: "1";
  title: string;
  message: string | null;
  /** What is shown: a value, or several with names. */
  result: unknown;
}

/** Or a function that gives it. */
export type MaybeFn<T, Options = { effects: PackageEffects }> = T | ((options: Options) => Promise<T>);

/** What a spec and what fills it may depend on: `prefill` is what a task asks for. */
export interface FillOptions {
  effects: PackageEffects;
  prefill: unknown;
}

type DeepPartial<T> = T extends Record<string, unknown> ? { [K in keyof T]?: DeepPartial<T[K]> } : T;

/** Carries an action out. */
export type Run<T> = (options: {
  effects: PackageEffects;
  input: T;
  spec: Record<string, FieldSpec>;
  // A function without a result is one, too.
  // biome-ignore lint/suspicious/noConfusingVoidType: see above
}) => Promise<ActionResult | null | void | undefined>;

/** What an action looks like from outside. */
export interface ActionDescription extends ActionMetadata {
  id: string;
  /** Null: it takes none. */
  spec: Record<string, FieldSpec> | null;
  /** What the form is filled with at first. */
  prefill: unknown;
}

async function given<T, O>(value: MaybeFn<T, O>, options: O): Promise<T> {
  return typeof value === "function" ? (value as (options: O) => Promise<T>)(options) : value;
}

/** One action. */
export class Action<Id extends string, T> {
  readonly id: Id;
  readonly #metadata: MaybeFn<ActionMetadata>;
  readonly #spec: MaybeFn<InputSpec<Record<string, unknown>>, FillOptions> | null;
  readonly #prefill: (options: FillOptions) => Promise<unknown>;
  readonly #run: Run<T>;

  private constructor(
    id: Id,
    metadata: MaybeFn<ActionMetadata>,
    spec: MaybeFn<InputSpec<Record<string, unknown>>, FillOptions> | null,
    prefill: (options: FillOptions) => Promise<unknown>,
    run: Run<T>,
  ) {
    this.id = id;
    this.#metadata = metadata;
    this.#spec = spec;
    this.#prefill = prefill;
    this.#run = run;
  }

  /** One that asks for something. Its input has been checked when it is called. */
  static withInput<Id extends string, T extends Record<string, unknown>>(
    id: Id,
    metadata: MaybeFn<ActionMetadata>,
    spec: MaybeFn<InputSpec<T>, FillOptions>,
    // biome-ignore lint/suspicious/noConfusingVoidType: as in `Run`
    prefill: (options: FillOptions) => Promise<DeepPartial<NoInfer<T>> | null | void | undefined>,
    run: Run<NoInfer<T>>,
  ): Action<Id, T> {
    return new Action(id, metadata, spec as never, prefill, run as Run<T>);
  }

  /** One that asks for nothing. */
  static withoutInput<Id extends string>(
    id: Id,
    metadata: MaybeFn<ActionMetadata>,
    run: Run<Record<string, never>>,
  ): Action<Id, Record<string, never>> {
    return new Action(id, metadata, null, async () => null, run);
  }

  /** What is shown of it. */
  async describe(effects: PackageEffects): Promise<ActionDescription> {
    const task = [...(effects.state?.tasks.values() ?? [])].find(({ actionId }) => actionId === this.id);
    const options = { effects, prefill: task?.input?.set ?? null };
    const form = this.#spec === null ? null : await given(this.#spec, options);
    const spec = form === null ? null : (await form.resolve(options)).build();
    const prefill = (await this.#prefill(options)) ?? options.prefill;
    return { id: this.id, ...(await given(this.#metadata, { effects })), spec, prefill };
  }

  /** Carries it out; its tasks have been done then. @throws InputError when the input does not fit */
  async run(options: { effects: PackageEffects; input: unknown }): Promise<ActionResult | null> {
    const { effects } = options;
    const { visibility } = await given(this.#metadata, { effects });
    if (typeof visibility === "object") throw new Error(`${this.id}: ${visibility.disabled}`);
    const form = this.#spec === null ? null : await given(this.#spec, { effects, prefill: null });
    const spec = form === null ? null : await form.resolve({ effects });
    const input = spec === null ? {} : spec.validate(options.input);
    const result = (await this.#run({ effects, input: input as T, spec: spec?.build() ?? {} })) ?? null;
    if (effects.state !== undefined) await done(effects.state, this.id, input);
    return result;
  }
}

/** The actions of a package. */
export class Actions<Ids extends string = never> {
  readonly #list: readonly Action<string, never>[];

  private constructor(list: readonly Action<string, never>[]) {
    this.#list = list;
  }

  /** None. */
  static of(): Actions<never> {
    return new Actions([]);
  }

  /** With this one after the others. */
  addAction<Id extends string, T>(action: Action<Id, T>): Actions<Ids | Id> {
    if (this.#list.some(({ id }) => id === action.id))
      throw new RangeError(`there are two actions ${action.id}`);
    return new Actions([...this.#list, action as unknown as Action<string, never>]);
  }

  /** One of them. */
  get(id: Ids): Action<string, never> {
    const found = this.#list.find((action) => action.id === id);
    if (found === undefined) throw new RangeError(`there is no action ${id}`);
    return found;
  }

  /** Nothing: they are known to `serve`. For `setupInit`, in which packages for StartOS name them. */
  async init(_effects: PackageEffects): Promise<void> {}

  /** What is shown of them, in the order in which they were added. */
  describe(effects: PackageEffects): Promise<ActionDescription[]> {
    return Promise.all(this.#list.map((action) => action.describe(effects)));
  }
}
