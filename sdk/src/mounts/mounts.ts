/**
 * A list of mounts, put together step by step. Pure: nothing is mounted before a subcontainer is given the list.
 */
import type { FileType, IdMap, MountOptions } from "./options.ts";

/** What most mounts share. */
export interface SharedOptions {
  /** A path inside the source, or null for all of it. */
  subpath?: string | null | undefined;
  /** Absolute path inside the subcontainer; created where it is missing. */
  mountpoint: string;
  /** What the source must be. Default: `directory`. */
  type?: FileType | undefined;
  /** Ranges of ids to show as others. `range` defaults to 1. */
  idmap?: readonly { fromId: number; toId: number; range?: number | undefined }[] | undefined;
}

/** A mount of a volume. */
export interface VolumeOptions extends SharedOptions {
  /** The volume: `volumes/<volumeId>` in the data directory. */
  volumeId: string;
  /** Nothing can be written through it. */
  readonly: boolean;
}

/** A mount of a dependency's volume. */
export interface DependencyOptions extends SharedOptions {
  /** The package that it belongs to. */
  dependencyId: string;
  /** Its volume. */
  volumeId: string;
  /** Nothing can be written through it. */
  readonly: boolean;
}

/** A mount of the backup target. */
export interface BackupOptions extends SharedOptions {
  /** Nothing can be written through it. Default false. */
  readonly?: boolean | undefined;
}

/** A mount of memory. */
export interface TmpfsOptions {
  /** Absolute path inside the subcontainer. */
  mountpoint: string;
  /** Bytes at most. Default: half of the machine's memory. */
  size?: number | undefined;
  /** Permission bits of its root. Default 0o755. */
  mode?: number | undefined;
}

/** What {@link Mounts.build} gives. */
export type MountArray = { mountpoint: string; options: MountOptions }[];

/**
 * A list of mounts. Each `mount…` gives a new list and leaves the old one as it was.
 *
 * ```ts
 * Mounts.of()
 *   .mountVolume({ volumeId: "main", mountpoint: "/data", readonly: false })
 *   .mountAssets({ mountpoint: "/assets" });
 * ```
 */
export class Mounts {
  readonly #list: MountArray;

  private constructor(list: MountArray) {
    this.#list = list;
  }

  /** An empty list. */
  static of(): Mounts {
    return new Mounts([]);
  }

  /** Adds one of the owner's volumes, created on first use. */
  mountVolume(options: VolumeOptions): Mounts {
    const { volumeId, readonly } = options;
    return this.#with(options.mountpoint, { type: "volume", volumeId, readonly, ...shared(options) });
  }

  /** Adds packaged static files. Always read-only. */
  mountAssets(options: SharedOptions): Mounts {
    return this.#with(options.mountpoint, { type: "assets", ...shared(options) });
  }

  /** Adds a dependency's volume. The type of its manifest is for packages that name it, and says nothing here. */
  mountDependency<_Manifest = unknown>(options: DependencyOptions): Mounts {
    const { dependencyId, volumeId, readonly } = options;
    return this.#with(options.mountpoint, {
      type: "pointer",
      packageId: dependencyId,
      volumeId,
      readonly,
      ...shared(options),
    });
  }

  /** Adds the backup target. */
  mountBackups(options: BackupOptions): Mounts {
    return this.#with(options.mountpoint, {
      type: "backup",
      readonly: options.readonly ?? false,
      ...shared(options),
    });
  }

  /** Adds memory, empty at first, gone with the subcontainer. */
  mountTmpfs(options: TmpfsOptions): Mounts {
    const { mountpoint, size, mode } = options;
    return this.#with(mountpoint, {
      type: "tmpfs",
      ...(size === undefined ? {} : { size }),
      ...(mode === undefined ? {} : { mode }),
    });
  }

  /**
   * The list: volumes first, then assets, dependencies, backups and memory, each in the order in which it was added.
   *
   * @throws Error when two share a mountpoint
   */
  build(): MountArray {
    const seen = new Set<string>();
    for (const { mountpoint } of this.#list) {
      if (seen.has(mountpoint)) throw new Error(`cannot mount more than once to mountpoint ${mountpoint}`);
      seen.add(mountpoint);
    }
    const order: MountOptions["type"][] = ["volume", "assets", "pointer", "backup", "tmpfs"];
    return order.flatMap((type) => this.#list.filter((mount) => mount.options.type === type));
  }

  #with(mountpoint: string, options: MountOptions): Mounts {
    return new Mounts([...this.#list, { mountpoint, options }]);
  }
}

function shared(options: SharedOptions): { subpath: string | null; filetype: FileType; idmap: IdMap[] } {
  return {
    subpath: options.subpath ?? null,
    filetype: options.type ?? "directory",
    idmap: (options.idmap ?? []).map(({ fromId, toId, range }) => ({ fromId, toId, range: range ?? 1 })),
  };
}

/** The mounts themselves, in whichever form they were given. */
export function listed(mounts: Mounts | MountArray): MountArray {
  return Array.isArray(mounts) ? mounts : mounts.build();
}
