import { createHash, randomBytes } from "node:crypto";
import { describe, expect } from "vitest";
import { ExitError, HostError } from "../../src/index.ts";
import { commandLines, test, until } from "./fixture.ts";

describe("S16: exec", () => {
  test("gives exit code, output and outcome, also when it failed", async ({ sub }) => {
    const result = await sub.exec(["sh", "-c", "echo out; echo err >&2; exit 3"]);
    expect(result).toMatchObject({
      exitCode: 3,
      exitSignal: null,
      stdout: "out\n",
      stderr: "err\n",
      outcome: { kind: "exit", code: 3 },
      stdoutTruncated: false,
      stderrTruncated: false,
    });
    expect(() => result.throw()).toThrow(ExitError);
    const fine = await sub.exec(["echo", "fine"]);
    expect(fine.throw()).toEqual({ stdout: "fine\n", stderr: "" });
  });

  test("execFail throws an ExitError with command, code and the end of stderr", async ({ sub }) => {
    const error = await sub
      .execFail(["sh", "-c", "echo part; echo the reason >&2; exit 7"])
      .catch((error: unknown) => error);
    expect(error).toBeInstanceOf(ExitError);
    expect(error).toMatchObject({
      message: "sh failed with exit code 7: the reason",
      command: "sh",
      exitCode: 7,
      stdout: "part\n",
      stderr: "the reason\n",
    });
  });

  test("takes environment, directory and user, and leaves the caller's options as they were", async ({
    sub,
  }) => {
    const options = Object.freeze({
      env: Object.freeze({ A: "one=1", B: "two\nlines", C: undefined }),
      cwd: "/home",
      user: "user",
      input: "x",
      timeout: 10_000,
    });
    for (let i = 0; i < 2; i++) {
      const { stdout } = await sub.execFail(
        // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the shell that reads it
        ["sh", "-c", 'echo "$A|$B|${C-unset}|$(pwd)|$(id -un)|$(cat)"'],
        options,
      );
      expect(stdout).toBe("one=1|two\nlines|unset|/home|user|x\n");
    }
    expect((await sub.exec(["id", "-u"], { user: "1000:1000" })).stdout).toBe("1000\n");
  });

  test.for([
    { what: "an unknown command", command: ["no-such-command"], options: {}, kind: "commandNotFound" },
    {
      what: "a command that is no program",
      command: ["/etc/passwd"],
      options: {},
      kind: "commandNotExecutable",
    },
    { what: "an unknown user", command: ["true"], options: { user: "nobody-here" }, kind: "unknownUser" },
    { what: "no command", command: [], options: {}, kind: "invalid" },
  ])("$what is a typed error that names it", async ({ command, options, kind }, { sub }) => {
    const error = await sub.exec(command, options).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(HostError);
    expect(error).toMatchObject({ kind, method: "subcontainer.exec" });
    expect((error as HostError).message).toContain(Object.values(options)[0] ?? command[0] ?? "command");
    expect((await sub.exec(["true"])).exitCode).toBe(0);
  });

  test("16 at a time, many times, without a failure", async ({ sub }) => {
    const rounds = Number(process.env.SDK_TEST_ROUNDS ?? 100);
    await sub.exec(["true"]);
    for (let round = 0; round < rounds; round++) {
      const results = await Promise.all(
        Array.from({ length: 16 }, (_, index) => sub.exec(["echo", `${round}.${index}`])),
      );
      expect(results.map(({ stdout }) => stdout)).toEqual(
        Array.from({ length: 16 }, (_, index) => `${round}.${index}\n`),
      );
    }
  });
});

describe("S18: output of exec", () => {
  test("bytes come unchanged, text is decoded whole", async ({ sub }) => {
    const bytes = randomBytes(300_000);
    await sub.writeFile("/data", bytes);
    const raw = await sub.exec(["cat", "/data"], { encoding: "buffer" });
    expect(bytes.equals(raw.stdout)).toBe(true);
    const text = "grüße 🎉\n".repeat(20_000);
    await sub.writeFile("/text", text);
    expect((await sub.exec(["cat", "/text"])).stdout).toBe(text);
  });

  test("a bounded buffer says that it was cut, and splits no character", async ({ sub }) => {
    const result = await sub.exec(["sh", "-c", "printf 'aéé'; printf 'xyz' >&2"], { maxBuffer: 4 });
    expect(result).toMatchObject({
      stdout: "aé",
      stdoutTruncated: true,
      stderr: "xyz",
      stderrTruncated: false,
    });
    const raw = await sub.exec(["sh", "-c", "printf 'aéé'"], { maxBuffer: 4, encoding: "buffer" });
    expect(raw.stdout).toHaveLength(4);
  });

  test("8 MiB of control characters fit", async ({ sub }) => {
    const size = 8 * 1024 * 1024;
    const result = await sub.exec(
      ["sh", "-c", `head -c ${size} /dev/zero | tr '\\0' '\\001' | tee /dev/stderr`],
      {
        encoding: "buffer",
      },
    );
    expect([result.stdout.length, result.stderr.length, result.stdoutTruncated]).toEqual([size, size, false]);
  });

  test("a limit beyond one message is kept too", async ({ sub }) => {
    const result = await sub.exec(["head", "-c", "20000000", "/dev/zero"], {
      maxBuffer: 32_000_000,
      encoding: "buffer",
    });
    expect([result.stdout.length, result.stdoutTruncated]).toEqual([20_000_000, false]);
  });
});

describe("S19: input of exec", () => {
  test("there is none unless it is given: the command reads end of file", async ({ sub }) => {
    expect((await sub.exec(["cat"])).stdout).toBe("");
    expect((await sub.exec(["cat"], { input: "" })).stdout).toBe("");
    expect((await sub.exec(["cat"], { input: "grüße" })).stdout).toBe("grüße");
    expect((await sub.exec(["wc", "-c"], { input: new Uint8Array([0, 255]) })).stdout.trim()).toBe("2");
  });

  test("large input does not deadlock, whatever form it has", async ({ sub }) => {
    const bytes = randomBytes(20_000_000);
    const hash = createHash("sha256").update(bytes).digest("hex");
    function* pieces(): Generator<Uint8Array> {
      for (let at = 0; at < bytes.length; at += 65_536) yield bytes.subarray(at, at + 65_536);
    }
    for (const input of [bytes.subarray(0), pieces(), new Blob([bytes]).stream()]) {
      const { stdout } = await sub.execFail(["sh", "-c", "tee /dev/stderr | sha256sum"], { input });
      expect(stdout).toContain(hash);
    }
  });

  test("a command that does not read its input is no failure", async ({ sub }) => {
    expect((await sub.exec(["true"], { input: Buffer.alloc(4_000_000) })).exitCode).toBe(0);
    expect((await sub.exec(["true"], { input: Buffer.alloc(20_000_000) })).exitCode).toBe(0);
  });
});

describe("S20: exec", () => {
  test("a time limit ends the command and everything that it started", async ({ sub }) => {
    const mark = `31${Math.floor(Math.random() * 1e6)}`;
    const start = performance.now();
    const result = await sub.exec(["sh", "-c", `sleep ${mark} & setsid sleep ${mark} & wait`], {}, 300);
    expect(performance.now() - start).toBeLessThan(5000);
    expect(result).toMatchObject({ outcome: { kind: "timeout" }, exitCode: null, exitSignal: "SIGKILL" });
    await until("the tree is gone", () => !commandLines().some((line) => line.includes(mark)));
    const again = await sub.exec(["sleep", mark], { timeout: 100 });
    expect(again.outcome).toEqual({ kind: "timeout" });
    await expect(sub.execFail(["sleep", mark], { timeout: 100 })).rejects.toThrow(
      "sleep took longer than its time limit",
    );
  });

  test("an abort ends the command and everything that it started", async ({ sub }) => {
    const mark = `32${Math.floor(Math.random() * 1e6)}`;
    for (const form of ["signal", "controller"] as const) {
      const controller = new AbortController();
      const command = ["sh", "-c", `sleep ${mark} & sleep ${mark}`];
      const running =
        form === "signal"
          ? sub.exec(command, { signal: controller.signal })
          : sub.exec(command, undefined, null, controller);
      await until("it runs", () => commandLines().some((line) => line === `sleep ${mark}`));
      controller.abort();
      expect(await running).toMatchObject({ outcome: { kind: "abort" }, exitCode: null });
      expect(commandLines().filter((line) => line.includes(mark))).toEqual([]);
    }
  });

  test("what is aborted already starts nothing", async ({ sub }) => {
    const result = await sub.exec(["touch", "/ran"], { signal: AbortSignal.abort() });
    expect(result.outcome).toEqual({ kind: "abort" });
    expect(await sub.files.exists("/ran")).toBe(false);
    const reason = new Error("not now");
    const error = await sub
      .execFail(["touch", "/ran"], { signal: AbortSignal.abort(reason) })
      .catch((error: unknown) => error);
    expect(error).toBeInstanceOf(ExitError);
    expect((error as ExitError).result.outcome).toEqual({ kind: "abort" });
    expect((await sub.run(["touch", "/ran"], { signal: AbortSignal.abort() })).outcome).toEqual({
      kind: "abort",
    });
    await expect(sub.spawn(["touch", "/ran"], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(await sub.files.exists("/ran")).toBe(false);
  });

  test("grace: SIGTERM first, and SIGKILL for whoever does not listen", async ({ sub }) => {
    const polite = await sub.exec(
      ["sh", "-c", "trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.05; done"],
      {
        timeout: 300,
        grace: 5000,
      },
    );
    expect(polite).toMatchObject({
      outcome: { kind: "timeout" },
      stdout: "up\nbye\n",
      exitSignal: "SIGTERM",
    });
    const start = performance.now();
    const deaf = await sub.exec(["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"], {
      timeout: 200,
      grace: 300,
    });
    expect(deaf.outcome).toEqual({ kind: "timeout" });
    expect(performance.now() - start).toBeLessThan(5000);
  });

  test("a signal is told apart from an exit", async ({ sub }) => {
    const result = await sub.exec(["sh", "-c", "kill -USR1 $$"]);
    expect(result).toMatchObject({
      outcome: { kind: "signal", signal: "SIGUSR1", number: 10 },
      exitCode: null,
      exitSignal: "SIGUSR1",
    });
    expect((await sub.exec(["sh", "-c", "exit 138"])).outcome).toEqual({ kind: "exit", code: 138 });
  });
});
