/**
 * Files that a service reads its settings from, with a shape: read, written and merged through the host.
 */
import { isDeepStrictEqual } from "node:util";
import { HostError } from "../errors.ts";
import { ambient } from "./ambient.ts";
import type { PackageEffects } from "./effects.ts";

/** What says whether a value has a shape, and gives it: a schema of zod's, for one. */
export interface Shape<T> {
  parse(value: unknown): T;
}

/** What reads and writes a form of text: the module `yaml`, `@iarna/toml`, `ini`. */
export interface TextForm {
  parse(text: string): unknown;
  // Each of them asks for an object of its own type.
  stringify(value: never): string;
}

/** Or beneath a volume of the package. */
export type FilePath = string | { base: { path: string }; subpath: string };

type DeepPartial<T> = T extends Record<string, unknown> ? { [K in keyof T]?: DeepPartial<T[K]> } : T;

/** How a file is written. */
export interface WriteFileOptions {
  /** Also where what writes it has read it with `const`: it is not called again by that. */
  allowWriteAfterConst?: boolean;
}

/** Ways to read a file; null: there is none. */
export interface Reading<T> {
  /** Reads it. */
  once(effects?: PackageEffects): Promise<T | null>;
  /** Reads it, and has `main`, or the step of `setupInit`, called again when this package's code changes what was read. */
  const(effects: PackageEffects): Promise<T | null>;
}

/** Somebody who has read a file with `const`. */
interface Reader {
  effects: PackageEffects;
  /** Whether it is another now; what was read is what it is now from then on. */
  differs: (whole: unknown) => boolean;
}

/** By path. Who writes these files is mostly the package's own actions; what its services write is not noticed. */
const readers: Map<string, Set<Reader>> = new Map();

/**
 * A file of a known shape, beneath one of the package's volumes. Needs the capabilities `files:read` and `files:write` for it.
 *
 * ```ts
 * const config = FileHelper.json("/media/startos/volumes/main/config.json", shape);
 * await config.merge(effects, { title: "Mine" });
 * ```
 */
export class FileHelper<T> {
  /** Where it is, as the package sees it. */
  readonly path: string;
  readonly #encode: (value: T) => string;
  readonly #decode: (text: string) => T;

  private constructor(path: FilePath, encode: (value: T) => string, decode: (text: string) => T) {
    this.path =
      typeof path === "string" ? path : `${path.base.path}/${path.subpath.replace(/^(\.?\/)+/, "")}`;
    this.#encode = encode;
    this.#decode = decode;
  }

  /** JSON. */
  static json<T>(path: FilePath, shape: Shape<T>): FileHelper<T> {
    const encode = (value: T): string => `${JSON.stringify(value, null, 2)}\n`;
    return new FileHelper(path, encode, (text) => shape.parse(JSON.parse(text)));
  }

  /** YAML, by what reads it: `import * as YAML from "yaml"`. */
  static yaml<T>(path: FilePath, shape: Shape<T>, yaml: TextForm): FileHelper<T> {
    return FileHelper.#of(path, shape, yaml);
  }

  /** TOML, by what reads it: `import * as TOML from "@iarna/toml"`. */
  static toml<T>(path: FilePath, shape: Shape<T>, toml: TextForm): FileHelper<T> {
    return FileHelper.#of(path, shape, toml);
  }

  /** INI, by what reads it: `import * as INI from "ini"`. */
  static ini<T>(path: FilePath, shape: Shape<T>, ini: TextForm): FileHelper<T> {
    return FileHelper.#of(path, shape, ini);
  }

  static #of<T>(path: FilePath, shape: Shape<T>, form: TextForm): FileHelper<T> {
    const encode = (value: T): string => form.stringify(value as never);
    return new FileHelper(path, encode, (text) => shape.parse(form.parse(text)));
  }

  /** Text as it is. */
  static string(path: FilePath): FileHelper<string> {
    return new FileHelper(
      path,
      (text) => text,
      (text) => text,
    );
  }

  /** Lines of `NAME=value`. What has a line end in it cannot be written. */
  static env<T extends Record<string, unknown>>(path: FilePath, shape: Shape<T>): FileHelper<T> {
    const encode = (value: T): string =>
      Object.entries(value)
        .filter(([, one]) => one !== undefined)
        .map(([name, one]) => {
          if (/[\n\r\0]/.test(`${name}${one}`) || name.includes("="))
            throw new RangeError(`${name} cannot be written`);
          return `${name}=${one}\n`;
        })
        .join("");
    return new FileHelper(path, encode, (text) => {
      const lines = text.split(/\r?\n/).filter((line) => line.includes("=") && !line.startsWith("#"));
      const pair = (line: string): [string, string] => {
        const at = line.indexOf("=");
        return [line.slice(0, at).trim(), line.slice(at + 1)];
      };
      return shape.parse(Object.fromEntries(lines.map(pair)));
    });
  }

  /** Any form. */
  static raw<T>(path: FilePath, encode: (value: T) => string, decode: (text: string) => T): FileHelper<T> {
    return new FileHelper(path, encode, decode);
  }

  /** What is in it, or what `map` makes of that. `eq` says when that is the same as before. */
  read(): Reading<T>;
  read<U>(map: (value: T) => U, eq?: (left: U | null, right: U | null) => boolean): Reading<U>;
  read<U>(
    map: (value: T) => U = (value) => value as unknown as U,
    eq: (left: U | null, right: U | null) => boolean = isDeepStrictEqual,
  ): Reading<U> {
    const mapped = (whole: T | null): U | null => (whole === null ? null : map(whole));
    return {
      once: async (effects = ambient()) => mapped(await this.#read(effects)),
      const: async (effects) => {
        let last = mapped(await this.#read(effects));
        this.#watch({
          effects,
          differs: (whole) => {
            const now = mapped(whole as T);
            const differs = !eq(last, now);
            last = now;
            return differs;
          },
        });
        return last;
      },
    };
  }

  async #read(effects: PackageEffects): Promise<T | null> {
    try {
      return this.#decode((await effects.host.files.read(this.path)).toString("utf8"));
    } catch (error) {
      if (error instanceof HostError && error.kind === "notFound") return null;
      throw error;
    }
  }

  #watch(reader: Reader): void {
    if (reader.effects.constRetry === undefined) return;
    const all = readers.get(this.path) ?? new Set();
    readers.set(this.path, all.add(reader));
    reader.effects.onLeaveContext(() => void all.delete(reader));
  }

  /**
   * Writes it in the place of what was there, in one step.
   *
   * @throws Error where these effects have read it with `const`, and would be called again and again
   */
  async write(effects: PackageEffects, value: T, options: WriteFileOptions = {}): Promise<null> {
    const all = [...(readers.get(this.path) ?? [])];
    if (!options.allowWriteAfterConst && all.some((reader) => reader.effects === effects))
      throw new Error(`${this.path} is written by what was told to be called again when it changes`);
    const text = this.#encode(value);
    // What has not the shape is not written.
    const whole = this.#decode(text);
    await effects.host.files.write(this.path, text);
    const changed = all.filter((reader) => reader.differs(whole) && reader.effects !== effects);
    for (const retry of new Set(changed.map((reader) => reader.effects.constRetry))) retry?.();
    return null;
  }

  /** Changes parts of it, and leaves the others as they are. Where there is no file, it must be whole. */
  async merge(effects: PackageEffects, change: DeepPartial<T>, options?: WriteFileOptions): Promise<null> {
    const before = await this.#read(effects);
    // Through its form, as it would be read.
    const after = this.#decode(this.#encode(merged(before, change) as T));
    return this.write(effects, after, options);
  }

  /** The same shape and form, at another place. */
  withPath(path: FilePath): FileHelper<T> {
    return new FileHelper(path, this.#encode, this.#decode);
  }
}

function merged(before: unknown, change: unknown): unknown {
  const isObject = (value: unknown): value is Record<string, unknown> =>
    typeof value === "object" && value !== null && !Array.isArray(value);
  if (!isObject(before) || !isObject(change)) return change === undefined ? before : change;
  const keys = new Set([...Object.keys(before), ...Object.keys(change)]);
  return Object.fromEntries([...keys].map((key) => [key, merged(before[key], change[key])]));
}
