/**
 * Drives the host with an unmodified @start9labs/start-sdk, as a package's code would. Runs in a mount namespace of
 * its own in which /media is empty and /usr/bin holds start-container; see start-sdk.test.ts.
 *
 * Arguments: the project that has the client installed, its major version, an image archive. Prints one JSON line
 * for each promise: its name and, where it failed, why.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { connect } from "start-container";

const [, , project, major, archive] = process.argv;
const data = "/media/startos";
const load = createRequire(`${project}/package.json`);
const at = (path) => `@start9labs/start-sdk/${major === "1" ? "package/" : ""}lib/${path}`;
const { Mounts } = load(at("mainFn/Mounts"));
const client = load(at("util/SubContainer"));

mkdirSync(`${data}/assets`, { recursive: true });
mkdirSync(`${data}/volumes/ids`, { recursive: true });
mkdirSync(`${data}/packages/dependency/volumes/shared`, { recursive: true });
writeFileSync(`${data}/assets/asset`, "asset");
writeFileSync(`${data}/packages/dependency/volumes/shared/theirs`, "theirs");
writeFileSync(`${data}/volumes/ids/old`, "old");

const daemon = spawn("start-container", ["daemon", "--data-dir", data], {
  stdio: ["ignore", "ignore", "inherit"],
});
const ended = once(daemon, "exit");
let host;
for (let tries = 0; host === undefined; tries++) {
  host = await connect({ dataDir: data }).catch(async (error) => {
    if (tries > 200 || daemon.exitCode !== null) throw error;
    await new Promise((done) => setTimeout(done, 20));
    return undefined;
  });
}
await host.images.import(archive, { name: "busybox" });

/** What start-sdk calls its effects, forwarded to host.sock. */
const guids = new Map();
const left = [];
const effects = {
  subcontainer: {
    async createFs({ imageId, name }) {
      const { rootfs, guid } = await host.request("subcontainer.createFs", {
        imageId,
        ...(name ? { name } : {}),
      });
      guids.set(rootfs, guid);
      return [rootfs, guid];
    },
    async destroyFs({ guid }) {
      await host.request("subcontainer.destroyFs", { guid });
      return null;
    },
  },
  async mount({ location, target }) {
    const [rootfs, guid] = [...guids].find(([rootfs]) => location.startsWith(`${rootfs}/`));
    const { packageId, volumeId, subpath, readonly, idmap } = target;
    const source = { type: "pointer", packageId, volumeId, ...(subpath ? { subpath } : {}) };
    const mountpoint = location.slice(rootfs.length);
    await host.request("subcontainer.mount", { guid, mount: { source, mountpoint, readonly, idmap } });
    return location;
  },
  onLeaveContext(callback) {
    left.push(callback);
  },
};

let failed = 0;
async function promise(name, work) {
  try {
    await work();
    console.log(JSON.stringify({ name }));
  } catch (error) {
    failed += 1;
    console.log(JSON.stringify({ name, error: `${error?.stack ?? error}` }));
  }
}

const create = (mounts, name) =>
  major === "1"
    ? client.SubContainerOwned.of(effects, { imageId: "busybox" }, mounts, name)
    : client.SubContainerEager._of(effects, { imageId: "busybox" }, mounts, name, Symbol(name));

const idmap = [{ fromId: 0, toId: 1000, range: 1 }];
const mounts = Mounts.of()
  .mountVolume({ volumeId: "ids", subpath: null, mountpoint: "/data", readonly: false, idmap })
  .mountVolume({
    volumeId: "main",
    subpath: "conf/a.txt",
    mountpoint: "/etc/a.txt",
    readonly: false,
    type: "file",
  })
  .mountAssets({ subpath: null, mountpoint: "/assets" })
  .mountDependency({
    dependencyId: "dependency",
    volumeId: "shared",
    subpath: null,
    mountpoint: "/dependency",
    readonly: true,
  });

let sub;
await promise("creates", async () => {
  sub = await create(mounts, "driven");
  assert.match(sub.guid, /\S/);
});

await promise("execs, and says how it ended", async () => {
  const result = await sub.exec(["sh", "-c", "echo out; echo err >&2; exit 3"]);
  assert.deepEqual(
    [result.exitCode, result.exitSignal, `${result.stdout}`, `${result.stderr}`],
    [3, null, "out\n", "err\n"],
  );
  await assert.rejects(sub.execFail(["sh", "-c", "exit 3"]), client.ExitError);
  const missing = await sub.exec(["no-such-command"]);
  assert.equal(missing.exitCode, 127, `${missing.stderr}`);
});

await promise("execs with input, user, directory and environment", async () => {
  const { stdout } = await sub.execFail(["sh", "-c", 'echo "$(id -u):$(pwd):$A:$(cat)"'], {
    input: "hello",
    user: "user",
    cwd: "/tmp",
    env: { A: "b c=d" },
  });
  assert.equal(`${stdout}`, "1000:/tmp:b c=d:hello\n");
});

await promise("execs 100 times", async () => {
  for (let round = 0; round < 25; round++) {
    const results = await Promise.all([1, 2, 3, 4].map((i) => sub.execFail(["echo", `${i}`])));
    assert.deepEqual(
      results.map(({ stdout }) => `${stdout}`),
      ["1\n", "2\n", "3\n", "4\n"],
    );
  }
});

await promise("a time limit leaves nothing running", async () => {
  const mark = `37${process.pid}`;
  const result = await sub.exec(["sh", "-c", `sleep ${mark} & sleep ${mark}`], {}, 300);
  assert.equal(result.exitSignal, "SIGKILL");
  const alive = () =>
    readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .some((pid) => {
        try {
          return readFileSync(`/proc/${pid}/cmdline`, "utf8") === `sleep\0${mark}\0`;
        } catch {
          return false;
        }
      });
  for (let tries = 0; alive(); tries++) {
    assert.ok(tries < 200, "still running");
    await new Promise((done) => setTimeout(done, 10));
  }
});

await promise("mounts volumes, assets and a dependency", async () => {
  const { stdout } = await sub.execFail(["sh", "-c", "cat /assets/asset /dependency/theirs /data/old"]);
  assert.equal(`${stdout}`, "assettheirsold");
  await sub.execFail(["sh", "-c", "echo written >/etc/a.txt"]);
  assert.equal(readFileSync(`${data}/volumes/main/conf/a.txt`, "utf8"), "written\n");
  assert.notEqual((await sub.exec(["sh", "-c", "echo x >/dependency/x"])).exitCode, 0);
});

// The releases with SubContainerOwned have the option in their documentation only: `build()` drops it.
if (major !== "1") {
  await promise("mounts a volume with an id map", async () => {
    assert.equal(`${(await sub.execFail(["stat", "-c", "%u:%g", "/data/old"])).stdout}`, "1000:1000\n");
    await sub.execFail(["sh", "-c", "echo mine >/data/mine"], { user: "user" });
    const { uid, gid } = statSync(`${data}/volumes/ids/mine`);
    assert.deepEqual([uid, gid], [0, 0]);
  });
}

await promise("writes files", async () => {
  await sub.writeFile("a/b/c.txt", "from outside");
  assert.equal(`${(await sub.execFail(["cat", "/a/b/c.txt"])).stdout}`, "from outside");
});

await promise("spawns", async () => {
  const child = await sub.spawn(["sh", "-c", "cat; exit 5"], { stdio: "pipe" });
  let text = "";
  child.stdout.on("data", (chunk) => {
    text += chunk;
  });
  child.stdin.end("through");
  const [code] = await once(child, "close");
  assert.deepEqual([code, text], [5, "through"]);
});

await promise("launches as PID 1, in place of the idle init", async () => {
  const child = await sub.launch([
    "sh",
    "-c",
    "echo $$ >/pid; trap 'exit 0' TERM; while :; do sleep 0.05; done",
  ]);
  for (let tries = 0; !existsSync(sub.subpath("/pid")); tries++) {
    assert.ok(tries < 500, "it never ran");
    await new Promise((done) => setTimeout(done, 10));
  }
  assert.equal(`${(await sub.execFail(["cat", "/pid"])).stdout}`, "1\n");
  assert.equal(`${(await sub.execFail(["cat", "/proc/1/comm"])).stdout}`, "sh\n");
  assert.equal(child.exitCode, null);
});

await promise("destroys, and leaves no mount, file or process", async () => {
  const { rootfs } = sub;
  const start = performance.now();
  await sub.destroy();
  assert.ok(performance.now() - start < 10_000, "it took the 30 s after which a client gives up asking");
  await sub.destroy();
  const mountinfo = readFileSync("/proc/self/mountinfo", "utf8");
  assert.ok(!mountinfo.includes(rootfs), mountinfo);
  assert.ok(!existsSync(rootfs));
  assert.deepEqual(await host.list(), []);
});

if (major === "1") {
  await promise("counted handles: the last one destroys", async () => {
    const owned = await create(null, "counted");
    const [first, second] = [owned.rc(), owned.rc()];
    assert.equal(first.isOwned(), false);
    await first.destroy();
    await second.execFail(["true"]);
    await second.destroy();
    assert.deepEqual(await host.list(), []);
  });
} else {
  await promise("lazy handles, holds and temporaries", async () => {
    const lazy = client.SubContainer.of(effects, { imageId: "busybox" }, null, "lazy");
    await lazy.execFail(["true"]);
    await lazy.destroy();
    const value = await client.SubContainer.withTemp(
      effects,
      { imageId: "busybox" },
      null,
      "temp",
      async (temp) => {
        const release = await temp.hold();
        await release();
        return `${(await temp.execFail(["echo", "x"])).stdout}`;
      },
    );
    assert.equal(value, "x\n");
    assert.deepEqual(await host.list(), []);
  });
}

host.close();
daemon.kill("SIGTERM");
const [code] = await ended;
if (code !== 0) {
  failed += 1;
  console.log(JSON.stringify({ name: "the host ends", error: `with ${code}` }));
}
process.exit(failed === 0 ? 0 : 1);
