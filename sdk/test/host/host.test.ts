import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { describe, expect, inject } from "vitest";
import * as rpc from "vscode-jsonrpc/node";
import { connect, type Event, HostError } from "../../src/index.ts";
import { commandLines, test, until } from "./fixture.ts";

/** vscode-jsonrpc frames with Content-Length; ours are lines. */
class LineReader extends rpc.AbstractMessageReader {
  readonly #socket: Socket;

  constructor(socket: Socket) {
    super();
    this.#socket = socket;
  }

  listen(callback: rpc.DataCallback): rpc.Disposable {
    const reader = createInterface({ input: this.#socket });
    reader.on("line", (line) => callback(JSON.parse(line)));
    return { dispose: () => reader.close() };
  }
}

/** As {@link LineReader}. */
class LineWriter extends rpc.AbstractMessageWriter implements rpc.MessageWriter {
  readonly #socket: Socket;

  constructor(socket: Socket) {
    super();
    this.#socket = socket;
  }

  async write(message: rpc.Message): Promise<void> {
    this.#socket.write(`${JSON.stringify(message)}\n`);
  }

  end(): void {}
}

const socket = (): string => `${inject("dataDir")}/rpc/host.sock`;

describe("the host", () => {
  test("says who it is", async ({ host }) => {
    expect(host.info).toMatchObject({ protocol: 1, dataDir: inject("dataDir") });
    expect(host.info.server).toMatch(/^start-container /);
    expect(readFileSync(`/proc/${inject("hostPid")}/comm`, "utf8").trim()).toBe("start-container");
  });

  test("keeps images: import with progress, list, inspect, remove", async ({ host, sub }) => {
    const tar = `${inject("dataDir")}/../busybox.tar`;
    const stages = new Set<string>();
    const info = await host.images.import(tar, {
      name: "again",
      onProgress: ({ stage }) => stages.add(stage),
    });
    expect(info.names).toContain("again");
    expect((await host.images.list()).map(({ digest }) => digest)).toContain(info.digest);
    expect((await host.images.inspect("again")).digest).toBe(info.digest);
    expect((await host.images.inspect(info.digest.slice(0, 20))).digest).toBe(info.digest);
    await host.images.remove("again");
    await expect(host.images.inspect("again")).rejects.toMatchObject({ kind: "notFound", code: "ENOENT" });
    expect((await sub.exec(["true"])).exitCode).toBe(0);
    writeFileSync(`${inject("dataDir")}/../broken.tar`, readFileSync(tar).subarray(0, 300_000));
    await expect(
      host.images.import(`${inject("dataDir")}/../broken.tar`, { name: "broken" }),
    ).rejects.toBeInstanceOf(HostError);
    await expect(host.images.inspect("broken")).rejects.toMatchObject({ kind: "notFound" });
  });

  test("S28: tells what happens to a subcontainer", async ({ host, sub }) => {
    const seen: Event[] = [];
    const controller = new AbortController();
    const reason = new Error("enough");
    const listening = (async () => {
      for await (const event of host.events({ guid: sub.guid, signal: controller.signal })) seen.push(event);
    })();
    const other = sub.rc();
    await new Promise((done) => setTimeout(done, 200));
    const leader = await other.launch(["sh", "-c", "exit 4"], { stdio: "ignore" });
    await leader.wait();
    await until("exited", () => seen.some(({ event }) => event === "exited"));
    expect(seen.map(({ event }) => event)).toEqual(["launched", "exited"]);
    expect(seen[1]).toMatchObject({ guid: sub.guid, outcome: { kind: "exit", code: 4 } });
    controller.abort(reason);
    await expect(listening).rejects.toBe(reason);
  });

  test("destroys what a connection owned when it is closed", async ({ host }) => {
    const other = await connect({ dataDir: inject("dataDir") });
    const guids = await Promise.all(
      Array.from({ length: 3 }, async () => {
        const { guid } = await other.request("subcontainer.createFs", {
          imageId: "busybox",
          throwaway: true,
        });
        await other.request("subcontainer.exec", { guid, command: ["true"] });
        return guid;
      }),
    );
    expect((await host.list()).map(({ guid }) => guid)).toEqual(expect.arrayContaining(guids));
    other.close();
    await until("they are gone", async () => !(await host.list()).some(({ guid }) => guids.includes(guid)));
  });

  test("S20: destroys what a program owned that was killed in the middle of its calls", async ({ host }) => {
    const mark = `36${Math.floor(Math.random() * 1e6)}`;
    const program = fileURLToPath(new URL("../runtimes/holder.mjs", import.meta.url));
    const child: ChildProcess = spawn(process.execPath, [program, inject("dataDir"), mark], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const guids = await new Promise<string[]>((done, failed) => {
      child.once("exit", (code) => failed(new Error(`the program ended with ${code}`)));
      createInterface({ input: child.stdout! }).once("line", (line) => done(JSON.parse(line)));
    });
    expect((await host.list()).map(({ guid }) => guid)).toEqual(expect.arrayContaining(guids));
    child.kill("SIGKILL");
    await until(
      "they are gone",
      async () => !(await host.list()).some(({ guid }) => guids.includes(guid)),
      10_000,
    );
    await until(
      "so are their processes",
      () => !commandLines().some((line) => line.includes(`sleep ${mark}`)),
    );
  });
});

describe("messages that no client of ours sends", () => {
  /** Sends lines, and gives back what the host says until each is answered, it closes, or it is silent for long. */
  async function say(
    ...lines: (string | Buffer)[]
  ): Promise<{ answers: Record<string, unknown>[]; closed: boolean }> {
    return new Promise((done, failed) => {
      const peer = createConnection(socket());
      let text = "";
      let closed = false;
      let timer: NodeJS.Timeout;
      const finish = (): void => {
        clearTimeout(timer);
        peer.destroy();
        done({
          answers: text
            .split("\n")
            .filter((line) => line !== "")
            .map((line) => JSON.parse(line)),
          closed,
        });
      };
      const wait = (): void => {
        clearTimeout(timer);
        timer = setTimeout(finish, 2000);
      };
      peer.on("data", (chunk) => {
        text += chunk;
        // What is no line gets no answer of its own.
        const whole = lines.every((line) => typeof line === "string");
        if (whole && text.split("\n").length > lines.length) finish();
        else wait();
      });
      peer.on("close", () => {
        closed = true;
        finish();
      });
      peer.on("error", (error: NodeJS.ErrnoException) => {
        if (error.code !== "EPIPE" && error.code !== "ECONNRESET") failed(error);
      });
      for (const line of lines) peer.write(line);
      wait();
    });
  }

  const hello = `${JSON.stringify({ jsonrpc: "2.0", id: 1, method: "hello", params: { protocol: 1, client: "raw" } })}\n`;
  const request = (id: number, method: string, params: unknown): string =>
    `${JSON.stringify({ jsonrpc: "2.0", id, method, params })}\n`;

  test("get an error that says what is wrong", async ({ host }) => {
    const kinds = async (...lines: string[]): Promise<unknown> => {
      const { answers } = await say(...lines);
      const error = answers.at(-1)?.error as { code: number; data?: { kind: string } } | undefined;
      return error?.data?.kind ?? error?.code;
    };
    expect(await kinds(request(1, "subcontainer.list", {}))).toBe("outOfOrder");
    expect(await kinds(hello, hello)).toBe("outOfOrder");
    expect(await kinds(request(1, "hello", { protocol: 99, client: "raw" }))).toBe("unsupportedProtocol");
    expect(await kinds(hello, "nonsense\n")).toBe(-32700);
    expect(await kinds(hello, "[]\n")).toBe(-32600);
    expect(await kinds(hello, request(2, "no.such.method", {}))).toBe(-32601);
    expect([-32602, "invalid"]).toContain(await kinds(hello, request(2, "subcontainer.exec", { guid: 7 })));
    expect([-32602, "invalid"]).toContain(
      await kinds(hello, request(2, "subcontainer.exec", { guid: "g", command: ["true"], privileged: true })),
    );
    const unknown = "00000000-0000-4000-8000-000000000000";
    expect(await kinds(hello, request(2, "subcontainer.exec", { guid: unknown, command: ["true"] }))).toBe(
      "notFound",
    );
    expect(await kinds(hello, request(2, "subcontainer.exec", { guid: "../..", command: ["true"] }))).toMatch(
      /notFound|invalid|escape/,
    );
    expect(await host.list()).toBeDefined();
  });

  test("an endless line ends the connection and nothing else", async ({ host }) => {
    const { closed } = await say(hello, Buffer.alloc(33 * 1024 * 1024 + 10, "x"));
    expect(closed).toBe(true);
    expect(await host.list()).toBeDefined();
  });

  test("a stream of no process is refused", async () => {
    const { answers } = await say(request(1, "stream.attach", { process: "no-such", stream: "stdout" }));
    expect(answers).toMatchObject([{ id: 1, error: { data: { kind: "notFound" } } }]);
  });

  test("a well-known JSON-RPC client understands the host", async ({ sub }) => {
    const peer = createConnection(socket());
    const connection = rpc.createMessageConnection(new LineReader(peer), new LineWriter(peer));
    connection.listen();
    try {
      await connection.sendRequest("hello", { protocol: 1, client: "vscode-jsonrpc" });
      const result = await connection.sendRequest("subcontainer.exec", {
        guid: sub.guid,
        command: ["echo", "hello"],
      });
      expect(result).toMatchObject({ outcome: { kind: "exit", code: 0 }, stdout: { text: "hello\n" } });
      const source = new rpc.CancellationTokenSource();
      const slow = connection.sendRequest(
        "subcontainer.exec",
        { guid: sub.guid, command: ["sleep", "100"] },
        source.token,
      );
      setTimeout(() => source.cancel(), 200);
      await expect(slow).rejects.toMatchObject({ code: -32800 });
    } finally {
      connection.dispose();
      peer.destroy();
    }
  });
});
