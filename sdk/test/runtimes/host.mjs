/**
 * Starts a host for a test outside of vitest: in a mount namespace of its own, on a data directory of its own.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { connect } from "start-container";

/** A root file system that holds a busybox, as a directory. */
function busybox(dir) {
  const program = ["/bin/busybox", "/usr/bin/busybox"].find((path) => existsSync(path));
  if (program === undefined) throw new Error("no /bin/busybox: install busybox-static");
  const root = join(dir, "busybox");
  for (const name of ["bin", "etc", "tmp", "proc", "dev", "sys"])
    mkdirSync(join(root, name), { recursive: true });
  copyFileSync(program, join(root, "bin/busybox"));
  for (const name of [
    "sh",
    "nc",
    "printf",
    "cat",
    "echo",
    "true",
    "sleep",
    "head",
    "wc",
    "seq",
    "sha256sum",
  ]) {
    symlinkSync("busybox", join(root, "bin", name));
  }
  writeFileSync(join(root, "etc/passwd"), "root:x:0:0:root:/:/bin/sh\n");
  return root;
}

export async function startHost() {
  const here = fileURLToPath(new URL(".", import.meta.url));
  const binary = resolve(
    process.env.START_CONTAINER_BIN ?? join(here, "../../../target/debug/start-container"),
  );
  const dir = mkdtempSync(join(tmpdir(), "start-container-sdk-"));
  const dataDir = join(dir, "data");
  mkdirSync(dataDir);
  const child = spawn(
    "unshare",
    [
      "--mount",
      "--propagation",
      "private",
      binary,
      "daemon",
      "--data-dir",
      dataDir,
      "--run-dir",
      join(dir, "run"),
    ],
    { stdio: ["ignore", "inherit", "pipe"] },
  );
  let said = "";
  child.stderr.on("data", (chunk) => {
    said = (said + chunk).slice(-20_000);
  });
  const ended = once(child, "exit");
  const stop = async () => {
    child.kill("SIGTERM");
    const late = setTimeout(() => child.kill("SIGKILL"), 20_000);
    await ended;
    clearTimeout(late);
    rmSync(dir, { recursive: true, force: true });
  };
  for (const start = performance.now(); ; ) {
    try {
      const host = await connect({ dataDir });
      await host.images.import(busybox(dir), { name: "busybox" });
      host.close();
      return { dataDir, stop };
    } catch (error) {
      if (child.exitCode !== null || error.failure !== "unreachable" || performance.now() - start > 15_000) {
        await stop();
        throw new Error(`the host did not start: ${error}\n${said}`, { cause: error });
      }
      await new Promise((done) => setTimeout(done, 20));
    }
  }
}
