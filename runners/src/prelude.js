// What is in an isolate before the package's code is: what a function is given and may return, and the little of the web's
// own names that a function of a few lines needs. It protects nothing: what comes out of an isolate is a stranger's, and
// Rust and the host look at it again.

export default function start(native) {
  const { toBase64 } = Uint8Array.prototype;
  const base64 = (value) => toBase64.call(value);
  const waiting = new Map();
  const timers = new Map();
  let lastTimer = 0;

  class HostError extends Error {
    constructor(error) {
      super(error.message);
      this.kind = error.data?.kind;
      if (error.data?.missing !== undefined) this.missing = error.data.missing;
    }
  }
  Object.defineProperty(HostError.prototype, "name", { value: "HostError" });

  const call = (method, params = {}) =>
    new Promise((resolve, reject) => {
      waiting.set(native.send(String(method), JSON.stringify(params)), { resolve, reject });
    });

  const host = Object.freeze({
    call,
    kv: (group) =>
      Object.freeze({
        async get(key) {
          const { value, revision } = await call("kv.get", { group, key });
          return { value: revision === 0 ? undefined : value, revision };
        },
        async set(key, value, options = {}) {
          return (await call("kv.set", { group, key, value, ...options })).revision;
        },
        async update(key, change) {
          for (;;) {
            const { value, revision } = await this.get(key);
            const changed = change(value);
            try {
              await this.set(key, changed, { ifRevision: revision });
              return changed;
            } catch (error) {
              if (error?.kind !== "conflict") throw error;
            }
          }
        },
        async delete(key, options = {}) {
          return (await call("kv.delete", { group, key, ...options })).deleted;
        },
        async *list(prefix = "") {
          for (let after; ; ) {
            const page = await call("kv.list", { group, prefix, ...(after === undefined ? {} : { after }) });
            yield* page.keys;
            if (!page.more) return;
            after = page.keys.at(-1)?.key;
          }
        },
      }),
    log: async (message, level = "info") => void (await call("log.write", { level, message: String(message) })),
  });

  const text = (value) => {
    if (typeof value === "string") return value;
    if (value instanceof Error) return `${value}\n${value.stack ?? ""}`.trimEnd();
    try {
      return JSON.stringify(value) ?? String(value);
    } catch {
      return String(value);
    }
  };
  const print = (...values) => native.print(values.map(text).join(" "));
  globalThis.console = { debug: print, log: print, info: print, warn: print, error: print };

  globalThis.setTimeout = (callback, delay = 0, ...values) => {
    const wait = Math.max(0, Number(delay) || 0);
    timers.set(++lastTimer, { at: native.now() + wait, run: () => callback(...values) });
    return lastTimer;
  };
  globalThis.clearTimeout = (timer) => void timers.delete(timer);

  class TextEncoder {
    get encoding() {
      return "utf-8";
    }
    encode(value = "") {
      return native.encode(String(value));
    }
  }
  class TextDecoder {
    get encoding() {
      return "utf-8";
    }
    decode(value = new Uint8Array()) {
      return native.decode(base64(bytes(value)));
    }
  }
  Object.assign(globalThis, { TextEncoder, TextDecoder });

  const bytes = (value) => {
    if (typeof value === "string") return native.encode(value);
    if (value instanceof Uint8Array) return value;
    if (value instanceof ArrayBuffer) return new Uint8Array(value);
    if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    throw new TypeError("a body is text, bytes, or an iterable of these");
  };

  /** As the web's: names in lower case, values that have several joined. */
  class Headers {
    #all = new Map();
    constructor(from = []) {
      const entries = typeof from[Symbol.iterator] === "function" ? from : Object.entries(from);
      for (const [name, value] of entries) this.append(name, value);
    }
    append(name, value) {
      const key = String(name).toLowerCase();
      this.#all.set(key, [...(this.#all.get(key) ?? []), String(value)]);
    }
    set(name, value) {
      this.#all.set(String(name).toLowerCase(), [String(value)]);
    }
    get(name) {
      return this.#all.get(String(name).toLowerCase())?.join(", ") ?? null;
    }
    has(name) {
      return this.#all.has(String(name).toLowerCase());
    }
    delete(name) {
      this.#all.delete(String(name).toLowerCase());
    }
    *entries() {
      for (const [name, values] of this.#all) for (const value of values) yield [name, value];
    }
    [Symbol.iterator]() {
      return this.entries();
    }
  }

  class Response {
    constructor(body = null, { status = 200, headers = [] } = {}) {
      this.status = status;
      this.headers = new Headers(headers);
      this.body = body;
      if (typeof body === "string" && !this.headers.has("content-type")) {
        this.headers.set("content-type", "text/plain; charset=utf-8");
      }
    }
    static json(value, init = {}) {
      const headers = new Headers(init.headers ?? []);
      if (!headers.has("content-type")) headers.set("content-type", "application/json");
      return new Response(JSON.stringify(value), { ...init, headers });
    }
  }
  Object.assign(globalThis, { Headers, Response });

  const plus = (value) => {
    try {
      return decodeURIComponent(value.replaceAll("+", " "));
    } catch {
      return value;
    }
  };
  const query = (value) => {
    const found = Object.create(null);
    for (const part of value.split("&")) {
      if (part === "") continue;
      const at = part.indexOf("=");
      const [name, content] = at < 0 ? [part, ""] : [part.slice(0, at), part.slice(at + 1)];
      found[plus(name)] ??= plus(content);
    }
    return found;
  };

  const request = (given, body) => ({
    method: given.method,
    path: given.path,
    url: given.query === "" ? given.path : `${given.path}?${given.query}`,
    query: query(given.query),
    headers: new Headers(given.headers),
    body,
    text: async () => native.decode(base64(body)),
    json: async () => JSON.parse(native.decode(base64(body))),
  });

  const response = (value) => {
    if (value === undefined || value === null) return new Response(null, { status: 204 });
    if (value instanceof Response) return value;
    if (typeof value === "string") return new Response(value);
    if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) {
      return new Response(value, { headers: { "content-type": "application/octet-stream" } });
    }
    if (typeof value === "object" && ("status" in value || "headers" in value || "body" in value)) {
      return new Response(value.body ?? null, { status: value.status, headers: value.headers ?? [] });
    }
    throw new TypeError("it returned neither a Response, nor { status, headers, body }, nor text or bytes");
  };

  /** The parts of a body, each no longer than that. */
  async function* parts(body, most) {
    if (body === null || body === undefined) return;
    const single = typeof body === "string" || body instanceof ArrayBuffer || ArrayBuffer.isView(body);
    for await (const part of single ? [body] : body) {
      const whole = bytes(part);
      for (let at = 0; at < whole.length; at += most) yield whole.subarray(at, at + most);
    }
  }

  return {
    /** A call has its answer. */
    settle(id, failed, answer) {
      const { resolve, reject } = waiting.get(id) ?? {};
      waiting.delete(id);
      if (failed) reject?.(new HostError(JSON.parse(answer)));
      else resolve?.(JSON.parse(answer));
    },
    /** Milliseconds until the next timer; below 0: there is none. */
    due() {
      let next = -1;
      for (const { at } of timers.values()) if (next < 0 || at < next) next = at;
      return next < 0 ? -1 : Math.max(0, next - native.now());
    },
    /** Runs the timers whose time has come. */
    fire() {
      const now = native.now();
      const due = [...timers].filter(([, { at }]) => at <= now).sort(([, one], [, other]) => one.at - other.at);
      for (const [timer, { run }] of due) if (timers.delete(timer)) run();
    },
    /** Whether this is what a function's module must export. */
    isFunction: (value) => typeof value === "function" || typeof value?.fetch === "function",
    /** Answers a request: its head as JSON, and its body part by part, in base64; null behind the last. */
    async fetch(handler, given, body, most) {
      const run = typeof handler === "function" ? handler : handler.fetch.bind(handler);
      const asked = request(JSON.parse(given), Uint8Array.fromBase64(body));
      const { status, headers, body: content } = response(await run(asked, host));
      const rest = parts(content, most);
      return {
        head: JSON.stringify({ status, headers: [...headers] }),
        next: async () => {
          const { done, value } = await rest.next();
          return done ? null : base64(value);
        },
      };
    },
    /** Runs what was due at a time. */
    async run(handler, scheduled) {
      await handler({ scheduledTime: scheduled }, host);
    },
  };
}
