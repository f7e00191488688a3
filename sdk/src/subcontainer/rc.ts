/**
 * Counted handles: the last one that is released destroys the subcontainer.
 */
import type { HostConnection } from "../client/host-connection.ts";
import { DestroyedError } from "../errors.ts";
import type { MountArray, Mounts } from "../mounts/mounts.ts";
import { Handle } from "./handle.ts";
import { SubContainerOwned } from "./owned.ts";
import type { ImageOptions, SubContainer } from "./subcontainer.ts";

/** See the module. */
export class SubContainerRc extends Handle {
  readonly #owned: SubContainerOwned;
  #destroying: Promise<null> | undefined;

  /** One more handle of a subcontainer. */
  constructor(subcontainer: SubContainerOwned) {
    const core = SubContainerOwned.coreOf(subcontainer);
    core.assertAlive("rc");
    super(core);
    this.#owned = subcontainer;
    subcontainer.rcs += 1;
  }

  /** As `SubContainerOwned.of`, with a counted handle. */
  static async of(
    host: HostConnection,
    image: ImageOptions,
    mounts: Mounts | MountArray | null = null,
    name?: string | null,
  ): Promise<SubContainerRc> {
    return new SubContainerRc(await SubContainerOwned.of(host, image, mounts, name));
  }

  /** As `SubContainerOwned.withTemp`, with a counted handle. */
  static async withTemp<T>(
    host: HostConnection,
    image: ImageOptions,
    mounts: Mounts | MountArray | null,
    name: string | null,
    fn: (sub: SubContainer) => Promise<T>,
  ): Promise<T> {
    const rc = await SubContainerRc.of(host, { throwaway: true, ...image }, mounts, name);
    try {
      return await fn(rc);
    } finally {
      await rc.destroy();
    }
  }

  /** Releases this handle; the last one destroys the subcontainer. */
  override readonly destroy: () => Promise<null> = () => {
    this.#destroying ??= this.#release();
    return this.#destroying;
  };

  override rc(): SubContainerRc {
    if (this.released) throw new DestroyedError("rc", this.guid);
    return new SubContainerRc(this.#owned);
  }

  override isOwned(): this is SubContainerOwned {
    return false;
  }

  protected override get released(): boolean {
    return this.#destroying !== undefined;
  }

  async #release(): Promise<null> {
    this.#owned.rcs -= 1;
    if (this.#owned.rcs > 0) return null;
    try {
      return await this.#owned.destroy();
    } catch (error) {
      // It is still there: let this handle try again.
      this.#owned.rcs += 1;
      this.#destroying = undefined;
      throw error;
    }
  }
}
