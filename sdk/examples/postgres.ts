import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { connect, Mounts, SubContainer } from "start-container";

const image = { imageId: "postgres-demo" };
const data = "/var/lib/postgresql/data";
// The server's socket lies in its data directory: whoever mounts the volume can reach the server.
const inside = { env: { PGHOST: data, PGDATABASE: "postgres" } };

async function step<T>(what: string, work: Promise<T>, start = performance.now()): Promise<T> {
  const result = await work;
  console.log(`${what.padEnd(56)} ${Math.round(performance.now() - start)} ms`);
  return result;
}

await using host = await connect();
// The operator's part: somewhere to put backups, here a plain directory.
await mkdir(`${host.info.dataDir}/backup`, { recursive: true });

const uid = await SubContainer.withTemp(host, image, null, "ask", async (sub) =>
  Number((await sub.execFail(["id", "-u"])).stdout),
);
// On the host the files are root's; inside they are PostgreSQL's own.
const idmap = [{ fromId: 0, toId: uid }];
const volume = (volumeId: string, readonly = false) =>
  Mounts.of().mountVolume({ volumeId, mountpoint: data, readonly, idmap });

async function database(volumeId: string) {
  const sub = await step(
    `create a subcontainer, ${volumeId} as uid ${uid}`,
    SubContainer.of(host, image, volume(volumeId)),
  );
  await step("initdb", sub.execFail(["initdb", "--auth=peer"]));
  const server = await sub.launch(["postgres", "-k", data, "-c", "listen_addresses="], { stdio: "ignore" });
  const ready = ["sh", "-c", "until pg_isready --quiet; do sleep 0.02; done"];
  await step("postgres as PID 1 accepts connections", sub.execFail(ready, inside));
  return { sub, server };
}

const query = async (sub: SubContainer, sql: string) =>
  (await sub.execFail(["psql", "--no-align", "--tuples-only", "-c", sql], inside)).stdout;
const select = "SELECT name, born FROM people ORDER BY born";

const first = await database("people");
await step("write rows", query(first.sub, "CREATE TABLE people (name text, born int)"));
await query(first.sub, "INSERT INTO people VALUES ('Ada', 1815), ('Grace', 1906), ('Margaret', 1936)");
const before = await step("read rows", query(first.sub, select));
console.log(before.trimEnd().replace(/^/gm, "  "));

const backup = (sub: SubContainer) =>
  sub.execFail(["pg_dump", "--format=custom", "--file=/backup/people.dump"], inside);
const target = (mounts: Mounts, readonly: boolean) =>
  mounts.mountBackups({ mountpoint: "/backup", readonly, idmap });
await SubContainer.withTemp(host, image, target(volume("people", true), false), "backup", async (sub) => {
  await step("back up: data read-only, target writable", backup(sub));
  const { stdout } = await step(
    "check the dump",
    sub.execFail(["pg_restore", "--list", "/backup/people.dump"]),
  );
  assert.match(stdout, /TABLE DATA public people/);
});
await step("stop and destroy", first.server.stop({ signal: "SIGINT" }).then(first.sub.destroy));

const second = await database("people-restored");
await second.sub.mount(target(Mounts.of(), true));
await step(
  "restore",
  second.sub.execFail(["pg_restore", "--dbname=postgres", "/backup/people.dump"], inside),
);
assert.equal(await step("read the same rows", query(second.sub, select)), before);
await step("stop and destroy", second.server.stop({ signal: "SIGINT" }).then(second.sub.destroy));
