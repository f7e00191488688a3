/**
 * The package that the guide ports (`examples/postgresql`, `docs/porting.md`): its code is that of a package for StartOS, as the
 * `@start9labs/start-sdk` of npm has it, and with the guide's diff it is one of ours. That it then runs, the tests of the host
 * show.
 */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { newest, startSdk } from "./install.ts";

const root: string = fileURLToPath(new URL("../..", import.meta.url));
let dir: string;

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "port-"));
});

afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** A project with the example's code, and these modules of this SDK's beside those that are there. */
function project(name: string, modules: string[], options: object): string {
  const at = join(dir, name);
  mkdirSync(join(at, "node_modules"), { recursive: true });
  cpSync(join(root, "examples/postgresql/startos"), join(at, "startos"), { recursive: true });
  for (const one of ["@types", "undici-types", ...modules])
    symlinkSync(join(root, "node_modules", one), join(at, "node_modules", one));
  writeFileSync(join(at, "tsconfig.json"), JSON.stringify({ ...options, include: ["startos"] }));
  return at;
}

/** What the compiler has to say. */
function complaints(at: string): string {
  try {
    execFileSync(join(root, "node_modules/.bin/tsc"), ["-p", "."], { cwd: at, encoding: "utf8" });
    return "";
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
}

test("J5: it is a package for StartOS", ({ skip }) => {
  const installed = startSdk(newest, dir);
  if ("reason" in installed) return skip(installed.reason);
  const at = project("before", [], {
    extends: "@start9labs/start-sdk/tsconfig.base.json",
    compilerOptions: { noEmit: true },
  });
  for (const scope of ["@start9labs"])
    symlinkSync(join(installed.project, "node_modules", scope), join(at, "node_modules", scope));
  expect(complaints(at)).toBe("");
  // The compiler knows that SDK: what it has not is an error.
  writeFileSync(join(at, "startos/wrong.ts"), 'import { sdk } from "./sdk";\nsdk.setupNothing();\n');
  expect(complaints(at)).toContain("setupNothing");
});

test("J5: with the guide's diff it is one of this host's", () => {
  const at = project("after", ["zod"], {
    compilerOptions: {
      target: "ES2023",
      lib: ["ES2023", "ESNext.Disposable"],
      module: "preserve",
      moduleResolution: "bundler",
      types: ["node"],
      strict: true,
      skipLibCheck: true,
      noEmit: true,
    },
  });
  symlinkSync(root, join(at, "node_modules/start-container"));
  const guide = readFileSync(join(root, "../docs/porting.md"), "utf8");
  const diff = guide.split("```diff\n")[1]?.split("```\n")[0] ?? "";
  execFileSync("git", ["apply", "-"], {
    cwd: at,
    input: diff,
    env: { ...process.env, GIT_CEILING_DIRECTORIES: dir },
  });
  expect(complaints(at)).toBe("");
});
