/**
 * How far a job is, for a person: a bar on a terminal, a line for each phase where it is none.
 */
import { stderr } from "node:process";
import type { Job } from "./job.ts";
import type { JobProgress } from "./progress.ts";

/** Where it is shown. `process.stderr` is one. */
export interface Screen {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

const WIDTH = 30;
const UNITS = ["B", "kB", "MB", "GB", "TB"] as const;

/**
 * Shows how far a job is until it is over, and gives its result.
 *
 * ```ts
 * const { sha256 } = await showProgress(runJob(host, options, work), "nightly backup");
 * ```
 *
 * @param name - goes before it; without control characters
 * @param screen - default `process.stderr`, so that what is printed stays what the program prints
 */
export async function showProgress<T>(job: Job<T>, name: string, screen: Screen = stderr): Promise<T> {
  const label = plain(name);
  let last: string | undefined;
  for await (const progress of job) {
    if (screen.isTTY) {
      // Never longer than the line: what wraps cannot be written over.
      const text = `${label}  ${bar(progress)}`.slice(0, (screen.columns ?? 80) - 1);
      screen.write(`\r\x1b[K${text}`);
    } else if (progress.phase !== last) {
      screen.write(`${label}: ${plain(progress.phase)}\n`);
    }
    last = progress.phase;
  }
  if (screen.isTTY && last !== undefined) screen.write("\r\x1b[K");
  return job;
}

function bar({ phase, done, total, percent }: JobProgress): string {
  const amount = done === null ? "" : total === null ? size(done) : `${size(done)} of ${size(total)}`;
  if (percent === null) return `${plain(phase)}  ${amount}`.trimEnd();
  const full = Math.round((WIDTH * percent) / 100);
  const drawn = "#".repeat(full) + "-".repeat(WIDTH - full);
  return `${plain(phase)}  [${drawn}] ${Math.floor(percent)} %  ${amount}`.trimEnd();
}

function size(bytes: number): string {
  let unit = 0;
  let value = bytes;
  for (; value >= 1000 && unit < UNITS.length - 1; unit += 1) value /= 1000;
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

/** Phases are whoever's wrote the job. */
function plain(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, " ");
}
