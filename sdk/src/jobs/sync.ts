/**
 * Copies of directories, with the image's own rsync.
 */
import type { CommandOptions } from "../process/options.ts";
import { CorruptFileError, command } from "./checked.ts";
import type { JobContext } from "./job.ts";

/** What to copy, and where to. */
export interface SyncOptions extends CommandOptions {
  /** A directory inside: what is in it is copied, with owners, modes, times, links, attributes. */
  from: string;
  /** A directory inside, which is made like it. */
  to: string;
  /** Remove there what is not here. Default true. */
  delete?: boolean | undefined;
  /** Read both again afterwards, and compare. Default false: sizes and times were compared. */
  verify?: boolean | undefined;
  /** Patterns of rsync's that are left out: `["*.tmp"]`. */
  exclude?: readonly string[] | undefined;
}

/** `  1,234,567  45%    1.2MB/s    0:00:01` */
const PROGRESS = /([\d,.]+)\s+(\d{1,3})%/;

/**
 * Makes one directory like another. What is there already and the same is not copied again, so that one that was cancelled
 * or killed is gone on with.
 *
 * @throws ExitError when rsync fails; CorruptFileError when the two are not alike afterwards
 */
export async function syncDirectory(context: JobContext, options: SyncOptions): Promise<void> {
  const { sub, signal, progress } = context;
  const { env, cwd, user, umask, ulimits, oomScoreAdj } = options;
  const inside: CommandOptions = { env: { ...env, LC_ALL: "C" }, cwd, user, umask, ulimits, oomScoreAdj };
  for (const path of [options.from, options.to]) {
    if (!path.startsWith("/")) throw new TypeError(`not an absolute path: ${path}`);
  }
  const what = [
    "--archive",
    "--hard-links",
    "--acls",
    "--xattrs",
    "--numeric-ids",
    // Times to the nanosecond: by default those within one second are the same. rsync 3.1.3.
    "--modify-window=-1",
    ...((options.delete ?? true) ? ["--delete"] : []),
    ...(options.exclude ?? []).map((pattern) => `--exclude=${pattern}`),
  ];
  const paths = ["--", `${options.from}/`, `${options.to}/`];
  progress({ phase: "copy", done: 0 });
  const copying = sub.run(
    ["rsync", ...what, "--info=progress2", "--no-inc-recursive", "--outbuf=L", ...paths],
    {
      ...inside,
      signal,
      timeout: null,
      maxBuffer: 64 * 1024,
    },
  );
  for await (const chunk of copying.bytes()) {
    const said = PROGRESS.exec(lastLine(chunk));
    if (said === null) continue;
    progress({ phase: "copy", done: Number(said[1]?.replaceAll(/[,.]/g, "")), percent: Number(said[2]) });
  }
  (await copying).throw();
  signal.throwIfAborted();
  progress({ phase: "sync" });
  await command(context, ["sync", "-f", options.to], inside);
  if (!options.verify) return;
  progress({ phase: "verify" });
  const compare = ["rsync", ...what, "--dry-run", "--checksum", "--itemize-changes", ...paths];
  const { stdout } = await command(context, compare, inside);
  const different = stdout.split("\n").filter((line) => line !== "");
  if (different.length > 0) {
    throw new CorruptFileError(
      options.to,
      `differs from ${options.from} in ${different.length}: ${different[0]}`,
    );
  }
}

/** rsync writes over its own line. */
function lastLine(chunk: Uint8Array): string {
  const text = new TextDecoder().decode(chunk).trimEnd();
  return text.slice(Math.max(text.lastIndexOf("\r"), text.lastIndexOf("\n")) + 1);
}
