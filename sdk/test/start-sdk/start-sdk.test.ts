/**
 * S27: the `@start9labs/start-sdk` package, unmodified, drives this host.
 *
 * Everything happens in a mount namespace of its own: /media is empty there, the host serves it at /media/startos,
 * and start-container lies in /usr/bin, where a client that was given an environment of its own looks for it.
 */
import { execFileSync, spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { binary, busyboxTar } from "../host/setup.ts";
import { type Client, newest, startSdk } from "./install.ts";

const clients: Client[] = [
  newest,
  {
    name: "the newest release with SubContainerOwned",
    version: "1.5.3",
    major: "1",
    variable: "START_SDK_1",
  },
];

let dir: string;
let archive: string;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "start-sdk-"));
  archive = await busyboxTar(dir);
  mkdirSync(join(dir, "bin"));
  copyFileSync(binary(), join(dir, "bin/start-container"));
});

afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe("S27", () => {
  for (const client of clients) {
    test(`${client.name}, ${client.version}, unmodified`, { timeout: 300_000 }, async ({ skip }) => {
      expect(
        existsSync(fileURLToPath(new URL("../../dist/index.js", import.meta.url))),
        "npm run build",
      ).toBe(true);
      const installed = startSdk(client, dir);
      if ("reason" in installed) {
        skip(installed.reason);
        return;
      }
      const script = `
        mount -t tmpfs tmpfs /media && mkdir /media/startos &&
        mount -t tmpfs tmpfs /run && mkdir -p /run/lock &&
        mount -t overlay overlay -o "lowerdir=$1:/usr/bin" /usr/bin && shift && exec "$@"`;
      const drive = fileURLToPath(new URL("drive.mjs", import.meta.url));
      const child = spawn(
        "unshare",
        [
          ...["--mount", "--propagation", "private", "sh", "-euc", script, "sh", join(dir, "bin")],
          ...[process.execPath, drive, installed.project, client.major, archive],
        ],
        { stdio: ["ignore", "pipe", "pipe"], timeout: 240_000 },
      );
      let out = "";
      let err = "";
      child.stdout.on("data", (chunk) => {
        out += chunk;
      });
      child.stderr.on("data", (chunk) => {
        err += chunk;
      });
      const code = await new Promise((done) => child.once("close", done));
      const promises = out
        .split("\n")
        .filter((line) => line.startsWith('{"name"'))
        .map((line) => JSON.parse(line) as { name: string; error?: string });
      expect(
        promises.filter(({ error }) => error !== undefined),
        err,
      ).toEqual([]);
      expect([code, promises.length], `${out}\n${err}`).toEqual([0, client.major === "1" ? 11 : 12]);
      expect(execFileSync("cat", ["/proc/self/mountinfo"], { encoding: "utf8" })).not.toContain(
        "/media/startos",
      );
    });
  }
});
