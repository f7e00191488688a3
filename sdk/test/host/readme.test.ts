/**
 * The programs in README.md run, and print what it says they print.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { format } from "node:util";
import { afterAll, beforeAll, describe, expect, inject, test, vi } from "vitest";

const root: string = fileURLToPath(new URL("../..", import.meta.url));
const readme: string = readFileSync(join(root, "README.md"), "utf8");
const blocks: { heading: string; program: string; output: string | undefined }[] = [];
for (const section of readme.split(/^#+ /m)) {
  for (const match of section.matchAll(/```ts\n(.*?)```(?:\s*```text\n(.*?)```)?/gs)) {
    blocks.push({ heading: section.split("\n")[0] ?? "", program: match[1] ?? "", output: match[2] });
  }
}

let dir: string;
beforeAll(() => {
  // Inside of the package, so that the programs find it by its name.
  dir = mkdtempSync(join(root, "test/.readme-"));
  vi.stubEnv("START_CONTAINER_DATA_DIR", inject("dataDir"));
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(dir, { recursive: true, force: true });
});

describe("README.md", () => {
  expect(blocks.length).toBeGreaterThan(5);
  for (const [index, { heading, program, output }] of blocks.entries()) {
    test(heading, async () => {
      const file = join(dir, `${index}.ts`);
      writeFileSync(file, program);
      let printed = "";
      const log = vi.spyOn(console, "log").mockImplementation((...values) => {
        printed += `${format(...values)}\n`;
      });
      try {
        await import(file);
      } finally {
        log.mockRestore();
      }
      expect(printed).not.toBe("");
      if (output !== undefined) expect(printed).toBe(output);
    });
  }
});
