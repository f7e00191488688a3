import { describe, expect } from "vitest";
import { HostError, type LaunchOptions, SubContainer } from "../../src/index.ts";
import { NAME, test } from "./fixture.ts";

const image = { imageId: "busybox", throwaway: true };

describe("S6, S22, S23: what a container is allowed", () => {
  test("privileges, limits and network of a launch hold for later commands and are told", async ({ sub }) => {
    await sub.launch(null, {
      capDrop: ["ALL"],
      capAdd: ["KILL"],
      seccomp: { defaultAction: "SCMP_ACT_ALLOW", syscalls: [{ names: ["sync"], action: "SCMP_ACT_ERRNO" }] },
      limits: { memoryBytes: 32 * 2 ** 20, swapBytes: 0, pids: 20 },
      network: { mode: "none" },
      stdio: "ignore",
    });
    const { stdout } = await sub.execFail(["grep", "-E", "^(CapBnd|Seccomp):", "/proc/self/status"]);
    expect(stdout).toBe("CapBnd:\t0000000000000020\nSeccomp:\t2\n");
    expect((await sub.execFail(["ls", "/sys/class/net"])).stdout).toBe("lo\n");
    const bomb = await sub.exec(["sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done"]);
    expect(bomb.outcome).toEqual({ kind: "outOfMemory" });
    const { state } = await sub.inspect();
    expect(state).toMatchObject({
      status: "running",
      allowed: {
        capabilities: ["CAP_KILL"],
        seccomp: "own",
        limits: { memoryBytes: 32 * 2 ** 20, pids: 20 },
        network: { mode: "none" },
      },
    });
  });

  test("what each process starts with is its launch's, unless it asks, and nobody's otherwise", async ({
    sub,
  }) => {
    const tell = ["sh", "-c", "ulimit -Sn; ulimit -c; umask; cat /proc/self/oom_score_adj"];
    await sub.launch(null, {
      umask: 0o027,
      ulimits: { nofile: { soft: 64, hard: 128 }, core: undefined },
      oomScoreAdj: 600,
      stdio: "ignore",
    });
    expect((await sub.execFail(tell)).stdout).toBe("64\n0\n0027\n600\n");
    const own = await sub.execFail(tell, { umask: 0, ulimits: { nofile: { soft: 32 } }, oomScoreAdj: 700 });
    expect(own.stdout).toBe("32\n0\n0000\n700\n");
    const refused = await sub
      .exec(tell, { ulimits: { files: { soft: 1 } } })
      .catch((error: unknown) => error);
    expect(refused).toMatchObject({ kind: "invalid" });
    expect(String(refused)).toMatch(/read ulimit files/);
  });

  test("what it uses is told once, and for as long as it runs", async ({ sub }) => {
    const leader = await sub.launch(null, {
      limits: { memoryBytes: 32 * 2 ** 20, pids: 20 },
      stdio: "ignore",
    });
    const stats = await sub.stats();
    expect(stats).toMatchObject({
      processes: 1,
      memory: { limitBytes: 32 * 2 ** 20, oomKills: 0 },
      pids: { current: 1, limit: 20, refused: 0 },
    });
    expect(stats.cpuMicros).toBe(stats.cpu?.usageMicros);
    expect(stats.rootfs).toBeUndefined();
    const stop = new AbortController();
    let seen = 0;
    for await (const { processes } of sub.watchStats({ interval: 5, signal: stop.signal })) {
      expect(processes).toBe(1);
      seen += 1;
      if (seen === 3) stop.abort();
    }
    expect(seen).toBe(3);
    for await (const _ of sub.watchStats({ interval: 5 })) await leader.stop({ signal: "SIGKILL" });
    expect((await sub.stats()).processes).toBe(0);
  });

  test("limits change while it runs", async ({ sub }) => {
    await sub.launch(null, { limits: { memoryBytes: 64 * 2 ** 20, pids: 50 }, stdio: "ignore" });
    const limits = await sub.update({ limits: { pids: 20, memoryBytes: 32 * 2 ** 20, swapBytes: 0 } });
    expect(limits).toEqual({ pids: 20, memoryBytes: 32 * 2 ** 20, swapBytes: 0 });
    expect(await sub.stats()).toMatchObject({ memory: { limitBytes: 32 * 2 ** 20 }, pids: { limit: 20 } });
    await expect(sub.update({ limits: { memoryBytes: 1 } })).rejects.toMatchObject({ kind: "invalid" });
    expect(await sub.update({ limits: { pids: 2 ** 53 - 1 } })).toEqual({
      memoryBytes: 32 * 2 ** 20,
      swapBytes: 0,
    });
  });

  test("a rootfs has the size that it was given", async ({ host }) => {
    const sub = await SubContainer.of(host, { ...image, rootfsSize: 32 * 2 ** 20 }, null, NAME);
    expect((await sub.inspect()).rootfsSize).toBe(32 * 2 ** 20);
    const full = await sub.exec(["sh", "-c", "cat /dev/zero > /full"]);
    expect(full.stderr).toContain("No space left on device");
    const { rootfs } = await sub.stats();
    expect(rootfs?.sizeBytes).toBe(32 * 2 ** 20);
    expect(rootfs?.usedBytes).toBeGreaterThan(20 * 2 ** 20);
    await expect(sub.writeFile("/more", new Uint8Array(2 ** 20))).rejects.toMatchObject({ code: "ENOSPC" });
    await sub.destroy();
    const refused = SubContainer.of(host, { ...image, rootfsSize: 1 }, null, NAME);
    await expect(refused).rejects.toThrow(/not from 16777216/);
  });

  test("what cannot be is refused, and the container is as it was", async ({ sub }) => {
    const refusals: [LaunchOptions, RegExp][] = [
      [{ capAdd: ["NET_AMDIN"] }, /NET_AMDIN/],
      [{ seccomp: { defaultAction: "SCMP_ACT_NOTHING" } }, /seccomp/],
      [{ limits: { memoryBytes: 4096 } }, /6 MiB/],
      [{ network: { mode: "private", publish: ["nonsense"] } }, /nonsense/],
    ];
    for (const [options, message] of refusals) {
      const refused = await sub.launch(null, options).catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(HostError);
      expect(String(refused)).toMatch(message);
    }
    expect((await sub.inspect()).state.status).toBe("created");
  });

  test("root inside is nobody outside", async ({ host }) => {
    const sub = await SubContainer.of(host, { ...image, userns: true }, null, NAME);
    const { firstId } = await sub.inspect();
    expect(firstId).toBeGreaterThanOrEqual(0x70000000);
    await sub.writeFile("/file", "mine");
    expect((await sub.execFail(["stat", "-c", "%u", "/file"])).stdout).toBe("0\n");
    expect((await sub.execFail(["cat", "/proc/self/uid_map"])).stdout.trim().split(/\s+/)).toEqual([
      "0",
      String(firstId),
      "65536",
    ]);
    await sub.destroy();
  });
});
