/**
 * What runs in the process of a package's workers before the package's code does, and beside it.
 *
 * ```text
 * ready ──▶ module.load: import, init(core) ──▶ loaded ──▶ module.call … ──▶ module.unload: uninit(core)
 *   standard input has ended ──▶ the process ends          nobody has caught an error ──▶ failed, and the process ends
 * ```
 *
 * The host puts this file into its program and runs it with Deno as it is: types are in comments, since to strip them takes a
 * tenth of a start. It imports nothing.
 * Nothing here protects the host: that expects any bytes from this process. It protects the package from itself, as far as
 * that goes: its standard output is the host's, and what it prints goes to its log.
 */
/**
 * @import { LoadModuleParams, UnloadModuleParams, WorkerFault, WorkerMethods, WorkerNotifications } from "../generated/protocol.ts"
 * @import { Core, UnloadCore } from "./core.ts"
 */

/**
 * The part of Deno's own names that is used here.
 *
 * @typedef {object} Runtime
 * @property {{ deno: string }} version
 * @property {{ read(into: Uint8Array): Promise<number | null> }} stdin
 * @property {{ writeSync(bytes: Uint8Array): number }} stdout
 * @property {(code: number) => never} exit
 */
/**
 * What Deno has of Node, loaded when it is first used.
 *
 * @typedef {object} OfNode
 * @property {unknown} stderr
 * @property {(name: "node:console") => { Console: new (stdout: unknown, stderr: unknown) => Console }} getBuiltinModule
 */
/** @typedef {typeof globalThis.console} Console */
/**
 * An error that nobody has caught: `reason` of a promise, `error` of anything else.
 *
 * @typedef {{ reason: unknown, error: unknown, preventDefault(): void }} Uncaught
 */
/**
 * What a module exports.
 *
 * @typedef {object} WorkerModule
 * @property {(core: Core) => unknown} init
 * @property {(core: UnloadCore) => unknown} [uninit]
 * @property {(name: string, input: unknown, core: Core) => unknown} [call]
 */
/**
 * @typedef {object} Loaded
 * @property {WorkerModule | undefined} module
 * @property {Core} core
 * @property {AbortController} unloading
 * @property {"loading" | "loaded" | "unloading"} state
 */
/** @typedef {{ [M in keyof WorkerMethods]: { id: number, method: M, params: WorkerMethods[M]["params"] } }[keyof WorkerMethods]} Request */

const global =
  /** @type {{ Deno: Runtime, process: OfNode, console: Console, addEventListener(type: string, listener: (event: Uncaught) => void): void }} */ (
    /** @type {unknown} */ (globalThis)
  );
const { Deno } = global;

/** Bytes of a message that the host takes at most. */
const MAX_LINE = 1 << 20;

const { stdin, stdout } = Deno;
const exit = Deno.exit.bind(Deno);
/** @type {Map<string, Loaded>} */
const loaded = new Map();
const encoder = new TextEncoder();

/** @param {object} message */
function send(message) {
  const line = encoder.encode(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
  if (line.length > MAX_LINE) throw new RangeError(`an answer is longer than ${MAX_LINE} bytes`);
  for (let at = 0; at < line.length; ) at += stdout.writeSync(line.subarray(at));
}

/**
 * @template {keyof WorkerNotifications} M
 * @param {M} method
 * @param {WorkerNotifications[M]} params
 */
function notify(method, params) {
  send({ method, params });
}

/**
 * What is known of anything that was thrown. The lines of the stack that are the package's.
 *
 * @param {unknown} error
 * @returns {WorkerFault}
 */
function fault(error) {
  try {
    if (!(error instanceof Error)) return { message: `thrown: ${String(error).slice(0, 4096)}` };
    const message = `${error.name}: ${error.message}`.replaceAll("file:///media/startos/", "").slice(0, 4096);
    const calls = (error.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line));
    const own = calls
      .filter((line) => !/\((ext|node):|at (ext|node):|file:\/\/\/worker\.js/.test(line))
      .map((line) => line.trim().replace("file:///media/startos/", ""));
    const cause = error.cause === undefined ? [] : [`caused by ${fault(error.cause).message}`];
    return { message, stack: [message, ...own.slice(0, 30), ...cause].join("\n") };
  } catch {
    // Whatever it is, it does not want to be looked at.
    return { message: "thrown: something that cannot be shown" };
  }
}

/** @param {LoadModuleParams} params */
async function load({ module: name, script, packageId, generation, restored = false }) {
  const unloading = new AbortController();
  const { signal } = unloading;
  /** @type {Core["tell"]} */
  const tell = (told) => notify("told", { ...told, module: name });
  /** @type {Core} */
  const core = Object.freeze({ packageId, module: name, generation, restored, signal, tell });
  /** @type {Loaded} */
  const entry = { module: undefined, core, unloading, state: "loading" };
  loaded.set(name, entry);
  const path = script.split("/").map(encodeURIComponent).join("/");
  const url = generation === 0 ? path : `${path}?generation=${generation}`;
  const module = /** @type {Partial<WorkerModule>} */ (await import(`file://${url}`));
  if (typeof module.init !== "function") throw new Error(`${script} exports no function init`);
  entry.module = /** @type {WorkerModule} */ (module);
  await module.init(core);
  entry.state = "loaded";
  return {};
}

/** @param {string} name */
function find(name) {
  const entry = loaded.get(name);
  if (entry === undefined) throw new Error(`no module ${name} is loaded`);
  return entry;
}

/** @param {UnloadModuleParams} params */
async function unload({ module: name, target }) {
  const entry = find(name);
  entry.state = "unloading";
  try {
    entry.unloading.abort(new Error("the module is being unloaded"));
    await entry.module?.uninit?.(Object.freeze({ ...entry.core, target }));
  } finally {
    loaded.delete(name);
  }
  return {};
}

/** @param {Request} request */
async function carryOut(request) {
  switch (request.method) {
    case "module.load":
      return await load(request.params);
    case "module.unload":
      return await unload(request.params);
    case "module.status":
      return { modules: [...loaded].map(([module, { state }]) => ({ module, state })) };
    case "module.call": {
      const { module: name, function: called, input } = request.params;
      const { module, core } = find(name);
      if (module?.call === undefined) throw new Error(`${name} exports no function call`);
      return { output: (await module.call(called, input, core)) ?? null };
    }
  }
}

/** @param {Request} request */
async function answer(request) {
  const { id } = request;
  try {
    send({ id, result: await carryOut(request) });
  } catch (error) {
    const data = fault(error);
    send({ id, error: { code: -32000, message: data.message, data } });
  }
}

/**
 * Says why, and ends: what is left of the package's code is in a state that nobody knows.
 *
 * @param {unknown} error
 */
function fail(error) {
  try {
    const what = fault(error);
    console.error(what.stack ?? what.message);
    notify("failed", what);
  } finally {
    exit(70);
  }
}

/** @type {Console | undefined} */
let toLog;
/** Writes to standard error. Made when it is first used: what it comes with takes as long to load as all of Deno. */
global.console = new Proxy(console, {
  get(_, name) {
    const { process } = global;
    toLog ??= new (process.getBuiltinModule("node:console").Console)(process.stderr, process.stderr);
    return Reflect.get(toLog, name);
  },
});
for (const name of ["stdin", "stdout"]) Reflect.deleteProperty(Deno, name);
global.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  fail(event.reason);
});
global.addEventListener("error", (event) => {
  event.preventDefault();
  fail(event.error);
});

notify("ready", { runtime: `deno ${Deno.version.deno}` });
const decoder = new TextDecoder();
let rest = "";
// Not by `stdin.readable`: streams of the web take 5 ms to be there, a third of what all of Deno does.
const buffer = new Uint8Array(1 << 16);
for (;;) {
  const count = await stdin.read(buffer);
  if (count === null) break;
  const lines = (rest + decoder.decode(buffer.subarray(0, count), { stream: true })).split("\n");
  rest = lines.pop() ?? "";
  for (const line of lines) void answer(JSON.parse(line));
}
exit(0);
