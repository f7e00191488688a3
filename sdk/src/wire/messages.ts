/**
 * JSON-RPC 2.0 messages: how a request is written and what may come back. Pure; knows no socket.
 */
import { Buffer } from "node:buffer";
import type { ErrorData, Methods, Notifications, PackageMethods } from "../generated/protocol.ts";

/** The name of a request. */
export type MethodName = keyof Methods;

/** What the host sends. */
export type Incoming =
  | { type: "result"; id: number; result: unknown }
  | { type: "error"; id: number; code: number; message: string; data?: Partial<ErrorData> }
  | { type: "notification"; method: string; params: unknown };

/** `JSON.stringify` writes half of a surrogate pair as an escape, which is not valid JSON text for others. */
const LONE_SURROGATE = /(?:^|[^\\])(?:\\\\)*\\ud[89a-f]/;

function body(params: unknown): string {
  const json = JSON.stringify(params);
  if (!json.includes("\\ud") || !LONE_SURROGATE.test(json)) return json;
  const whole = JSON.stringify(params, (_, value) =>
    typeof value === "string" ? Buffer.from(value, "utf8").toString("utf8") : value,
  );
  if (LONE_SURROGATE.test(whole)) throw new TypeError("a name holds half of a surrogate pair");
  return whole;
}

type AnyMethods = Methods & PackageMethods;

/** Writes a request, with its newline: of the host's socket, or a package's. */
export function encodeRequest<M extends keyof AnyMethods>(
  id: number,
  method: M,
  params: AnyMethods[M]["params"],
): string {
  return `{"jsonrpc":"2.0","id":${id},"method":"${method}","params":${body(params)}}\n`;
}

/** Writes a notification, with its newline. */
export function encodeNotification<N extends keyof Notifications>(
  method: N,
  params: Notifications[N],
): string {
  return `{"jsonrpc":"2.0","method":"${method}","params":${body(params)}}\n`;
}

/**
 * Reads one line.
 *
 * @throws SyntaxError when it is not JSON, TypeError when it is no JSON-RPC message
 */
export function decode(line: string): Incoming {
  const message = JSON.parse(line) as Record<string, unknown> | null;
  if (typeof message !== "object" || message === null || message.jsonrpc !== "2.0") {
    throw new TypeError("not a JSON-RPC 2.0 message");
  }
  const id = message.id;
  if (typeof message.method === "string") {
    if (id !== undefined) throw new TypeError("a request from the host");
    return { type: "notification", method: message.method, params: message.params };
  }
  const error = message.error as { code?: unknown; message?: unknown; data?: unknown } | undefined;
  if (typeof error === "object" && error !== null) {
    if (typeof id !== "number") throw new TypeError(`the host refused a message: ${String(error.message)}`);
    return {
      type: "error",
      id,
      code: Number(error.code),
      message: String(error.message),
      ...(typeof error.data === "object" && error.data !== null ? { data: error.data } : {}),
    };
  }
  if (typeof id !== "number" || !("result" in message)) throw new TypeError("neither result nor error");
  return { type: "result", id, result: message.result };
}
