/**
 * What a new version of a package does with the data of another: migrations from version to version, and which of them lead where.
 *
 * ```text
 * data of 1.0 ──up of 1.1──▶ 1.1 ──up of 2.0──▶ 2.0 = current        an older one comes in its place: down of 2.0, down of 1.1
 * ```
 * Which version the data is of is remembered after each step: one that is killed goes on from there. A migration that was killed
 * before it came to its end is run again.
 */
import type { PackageEffects } from "./effects.ts";
import { ExtendedVersion, VersionRange } from "./version.ts";

/** Said instead of a migration: there is no way. */
export const IMPOSSIBLE: unique symbol = Symbol("impossible");

/** A text, or one for each language. */
export type LocaleString = string | Record<string, string>;

/** Changes the data of a package. Called when nothing of it runs. */
export type Migration = (options: { effects: PackageEffects }) => Promise<void>;

/** What is said of one version. */
export interface VersionOptions<Version extends string> {
  /** `1.2.3:0`. */
  version: Version;
  /** What is new in it. */
  releaseNotes: LocaleString;
  migrations: {
    /** From the version before it. Where it is missing, there is nothing to do. */
    up?: Migration | typeof IMPOSSIBLE;
    /** Back to the version before it. */
    down?: Migration | typeof IMPOSSIBLE;
    /** From versions of a range to this one at once, and back. */
    other?: Record<string, { up?: Migration; down?: Migration }>;
  };
}

/** One version of a package. */
export class VersionInfo<Version extends string> {
  readonly options: VersionOptions<Version>;

  private constructor(options: VersionOptions<Version>) {
    this.options = options;
  }

  /** As it is said. @throws RangeError where that is no version */
  static of<Version extends string>(options: VersionOptions<Version>): VersionInfo<Version> {
    ExtendedVersion.parse(options.version);
    Object.keys(options.migrations.other ?? {}).forEach(VersionRange.parse);
    return new VersionInfo(options);
  }
}

interface Node {
  version: ExtendedVersion;
  migrations: VersionOptions<string>["migrations"];
}

interface Step {
  to: ExtendedVersion;
  run: Migration | undefined;
}

/** The versions that a package knows. A step of `setupInit` and of `setupUninit`. */
export class VersionGraph<Current extends string> {
  /** The one that this package is. */
  readonly current: VersionInfo<Current>;
  readonly #nodes: readonly Node[];

  private constructor(current: VersionInfo<Current>, other: readonly VersionInfo<string>[]) {
    this.current = current;
    const all = [current, ...other].map(({ options }) => ({
      version: ExtendedVersion.parse(options.version),
      migrations: options.migrations,
    }));
    this.#nodes = all.sort((a, b) => a.version.compareForSort(b.version));
    const twice = this.#nodes.find((node, at) => at > 0 && node.version.equals(this.#nodes[at - 1]!.version));
    if (twice !== undefined) throw new RangeError(`there are two versions ${twice.version}`);
  }

  /** The version that the package is, and others from which or to which its data can go. */
  static of<Current extends string>(options: {
    current: VersionInfo<Current>;
    other: readonly VersionInfo<string>[];
  }): VersionGraph<Current> {
    return new VersionGraph(options.current, options.other);
  }

  /** `current`, read. */
  currentVersion(): ExtendedVersion {
    return ExtendedVersion.parse(this.current.options.version);
  }

  /**
   * Takes the data from one version to another, by the fewest migrations.
   *
   * @throws Error when there is no way; whatever a migration throws: the data is of the version before it then
   */
  async migrate(options: {
    effects: PackageEffects;
    from: ExtendedVersion;
    to: ExtendedVersion;
  }): Promise<ExtendedVersion> {
    const { effects, from, to } = options;
    const path = this.#path(from, to);
    if (path === undefined) throw new Error(`the data is of ${from}, and cannot be migrated to ${to}`);
    for (const { to: next, run } of path) {
      await run?.({ effects });
      await effects.setDataVersion({ version: next.toString() });
    }
    return to;
  }

  /** Migrates the data to `current`. Data that nobody has given a version yet is taken to be of it. */
  async init(effects: PackageEffects): Promise<void> {
    const to = this.currentVersion();
    const from = await effects.getDataVersion();
    if (from === null) await effects.setDataVersion({ version: to.toString() });
    else await this.migrate({ effects, from: ExtendedVersion.parse(from), to });
  }

  /** Before an older version comes in the place of this one: migrates the data back. A newer one does that by itself. */
  async uninit(effects: PackageEffects, target: string | null): Promise<void> {
    const from = await effects.getDataVersion();
    if (target === null || from === null) return;
    const [to, there] = [ExtendedVersion.parse(target), ExtendedVersion.parse(from)];
    if (to.lessThan(there)) await this.migrate({ effects, from: there, to });
  }

  #path(from: ExtendedVersion, to: ExtendedVersion): Step[] | undefined {
    const seen = new Set<string>();
    let paths: { at: ExtendedVersion; steps: Step[] }[] = [{ at: from, steps: [] }];
    while (paths.length > 0) {
      const next: typeof paths = [];
      for (const { at, steps } of paths) {
        if (at.equals(to)) return steps;
        if (seen.has(at.toString())) continue;
        seen.add(at.toString());
        for (const step of this.#steps(at, to)) next.push({ at: step.to, steps: [...steps, step] });
      }
      paths = next;
    }
    return undefined;
  }

  /** Where one migration leads. */
  #steps(at: ExtendedVersion, to: ExtendedVersion): Step[] {
    const steps: Step[] = [];
    const above = this.#nodes.find(({ version }) => version.greaterThan(at));
    if (above !== undefined && above.migrations.up !== IMPOSSIBLE)
      steps.push({ to: above.version, run: above.migrations.up });
    const here = this.#nodes.findIndex(({ version }) => version.equals(at));
    const node = this.#nodes[here];
    const below = this.#nodes[here - 1]?.version;
    if (node !== undefined && node.migrations.down !== IMPOSSIBLE) {
      // A version that is not known lies between two that are, or below all.
      const isBetween = to.lessThan(at) && (below === undefined || to.greaterThan(below));
      const lower = isBetween ? to : below;
      if (lower !== undefined) steps.push({ to: lower, run: node.migrations.down });
    }
    for (const { version, migrations } of this.#nodes) {
      for (const [range, { up, down }] of Object.entries(migrations.other ?? {})) {
        const fits = VersionRange.parse(range);
        if (up !== undefined && at.satisfies(fits)) steps.push({ to: version, run: up });
        if (down !== undefined && version.equals(at) && to.satisfies(fits)) steps.push({ to, run: down });
      }
    }
    return steps;
  }
}
