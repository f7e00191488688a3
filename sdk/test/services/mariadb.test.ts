import { readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import {
  connect,
  dumpMysql,
  type Host,
  Mounts,
  restoreMysql,
  runJob,
  SubContainer,
  syncDirectory,
} from "../../src/index.ts";
import { backup, backups, killWhenThere, type Service, SOCKET, start } from "./services.ts";

let host: Host;
let db: Service;
const inside = { socket: SOCKET.mariadb, username: "root" };

beforeAll(async () => {
  host = await connect({ dataDir: inject("dataDir") });
  db = await start(host, "mariadb", "mysqldata");
  await db.query("", "CREATE DATABASE people; CREATE DATABASE again");
  await db.query("people", "CREATE TABLE people (id int PRIMARY KEY, name text)");
  await db.query("people", "INSERT INTO people SELECT seq, md5(seq) FROM seq_1_to_20000");
  await db.query("people", "CREATE PROCEDURE one() SELECT 1");
}, 120_000);
afterAll(async () => {
  await db?.term();
  host?.close();
});

const sum = (database: string) =>
  db.query(database, "CHECKSUM TABLE people").then((said) => said.split("\t")[1]);

describe("S25: MariaDB", () => {
  test("a dump is restored as it was, with its routines", async () => {
    const file = "/backup/it's people.sql";
    const made = await runJob(host, db.job(), (context) =>
      dumpMysql(context, { ...inside, database: "people", file }),
    );
    expect(made.bytes).toBe(readFileSync(join(backup(), "it's people.sql")).length);
    await runJob(host, db.job(), (context) => restoreMysql(context, { ...inside, database: "again", file }));
    expect(await sum("again")).toBe(await sum("people"));
    expect(await db.query("again", "CALL one()")).toBe("1");
  });

  test("a dump that fails leaves the former one as it was", async () => {
    const file = "/backup/kept.sql";
    const dump = (database = "people", also?: (sub: SubContainer) => Promise<unknown>) =>
      runJob(host, db.job(), async (context) => {
        await Promise.all([dumpMysql(context, { ...inside, database, file }), also?.(context.sub)]);
      });
    await dump();
    const before = readFileSync(join(backup(), "kept.sql"));
    const locked = db.query("people", "LOCK TABLES people WRITE; SELECT SLEEP(2)");
    const killed = dump("people", (sub) => killWhenThere(sub, "mariadb-dump"));
    await expect(killed).rejects.toThrow(/SIGKILL/);
    await locked;
    await expect(dump("nobody")).rejects.toThrow(/Unknown database 'nobody'/);
    await expect(dump("--all-databases")).rejects.toThrow(/Unknown database|Incorrect database/);
    await runJob(host, db.job(), async (context) => {
      await expect(
        dumpMysql(context, { ...inside, database: "people", file: "/small/people.sql" }),
      ).rejects.toThrow(/errno 28|No space left/);
    });
    expect(readFileSync(join(backup(), "kept.sql")).equals(before)).toBe(true);
    expect(backups().filter((name) => name.includes("kept.sql"))).toEqual(["kept.sql", "kept.sql.sha256"]);
    // The end is missing, and the checksum agrees: whoever wrote it was cut off.
    await runJob(host, db.job(), async ({ sub, ...context }) => {
      const script = `#!/bin/sh\nfor a; do case $a in --result-file=*) f=\${a#--result-file=};; esac; done\n/usr/bin/mariadb-dump "$@" || exit\ntruncate -s -40 "$f"\n`;
      await sub.writeFile("/usr/local/sbin/mariadb-dump", script, { mode: 0o755 });
      await expect(dumpMysql({ sub, ...context }, { ...inside, database: "people", file })).rejects.toThrow(
        "is cut off",
      );
    });
    truncateSync(join(backup(), "kept.sql"), before.length - 1);
    const restored = runJob(host, db.job(), (context) =>
      restoreMysql(context, { ...inside, database: "again", file }),
    );
    await expect(restored).rejects.toThrow("is not what was written");
  });
});

describe("S25: rsync", () => {
  test("makes a volume like another one, and goes on with what it has begun", async () => {
    const image = { imageId: "mariadb-demo", throwaway: true };
    const mounts = Mounts.of()
      .mountVolume({ volumeId: "from", mountpoint: "/from", readonly: false })
      .mountVolume({ volumeId: "to", mountpoint: "/to", readonly: false });
    const inVolumes = (script: string) =>
      SubContainer.withTemp(host, image, mounts, "test", (sub) =>
        sub.execFail(["sh", "-c", script], { user: "root" }),
      );
    await inVolumes(`
      cd /from; mkdir -p "a b/c"; head -c 3000000 /dev/urandom >"a b/c/big"; ln "a b/c/big" hard; ln -s "a b" link
      echo x >--delete; chown 12:34 -- --delete; chmod 640 -- --delete; touch -d 2001-02-03 "a b/c"
      echo old >/to/old`);
    const copy = (more = {}) =>
      runJob(host, { name: "copy", target: "volume to", image, mounts, wait: true }, (context) =>
        syncDirectory(context, { from: "/from", to: "/to", user: "root", verify: true, ...more }),
      );
    const job = copy();
    const seen: (number | null)[] = [];
    for await (const { phase, percent } of job) if (phase === "copy") seen.push(percent);
    await job;
    expect(Math.max(...seen.map((percent) => percent ?? 0))).toBeGreaterThan(0);
    const look =
      "find . -printf '%p %m %U:%G %y %s %n %l %t\\n' | sort; find . -type f -exec sha256sum {} + | sort";
    const [from, to] = await Promise.all(["/from", "/to"].map((dir) => inVolumes(`cd ${dir}; ${look}`)));
    expect(to?.stdout).toBe(from?.stdout);
    expect(from?.stdout).toContain("./--delete 640 12:34 f 2 1");
    // Same size, same time, another content: seen by reading both again.
    await inVolumes(
      `cd /to; cp -p hard keep; printf X | dd of=hard bs=1 conv=notrunc 2>/dev/null; touch -r keep hard; rm keep`,
    );
    await expect(copy()).rejects.toThrow("/to differs from /from in ");
    await inVolumes("touch /to/hard");
    await copy();
    await expect(copy({ from: "/none" })).rejects.toThrow(/No such file/);
    await expect(copy({ from: "from" })).rejects.toThrow("not an absolute path");
  });
});
