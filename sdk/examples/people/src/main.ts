import type { PackageEffects, SubContainerLazy } from "start-container/package";
import { sdk } from "./sdk.ts";

const DATA = "/data/db";
const PORT = 8080;

let database: SubContainerLazy | undefined;

/** What the database says to a statement; values are named in it as `:'name'`. */
export async function query(sql: string, values: Record<string, string> = {}): Promise<string> {
  if (database === undefined) throw new Error("the database does not run");
  const set = Object.entries(values).flatMap(([name, value]) => ["-v", `${name}=${value}`]);
  const command = ["psql", "-h", DATA, "-d", "postgres", "-AtX", "-v", "ON_ERROR_STOP=1", ...set];
  return (await database.execFail(command, { input: sql })).stdout;
}

const inSubcontainer = (effects: PackageEffects, name: string): SubContainerLazy =>
  sdk.SubContainer.lazy(
    effects,
    { imageId: "main" },
    sdk.Mounts.of()
      .mountVolume({ volumeId: "main", mountpoint: "/data", readonly: false })
      .mountAssets({ mountpoint: "/app" }),
    name,
  );

export const main = sdk.setupMain(async ({ effects }) => {
  const db = inSubcontainer(effects, "database");
  database = db;
  const once = `test -s ${DATA}/PG_VERSION || initdb -D ${DATA} --auth=peer --encoding=UTF8 --locale=C`;
  const table = "CREATE TABLE IF NOT EXISTS people (name text PRIMARY KEY, born int)";
  return sdk.Daemons.of(effects)
    .addOneshot("directory", {
      subcontainer: db,
      exec: { command: ["install", "-d", "-o", "postgres", "-m", "700", DATA], user: "root" },
      requires: [],
    })
    .addOneshot("initdb", {
      subcontainer: db,
      exec: { command: ["sh", "-c", once] },
      requires: ["directory"],
    })
    .addDaemon("postgres", {
      subcontainer: db,
      exec: { command: ["postgres", "-D", DATA, "-k", DATA, "-c", "listen_addresses="] },
      ready: { display: "Database", exec: ["pg_isready", "-h", DATA, "-q"] },
      requires: ["initdb"],
    })
    .addOneshot("table", {
      subcontainer: db,
      exec: { command: ["psql", "-h", DATA, "-d", "postgres", "-qX", "-c", table] },
      requires: ["postgres"],
    })
    .addDaemon("web", {
      subcontainer: inSubcontainer(effects, "web"),
      exec: { command: ["perl", "/app/web.pl", String(PORT)], env: { PGHOST: DATA, PGDATABASE: "postgres" } },
      ready: { display: "Web application", http: `http://localhost:${PORT}/` },
      requires: ["table"],
    });
});
