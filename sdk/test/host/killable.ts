/**
 * A host that can be killed and started again: its mounts are in the mount namespace of a `sleep` that outlives it.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ConnectOptions, connect, type Host } from "../../src/index.ts";
import { commandLines, until } from "./look.ts";
import { binary, busyboxTar } from "./setup.ts";

/** See the module. */
export class KillableHost {
  readonly #dir: string;
  readonly #keeper: ChildProcess;
  readonly #flags: readonly string[];
  #daemon: ChildProcess | undefined;

  private constructor(dir: string, keeper: ChildProcess, flags: readonly string[]) {
    this.#dir = dir;
    this.#keeper = keeper;
    this.#flags = flags;
  }

  /**
   * Starts one that has busybox.
   *
   * @param options - `disk`: its data directory is a file system of so many bytes; `flags`: of the daemon
   */
  static async start(options: { disk?: number; flags?: readonly string[] } = {}): Promise<KillableHost> {
    const dir = mkdtempSync(join(tmpdir(), "start-container-sdk-"));
    mkdirSync(join(dir, "data"));
    const sleep = ["--mount", "--propagation", "private", "sleep", "100000"];
    const keeper = spawn("unshare", sleep, { stdio: "ignore" });
    await until("it is there", () => existsSync(`/proc/${keeper.pid}/ns/mnt`));
    await new Promise((done) => setTimeout(done, 100));
    const host = new KillableHost(dir, keeper, options.flags ?? []);
    if (options.disk !== undefined) {
      const mount = ["mount", "-t", "tmpfs", "-o", `size=${options.disk}`, "data", join(dir, "data")];
      execFileSync("nsenter", [...host.#inside(), ...mount]);
    }
    await host.startAgain();
    await using connection = await host.connect();
    await connection.images.import(await busyboxTar(dir), { name: "busybox" });
    return host;
  }

  /** After {@link end}. */
  async startAgain(): Promise<void> {
    const daemon = spawn("nsenter", [...this.#inside(), ...this.#command()], { stdio: "ignore" });
    this.#daemon = daemon;
    await until(
      "it answers",
      async () => {
        try {
          (await this.connect({ reconnect: 0 })).close();
          return true;
        } catch {
          return false;
        }
      },
      20_000,
    );
  }

  /** Another program in its place: the same, here. */
  async replace(): Promise<void> {
    const asks = spawn("nsenter", [...this.#inside(), ...this.#command(), "--replace"], { stdio: "ignore" });
    await new Promise((done) => asks.once("exit", done));
  }

  /** Ends it, if it runs. */
  async end(signal: NodeJS.Signals): Promise<void> {
    const ending = this.#daemon;
    if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) return;
    const ended = new Promise((done) => ending.once("exit", done));
    ending.kill(signal);
    await ended;
  }

  /** Ends it in order, and removes what it had. */
  async remove(): Promise<void> {
    await this.end("SIGTERM");
    this.#keeper.kill("SIGKILL");
    await this.#keeperIsGone();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  connect(options: Omit<ConnectOptions, "dataDir"> = {}): Promise<Host> {
    return connect({ ...options, dataDir: this.path(join(this.#dir, "data")) });
  }

  /** A path as the host sees it, for this program. */
  path(path: string): string {
    return `/proc/${this.#keeper.pid}/root${path}`;
  }

  /** Its data directory, for this program. */
  get data(): string {
    return this.path(join(this.#dir, "data"));
  }

  /** Nobody asks for the ends of what is gone: who keeps them goes with the host. */
  async #keeperIsGone(): Promise<void> {
    const keeper = `start-container-keeper kept for ${join(this.#dir, "data")}`;
    await until("its keeper is gone", () => !commandLines().includes(keeper));
  }

  #inside(): string[] {
    return ["--target", String(this.#keeper.pid), "--mount"];
  }

  #command(): string[] {
    const where = ["--data-dir", join(this.#dir, "data"), "--run-dir", join(this.#dir, "run")];
    return [binary(), "daemon", ...where, ...this.#flags];
  }
}
