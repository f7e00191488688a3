/**
 * B3 and J5: the SDK over the socket of a package, as over the operator's. The tests speak in the package's place, as root of
 * the machine may.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  connectInside,
  Daemons,
  type Effects,
  Mounts,
  type PackageHost,
  runJob,
  SubContainer,
} from "../../src/index.ts";
import { until } from "./look.ts";
import { TestPackage } from "./package.ts";
import { busyboxTar } from "./setup.ts";

const own = new TestPackage("maker");
const connect = (): Promise<PackageHost> => own.connect();

beforeAll(async () => {
  const capabilities = {
    subcontainers: { reason: "r", names: ["main"] },
    "task:run": { reason: "r", names: ["nightly"] },
    "task:read": { reason: "r" },
    volumes: { reason: "r", names: ["data"] },
    "node:read": { reason: "r" },
  };
  const nightly = { image: "main", command: ["sh", "-c", "echo of night; exit 3"] };
  const entries = { nightly: { job: { program: nightly } } };
  const images = { main: { file: "images/main.tar" } };
  const dir = own.directory();
  mkdirSync(join(dir, "images"));
  mkdirSync(join(dir, "assets"));
  writeFileSync(join(dir, "assets/words"), "of the bundle");
  execFileSync("mv", [await busyboxTar(join(dir, "..")), join(dir, "images/main.tar")]);
  own.activate({ images, volumes: { data: {} }, entries, capabilities });
}, 60_000);

afterAll(() => own.remove());

const mounts = Mounts.of()
  .mountVolume({ volumeId: "data", subpath: "db", mountpoint: "/data", readonly: false, type: "directory" })
  .mountAssets({ mountpoint: "/assets" });

describe("B3: the SDK over a package's socket", () => {
  test("commands, files, logs and ports in subcontainers of its own", async () => {
    await using host = await connect();
    await using sub = await SubContainer.of(host, { imageId: "main" }, mounts, "db");
    expect((await sub.execFail(["cat", "/assets/words"])).stdout).toBe("of the bundle");
    await sub.execFail(["sh", "-c", "cat > /data/in"], { input: "x".repeat(3_000_000) });
    expect((await sub.files.stat("/data/in")).size).toBe(3_000_000);
    const large = new Uint8Array(2_500_000).map((_, index) => (index * 7) >> 3);
    await sub.writeFile("/large", large);
    expect((await sub.readFile("/large")).equals(large)).toBe(true);
    const lines: string[] = [];
    for await (const line of sub.run(["sh", "-c", "echo one; echo two"])) lines.push(line);
    expect(lines).toEqual(["one", "two"]);
    const { stdoutTruncated } = await sub.exec(["head", "-c", "600000", "/dev/zero"]);
    expect(stdoutTruncated).toBe(true);
    const whole = await sub.exec(["head", "-c", "600000", "/dev/zero"], { maxBuffer: 1_000_000 });
    expect([whole.stdout.length, whole.stdoutTruncated]).toEqual([600_000, false]);
    const timedOut = await sub.exec(["sleep", "100"], { timeout: 50 });
    expect(timedOut.outcome.kind).toBe("timeout");

    const leader = await sub.launch(["sh", "-c", "echo kept; nc -l -p 7000 -e echo inside"], {
      stdio: "log",
    });
    let heard = "";
    await until("who listens inside", async () => {
      try {
        const port = await connectInside(host, { guid: sub.guid, port: 7000 });
        for await (const chunk of port) heard += chunk;
      } catch {}
      return heard !== "";
    });
    expect(heard).toBe("inside\n");
    await leader.wait();
    const kept: string[] = [];
    for await (const { text } of sub.logs()) kept.push(text);
    expect(kept).toEqual(["kept"]);
    expect((await sub.inspect()).imageId).toBe("main");
  }, 30_000);

  test("daemons and jobs, with a PackageHost as their effects", async () => {
    await using host = await connect();
    const effects: Effects = host;
    const sub = SubContainer.lazy(effects, { imageId: "main" }, mounts, "web");
    const daemons = await Daemons.of(effects)
      .addOneshot("migrate", {
        subcontainer: sub,
        exec: { command: ["sh", "-c", "echo migrated > /data/state"] },
        requires: [],
      })
      .addDaemon("web", {
        subcontainer: sub,
        exec: { command: ["sh", "-c", "cat /data/state > /tmp/up; exec sleep 1000"] },
        ready: { display: "Web", exec: ["grep", "migrated", "/tmp/up"] },
        requires: ["migrate"],
      })
      .build();
    await daemons.allReady();
    expect(daemons.status().web).toMatchObject({ state: "running", ready: true });
    const job = { name: "count", target: "data", image: { imageId: "main" }, mounts };
    const counted = runJob(host, job, async ({ sub }) => (await sub.execFail(["cat", "/data/state"])).stdout);
    expect(await counted).toBe("migrated\n");
    await daemons.term();
    expect((await host.request("subcontainer.list", {})).subcontainers).toEqual([]);
  }, 30_000);

  test("jobs of the manifest, volumes and the machine", async () => {
    await using host = await connect();
    const ran = await host.runTask("nightly");
    expect(ran).toMatchObject({
      outcome: { kind: "exit", code: 3 },
      stdout: { text: "of night\n" },
      runs: 1,
    });
    expect((await host.tasks()).map(({ task, running }) => [task, running])).toEqual([["nightly", false]]);
    const [data] = await host.volumes();
    expect(data).toMatchObject({ volumeId: "data" });
    const node = await host.node();
    expect(node.cpus).toBeGreaterThan(0);
    expect(Object.keys(node).sort()).toEqual(["architecture", "cpus", "kernel", "memoryBytes", "server"]);
  });

  test("what was not granted, or would loosen it, is named", async () => {
    await using host = await connect();
    await expect(SubContainer.of(host, { imageId: "busybox" })).rejects.toMatchObject({
      kind: "denied",
      missing: { subcontainers: { names: ["busybox"] } },
    });
    await using sub = await SubContainer.of(host, { imageId: "main" });
    await expect(sub.launch(["true"], { capAdd: ["ALL"] })).rejects.toMatchObject({ kind: "denied" });
    await expect(sub.launch(["true"], { network: { mode: "host" } })).rejects.toThrow("network");
    await expect(host.request("image.list", {})).rejects.toMatchObject({ rpcCode: -32601 });
  });
});
