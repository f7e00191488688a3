/**
 * Dumps of PostgreSQL databases, and restores, with the image's own `pg_dump`, `pg_restore` and `psql`. What is called a
 * dump afterwards was read to its end.
 */
import type { CommandOptions } from "../process/options.ts";
import {
  type CheckedFile,
  CorruptFileError,
  command,
  end,
  mustAgree,
  said,
  writeChecked,
} from "./checked.ts";
import type { JobContext } from "./job.ts";

/** Which database, and how to reach it. Passwords go by `env` (`PGPASSWORD`), never by arguments. */
export interface PostgresOptions extends CommandOptions {
  /** The database. */
  database: string;
  /** A host name, or the directory of the server's socket. Default: `PGHOST`, else the image's own. */
  host?: string | undefined;
  port?: number | undefined;
  /** The database's user. */
  username?: string | undefined;
  /** The dump's absolute path inside. */
  file: string;
}

/** How to dump. */
export interface PostgresDumpOptions extends PostgresOptions {
  /** `custom` (default): compressed, for `pg_restore`. `plain`: SQL. */
  format?: "custom" | "plain" | undefined;
  /** Further arguments of `pg_dump`: `["--exclude-table=log"]`. */
  arguments?: readonly string[] | undefined;
}

/** How to restore. */
export interface PostgresRestoreOptions extends PostgresOptions {
  /** Drop what is there and in the dump first. Default false. */
  clean?: boolean | undefined;
  /** Further arguments of `pg_restore`, or of `psql` for a plain dump. */
  arguments?: readonly string[] | undefined;
}

const MAGIC = "PGDMP";
const MARKER = "-- PostgreSQL database dump complete";

/**
 * Dumps a database into a file, which is there in full or as it was before. A dump that is empty, cut off or cannot be
 * read again is a failure.
 *
 * @throws ExitError when `pg_dump` fails, CorruptFileError when what it wrote is not good
 */
export function dumpPostgres(context: JobContext, options: PostgresDumpOptions): Promise<CheckedFile> {
  const { format = "custom", file } = options;
  const inside = commandOptions(options);
  return writeChecked(
    context,
    file,
    inside,
    (partial) =>
      command(
        context,
        [
          "pg_dump",
          `--format=${format}`,
          `--file=${partial}`,
          ...where(options),
          ...(options.arguments ?? []),
        ],
        inside,
      ),
    (partial) => mustBeDump(context, partial, format, inside),
  );
}

/**
 * Restores a database from a dump of either format, in one transaction: all of it, or nothing. The dump is compared with
 * its checksum and read to its end before anything is touched.
 *
 * @throws CorruptFileError when it is not what was written; ExitError when the server refuses
 */
export async function restorePostgres(context: JobContext, options: PostgresRestoreOptions): Promise<void> {
  const { file, clean } = options;
  const inside = commandOptions(options);
  await mustAgree(context, file, inside);
  const { stdout: head } = await command(context, ["head", "-c", `${MAGIC.length}`, "--", file], inside);
  const format = head === MAGIC ? "custom" : "plain";
  context.progress({ phase: "verify" });
  await mustBeDump(context, file, format, inside);
  context.progress({ phase: "restore" });
  const more = options.arguments ?? [];
  if (format === "custom") {
    const cleaning = clean ? ["--clean", "--if-exists"] : [];
    await command(
      context,
      [
        "pg_restore",
        "--exit-on-error",
        "--single-transaction",
        ...cleaning,
        ...where(options),
        ...more,
        file,
      ],
      inside,
    );
    return;
  }
  if (clean) throw new TypeError("a plain dump cannot be restored with `clean`: dump it with `--clean`");
  const stop = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction", `--file=${file}`];
  await command(context, ["psql", ...stop, ...where(options), ...more], inside);
}

async function mustBeDump(
  context: JobContext,
  file: string,
  format: "custom" | "plain",
  inside: CommandOptions,
): Promise<void> {
  if (format === "plain") {
    const lines = (await end(context, file, 1024, inside)).split("\n");
    const at = lines.lastIndexOf(MARKER);
    // Releases since August 2025 have one more line behind it.
    const behind = at === -1 ? [] : lines.slice(at + 1);
    if (at === -1 || behind.some((line) => !/^(--)?$|^\\unrestrict /.test(line))) {
      throw new CorruptFileError(file, "is cut off: it does not end as a dump does");
    }
    return;
  }
  try {
    // The list is at the beginning: it says nothing about the rest, which has to be read, too.
    const { stdout } = await command(context, ["pg_restore", "--list", file], inside);
    if (!stdout.includes("; Archive created at ")) throw new Error("it has no table of contents");
    await command(context, ["pg_restore", "--file=/dev/null", file], inside);
  } catch (error) {
    if (context.signal.aborted) throw error;
    throw new CorruptFileError(file, `cannot be read: ${said(error)}`, { cause: error });
  }
}

function where({ database, host, port, username }: PostgresOptions): string[] {
  return [
    `--dbname=${connectionName(database)}`,
    ...(host === undefined ? [] : [`--host=${host}`]),
    ...(port === undefined ? [] : [`--port=${port}`]),
    ...(username === undefined ? [] : [`--username=${username}`]),
    "--no-password",
  ];
}

/** The programs take a name with `=` or a URL for a whole description of a connection: written as one, it is only a name. */
function connectionName(database: string): string {
  return `dbname='${database.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}

function commandOptions({ env, cwd, user, umask, ulimits, oomScoreAdj }: CommandOptions): CommandOptions {
  return { env, cwd, user, umask, ulimits, oomScoreAdj };
}
