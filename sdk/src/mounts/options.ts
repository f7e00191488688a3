/**
 * Where the files of a mount come from.
 */
import type * as wire from "../generated/protocol.ts";

/**
 * A range of user and group ids: `fromId` as stored in the source appears as `toId` inside, for `range` ids.
 * `{ fromId: 0, toId: 1000, range: 1 }` shows root's files as those of user 1000.
 */
export interface IdMap {
  /** First id as stored in the source. */
  fromId: number;
  /** First id as seen inside. */
  toId: number;
  /** How many ids. */
  range: number;
}

/** What a source must be. `file` and `directory` are created where they are missing; `infer` takes what is there. */
export type FileType = wire.FileType;

/** Own data: a volume, created on first use. */
export interface MountOptionsVolume {
  type: "volume";
  volumeId: string;
  /** A path inside it, or null for all of it. */
  subpath: string | null;
  readonly: boolean;
  filetype: FileType;
  idmap: IdMap[];
}

/** Packaged static files. Always read-only. */
export interface MountOptionsAssets {
  type: "assets";
  /** A path inside them, or null for all of them. */
  subpath: string | null;
  filetype: FileType;
  idmap: IdMap[];
}

/** A dependency's volume. Never created. */
export interface MountOptionsPointer {
  type: "pointer";
  packageId: string;
  volumeId: string;
  /** A path inside it, or null for all of it. */
  subpath: string | null;
  readonly: boolean;
  filetype?: FileType;
  idmap: IdMap[];
}

/** The backup target. */
export interface MountOptionsBackup {
  type: "backup";
  /** A path inside it, or null for all of it. */
  subpath: string | null;
  readonly?: boolean;
  filetype: FileType;
  idmap: IdMap[];
}

/** Memory, empty at first, gone with the subcontainer. */
export interface MountOptionsTmpfs {
  type: "tmpfs";
  /** Bytes at most. Default: half of the machine's memory. */
  size?: number;
  /** Permission bits of its root. Default 0o755. */
  mode?: number;
}

/** Where the files of a mount come from, and how. */
export type MountOptions =
  | MountOptionsVolume
  | MountOptionsAssets
  | MountOptionsPointer
  | MountOptionsBackup
  | MountOptionsTmpfs;

/** The wire's form of a mount. */
export function toWire(mountpoint: string, options: MountOptions): wire.Mount {
  if (options.type === "tmpfs") {
    const source: wire.MountSource = { type: "tmpfs" };
    if (options.size !== undefined) source.size = options.size;
    if (options.mode !== undefined) source.mode = options.mode;
    return { source, mountpoint };
  }
  const mount: wire.Mount = { source: source(options), mountpoint };
  if ("readonly" in options && options.readonly) mount.readonly = true;
  if (options.idmap.length > 0) {
    mount.idmap = options.idmap.map(({ fromId, toId, range }) => ({ fromId, toId, range }));
  }
  return mount;
}

function source(options: Exclude<MountOptions, MountOptionsTmpfs>): wire.MountSource {
  const place: { subpath?: string; filetype?: FileType } = {};
  if (options.subpath !== null && options.subpath !== "") place.subpath = options.subpath;
  if (options.filetype !== undefined) place.filetype = options.filetype;
  switch (options.type) {
    case "volume":
      return { type: "volume", volumeId: options.volumeId, ...place };
    case "assets":
      return { type: "assets", ...place };
    case "pointer":
      return { type: "pointer", packageId: options.packageId, volumeId: options.volumeId, ...place };
    case "backup":
      return { type: "backup", ...place };
    default:
      throw new TypeError(`unknown type of mount: ${(options as { type: string }).type}`);
  }
}
