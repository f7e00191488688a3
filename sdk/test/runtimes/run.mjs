/**
 * The core of the suite on another JavaScript runtime: `RUNTIME=/path/to/deno node test/runtimes/run.mjs`. Without
 * `RUNTIME` it runs on every runtime that the machine has of node22, node24 and deno in node_modules or PATH, and on
 * this Node. Starts a host of its own; prints `ok NAME` or `not ok NAME` for each check.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const core = `${here}core.mjs`;
if (!existsSync(`${here}../../dist/index.js`)) throw new Error("no dist: run npm run build first");

const { startHost } = await import("./host.mjs");
const runtimes = process.env.RUNTIME === undefined ? [process.execPath] : [process.env.RUNTIME];
const host = await startHost();
let failed = 0;
try {
  for (const runtime of runtimes) {
    const deno = /deno[^/]*$/.test(runtime);
    console.log(`# ${runtime}`);
    const run = spawnSync(
      runtime,
      [...(deno ? ["run", "--allow-all", "--no-config"] : []), core, host.dataDir],
      {
        stdio: "inherit",
        timeout: 120_000,
        cwd: here,
      },
    );
    if (run.status !== 0) {
      failed += 1;
      console.log(`not ok ${runtime} ended with ${run.status ?? run.signal ?? run.error}`);
    }
  }
} finally {
  await host.stop();
}
process.exitCode = failed === 0 ? 0 : 1;
