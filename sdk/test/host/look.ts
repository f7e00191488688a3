/**
 * Looking at the machine, and waiting for it.
 */
import { readdirSync, readFileSync } from "node:fs";

/** The command lines of every process on the machine, to look for what should be gone. */
export function commandLines(): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return [readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim()];
      } catch {
        // Ended since it was listed.
        return [];
      }
    });
}

/** Waits until something holds; fails with what it was when it never does. A machine may be busy: half a minute. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  ms = 30_000,
): Promise<void> {
  for (const start = performance.now(); !(await holds()); ) {
    if (performance.now() - start > ms) throw new Error(`never happened: ${what}`);
    await new Promise((done) => setTimeout(done, 10));
  }
}
