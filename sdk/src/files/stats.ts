/**
 * What `stat` and `readdir` say, in the shape that `node:fs` gives it.
 */
import type { DirEntry, EntryKind, StatResult } from "../generated/protocol.ts";

const TYPE_BITS: Record<EntryKind, number> = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  other: 0,
};

abstract class Kind {
  readonly #kind: EntryKind;

  constructor(kind: EntryKind) {
    this.#kind = kind;
  }

  /** A regular file. */
  isFile(): boolean {
    return this.#kind === "file";
  }

  /** A directory. */
  isDirectory(): boolean {
    return this.#kind === "directory";
  }

  /** A symbolic link. */
  isSymbolicLink(): boolean {
    return this.#kind === "symlink";
  }
}

/** A file's description. */
export class Stats extends Kind {
  /** Bytes. */
  readonly size: number;
  /** Permission bits, and the type's bits for files, directories and links. */
  readonly mode: number;
  /** Owner, as seen on the host. */
  readonly uid: number;
  /** Group, as seen on the host. */
  readonly gid: number;
  /** Last change of the content, in milliseconds since the Unix epoch. */
  readonly mtimeMs: number;

  constructor(stat: StatResult) {
    super(stat.kind);
    this.size = stat.size;
    this.mode = stat.mode | TYPE_BITS[stat.kind];
    this.uid = stat.uid;
    this.gid = stat.gid;
    this.mtimeMs = stat.mtime;
  }

  /** Last change of the content. */
  get mtime(): Date {
    return new Date(this.mtimeMs);
  }
}

/** An entry of a directory. */
export class Dirent extends Kind {
  /** Its name. */
  readonly name: string;
  /** The directory that holds it, as it was given. */
  readonly parentPath: string;

  constructor(entry: DirEntry, parentPath: string) {
    super(entry.kind);
    this.name = entry.name;
    this.parentPath = parentPath;
  }
}
