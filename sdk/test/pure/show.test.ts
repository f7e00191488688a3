/**
 * How far a job is, on a terminal and where there is none.
 */
import { expect, test } from "vitest";
import type { Job } from "../../src/index.ts";
import { type Screen, showProgress } from "../../src/index.ts";
import { ProgressFeed } from "../../src/jobs/progress.ts";

/** A job that is told how far it is from here. */
function job(): { feed: ProgressFeed; end: (how: Promise<string>) => void; job: Job<string> } {
  const feed = new ProgressFeed();
  let end: (how: Promise<string>) => void = () => {};
  const result = new Promise<string>((resolve) => {
    end = resolve;
  });
  // What the class itself is made of.
  const made = Object.assign(result, { [Symbol.asyncIterator]: () => feed[Symbol.asyncIterator]() });
  return { feed, end, job: made as unknown as Job<string> };
}

function screen(isTTY: boolean): Screen & { text: string } {
  return {
    isTTY,
    columns: 60,
    text: "",
    write(text: string) {
      this.text += text;
    },
  };
}

const turn = (): Promise<void> => new Promise((done) => setImmediate(done));

test("S25: a bar on a terminal, which goes when it is over", async () => {
  const { feed, end, job: under } = job();
  const to = screen(true);
  const shown = showProgress(under, "backup\x1b[31m", to);
  for (const done of [0, 1_500_000, 3_000_000]) {
    feed.tell({ phase: "dump", done, total: 3_000_000 });
    await turn();
  }
  feed.tell({ phase: "verify a file of a very long name indeed, which is longer than the line" });
  await turn();
  feed.end();
  end(Promise.resolve("sum"));
  expect(await shown).toBe("sum");
  const lines = to.text.split("\r\x1b[K");
  expect(lines[2]).toBe("backup [31m  dump  [###############---------------] 50 %  1");
  expect(lines.every((line) => line.length < 60)).toBe(true);
  expect(to.text.endsWith("\r\x1b[K")).toBe(true);
  expect(to.text.replaceAll("\r\x1b[K", "")).not.toMatch(/\p{Cc}/u);
});

test("S25: plain lines elsewhere, one for each phase; what fails, fails", async () => {
  const { feed, end, job: under } = job();
  const to = screen(false);
  const shown = showProgress(under, "backup", to);
  for (const phase of ["dump", "dump", "verify\r"]) {
    feed.tell({ phase, done: 1 });
    await turn();
  }
  feed.end();
  end(Promise.reject(new Error("no space")));
  await expect(shown).rejects.toThrow("no space");
  expect(to.text).toBe("backup: dump\nbackup: verify \n");
});
