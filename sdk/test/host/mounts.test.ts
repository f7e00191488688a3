import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, inject } from "vitest";
import { Mounts, SubContainer } from "../../src/index.ts";
import { NAME, test } from "./fixture.ts";

const image = { imageId: "busybox", throwaway: true };

describe("S16: mounts", () => {
  test("volume, assets, dependency, backup and memory are where they were asked for", async ({ host }) => {
    const data = inject("dataDir");
    for (const [path, text] of [
      ["assets/sub/a", "asset"],
      ["packages/dep/volumes/v/d", "dependency"],
      ["backup/b", "backup"],
      ["volumes/sdk-main/file", "one"],
    ] as const) {
      mkdirSync(join(data, path, ".."), { recursive: true });
      writeFileSync(join(data, path), text);
    }
    const mounts = Mounts.of()
      .mountVolume({ volumeId: "sdk-main", subpath: null, mountpoint: "/data", readonly: false })
      .mountVolume({
        volumeId: "sdk-main",
        subpath: "file",
        mountpoint: "/etc/one",
        readonly: true,
        type: "file",
      })
      .mountAssets({ subpath: "sub", mountpoint: "/assets" })
      .mountDependency({
        dependencyId: "dep",
        volumeId: "v",
        subpath: null,
        mountpoint: "/dep",
        readonly: true,
      })
      .mountBackups({ subpath: null, mountpoint: "/backup" })
      .mountTmpfs({ mountpoint: "/memory", size: 1 << 20 });
    await using sub = await SubContainer.of(host, image, mounts, NAME);
    const sh = async (script: string): Promise<string> => {
      const result = await sub.exec(["sh", "-c", script]);
      return `${result.exitCode} ${result.stdout}`.trim();
    };
    expect(await sh("cat /assets/a /dep/d /backup/b")).toBe("0 assetdependencybackup");
    expect(await sh("echo x >/data/x && echo y >/backup/y && echo z >/memory/z")).toBe("0");
    expect(await sh("echo x >/assets/x")).toMatch(/^[12]$/);
    expect(await sh("echo x >/dep/x")).toMatch(/^[12]$/);
    expect(await sh("echo x >/etc/one")).toMatch(/^[12]$/);
    expect(await sh("dd if=/dev/zero of=/memory/full bs=1M count=2")).toMatch(/^1/);
    expect(readFileSync(join(data, "volumes/sdk-main/x"), "utf8")).toBe("x\n");
    expect((await sub.inspect()).mounts.map(({ mountpoint }) => mountpoint).sort()).toEqual([
      "/assets",
      "/backup",
      "/data",
      "/dep",
      "/etc/one",
      "/memory",
    ]);
  });

  test("an id map shows stored ids as others, both ways", async ({ host }) => {
    const mounts = Mounts.of().mountVolume({
      volumeId: "sdk-ids",
      mountpoint: "/data",
      readonly: false,
      idmap: [{ fromId: 0, toId: 1000 }],
    });
    await using sub = await SubContainer.of(host, image, mounts, NAME);
    await sub.execFail(["sh", "-c", "echo mine >/data/file"], { user: "user" });
    expect((await sub.execFail(["stat", "-c", "%u:%g", "/data/file"])).stdout).toBe("1000:1000\n");
    expect(statSync(join(inject("dataDir"), "volumes/sdk-ids/file"))).toMatchObject({ uid: 0, gid: 0 });
  });

  test("may be mounted and unmounted while commands run; a mountpoint in use is an error", async ({
    sub,
  }) => {
    await sub.exec(["true"]);
    const mounts = Mounts.of().mountTmpfs({ mountpoint: "/late" });
    expect(await sub.mount(mounts)).toBe(sub);
    await sub.execFail(["sh", "-c", "grep -q ' /late tmpfs' /proc/mounts && echo x >/late/x"]);
    await expect(sub.mount(mounts)).rejects.toMatchObject({ kind: "exists" });
    await sub.unmount("/late");
    expect((await sub.exec(["test", "-e", "/late/x"])).exitCode).toBe(1);
    await expect(sub.unmount("/late")).rejects.toMatchObject({ kind: "notFound" });
  });
});
