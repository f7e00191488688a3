/**
 * Jobs in real containers: hooks, progress, cancelling, locks, and files that are there in full or not at all.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, inject } from "vitest";
import {
  acquireLock,
  connect,
  dumpPostgres,
  HostError,
  type JobOptions,
  type JobProgress,
  Mounts,
  restorePostgres,
  runJob,
} from "../../src/index.ts";
import { writeChecked } from "../../src/jobs/checked.ts";
import { commandLines, NAME, test, until } from "./fixture.ts";

const image = { imageId: "busybox" };
let targets = 0;
const job = (more: Partial<JobOptions> = {}): JobOptions => ({
  name: NAME,
  target: `target ${process.pid} ${targets++}`,
  image,
  ...more,
});

const backup = (): string => join(inject("dataDir"), "backup");
const mounts = Mounts.of().mountBackups({ mountpoint: "/backup" });
beforeAll(() => void mkdirSync(backup(), { recursive: true }));

describe("S25: a job", () => {
  test("works in a subcontainer of its own, between its hooks, and tells how far it is", async ({ host }) => {
    const log: string[] = [];
    const left = async () => (await host.list()).filter(({ name }) => name === NAME).length;
    const running = runJob(
      host,
      job({
        before: async () => void log.push(`before ${await left()}`),
        after: async ({ ok }) => void log.push(`after ${ok} ${await left()}`),
      }),
      async ({ sub, progress }) => {
        progress({ phase: "count", done: 1, total: 4 });
        log.push(`work ${await left()}`);
        return (await sub.execFail(["echo", "done"])).stdout.trim();
      },
    );
    const seen: JobProgress[] = [];
    for await (const one of running) seen.push(one);
    expect(await running).toBe("done");
    expect(log).toEqual(["before 0", "work 1", "after true 0"]);
    expect(seen.map(({ phase }) => phase)).toEqual(["before", "create", "count", "after"]);
    expect(seen[2]).toEqual({ phase: "count", done: 1, total: 4, percent: 25 });
  });

  test("that fails is undone, and its last hook runs all the same", async ({ host }) => {
    const log: string[] = [];
    const after = ({ ok }: { ok: boolean }): void => void log.push(`after ${ok}`);
    const fails = async (): Promise<never> => {
      throw new Error("no");
    };
    await expect(runJob(host, job({ after }), fails)).rejects.toThrow("no");
    await expect(runJob(host, job({ after, before: fails }), async () => 1)).rejects.toThrow("no");
    await expect(runJob(host, job({ after, image: { imageId: "none" } }), async () => 1)).rejects.toThrow(
      "none",
    );
    expect(log).toEqual(["after false", "after false", "after false"]);
    const both = await runJob(host, job({ after: fails }), fails).catch((error: unknown) => error);
    expect(both).toBeInstanceOf(AggregateError);
    await expect(runJob(host, job({ after: fails }), async () => 1)).rejects.toThrow("no");
    expect((await host.list()).filter(({ name }) => name === NAME)).toEqual([]);
  });

  test("that is cancelled ends what it runs, whether that looks at the signal or not", async ({ host }) => {
    const mark = `${process.pid}777`;
    const outcomes: unknown[] = [];
    const running = runJob(
      host,
      job({ after: (outcome) => void outcomes.push(outcome) }),
      async ({ sub, progress }) => {
        progress({ phase: "sleep" });
        await sub.exec(["sleep", mark], {}, null);
        await new Promise(() => {});
      },
    );
    for await (const { phase } of running) if (phase === "sleep") break;
    await until("it sleeps", () => commandLines().includes(`sleep ${mark}`));
    running.cancel(new Error("enough"));
    await expect(running).rejects.toThrow("enough");
    expect(commandLines()).not.toContain(`sleep ${mark}`);
    expect(outcomes).toMatchObject([{ ok: false, cancelled: true, error: { message: "enough" } }]);
    const never = runJob(host, job({ signal: AbortSignal.abort(new Error("before")) }), async () => 1);
    await expect(never).rejects.toThrow("before");
  });

  test("excludes others from its target, says who it is, and lets them wait", async ({ host }) => {
    await using other = await connect({ dataDir: inject("dataDir"), client: "somebody \u001b[31melse" });
    const target = `people ${process.pid}`;
    let finish = (): void => {};
    const first = runJob(
      host,
      job({ target, name: NAME }),
      () => new Promise<void>((done) => (finish = done)),
    );
    for await (const { phase } of first) if (phase === "create") break;
    const refused = await runJob(other, job({ target }), async () => 1).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(HostError);
    expect(refused).toMatchObject({
      kind: "busy",
      message: expect.stringMatching(
        new RegExp(
          `^acquire lock ${target}: held by tests \\(process ${process.pid}\\): ${NAME}, for \\d+ s$`,
        ),
      ),
    });
    const order: number[] = [];
    const waiting = [1, 2].map(async (number) => {
      const one = runJob(other, job({ target, wait: true }), async () => order.push(number));
      for await (const { phase } of one) if (phase === "wait") break;
      return one;
    });
    const tired = runJob(other, job({ target, wait: true, signal: AbortSignal.timeout(50) }), async () => 1);
    await expect(tired).rejects.toThrow(/timeout/);
    expect(order).toEqual([]);
    finish();
    await first;
    await Promise.all(waiting);
    expect(order.sort()).toEqual([1, 2]);
    const release = await acquireLock(host, target);
    await release();
  });

  test("of a program that is killed leaves nothing, and its target is free", async ({ host }) => {
    const target = `killed ${process.pid}`;
    const mark = `${process.pid}778`;
    const program = `
      import { connect, Mounts, runJob } from ${JSON.stringify(fileURLToPath(new URL("../../dist/index.js", import.meta.url)))};
      const host = await connect({ dataDir: process.argv[1] });
      const mounts = Mounts.of().mountBackups({ mountpoint: "/backup" });
      await runJob(host, { name: "killed", target: process.argv[2], image: { imageId: "busybox" }, mounts }, async ({ sub }) => {
        const sleeping = sub.run(["sleep", process.argv[3]]);
        await sleeping.process;
        console.log("works");
        await sleeping;
      });`;
    const child = spawn(
      process.execPath,
      ["--input-type=module", "-e", program, inject("dataDir"), target, mark],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    await once(child.stdout, "data");
    await expect(acquireLock(host, target)).rejects.toMatchObject({ kind: "busy" });
    const waiting = acquireLock(host, target, { wait: true });
    child.kill("SIGKILL");
    const release = await waiting;
    // Whoever gets the lock finds nothing of what was done under it.
    expect(commandLines()).not.toContain(`sleep ${mark}`);
    expect((await host.list()).filter(({ name }) => name === "killed")).toEqual([]);
    await release();
  });
});

describe("S25: a file of a job", () => {
  const options = {};
  const names = (): string[] =>
    readdirSync(backup())
      .filter((name) => name.includes("checked"))
      .sort();
  const write =
    (text: string, spoil?: (partial: string) => void) => async (host: Parameters<typeof runJob>[0]) =>
      runJob(host, job({ mounts }), (context) =>
        writeChecked(
          context,
          "/backup/checked 'file'\"",
          options,
          (partial) => context.sub.execFail(["sh", "-c", `printf %s "$2" >"$1"`, "sh", partial, text]),
          async (partial) => spoil?.(partial),
        ),
      );
  const name = "checked 'file'\"";

  test("is there with its checksum, in place of the one before", async ({ host }) => {
    const first = await write("one")(host);
    expect(first.bytes).toBe(3);
    expect(names()).toEqual([name, `${name}.sha256`]);
    const second = await write("two")(host);
    expect(readFileSync(join(backup(), name), "utf8")).toBe("two");
    expect(readFileSync(join(backup(), `${name}.sha256`), "utf8")).toBe(`${second.sha256}  ${name}\n`);
  });

  test("is as it was when the new one is empty, bad, or its writing fails", async ({ host }) => {
    await write("kept")(host);
    await expect(write("")(host)).rejects.toThrow("is empty");
    await expect(
      write("bad", () => {
        throw new Error("bad");
      })(host),
    ).rejects.toThrow("bad");
    expect(readFileSync(join(backup(), name), "utf8")).toBe("kept");
    expect(names()).toEqual([name, `${name}.sha256`]);
  });

  test("names that are none are refused", async ({ host }) => {
    for (const file of ["dump", "/backup/", "/backup/..", "/", "/backup/a\nb", "/backup/a\0"]) {
      const dump = runJob(host, job({ mounts }), (context) => dumpPostgres(context, { database: "x", file }));
      await expect(dump, file).rejects.toThrow("not the absolute path of a file");
    }
  });

  test("is not restored when it is not what was written", async ({ host }) => {
    writeFileSync(join(backup(), "foreign.dump"), "PGDMP");
    const restore = () =>
      runJob(host, job({ mounts }), (context) =>
        restorePostgres(context, { database: "x", file: "/backup/foreign.dump" }),
      );
    await expect(restore()).rejects.toThrow("/backup/foreign.dump has no checksum beside it");
    writeFileSync(join(backup(), "foreign.dump.sha256"), `${"0".repeat(64)}  foreign.dump\n`);
    await expect(restore()).rejects.toThrow("is not what was written");
  });
});
