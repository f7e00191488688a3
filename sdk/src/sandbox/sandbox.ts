/**
 * Sandboxes: what subcontainers that belong together share, and what bounds them.
 */
import "../polyfill.ts";
import type { HostConnection } from "../client/host-connection.ts";
import type { Limits, Network, SandboxInfo } from "../generated/protocol.ts";
import { Core } from "../subcontainer/core.ts";
import { Place } from "../subcontainer/place.ts";

/** What a new sandbox is. */
export interface SandboxOptions {
  /** A name for people, and its hostname where it can be one. */
  name?: string | undefined;
  /** An image for the sandbox's own processes. Default: an empty rootfs, in which only what is mounted can run. */
  imageId?: string | undefined;
  /** The network of everything in it: none (the default) or a private one. Never the machine's. */
  network?: Network | undefined;
  /** What everything in it may use together. Default: no limits. */
  limits?: Limits | undefined;
  /** What is written to its rootfs need not survive a crash of the machine. */
  throwaway?: boolean | undefined;
  /** It outlives this connection. Default false: it is destroyed when the connection ends. */
  detached?: boolean | undefined;
}

/**
 * The outer boundary of subcontainers that belong together: users, network, ipc, process ids, `/dev`, `/sys`, `/run` and
 * limits of its own. Subcontainers are made in it with `SubContainer.of(host, { imageId, sandbox })`. What is in one
 * sandbox does not reach another, and everything in one ends with it.
 *
 * ```ts
 * await using sandbox = await Sandbox.of(host, { network: { mode: "private" }, limits: { memoryBytes: 2 ** 29 } });
 * const db = await SubContainer.of(host, { imageId: "postgres", sandbox });
 * const web = await SubContainer.of(host, { imageId: "web", sandbox });
 * ```
 */
export class Sandbox extends Place implements AsyncDisposable {
  readonly #core: Core;

  private constructor(host: HostConnection, info: SandboxInfo, detached: boolean) {
    const { guid, rootfs, imageId = "" } = info;
    const core = new Core(host, { guid, rootfs, imageId, detached }, "sandbox.destroy");
    // Its init does.
    core.led = true;
    super(core);
    this.#core = core;
  }

  /**
   * Creates a sandbox and starts it. Whoever gets it has to destroy it; the end of the connection does so too, unless it
   * is detached.
   *
   * @throws HostError when the image is unknown, or the network or a limit cannot be had; nothing is left then
   */
  static of(host: HostConnection, options: SandboxOptions = {}): Promise<Sandbox> {
    const { name, imageId, network, limits, throwaway, detached } = options;
    return host.request(
      "sandbox.create",
      {
        ...(name ? { name } : {}),
        ...(imageId ? { imageId } : {}),
        ...(throwaway ? { throwaway } : {}),
        ...(detached ? { detached } : {}),
        settings: { ...(network ? { network } : {}), ...(limits ? { limits } : {}) },
      },
      (info) => new Sandbox(host, info, detached ?? false),
    );
  }

  /**
   * Takes over a detached sandbox: this connection owns it from then on.
   *
   * @throws HostError when there is none of that guid, or another connection owns it
   */
  static attach(host: HostConnection, guid: string): Promise<Sandbox> {
    return host.request("sandbox.attach", { guid }, (info) => new Sandbox(host, info, false));
  }

  /** Starts it again, after its init has ended, with what it was created with. */
  async start(): Promise<SandboxInfo> {
    const core = this.enter("start");
    return core.host.request("sandbox.start", { guid: core.guid });
  }

  /** What it is, what it is allowed, who is in it. */
  async inspect(): Promise<SandboxInfo> {
    const core = this.enter("inspect");
    return core.host.request("sandbox.inspect", { guid: core.guid });
  }

  /** Lets it outlive the connection; not its subcontainers, which are detached one by one. Returns its guid, for `attach`. */
  async detach(): Promise<string> {
    const core = this.enter("detach");
    await core.host.request("sandbox.detach", { guid: core.guid });
    core.detached = true;
    return core.guid;
  }

  /** Ends everything in it, and removes it with its subcontainers. A second call shares the first one's promise. */
  destroy(): Promise<null> {
    return this.#core.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy();
  }
}
