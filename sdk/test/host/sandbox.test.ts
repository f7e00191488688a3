import { describe, expect } from "vitest";
import { DestroyedError, HostError, Mounts, Sandbox, SubContainer } from "../../src/index.ts";
import { test } from "./fixture.ts";

describe("S13: sandboxes", () => {
  test("members share what the sandbox has, and end with it", async ({ host }) => {
    const sandbox = await Sandbox.of(host, {
      name: "notes",
      imageId: "busybox",
      throwaway: true,
      limits: { pids: 100 },
    });
    const image = { imageId: "busybox", throwaway: true, sandbox };
    const one = await SubContainer.of(host, { ...image, sharedRun: true });
    const two = await SubContainer.of(host, { ...image, sandbox: sandbox.guid });
    await one.execFail(["sh", "-c", "echo shm >/dev/shm/it; echo run >/run/it"]);
    expect((await two.execFail(["cat", "/dev/shm/it"])).stdout).toBe("shm\n");
    expect((await two.exec(["test", "-e", "/run/it"])).exitCode).toBe(1);
    expect((await sandbox.execFail(["cat", "/run/it"])).stdout).toBe("run\n");
    const info = await sandbox.inspect();
    expect(info).toMatchObject({
      name: "notes",
      subcontainers: [one.guid, two.guid],
      state: { status: "running", allowed: { network: { mode: "none" }, limits: { pids: 100 } } },
    });
    expect((await one.inspect()).sandbox).toBe(sandbox.guid);
    expect((await sandbox.stats()).processes).toBeGreaterThanOrEqual(3);
    const running = await two.spawn(["sleep", "1000"], { stdio: "ignore" });
    const ended = running.wait();
    await sandbox.destroy();
    expect((await ended).exitSignal).toBe("SIGKILL");
    await one.destroy();
    await two.destroy();
    await expect(sandbox.exec(["true"])).rejects.toBeInstanceOf(DestroyedError);
  });

  test("a process of the sandbox itself runs from a mounted directory", async ({ host }) => {
    await using tools = await SubContainer.of(
      host,
      { imageId: "busybox", throwaway: true },
      Mounts.of().mountVolume({ volumeId: "tools", subpath: null, mountpoint: "/tools", readonly: false }),
    );
    await tools.execFail(["cp", "/bin/busybox", "/tools/busybox"]);
    await using sandbox = await Sandbox.of(host);
    await sandbox.mount(
      Mounts.of().mountVolume({ volumeId: "tools", subpath: null, mountpoint: "/tools", readonly: true }),
    );
    const { stdout } = await sandbox.execFail(["/tools/busybox", "ls", "/"]);
    expect(stdout.split("\n")).toEqual(["dev", "proc", "run", "sys", "tools", ""]);
    const worker = await sandbox.spawn(["/tools/busybox", "cat"], { input: "hello" });
    expect((await worker.result()).stdout).toBe("hello");
  });

  test("one that is given away is taken again, and what makes no sense is refused", async ({ host }) => {
    const refused = await Sandbox.of(host, { network: { mode: "host" } }).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(HostError);
    expect(String(refused)).toMatch(/network of its own/);
    const guid = await (await Sandbox.of(host, { throwaway: true })).detach();
    await using sandbox = await Sandbox.attach(host, guid);
    expect((await sandbox.inspect()).guid).toBe(guid);
    const inside = await SubContainer.of(host, { imageId: "busybox", throwaway: true, sandbox });
    const launched = inside.launch(null, { network: { mode: "none" }, stdio: "ignore" });
    await expect(launched).rejects.toThrow(/its network is that of its sandbox/);
    await inside.destroy();
  });
});
