/**
 * What processes have written to streams that are kept: frames from a connection of their own, and lines of them.
 */
import { Buffer } from "node:buffer";
import { StringDecoder } from "node:string_decoder";
import { Channel } from "../client/channel.ts";
import type { HostConnection } from "../client/host-connection.ts";
import { ConnectionError } from "../errors.ts";
import type { LogStream, LogsParams } from "../generated/protocol.ts";
import { LONGEST_LINE } from "../process/lines.ts";

/** Which part of a log. */
export interface LogOptions {
  /** Go on with what comes, until nothing is left that may write. Default false. */
  follow?: boolean | undefined;
  /** Only what was written at or after this time; a number is milliseconds since the Unix epoch. */
  since?: Date | number | undefined;
  /** Only what was written before this time. */
  until?: Date | number | undefined;
  /** Only the last lines of what there is, this many. */
  tail?: number | undefined;
  /** Only this stream. Default: both, in the order in which the host has read them. */
  stream?: LogStream | undefined;
  /** Ends the loop, which then throws the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** A piece of a log, as the host has read it: it may begin and end anywhere. */
export interface LogChunk {
  /** When it was read from the process: milliseconds since the Unix epoch, with fractions. */
  time: number;
  /** Where it was written to. */
  stream: LogStream;
  /** The process that the stream was given to, by its id on the host; 0 where that was lost. */
  pid: number;
  /** What was written. */
  data: Uint8Array;
}

/** A line of a log. */
export interface LogLine extends Omit<LogChunk, "data"> {
  /** The line, without its newline; what is not UTF-8 is U+FFFD. */
  text: string;
}

/** `logs` of either form. */
export interface Logs {
  /** The same as bytes, as they were read. */
  (options: LogOptions & { encoding: "buffer" }): AsyncGenerator<LogChunk, void, void>;
  /**
   * What processes have written to streams that were `"log"`, line by line. It is there for as long as the
   * subcontainer; of more than its bounds, the newest part.
   *
   * ```ts
   * for await (const { stream, text } of sub.logs({ follow: true, tail: 10 })) console.log(stream, text);
   * ```
   */
  (options?: LogOptions & { encoding?: "utf8" | undefined }): AsyncGenerator<LogLine, void, void>;
}

/** Bytes of a frame's head: time (u64), length (u32), process id × 4 + stream (u32), little-endian. */
const HEAD = 16;

/** Reads a log in pieces. */
export async function* chunks(
  host: HostConnection,
  guid: string,
  options: LogOptions,
): AsyncGenerator<LogChunk, void, void> {
  const { signal } = options;
  signal?.throwIfAborted();
  const params = wanted(guid, options);
  const channel = Channel.log(host.socketPath, params);
  const stop = (): void => {
    channel.destroy(new Error("aborted"));
  };
  signal?.addEventListener("abort", stop, { once: true });
  let held: Buffer = Buffer.alloc(0);
  try {
    for await (const bytes of channel as AsyncIterable<Buffer>) {
      held = held.length === 0 ? bytes : Buffer.concat([held, bytes]);
      for (let end = frameEnd(held); end !== undefined; end = frameEnd(held)) {
        const frame = held.subarray(0, end);
        held = held.subarray(end);
        yield chunk(frame);
      }
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", stop);
    channel.destroy();
  }
  if (held.length > 0) {
    throw new ConnectionError("lost", host.socketPath, "the host closed the connection of logs in a frame");
  }
}

function frameEnd(bytes: Buffer): number | undefined {
  if (bytes.length < HEAD) return undefined;
  const end = HEAD + bytes.readUInt32LE(8);
  return bytes.length < end ? undefined : end;
}

function chunk(frame: Buffer): LogChunk {
  const source = frame.readUInt32LE(12);
  return {
    time: Number(frame.readBigUInt64LE(0) / 1000n) / 1000,
    stream: (source & 3) === 1 ? "stdout" : "stderr",
    pid: source >>> 2,
    data: frame.subarray(HEAD),
  };
}

/** What a stream of a process has begun to write. */
interface Begun extends Omit<LogLine, "text"> {
  decoder: StringDecoder;
  text: string;
}

/** Makes lines of pieces, for each stream of each process by itself. What has no newline at its end is a line, too. */
export async function* logLines(from: AsyncIterable<LogChunk>): AsyncGenerator<LogLine, void, void> {
  const all = new Map<string, Begun>();
  for await (const { time, stream, pid, data } of from) {
    const key = `${stream}${pid}`;
    const begun = all.get(key) ?? { time, stream, pid, text: "", decoder: new StringDecoder("utf8") };
    all.set(key, begun);
    const text = begun.decoder.write(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
    const parts = text.split("\n");
    const rest = parts.pop() ?? "";
    for (const part of parts) {
      yield { time: begun.text === "" ? time : begun.time, stream, pid, text: begun.text + part };
      begun.text = "";
    }
    if (begun.text === "") begun.time = time;
    begun.text += rest;
    if (begun.text.length >= LONGEST_LINE) {
      yield { time: begun.time, stream, pid, text: begun.text };
      begun.text = "";
    }
  }
  for (const { decoder, text, time, stream, pid } of all.values()) {
    const rest = text + decoder.end();
    if (rest !== "") yield { time, stream, pid, text: rest };
  }
}

function wanted(guid: string, options: LogOptions): LogsParams {
  const { follow, since, until, tail, stream } = options;
  const time = (value: Date | number): number => {
    const milliseconds = Math.ceil(Number(value));
    if (!(milliseconds >= 0)) throw new RangeError(`not a time: ${value}`);
    return milliseconds;
  };
  if (tail !== undefined && !(Number.isSafeInteger(tail) && tail >= 0)) {
    throw new RangeError(`not a number of lines: ${tail}`);
  }
  return {
    guid,
    ...(follow ? { follow } : {}),
    ...(since === undefined ? {} : { since: time(since) }),
    ...(until === undefined ? {} : { until: time(until) }),
    ...(tail === undefined ? {} : { tail }),
    ...(stream === undefined ? {} : { stream }),
  };
}
