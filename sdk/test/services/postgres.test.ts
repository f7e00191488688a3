import { createHash } from "node:crypto";
import { readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import {
  type CheckedFile,
  connect,
  dumpPostgres,
  type Host,
  type JobContext,
  type JobProgress,
  restorePostgres,
  runJob,
} from "../../src/index.ts";
import { until } from "../host/look.ts";
import { backup, backups, killWhenThere, type Service, SOCKET, start } from "./services.ts";

let host: Host;
let db: Service;
const inside = { host: SOCKET.postgres };

beforeAll(async () => {
  host = await connect({ dataDir: inject("dataDir") });
  db = await start(host, "postgres", "pgdata");
  await db.query("postgres", "CREATE DATABASE people");
  await db.query("people", "CREATE TABLE people (id int PRIMARY KEY, name text)");
  await db.query("people", "INSERT INTO people SELECT n, md5(n::text) FROM generate_series(1, 20000) n");
}, 120_000);
afterAll(async () => {
  await db?.term();
  host?.close();
});

const sum = (database: string) =>
  db.query(database, "SELECT count(*), md5(string_agg(name, ',' ORDER BY id)) FROM people");
const dump = (
  file: string,
  more: Partial<Parameters<typeof dumpPostgres>[1]> = {},
  also: (context: JobContext) => Promise<unknown> = async () => {},
): PromiseLike<CheckedFile> =>
  runJob(host, db.job(), async (context) => {
    const [made] = await Promise.all([
      dumpPostgres(context, { ...inside, database: "people", file, ...more }),
      also(context),
    ]);
    return made;
  });
const restore = (file: string, database: string, clean = false) =>
  runJob(host, db.job(), (context) => restorePostgres(context, { ...inside, database, file, clean }));

describe("S25: PostgreSQL", () => {
  for (const format of ["custom", "plain"] as const) {
    test(`a dump, ${format}, is restored as it was`, async () => {
      const file = `/backup/it's ${format}.dump`;
      const name = `it's ${format}.dump`;
      const job = runJob(host, db.job(), (context) =>
        dumpPostgres(context, { ...inside, database: "people", file, format }),
      );
      const seen: JobProgress[] = [];
      for await (const one of job) seen.push(one);
      const made = await job;
      const bytes = readFileSync(join(backup(), name));
      expect(made).toEqual({
        file,
        bytes: bytes.length,
        sha256: createHash("sha256").update(bytes).digest("hex"),
      });
      expect(seen.map(({ phase }) => phase)).toEqual(
        expect.arrayContaining(["create", "write", "verify", "checksum", "commit"]),
      );
      expect(backups().filter((one) => one.includes(format))).toEqual([name, `${name}.sha256`]);

      await db.query("postgres", `CREATE DATABASE again_${format}`);
      await restore(file, `again_${format}`);
      expect(await sum(`again_${format}`)).toBe(await sum("people"));
      // All or nothing: what is there already is in the way, and nothing was changed.
      await expect(restore(file, `again_${format}`)).rejects.toThrow("already exists");
      if (format === "custom") await restore(file, `again_${format}`, true);
      expect(await sum(`again_${format}`)).toBe(await sum("people"));
    });
  }

  test("a dump that fails leaves the former one as it was", async () => {
    await dump("/backup/kept.dump");
    const before = readFileSync(join(backup(), "kept.dump"));
    const fails = async (making: PromiseLike<unknown>, why: RegExp): Promise<void> => {
      await expect(making).rejects.toThrow(why);
      expect(readFileSync(join(backup(), "kept.dump")).equals(before)).toBe(true);
      expect(backups().filter((name) => name.includes("kept.dump"))).toEqual([
        "kept.dump",
        "kept.dump.sha256",
      ]);
    };
    await fails(dump("/backup/kept.dump", { database: "nobody" }), /database "nobody" does not exist/);
    await fails(dump("/backup/kept.dump", { database: "people host=elsewhere" }), /does not exist/);
    // A lock keeps it waiting until it is killed.
    const locked = db.query("people", "BEGIN; LOCK people; SELECT pg_sleep(2); COMMIT");
    await fails(
      dump("/backup/kept.dump", {}, ({ sub }) => killWhenThere(sub, "pg_dump")),
      /SIGKILL/,
    );
    await locked;
    // One that lies: it has succeeded, and written half of it.
    const liar = async ({ sub }: JobContext, format: string): Promise<CheckedFile> => {
      const real = (await sub.execFail(["sh", "-c", "command -v pg_dump"])).stdout.trim();
      const script = `#!/bin/sh\nfor a; do case $a in --file=*) f=\${a#--file=};; esac; done\n${real} "$@" || exit\ntruncate -s $(($(stat -c %s "$f") / 2)) "$f"\n`;
      await sub.writeFile("/usr/local/sbin/pg_dump", script, { mode: 0o755 });
      return dumpPostgres(context(sub), {
        ...inside,
        database: "people",
        file: "/backup/kept.dump",
        format: format as "plain",
      });
    };
    const context = (sub: JobContext["sub"]): JobContext => ({
      sub,
      signal: new AbortController().signal,
      progress: () => {},
    });
    await fails(
      runJob(host, db.job(), (one) => liar(one, "custom")),
      /cannot be read: .*(unexpected end|could not read)/s,
    );
    await fails(
      runJob(host, db.job(), (one) => liar(one, "plain")),
      /is cut off/,
    );
    const stop = new AbortController();
    const cancelled = runJob(host, db.job({ signal: stop.signal }), async (one) => {
      const blocked = db.query("people", "BEGIN; LOCK people; SELECT pg_sleep(3); COMMIT");
      const held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted";
      await until("the table is locked", async () => (await db.query("people", held)).trim() !== "0");
      setTimeout(() => stop.abort(new Error("nobody wants it")), 100);
      await dumpPostgres(one, { ...inside, database: "people", file: "/backup/kept.dump" }).finally(
        () => blocked,
      );
    });
    await expect(cancelled).rejects.toThrow(/nobody wants it/);
    expect(readFileSync(join(backup(), "kept.dump")).equals(before)).toBe(true);
    // What it left is nobody's, and gone with the next one.
    await dump("/backup/kept.dump");
    expect(backups().filter((name) => name.includes("kept.dump"))).toEqual(["kept.dump", "kept.dump.sha256"]);
  });

  test("a full disk fails it, and the former one stays", async () => {
    await runJob(host, db.job(), async (context) => {
      const options = { ...inside, database: "people", file: "/small/people.dump" };
      const small = { ...options, arguments: ["--schema-only"] };
      const { sha256 } = await dumpPostgres(context, small);
      await expect(dumpPostgres(context, options)).rejects.toThrow(/No space left/);
      const { stdout } = await context.sub.execFail(["sha256sum", "/small/people.dump"]);
      expect(stdout).toContain(sha256);
      // What there was of the new one has been removed: there is room again.
      await dumpPostgres(context, small);
    });
  });

  test("a dump that was cut off later is not restored, whatever its checksum says", async () => {
    await dump("/backup/cut.dump");
    const file = join(backup(), "cut.dump");
    truncateSync(file, Math.floor(statSync(file).size / 2));
    await db.query("postgres", "CREATE DATABASE cut");
    await expect(restore("/backup/cut.dump", "cut")).rejects.toThrow("is not what was written");
    const hash = createHash("sha256").update(readFileSync(file)).digest("hex");
    writeFileSync(`${file}.sha256`, `${hash}  cut.dump\n`);
    await expect(restore("/backup/cut.dump", "cut")).rejects.toThrow("cannot be read");
    expect(await db.query("cut", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")).toBe("0");
  });
});
