/**
 * One question to a web server inside: HTTP/1.1, one connection, the first line of the answer. The server is not
 * trusted: nothing of it is followed, and no more than that line is kept.
 */
import type { HostConnection } from "../client/host-connection.ts";
import { connectInside } from "../client/inside.ts";

const LONGEST_LINE = 4096;

/**
 * The status of the answer to a GET.
 *
 * @throws Error when there is no such server, or what it says is no HTTP; or the signal's reason
 */
export async function askHttp(
  host: HostConnection,
  options: {
    guid: string;
    url: string;
    address?: string | undefined;
    timeout: number;
    signal?: AbortSignal | undefined;
  },
): Promise<number> {
  const url = new URL(options.url);
  if (url.protocol !== "http:") throw new TypeError(`not an http: URL: ${options.url}`);
  const port = url.port === "" ? 80 : Number(url.port);
  const limit = AbortSignal.timeout(options.timeout);
  const signal = options.signal === undefined ? limit : AbortSignal.any([limit, options.signal]);
  const { guid, address, timeout } = options;
  const stream = await connectInside(host, { guid, port, address, timeout, signal });
  const late = (): void => void stream.destroy(new Error(`no answer within ${timeout} ms`));
  signal.addEventListener("abort", late, { once: true });
  try {
    // A URL's parts hold no line break: the parser has taken those out.
    stream.write(
      `GET ${url.pathname}${url.search} HTTP/1.1\r\nHost: ${url.host}\r\nConnection: close\r\n\r\n`,
    );
    let head = "";
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      head += chunk.toString("latin1");
      const end = head.indexOf("\n");
      if (end === -1 && head.length <= LONGEST_LINE) continue;
      const status = /^HTTP\/1\.[01] ([1-5]\d\d)(?: |\r?\n)/.exec(head.slice(0, LONGEST_LINE));
      if (status !== null) return Number(status[1]);
      break;
    }
    throw new Error(head === "" ? "it closed the connection without an answer" : "it does not speak HTTP");
  } finally {
    signal.removeEventListener("abort", late);
    stream.destroy();
  }
}
