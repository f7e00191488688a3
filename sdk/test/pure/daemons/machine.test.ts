import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isActive, isReady } from "../../../src/daemons/machine.ts";
import { backoff, DEFAULT_HEALTH, DEFAULT_RESTART, type UnitPlan } from "../../../src/daemons/plan.ts";
import { statuses } from "../../../src/daemons/status.ts";
import { plan, World } from "./world.ts";

const phase = (world: World, id: string) => world.state.units.get(id)?.phase.name;
const status = (world: World, id: string) => statuses(world.state, new Map(), world.now).get(id);

describe("S24: daemons", () => {
  test("start after what they require is ready, and stop before it", () => {
    const world = new World([
      plan("db"),
      plan("migrate", ["db"], { kind: "oneshot" }),
      plan("web", ["migrate"]),
    ]);
    expect([...world.alive.keys()]).toEqual(["db"]);
    world.started("db");
    expect([...world.alive.keys()]).toEqual(["db"]);
    world.checked("db", "success");
    expect([...world.alive.keys()]).toEqual(["db", "migrate"]);
    world.started("migrate");
    world.exited("migrate", { kind: "exit", code: 0 });
    expect([...world.alive.keys()]).toEqual(["db", "web"]);
    world.started("web");
    // web requires db only by way of the one-shot, which has ended long ago.
    world.post({ type: "term" });
    expect(world.log.filter(({ type }) => type === "stop")).toMatchObject([{ id: "web" }]);
    world.exited("web");
    expect(world.log.filter(({ type }) => type === "stop")).toMatchObject([{ id: "web" }, { id: "db" }]);
    world.exited("db");
    expect(status(world, "db")).toMatchObject({
      state: "stopped",
      cause: { kind: "operator", what: "term" },
    });
  });

  test("that end are started again after a wait that grows, and a crash loop says so", () => {
    const restart = { ...DEFAULT_RESTART, crashLoop: 4, retryAfter: 100_000 };
    const world = new World([plan("a", [], { restart })]);
    const waits: number[] = [];
    for (let end = 0; end < 5; end++) {
      world.started("a");
      world.exited("a", { kind: "signal", signal: "SIGSEGV" });
      waits.push(status(world, "a")?.retryIn ?? 0);
      if (end === 2) expect(status(world, "a")).toMatchObject({ state: "backoff", failures: 3 });
      if (end >= 3) {
        expect(status(world, "a")).toMatchObject({
          state: "crashLoop",
          cause: { kind: "signal", signal: "SIGSEGV" },
          health: { result: "failure", message: `ended by SIGSEGV; crash loop: ${end + 1} times in a row` },
        });
      }
      world.pass(status(world, "a")?.retryIn ?? 0);
      expect(phase(world, "a")).toBe("starting");
    }
    expect(waits).toEqual([375, 750, 1500, 100_000, 100_000]);
  });

  test("give up where that is asked for, until somebody asks for more", () => {
    const restart = { ...DEFAULT_RESTART, crashLoop: 2, retryAfter: null };
    const world = new World([plan("a", [], { restart }), plan("b", ["a"])]);
    world.startFailed("a");
    world.pass(1000);
    world.startFailed("a");
    expect(status(world, "a")).toMatchObject({ state: "gaveUp", cause: { kind: "error", message: "no" } });
    world.pass(1e9);
    expect(world.alive.size).toBe(0);
    world.post({ type: "restart", id: "a" });
    world.obey();
    expect(isReady(world.state, "b")).toBe(true);
  });

  test("begin to count anew after a good run", () => {
    const world = new World([plan("a")]);
    for (let end = 0; end < 5; end++) {
      world.started("a");
      world.exited("a");
      world.pass(30_000);
    }
    world.started("a");
    world.checked("a", "success");
    for (let time = 0; time < 60_000; time += 30_000) {
      world.pass(30_000);
      world.checked("a", "success");
    }
    world.exited("a");
    expect(status(world, "a")).toMatchObject({ failures: 1, retryIn: 375 });
  });

  test("wait for what they require to come back, and keep their one-shots' success", () => {
    const world = new World([
      plan("db"),
      plan("migrate", ["db"], { kind: "oneshot" }),
      plan("web", ["migrate"]),
    ]);
    world.obey();
    world.exited("db", { kind: "outOfMemory" });
    expect(world.alive.get("web")?.told).toBe(true);
    world.exited("web");
    expect(status(world, "web")).toMatchObject({
      state: "waiting",
      health: { result: "waiting", message: "for migrate" },
      cause: { kind: "requirement", id: "migrate" },
    });
    world.pass(500);
    world.obey();
    expect(status(world, "web")?.ready).toBe(true);
    expect(world.log.filter((effect) => effect.type === "start" && effect.id === "migrate")).toHaveLength(1);
  });

  test("are paused with what requires them, and resumed", () => {
    const world = new World([plan("db"), plan("web", ["db"])]);
    world.obey();
    world.post({ type: "pause", id: "db" });
    expect(world.alive.get("db")?.told).toBe(false);
    world.obey();
    expect([status(world, "db")?.state, status(world, "web")?.state]).toEqual(["paused", "waiting"]);
    world.pass(1e9);
    expect(world.alive.size).toBe(0);
    world.post({ type: "resume", id: "db" });
    world.obey();
    expect(status(world, "web")?.ready).toBe(true);
  });

  test("are changed one by one: what stays as it is goes on", () => {
    const first = [plan("db"), plan("cache"), plan("web", ["db"]), plan("old")];
    const world = new World(first);
    world.obey();
    const before = new Map(world.alive);
    world.post({
      type: "plan",
      plans: [plan("db"), plan("cache", [], { hash: "2" }), plan("web", ["db"]), plan("new", ["web"])],
    });
    world.obey();
    expect([...world.state.units.keys()].sort()).toEqual(["cache", "db", "new", "web"]);
    for (const id of ["db", "web"]) expect(world.alive.get(id)).toBe(before.get(id));
    expect(world.alive.get("cache")?.run).toBe(2);
    // What requires a changed one is restarted with it.
    world.post({
      type: "plan",
      plans: [plan("db", [], { hash: "2" }), plan("web", ["db"])],
    });
    world.obey();
    expect(world.alive.get("web")?.run).toBe(2);
    expect([...world.state.units.keys()]).toEqual(["db", "web"]);
  });

  test("that a host has lost are neither started again nor stopped until it is back", () => {
    const world = new World([plan("db"), plan("web", ["db"])]);
    world.obey();
    for (const id of ["db", "web"]) world.lost(id);
    expect(status(world, "web")?.state).toBe("lost");
    world.pass(1e6);
    world.post({ type: "term" });
    expect(world.log.filter(({ type }) => type === "stop")).toEqual([]);
    for (const id of ["db", "web"]) world.found(id);
    expect(world.alive.get("web")?.told).toBe(true);
    world.obey();
    expect(world.alive.size).toBe(0);
  });

  test("that are unhealthy are started again where that is asked for", () => {
    const health = { ...DEFAULT_HEALTH, onFailure: "restart", failureThreshold: 2 } as const;
    const world = new World([plan("a", [], { health }), plan("b", ["a"])]);
    world.obey();
    for (let failure = 0; failure < 2; failure++) {
      expect(status(world, "a")?.ready).toBe(true);
      world.pass(30_000);
      world.checked("a", "failure");
    }
    expect(world.alive.get("b")?.told).toBe(true);
    expect(world.alive.get("a")?.told).toBe(false);
    world.exited("b");
    expect(world.alive.get("a")?.told).toBe(true);
    world.exited("a");
    expect(status(world, "a")).toMatchObject({ state: "backoff", cause: { kind: "health" }, failures: 1 });
  });
});

describe("S24: health", () => {
  test("is starting within the grace period, then a failure", () => {
    const health = { ...DEFAULT_HEALTH, gracePeriod: 5000, trigger: 1000, failureThreshold: 1 };
    const world = new World([plan("a", [], { health })]);
    world.started("a");
    const said: string[] = [];
    for (let check = 0; check < 8; check++) {
      world.checked("a", "failure");
      said.push(status(world, "a")?.health.result ?? "");
      world.pass(1000);
    }
    expect(said).toEqual([...Array(5).fill("starting"), ...Array(3).fill("failure")]);
    world.checked("a", "success");
    expect(status(world, "a")).toMatchObject({ ready: true, health: { result: "success" } });
  });

  test("changes only after as many answers in a row as the thresholds say", () => {
    const health = { ...DEFAULT_HEALTH, trigger: 1000, successThreshold: 2, failureThreshold: 3 };
    const world = new World([plan("a", [], { health })]);
    world.started("a");
    const seen: boolean[] = [];
    for (const answer of "ssfsffsffffsfsss") {
      world.checked("a", answer === "s" ? "success" : "failure");
      seen.push(status(world, "a")?.ready ?? false);
      world.pass(1000);
    }
    expect(seen.map((ready) => (ready ? "r" : "-")).join("")).toBe("-rrrrrrrr-----rr");
  });

  test("a check that does not answer has failed, and its late answer means nothing", () => {
    const health = { ...DEFAULT_HEALTH, gracePeriod: 0, timeout: 2000, failureThreshold: 1, trigger: 1000 };
    const world = new World([plan("a", [], { health })]);
    world.started("a");
    const late = world.checks.get("a");
    world.pass(2000);
    expect(status(world, "a")?.health).toEqual({ result: "failure", message: "no answer within 2000 ms" });
    if (late) {
      world.post({ type: "checked", id: "a", ...late, found: { result: "success", message: null } });
    }
    expect(status(world, "a")?.ready).toBe(false);
  });
});

const restarts = fc.record({
  initial: fc.integer({ min: 1, max: 5000 }),
  factor: fc.constantFrom(1, 1.5, 2, 3),
  max: fc.integer({ min: 5000, max: 60_000 }),
  jitter: fc.double({ min: 0, max: 1, noNaN: true }),
  stableAfter: fc.integer({ min: 1, max: 60_000 }),
  crashLoop: fc.integer({ min: 1, max: 8 }),
  retryAfter: fc.oneof(fc.constant(null), fc.integer({ min: 1, max: 600_000 })),
});

test("S24: a wait is never longer than the longest, and grows but for chance", () => {
  fc.assert(
    fc.property(
      restarts,
      fc.integer({ min: 1, max: 10_000 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (plan, failures, random) => {
        const wait = backoff(plan, failures, random);
        expect(wait).toBeGreaterThanOrEqual(0);
        expect(wait).toBeLessThanOrEqual(plan.max);
        expect(backoff(plan, failures + 1, random)).toBeGreaterThanOrEqual(wait);
        expect(backoff(plan, failures, 0)).toBeGreaterThanOrEqual(wait);
      },
    ),
  );
});

const IDS = ["a", "b", "c", "d", "e"];

/** Any set of daemons that require only earlier ones; `hash` changes with anything else. */
const sets = fc
  .array(
    fc.record({
      kind: fc.constantFrom<UnitPlan["kind"]>("daemon", "daemon", "oneshot", "health"),
      requires: fc.subarray(IDS),
      restart: restarts,
      version: fc.integer({ min: 1, max: 3 }),
      onFailure: fc.constantFrom<"report" | "restart">("report", "restart"),
      there: fc.boolean(),
    }),
    { minLength: IDS.length, maxLength: IDS.length },
  )
  .map((rows) => {
    const there = IDS.filter((_, index) => rows[index]?.there);
    return rows.flatMap((row, index) => {
      const id = IDS[index] as string;
      if (!row.there) return [];
      const requires = row.requires.filter((other) => there.includes(other) && other < id);
      const health =
        row.kind === "oneshot" ? null : { ...DEFAULT_HEALTH, gracePeriod: 1000, onFailure: row.onFailure };
      const hash = JSON.stringify([row.kind, requires, row.version]);
      return [plan(id, requires, { kind: row.kind, health, restart: row.restart, hash })];
    });
  });

const id = fc.constantFrom(...IDS);
const happenings = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(fc.constant("started"), id) },
  { weight: 4, arbitrary: fc.tuple(fc.constant("good"), id) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("bad"), id) },
  { weight: 3, arbitrary: fc.tuple(fc.constant("exit"), id, fc.constantFrom(0, 1)) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("startFailed"), id) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("lost"), id) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("late"), id) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("found"), id) },
  { weight: 3, arbitrary: fc.tuple(fc.constant("pass"), fc.integer({ min: 1, max: 120_000 })) },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom("pause", "resume", "restart"), id) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("plan"), sets) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("obey"), fc.constant(1)) },
);

function happen(world: World, [what, subject, code]: readonly unknown[]): unknown {
  const one = subject as string;
  switch (what) {
    case "started":
      return world.started(one);
    case "good":
      return world.checked(one, "success");
    case "bad":
      return world.checked(one, "failure");
    case "exit":
      return world.exited(one, { kind: "exit", code: code as number });
    case "startFailed":
      return world.startFailed(one);
    case "late":
      return world.late(one);
    case "lost":
      return world.lost(one);
    case "found":
      return world.found(one);
    case "pass":
      return world.pass(subject as number);
    case "plan":
      return world.post({ type: "plan", plans: subject as UnitPlan[] });
    case "obey":
      return world.obey(1);
    default:
      return world.post({ type: what as "pause" | "resume" | "restart", id: one });
  }
}

const RUNS = Number(process.env.SDK_TEST_RUNS ?? 300);

test("S24: whatever happens, no two of one, no start before and no stop after what requires it", () => {
  // The world looks at every effect: see there.
  fc.assert(
    fc.property(
      sets,
      fc.array(happenings, { maxLength: 80 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (set, happened, random) => {
        const world = new World(set);
        world.random = random;
        for (const one of happened) happen(world, one);
      },
    ),
    { numRuns: RUNS },
  );
}, 120_000);

test("S24: whatever happened, all are ready once everybody does what he is asked", () => {
  fc.assert(
    fc.property(sets, fc.array(happenings, { maxLength: 60 }), sets, (set, happened, last) => {
      const world = new World(set);
      for (const one of happened) happen(world, one);
      world.post({ type: "plan", plans: last });
      world.obey();
      for (const one of last) world.post({ type: "restart", id: one.id });
      world.obey();
      // A check that was answered a moment ago is due again in the next one.
      world.pass(1000);
      world.obey();
      expect([...world.state.units.keys()].sort()).toEqual(last.map((one) => one.id).sort());
      for (const one of last) expect(isReady(world.state, one.id), one.id).toBe(true);
    }),
    { numRuns: RUNS },
  );
}, 120_000);

test("S24: whatever happened, after the end nothing runs and nothing starts", () => {
  fc.assert(
    fc.property(
      sets,
      fc.array(happenings, { maxLength: 60 }),
      fc.array(happenings, { maxLength: 20 }),
      (set, happened, late) => {
        const world = new World(set);
        for (const one of happened) happen(world, one);
        world.post({ type: "term" });
        for (const one of late) happen(world, one);
        world.obey();
        expect([...world.alive.keys()]).toEqual([]);
        expect([...world.state.units.values()].filter(isActive)).toEqual([]);
        world.pass(1e9);
        expect(world.alive.size).toBe(0);
      },
    ),
    { numRuns: RUNS },
  );
}, 120_000);
