import { existsSync } from "node:fs";
import { describe, expect, inject } from "vitest";
import {
  connect,
  DestroyedError,
  HostError,
  Mounts,
  SubContainer,
  SubContainerOwned,
  SubContainerRc,
} from "../../src/index.ts";
import { NAME, test } from "./fixture.ts";

const image = { imageId: "busybox", throwaway: true };

describe("S16: owned handles", () => {
  test("of, use, destroy", async ({ host }) => {
    const sub = await SubContainerOwned.of(host, image, null, NAME);
    expect(sub.imageId).toBe("busybox");
    expect(sub.guid).toMatch(/\S/);
    expect(sub.rootfs).toMatch(/^\//);
    expect(sub.subpath("etc/x")).toBe(`${sub.rootfs}/etc/x`);
    expect(sub.subpath("/etc/x")).toBe(`${sub.rootfs}/etc/x`);
    expect(sub.isOwned()).toBe(true);
    expect((await sub.execFail(["echo", "hello"])).stdout).toBe("hello\n");
    expect((await host.list()).map(({ guid }) => guid)).toContain(sub.guid);
    expect(await sub.destroy()).toBeNull();
    expect((await host.list()).map(({ guid }) => guid)).not.toContain(sub.guid);
    expect(existsSync(`${inject("dataDir")}/rootfs/${sub.guid}`)).toBe(false);
  });

  test("destroy is idempotent, and those who ask at once share one promise", async ({ host }) => {
    const sub = await SubContainerOwned.of(host, image, null, NAME);
    const { destroy } = sub;
    const first = destroy();
    expect(destroy()).toBe(first);
    expect(await Promise.all([first, destroy(), sub.destroy()])).toEqual([null, null, null]);
    expect(await destroy()).toBeNull();
  });

  test("use after destroy is a clear error", async ({ host }) => {
    const sub = await SubContainerOwned.of(host, image, null, NAME);
    const { files } = sub;
    await sub.destroy();
    const calls: (() => unknown)[] = [
      () => sub.exec(["true"]),
      () => sub.execFail(["true"]),
      () => sub.spawn(["true"]),
      () => sub.launch(["true"]),
      () => sub.mount(Mounts.of()),
      () => sub.writeFile("/x", ""),
      () => sub.readFile("/x"),
      () => files.stat("/"),
      () => sub.inspect(),
      () => sub.detach(),
    ];
    for (const call of calls) {
      await expect(call).rejects.toThrow(DestroyedError);
    }
    for (const call of [() => sub.run(["true"]), () => sub.hold(), () => sub.rc(), () => sub.files]) {
      expect(call).toThrow(DestroyedError);
    }
    expect(sub.guid).toMatch(/\S/);
  });

  test("withTemp destroys whatever happens", async ({ host }) => {
    let guid = "";
    const value = await SubContainerOwned.withTemp(host, image, null, NAME, async (sub) => {
      guid = sub.guid;
      return (await sub.execFail(["echo", "-n", "x"])).stdout;
    });
    expect(value).toBe("x");
    await expect(
      SubContainer.withTemp(host, image, null, NAME, async () => {
        throw new Error("mine");
      }),
    ).rejects.toThrow("mine");
    expect((await host.list()).filter((info) => info.guid === guid || info.name === NAME)).toEqual([]);
  });

  test("an unknown image, and a mount that fails, leave nothing behind", async ({ host }) => {
    const mine = async (): Promise<number> => (await host.list()).filter(({ name }) => name === NAME).length;
    await expect(SubContainer.of(host, { imageId: "no-such-image" }, null, NAME)).rejects.toMatchObject({
      name: "HostError",
      kind: "notFound",
      subject: expect.stringContaining("no-such-image"),
    });
    const escaping = Mounts.of().mountVolume({
      volumeId: "v",
      subpath: "../../..",
      mountpoint: "/data",
      readonly: false,
    });
    const error = await SubContainer.of(host, image, escaping, NAME).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(HostError);
    expect(await mine()).toBe(0);
  });
});

describe("S16: counted handles", () => {
  test("the last released handle destroys the container", async ({ host }) => {
    const owned = await SubContainerOwned.of(host, image, null, NAME);
    const first = owned.rc();
    const second = first.rc();
    expect([first.isOwned(), owned.rcs, first.guid === second.guid]).toEqual([false, 2, true]);
    await first.destroy();
    await first.destroy();
    await expect(first.exec(["true"])).rejects.toThrow(DestroyedError);
    expect(() => first.rc()).toThrow(DestroyedError);
    expect((await second.exec(["true"])).exitCode).toBe(0);
    await second.destroy();
    expect((await host.list()).map(({ guid }) => guid)).not.toContain(owned.guid);
    await expect(owned.exec(["true"])).rejects.toThrow(DestroyedError);
  });

  test("of and withTemp give counted handles", async ({ host }) => {
    const rc = await SubContainerRc.of(host, image, null, NAME);
    expect(rc.isOwned()).toBe(false);
    await Promise.all([rc.destroy(), rc.destroy()]);
    const value = await SubContainerRc.withTemp(host, image, null, NAME, async (sub) => {
      const other = sub.rc();
      await other.destroy();
      return (await sub.exec(["true"])).exitCode;
    });
    expect(value).toBe(0);
  });
});

describe("S17", () => {
  test("a lazy handle creates its subcontainer at its first use, once", async ({ host }) => {
    const count = async (): Promise<number> =>
      (await host.list()).filter(({ name }) => name === `${NAME} lazy`).length;
    const lazy = SubContainer.lazy(host, image, null, `${NAME} lazy`);
    expect([lazy.created, await count()]).toEqual([false, 0]);
    const results = await Promise.all([lazy.exec(["true"]), lazy.exec(["true"]), lazy.guid]);
    expect(results[0].exitCode).toBe(0);
    expect([lazy.created, await count()]).toEqual([true, 1]);
    await lazy.files.writeFile("/x", `${NAME} lazy`);
    expect(await lazy.readFile("/x", "utf8")).toBe(`${NAME} lazy`);
    await lazy.destroy();
    expect(await count()).toBe(0);
    await expect(lazy.exec(["true"])).rejects.toThrow(DestroyedError);
  });

  test("a lazy handle that was never used has nothing to destroy, and one that failed may try again", async ({
    host,
  }) => {
    const unused = SubContainer.lazy(host, image);
    await unused.destroy();
    await expect(unused.guid).rejects.toThrow(DestroyedError);
    const failing = SubContainer.lazy(host, { imageId: "none" });
    await expect(failing.exec(["true"])).rejects.toThrow(HostError);
    expect(failing.created).toBe(false);
    await failing.destroy();
  });

  test("await using destroys at the end of the block", async ({ host }) => {
    let guid: string;
    {
      await using sub = await SubContainer.of(host, image, null, NAME);
      await using counted = sub.rc();
      guid = counted.guid;
      expect((await counted.exec(["true"])).exitCode).toBe(0);
    }
    expect((await host.list()).map((info) => info.guid)).not.toContain(guid);
  });

  test("a hold keeps it alive past destroy, until its release", async ({ host }) => {
    const sub = await SubContainer.of(host, image, null, NAME);
    const releases = [sub.hold(), sub.hold()] as const;
    await sub.destroy();
    expect((await sub.exec(["true"])).exitCode).toBe(0);
    expect(() => sub.hold()).toThrow(DestroyedError);
    await releases[0]();
    await releases[0]();
    expect((await sub.exec(["true"])).exitCode).toBe(0);
    await releases[1]();
    await expect(sub.exec(["true"])).rejects.toThrow(DestroyedError);
    expect((await host.list()).map(({ guid }) => guid)).not.toContain(sub.guid);
  });

  test("a detached one outlives its connection and is attached by guid", async ({ host }) => {
    const other = await connect({ dataDir: inject("dataDir") });
    const sub = await SubContainer.of(other, { ...image, throwaway: false }, null, NAME);
    await sub.writeFile("/srv/note", "still here");
    const guid = await sub.detach();
    other.close();
    const again = await SubContainer.attach(host, guid);
    expect(again.rootfs).toBe(sub.rootfs);
    expect(await again.readFile("/srv/note", "utf8")).toBe("still here");
    await again.destroy();
    await expect(SubContainer.attach(host, guid)).rejects.toMatchObject({ kind: "notFound" });
  });

  test("the leader of an attached one can be heard and stopped", async ({ host }) => {
    const other = await connect({ dataDir: inject("dataDir") });
    const sub = await SubContainer.of(other, image, null, NAME);
    const leader = await sub.launch(
      ["sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"],
      {
        stdio: ["ignore", "pipe", "ignore"],
      },
    );
    const guid = await sub.detach();
    other.close();
    await using again = await SubContainer.attach(host, guid);
    const same = await again.leader({ stdio: ["ignore", "pipe", "ignore"] });
    expect(same?.pid).toBe(leader.pid);
    expect((await same?.lines().next())?.value).toBe("up");
    expect(await same?.stop()).toMatchObject({ exitCode: 5 });
    expect(await again.leader()).toBeNull();
  });

  test("what another connection owns cannot be taken", async ({ host, sub }) => {
    const other = await connect({ dataDir: inject("dataDir") });
    await expect(SubContainer.attach(other, sub.guid)).rejects.toMatchObject({ kind: "busy" });
    other.close();
    expect((await sub.exec(["true"])).exitCode).toBe(0);
    expect(host.ended).toBeUndefined();
  });
});
