/**
 * What the types promise. Checked by tsc with everything else; nothing here runs.
 */
import type { Buffer } from "node:buffer";
import { expectTypeOf, test } from "vitest";
import type {
  Event,
  ExecResult,
  Host,
  HostConnection,
  Methods,
  Outcome,
  Process,
  Run,
  SubContainer,
  SubContainerRc,
} from "../../src/index.ts";
import { ExitError, Mounts, SubContainerOwned } from "../../src/index.ts";

declare const host: Host;
declare const sub: SubContainer;

test("output is text, or bytes where they were asked for", () => {
  expectTypeOf(sub.exec(["x"])).resolves.toEqualTypeOf<ExecResult<string>>();
  expectTypeOf(sub.exec(["x"], { encoding: "utf8" })).resolves.toEqualTypeOf<ExecResult<string>>();
  expectTypeOf(sub.exec(["x"], { encoding: "buffer" })).resolves.toEqualTypeOf<ExecResult<Uint8Array>>();
  expectTypeOf(sub.execFail(["x"])).resolves.toEqualTypeOf<{ stdout: string; stderr: string }>();
  expectTypeOf(sub.run(["x"])).toEqualTypeOf<Run<string>>();
  expectTypeOf(sub.run(["x"], { encoding: "buffer" })).resolves.toEqualTypeOf<ExecResult<Uint8Array>>();
  expectTypeOf(sub.readFile("/x")).resolves.toEqualTypeOf<Buffer>();
  expectTypeOf(sub.readFile("/x", "utf8")).resolves.toEqualTypeOf<string>();
});

test("S16: calls have start-sdk's order of parameters", () => {
  const abort = new AbortController();
  sub.exec(["x"], { env: { A: "1", B: undefined }, cwd: "/", user: "u", input: "i" }, null, abort);
  sub.execFail(["x"], undefined, 1000, abort);
  expectTypeOf(
    SubContainerOwned.of(host, { imageId: "i", sharedRun: true }, Mounts.of(), "name"),
  ).resolves.toEqualTypeOf<SubContainerOwned>();
  expectTypeOf(
    SubContainerOwned.withTemp(host, { imageId: "i" }, null, "n", async (temp) => temp.guid),
  ).resolves.toEqualTypeOf<string>();
  expectTypeOf(sub.destroy()).resolves.toEqualTypeOf<null>();
  expectTypeOf(sub.rc()).toEqualTypeOf<SubContainerRc>();
  expectTypeOf(sub.launch(["x"])).resolves.toEqualTypeOf<Process>();
  new ExitError("x", { exitCode: 1, exitSignal: null, stdout: "", stderr: "" });
  if (sub.isOwned()) expectTypeOf(sub).toExtend<SubContainerOwned>();
});

test("wrong options are errors", () => {
  // @ts-expect-error no such encoding
  sub.exec(["x"], { encoding: "hex" });
  // @ts-expect-error a command is a list
  sub.exec("x");
  // @ts-expect-error readonly has to be said
  Mounts.of().mountVolume({ volumeId: "v", mountpoint: "/x" });
  // @ts-expect-error no such method
  host.request("subcontainer.fly", {});
  // @ts-expect-error a guid is text
  host.request("subcontainer.destroyFs", { guid: 7 });
});

test("J5: results of requests are what the protocol says", () => {
  expectTypeOf(host).toExtend<HostConnection>();
  expectTypeOf(host.request("subcontainer.stats", { guid: "g" })).resolves.toEqualTypeOf<
    Methods["subcontainer.stats"]["result"]
  >();
  expectTypeOf<Outcome["kind"]>().toEqualTypeOf<
    "exit" | "signal" | "timeout" | "abort" | "outOfMemory" | "unknown"
  >();
  const name = (event: Event): string => (event.event === "created" ? event.imageId : event.guid);
  expectTypeOf(name).returns.toEqualTypeOf<string>();
});
