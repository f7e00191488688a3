/** The clients that these tests use as they are. */
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** A release of `@start9labs/start-sdk`. */
export interface Client {
  name: string;
  version: string;
  major: "1" | "2";
  /** An installed copy to use instead of the registry's. */
  variable: string;
}

/** The newest one. */
export const newest: Client = {
  name: "the newest release",
  version: "2.0.9",
  major: "2",
  variable: "START_SDK_2",
};

/** A project beneath `dir` with the client installed, or why there is none. */
export function startSdk(client: Client, dir: string): { project: string } | { reason: string } {
  const given = process.env[client.variable];
  if (given !== undefined) return { project: given };
  const project = join(dir, client.major);
  mkdirSync(project);
  writeFileSync(join(project, "package.json"), '{"private": true}\n');
  const spec = `@start9labs/start-sdk@${client.version}`;
  const npm = spawnSync(
    "npm",
    ["install", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts", "--omit=dev", spec],
    { cwd: project, encoding: "utf8" },
  );
  if (npm.status === 0) return { project };
  if (/E404|ETARGET|No matching version/.test(npm.stderr))
    return { reason: `the registry has no ${spec}; name an installed copy in ${client.variable}` };
  throw new Error(`npm install ${spec}: ${npm.stderr}`);
}
