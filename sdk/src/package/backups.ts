/**
 * Backups of a package: what it does before the host copies its data, and after a restore.
 *
 * ```text
 * package backup:  daemons end ─▶ createBackup: pre-backup hooks ─▶ which volumes ─▶ the host stops the package and copies them
 * package restore: the host brings the data back ─▶ init with kind "restore": restoreInit ─▶ the rest of init, main
 * ```
 * What is written to the package's backup target meanwhile (`Mounts.of().mountBackups(…)`) is in the backup, and is there again in a
 * restore. Files are copied by the host, as they are, while nothing of the package runs: nothing here reads a volume.
 */
import { type JobContext, runJob } from "../jobs/job.ts";
import { dumpPostgres, restorePostgres } from "../jobs/postgres.ts";
import { Mounts } from "../mounts/mounts.ts";
import type { PackageEffects } from "./effects.ts";
import type { Names, PackageManifest, StartManifest } from "./manifest.ts";
import type { InitFn, InitScript } from "./sdk.ts";

type AnyManifest = PackageManifest | StartManifest;

/** Done before a backup, or around a restore. Its daemons do not run. */
export type BackupHook = (effects: PackageEffects) => Promise<void>;

/** Or a function that gives it, when it is needed: after volumes and keys were restored. */
export type LazyPassword = string | (() => string | Promise<string>) | null;

/** A database of PostgreSQL that is dumped, rather than copied. */
export interface PgDumpConfig<M extends AnyManifest = PackageManifest> {
  /** The image, with the programs of PostgreSQL and coreutils. */
  imageId: Names<M["images"]>;
  /** The volume of the data directory. It is not copied. */
  dbVolume: Names<M["volumes"]>;
  /** Where that is mounted. */
  mountpoint: string;
  /** The data directory beneath that: `/data`. */
  pgdataPath: string;
  database: string;
  /** The user of the database; the programs run as the image's user `postgres`. */
  user: string;
  /** Set after a restore; null for one who needs none. */
  password: LazyPassword;
  /** Further arguments of `initdb`. */
  initdbArgs?: readonly string[];
  /** Further options of the server: `-c shared_preload_libraries=vectorchord`. */
  pgOptions?: string;
  /** Milliseconds until the server must answer. Default: 60,000. */
  readyTimeout?: number;
}

/** What a worker answers before its backup. */
export interface BackupPlan {
  /** The volumes that the host copies. */
  volumes: string[];
}

/** Where the backup target is in the subcontainer that dumps. */
const TARGET = "/backup-target";
/** The server's socket, which nobody else needs. */
const SOCKET = "/tmp";

/** What is in a backup of the package. See the module. */
export class Backups<M extends AnyManifest = PackageManifest> {
  readonly #volumes: Set<string> = new Set();
  readonly #preBackup: BackupHook[] = [];
  readonly #preRestore: BackupHook[] = [];
  readonly #postRestore: BackupHook[] = [];

  private constructor() {}

  /** These volumes, as they are. */
  static ofVolumes<M extends AnyManifest>(...volumes: Names<M["volumes"]>[]): Backups<M> {
    const backups = new Backups<M>();
    for (const volume of volumes) backups.addVolume(volume);
    return backups;
  }

  /**
   * A database of PostgreSQL, dumped and checked; a restore makes a new data directory of it. Needs the capabilities
   * `subcontainers`, for the image, and `backups`.
   */
  static withPgDump<M extends AnyManifest>(config: PgDumpConfig<M>): Backups<M> {
    return new Backups<M>()
      .setPreBackup((effects) => dump(effects, config as PgDumpConfig))
      .setPostRestore((effects) => restore(effects, config as PgDumpConfig));
  }

  /** One more volume, as it is. */
  addVolume(volume: Names<M["volumes"]>): this {
    this.#volumes.add(volume);
    return this;
  }

  /** Done before anything is copied: a dump. After those that are there. */
  setPreBackup(hook: BackupHook): this {
    this.#preBackup.push(hook);
    return this;
  }

  /** Done after a restore has brought volumes and keys back, before the post-restore hooks. */
  setPreRestore(hook: BackupHook): this {
    this.#preRestore.push(hook);
    return this;
  }

  /** Done last in a restore. What throws undoes it. */
  setPostRestore(hook: BackupHook): this {
    this.#postRestore.push(hook);
    return this;
  }

  /** Gets ready to be copied. */
  async createBackup(effects: PackageEffects): Promise<BackupPlan> {
    for (const hook of this.#preBackup) await hook(effects);
    return { volumes: [...this.#volumes] };
  }

  /** Makes what is needed of what was restored. */
  async restoreBackup(effects: PackageEffects): Promise<void> {
    for (const hook of [...this.#preRestore, ...this.#postRestore]) await hook(effects);
  }
}

/** Volumes, or what makes the whole. */
export type SetupBackupsParams<M extends AnyManifest> =
  | readonly Names<M["volumes"]>[]
  | ((options: { effects: PackageEffects }) => Promise<Backups<M>>);

/** Called before a backup. */
export type CreateBackup = (options: { effects: PackageEffects }) => Promise<BackupPlan>;

/** What `setupBackups` gives: `createBackup` for `serve`, `restoreInit` for `setupInit`. */
export interface SetupBackups {
  createBackup: CreateBackup;
  restoreInit: InitScript & { init: InitFn };
}

/** See `Sdk.setupBackups`. */
export function setupBackups<M extends AnyManifest>(params: SetupBackupsParams<M>): SetupBackups {
  const make = async (effects: PackageEffects): Promise<Backups<M>> =>
    typeof params === "function" ? params({ effects }) : Backups.ofVolumes<M>(...params);
  return {
    createBackup: async ({ effects }) => (await make(effects)).createBackup(effects),
    restoreInit: {
      init: async (effects, kind) => {
        if (kind === "restore") await (await make(effects)).restoreBackup(effects);
      },
    },
  };
}

/** A server on the data directory, in a subcontainer of its own, for as long as `work` takes. */
async function withServer(
  effects: PackageEffects,
  config: PgDumpConfig,
  name: string,
  begin: (context: JobContext, data: string) => Promise<unknown>,
  work: (context: JobContext, reach: Reach) => Promise<unknown>,
): Promise<void> {
  const { imageId, dbVolume, mountpoint, pgdataPath, database, user } = config;
  const data = `${mountpoint}${pgdataPath}`;
  const directory = `${TARGET}/postgres`;
  const mounts = Mounts.of()
    .mountVolume({ volumeId: dbVolume, mountpoint, readonly: false })
    .mountBackups({ mountpoint: TARGET });
  const options = { name, target: `volume:${dbVolume}`, image: { imageId }, mounts, signal: effects.signal };
  await runJob(effects.host, options, async (context) => {
    const { sub } = context;
    const owned = ["install", "-d", "-o", "postgres", "-m", "700"];
    await sub.execFail([...owned, "--", directory, data], { user: "root" });
    await begin(context, data);
    const settings = `-c listen_addresses= -c unix_socket_directories=${SOCKET} ${config.pgOptions ?? ""}`;
    const seconds = String(Math.ceil((config.readyTimeout ?? 60_000) / 1000));
    const control = ["pg_ctl", "-w", "-t", seconds, "-D", data];
    const start = [...control, "-l", `${SOCKET}/postgres.log`, "-o", settings, "start"];
    try {
      await sub.execFail(start, { user: "postgres", timeout: null });
    } catch (error) {
      const log = await sub.exec(["tail", "-n", "20", `${SOCKET}/postgres.log`], { user: "postgres" });
      throw new Error(`the database does not start: ${log.stdout}`, { cause: error });
    }
    const file = `${directory}/${encodeURIComponent(database)}.dump`;
    await work(context, { database, username: user, host: SOCKET, user: "postgres", file });
    await sub.execFail([...control, "-m", "fast", "stop"], { user: "postgres", timeout: null });
  });
}

interface Reach {
  database: string;
  username: string;
  host: string;
  /** The subcontainer's, not the database's. */
  user: string;
  file: string;
}

async function password(config: PgDumpConfig): Promise<string | null> {
  return typeof config.password === "function" ? config.password() : config.password;
}

async function dump(effects: PackageEffects, config: PgDumpConfig): Promise<void> {
  const secret = await password(config);
  const env = secret === null ? {} : { PGPASSWORD: secret };
  await withServer(
    effects,
    config,
    "pg-dump",
    // Of a server that was killed: the host ends all of them before.
    ({ sub }, data) => sub.exec(["rm", "-f", `${data}/postmaster.pid`], { user: "postgres" }),
    (context, reach) => dumpPostgres(context, { ...reach, env }),
  );
}

async function restore(effects: PackageEffects, config: PgDumpConfig): Promise<void> {
  const { user, database } = config;
  const sql = async (
    { sub }: JobContext,
    statement: string,
    values: Record<string, string>,
  ): Promise<string> => {
    const set = Object.entries(values).flatMap(([name, value]) => ["-v", `${name}=${value}`]);
    const where = ["-h", SOCKET, "-U", user, "-d", "postgres", "-AtX", "-v", "ON_ERROR_STOP=1"];
    return (await sub.execFail(["psql", ...where, ...set], { user: "postgres", input: statement })).stdout;
  };
  await withServer(
    effects,
    config,
    "pg-restore",
    ({ sub }, data) =>
      sub.execFail(["initdb", "-D", data, "-U", user, ...(config.initdbArgs ?? [])], {
        user: "postgres",
        timeout: null,
      }),
    async (context, reach) => {
      const there = "SELECT count(*) FROM pg_database WHERE datname = :'name'";
      if ((await sql(context, there, { name: database })).trim() === "0")
        await sql(context, 'CREATE DATABASE :"name"', { name: database });
      await restorePostgres(context, { ...reach, arguments: ["--no-owner", "--no-privileges"] });
      const secret = await password(config);
      if (secret !== null)
        await sql(context, "ALTER USER :\"name\" PASSWORD :'secret'", { name: user, secret });
    },
  );
}
