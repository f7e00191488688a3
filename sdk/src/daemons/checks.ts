/**
 * The checks that there are, for `ready` and for functions of one's own. All look from inside: at the container's own
 * network, with the container's own programs.
 */

import type { HostConnection } from "../client/host-connection.ts";
import { connectInside } from "../client/inside.ts";
import { ConnectionError } from "../errors.ts";
import type { CommandOptions } from "../process/options.ts";
import { describe } from "../process/outcome.ts";
import type { SubContainerLazy } from "../subcontainer/lazy.ts";
import type { SubContainer } from "../subcontainer/subcontainer.ts";
import { askHttp } from "./http.ts";
import type { HealthCheckResult } from "./plan.ts";
import type { Check, CheckContext } from "./ready.ts";

/** What daemons run in: a handle, or one that makes it when it is needed. */
export type Sub = SubContainer | SubContainerLazy;

/** The handle itself, made where it was not yet. */
export async function eager(sub: Sub): Promise<SubContainer> {
  return "eager" in sub ? sub.eager() : sub;
}

const PORT_TIMEOUT = 1000;
/** Characters of what a command printed that a message holds. */
const MESSAGE = 300;

/** Success when something listens at a TCP port in the subcontainer's own network. */
export async function checkPortListening(
  host: HostConnection,
  subcontainer: Sub,
  port: number,
  options: {
    successMessage?: string | null;
    errorMessage?: string;
    /** An IP address there. Default: its loopback, 127.0.0.1 and ::1. */
    address?: string | undefined;
    /** Milliseconds. Default 1000. */
    timeout?: number | undefined;
    signal?: AbortSignal | undefined;
  } = {},
): Promise<HealthCheckResult> {
  const { address, timeout = PORT_TIMEOUT, signal } = options;
  try {
    const guid = await subcontainer.guid;
    const stream = await connectInside(host, { guid, port, address, timeout, signal });
    stream.destroy();
    return { result: "success", message: options.successMessage ?? null };
  } catch (error) {
    return failed(error, options.errorMessage);
  }
}

/**
 * Success when a web server in the subcontainer's own network answers. No redirect is followed, and of the answer only
 * the first line is read.
 */
export async function checkWebUrl(
  host: HostConnection,
  subcontainer: Sub,
  url: string,
  options: {
    successMessage?: string | null;
    errorMessage?: string;
    /** An IP address there. Default: its loopback, whatever host the URL names. */
    address?: string | undefined;
    /** Which answers are success. Default: all. */
    status?: ((code: number) => boolean) | undefined;
    /** Milliseconds. Default 1000. */
    timeout?: number | undefined;
    signal?: AbortSignal | undefined;
  } = {},
): Promise<HealthCheckResult> {
  const { address, timeout = PORT_TIMEOUT, signal } = options;
  try {
    const guid = await subcontainer.guid;
    const code = await askHttp(host, { guid, url, address, timeout, signal });
    if (options.status !== undefined && !options.status(code)) {
      return failure(options.errorMessage ?? `${url} answers ${code}`);
    }
    return { result: "success", message: options.successMessage ?? null };
  } catch (error) {
    return failed(error, options.errorMessage);
  }
}

/** Success when a command inside ends with exit code 0. */
export async function runHealthScript(
  command: readonly string[],
  subcontainer: Sub,
  options: {
    /** Makes the message of a success of what was printed. */
    message?: (stdout: string) => string;
    errorMessage?: string;
    /** Milliseconds. Default 30,000. */
    timeout?: number | undefined;
    signal?: AbortSignal | undefined;
    command?: CommandOptions | undefined;
  } = {},
): Promise<HealthCheckResult> {
  const { timeout = 30_000, signal } = options;
  const result = await subcontainer.exec(command, {
    ...options.command,
    timeout,
    signal,
    maxBuffer: 64 * 1024,
  });
  if (result.exitCode === 0) return { result: "success", message: options.message?.(result.stdout) ?? null };
  const said = shortened(result.stderr.trim() === "" ? result.stdout : result.stderr);
  const how = `${command[0] ?? "the command"} ${describe(result.outcome)}`;
  return failure(options.errorMessage ?? (said === "" ? how : `${how}: ${said}`));
}

/** Carries out a check as it stands in `ready`. */
export async function look(
  check: Check,
  context: Omit<CheckContext, "subcontainer"> & {
    host: HostConnection;
    subcontainer: Sub | null;
    timeout: number;
  },
): Promise<HealthCheckResult> {
  const { host, subcontainer, signal, timeout } = context;
  if ("fn" in check) {
    return check.fn({ subcontainer: subcontainer && (await eager(subcontainer)), signal });
  }
  if (subcontainer === null) return failure("there is no subcontainer to look into");
  if ("exec" in check) {
    const command = "command" in check.exec ? check.exec.command : check.exec;
    const { command: _, ...inside } = "command" in check.exec ? check.exec : { command };
    return runHealthScript(command, subcontainer, { timeout, signal, command: inside });
  }
  if ("script" in check) {
    return runHealthScript(["/bin/sh", "-c", check.script], subcontainer, { timeout, signal });
  }
  if ("port" in check) {
    const { port, address } =
      typeof check.port === "number" ? { port: check.port, address: undefined } : check.port;
    return checkPortListening(host, subcontainer, port, { address, timeout, signal });
  }
  const http = typeof check.http === "string" ? { url: check.http } : check.http;
  return checkWebUrl(host, subcontainer, http.url, {
    address: http.address,
    status: http.status ?? ((code) => code >= 200 && code < 400),
    timeout,
    signal,
  });
}

function failure(message: string): HealthCheckResult {
  return { result: "failure", message };
}

/** That there is no host says nothing about what was looked at. */
function failed(error: unknown, message: string | undefined): HealthCheckResult {
  if (error instanceof ConnectionError) throw error;
  return failure(message ?? (error instanceof Error ? error.message : String(error)));
}

/** What a container has printed is shown to people: on one line, and without what a terminal obeys. */
function shortened(text: string): string {
  const trimmed = text.trim().replaceAll(/\p{Cc}+/gu, " ");
  return trimmed.length > MESSAGE ? `…${trimmed.slice(-MESSAGE)}` : trimmed;
}
