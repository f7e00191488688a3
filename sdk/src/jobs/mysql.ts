/**
 * Dumps of MySQL and MariaDB databases, and restores, with the image's own `mariadb-dump` or `mysqldump`, `mariadb` or
 * `mysql`.
 */
import type { CommandOptions } from "../process/options.ts";
import { type CheckedFile, CorruptFileError, command, end, mustAgree, writeChecked } from "./checked.ts";
import type { JobContext } from "./job.ts";

/** Which database, and how to reach it. Passwords go by `env` (`MYSQL_PWD`), never by arguments. */
export interface MysqlOptions extends CommandOptions {
  /** The database. */
  database: string;
  /** The server's socket. */
  socket?: string | undefined;
  host?: string | undefined;
  port?: number | undefined;
  /** The database's user. */
  username?: string | undefined;
  /** The dump's absolute path inside. */
  file: string;
  /** Further arguments of the program. */
  arguments?: readonly string[] | undefined;
}

const MARKER = /^-- Dump completed(?: on .*)?$/;

/**
 * Dumps a database, with its routines, triggers and events, as it is at one moment (for InnoDB), into a file, which is
 * there in full or as it was before. A dump that is empty or cut off is a failure.
 *
 * @throws ExitError when the program fails, CorruptFileError when what it wrote is not good
 */
export function dumpMysql(context: JobContext, options: MysqlOptions): Promise<CheckedFile> {
  const inside = commandOptions(options);
  const what = ["--single-transaction", "--quick", "--routines", "--triggers", "--events", "--comments"];
  return writeChecked(
    context,
    options.file,
    inside,
    (partial) =>
      program(
        context,
        ["mariadb-dump", "mysqldump"],
        [
          ...where(options),
          ...what,
          ...(options.arguments ?? []),
          `--result-file=${partial}`,
          "--",
          options.database,
        ],
        inside,
      ),
    (partial) => mustBeDump(context, partial, inside),
  );
}

/**
 * Restores a database from a dump, which is compared with its checksum and looked at before anything is touched. The
 * server has no transactions for tables that are made anew: what fails half-way is half-way.
 *
 * @throws CorruptFileError when it is not what was written; ExitError when the server refuses
 */
export async function restoreMysql(context: JobContext, options: MysqlOptions): Promise<void> {
  const { file } = options;
  const inside = commandOptions(options);
  await mustAgree(context, file, inside);
  context.progress({ phase: "verify" });
  await mustBeDump(context, file, inside);
  context.progress({ phase: "restore" });
  const what = [...where(options), "--batch", ...(options.arguments ?? []), "--", options.database];
  await program(context, ["mariadb", "mysql"], what, inside, file);
}

async function mustBeDump(context: JobContext, file: string, inside: CommandOptions): Promise<void> {
  const lines = (await end(context, file, 1024, inside)).trimEnd().split("\n");
  if (!MARKER.test(lines.at(-1) ?? "")) {
    throw new CorruptFileError(file, "is cut off: it does not end as a dump does");
  }
}

/** Runs the first of two programs that the image has. */
async function program(
  context: JobContext,
  [first, second]: readonly [string, string],
  argv: readonly string[],
  inside: CommandOptions,
  input = "/dev/null",
): Promise<void> {
  const script =
    'input=$1 first=$2 second=$3; shift 3; exec "$(command -v "$first" || echo "$second")" "$@" <"$input"';
  await command(context, ["/bin/sh", "-c", script, "sh", input, first, second, ...argv], inside);
}

function where({ socket, host, port, username }: MysqlOptions): string[] {
  return [
    ...(socket === undefined ? [] : [`--socket=${socket}`]),
    ...(host === undefined ? [] : [`--host=${host}`]),
    ...(port === undefined ? [] : [`--port=${port}`]),
    ...(username === undefined ? [] : [`--user=${username}`]),
  ];
}

function commandOptions({ env, cwd, user, umask, ulimits, oomScoreAdj }: CommandOptions): CommandOptions {
  return { env, cwd, user, umask, ulimits, oomScoreAdj };
}
