import { randomBytes } from "node:crypto";
import { describe, expect } from "vitest";
import { HostError } from "../../src/index.ts";
import { test } from "./fixture.ts";

describe("S17: files", () => {
  test("write, append, read, in text and bytes", async ({ sub }) => {
    const { files } = sub;
    await files.writeFile("/a", "grüße");
    await files.appendFile("/a", " 🎉");
    expect(await files.readFile("/a", "utf8")).toBe("grüße 🎉");
    expect(await files.readFile("/a", { encoding: "utf8" })).toBe("grüße 🎉");
    await files.writeFile("/a", new Uint8Array([0, 255]));
    expect([...(await files.readFile("/a"))]).toEqual([0, 255]);
    await files.writeFile("/empty", "");
    expect(await files.readFile("/empty")).toHaveLength(0);
    await files.writeFile("/pieces", ["a", new Uint8Array([98]), "c"]);
    expect(await files.readFile("/pieces", "latin1")).toBe("abc");
    await files.writeFile("/hex", "00ff", "hex");
    expect([...(await files.readFile("/hex"))]).toEqual([0, 255]);
    expect((await sub.execFail(["cat", "/pieces"])).stdout).toBe("abc");
  });

  test("large files travel in pieces", async ({ sub }) => {
    const bytes = randomBytes(21_000_000);
    await sub.files.writeFile("/large", bytes);
    expect((await sub.files.readFile("/large")).equals(bytes)).toBe(true);
    expect((await sub.files.stat("/large")).size).toBe(bytes.length);
    const text = "\u0001é".repeat(3_000_000);
    await sub.files.writeFile("/text", text);
    expect(await sub.files.readFile("/text", "utf8")).toBe(text);
  });

  test("writeFile of the handle creates the directories", async ({ sub }) => {
    await sub.writeFile("/deep/er/still", "x", { mode: 0o600 });
    expect((await sub.files.stat("/deep/er/still")).mode).toBe(0o100600);
    await sub.writeFile("relative", "y");
    expect(await sub.readFile("/relative", "utf8")).toBe("y");
  });

  test("flags", async ({ sub }) => {
    await sub.files.writeFile("/once", "1", { flag: "wx" });
    await expect(sub.files.writeFile("/once", "2", { flag: "wx" })).rejects.toMatchObject({ code: "EEXIST" });
    await sub.files.writeFile("/once", "2", { flag: "a" });
    expect(await sub.files.readFile("/once", "utf8")).toBe("12");
  });

  test("directories, links, renames, modes and owners", async ({ sub }) => {
    const { files } = sub;
    await files.mkdir("/d/e", { recursive: true });
    await files.mkdir("/d/e", { recursive: true });
    await expect(files.mkdir("/d/e")).rejects.toMatchObject({ code: "EEXIST" });
    await files.writeFile("/d/f", "1");
    await files.symlink("f", "/d/l");
    expect(await files.readdir("/d")).toEqual(["e", "f", "l"]);
    const entries = await files.readdir("/d", { withFileTypes: true });
    expect(
      entries.map((entry) => [entry.name, entry.isDirectory(), entry.isFile(), entry.isSymbolicLink()]),
    ).toEqual([
      ["e", true, false, false],
      ["f", false, true, false],
      ["l", false, false, true],
    ]);
    expect(await files.readlink("/d/l")).toBe("f");
    expect((await files.stat("/d/l")).isFile()).toBe(true);
    expect((await files.lstat("/d/l")).isSymbolicLink()).toBe(true);
    await files.rename("/d/f", "/d/g");
    expect([await files.exists("/d/f"), await files.exists("/d/g"), await files.exists("/d/l")]).toEqual([
      false,
      true,
      false,
    ]);
    await files.chmod("/d/g", 0o640);
    await files.chown("/d/g", 1000, 1000);
    expect(await files.stat("/d/g")).toMatchObject({ mode: 0o100640, uid: 1000, gid: 1000, size: 1 });
    expect(Math.abs((await files.stat("/d/g")).mtimeMs - Date.now())).toBeLessThan(60_000);
    expect((await sub.execFail(["stat", "-c", "%a %U", "/d/g"])).stdout).toBe("640 user\n");
    await expect(files.rm("/d")).rejects.toThrow(HostError);
    await files.rm("/d", { recursive: true });
    await files.rm("/d", { force: true });
    await expect(files.rm("/d")).rejects.toMatchObject({ code: "ENOENT" });
    await expect(files.access("/d")).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("no path and no link leads out of the rootfs", async ({ sub }) => {
    const { files } = sub;
    await files.symlink("/etc/passwd", "/absolute");
    expect(await files.readFile("/absolute", "utf8")).toContain("a user");
    await files.symlink("../../../../../../etc/hostname", "/dots");
    await expect(files.readFile("/dots")).rejects.toThrow(HostError);
    await files.writeFile("/../../outside", "x");
    expect(await files.readFile("/outside", "utf8")).toBe("x");
    await files.symlink("/proc/self/root/etc", "/magic");
    await expect(files.writeFile("/magic/planted", "x")).rejects.toThrow(HostError);
  });

  test("what is aborted already does nothing", async ({ sub }) => {
    const reason = new Error("no");
    await expect(sub.files.writeFile("/x", "1", { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(await sub.files.exists("/x")).toBe(false);
  });
});
