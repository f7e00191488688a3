// Makes the bundle: one script of all that src/index.ts needs, one for each of src/functions, the manifest as JSON, images and
// assets.
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";

const out = "build";
const options = { bundle: true, format: "esm", platform: "node", target: "es2023", logLevel: "warning" };
rmSync(out, { recursive: true, force: true });
mkdirSync(out);
// Beside the script there is a source map: errors say where in src/ they come from.
await build({ ...options, entryPoints: ["src/index.ts"], outfile: `${out}/entries/main.js`, sourcemap: true });
if (existsSync("src/functions")) {
  const files = readdirSync("src/functions", { withFileTypes: true }).filter((file) => file.isFile());
  const entryPoints = files.map((file) => `src/functions/${file.name}`);
  // Not for Node: of its modules a function has none.
  await build({ ...options, platform: "neutral", entryPoints, outdir: `${out}/entries/functions` });
}
await build({ ...options, entryPoints: ["src/manifest.ts"], outfile: `${out}/manifest.mjs` });
const { manifest } = await import(pathToFileURL(`${out}/manifest.mjs`));
rmSync(`${out}/manifest.mjs`);
writeFileSync(`${out}/manifest.json`, `${JSON.stringify(manifest, null, 2)}\n`);
for (const part of ["images", "assets", "ui"]) {
  if (existsSync(part)) cpSync(part, `${out}/${part}`, { recursive: true });
}
if (!process.argv.includes("--no-bundle")) {
  const program = process.env.START_CONTAINER_BIN ?? "start-container";
  const key = process.env.PACKAGE_KEY ?? "package.key";
  const sign = existsSync(key) ? ["--key", key] : [];
  if (sign.length === 0) {
    console.error(`not signed: there is no ${key} (start-container package keygen ${key}; or PACKAGE_KEY)`);
  }
  execFileSync(program, ["package", "pack", out, ...sign], { stdio: "inherit" });
}
