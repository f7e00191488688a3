import { createHash, randomBytes } from "node:crypto";
import { describe, expect } from "vitest";
import { commandLines, test, until } from "./fixture.ts";

const SIZE = Number(process.env.SDK_TEST_BYTES ?? 256 * 1024 * 1024);

describe("S18: a running command", () => {
  test("is awaitable and iterable, and the result holds what was iterated", async ({ sub }) => {
    const running = sub.run([
      "sh",
      "-c",
      "for i in 1 2 3; do echo $i; sleep 0.1; done; echo err >&2; exit 4",
    ]);
    const seen: string[] = [];
    const times: number[] = [];
    for await (const line of running) {
      seen.push(line);
      times.push(performance.now());
    }
    expect(seen).toEqual(["1", "2", "3"]);
    expect((times[2] as number) - (times[0] as number)).toBeGreaterThan(150);
    expect(await running).toMatchObject({ exitCode: 4, stdout: "1\n2\n3\n", stderr: "err\n" });
    expect(await running).toMatchObject({ exitCode: 4 });
  });

  test("may be left in the middle of its output", async ({ sub }) => {
    const running = sub.run(["seq", "1", "200000"]);
    for await (const line of running) {
      if (line === "10") break;
    }
    const { exitCode, stdout } = await running;
    expect([exitCode, stdout.split("\n").length]).toEqual([0, 200_001]);
  });

  test("keeps stdout and stderr apart, as lines and as bytes", async ({ sub }) => {
    const running = sub.run(["sh", "-c", "echo out; echo err >&2; printf '\\377\\000'"], {
      encoding: "buffer",
    });
    const errors: string[] = [];
    for await (const line of running.lines("stderr")) errors.push(line);
    expect(errors).toEqual(["err"]);
    expect([...(await running).stdout]).toEqual([...Buffer.from("out\n"), 255, 0]);
  });

  test("resolves when the output has ended, not at the exit", async ({ sub }) => {
    const { stdout, exitCode } = await sub.run(["sh", "-c", "(sleep 0.4; echo late) & echo early"]);
    expect([stdout, exitCode]).toEqual(["early\nlate\n", 0]);
  });

  test("that cannot be started is rejected where it is awaited", async ({ sub }) => {
    await expect(sub.run(["no-such-command"])).rejects.toMatchObject({ kind: "commandNotFound" });
    const running = sub.run(["no-such-command"]);
    await expect(running.lines().next()).rejects.toMatchObject({ kind: "commandNotFound" });
  });

  test("stops when nobody reads it, and goes on when somebody does", async ({ sub }) => {
    const process = await sub.spawn(["sh", "-c", "yes | head -c 64000000; echo >/done"], {});
    const stdout = process.stdout;
    expect(stdout).not.toBeNull();
    await new Promise((done) => setTimeout(done, 500));
    expect(await sub.files.exists("/done")).toBe(false);
    let bytes = 0;
    for await (const chunk of stdout!) bytes += (chunk as Buffer).length;
    expect(bytes).toBe(64_000_000);
    expect((await process.wait()).exitCode).toBe(0);
  });
});

describe("S18, S19: a lot of data", () => {
  test(`${SIZE / 1024 / 1024} MiB of stdout arrive as they were`, { timeout: 300_000 }, async ({ sub }) => {
    const block = randomBytes(1024 * 1024);
    await sub.writeFile("/block", block);
    const expected = createHash("sha256");
    const blocks = SIZE / block.length;
    for (let i = 0; i < blocks; i++) expected.update(block);
    const start = performance.now();
    const process = await sub.spawn(
      ["sh", "-c", `i=0; while [ $i -lt ${blocks} ]; do cat /block; i=$((i+1)); done`],
      {},
    );
    const got = createHash("sha256");
    for await (const chunk of process.bytes()) got.update(chunk);
    expect((await process.wait()).exitCode).toBe(0);
    console.log(`stdout, hashed: ${Math.round(SIZE / 1000 / (performance.now() - start))} MB/s`);
    expect(got.digest("hex")).toBe(expected.digest("hex"));
  });

  test(`${SIZE / 1024 / 1024} MiB of stdin arrive as they were`, { timeout: 300_000 }, async ({ sub }) => {
    const block = randomBytes(1024 * 1024);
    const expected = createHash("sha256");
    function* input(): Generator<Uint8Array> {
      for (let i = 0; i < SIZE / block.length; i++) {
        expected.update(block);
        yield block;
      }
    }
    const start = performance.now();
    const { stdout } = await sub.run(["sha256sum"], { input: input() });
    console.log(`stdin, hashed: ${Math.round(SIZE / 1000 / (performance.now() - start))} MB/s`);
    expect(stdout.split(" ")[0]).toBe(expected.digest("hex"));
  });
});

describe("S16: spawn and launch", () => {
  test("spawn gives a process next to the leader", async ({ sub }) => {
    const process = await sub.spawn(["cat"], { stdio: "pipe" });
    expect(process.pid).toBeGreaterThan(0);
    process.stdin?.write("grü");
    process.stdin?.end("ße\n");
    const lines: string[] = [];
    for await (const line of process) lines.push(line);
    expect(lines).toEqual(["grüße"]);
    expect(await process.wait()).toEqual({
      outcome: { kind: "exit", code: 0 },
      exitCode: 0,
      exitSignal: null,
    });
    expect(await process.wait()).toMatchObject({ exitCode: 0 });
    expect(await process.kill()).toBe(false);
  });

  test("kill reaches the process, or all that it started", async ({ sub }) => {
    const mark = `33${Math.floor(Math.random() * 1e6)}`;
    const process = await sub.spawn(["sh", "-c", `sleep ${mark} & sleep ${mark}`], { stdio: "ignore" });
    await until("both run", () => commandLines().filter((line) => line === `sleep ${mark}`).length === 2);
    expect(await process.kill("SIGKILL", { tree: true })).toBe(true);
    expect(await process.wait()).toMatchObject({
      exitSignal: "SIGKILL",
      outcome: { kind: "signal", number: 9 },
    });
    await until("both are gone", () => !commandLines().some((line) => line === `sleep ${mark}`));
  });

  test("launch makes the command PID 1, and replaces the leader that there was", async ({ sub }) => {
    await sub.exec(["true"]);
    const first = await sub.launch(["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"], {
      stdio: "ignore",
    });
    expect((await sub.execFail(["cat", "/proc/1/comm"])).stdout).toBe("sh\n");
    const second = await sub.launch(
      ["sh", "-c", "echo from $$; trap 'exit 5' TERM; while :; do sleep 0.05; done"],
      {
        stdio: "pipe",
      },
    );
    expect((await first.wait()).exitCode).toBe(0);
    const line = await second.lines().next();
    expect(line.value).toBe("from 1");
    expect(await second.stop()).toMatchObject({ exitCode: 5 });
    expect((await sub.inspect()).state).toMatchObject({
      status: "exited",
      outcome: { kind: "exit", code: 5 },
    });
  });

  test("a leader that ends by itself is waited for", async ({ sub }) => {
    const leader = await sub.launch(["sh", "-c", "echo up; exit 3"], { stdio: "pipe" });
    expect(await leader.result()).toMatchObject({ stdout: "up\n", exitCode: 3 });
  });

  test("a process is ended at the end of its block", async ({ sub }) => {
    const mark = `34${Math.floor(Math.random() * 1e6)}`;
    {
      await using process = await sub.spawn(["sleep", mark], { stdio: "ignore" });
      expect(process.pid).toBeGreaterThan(0);
    }
    expect(commandLines().filter((line) => line.includes(mark))).toEqual([]);
  });

  test("S20: a limit of spawn and run ends the whole tree, after its grace", async ({ sub }) => {
    const mark = `35${Math.floor(Math.random() * 1e6)}`;
    const killed = await sub.run(["sh", "-c", `sleep ${mark} & sleep ${mark}`], { timeout: 200 });
    expect(killed).toMatchObject({ outcome: { kind: "timeout" }, exitSignal: "SIGKILL" });
    const controller = new AbortController();
    const polite = sub.run(
      ["sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"],
      {
        signal: controller.signal,
        grace: 5000,
      },
    );
    for await (const line of polite) {
      if (line === "up") controller.abort();
    }
    expect(await polite).toMatchObject({
      outcome: { kind: "abort" },
      stdout: "up\nbye\n",
      exitSignal: "SIGTERM",
    });
    const start = performance.now();
    const deaf = await sub.run(["sh", "-c", `trap '' TERM; sleep ${mark}`], { timeout: 200, grace: 300 });
    expect(deaf.outcome).toEqual({ kind: "timeout" });
    expect(performance.now() - start).toBeGreaterThan(450);
    await until("the tree is gone", () => !commandLines().some((line) => line.includes(mark)));
  });

  test("an input that fails ends the command and is reported", async ({ sub }) => {
    async function* broken(): AsyncGenerator<string> {
      yield "a";
      throw new Error("my input broke");
    }
    await expect(sub.run(["sh", "-c", "cat; sleep 100"], { input: broken() })).rejects.toThrow(
      "my input broke",
    );
  });
});

describe("S24: a subcontainer is stopped", () => {
  const loop = (first: string) => ["sh", "-c", `${first}; touch /up; while :; do sleep 0.01; done`];

  test("asked first, killed when its time is over, and there to be launched again", async ({ sub }) => {
    const up = async (): Promise<void> => {
      await until("it listens", async () => (await sub.exec(["rm", "/up"])).exitCode === 0);
    };
    await sub.launch(loop("trap 'exit 7' TERM HUP"), { stdio: "ignore" });
    await up();
    expect(await sub.stop()).toEqual({ outcome: { kind: "exit", code: 7 }, killed: false });
    await sub.launch(loop("trap 'exit 8' HUP"), { stdio: "ignore" });
    await up();
    expect(await sub.stop({ signal: "SIGHUP", timeout: 5000 })).toMatchObject({ outcome: { code: 8 } });
    await sub.launch(loop("trap '' TERM"), { stdio: "ignore" });
    await up();
    expect(await sub.stop({ timeout: 100 })).toMatchObject({
      outcome: { kind: "signal", signal: "SIGKILL" },
      killed: true,
    });
    expect(await sub.stop()).toEqual({ outcome: null, killed: false });
    expect((await sub.inspect()).state.status).toBe("exited");
    await expect(sub.stop({ timeout: -1 })).rejects.toThrow("timeout is not a number");
  });
});

describe("S21: terminals", () => {
  test("a command on a terminal knows its size, and resizes", async ({ sub }) => {
    const process = await sub.spawn(["sh", "-c", "stty size; read x; stty size; test -t 0 && echo tty"], {
      terminal: { rows: 30, cols: 100 },
    });
    const terminal = process.terminal;
    let text = "";
    terminal?.on("data", (chunk) => {
      text += chunk;
    });
    await until("the first size", () => text.includes("30 100"));
    await process.resize({ rows: 40, cols: 120 });
    terminal?.write("go\n");
    await until("the second size", () => text.includes("40 120") && text.includes("tty"));
    expect((await process.wait()).exitCode).toBe(0);
  });

  test("stderr stays apart when it is asked for", async ({ sub }) => {
    const process = await sub.spawn(["sh", "-c", "echo out; echo err >&2; exit 6"], {
      terminal: { rows: 24, cols: 80 },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let text = "";
    process.terminal?.on("data", (chunk) => {
      text += chunk;
    });
    const result = await process.result();
    expect([result.stderr, result.exitCode]).toEqual(["err\n", 6]);
    // It comes on a connection of its own.
    await until("what is on the terminal", () => text.includes("out"));
    expect(text).not.toContain("err");
  });
});
