/**
 * The same messages that protocol/tests/golden.rs reads mean the same here.
 */
import { readdirSync, readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, test } from "vitest";
import type { Methods, Notifications } from "../../src/generated/protocol.ts";
import { decode, encodeNotification, encodeRequest } from "../../src/wire/messages.ts";

interface Exchange {
  note: string;
  request: { id: number; method: keyof Methods; params: never };
  response: { id: number; result?: unknown; error?: { code: number; message: string; data?: unknown } };
}

const golden = new URL("../../../protocol/golden/", import.meta.url);
const schema = JSON.parse(readFileSync(new URL("../../../protocol/schema.json", import.meta.url), "utf8"));
const read = (name: string): unknown => JSON.parse(readFileSync(new URL(name, golden), "utf8"));

const ajv = new Ajv2020({ strict: false, validateFormats: false });
ajv.addSchema({ ...schema, $id: "protocol" });

function check(pointer: string[], value: unknown): void {
  const escaped = pointer
    .map((part) => encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1")))
    .join("/");
  const validate = ajv.compile({ $ref: `protocol#/${escaped}` });
  expect(validate(value), `${pointer.join(".")}: ${JSON.stringify(validate.errors)}`).toBe(true);
}

describe("J5: golden messages", () => {
  const methods = readdirSync(golden).filter(
    (name) => name.endsWith(".json") && name !== "notifications.json",
  );
  const ofPackages = readdirSync(new URL("package/", golden)).map((name) => `package/${name}`);
  const ofWorkers = readdirSync(new URL("worker/", golden))
    .filter((name) => name !== "notifications.json")
    .map((name) => `worker/${name}`);
  for (const file of [...methods, ...ofPackages, ...ofWorkers]) {
    const table =
      { "package/": "packageMethods", "worker/": "workerMethods" }[file.slice(0, file.indexOf("/") + 1)] ??
      "methods";
    for (const { note, request, response } of read(file) as Exchange[]) {
      test(`${table}: ${request.method}: ${note}`, () => {
        const line = encodeRequest(request.id, request.method, request.params);
        expect(line.endsWith("\n") && line.indexOf("\n") === line.length - 1).toBe(true);
        expect(JSON.parse(line)).toEqual(request);
        check([table, request.method, "params"], request.params);

        const message = decode(JSON.stringify(response));
        if (response.error === undefined) {
          expect(message).toEqual({ type: "result", id: response.id, result: response.result });
          check([table, request.method, "result"], response.result);
        } else {
          expect(message).toEqual({ type: "error", id: response.id, ...response.error });
          if (response.error.data !== undefined) check(["errorData"], response.error.data);
        }
      });
    }
  }

  test("notifications, both ways", () => {
    const messages = read("notifications.json") as { method: keyof Notifications; params: never }[];
    for (const { method, params } of messages) {
      check(["notifications", method, "params"], params);
      expect(decode(encodeNotification(method, params))).toEqual({ type: "notification", method, params });
    }
  });
});
