/**
 * Daemons in real containers, through a real host.
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { describe, expect, expectTypeOf, inject } from "vitest";
import {
  checkPortListening,
  checkWebUrl,
  type DaemonStatus,
  Daemons,
  type Host,
  Mounts,
  runHealthScript,
  SubContainer,
  type SubContainerLazy,
} from "../../src/index.ts";
import { commandLines, NAME, test, until } from "./fixture.ts";

const lazy = (host: Host, mounts: Mounts | null = null): SubContainerLazy =>
  SubContainer.lazy(host, { imageId: "busybox", throwaway: true }, mounts, NAME);

/** A command line that nothing else on the machine has. */
let marks = 0;
const mark = (): string => `${process.pid}${String(marks++).padStart(3, "0")}`;
const running = (what: string): number => commandLines().filter((line) => line === what).length;

const ready = { display: null, exec: ["true"] } as const;

describe("S24: daemons", () => {
  test("start in order, are ready, and end in the other order", async ({ host }) => {
    // All write to one file, and not to streams of their own, of which one may be read before another.
    const mount = { volumeId: "order", subpath: null, mountpoint: "/log", readonly: false };
    const sub = lazy(host, Mounts.of().mountVolume(mount));
    const say = (what: string) => `echo ${what} >>/log/log`;
    const script = (name: string) =>
      `${say(`+${name}`)}; trap "rm /tmp/${name}; ${say(`-${name}`)}; exit 0" TERM; touch /tmp/${name}; while :; do sleep 0.05; done`;
    const log = () => readFileSync(`${inject("dataDir")}/volumes/order/log`, "utf8").split("\n");
    let told = "";
    const daemons = await Daemons.of(host)
      .addDaemon("db", {
        subcontainer: sub,
        exec: { command: ["sh", "-c", script("db")] },
        ready: { display: "Database", exec: ["test", "-e", "/tmp/db"] },
        requires: [],
      })
      .addOneshot("migrate", {
        subcontainer: sub,
        exec: {
          command: ["sh", "-c", `${say("migrate")}; echo done`],
          onStdout: (chunk) => {
            told += chunk;
          },
        },
        requires: ["db"],
      })
      .addDaemon("web", {
        subcontainer: sub,
        exec: { command: ["sh", "-c", script("web")] },
        ready: { display: "Web", script: "test -e /tmp/web" },
        requires: ["db", "migrate"],
      })
      .build();
    await daemons.allReady();
    expect(log()).toEqual(["+db", "migrate", "+web", ""]);
    expect(told).toBe("done\n");
    expect(daemons.status().web).toMatchObject({
      state: "running",
      ready: true,
      health: { result: "success" },
      starts: 1,
      cause: null,
    });
    expect(daemons.status("migrate")).toMatchObject({
      state: "succeeded",
      ready: true,
      cause: { kind: "exit", code: 0 },
    });
    const health = async (): Promise<string[]> =>
      ((await sub.inspect()).health ?? []).map(({ name, status }) => `${name} ${status}`);
    await until("whoever looks sees it", async () => (await health()).join() === "db healthy,web healthy");
    await daemons.pause("web");
    await until(
      "and that one does not run",
      async () => (await health()).join() === "db healthy,web starting",
    );
    daemons.resume("web");
    await daemons.allReady();
    await daemons.term();
    expect(log().slice(3)).toEqual(["-web", "+web", "-web", "-db", ""]);
    await expect(sub.exec(["true"])).rejects.toThrow(/destroyed/);
    expect(Object.values(daemons.status()).map(({ state }: DaemonStatus) => state)).toEqual([
      "stopped",
      "succeeded",
      "stopped",
    ]);
  });

  test("that end are started again, and nothing of the run before is left", async ({ host }) => {
    const left = mark();
    const daemons = await Daemons.of({ effects: host })
      .addDaemon("a", {
        subcontainer: lazy(host),
        // What it has left behind has a session of its own.
        exec: { command: ["sh", "-c", `setsid sleep ${left} & echo up; sleep 0.3; exit 7`] },
        ready,
        restart: { initial: 10, jitter: 0, crashLoop: 3, retryAfter: null },
        requires: [],
      })
      .build();
    const seen: string[] = [];
    for await (const { status } of daemons.changes()) {
      seen.push(status.state);
      expect(running(`sleep ${left}`)).toBeLessThanOrEqual(1);
      if (status.state === "gaveUp") break;
    }
    expect(seen.filter((state) => state === "starting")).toHaveLength(3);
    expect(daemons.status().a).toMatchObject({
      cause: { kind: "exit", code: 7 },
      failures: 3,
      health: { result: "failure", message: "exit code 7; given up after 3 times in a row" },
    });
    expect(daemons.output("a")).toBe("up\n".repeat(3));
    expect(running(`sleep ${left}`)).toBe(0);
    await expect(daemons.allReady()).rejects.toThrow("given up after 3 times");
    await daemons.term();
  });

  test("say what ended them: a signal, memory, nobody", async ({ host }) => {
    const [killed, full, beneath, missing] = [lazy(host), lazy(host), lazy(host), lazy(host)];
    const hog = "x=0123456789abcdef; while :; do x=$x$x; done";
    const once = { retryAfter: null, crashLoop: 1 };
    const daemons = await Daemons.of(host)
      .addDaemon("killed", {
        subcontainer: killed,
        exec: { command: ["sh", "-c", "kill -9 $$"] },
        restart: once,
        ready,
        requires: [],
      })
      .addDaemon("full", {
        subcontainer: full,
        exec: {
          command: ["sh", "-c", hog],
          runAsInit: true,
          launch: { limits: { memoryBytes: 32 * 2 ** 20, swapBytes: 0 } },
        },
        restart: once,
        ready,
        requires: [],
      })
      .addDaemon("beneath", {
        subcontainer: beneath,
        exec: {
          command: ["sh", "-c", hog],
          launch: { limits: { memoryBytes: 32 * 2 ** 20, swapBytes: 0 } },
        },
        restart: once,
        ready,
        requires: [],
      })
      .addDaemon("missing", {
        subcontainer: missing,
        exec: { command: ["no-such-program"] },
        restart: once,
        ready,
        requires: [],
      })
      .build();
    await until("all have ended", () =>
      Object.values(daemons.status()).every(({ state }: DaemonStatus) => state === "gaveUp"),
    );
    const { killed: one, full: two, missing: three, beneath: four } = daemons.status();
    expect(four.cause).toEqual({ kind: "outOfMemory" });
    expect(one.cause).toEqual({ kind: "signal", signal: "SIGKILL" });
    expect(two).toMatchObject({
      cause: { kind: "outOfMemory" },
      health: { message: expect.stringMatching(/^out of memory;/) },
    });
    expect(three.cause).toMatchObject({ kind: "error", message: expect.stringContaining("no-such-program") });
    await daemons.term();
  });

  test("are paused without losing their subcontainer, and restarted", async ({ host }) => {
    const sub = lazy(host);
    const daemons = await Daemons.of(host)
      .addDaemon("a", {
        subcontainer: sub,
        exec: { command: ["sh", "-c", "echo $$ >>/starts; exec sleep 1000"] },
        ready,
        requires: [],
      })
      .build();
    await daemons.allReady();
    await daemons.pause("a");
    expect(daemons.status().a).toMatchObject({ state: "paused", cause: { kind: "operator", what: "pause" } });
    expect((await sub.exec(["wc", "-l", "/starts"])).stdout.trim()).toBe("1 /starts");
    daemons.resume("a");
    await daemons.allReady();
    const { pid } = daemons.status().a;
    daemons.restart("a");
    await until("it is another", () => daemons.status().a.pid !== pid && daemons.status().a.ready);
    expect((await sub.exec(["wc", "-l", "/starts"])).stdout.trim()).toBe("3 /starts");
    await daemons.term();
  });

  test("that ignore SIGTERM are killed after their time, with what they started", async ({ host }) => {
    const left = mark();
    const daemons = await Daemons.of(host)
      .addDaemon("deaf", {
        subcontainer: lazy(host),
        exec: {
          command: [
            "sh",
            "-c",
            `trap "" TERM; touch /tmp/deaf; setsid sleep ${left} & while :; do sleep 0.1; done`,
          ],
          sigtermTimeout: 300,
        },
        ready: { display: null, exec: ["test", "-e", "/tmp/deaf"] },
        requires: [],
      })
      .build();
    await daemons.allReady();
    const start = performance.now();
    await daemons.term();
    expect(performance.now() - start).toBeGreaterThan(290);
    expect(performance.now() - start).toBeLessThan(5000);
    expect(running(`sleep ${left}`)).toBe(0);
  });

  test("may be functions, which end when they are asked to", async ({ host }) => {
    const sub = lazy(host);
    const said: string[] = [];
    const daemons = await Daemons.of(host)
      .addDaemon("function", {
        subcontainer: null,
        exec: {
          fn: async (none, abort) => {
            expectTypeOf(none).toEqualTypeOf<null>();
            said.push("begins");
            await new Promise((resolve) => abort.addEventListener("abort", resolve));
            said.push("ends");
            return null;
          },
        },
        ready: { display: null, fn: () => ({ result: "success", message: said.join() }) },
        requires: [],
      })
      .addDaemon("command", {
        subcontainer: sub,
        exec: { fn: async () => ({ command: ["sleep", "1000"], env: { A: "1" } }) },
        ready: {
          display: null,
          fn: async ({ subcontainer }) => {
            const { exitCode } = (await subcontainer?.exec(["true"])) ?? { exitCode: 1 };
            return { result: exitCode === 0 ? "success" : "failure", message: null };
          },
        },
        requires: ["function"],
      })
      .build();
    await daemons.allReady();
    expect(daemons.status().function.health.message).toBe("begins");
    await daemons.term();
    expect(said).toEqual(["begins", "ends"]);
  });

  test("run until all are ready, and then no more", async ({ host }) => {
    const left = mark();
    const set = (check: string[]) =>
      Daemons.of(host).addDaemon("a", {
        subcontainer: lazy(host),
        exec: { command: ["sleep", left] },
        ready: { display: null, exec: check },
        requires: [],
      });
    expect(await set(["true"]).runUntilSuccess(10_000)).toBe(null);
    await expect(set(["false"]).runUntilSuccess(300)).rejects.toThrow("not ready after 300 ms: a");
    expect(running(`sleep ${left}`)).toBe(0);
  });

  test("tell their health to who wants to know, and end with the context they were built in", async ({
    host,
  }) => {
    const told: unknown[] = [];
    let leave: (() => void | Promise<void>) | undefined;
    const effects = {
      socketPath: host.socketPath,
      request: host.request.bind(host),
      setHealth: (health: { id: string; result: string }) => told.push(`${health.id} ${health.result}`),
      onLeaveContext: (fn: () => void | Promise<void>) => {
        leave = fn;
      },
    } as Parameters<typeof Daemons.of>[0];
    const daemons = await Daemons.of(effects)
      .addDaemon("a", {
        subcontainer: lazy(host),
        exec: { command: ["sleep", "1000"] },
        ready: { display: "A", exec: ["true"] },
        requires: [],
      })
      .build();
    await daemons.allReady();
    await leave?.();
    expect(told).toEqual(["a starting", "a starting", "a success", "a starting", "a disabled"]);
  });
});

describe("S24: health over time", () => {
  test("thresholds, the grace period and the interval are those that were asked for", async ({ host }) => {
    const sub = lazy(host);
    const daemons = await Daemons.of(host)
      .addDaemon("a", {
        subcontainer: sub,
        exec: { command: ["sleep", "1000"] },
        // Each look is a line, and /tmp/well says how it is.
        ready: {
          display: null,
          script: "echo look >>/tmp/looks; [ -e /tmp/well ]",
          trigger: 40,
          gracePeriod: 400,
          successThreshold: 3,
          failureThreshold: 4,
        },
        requires: [],
      })
      .build();
    const results: string[] = [];
    const since = performance.now();
    const stop = new AbortController();
    const watching = (async () => {
      for await (const { status } of daemons.changes(stop.signal)) {
        if (status.state === "running" && results.at(-1) !== status.health.result)
          results.push(status.health.result);
        if (status.health.result === "failure" && results.length < 3)
          expect(performance.now() - since).toBeGreaterThan(400);
      }
    })();
    const looks = async (): Promise<number> =>
      Number((await sub.exec(["wc", "-l", "/tmp/looks"])).stdout.split(" ")[0]);
    await until("the grace is over", () => daemons.status().a.health.result === "failure");
    await sub.exec(["sh", "-c", "rm /tmp/looks; touch /tmp/well"]);
    await until("it is well", () => daemons.status().a.health.result === "success");
    expect(await looks()).toBeGreaterThanOrEqual(3);
    await sub.exec(["sh", "-c", "rm /tmp/well /tmp/looks"]);
    await until("it is ill", () => daemons.status().a.health.result === "failure");
    expect(await looks()).toBeGreaterThanOrEqual(4);
    expect(daemons.status().a.starts).toBe(1);
    stop.abort();
    await watching;
    expect(results).toEqual(["starting", "failure", "success", "failure"]);
    await daemons.term();
  });

  test("one that is dead to its check is started again where that is asked for, and says why", async ({
    host,
  }) => {
    const sub = lazy(host);
    const daemons = await Daemons.of(host)
      .addDaemon("a", {
        subcontainer: sub,
        exec: { command: ["sleep", "1000"], sigtermTimeout: 200 },
        ready: {
          display: null,
          // It never answers once it was ready: that is a failure as any.
          exec: ["sh", "-c", "[ ! -e /ready ] || sleep 1000; touch /ready"],
          trigger: 20,
          timeout: 150,
          gracePeriod: 0,
          failureThreshold: 2,
          onFailure: "restart",
        },
        restart: { initial: 10 },
        requires: [],
      })
      .build();
    await daemons.allReady();
    const { pid } = daemons.status().a;
    await until("it is another", () => daemons.status().a.starts === 2);
    expect(daemons.status().a.cause).toMatchObject({ kind: "health" });
    expect(daemons.status().a.pid).not.toBe(pid);
    await daemons.term();
  });

  test("a good run makes good for those that failed: no crash loop is said", async ({ host }) => {
    const daemons = await Daemons.of(host)
      .addDaemon("a", {
        subcontainer: lazy(host),
        exec: { command: ["sh", "-c", "sleep 0.3; exit 1"] },
        ready,
        restart: { initial: 10, jitter: 0, stableAfter: 150, crashLoop: 3, retryAfter: null },
        requires: [],
      })
      .build();
    await until("it was started again and again", () => daemons.status().a.starts >= 5, 10_000);
    expect(daemons.status().a.failures).toBeLessThan(2);
    expect(daemons.status().a.state).not.toBe("gaveUp");
    await daemons.term();
  });
});

describe("S24: health checks look from inside", () => {
  for (const mode of ["none", "private", "host"] as const) {
    test(`at ports and web servers, network ${mode}`, async ({ host }) => {
      const port = 18_000 + (process.pid % 1000) * 3 + ["none", "private", "host"].indexOf(mode);
      const sub = lazy(host);
      const daemons = await Daemons.of(host)
        .addDaemon("web", {
          subcontainer: sub,
          exec: {
            command: [
              "sh",
              "-c",
              `sleep 0.2; mkdir /www; echo hi >/www/index.html; exec httpd -f -p ${port} -h /www`,
            ],
            runAsInit: true,
            launch: { network: { mode }, init: true },
          },
          ready: { display: null, port },
          requires: [],
        })
        .addHealthCheck("page", {
          ready: { display: null, http: `http://localhost:${port}/` },
          subcontainer: sub,
          requires: ["web"],
        })
        .build();
      await daemons.allReady();
      expect(await checkWebUrl(host, sub, `http://127.0.0.1:${port}/none`)).toMatchObject({
        result: "success",
      });
      expect(
        await checkWebUrl(host, sub, `http://127.0.0.1:${port}/none`, { status: (code) => code === 200 }),
      ).toMatchObject({ result: "failure", message: expect.stringContaining("answers 404") });
      expect(await checkPortListening(host, sub, 1)).toMatchObject({
        result: "failure",
        message: expect.stringContaining("refused"),
      });
      await daemons.pause("web");
      expect(await checkPortListening(host, sub, port)).toMatchObject({ result: "failure" });
      expect(daemons.status().page.state).toBe("waiting");
      await daemons.term();
    });
  }

  test("what a check has printed is told on one line, and not all of it", async ({ sub }) => {
    const said = async (script: string) => (await runHealthScript(["sh", "-c", script], sub)).message;
    expect(await said("printf '\\033[31mred\\n\\r\\nline\\n' >&2; exit 3")).toBe(
      "sh failed with exit code 3:  [31mred line",
    );
    expect((await said("yes | head -c 1000000; exit 1"))?.length).toBeLessThan(400);
    expect(await said("exit 4")).toBe("sh failed with exit code 4");
  });

  test("a server that says nothing, or too much, is a failure in its time", async ({ host, sub }) => {
    // With the machine's network, so that this program can be the server.
    const servers = [
      () => {},
      (socket: Socket) => {
        const more = (): void => {
          while (socket.write(Buffer.alloc(1 << 16)));
          socket.once("drain", more);
        };
        more();
      },
      (socket: Socket) => socket.end("SSH-2.0-none\r\n"),
      (socket: Socket) => socket.end(),
    ].map((serve) =>
      createServer((socket) => {
        socket.on("error", () => {});
        socket.resume();
        serve(socket);
      }).listen(0, "127.0.0.1"),
    );
    await Promise.all(servers.map((server) => once(server, "listening")));
    await sub.launch(null, { stdio: "ignore" });
    const answers = servers.map(async (server) => {
      const { port } = server.address() as AddressInfo;
      const { result, message } = await checkWebUrl(host, sub, `http://localhost:${port}/`, { timeout: 500 });
      return `${result}: ${message}`;
    });
    expect(await Promise.all(answers)).toEqual([
      "failure: no answer within 500 ms",
      "failure: it does not speak HTTP",
      "failure: it does not speak HTTP",
      "failure: it closed the connection without an answer",
    ]);
    // Whoever asked has gone, and the host with him.
    for (const server of servers) {
      await until(
        "nobody is connected",
        () => new Promise((done) => server.getConnections((_, count) => done(count === 0))),
      );
      server.close();
    }
  });
});

describe("S24: daemons that change", () => {
  test("only those that are different are touched, and what shares a subcontainer goes on sharing it", async ({
    host,
  }) => {
    let version = 1;
    let extra = true;
    const made: SubContainerLazy[] = [];
    await using daemons = await Daemons.dynamic(host, ({ effects }) => {
      const sub = SubContainer.lazy(effects, { imageId: "busybox", throwaway: true }, null, NAME);
      made.push(sub);
      const list = Daemons.of(effects)
        .addDaemon("db", { subcontainer: sub, exec: { command: ["sleep", "1000"] }, ready, requires: [] })
        .addDaemon("web", {
          subcontainer: sub,
          exec: { command: ["sleep", "1001"], env: { VERSION: `${version}` } },
          ready,
          requires: ["db"],
        });
      return extra
        ? list.addDaemon("extra", {
            subcontainer: lazy(host),
            exec: { command: ["sleep", "1002"] },
            ready,
            requires: ["web"],
          })
        : list;
    }).build();
    await daemons.allReady();
    const before = daemons.status();
    await daemons.reconcile();
    await daemons.allReady();
    expect(daemons.status()).toMatchObject({
      db: { pid: before.db?.pid },
      web: { pid: before.web?.pid },
      extra: { pid: before.extra?.pid },
    });
    version = 2;
    await Promise.all([daemons.reconcile(), daemons.reconcile(), daemons.reconcile()]);
    await until(
      "the new one is ready",
      () => daemons.status("web")?.starts === 2 && daemons.status("extra")?.ready === true,
    );
    expect(daemons.status().db?.pid).toBe(before.db?.pid);
    expect(daemons.status().extra?.starts).toBe(2);
    expect(made.map(({ created }) => created)).toEqual([true, false, false, false]);
    extra = false;
    await daemons.reconcile();
    await until("it is gone", () => daemons.status("extra") === undefined);
    expect(daemons.status("web")?.starts).toBe(2);
  });
});
