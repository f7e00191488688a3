/**
 * B and J5: package code on the socket of its package, with the types that the host enforces. The tests speak in the package's
 * place, as root of the machine may.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HostError, PackageHost } from "../../src/index.ts";
import { TestPackage } from "./package.ts";

const ID = "speaker";
const VOLUME = "/media/startos/volumes/data";
const own = new TestPackage(ID);
const connect = (): Promise<PackageHost> => own.connect();

beforeAll(() => {
  const capabilities = {
    "kv:read": { reason: "r", groups: ["settings"] },
    "kv:write": { reason: "r", groups: ["settings"] },
    secrets: { reason: "r", names: ["token"] },
    "files:read": { reason: "r", paths: [VOLUME] },
    "files:write": { reason: "r", paths: [VOLUME] },
    "audit:read": { reason: "r" },
    "log:write": { reason: "r" },
  };
  own.activate({ volumes: { data: {} }, capabilities });
});

afterAll(() => own.remove());

describe("B: a package and its host", () => {
  test("J5: hello says whose socket it is, and what was granted", async () => {
    await using host = await connect();
    expect(host).toBeInstanceOf(PackageHost);
    expect(host.packageId).toBe(ID);
    expect(host.granted["kv:read"]).toEqual({ groups: ["settings"] });
  });

  test("B5: keys, their revisions, and two who write at once", async () => {
    await using host = await connect();
    const keys = host.kv("settings");
    expect(await keys.get("count")).toEqual({ value: undefined, revision: 0 });
    const add = (): Promise<number> => keys.update<number>("count", (count) => (count ?? 0) + 1);
    await Promise.all(Array.from({ length: 20 }, add));
    expect((await keys.get<number>("count")).value).toBe(20);
    await expect(keys.set("count", 0, { ifRevision: 1 })).rejects.toMatchObject({ kind: "conflict" });
    await keys.set("count/b", null);
    const listed: string[] = [];
    for await (const { key } of keys.list("count")) listed.push(key);
    expect(listed).toEqual(["count", "count/b"]);
    expect(await keys.delete("count")).toBe(true);
    expect(await keys.delete("count")).toBe(false);
  });

  test("B9: what was not granted is named", async () => {
    await using host = await connect();
    const refused = await host
      .kv("private")
      .get("k")
      .catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(HostError);
    expect(refused).toMatchObject({
      kind: "denied",
      message: "kv.get: not granted: kv:read private",
      missing: { "kv:read": { groups: ["private"] } },
    });
  });

  test("B5: secrets are bytes", async () => {
    await using host = await connect();
    expect(await host.secrets.get("token")).toBeUndefined();
    await host.secrets.set("token", new Uint8Array([0, 255, 10]));
    expect([...((await host.secrets.get("token")) ?? [])]).toEqual([0, 255, 10]);
    expect(await host.secrets.delete("token")).toBe(true);
  });

  test("B8: a file of many chunks, written and read", async () => {
    await using host = await connect();
    const path = `${VOLUME}/a/large`;
    const content = new Uint8Array(3_000_000).map((_, index) => (index * 7) >> 3);
    await host.files.write(path, content);
    await host.files.append(path, "end");
    const read = await host.files.read(path);
    expect(read.length).toBe(content.length + 3);
    expect(read.subarray(0, content.length).equals(content)).toBe(true);
    const names: string[] = [];
    for await (const { name } of host.files.list(`${VOLUME}/a`)) names.push(name);
    expect(names).toEqual(["large"]);
    await expect(host.files.write("/etc/large", content)).rejects.toMatchObject({ kind: "denied" });
    expect(await host.files.delete(`${VOLUME}/a`, { recursive: true })).toBe(true);
  });

  test("B7: a connection to who was not granted says which grant is missing", async () => {
    await using host = await connect();
    await expect(host.connect("db.example.com:5432")).rejects.toMatchObject({
      kind: "denied",
      missing: { net: { hosts: ["db.example.com:5432"] } },
    });
    const gone = AbortSignal.abort(new Error("not now"));
    await expect(host.connect("db.example.com:5432", { signal: gone })).rejects.toThrow("not now");
  });

  test("B3: what is not there yet says so by type, once it is granted", async () => {
    await using host = await connect();
    await expect(host.call("monitor.admin", {})).rejects.toMatchObject({
      kind: "denied",
      missing: { "monitor:admin": {} },
    });
    await host.log("hello");
    const lines = await host.audit(1000);
    expect(lines.some(({ action, outcome }) => action === "monitor.admin" && outcome === "denied")).toBe(
      true,
    );
  });
});
