/**
 * A package of the tests on their host, and its socket. The tests speak in the package's place, as root of the machine may.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inject } from "vitest";
import { connectHost, type PackageHost } from "../../src/index.ts";
import { binary } from "./setup.ts";

/** See the module. Nothing of it is there before {@link TestPackage.directory}: where every test is left out, nothing is. */
export class TestPackage {
  readonly id: string;
  readonly #work: string;

  constructor(id: string) {
    this.id = id;
    this.#work = join(tmpdir(), `${id}-${process.pid}`);
  }

  /** Makes the directory for what is in it. */
  directory(): string {
    const directory = join(this.#work, this.id);
    mkdirSync(directory, { recursive: true });
    return directory;
  }

  /** Packs what is in the directory, and activates it with all that it asks for. */
  activate(manifest: object): void {
    const directory = this.directory();
    const named = { manifest: 1, id: this.id, name: this.id, version: "1.0.0", ...manifest };
    writeFileSync(join(directory, "manifest.json"), JSON.stringify(named));
    const [key, bundle] = [join(this.#work, "key"), join(this.#work, "bundle")];
    this.#cli("trust", "add", this.#cli("keygen", key), "--name", this.id, "--package", this.id);
    this.#cli("pack", directory, "-o", bundle, "--key", key);
    this.#cli("install", bundle);
    this.#cli("grant", this.id, "--all");
    this.#cli("activate", this.id);
  }

  connect(): Promise<PackageHost> {
    const socket = join(inject("dataDir"), "packages", this.id, "rpc/host.sock");
    return connectHost({ socket, client: "tests" });
  }

  /** With its data and its directory. */
  remove(): void {
    this.#cli("disable", this.id);
    this.#cli("remove", this.id, "--data");
    rmSync(this.#work, { recursive: true });
  }

  #cli(...args: string[]): string {
    return execFileSync(binary(), ["--data-dir", inject("dataDir"), "package", ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    }).trim();
  }
}
