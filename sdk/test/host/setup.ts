/**
 * Starts one host for the tests in this directory, in a mount namespace of its own, and imports a busybox image.
 * Fails with the reason where that cannot be.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";
import { connect } from "../../src/index.ts";

declare module "vitest" {
  interface ProvidedContext {
    dataDir: string;
    hostPid: number;
  }
}

const here: string = dirname(fileURLToPath(import.meta.url));

/** The binary under test. */
export function binary(): string {
  const path = resolve(
    process.env.START_CONTAINER_BIN ?? join(here, "../../../target/debug/start-container"),
  );
  if (!existsSync(path)) throw new Error(`no ${path}: build it with cargo build -p start-container`);
  return path;
}

/** Where the machine's busybox is; it has to be a static one. */
function busybox(): string {
  for (const path of ["/bin/busybox", "/usr/bin/busybox"]) if (existsSync(path)) return path;
  throw new Error("no /bin/busybox: install busybox-static");
}

/** Writes a root file system that holds a busybox and a few users, as a tar. */
export async function busyboxTar(dir: string): Promise<string> {
  const root = join(dir, "busybox");
  for (const name of ["bin", "etc", "tmp", "proc", "dev", "sys", "run", "home/user"]) {
    mkdirSync(join(root, name), { recursive: true });
  }
  await copyFile(busybox(), join(root, "bin/busybox"));
  const applets = execFileSync(busybox(), ["--list"], { encoding: "utf8" }).split("\n");
  for (const name of applets) {
    if (name !== "" && name !== "busybox") symlinkSync("busybox", join(root, "bin", name));
  }
  writeFileSync(
    join(root, "etc/passwd"),
    "root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000:a user:/home/user:/bin/sh\n",
  );
  writeFileSync(join(root, "etc/group"), "root:x:0:\nuser:x:1000:\n");
  const tar = join(dir, "busybox.tar");
  execFileSync("tar", ["-C", root, "--numeric-owner", "--owner=0", "--group=0", "-cf", tar, "."]);
  return tar;
}

/** A running host. */
export interface RunningHost {
  readonly dataDir: string;
  readonly child: ChildProcess;
  /** Everything it has said on its standard error. */
  log(): string;
  /** Stops it and deletes its data. */
  stop(): Promise<void>;
}

/**
 * Starts a host on a data directory of its own.
 *
 * It runs in a mount namespace of its own and keeps its state in that directory, so that not even a host that
 * crashes leaves a mount or a state file on the machine.
 */
export async function startHost(): Promise<RunningHost> {
  if (process.getuid?.() !== 0) throw new Error("the host's tests need root");
  const dir = mkdtempSync(join(tmpdir(), "start-container-sdk-"));
  const dataDir = join(dir, "data");
  mkdirSync(dataDir);
  const child = spawn(
    "unshare",
    [
      "--mount",
      "--propagation",
      "private",
      binary(),
      "daemon",
      "--data-dir",
      dataDir,
      "--run-dir",
      join(dir, "run"),
    ],
    { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, RUST_BACKTRACE: "1" } },
  );
  let said = "";
  const hear = (chunk: Buffer): void => {
    said = (said + chunk).slice(-100_000);
  };
  child.stdout.on("data", hear);
  child.stderr.on("data", hear);
  const ended = new Promise<void>((done) => child.once("exit", () => done()));
  const host: RunningHost = {
    dataDir,
    child,
    log: () => said,
    async stop() {
      child.kill("SIGTERM");
      const late = setTimeout(() => child.kill("SIGKILL"), 20_000);
      await ended;
      clearTimeout(late);
      const left = existsSync(join(dataDir, "rootfs"))
        ? readdirSync(join(dataDir, "rootfs")).filter((name) => name !== "lock")
        : [];
      const code = child.exitCode;
      rmSync(dir, { recursive: true, force: true });
      if (code !== 0) throw new Error(`the host ended with ${code ?? child.signalCode}:\n${said}`);
      if (left.length > 0)
        throw new Error(`the host left ${left.join(", ")} in its data directory:\n${said}`);
    },
  };
  for (const start = performance.now(); ; ) {
    try {
      const connection = await connect({ dataDir });
      const tar = await busyboxTar(dir);
      await connection.images.import(tar, { name: "busybox" });
      connection.close();
      return host;
    } catch (error) {
      const late = performance.now() - start > 15_000;
      if (child.exitCode === null && !late && (error as { failure?: string }).failure === "unreachable") {
        await new Promise((done) => setTimeout(done, 20));
        continue;
      }
      child.kill("SIGKILL");
      rmSync(dir, { recursive: true, force: true });
      throw new Error(`the host did not start: ${error}\n${said}`, { cause: error });
    }
  }
}

/** vitest's global setup. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const host = await startHost();
  project.provide("dataDir", host.dataDir);
  project.provide("hostPid", host.child.pid ?? 0);
  return () => host.stop();
}
