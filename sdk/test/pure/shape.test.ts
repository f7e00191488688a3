/**
 * What packages for StartOS are made of, beyond forms and actions: versions and migrations, tasks, interfaces, dependencies,
 * files. Against a store of keys and files in memory: what the host does with them, its own tests show.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { HostError } from "../../src/errors.ts";
import type { DependencyInfo, ModuleTold } from "../../src/generated/protocol.ts";
import { judge } from "../../src/package/dependencies.ts";
import {
  Action,
  type ActionMetadata,
  Actions,
  buildManifest,
  ExtendedVersion,
  FileHelper,
  hostManifest,
  IMPOSSIBLE,
  InputSpec,
  NotOnThisHostError,
  PackageEffects,
  StartSdk,
  type SubContainer,
  setupManifest,
  UseEntrypoint,
  utils,
  Value,
  VersionGraph,
  VersionInfo,
  VersionRange,
} from "../../src/package/index.ts";
import { MainRun } from "../../src/package/run.ts";
import { ModuleState } from "../../src/package/state.ts";
import { recallTasks } from "../../src/package/tasks.ts";

/** A package's effects, whose host is two maps. */
function world(options: { granted?: object; actions?: Actions<string> } = {}): {
  effects: PackageEffects;
  state: ModuleState;
  keys: Map<string, unknown>;
  files: Map<string, string>;
  told: Omit<ModuleTold, "module">[];
} {
  const [keys, files] = [new Map<string, unknown>(), new Map<string, string>()];
  const told: Omit<ModuleTold, "module">[] = [];
  const host = {
    packageId: "notes",
    granted: options.granted ?? { "kv:read": { groups: ["sdk"] }, "kv:write": { groups: ["sdk"] } },
    ended: undefined,
    kv: () => ({
      get: async (key: string) => ({ value: keys.get(key), revision: 1 }),
      set: async (key: string, value: unknown) => void keys.set(key, structuredClone(value)),
    }),
    files: {
      read: async (path: string) => {
        const text = files.get(path);
        if (text === undefined) throw new HostError("files.read", "none", -32000, { kind: "notFound" });
        return Buffer.from(text);
      },
      write: async (path: string, text: string) => void files.set(path, text),
    },
  };
  const core = {
    tell: (one: Omit<ModuleTold, "module">) => told.push(one),
    signal: new AbortController().signal,
  };
  const state = new ModuleState(host as never, core as never, options.actions);
  return { effects: new PackageEffects(state), state, keys, files, told };
}

const metadata: ActionMetadata = {
  name: "Set",
  description: "",
  warning: null,
  allowedStatuses: "any",
  group: null,
  visibility: "enabled",
};

describe("J5: versions", () => {
  test("are in order", () => {
    const order = [
      "0.9",
      "1.0.0-alpha",
      "1.0.0-alpha.2",
      "1.0.0-alpha.10",
      "1.0.0-b",
      "1.0.0",
      "1.0.0:1",
      "1.0.0:10",
      "1.0.1",
      "1.10",
    ];
    const sorted = [...order]
      .reverse()
      .map(ExtendedVersion.parse)
      .sort((a, b) => a.compareForSort(b));
    expect(sorted.map(String)).toEqual(order.map((text) => ExtendedVersion.parse(text).toString()));
    expect(ExtendedVersion.parse("1.2.3+4").equals(ExtendedVersion.parse("1.2.3:4"))).toBe(true);
    expect(ExtendedVersion.parse("1.2.3:4").toManifest()).toBe("1.2.3+4");
    expect(ExtendedVersion.parse("1.2.3:0").toManifest()).toBe("1.2.3");
    expect(() => ExtendedVersion.parse("1.2:0").toManifest()).toThrow("three numbers");
  });

  test.each(["", "v1", "1.", "1..2", "1:", "#flavor:1:0", "1 2", "1.2.3:4:5"])("%j is none", (text) => {
    expect(() => ExtendedVersion.parse(text)).toThrow("no version");
  });

  test.each([
    ["*", ["0.0.1", "9"], []],
    ["1.2", ["1.2.0", "1.9:3"], ["1.1", "2.0"]],
    ["^0.2.3", ["0.2.3", "0.2.9"], ["0.3.0", "0.2.2"]],
    ["~1.2.3", ["1.2.3", "1.2.9"], ["1.3.0"]],
    [">=1.2:1 <2", ["1.2:1", "1.9"], ["1.2:0", "2.0"]],
    [">=1, <2 || =3", ["1.5", "3:0"], ["2.5", "3.1", "3:1"]],
    ["!(^1 && !=1.5)", ["1.5", "2"], ["1.4"]],
    ["> 0.21.1-beta:4", ["0.21.1"], ["0.21.1-beta:4", "0.21.1-alpha:9"]],
  ])("%j takes some and not others", (text, good, bad) => {
    const range = VersionRange.parse(text);
    for (const one of good) expect(range.satisfiedBy(ExtendedVersion.parse(one)), one).toBe(true);
    for (const one of bad) expect(range.satisfiedBy(ExtendedVersion.parse(one)), one).toBe(false);
  });

  test.each(["", ">=", "1 ||", "(1", "1)", "=>1", "a"])("%j is no range", (text) => {
    expect(() => VersionRange.parse(text)).toThrow(RangeError);
  });
});

describe("J5: migrations", () => {
  const ran: string[] = [];
  const step = (name: string) => async (): Promise<void> => void ran.push(name);
  const version = (version: string, migrations: object = {}): VersionInfo<string> =>
    VersionInfo.of({
      version,
      releaseNotes: "",
      migrations: { up: step(`up ${version}`), down: step(`down ${version}`), ...migrations },
    });
  const graph = (current: VersionInfo<string>, ...other: VersionInfo<string>[]): VersionGraph<string> =>
    VersionGraph.of({ current, other });

  test.each([
    ["nothing there", null, []],
    ["the same", "2.0:0", []],
    ["from the first", "1.0:0", ["up 1.1", "up 2.0"]],
    ["from between", "1.0.5:0", ["up 1.1", "up 2.0"]],
    ["from before all", "0.1:0", ["up 1.0", "up 1.1", "up 2.0"]],
    ["from what another way leads from", "0.5:3", ["0.5 to 2.0"]],
  ])("%s goes up", async (_, from, expected) => {
    const { effects, keys } = world();
    if (from !== null) keys.set("dataVersion", from);
    ran.length = 0;
    const other = { "=0.5:3": { up: step("0.5 to 2.0") } };
    await graph(version("2.0", { other }), version("1.1"), version("1.0")).init(effects);
    expect([ran, keys.get("dataVersion")]).toEqual([expected, "2.0:0"]);
  });

  test("it goes down only when an older one comes, and to just there", async () => {
    const all = graph(version("2.0"), version("1.1"), version("1.0"));
    for (const [target, expected, left] of [
      [null, [], "2.0:0"],
      ["3.0.0", [], "2.0:0"],
      ["1.1.0", ["down 2.0"], "1.1:0"],
      ["1.0.7+2", ["down 2.0", "down 1.1"], "1.0.7:2"],
      ["0.1.0", ["down 2.0", "down 1.1", "down 1.0"], "0.1.0:0"],
    ] as const) {
      const { effects, keys } = world();
      keys.set("dataVersion", "2.0:0");
      ran.length = 0;
      await all.uninit(effects, target);
      expect([target, ran, keys.get("dataVersion")]).toEqual([target, expected, left]);
    }
  });

  test("what is impossible is said, and the data stays what it is", async () => {
    const { effects, keys } = world();
    keys.set("dataVersion", "3.0:0");
    await expect(graph(version("2.0")).init(effects)).rejects.toThrow(
      "the data is of 3.0:0, and cannot be migrated to 2.0:0",
    );
    keys.set("dataVersion", "1.0:0");
    await expect(graph(version("2.0", { up: IMPOSSIBLE })).init(effects)).rejects.toThrow(
      "cannot be migrated",
    );
    keys.set("dataVersion", "2.0:0");
    await expect(graph(version("2.0", { down: IMPOSSIBLE })).uninit(effects, "1.0.0")).rejects.toThrow(
      "cannot be",
    );
    expect(keys.get("dataVersion")).toBe("2.0:0");
    expect(() => graph(version("1.0"), version("1.0:0"))).toThrow("two versions");
  });

  test("one that throws is tried again from where it was", async () => {
    const { effects, keys } = world();
    keys.set("dataVersion", "1.0:0");
    let broken = true;
    const up = async (): Promise<void> => {
      if (broken) throw new Error("no room");
      ran.push("at last");
    };
    ran.length = 0;
    const all = graph(version("2.0", { up }), version("1.1"), version("1.0"));
    await expect(all.init(effects)).rejects.toThrow("no room");
    expect([ran, keys.get("dataVersion")]).toEqual([["up 1.1"], "1.1:0"]);
    broken = false;
    await all.init(effects);
    expect([ran, keys.get("dataVersion")]).toEqual([["up 1.1", "at last"], "2.0:0"]);
  });

  test("without keys to remember it in, it is refused", async () => {
    const { effects } = world({ granted: {} });
    await expect(graph(version("2.0")).init(effects)).rejects.toThrow("kv:write for the group sdk");
  });
});

describe("J2: tasks", () => {
  const form = InputSpec.of({ mode: Value.text({ name: "Mode", required: true, default: null }) });
  const set = Action.withInput(
    "set",
    metadata,
    form,
    async () => {},
    async () => {},
  );
  const other = Action.withoutInput("other", metadata, async () => null);
  const actions = Actions.of().addAction(set).addAction(other);
  const sdk = StartSdk.of()
    .withManifest(setupManifest({ manifest: 1, id: "notes", name: "Notes", version: "1.0.0" }))
    .build(true);

  test("one is told and kept until its action has run", async () => {
    const { effects, keys, told } = world({ actions });
    await sdk.action.createOwnTask(effects, set, "critical", { reason: "nobody did" });
    await sdk.action.createOwnTask(effects, set, "critical", { reason: "nobody did yet" });
    await sdk.action.createOwnTask(effects, other, "optional", { replayId: "mine" });
    await expect
      .poll(() => told.at(-1)?.tasks)
      .toEqual([
        { action: "set", severity: "critical", reason: "nobody did yet" },
        { action: "other", severity: "optional" },
      ]);
    expect(told.length).toBe(1);
    const again = world({ actions });
    for (const [key, value] of keys) again.keys.set(key, value);
    await recallTasks(again.state);
    expect(again.state.tasks).toEqual(effects.state.tasks);
    await expect(effects.runAction({ actionId: "set", input: {} })).rejects.toThrow("mode: it is missing");
    expect(effects.state.tasks.size).toBe(2);
    await effects.runAction({ actionId: "set", input: { mode: "x" } });
    await sdk.action.clearTask(effects, "mine");
    expect([effects.state.tasks.size, keys.get("tasks")]).toEqual([0, {}]);
  });

  test("one that asks for an input is done by that one, which fills the form", async () => {
    const { effects } = world({ actions });
    await sdk.action.createOwnTask(effects, set, "important", {
      when: { condition: "input-not-matches", once: false },
      input: { kind: "partial", accept: [{ mode: "a" }], set: { mode: "a" } },
    });
    expect((await actions.describe(effects))[0]?.prefill).toEqual({ mode: "a" });
    await effects.runAction({ actionId: "set", input: { mode: "b" } });
    expect(effects.state.tasks.size).toBe(1);
    await effects.runAction({ actionId: "set", input: { mode: "a" } });
    expect(effects.state.tasks.size).toBe(0);
  });

  test("of another package, or of no action, there is none", async () => {
    const { effects } = world({ actions });
    await expect(sdk.action.createTask(effects, "db", set, "critical")).rejects.toThrow(NotOnThisHostError);
    await expect(sdk.action.createOwnTask(effects, { id: "none" }, "critical")).rejects.toThrow(
      "no action none",
    );
  });
});

describe("J5: interfaces", () => {
  const sdk = StartSdk.of()
    .withManifest(setupManifest({ manifest: 1, id: "notes", name: "Notes", version: "1.0.0" }))
    .build(true);
  const options = {
    name: "Page",
    id: "ui",
    description: "",
    type: "ui",
    masked: false,
    schemeOverride: null,
    username: null,
    path: "",
    query: {},
  } as const;

  test.each([
    [{}, "http://127.0.0.1:80"],
    [{ path: "admin", query: { a: "b c" } }, "http://127.0.0.1:80/admin?a=b+c"],
    [{ path: "/x", username: "me@home" }, "http://me%40home@127.0.0.1:80/x"],
    [{ schemeOverride: { ssl: null, noSsl: "lndconnect" } }, "lndconnect://127.0.0.1:80"],
  ])("%j has an address", async (change, address) => {
    const { effects, state } = world();
    const step = sdk.setupInterfaces(async () => {
      const origin = await sdk.MultiHost.of(effects, "main").bindPort(80, { protocol: "http" });
      return [await origin.export([sdk.createInterface(effects, { ...options, ...change })])];
    });
    await step(effects);
    expect(state.interfaces).toMatchObject([{ id: "ui", hostId: "main", port: 80, address }]);
  });

  test("two of one name, and a port that is none, are refused", async () => {
    const { effects } = world();
    const host = sdk.MultiHost.of(effects, "main");
    const page = sdk.createInterface(effects, options);
    const step = sdk.setupInterfaces(async () => [
      await (await host.bindPort(1, { protocol: null })).export([page, page]),
    ]);
    await expect(step(effects)).rejects.toThrow("two interfaces ui");
    await expect(host.bindPort(0, { protocol: null })).rejects.toThrow("no port: 0");
    expect(() => host.bindPortRange()).toThrow(NotOnThisHostError);
    expect(() => effects.getSystemSmtp()).toThrow("getSystemSmtp: this host sends no mail");
  });
});

test("J5: a dependency is judged by what is needed of it", () => {
  const well: DependencyInfo = {
    packageId: "db",
    name: "Database",
    version: "1.2.0+1",
    running: true,
    tasks: [],
    health: [{ id: "sql", name: "SQL", result: "success" }],
  };
  const needed = { db: { kind: "running", versionRange: ">=1.2:1 <2", healthChecks: ["sql"] } } as const;
  const judged = (change: Partial<DependencyInfo>) =>
    judge<"db">(needed, new Map([["db", { ...well, ...change }]]));
  expect(judged({}).satisfied()).toBe(true);
  for (const [change, why] of [
    [{ version: "1.2.0" }, "Database is needed in >=1.2:1 <2, not in 1.2.0"],
    [{ running: false }, "Database does not run"],
    [{ tasks: [{ action: "set", severity: "critical" }] }, "Database waits for its action set"],
    [{ health: [] }, "Database: sql says nothing"],
    [{ health: [{ id: "sql", name: "SQL", result: "failure", message: "gone" }] }, "Database: SQL gone"],
  ] as [Partial<DependencyInfo>, string][]) {
    expect(judged(change).satisfied(), why).toBe(false);
    expect(() => judged(change).throwIfNotSatisfied(), why).toThrow(why);
  }
  const gone: DependencyInfo = { packageId: "db", running: false, tasks: [], health: [] };
  const none = judge<"db">(needed, new Map([["db", gone]]));
  expect(() => none.throwIfInstalledVersionNotSatisfied("db")).toThrow("db is not installed");
});

describe("J5: files", () => {
  const shape = { parse: (value: unknown) => ({ title: "", n: 1, ...(value as object) }) };
  const file = FileHelper.json("/media/startos/volumes/main/a.json", shape);

  test("who has read one with const is called when its part changes, and not by itself", async () => {
    const { effects } = world();
    const called: string[] = [];
    const main = effects.child(() => void called.push("main"));
    const step = effects.child(() => void called.push("step"));
    expect(await file.read().const(main)).toBeNull();
    expect(await file.read(({ title }) => title).const(step)).toBeNull();
    await file.merge(effects, { title: "a" });
    expect(called.splice(0)).toEqual(["main", "step"]);
    await file.merge(effects, { n: 2 });
    expect(called.splice(0)).toEqual(["main"]);
    await file.merge(effects, { n: 2 });
    expect(called.splice(0)).toEqual([]);
    await expect(file.merge(step, { n: 3 })).rejects.toThrow("called again when it changes");
    await file.merge(step, { title: "b" }, { allowWriteAfterConst: true });
    expect(called.splice(0)).toEqual(["main"]);
    await main.leave();
    await file.merge(effects, { title: "c" });
    expect(called.splice(0)).toEqual(["step"]);
    await step.leave();
  });

  test("any form, by what reads it", async () => {
    const { effects, files } = world();
    const lines = {
      parse: (text: string) => Object.fromEntries(text.split("\n").map((line) => line.split(": "))),
      stringify: (value: Record<string, string>) =>
        Object.entries(value)
          .map((pair) => pair.join(": "))
          .join("\n"),
    };
    const yaml = FileHelper.yaml("/x.yaml", { parse: (value) => value as Record<string, string> }, lines);
    await yaml.merge(effects, { a: "1" });
    await yaml.withPath("/x.yaml").merge(effects, { b: "2" });
    expect(files.get("/x.yaml")).toBe("a: 1\nb: 2");
  });

  test("main runs again, once for many changes, and not after its end", async () => {
    const { effects, state } = world();
    const seen: string[] = [];
    let round = 0;
    const run = new MainRun(async ({ effects: own }) => {
      round += 1;
      const mine = round;
      await file.read().const(own);
      seen.push(`main ${mine}`);
      const daemons = { term: async () => void seen.push(`end ${mine}`), status: () => ({ mine }) };
      return { build: async () => daemons };
    }, effects);
    state.restart = () => run.restart();
    await run.start();
    await Promise.all([effects.restart(), effects.restart(), effects.restart()]);
    await expect.poll(() => seen).toEqual(["main 1", "end 1", "main 2"]);
    await file.merge(effects, { n: 7 });
    await expect.poll(() => seen.slice(3)).toEqual(["end 2", "main 3"]);
    await run.stop();
    await file.merge(effects, { n: 9 });
    await effects.restart();
    await sleep(20);
    expect(seen.slice(5)).toEqual(["end 3"]);
  });
});

describe("P1: the host's manifest of a package for StartOS", () => {
  const manifest = setupManifest({
    id: "notes",
    title: "Notes",
    license: "MIT",
    packageRepo: "",
    upstreamRepo: "",
    marketingUrl: "",
    donationUrl: null,
    description: { short: { en_US: "Keeps notes" }, long: "" },
    volumes: ["main"],
    images: { web: { source: { dockerTag: "web:1" }, arch: ["x86_64"] } },
    dependencies: {
      db: { description: null, optional: false },
      mail: { description: null, optional: true },
    },
  });
  const sdk = StartSdk.of().withManifest(manifest).build(true);
  const current = VersionInfo.of({ version: "1.2.3:4", releaseNotes: "", migrations: {} });
  const built = buildManifest(VersionGraph.of({ current, other: [] }), manifest);

  test("asks for what such a package uses", () => {
    const made = hostManifest(built, {
      images: { web: { file: "images/web.tar" } },
      dependencies: { db: { version: "^1", volumes: ["files"] } },
    });
    expect(made).toMatchObject({
      manifest: 1,
      id: "notes",
      name: "Notes",
      version: "1.2.3+4",
      volumes: { main: {} },
    });
    expect(Object.keys(made.capabilities ?? {})).toEqual([
      "subcontainers",
      "kv:read",
      "kv:write",
      "files:read",
      "files:write",
      "dependencies:read",
    ]);
    expect(sdk.volumes.main.subpath("./a/b")).toBe("/media/startos/volumes/main/a/b");
    expect(() => hostManifest(built, { images: { web: { file: "x" } } })).toThrow("dependencies.db.version");
  });
});

test("J5: the command of an image is its entrypoint with its arguments, or with others", async () => {
  const of = (info: object): SubContainer =>
    ({ imageId: "web", inspect: async () => info }) as unknown as SubContainer;
  const both = of({ entrypoint: ["/entry", "-x"], cmd: ["serve"] });
  expect(await new UseEntrypoint().of(both)).toEqual(["/entry", "-x", "serve"]);
  expect(await new UseEntrypoint(["check"]).of(both)).toEqual(["/entry", "-x", "check"]);
  expect(await new UseEntrypoint().of(of({ cmd: ["serve"] }))).toEqual(["serve"]);
  await expect(new UseEntrypoint().of(of({}))).rejects.toThrow("the image web has no command");
});

test("utils: random texts are of their letters", () => {
  const text = utils.getDefaultString({ charset: "a-c,X,-,9-9", len: 200 });
  expect(text).toMatch(/^[abcX9-]{200}$/);
  expect(new Set(text).size).toBe(6);
  expect(utils.getDefaultString("as it is")).toBe("as it is");
});
