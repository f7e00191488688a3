/**
 * Volumes of a package, and their files as the host reads and writes them. Package code sees no files by itself.
 */
import { Buffer } from "node:buffer";
import { ambient } from "./ambient.ts";

/** A volume of the package, as its code and its services see it. */
export class Volume<Id extends string = string> {
  readonly id: Id;
  /** Beneath which the host's file calls find it. */
  readonly path: string;

  constructor(id: Id) {
    this.id = id;
    this.path = `/media/startos/volumes/${id}`;
  }

  /** A path in it. */
  subpath(path: string): string {
    return `${this.path}/${path.replace(/^(\.?\/)+/, "")}`;
  }

  /** Reads a file. Needs `files:read`. @throws HostError `notFound` where there is none */
  async readFile(
    path: string,
    options?: BufferEncoding | { encoding?: BufferEncoding | null } | null,
  ): Promise<Buffer | string> {
    const encoding = typeof options === "string" ? options : options?.encoding;
    const bytes = await ambient().host.files.read(this.subpath(path));
    return encoding ? bytes.toString(encoding) : bytes;
  }

  /** Writes a file in the place of what was there, in one step. Needs `files:write`. */
  async writeFile(path: string, data: string | Uint8Array): Promise<void> {
    await ambient().host.files.write(this.subpath(path), typeof data === "string" ? data : Buffer.from(data));
  }
}
