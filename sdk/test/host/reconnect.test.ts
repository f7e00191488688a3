import { writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { acquireLock, ConnectionError, Daemons, type Host, runJob, SubContainer } from "../../src/index.ts";
import { until } from "./fixture.ts";
import { KillableHost } from "./killable.ts";

let killable: KillableHost;

const start = (): Promise<void> => killable.startAgain();
const end = (signal: NodeJS.Signals): Promise<void> => killable.end(signal);
const open = (reconnect?: number): Promise<Host> =>
  killable.connect(reconnect === undefined ? {} : { reconnect });

beforeEach(async () => {
  killable = await KillableHost.start();
});

afterEach(() => killable.remove());

describe("S26: a host that is killed", () => {
  test("costs no container, and handles go on with the next one", async () => {
    await using host = await open();
    const seen: string[] = [];
    host.onDisconnect = (error) => seen.push(error.failure);
    let resumed: readonly string[] = [];
    host.onReconnect = (guids) => {
      resumed = guids;
      seen.push("again");
    };
    await using sub = await SubContainer.of(host, { imageId: "busybox", throwaway: true });
    const leader = await sub.rc().launch(["sleep", "1000"], { stdio: "ignore" });
    await sub.writeFile("/file", "kept");
    const spawned = await sub.spawn(["sleep", "1000"]);
    const waiting = spawned.wait();
    const running = sub.exec(["sleep", "1000"]);
    const told = Promise.allSettled([waiting, running]);
    await new Promise((done) => setTimeout(done, 100));
    await end("SIGKILL");
    await expect(running).rejects.toMatchObject({ failure: "lost", outcome: "unknown" });
    // Asked while no host is there: it waits for one.
    const late = sub.exec(["cat", "/file"]);
    await start();
    for (const result of await told) {
      expect(result).toMatchObject({ status: "rejected", reason: { failure: "lost", outcome: "unknown" } });
      expect((result as PromiseRejectedResult).reason).toBeInstanceOf(ConnectionError);
    }
    expect((await late).stdout).toBe("kept");
    expect(seen).toEqual(["lost", "again"]);
    expect(resumed).toEqual([sub.guid]);
    const [info] = await host.list();
    expect(info?.state).toMatchObject({ status: "running", pid: leader.pid });
    // Its commands are over.
    expect(await spawned.kill()).toBe(false);
    expect(host.ended).toBeUndefined();
  });

  test("is looked for no longer than was said, and not after close()", async () => {
    const host = await open(300);
    const other = await open();
    await end("SIGKILL");
    await until("given up", () => host.ended !== undefined);
    expect(host.ended?.failure).toBe("lost");
    await expect(host.list()).rejects.toMatchObject({ failure: "lost", outcome: "notStarted" });
    const waiting = other.list();
    const signal = AbortSignal.timeout(50);
    await expect(other.list({ signal })).rejects.toMatchObject({ name: "TimeoutError" });
    other.close();
    await expect(waiting).rejects.toBeInstanceOf(ConnectionError);
    await start();
    await using third = await open();
    expect(await third.list()).toEqual([]);
  });
});

describe("S26: daemons whose host is killed", () => {
  test("go on, are adopted by their owner, and are not started a second time", async () => {
    await using host = await open();
    const lazy = () => SubContainer.lazy(host, { imageId: "busybox", throwaway: true });
    const script = "trap 'exit 0' TERM; i=0; while :; do echo $((i += 1)); sleep 0.05 & wait $!; done";
    const ready = { display: null, exec: ["true"], trigger: 100, failureThreshold: 1 };
    let printed = "";
    const shared = lazy();
    const daemons = await Daemons.of(host)
      .addDaemon("alone", {
        subcontainer: lazy(),
        exec: {
          command: ["sh", "-c", script],
          onStdout: (chunk) => {
            printed += chunk;
          },
        },
        ready,
        requires: [],
      })
      .addDaemon("dependent", {
        subcontainer: lazy(),
        exec: { command: ["sh", "-c", script] },
        ready,
        requires: ["alone"],
      })
      .addDaemon("first", {
        subcontainer: shared,
        exec: { command: ["sh", "-c", script] },
        ready,
        requires: [],
      })
      .addDaemon("second", {
        subcontainer: shared,
        exec: { command: ["sh", "-c", script] },
        ready,
        requires: [],
      })
      .build();
    await daemons.allReady();
    const before = daemons.status();
    let gone = 0;
    host.onDisconnect = () => {
      gone++;
    };
    for (let life = 0; life < 2; life++) {
      await end("SIGKILL");
      await until("it is known", () => gone > life);
      // Meanwhile, somebody asks for something.
      if (life === 1) daemons.restart("dependent");
      await new Promise((done) => setTimeout(done, 500));
      await start();
      // Commands beside a leader are ended by the next host, and started anew.
      await until("they are new", () => daemons.status().first.starts > life + 1, 20_000);
      await daemons.allReady(AbortSignal.timeout(20_000));
      const after = daemons.status();
      expect(after.alone).toMatchObject({ state: "running", pid: before.alone.pid, starts: 1, failures: 0 });
      expect(after.dependent.starts).toBe(1 + life);
    }
    await daemons.term();
    // Nothing of what was printed while no host was there is missing, and nothing is there twice.
    const lines = printed.trim().split("\n");
    expect(lines.length).toBeGreaterThan(20);
    expect(lines).toEqual(lines.map((_, index) => `${index + 1}`));
    expect(await host.list()).toEqual([]);
  });

  test("a job goes on with its lock, which nobody gets meanwhile", async () => {
    await using host = await open();
    const job = runJob(
      host,
      { name: "job", target: "x", image: { imageId: "busybox", throwaway: true } },
      async ({ sub }) => {
        await end("SIGKILL");
        await start();
        await using other = await open();
        await expect(acquireLock(other, "x")).rejects.toThrow(/held by .*: job, for/);
        const { stdout } = await sub.exec(["echo", "here"]);
        await expect(acquireLock(other, "x")).rejects.toThrow(/held by .*: job, for/);
        return stdout;
      },
    );
    expect(await job).toBe("here\n");
    await (await acquireLock(host, "x"))();
    expect(await host.list()).toEqual([]);
  });

  test("a job whose lock has gone with its host does not say that it has succeeded", async () => {
    await using host = await open();
    const job = runJob(
      host,
      { name: "job", target: "x", image: { imageId: "busybox", throwaway: true } },
      async () => {
        // In order: what its clients have ends with it.
        await end("SIGTERM");
        await start();
      },
    );
    await expect(job).rejects.toThrow("job: the lock on x was lost meanwhile, with the host");
    expect(await host.list()).toEqual([]);
  });

  test("say how they ended, if they did while no host was there", async () => {
    await using host = await open();
    const daemons = await Daemons.of(host)
      .addDaemon("a", {
        subcontainer: SubContainer.lazy(host, { imageId: "busybox", throwaway: true }),
        exec: { command: ["sh", "-c", "until [ -e /tmp/end ]; do sleep 0.05; done; exit 7"] },
        ready: { display: null, exec: ["true"] },
        restart: { crashLoop: 1, retryAfter: null },
        requires: [],
      })
      .build();
    await daemons.allReady();
    const [{ rootfs } = { rootfs: "" }] = await host.list();
    await end("SIGKILL");
    writeFileSync(`${killable.path(rootfs)}/tmp/end`, "");
    await new Promise((done) => setTimeout(done, 500));
    await start();
    await until("it is known", () => daemons.status().a.state === "gaveUp", 20_000);
    expect(daemons.status().a.cause).toEqual({ kind: "exit", code: 7 });
    await daemons.term();
  });
});
