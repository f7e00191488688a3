import { describe, expect, test } from "vitest";
import { type Clock, Driver, type Instance, type Runner } from "../../../src/daemons/driver.ts";
import type { Cause } from "../../../src/daemons/machine.ts";
import type { HealthCheckResult, UnitPlan } from "../../../src/daemons/plan.ts";
import { ConnectionError } from "../../../src/errors.ts";
import { plan } from "./world.ts";

/** A clock that a test moves. */
class Hands implements Clock {
  #now = 0;
  readonly #timers = new Set<{ at: number; call: () => void }>();
  now(): number {
    return this.#now;
  }
  random(): number {
    return 0.5;
  }
  after(ms: number, call: () => void): () => void {
    const timer = { at: this.#now + ms, call };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }
  async pass(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      await settled();
      const next = [...this.#timers].sort((a, b) => a.at - b.at)[0];
      if (next === undefined || next.at > end) break;
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.call();
    }
    this.#now = end;
  }
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

/** A daemon that does as a test says. */
class Fake implements Runner {
  readonly plan: UnitPlan;
  readonly log: string[] = [];
  end: (cause: Cause) => void = () => {};
  lose: () => void = () => {};
  back: (found: Error | Cause | null) => void = () => {};
  found: HealthCheckResult = { result: "success", message: null };
  startError: Error | undefined;
  releaseError: Error | undefined;
  stopErrors = 0;

  constructor(what: UnitPlan) {
    this.plan = what;
  }

  async start(signal: AbortSignal): Promise<Instance> {
    this.log.push("start");
    if (this.startError !== undefined) throw this.startError;
    signal.throwIfAborted();
    let resolve: (cause: Cause) => void = () => {};
    let reject: (error: Error) => void = () => {};
    const wait = (): Promise<Cause> =>
      new Promise((yes, no) => {
        resolve = yes;
        reject = no;
      });
    this.end = (cause) => resolve(cause);
    this.lose = () => reject(new ConnectionError("lost", "/x", "lost"));
    return {
      pid: 7,
      ended: wait,
      stop: async (grace) => {
        this.log.push(`stop ${grace}`);
        if (this.stopErrors-- > 0) throw new Error("no descriptors left");
        resolve({ kind: "signal", signal: "SIGTERM" });
      },
      back: () =>
        new Promise((yes, no) => {
          this.back = (found) => (found instanceof Error ? no(found) : yes(found));
        }),
    };
  }

  async check(): Promise<HealthCheckResult> {
    return this.found;
  }

  async release(): Promise<void> {
    this.log.push("release");
    if (this.releaseError !== undefined) throw this.releaseError;
  }
}

describe("S24: what the machine decides is carried out", () => {
  test("starts, restarts and stops by the clock it was given", async () => {
    const clock = new Hands();
    const driver = new Driver(clock);
    const [db, web] = [new Fake(plan("db")), new Fake(plan("web", ["db"]))];
    driver.plan([db, web]);
    await settled();
    expect(driver.status().get("web")).toMatchObject({ ready: true, pid: 7 });
    db.end({ kind: "exit", code: 1 });
    await settled();
    expect(web.log).toEqual(["start", "stop 1000"]);
    expect(driver.status().get("db")).toMatchObject({ state: "backoff", retryIn: 375, pid: null });
    await clock.pass(374);
    expect(db.log).toEqual(["start"]);
    await clock.pass(1);
    expect(driver.status().get("web")?.ready).toBe(true);
    await driver.term();
    expect([db.log.at(-1), web.log.at(-1)]).toEqual(["release", "release"]);
  });

  test("a host that is gone is waited for, and what runs is not started a second time", async () => {
    const clock = new Hands();
    const driver = new Driver(clock);
    const one = new Fake(plan("one"));
    driver.plan([one]);
    await settled();
    one.lose();
    await clock.pass(1_000_000);
    expect(driver.status().get("one")?.state).toBe("lost");
    one.back(null);
    await settled();
    expect(driver.status().get("one")).toMatchObject({ state: "running", starts: 1, ready: true, pid: 7 });
    one.lose();
    await settled();
    one.back(new Error("never"));
    await settled();
    expect(driver.status().get("one")).toMatchObject({ state: "backoff", cause: { kind: "unknown" } });
    await clock.pass(1000);
    one.lose();
    await settled();
    one.back({ kind: "exit", code: 3 });
    await settled();
    expect(driver.status().get("one")).toMatchObject({ state: "backoff", cause: { kind: "exit", code: 3 } });
    await driver.term();
  });

  test("what could not be told to end is told again", async () => {
    const clock = new Hands();
    const driver = new Driver(clock);
    const one = new Fake(plan("one"));
    one.stopErrors = 3;
    driver.plan([one]);
    await settled();
    const ending = driver.term();
    await clock.pass(3000);
    await ending;
    expect(one.log.filter((line) => line.startsWith("stop"))).toHaveLength(4);
  });

  test("what cannot be released is said, and the others are released all the same", async () => {
    const driver = new Driver(new Hands());
    const fakes = ["a", "b", "c"].map((id) => new Fake(plan(id)));
    for (const fake of fakes.slice(0, 2)) fake.releaseError = new Error(`busy ${fake.plan.id}`);
    driver.plan(fakes);
    await settled();
    const error = await driver.term().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(AggregateError);
    expect((error as AggregateError).errors.map(({ message }: Error) => message)).toEqual([
      "busy a",
      "busy b",
    ]);
    expect(fakes.map(({ log }) => log.at(-1))).toEqual(["release", "release", "release"]);
  });

  test("a reader who is slow gets every daemon's last status, and the end", async () => {
    const clock = new Hands();
    const driver = new Driver(clock);
    const one = new Fake(plan("one", [], { restart: { ...plan("x").restart, crashLoop: 1e9 } }));
    driver.plan([one]);
    const changes = driver.changes();
    expect((await changes.next()).value?.status.state).toBe("starting");
    for (let end = 0; end < 2000; end++) {
      await settled();
      one.end({ kind: "exit", code: end });
      await clock.pass(30_000);
    }
    await settled();
    await driver.term();
    const seen = [];
    for await (const change of changes) seen.push(change.status);
    expect(seen.length).toBeLessThanOrEqual(1024);
    expect(seen.at(-1)).toMatchObject({ state: "stopped", starts: 2001 });
  });

  test("a start that fails is tried again", async () => {
    const clock = new Hands();
    const driver = new Driver(clock);
    const one = new Fake(plan("one"));
    one.startError = new Error("no such image");
    driver.plan([one]);
    await settled();
    expect(driver.status().get("one")).toMatchObject({
      state: "backoff",
      cause: { kind: "error", message: "no such image" },
    });
    one.startError = undefined;
    await clock.pass(1000);
    expect(driver.status().get("one")?.ready).toBe(true);
    await driver.term();
  });
});
