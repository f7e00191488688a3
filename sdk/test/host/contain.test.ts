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
