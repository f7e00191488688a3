/**
 * What all handles of one subcontainer share: its names and its one destruction.
 *
 * ```text
 * alive -- destroy(), nobody holds it ----------------> destroying -- answered --> gone
 *   \----- destroy(), held --> pending -- last release --/     \---- failed ----> alive, and may be tried again
 * ```
 */
import type { HostConnection } from "../client/host-connection.ts";
import { ConnectionError, DestroyedError, HostError } from "../errors.ts";
import { Files } from "../files/files.ts";
import type { Process } from "../process/process.ts";

/** See the module. */
export class Core {
  readonly host: HostConnection;
  readonly guid: string;
  readonly imageId: string;
  readonly rootfs: string;
  readonly files: Files;
  /** What `launch` started last. */
  leader: Process | undefined;
  /** Something was launched in it, by this handle or before. */
  led = false;
  /** The launch of an idle init that is under way. */
  leading: Promise<void> | undefined;
  /** It outlives the connection. */
  detached: boolean;
  readonly #method: "subcontainer.destroyFs" | "sandbox.destroy";
  #holds = 0;
  #pending = false;
  #destroying: Promise<null> | undefined;

  constructor(
    host: HostConnection,
    fields: { guid: string; imageId: string; rootfs: string; detached: boolean },
    method: "subcontainer.destroyFs" | "sandbox.destroy" = "subcontainer.destroyFs",
  ) {
    this.host = host;
    this.#method = method;
    this.guid = fields.guid;
    this.imageId = fields.imageId;
    this.rootfs = fields.rootfs;
    this.detached = fields.detached;
    this.files = new Files(
      () => {
        this.assertAlive("file");
        return host;
      },
      () => this.guid,
    );
  }

  /** It is being destroyed, or was. */
  get destroyed(): boolean {
    return this.#destroying !== undefined;
  }

  /** @throws DestroyedError */
  assertAlive(what: string): void {
    if (this.#destroying !== undefined) throw new DestroyedError(what, this.guid);
  }

  /** Keeps it alive until the returned function is called, whatever `destroy` says meanwhile. */
  hold(): () => Promise<void> {
    if (this.#pending || this.destroyed) throw new DestroyedError("hold", this.guid);
    this.#holds += 1;
    let released: Promise<void> | undefined;
    return () => {
      released ??= this.#release();
      return released;
    };
  }

  /** Destroys it, once nobody holds it. All who ask share one promise. */
  destroy(): Promise<null> {
    if (this.#holds > 0) {
      this.#pending = true;
      return Promise.resolve(null);
    }
    this.#destroying ??= this.#destroy().catch((error: unknown) => {
      this.#destroying = undefined;
      throw error;
    });
    return this.#destroying;
  }

  async #release(): Promise<void> {
    this.#holds -= 1;
    if (this.#holds === 0 && this.#pending) await this.destroy();
  }

  async #destroy(): Promise<null> {
    try {
      await this.host.request(this.#method, { guid: this.guid });
    } catch (error) {
      const gone = error instanceof HostError && error.kind === "notFound";
      // Closing a connection destroys what it owns.
      const closed = error instanceof ConnectionError && error.failure === "closed" && !this.detached;
      if (!gone && !closed) throw error;
    }
    return null;
  }
}
