import { describe, expect, test } from "vitest";
import { Mounts } from "../../src/mounts/mounts.ts";
import { toWire } from "../../src/mounts/options.ts";

describe("S16: Mounts", () => {
  const mounts = Mounts.of()
    .mountBackups({ subpath: null, mountpoint: "/backup" })
    .mountAssets({ subpath: "a", mountpoint: "/assets", type: "infer" })
    .mountDependency({ dependencyId: "d", volumeId: "v", subpath: null, mountpoint: "/dep", readonly: true })
    .mountVolume({
      volumeId: "main",
      subpath: "x",
      mountpoint: "/data",
      readonly: false,
      idmap: [{ fromId: 0, toId: 70 }],
    });

  test("builds what start-sdk builds, volumes first", () => {
    expect(mounts.build()).toEqual([
      {
        mountpoint: "/data",
        options: {
          type: "volume",
          volumeId: "main",
          subpath: "x",
          readonly: false,
          filetype: "directory",
          idmap: [{ fromId: 0, toId: 70, range: 1 }],
        },
      },
      { mountpoint: "/assets", options: { type: "assets", subpath: "a", filetype: "infer", idmap: [] } },
      {
        mountpoint: "/dep",
        options: {
          type: "pointer",
          packageId: "d",
          volumeId: "v",
          subpath: null,
          readonly: true,
          filetype: "directory",
          idmap: [],
        },
      },
      {
        mountpoint: "/backup",
        options: { type: "backup", subpath: null, readonly: false, filetype: "directory", idmap: [] },
      },
    ]);
  });

  test("is never changed by adding to it", () => {
    const before = mounts.build();
    mounts.mountTmpfs({ mountpoint: "/tmp" });
    expect(mounts.build()).toEqual(before);
  });

  test("refuses a mountpoint twice", () => {
    expect(() => mounts.mountTmpfs({ mountpoint: "/data" }).build()).toThrow(
      "cannot mount more than once to mountpoint /data",
    );
  });

  test("is written with nothing but what was asked for", () => {
    const wire = mounts
      .mountTmpfs({ mountpoint: "/tmp", size: 4096 })
      .build()
      .map(({ mountpoint, options }) => toWire(mountpoint, options));
    expect(wire).toEqual([
      {
        source: { type: "volume", volumeId: "main", subpath: "x", filetype: "directory" },
        mountpoint: "/data",
        idmap: [{ fromId: 0, toId: 70, range: 1 }],
      },
      { source: { type: "assets", subpath: "a", filetype: "infer" }, mountpoint: "/assets" },
      {
        source: { type: "pointer", packageId: "d", volumeId: "v", filetype: "directory" },
        mountpoint: "/dep",
        readonly: true,
      },
      { source: { type: "backup", filetype: "directory" }, mountpoint: "/backup" },
      { source: { type: "tmpfs", size: 4096 }, mountpoint: "/tmp" },
    ]);
  });
});
