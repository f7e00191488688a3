/**
 * Starts one host with the images of real services, which `cargo xtask setup` makes.
 */
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";
import { connect } from "../../src/index.ts";
import { startHost } from "../host/setup.ts";

/** vitest's global setup. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const target =
    process.env.START_CONTAINER_TARGET ?? fileURLToPath(new URL("../../../target", import.meta.url));
  const running = await startHost();
  try {
    await using host = await connect({ dataDir: running.dataDir });
    for (const name of ["postgres-demo", "mariadb-demo"]) {
      const archive = join(target, "xtask/images", `${name}.tar`);
      if (!existsSync(archive)) throw new Error(`no ${archive}: make it with cargo xtask setup`);
      await host.images.import(archive, { name });
    }
    mkdirSync(join(running.dataDir, "backup"), { recursive: true });
  } catch (error) {
    await running.stop();
    throw error;
  }
  project.provide("dataDir", running.dataDir);
  project.provide("hostPid", running.child.pid ?? 0);
  return () => running.stop();
}
