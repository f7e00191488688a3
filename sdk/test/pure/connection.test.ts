/**
 * What the client does when the other side of the socket misbehaves. The other side is a socket that says what each
 * test tells it to; what a real host says is tested in test/host.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { connect } from "../../src/client/host.ts";
import { ConnectionError, HostError } from "../../src/errors.ts";
import { MAX_LINE } from "../../src/generated/protocol.ts";

let dir: string;
let socket: string;
let server: Server | undefined;
const sockets = new Set<Socket>();

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "sdk-"));
  socket = join(dir, "host.sock");
});

afterEach(async () => {
  for (const open of sockets) open.destroy();
  sockets.clear();
  await new Promise<void>((done) => (server ? server.close(() => done()) : done()));
  server = undefined;
  rmSync(dir, { recursive: true });
});

const HELLO = { protocol: 1, server: "test", dataDir: "/" };

/** Listens, answers `hello`, and gives each later message to `script`. */
async function listen(
  script: (message: { id: number; method: string; params: never }, socket: Socket) => void,
  hello: (socket: Socket) => void = (socket) =>
    socket.write(`${JSON.stringify({ jsonrpc: "2.0", id: 1, result: HELLO })}\n`),
): Promise<void> {
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    let held = "";
    socket.on("data", (chunk) => {
      held += chunk;
      for (let end = held.indexOf("\n"); end !== -1; end = held.indexOf("\n")) {
        const message = JSON.parse(held.slice(0, end));
        held = held.slice(end + 1);
        if (message.method === "hello") hello(socket);
        else script(message, socket);
      }
    });
  });
  const listening = server;
  await new Promise<void>((done) => listening.listen(socket, done));
}

const answer = (id: unknown, result: unknown): string =>
  `${JSON.stringify({ jsonrpc: "2.0", id, result })}\n`;

async function failure(promise: Promise<unknown>): Promise<ConnectionError> {
  const error = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(error).toBeInstanceOf(ConnectionError);
  return error as ConnectionError;
}

describe("a host that is not there", () => {
  test("is reported with how to start it", async () => {
    const error = await failure(connect({ dataDir: dir }));
    expect(error.failure).toBe("unreachable");
    expect(error.message).toBe(
      `connect to the host at ${dir}/rpc/host.sock: no such socket. Start the host with: start-container daemon --data-dir ${dir}`,
    );
  });

  test("left its socket behind", async () => {
    await listen(() => {});
    await new Promise<void>((done) => server?.close(() => done()));
    server = undefined;
    expect((await failure(connect({ socket }))).failure).toBe("unreachable");
  });

  test("speaks another version", async () => {
    await listen(
      () => {},
      (peer) =>
        peer.write(
          `${JSON.stringify({
            jsonrpc: "2.0",
            id: 1,
            error: {
              code: -32000,
              message: "no",
              data: { kind: "unsupportedProtocol", step: "hello", subject: "1" },
            },
          })}\n`,
        ),
    );
    await expect(connect({ socket })).rejects.toMatchObject({
      name: "HostError",
      kind: "unsupportedProtocol",
    });
  });

  test("never answers, and the caller gives up", async () => {
    await listen(
      () => {},
      () => {},
    );
    const reason = new Error("enough");
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 10);
    await expect(connect({ socket, signal: controller.signal })).rejects.toBe(reason);
    await expect(connect({ socket, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});

describe("a connection", () => {
  test.each([
    ["no JSON", "nonsense\n"],
    ["no JSON-RPC", "{}\n"],
    ["an answer to nothing", answer(99, {})],
    ["an answer with a name for an id", answer("2", {})],
    ["a request", `${JSON.stringify({ jsonrpc: "2.0", id: 1, method: "x", params: {} })}\n`],
    [
      "a refusal of the message itself",
      `${JSON.stringify({ jsonrpc: "2.0", id: null, error: { code: -32700, message: "parse error" } })}\n`,
    ],
  ])("ends when the host sends %s", async (_name, bytes) => {
    await listen((_message, peer) => peer.write(bytes));
    const host = await connect({ socket });
    const [first, second] = await Promise.all([failure(host.images.list()), failure(host.list())]);
    expect([first.failure, second.failure]).toEqual(["protocol", "protocol"]);
    const late = await failure(host.list());
    expect(late.failure).toBe("protocol");
    expect(late.message).toMatch(/^subcontainer\.list: the host broke the protocol: /);
  });

  test("ends when a line never ends", async () => {
    await listen((_message, peer) => peer.write("x".repeat(MAX_LINE + 1)));
    const host = await connect({ socket });
    expect((await failure(host.list())).message).toContain(`longer than ${MAX_LINE} bytes`);
  });

  test("ends with everything under way when the host does, also in the middle of a message", async () => {
    await listen((message, peer) => {
      if (message.id === 3) peer.end('{"jsonrpc":"2.0","id":2,"resu');
    });
    const host = await connect({ socket, reconnect: 0 });
    const errors = await Promise.all([failure(host.list()), failure(host.images.list())]);
    for (const error of errors) {
      expect(error).toMatchObject({ failure: "lost", outcome: "unknown" });
      expect(error.message).toMatch(/in the middle of a message; whether it was carried out is not known$/);
    }
    expect(host.ended?.failure).toBe("lost");
  });

  test("ends when it is closed, once", async () => {
    await listen(() => {});
    const host = await connect({ socket });
    const pending = failure(host.list());
    host.close();
    host.close();
    expect((await pending).failure).toBe("closed");
  });

  test("takes answers in any order, cut anywhere", async () => {
    const waiting: number[] = [];
    await listen(async (message, peer) => {
      waiting.push(message.id);
      if (waiting.length < 20) return;
      const bytes = Buffer.from(
        waiting
          .reverse()
          .map((id) => answer(id, { images: [`é${id}`] }))
          .join(""),
      );
      for (let at = 0; at < bytes.length; at += 7) {
        peer.write(bytes.subarray(at, at + 7));
        if (at % 5 === 0) await new Promise(setImmediate);
      }
    });
    const host = await connect({ socket });
    const lists = await Promise.all(Array.from({ length: 20 }, () => host.images.list()));
    expect(lists.flat()).toEqual(Array.from({ length: 20 }, (_, index) => `é${index + 2}`));
    host.close();
  });

  test("tells a typed error by its kind, and gives it Node's code", async () => {
    await listen((message, peer) =>
      peer.write(
        `${JSON.stringify({
          jsonrpc: "2.0",
          id: message.id,
          error: {
            code: -32000,
            message: "look up image nope: no such image",
            data: { kind: "notFound", step: "look up image", subject: "nope" },
          },
        })}\n`,
      ),
    );
    const host = await connect({ socket });
    const error = await host.images.inspect("nope").catch((error: unknown) => error);
    expect(error).toBeInstanceOf(HostError);
    expect(error).toMatchObject({
      method: "image.inspect",
      kind: "notFound",
      step: "look up image",
      subject: "nope",
      code: "ENOENT",
      message: "look up image nope: no such image",
    });
    host.close();
  });
});

describe("S20: a request", () => {
  test("that is aborted already is never sent", async () => {
    const seen: string[] = [];
    await listen((message, peer) => {
      seen.push(message.method);
      peer.write(answer(message.id, { images: [] }));
    });
    const host = await connect({ socket });
    const reason = new Error("no");
    await expect(host.images.list({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    await host.images.list();
    expect(seen).toEqual(["image.list"]);
    host.close();
  });

  test("that is aborted is cancelled, and rejected when the host has answered", async () => {
    let cancelled: unknown;
    let id = 0;
    await listen((message, peer) => {
      if (message.method !== "$/cancelRequest") {
        id = message.id;
        return;
      }
      cancelled = message.params;
      setTimeout(
        () =>
          peer.write(
            `${JSON.stringify({ jsonrpc: "2.0", id, error: { code: -32800, message: "cancelled" } })}\n`,
          ),
        10,
      );
    });
    const host = await connect({ socket });
    const controller = new AbortController();
    const reason = new Error("enough");
    const list = host.images.list({ signal: controller.signal });
    controller.abort(reason);
    await expect(list).rejects.toBe(reason);
    expect(cancelled).toEqual({ id });
    host.close();
  });

  test("leaves nothing behind on its signal", async () => {
    await listen((message, peer) => peer.write(answer(message.id, { images: [] })));
    const host = await connect({ socket });
    const controller = new AbortController();
    let listeners = 0;
    const { addEventListener, removeEventListener } = controller.signal;
    controller.signal.addEventListener = function (this: unknown, ...args: never[]) {
      listeners += 1;
      return Reflect.apply(addEventListener, this, args);
    } as never;
    controller.signal.removeEventListener = function (this: unknown, ...args: never[]) {
      listeners -= 1;
      return Reflect.apply(removeEventListener, this, args);
    } as never;
    for (let i = 0; i < 10; i++) await host.images.list({ signal: controller.signal });
    expect(listeners).toBe(0);
    host.close();
  });

  test("reports its progress to its own caller", async () => {
    await listen((message, peer) => {
      const progress = (id: number, done: number): string =>
        `${JSON.stringify({ jsonrpc: "2.0", method: "$/progress", params: { id, stage: "layer", done, total: 2 } })}\n`;
      peer.write(
        progress(message.id, 1) +
          progress(message.id + 50, 7) +
          progress(message.id, 2) +
          answer(message.id, { digest: "d" }),
      );
    });
    const host = await connect({ socket });
    const seen: unknown[] = [];
    await host.images.import("/x", { onProgress: (progress) => seen.push(progress) });
    expect(seen).toEqual([
      { stage: "layer", done: 1, total: 2 },
      { stage: "layer", done: 2, total: 2 },
    ]);
    host.close();
  });
});
