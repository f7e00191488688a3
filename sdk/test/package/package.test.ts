/**
 * The package as a stranger gets it: packed, looked over by publint, installed into an empty project, imported and
 * compiled against.
 */
import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { publint } from "publint";
import { afterAll, beforeAll, expect, test } from "vitest";

const root: string = fileURLToPath(new URL("../..", import.meta.url));
let dir: string;
let tarball: string;

beforeAll(() => {
  expect(existsSync(join(root, "dist/index.js")), "npm run build").toBe(true);
  dir = mkdtempSync(join(tmpdir(), "sdk-package-"));
  const packed = execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", dir], {
    cwd: root,
    encoding: "utf8",
  });
  tarball = join(dir, (JSON.parse(packed) as { filename: string }[])[0]?.filename ?? "");
});

afterAll(() => rmSync(dir, { recursive: true, force: true }));

test("publint has nothing to say", async () => {
  const { messages } = await publint({ pkgDir: root, strict: true });
  expect(messages).toEqual([]);
});

test("it installs alone into an empty project, and runs there", () => {
  const project = join(dir, "project");
  mkdirSync(project);
  writeFileSync(join(project, "package.json"), '{"private": true, "type": "module"}\n');
  execFileSync("npm", ["install", "--no-audit", "--no-fund", "--offline", "--loglevel=error", tarball], {
    cwd: project,
  });
  const installed = readdirSync(join(project, "node_modules")).filter((name) => !name.startsWith("."));
  expect(installed).toEqual(["start-container"]);
  const program = `
    import * as sdk from "start-container";
    const error = await sdk.connect({ socket: "/nowhere" }).catch((error) => error);
    console.log(error.failure, Object.keys(sdk).sort().join());
  `;
  const out = execFileSync("node", ["--input-type=module", "-e", program], {
    cwd: project,
    encoding: "utf8",
  });
  expect(out.trim()).toBe(
    "unreachable ConnectionError,CorruptFileError,Daemons,DestroyedError,ExitError,HostError,Job,Mounts,PackageHost,Sandbox,SubContainer,SubContainerLazy,SubContainerOwned,SubContainerRc,acquireLock,checkPortListening,checkWebUrl,connect,connectHost,connectInside,cooldownTrigger,describeCause,dumpMysql,dumpPostgres,restoreMysql,restorePostgres,runHealthScript,runJob,showProgress,statusTrigger,syncDirectory",
  );
});

test("a strict program compiles against it, and its own declarations are sound", () => {
  const project = join(dir, "project");
  writeFileSync(
    join(project, "program.ts"),
    `import { connect, type ExecResult, Mounts, SubContainer, type SubContainerRc } from "start-container";
     await using host = await connect({ dataDir: "/x" });
     const sub: SubContainer = await SubContainer.of(host, { imageId: "i" }, Mounts.of(), "n");
     const rc: SubContainerRc = sub.rc();
     const result: ExecResult = await rc.exec(["true"]);
     const bytes: Uint8Array = (await sub.exec(["true"], { encoding: "buffer" })).stdout;
     for await (const line of sub.run(["x"])) line.trim();
     console.log(result.outcome.kind, bytes);
    `,
  );
  writeFileSync(
    join(project, "tsconfig.json"),
    JSON.stringify({
      compilerOptions: {
        target: "es2022",
        lib: ["es2022", "esnext.disposable"],
        module: "nodenext",
        strict: true,
        exactOptionalPropertyTypes: true,
        skipLibCheck: false,
        noEmit: true,
        types: ["node"],
        typeRoots: [join(root, "node_modules/@types")],
      },
      files: ["program.ts"],
    }),
  );
  try {
    execFileSync(join(root, "node_modules/.bin/tsc"), ["-p", "."], { cwd: project, encoding: "utf8" });
  } catch (error) {
    throw new Error((error as { stdout: string }).stdout);
  }
});

test("the lock file names no registry", () => {
  const lock = readFileSync(join(root, "package-lock.json"), "utf8");
  expect(lock).not.toMatch(/"resolved"/);
  expect(lock).not.toMatch(/https?:\/\/(?!opencollective|github|tidelift|www\.patreon|paulmillr)[^"]*\.tgz/);
});

test("the lock file is whole: it names the packages of other platforms too", () => {
  // npm leaves out what the registry at hand does not have, and `npm ci` then refuses the file everywhere.
  execFileSync(
    "npm",
    ["ci", "--dry-run", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
    {
      cwd: root,
    },
  );
});

test("it promises no dependency", () => {
  const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  expect([dependencies, peerDependencies]).toEqual([undefined, undefined]);
});
