/**
 * Files that are there in full or not at all: written to a name of their own, looked at, and put in their place with a
 * checksum beside them.
 *
 * ```text
 * .people.dump.partial   what is being written; the next one removes what a killed one has left
 * people.dump            the last one that was found good
 * people.dump.sha256     its checksum, as sha256sum writes it; for a moment, the former one's too
 * ```
 * The checksums of both are there before the new file takes the old one's place, so that whenever this is killed the file
 * that is there agrees with one of them.
 */

import type { CommandOptions } from "../process/options.ts";
import { ExitError } from "../process/result.ts";
import type { SubContainer } from "../subcontainer/subcontainer.ts";
import type { JobContext } from "./job.ts";

/** A file that was written and found good. */
export interface CheckedFile {
  /** Where it is, inside. */
  readonly file: string;
  readonly bytes: number;
  /** In hexadecimal. */
  readonly sha256: string;
}

/** A file is not what it should be. */
export class CorruptFileError extends Error {
  override readonly name = "CorruptFileError";
  /** Where it is, inside. */
  readonly file: string;

  constructor(file: string, why: string, options?: ErrorOptions) {
    super(`${file} ${why}`, options);
    this.file = file;
  }
}

const HASH = /^[0-9a-f]{64}$/;
/** Milliseconds between two looks at how long a file is. */
const LOOK = 250;

/** Runs a command to its end, without a time limit but with the job's signal. @throws ExitError */
export function command(
  { sub, signal }: JobContext,
  argv: readonly string[],
  options: CommandOptions,
): Promise<{ stdout: string; stderr: string }> {
  return sub.execFail(argv, { ...options, timeout: null, signal });
}

/**
 * Writes a file.
 *
 * @param write - writes to `partial`; its failure is that of the whole
 * @param verify - throws unless what lies at `partial` is good
 */
export async function writeChecked(
  context: JobContext,
  file: string,
  options: CommandOptions,
  write: (partial: string) => Promise<unknown>,
  verify: (partial: string) => Promise<unknown>,
): Promise<CheckedFile> {
  const { directory, name } = split(file);
  const partial = `${directory}/.${name}.partial`;
  const discard = (sub: SubContainer): Promise<unknown> => sub.exec(["rm", "-f", "--", partial], options);
  await discard(context.sub);
  try {
    const stop = watch(context, partial);
    try {
      await write(partial);
    } finally {
      stop();
    }
    const bytes = await sizeOf(context, partial);
    if (bytes === 0) throw new CorruptFileError(file, "was written and is empty");
    context.progress({ phase: "verify", done: bytes });
    await verify(partial);
    context.progress({ phase: "checksum", done: bytes });
    const sha256 = await checksum(context, partial, options);
    const former = await checksums(context, file, options);
    context.progress({ phase: "commit", done: bytes });
    await commit(context, { directory, name, sha256, former: former.at(-1) }, options);
    return { file, bytes, sha256 };
  } catch (error) {
    // The former one stays. What is left of this one takes room that others need; when that cannot be removed, the next
    // one does.
    await discard(context.sub).catch(() => {});
    throw error;
  }
}

/** @throws CorruptFileError when a file does not agree with the checksum beside it, or there is none */
export async function mustAgree(context: JobContext, file: string, options: CommandOptions): Promise<void> {
  split(file);
  context.progress({ phase: "checksum" });
  const known = await checksums(context, file, options);
  if (known.length === 0) throw new CorruptFileError(file, "has no checksum beside it");
  const sha256 = await checksum(context, file, options);
  if (!known.includes(sha256))
    throw new CorruptFileError(file, `is not what was written: its checksum is ${sha256}`);
}

/** The last `bytes` of a file. */
export async function end(
  context: JobContext,
  file: string,
  bytes: number,
  options: CommandOptions,
): Promise<string> {
  return (await command(context, ["tail", "-c", `${bytes}`, "--", file], options)).stdout;
}

async function commit(
  context: JobContext,
  {
    directory,
    name,
    sha256,
    former,
  }: { directory: string; name: string; sha256: string; former: string | undefined },
  options: CommandOptions,
): Promise<void> {
  // sync(1) of a directory makes a rename last.
  const script = `
    set -eu
    cd -- "$1"
    sums() {
      rm -f -- "./.$2.sums"
      printf '%s\\n' "$1" >"./.$2.sums"
      sync "./.$2.sums"
      mv -T -- "./.$2.sums" "./$2.sha256"
      sync .
    }
    sync "./.$2.partial"
    sums "$3" "$2"
    mv -T -- "./.$2.partial" "./$2"
    sync .
    sums "$4" "$2"
  `;
  const line = (hash: string): string => `${hash}  ${name}`;
  const both = former === undefined ? line(sha256) : `${line(former)}\n${line(sha256)}`;
  await command(context, ["/bin/sh", "-c", script, "sh", directory, name, both, line(sha256)], options);
}

async function checksum(context: JobContext, file: string, options: CommandOptions): Promise<string> {
  const { stdout } = await command(context, ["/bin/sh", "-c", 'sha256sum <"$1"', "sh", file], options);
  const hash = stdout.slice(0, 64);
  if (!HASH.test(hash)) throw new Error(`sha256sum says no checksum of ${file}`);
  return hash;
}

/** The checksums that are written beside a file, the last one last. */
async function checksums(context: JobContext, file: string, options: CommandOptions): Promise<string[]> {
  const script = '[ ! -e "$1" ] || head -c 4096 -- "$1"';
  const { stdout } = await command(context, ["/bin/sh", "-c", script, "sh", `${file}.sha256`], options);
  return stdout
    .split("\n")
    .map((line) => line.slice(0, 64))
    .filter((hash) => HASH.test(hash));
}

async function sizeOf({ sub }: JobContext, file: string): Promise<number> {
  return (await sub.files.stat(file)).size;
}

/** Tells how long a file is, again and again, until the returned function is called. */
function watch(context: JobContext, file: string): () => void {
  let over = false;
  context.progress({ phase: "write", done: 0 });
  const timer = setInterval(() => {
    // It may not be there yet.
    sizeOf(context, file).then(
      (done) => {
        if (!over) context.progress({ phase: "write", done });
      },
      () => {},
    );
  }, LOOK);
  return () => {
    over = true;
    clearInterval(timer);
  };
}

/** @throws TypeError for what is no name of a file */
function split(file: string): { directory: string; name: string } {
  const at = file.lastIndexOf("/");
  const name = file.slice(at + 1);
  if (!file.startsWith("/") || /^\.{0,2}$/.test(name) || /[\0\n]/.test(file)) {
    throw new TypeError(`not the absolute path of a file: ${JSON.stringify(file)}`);
  }
  return { directory: at === 0 ? "/." : file.slice(0, at), name };
}

/** What went wrong, where a command said so. */
export function said(error: unknown): string {
  return error instanceof ExitError ? String(error.stderr).trim().slice(-500) : String(error);
}
