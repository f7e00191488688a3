/**
 * What the types of daemons promise, and refuse. Checked by tsc with everything else; nothing here runs.
 */
import { expectTypeOf, test } from "vitest";
import type { DaemonStatus, Host, SubContainer, SubContainerLazy } from "../../src/index.ts";
import { cooldownTrigger, Daemons, statusTrigger } from "../../src/index.ts";

declare const host: Host;
declare const sub: SubContainer;
declare const lazy: SubContainerLazy;

const exec = { command: ["x"] };
const ready = { display: null, port: 80 };
const daemon = { subcontainer: sub, exec, ready, requires: [] } as const;

test("S24: what is required was added before", () => {
  const one = Daemons.of(host).addDaemon("a", daemon);
  expectTypeOf(one).toEqualTypeOf<Daemons<"a">>();
  expectTypeOf(one.addOneshot("b", { subcontainer: lazy, exec, requires: ["a"] })).toEqualTypeOf<
    Daemons<"a" | "b">
  >();
  expectTypeOf(one.addHealthCheck("c", { ready, requires: ["a"] })).toEqualTypeOf<Daemons<"a" | "c">>();
  // @ts-expect-error there is no b
  one.addDaemon("c", { ...daemon, requires: ["b"] });
  // @ts-expect-error none requires itself
  one.addDaemon("c", { ...daemon, requires: ["c"] });
  // @ts-expect-error there is no b
  one.addOneshot("c", { subcontainer: lazy, exec, requires: ["a", "b"] });
  // @ts-expect-error there is no b
  one.addHealthCheck("c", { ready, requires: ["b"] });
  // @ts-expect-error there is no b
  one.addDaemon("c", () => ({ ...daemon, requires: ["b"] }));
});

test("S24: an id is used once", () => {
  const one = Daemons.of({ effects: host }).addDaemon("a", daemon);
  // @ts-expect-error there is an a
  one.addDaemon("a", daemon);
  // @ts-expect-error there is an a
  one.addOneshot("a", { subcontainer: sub, exec, requires: [] });
});

test("a factory may be late, and may give nothing", () => {
  const set = Daemons.of(host);
  expectTypeOf(set.addDaemon("a", () => null)).toEqualTypeOf<Daemons<"a">>();
  expectTypeOf(set.addDaemon("a", async () => daemon)).toEqualTypeOf<Promise<Daemons<"a">>>();
});

test("without a subcontainer there is no command", () => {
  const set = Daemons.of(host);
  set.addDaemon("a", { subcontainer: null, exec: { fn: async () => null }, ready, requires: [] });
  // @ts-expect-error a command needs a place
  set.addDaemon("a", { subcontainer: null, exec, ready, requires: [] });
  // @ts-expect-error so does one that a function gives
  set.addDaemon("a", { subcontainer: null, exec: { fn: async () => exec }, ready, requires: [] });
});

test("what runs is known by its ids", () => {
  const set = Daemons.of(host).addDaemon("a", daemon).addDaemon("b", daemon);
  expectTypeOf(set.status()).toEqualTypeOf<{ a: DaemonStatus; b: DaemonStatus }>();
  expectTypeOf(set.build()).resolves.toEqualTypeOf<Daemons<"a" | "b">>();
  // @ts-expect-error there is no c
  set.restart("c");
});

test("triggers are those of start-sdk, or a number", () => {
  const set = Daemons.of(host);
  const fn = () => ({ result: "success", message: null }) as const;
  for (const trigger of [cooldownTrigger(5000), statusTrigger(5000, { success: 60_000 }), 1000]) {
    set.addDaemon("a", { ...daemon, ready: { display: "A", fn, trigger, gracePeriod: 1 } });
  }
  // @ts-expect-error no such result
  set.addDaemon("a", { ...daemon, ready: { display: "A", fn: () => ({ result: "good", message: null }) } });
});
