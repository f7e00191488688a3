/**
 * Forms for the input of actions: what is asked for, and whether an answer fits. A spec is data that a user interface can show;
 * its type is that of the answers.
 */

import type { PackageEffects } from "./effects.ts";

/** What each field has. */
interface Common {
  /** For people. */
  name: string;
  description?: string | null;
  warning?: string | null;
}

/** A pattern that a text must match, and what to say when it does not. */
export interface Pattern {
  regex: string;
  description: string;
}

/** A field as it is shown: its kind, and what it was made with. */
export type FieldSpec = Common & { type: string } & Record<string, unknown>;

/** What a field that is made when it is shown may depend on. */
export interface DynamicOptions {
  effects: PackageEffects;
}

/** What a field is made of, when it is shown. */
type Dynamic<A> = (options: DynamicOptions) => Promise<A & { disabled?: false | string | readonly string[] }>;

/** A field of a form, whose answers are of type `T`. */
export class Value<T> {
  readonly #spec: FieldSpec;
  readonly #check: (value: unknown, at: string) => T;
  readonly #later: ((options: DynamicOptions) => Promise<Value<T>>) | undefined;

  private constructor(
    spec: FieldSpec,
    check: (value: unknown, at: string) => T,
    later?: (options: DynamicOptions) => Promise<Value<T>>,
  ) {
    this.#spec = spec;
    this.#check = check;
    this.#later = later;
  }

  /** As it is shown. @throws Error for one that is made when it is shown: see {@link InputSpec.resolve} */
  get spec(): FieldSpec {
    if (this.#later !== undefined) throw new Error("a dynamic field is resolved before it is shown");
    return this.#spec;
  }

  /** The field itself, or what it is now. */
  async resolve(options: DynamicOptions): Promise<Value<T>> {
    return this.#later === undefined ? this : this.#later(options);
  }

  static #dynamic<A, T>(make: Dynamic<A>, field: (a: A) => Value<T>): Value<T> {
    const unresolved = (_: unknown, at: string): T => {
      throw new InputError(at, "a dynamic field is resolved before it is checked");
    };
    return new Value({ type: "dynamic", name: "" }, unresolved, async (options) =>
      field(await make(options)),
    );
  }

  /** The answer, if it fits. @throws InputError that names the field */
  check(value: unknown, at: string): T {
    return this.#check(value, at);
  }

  /** A line of text. */
  static text<Required extends boolean>(
    a: Common & {
      required: Required;
      default: string | null;
      masked?: boolean;
      placeholder?: string | null;
      minLength?: number | null;
      maxLength?: number | null;
      patterns?: readonly Pattern[];
    },
  ): Value<Required extends true ? string : string | null> {
    return Value.#textual("text", a);
  }

  /** Text of several lines. */
  static textarea<Required extends boolean>(
    a: Common & {
      required: Required;
      default: string | null;
      placeholder?: string | null;
      minLength?: number | null;
      maxLength?: number | null;
    },
  ): Value<Required extends true ? string : string | null> {
    return Value.#textual("textarea", a);
  }

  static #textual<T>(
    type: string,
    a: Common & {
      required: boolean;
      minLength?: number | null;
      maxLength?: number | null;
      patterns?: readonly Pattern[];
    },
  ): Value<T> {
    return new Value({ type, ...a }, (value, at) => {
      if (empty(value, a.required, at)) return null as T;
      if (typeof value !== "string") throw new InputError(at, "it is no text");
      if (value.length < (a.minLength ?? 0)) throw new InputError(at, `it is shorter than ${a.minLength}`);
      if (value.length > (a.maxLength ?? Number.POSITIVE_INFINITY))
        throw new InputError(at, `it is longer than ${a.maxLength}`);
      for (const { regex, description } of a.patterns ?? [])
        if (!new RegExp(regex).test(value)) throw new InputError(at, description);
      return value as T;
    });
  }

  /** A number. */
  static number<Required extends boolean>(
    a: Common & {
      required: Required;
      default: number | null;
      integer: boolean;
      min?: number | null;
      max?: number | null;
      step?: number | null;
      units?: string | null;
      placeholder?: string | null;
    },
  ): Value<Required extends true ? number : number | null> {
    return new Value({ type: "number", ...a }, (value, at) => {
      if (empty(value, a.required, at)) return null as never;
      if (typeof value !== "number" || !Number.isFinite(value)) throw new InputError(at, "it is no number");
      if (a.integer && !Number.isInteger(value)) throw new InputError(at, "it is no whole number");
      if (value < (a.min ?? Number.NEGATIVE_INFINITY)) throw new InputError(at, `it is less than ${a.min}`);
      if (value > (a.max ?? Number.POSITIVE_INFINITY)) throw new InputError(at, `it is more than ${a.max}`);
      return value as never;
    });
  }

  /** Yes or no. */
  static toggle(a: Common & { default: boolean }): Value<boolean> {
    return new Value({ type: "toggle", ...a }, (value, at) => {
      if (typeof value !== "boolean") throw new InputError(at, "it is neither true nor false");
      return value;
    });
  }

  /** One of several. */
  static select<Values extends Record<string, string>>(
    a: Common & { values: Values; default: keyof Values & string },
  ): Value<keyof Values & string> {
    return new Value({ type: "select", ...a }, (value, at) => {
      if (typeof value === "string" && Object.hasOwn(a.values, value)) return value;
      throw new InputError(at, `it is none of ${Object.keys(a.values).join(", ")}`);
    });
  }

  /** Some of several. */
  static multiselect<Values extends Record<string, string>>(
    a: Common & { values: Values; default: readonly (keyof Values & string)[] },
  ): Value<(keyof Values & string)[]> {
    return new Value({ type: "multiselect", ...a }, (value, at) => {
      const known = (one: unknown): boolean => typeof one === "string" && Object.hasOwn(a.values, one);
      if (Array.isArray(value) && value.every(known)) return value as (keyof Values & string)[];
      throw new InputError(at, `it is no list of ${Object.keys(a.values).join(", ")}`);
    });
  }

  /** Yes, no, or neither. */
  static triState(a: Common & { default: boolean | null }): Value<boolean | null> {
    return new Value({ type: "triState", ...a }, (value, at) => {
      if (value === null || typeof value === "boolean") return value;
      throw new InputError(at, "it is neither true, false nor null");
    });
  }

  /** A form in a form. */
  static object<T extends Record<string, unknown>>(a: Common, form: InputSpec<T>): Value<T> {
    return Value.#nested(
      form,
      (resolved) =>
        new Value({ type: "object", ...a, spec: resolved.build() }, (value, at) =>
          resolved.validate(value, at),
        ),
    );
  }

  /** One of several forms. */
  static union<V extends VariantForms>(
    a: Common & { default: keyof V & string; variants: Variants<V> },
  ): Value<UnionAnswer<V>> {
    const { forms } = a.variants;
    const make = (resolved: VariantForms): Value<UnionAnswer<V>> => {
      const variants = Object.fromEntries(
        Object.entries(resolved).map(([id, { name, spec }]) => [id, { name, spec: spec.build() }]),
      );
      return new Value({ type: "union", ...a, variants }, (value, at) => {
        const { selection, value: inner } = (value ?? {}) as { selection?: unknown; value?: unknown };
        if (typeof selection !== "string" || !Object.hasOwn(resolved, selection))
          throw new InputError(at, `selection is none of ${Object.keys(resolved).join(", ")}`);
        const answers = resolved[selection]!.spec.validate(inner ?? {}, `${at}.value`);
        return { selection, value: answers } as unknown as UnionAnswer<V>;
      });
    };
    if (Object.values(forms).every(({ spec }) => !spec.isDynamic)) return make(forms);
    return Value.#made(async (options) => {
      const one = async ([id, { name, spec }]: [string, VariantForms[string]]) =>
        [id, { name, spec: await spec.resolve(options) }] as const;
      return make(Object.fromEntries(await Promise.all(Object.entries(forms).map(one))));
    });
  }

  /** Several of a kind. */
  static list<T>(list: List<T>): Value<T[]> {
    return new Value(list.spec, (value, at) => list.check(value, at));
  }

  /** What is not shown: it comes with a task, or from a program. `shape` says what it may be. */
  static hidden<T>(shape?: { parse(value: unknown): T }): Value<T> {
    return new Value({ type: "hidden", name: "" }, (value, at) => {
      try {
        return shape === undefined ? (value as T) : shape.parse(value);
      } catch (error) {
        throw new InputError(at, error instanceof Error ? error.message : String(error));
      }
    });
  }

  static #nested<F extends Record<string, unknown>, T>(
    form: InputSpec<F>,
    make: (form: InputSpec<F>) => Value<T>,
  ): Value<T> {
    return form.isDynamic ? Value.#made(async (options) => make(await form.resolve(options))) : make(form);
  }

  static #made<T>(later: (options: DynamicOptions) => Promise<Value<T>>): Value<T> {
    return Value.#dynamic(later, (value) => value);
  }

  /** Whether it is made when it is shown. */
  get isDynamic(): boolean {
    return this.#later !== undefined;
  }

  /** `text`, made when it is shown. */
  static dynamicText<Required extends boolean>(
    make: Dynamic<Parameters<typeof Value.text<Required>>[0]>,
  ): Value<Required extends true ? string : string | null> {
    return Value.#dynamic(make, (a) => Value.text<Required>(a));
  }

  /** `number`, made when it is shown. */
  static dynamicNumber<Required extends boolean>(
    make: Dynamic<Parameters<typeof Value.number<Required>>[0]>,
  ): Value<Required extends true ? number : number | null> {
    return Value.#dynamic(make, (a) => Value.number<Required>(a));
  }

  /** `toggle`, made when it is shown. */
  static dynamicToggle(make: Dynamic<Parameters<typeof Value.toggle>[0]>): Value<boolean> {
    return Value.#dynamic(make, Value.toggle);
  }

  /** `select`, made when it is shown. */
  static dynamicSelect<Values extends Record<string, string>>(
    make: Dynamic<Common & { values: Values; default: keyof Values & string }>,
  ): Value<keyof Values & string> {
    return Value.#dynamic(make, (a) => Value.select<Values>(a));
  }

  /** `multiselect`, made when it is shown. */
  static dynamicMultiselect<Values extends Record<string, string>>(
    make: Dynamic<Common & { values: Values; default: readonly (keyof Values & string)[] }>,
  ): Value<(keyof Values & string)[]> {
    return Value.#dynamic(make, (a) => Value.multiselect<Values>(a));
  }
}

type VariantForms = Record<string, { name: string; spec: InputSpec<Record<string, unknown>> }>;
type UnionAnswer<V extends VariantForms> = {
  [K in keyof V]: { selection: K; value: V[K]["spec"] extends InputSpec<infer T> ? T : never };
}[keyof V];

/** Forms of which one is chosen. */
export class Variants<V extends VariantForms> {
  readonly forms: V;

  private constructor(forms: V) {
    this.forms = forms;
  }

  /** By their ids. */
  static of<V extends VariantForms>(forms: V): Variants<V> {
    return new Variants(forms);
  }
}

/** How many there may be. */
interface Several<T> extends Common {
  default?: readonly T[];
  minLength?: number | null;
  maxLength?: number | null;
}

/** A list of answers of one kind. */
export class List<T> {
  /** As it is shown. */
  readonly spec: FieldSpec;
  readonly #check: (value: unknown, at: string) => T;

  private constructor(spec: FieldSpec, check: (value: unknown, at: string) => T) {
    this.spec = spec;
    this.#check = check;
  }

  /** Of lines of text. */
  static text(
    a: Several<string>,
    each: { patterns?: readonly Pattern[]; masked?: boolean; placeholder?: string | null } & {
      minLength?: number | null;
      maxLength?: number | null;
    } = {},
  ): List<string> {
    const field = Value.text({ name: a.name, required: true, default: null, ...each });
    return new List({ type: "list", ...a, spec: field.spec }, (value, at) => field.check(value, at));
  }

  /** Of forms. */
  static obj<T extends Record<string, unknown>>(
    a: Several<T>,
    each: { spec: InputSpec<T>; displayAs?: string | null; uniqueBy?: string | null },
  ): List<T> {
    const { spec, ...shown } = each;
    const built = { ...shown, type: "object", name: a.name, spec: spec.build() };
    return new List({ type: "list", ...a, spec: built }, (value, at) => spec.validate(value, at));
  }

  /** The answers, if they fit. @throws InputError that names the one */
  check(value: unknown, at: string): T[] {
    if (!Array.isArray(value)) throw new InputError(at, "it is no list");
    const { minLength, maxLength } = this.spec as Several<T>;
    if (value.length < (minLength ?? 0)) throw new InputError(at, `there are fewer than ${minLength}`);
    if (value.length > (maxLength ?? Number.POSITIVE_INFINITY))
      throw new InputError(at, `there are more than ${maxLength}`);
    return value.map((one, index) => this.#check(one, `${at}.${index}`));
  }
}

function empty(value: unknown, required: boolean, at: string): boolean {
  if (value !== null && value !== undefined && value !== "") return false;
  if (required) throw new InputError(at, "it is missing");
  return true;
}

/** An input that does not fit its form. */
export class InputError extends Error {
  override readonly name = "InputError";
  /** Which field: `server.port`. */
  readonly field: string;

  constructor(field: string, why: string) {
    super(field === "" ? why : `${field}: ${why}`);
    this.field = field;
  }
}

type Answers<Fields extends Record<string, Value<unknown>>> = {
  [K in keyof Fields]: Fields[K] extends Value<infer T> ? T : never;
};

/** A form. */
export class InputSpec<T extends Record<string, unknown>> {
  readonly #fields: Record<string, Value<unknown>>;

  private constructor(fields: Record<string, Value<unknown>>) {
    this.#fields = fields;
  }

  /**
   * ```ts
   * InputSpec.of({ title: Value.text({ name: "Title", required: true, default: "Mine" }) })
   * ```
   */
  static of<Fields extends Record<string, Value<unknown>>>(fields: Fields): InputSpec<Answers<Fields>> {
    return new InputSpec(fields);
  }

  /** Whether fields of it are made when it is shown. */
  get isDynamic(): boolean {
    return Object.values(this.#fields).some((field) => field.isDynamic);
  }

  /** The same, with fields that are made now. */
  async resolve(options: DynamicOptions): Promise<InputSpec<T>> {
    if (!this.isDynamic) return this;
    const one = async ([name, field]: [string, Value<unknown>]) =>
      [name, await field.resolve(options)] as const;
    return new InputSpec(Object.fromEntries(await Promise.all(Object.entries(this.#fields).map(one))));
  }

  /** As a user interface shows it. */
  build(): Record<string, FieldSpec> {
    return Object.fromEntries(Object.entries(this.#fields).map(([name, field]) => [name, field.spec]));
  }

  /** The answers, if they fit, and no other. @throws InputError that names the field */
  validate(input: unknown, at = ""): T {
    if (typeof input !== "object" || input === null || Array.isArray(input))
      throw new InputError(at, "it is no object");
    const below = (name: string): string => (at === "" ? name : `${at}.${name}`);
    for (const name of Object.keys(input))
      if (!Object.hasOwn(this.#fields, name)) throw new InputError(below(name), "nobody asks for it");
    const answers = Object.entries(this.#fields).map(([name, field]) => [
      name,
      field.check((input as Record<string, unknown>)[name], below(name)),
    ]);
    return Object.fromEntries(answers) as T;
  }
}
