/**
 * Fifty services, and everything that can happen to them in an hour, in less than that: `SDK_SOAK_SECONDS` says in how
 * many seconds (default 20), `SDK_SOAK_SEED` repeats one.
 *
 * Waits are short, so that a second holds what a minute does otherwise. The clock that jumps is the one of this program
 * (`Date`), which the SDK must not wait by: the machine's own is everybody's. What has to hold, whatever happens: no service runs
 * twice, none starts before what it requires is ready, and once the trouble is over all are ready again, and then nothing
 * is left of them.
 */
import { rmSync, writeFileSync } from "node:fs";
import { kill } from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, test, vi } from "vitest";
import { Daemons, type DaemonsReconciler, type Host, Mounts, SubContainer } from "../../src/index.ts";
import { KillableHost } from "../host/killable.ts";
import { commandLines, until } from "../host/look.ts";

const SECONDS = Number(process.env.SDK_SOAK_SECONDS ?? 20);
const SEED = Number(process.env.SDK_SOAK_SEED ?? Math.floor(Math.random() * 2 ** 31));
const SETS = 10;
const NAMES = ["db", "migrate", "cache", "web", "worker"] as const;
const SERVICES = ["db", "cache", "web", "worker"] as const;

/** The same for the same seed: mulberry32. */
let state = SEED;
function random(below: number): number {
  state = (state + 0x6d2b79f5) | 0;
  let word = Math.imul(state ^ (state >>> 15), 1 | state);
  word = (word + Math.imul(word ^ (word >>> 7), 61 | word)) ^ word;
  return ((word ^ (word >>> 14)) >>> 0) % below;
}
const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T;

const restart = { initial: 20, max: 300, stableAfter: 1000, crashLoop: 8, retryAfter: 1000 };

/** Beats until it cannot write, or is asked to end. */
const SERVICE = `trap "exit 0" TERM; touch /tmp/$0
while :; do echo beat >/data/$0 || exit 4; echo beat; sleep 1 & wait $!; done`;
/** Slow, dead or ill, as somebody has left word. */
const CHECK = "[ ! -e /tmp/dead ] || sleep 1000; [ ! -e /tmp/slow ] || sleep 0.3; [ ! -e /tmp/ill ]";

interface Set_ {
  readonly number: number;
  version: number;
  daemons: DaemonsReconciler<Host>;
  sub: () => SubContainer | undefined;
}

async function begin(host: Host, number: number): Promise<Set_> {
  let sub: ReturnType<typeof SubContainer.lazy> | undefined;
  let handle: SubContainer | undefined;
  const set: Omit<Set_, "daemons"> & { daemons?: DaemonsReconciler<Host> } = {
    number,
    version: 0,
    sub: () => handle,
  };
  const mounts = Mounts.of().mountTmpfs({ mountpoint: "/data", size: 65_536 });
  set.daemons = await Daemons.dynamic(host, ({ effects }) => {
    sub = SubContainer.lazy(host, { imageId: "busybox", throwaway: true }, mounts, "soak");
    const service = (name: string, env: Record<string, string> = {}) => ({
      subcontainer: sub as NonNullable<typeof sub>,
      exec: {
        command: ["sh", "-c", SERVICE, `soak-${number}-${name}`],
        env,
        sigtermTimeout: 500,
        launch: { network: { mode: "none" as const }, limits: { memoryBytes: 64 << 20, swapBytes: 0 } },
      },
      restart,
    });
    const look = { display: null, timeout: 700, trigger: 1000, gracePeriod: 2000, failureThreshold: 2 };
    return Daemons.of(effects)
      .addDaemon("db", {
        ...service("db"),
        ready: { ...look, script: CHECK, onFailure: "restart" },
        requires: [],
      })
      .addOneshot("migrate", {
        subcontainer: sub,
        exec: { command: ["sh", "-c", "sleep 0.05; echo done >/data/migrated"] },
        restart,
        requires: ["db"],
      })
      .addDaemon("cache", {
        ...service("cache", { VERSION: `${set.version}` }),
        ready: { ...look, exec: ["test", "-e", `/tmp/soak-${number}-cache`] },
        requires: [],
      })
      .addDaemon("web", {
        ...service("web"),
        ready: { ...look, exec: ["test", "-e", `/tmp/soak-${number}-web`] },
        requires: ["migrate", "cache"],
      })
      .addDaemon("worker", {
        ...service("worker"),
        ready: { ...look, fn: () => ({ result: "success", message: null }) },
        requires: ["web"],
      });
  }).build();
  const first = sub as unknown as ReturnType<typeof SubContainer.lazy>;
  handle = await first.eager();
  return set as Set_;
}

/** What can happen. Each says what it has done, for the count. */
const troubles: Record<string, (set: Set_, sub: SubContainer) => Promise<unknown>> = {
  "killed service": async ({ daemons }) => {
    const pid = daemons.status(pick(SERVICES))?.pid;
    if (pid) kill(pid, pick(["SIGKILL", "SIGSEGV", "SIGTERM", "SIGSTOP"] as const));
  },
  "killed init": async (_, sub) => {
    const { state } = await sub.inspect();
    if (state.status === "running") kill(state.pid, "SIGKILL");
  },
  "full disk": async (_, sub) => {
    await sub.exec(["sh", "-c", "cat /dev/zero >/data/full"]);
    await sleep(300);
    await sub.exec(["rm", "-f", "/data/full"]);
  },
  "out of memory": async (_, sub) => {
    // By the group's limit or, a little later, by its own.
    await sub.exec(["sh", "-c", "ulimit -v 300000; x=0123456789abcdef; while :; do x=$x$x; done"], {}, 3000);
  },
  "ill health check": async (_, sub) => {
    const how = pick(["dead", "slow", "ill"]);
    await sub.exec(["touch", `/tmp/${how}`]);
    await sleep(500 + random(2500));
    await sub.exec(["rm", "-f", `/tmp/${how}`]);
  },
  "clock jump": async () => {
    vi.setSystemTime(Date.now() + pick([-1, 1]) * random(86_400_000));
  },
  operator: async ({ daemons }) => {
    const name = pick(NAMES);
    const what = random(3);
    if (what === 0) daemons.restart(name);
    else if (what === 1) daemons.resume(name);
    else await daemons.pause(name).then(() => daemons.resume(name));
  },
  "new version": async (set) => {
    set.version += 1;
    await set.daemons.reconcile();
  },
  "full disk of the host": () =>
    alone(async () => {
      const full = `${killable.data}/full`;
      // Whatever is left of it.
      expect(() => writeFileSync(full, Buffer.alloc(DISK))).toThrow("ENOSPC");
      await sleep(500 + random(1000));
      rmSync(full);
    }),
  "killed host": () =>
    alone(async () => {
      await killable.end("SIGKILL");
      await sleep(random(500));
      await killable.startAgain();
      await sleep(1000);
    }),
  "replaced host": () => alone(() => killable.replace()),
};

/** What befalls all. */
const FOR_ALL = ["full disk of the host", "killed host", "replaced host"];
/** Of that, one thing after the other, and not so often that nothing else can happen. */
let aloneUntil = 0;
/** It did not happen. */
const NOTHING: unique symbol = Symbol("nothing");
async function alone(work: () => Promise<unknown>): Promise<typeof NOTHING | undefined> {
  if (performance.now() < aloneUntil) return NOTHING;
  aloneUntil = Number.POSITIVE_INFINITY;
  try {
    await work();
  } finally {
    aloneUntil = performance.now() + 3000;
  }
  return undefined;
}

/** The disk that holds the image, what is written to 50 rootfs, and their logs. */
const DISK = 64 << 20;
let killable: KillableHost;
let host: Host | undefined;
afterAll(async () => {
  vi.useRealTimers();
  host?.close();
  await killable?.remove();
});

test(
  "S24: fifty services live through an hour's trouble, and nothing is left of them",
  async () => {
    console.log(`soak: ${SECONDS} s, seed ${SEED}`);
    vi.useFakeTimers({ toFake: ["Date"] });
    killable = await KillableHost.start({ disk: DISK, flags: ["--session-grace", "60"] });
    host = await killable.connect({ client: "soak" });
    const sets = await Promise.all(Array.from({ length: SETS }, (_, number) => begin(host as Host, number)));
    await Promise.all(sets.map(({ daemons }) => daemons.allReady(AbortSignal.timeout(30_000))));

    const wrong: string[] = [];
    const stop = new AbortController();
    const watching = sets.map(async ({ number, daemons }) => {
      for await (const { status, before } of daemons.changes(stop.signal)) {
        if (before !== undefined && status.starts > before.starts + 1)
          wrong.push(`${number} ${status.id} starts twice`);
        if (status.state === "gaveUp") wrong.push(`${number} ${status.id} was given up`);
      }
    });
    const counts: Record<string, number> = {};
    const failed: Record<string, number> = {};
    const end = performance.now() + SECONDS * 1000;
    const troubling = sets.map(async (set) => {
      while (performance.now() < end) {
        // Of each kind at least one, however short it is: one of the sets sees to that, and no other one takes its turn.
        const due = Object.keys(troubles).filter((name) => !(name in counts));
        const others = Object.keys(troubles).filter((name) => due.length === 0 || !FOR_ALL.includes(name));
        const name = pick(set === sets[0] && due.length > 0 ? due : others);
        // A command may be ended by what another trouble does: that is no news.
        const done = await troubles[name]?.(set, set.sub() as SubContainer).catch((error: Error) => {
          const why = `${name}: ${error.message.replaceAll(/[0-9a-f-]{36}/g, "…").slice(0, 100)}`;
          failed[why] = (failed[why] ?? 0) + 1;
        });
        if (done !== NOTHING) counts[name] = (counts[name] ?? 0) + 1;
        await sleep(random(400));
      }
    });
    const looking = (async () => {
      while (performance.now() < end) {
        const seen = new Map<string, number>();
        for (const line of commandLines()) {
          const name = /^sh -c .* (soak-\d+-\w+)$/s.exec(line)?.[1];
          if (name !== undefined) seen.set(name, (seen.get(name) ?? 0) + 1);
        }
        // A shell that forks is seen twice for a moment.
        for (const [name, count] of seen) if (count > 2) wrong.push(`${name} runs ${count} times`);
        await sleep(200);
      }
    })();
    await Promise.all([...troubling, looking]);
    stop.abort();
    await Promise.all(watching);

    for (const { daemons, sub } of sets) {
      // What befell it last may still be ending it.
      await until("its troubles are over", async () => {
        const clean = sub()?.exec(["sh", "-c", "rm -f /tmp/dead /tmp/slow /tmp/ill /data/full"]);
        return (await clean?.catch(() => undefined))?.exitCode === 0;
      });
      for (const name of NAMES) daemons.resume(name);
      for (const name of SERVICES) {
        const pid = daemons.status(name)?.pid;
        // Somebody may have stopped it.
        if (pid) kill(pid, "SIGCONT");
      }
    }
    const all = sets.map(async ({ number, daemons }) => {
      try {
        await daemons.allReady(AbortSignal.timeout(30_000));
      } catch (error) {
        throw new Error(`set ${number}: ${JSON.stringify(daemons.status(), null, 1)}`, { cause: error });
      }
    });
    await Promise.all(all);
    const starts = sets.flatMap(({ daemons }) => Object.values(daemons.status()).map((one) => one.starts));
    console.log(`soak: ${starts.reduce((a, b) => a + b)} starts;`, counts, failed);
    expect(wrong).toEqual([]);
    expect(Object.keys(counts).sort()).toEqual(Object.keys(troubles).sort());
    await Promise.all(sets.map(({ daemons }) => daemons.term()));
    await until("nothing of them is left", () => !commandLines().some((line) => /soak-\d+-/.test(line)));
    expect((await host.list()).filter(({ name }) => name === "soak")).toEqual([]);
  },
  SECONDS * 1000 + 120_000,
);
