/**
 * Real databases as daemons, for the tests of this directory.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { inject } from "vitest";
import { Daemons, type Host, type JobOptions, Mounts, SubContainer } from "../../src/index.ts";

/** Where backups lie, on the machine. */
export const backup = (): string => join(inject("dataDir"), "backup");

/** The names there. */
export const backups = (): string[] => readdirSync(backup()).sort();

/** A database server: its data and its socket lie in a volume, which jobs mount too. */
export interface Service {
  /** Runs SQL, and gives what it says. */
  query(database: string, sql: string): Promise<string>;
  /** A job beside it. */
  job(more?: Partial<JobOptions>): JobOptions;
  /** Ends it. */
  term(): Promise<void>;
}

const DATA = { postgres: "/var/lib/postgresql/data", mariadb: "/var/lib/mysql" } as const;
/** Where the server's socket is. */
export const SOCKET: { readonly postgres: string; readonly mariadb: string } = {
  postgres: DATA.postgres,
  mariadb: "/var/lib/mysql/mysqld.sock",
};

/** Starts one, with an empty volume. */
export async function start(host: Host, what: "postgres" | "mariadb", volumeId: string): Promise<Service> {
  const image = { imageId: `${what}-demo`, throwaway: true };
  const data = DATA[what];
  // On the machine the files are root's; inside they are the server's own.
  const uid = await SubContainer.withTemp(host, image, null, "ask", async (sub) =>
    Number((await sub.execFail(["id", "-u"])).stdout),
  );
  const idmap = [{ fromId: 0, toId: uid }];
  const volume = (readonly: boolean): Mounts =>
    Mounts.of().mountVolume({ volumeId, mountpoint: data, readonly, idmap });
  const sub = await SubContainer.of(host, image, volume(false));
  const install =
    what === "postgres"
      ? ["initdb", "--auth=trust", "--no-sync"]
      : [
          "mariadb-install-db",
          "--auth-root-authentication-method=normal",
          "--skip-test-db",
          "--force",
          `--datadir=${data}`,
        ];
  const serve =
    what === "postgres"
      ? ["postgres", "-k", data, "-c", "listen_addresses=", "-c", "fsync=off"]
      : [
          "mariadbd",
          "--no-defaults",
          `--pid-file=${data}/pid`,
          `--datadir=${data}`,
          `--socket=${SOCKET.mariadb}`,
          "--skip-networking",
          "--innodb-buffer-pool-size=8M",
        ];
  const ask =
    what === "postgres"
      ? ["pg_isready", "--quiet", "-h", data]
      : ["mariadb-admin", `--socket=${SOCKET.mariadb}`, "--user=root", "ping"];
  const restart = { crashLoop: 2, retryAfter: null };
  const daemons = await Daemons.of(host)
    .addOneshot("install", { subcontainer: sub, exec: { command: install }, restart, requires: [] })
    .addDaemon("server", {
      subcontainer: sub,
      exec: { command: serve },
      restart,
      ready: { display: what, exec: ask },
      requires: ["install"],
    })
    .build();
  try {
    await daemons.allReady(AbortSignal.timeout(60_000));
  } catch (error) {
    const said = `${daemons.output("install")}\n${daemons.output("server")}`;
    await daemons.term();
    throw new Error(`${what} does not start:\n${said}`, { cause: error });
  }
  let jobs = 0;
  return {
    query: async (database, sql) => {
      const client =
        what === "postgres"
          ? ["psql", "-XAtq", "-h", data, "-d", database, "-c", sql]
          : [
              "mariadb",
              `--socket=${SOCKET.mariadb}`,
              "--user=root",
              "--skip-column-names",
              "--batch",
              `--execute=${sql}`,
              database,
            ];
      return (await sub.execFail(client)).stdout.trim();
    },
    job: (more = {}) => ({
      name: "test",
      target: `${volumeId} ${jobs++}`,
      image,
      mounts: volume(true)
        .mountBackups({ mountpoint: "/backup", idmap })
        .mountTmpfs({ mountpoint: "/small", size: 65_536, mode: 0o777 }),
      ...more,
    }),
    term: () => daemons.term(),
  };
}

/** SIGKILL to a program in a subcontainer as soon as it is there. */
export async function killWhenThere(sub: SubContainer, program: string): Promise<void> {
  const script = `
    while :; do
      for comm in /proc/[0-9]*/comm; do
        read name <$comm 2>/dev/null || continue
        [ "$name" = "$1" ] && pid=\${comm%/comm} && kill -9 \${pid#/proc/} && exit 0
      done
    done`;
  await sub.execFail(["sh", "-c", script, "sh", program]);
}
