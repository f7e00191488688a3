/**
 * How a command ended, in the words of the protocol and in Node's.
 */
import { Buffer } from "node:buffer";
import type { Outcome } from "../generated/protocol.ts";

/** The exit code, or null when the command did not end by itself. */
export function exitCodeOf(outcome: Outcome): number | null {
  return outcome.kind === "exit" ? outcome.code : null;
}

/**
 * The signal that ended the command, or null. A time limit and an abort name the first signal that they send; the
 * kernel's out-of-memory killer always sends SIGKILL.
 */
export function exitSignalOf(outcome: Outcome, grace: number): NodeJS.Signals | null {
  switch (outcome.kind) {
    case "signal":
      return outcome.signal as NodeJS.Signals;
    case "timeout":
    case "abort":
      return grace > 0 ? "SIGTERM" : "SIGKILL";
    case "outOfMemory":
      return "SIGKILL";
    default:
      return null;
  }
}

/** The outcome in words: `failed with exit code 3`. */
export function describe(outcome: Outcome): string {
  switch (outcome.kind) {
    case "exit":
      return outcome.code === 0 ? "succeeded" : `failed with exit code ${outcome.code}`;
    case "signal":
      return `terminated with signal ${outcome.signal}`;
    case "timeout":
      return "took longer than its time limit";
    case "abort":
      return "was aborted";
    case "outOfMemory":
      return "was killed: out of memory";
    case "unknown":
      return "ended unwatched";
  }
}

const TAIL = 4096;

/** The last few kilobytes of a command's standard error, as text, for an error's message. */
export function tail(stderr: string | Uint8Array): string {
  const text =
    typeof stderr === "string"
      ? stderr
      : Buffer.from(stderr.buffer, stderr.byteOffset, stderr.byteLength).subarray(-TAIL).toString("utf8");
  const trimmed = text.trimEnd();
  return trimmed.length > TAIL ? `…${trimmed.slice(-TAIL)}` : trimmed;
}
