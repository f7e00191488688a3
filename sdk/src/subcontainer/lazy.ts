/**
 * A handle that creates its subcontainer at its first use.
 */
import "../polyfill.ts";
import type { HostConnection } from "../client/host-connection.ts";
import { DestroyedError } from "../errors.ts";
import { type Content, Files, type WriteOptions } from "../files/files.ts";
import type { Limits, StatsResult, SubcontainerInfo } from "../generated/protocol.ts";
import { listed, type MountArray, type Mounts } from "../mounts/mounts.ts";
import type { Process } from "../process/process.ts";
import type { LaunchOptions, RunOptions, SpawnOptions } from "./commands.ts";
import { SubContainerOwned } from "./owned.ts";
import type {
  Abort,
  Exec,
  ExecFail,
  ImageOptions,
  StopOptions,
  Stopped,
  WatchOptions,
} from "./subcontainer.ts";

/** See the module. One that was never used has nothing to destroy. */
export class SubContainerLazy implements AsyncDisposable {
  /** The image that was asked for. */
  readonly imageId: string;
  /** Its files, in the shape of `node:fs/promises`. */
  readonly files: Files;
  /** What it makes, as text: two that would make the same have the same. */
  readonly descriptor: string;
  readonly #create: () => Promise<SubContainerOwned>;
  #owned: Promise<SubContainerOwned> | undefined;
  #destroyed = false;

  constructor(
    host: HostConnection,
    image: ImageOptions,
    mounts: Mounts | MountArray | null = null,
    name?: string | null,
  ) {
    this.imageId = image.imageId;
    this.descriptor = JSON.stringify([
      { ...image, sandbox: typeof image.sandbox === "object" ? image.sandbox.guid : image.sandbox },
      mounts === null ? null : listed(mounts),
      name,
    ]);
    this.#create = () => SubContainerOwned.of(host, image, mounts, name);
    this.files = new Files(
      async () => {
        await this.eager();
        return host;
      },
      () => this.guid,
    );
  }

  /**
   * Creates it, where that has not happened yet. A creation that failed is tried again by the next call.
   *
   * @throws DestroyedError after `destroy`
   */
  eager(): Promise<SubContainerOwned> {
    if (this.#destroyed) return Promise.reject(new DestroyedError("eager"));
    this.#owned ??= this.#create().catch((error: unknown) => {
      this.#owned = undefined;
      throw error;
    });
    return this.#owned;
  }

  /** Whether it was created. */
  get created(): boolean {
    return this.#owned !== undefined;
  }

  /** Where the rootfs is mounted on the host. Creates it. */
  get rootfs(): Promise<string> {
    return this.eager().then((owned) => owned.rootfs);
  }

  /** Its id. Creates it. */
  get guid(): Promise<string> {
    return this.eager().then((owned) => owned.guid);
  }

  /** `path` inside as a path on the host. */
  async subpath(path: string): Promise<string> {
    return (await this.eager()).subpath(path);
  }

  /** See `SubContainer.mount`. */
  async mount(mounts: Mounts | MountArray): Promise<this> {
    await (await this.eager()).mount(mounts);
    return this;
  }

  /** See `SubContainer.unmount`. */
  async unmount(mountpoint: string): Promise<void> {
    await (await this.eager()).unmount(mountpoint);
  }

  /** See `SubContainer.exec`. */
  readonly exec: Exec = (async (
    command: readonly string[],
    options?: RunOptions & { encoding: "buffer" },
    timeoutMs?: number | null,
    abort?: Abort,
  ) => (await this.eager()).exec(command, options!, timeoutMs, abort)) as unknown as Exec;

  /** See `SubContainer.execFail`. */
  readonly execFail: ExecFail = (async (
    command: readonly string[],
    options?: RunOptions & { encoding: "buffer" },
    timeoutMs?: number | null,
    abort?: Abort,
  ) => (await this.eager()).execFail(command, options!, timeoutMs, abort)) as unknown as ExecFail;

  /** See `SubContainer.launch`. */
  async launch(command: readonly string[] | null, options?: LaunchOptions): Promise<Process> {
    return (await this.eager()).launch(command, options);
  }

  /** See `SubContainer.lead`. */
  async lead(options?: LaunchOptions): Promise<void> {
    return (await this.eager()).lead(options);
  }

  /** See `SubContainer.spawn`. */
  async spawn(command: readonly string[], options?: SpawnOptions): Promise<Process> {
    return (await this.eager()).spawn(command, options);
  }

  /** See `SubContainer.writeFile`. */
  async writeFile(
    path: string,
    data: Content,
    options?: BufferEncoding | WriteOptions | null,
  ): Promise<void> {
    await (await this.eager()).writeFile(path, data, options);
  }

  /** See `SubContainer.readFile`. */
  readonly readFile: Files["readFile"] = (async (path: string, options: { encoding: BufferEncoding }) =>
    this.files.readFile(path, options)) as Files["readFile"];

  /** See `SubContainer.stop`. */
  async stop(options?: StopOptions): Promise<Stopped> {
    return (await this.eager()).stop(options);
  }

  /** See `SubContainer.inspect`. */
  async inspect(): Promise<SubcontainerInfo> {
    return (await this.eager()).inspect();
  }

  /** See `SubContainer.stats`. */
  async stats(): Promise<StatsResult> {
    return (await this.eager()).stats();
  }

  /** See `SubContainer.watchStats`. */
  async *watchStats(options?: WatchOptions): AsyncGenerator<StatsResult, void, undefined> {
    yield* (await this.eager()).watchStats(options);
  }

  /** See `SubContainer.update`. */
  async update(options: { limits: Limits }): Promise<Limits> {
    return (await this.eager()).update(options);
  }

  /** See `SubContainer.hold`. */
  async hold(): Promise<() => Promise<void>> {
    return (await this.eager()).hold();
  }

  /** See `SubContainer.detach`. */
  async detach(): Promise<string> {
    return (await this.eager()).detach();
  }

  /** Destroys it, where it was created; nothing can be done with the handle afterwards. */
  readonly destroy: () => Promise<null> = async () => {
    this.#destroyed = true;
    const owned = await this.#owned?.catch(() => undefined);
    return owned === undefined ? null : owned.destroy();
  };

  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy();
  }
}
