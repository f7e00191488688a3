/**
 * What must hold on every runtime, without a test framework: each of them has its own. Argument: the data directory.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import process from "node:process";
import {
  connect,
  Daemons,
  DestroyedError,
  ExitError,
  HostError,
  Mounts,
  runJob,
  SubContainer,
} from "../../dist/index.js";

const dataDir = process.argv[2];
const image = { imageId: "busybox", throwaway: true };
let failed = 0;

async function check(name, promise) {
  try {
    await promise();
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`not ok ${name}`);
    console.log(error);
  }
}

const host = await connect({ dataDir });
const sub = await SubContainer.of(host, image);

await check("S16: exec and execFail", async () => {
  const result = await sub.exec(["sh", "-c", "echo grüße; echo err >&2; exit 3"]);
  assert.deepEqual([result.exitCode, result.stdout, result.stderr], [3, "grüße\n", "err\n"]);
  await assert.rejects(sub.execFail(["sh", "-c", "exit 3"]), ExitError);
  await assert.rejects(sub.exec(["no-such-command"]), HostError);
});

await check("S16: 16 at a time", async () => {
  for (let round = 0; round < 20; round++) {
    const results = await Promise.all(Array.from({ length: 16 }, (_, i) => sub.exec(["echo", `${i}`])));
    assert.deepEqual(
      results.map(({ stdout }) => stdout),
      Array.from({ length: 16 }, (_, i) => `${i}\n`),
    );
  }
});

await check("S16: mounts, counted handles, destroy", async () => {
  const mounts = Mounts.of().mountVolume({ volumeId: "v", mountpoint: "/data", readonly: false });
  const owned = await SubContainer.of(host, image, mounts);
  const [first, second] = [owned.rc(), owned.rc()];
  await first.execFail(["sh", "-c", "echo x >/data/x"]);
  await first.destroy();
  await assert.rejects(first.exec(["true"]), DestroyedError);
  assert.equal((await second.exec(["cat", "/data/x"])).stdout, "x\n");
  await second.destroy();
  await assert.rejects(owned.exec(["true"]), DestroyedError);
});

await check("S17: files", async () => {
  const bytes = new Uint8Array(9_000_000).map((_, index) => index * 7);
  await sub.writeFile("/a/b", bytes);
  assert.deepEqual(new Uint8Array(await sub.readFile("/a/b")), bytes);
  await assert.rejects(sub.files.readFile("/none"), { code: "ENOENT" });
});

await check("S18: lines as they come, and the result", async () => {
  const running = sub.run(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.05; done; exit 4"]);
  const lines = [];
  for await (const line of running) lines.push(line);
  assert.deepEqual(lines, ["1", "2", "3"]);
  assert.equal((await running).exitCode, 4);
});

await check("S18, S19: 64 MiB each way, as they were", async () => {
  const block = new Uint8Array(1 << 20).map((_, index) => (index * index) % 251);
  const hash = createHash("sha256");
  function* input() {
    for (let i = 0; i < 64; i++) {
      hash.update(block);
      yield block;
    }
  }
  const running = sub.run(["cat"], { input: input(), encoding: "buffer" });
  const back = createHash("sha256");
  for await (const chunk of running.bytes()) back.update(chunk);
  assert.equal((await running).stdoutTruncated, true);
  assert.equal(back.digest("hex"), hash.digest("hex"));
});

await check("S19: input of every form", async () => {
  for (const input of ["abc", new TextEncoder().encode("abc"), ["a", "bc"], new Blob(["abc"]).stream()]) {
    assert.equal((await sub.exec(["cat"], { input })).stdout, "abc");
  }
});

await check("S20: timeout and abort", async () => {
  assert.equal((await sub.exec(["sleep", "100"], {}, 100)).outcome.kind, "timeout");
  const signal = AbortSignal.timeout(100);
  assert.equal((await sub.exec(["sleep", "100"], { signal })).outcome.kind, "abort");
  assert.equal((await sub.run(["sleep", "100"], { timeout: 100, grace: 50 })).outcome.kind, "timeout");
  assert.equal((await sub.exec(["true"], { signal: AbortSignal.abort() })).outcome.kind, "abort");
});

await check("S24: daemons: a port, a web server, a restart, an end", async () => {
  const lazy = SubContainer.lazy(host, image);
  const daemons = await Daemons.of(host)
    .addDaemon("web", {
      subcontainer: lazy,
      exec: {
        command: [
          "sh",
          "-c",
          "trap 'exit 0' TERM; nc -ll -p 80 -e printf 'HTTP/1.0 200 OK\\r\\n\\r\\n' & echo up; wait",
        ],
        launch: { network: { mode: "none" } },
      },
      ready: { display: null, port: 80 },
      requires: [],
    })
    .addHealthCheck("page", {
      subcontainer: lazy,
      ready: { display: null, http: "http://localhost/" },
      requires: ["web"],
    })
    .build();
  await daemons.allReady(AbortSignal.timeout(20_000));
  daemons.restart("web");
  for await (const { status } of daemons.changes())
    if (status.id === "page" && status.starts === 2 && status.ready) break;
  assert.equal(daemons.status().web.cause.kind, "operator");
  await daemons.term();
  assert.equal(daemons.output("web"), "up\nup\n");
});

await check("S25: a job", async () => {
  const job = runJob(host, { name: "job", target: "core", image }, async ({ sub, progress }) => {
    progress({ phase: "work", done: 1, total: 2 });
    return (await sub.execFail(["echo", "done"])).stdout;
  });
  const phases = [];
  for await (const { phase } of job) phases.push(phase);
  assert.equal(await job, "done\n");
  assert.ok(phases.includes("work"));
});

await check("S17: asyncDispose", async () => {
  assert.equal(typeof Symbol.asyncDispose, "symbol");
  await sub[Symbol.asyncDispose]();
  await assert.rejects(sub.exec(["true"]), DestroyedError);
});

host.close();
process.exitCode = failed === 0 ? 0 : 1;
