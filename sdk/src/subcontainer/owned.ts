/**
 * The handle that owns a subcontainer: its `destroy` destroys.
 */
import type { HostConnection } from "../client/host-connection.ts";
import type { MountArray, Mounts } from "../mounts/mounts.ts";
import * as commands from "./commands.ts";
import { Core } from "./core.ts";
import { Handle } from "./handle.ts";
import { SubContainerRc } from "./rc.ts";
import { type ImageOptions, type SubContainer, withinSandbox } from "./subcontainer.ts";

/** See the module. */
export class SubContainerOwned extends Handle {
  /** How many counted handles of it there are. */
  rcs = 0;
  readonly #core: Core;

  private constructor(core: Core) {
    super(core);
    this.#core = core;
  }

  /**
   * Creates a subcontainer and mounts what is asked for. Whoever gets it has to destroy it; the end of the connection
   * does so too, unless it is detached.
   *
   * @throws HostError when the image is unknown or a mount fails; nothing is left then
   */
  static async of(
    host: HostConnection,
    image: ImageOptions,
    mounts: Mounts | MountArray | null = null,
    name?: string | null,
  ): Promise<SubContainerOwned> {
    const owned = await host.request(
      "subcontainer.createFs",
      {
        imageId: image.imageId,
        ...(name ? { name } : {}),
        ...(image.throwaway ? { throwaway: true } : {}),
        ...(image.detached ? { detached: true } : {}),
        ...(image.userns ? { userns: true } : {}),
        ...withinSandbox(image),
        ...(image.rootfsSize === undefined ? {} : { rootfsSize: image.rootfsSize }),
      },
      ({ guid, rootfs }) =>
        new SubContainerOwned(
          new Core(host, { guid, rootfs, imageId: image.imageId, detached: image.detached ?? false }),
        ),
    );
    try {
      if (mounts !== null) await owned.mount(mounts);
      if (image.sharedRun || image.sharedDevSys) {
        await commands.launch(owned.#core, null, {
          sharedRun: image.sharedRun,
          sharedDevSys: image.sharedDevSys,
          stdio: "ignore",
        });
      }
    } catch (error) {
      await owned.destroy();
      throw error;
    }
    return owned;
  }

  /** Creates a throw-away subcontainer, runs `fn` with it, and destroys it, whatever `fn` does. */
  static async withTemp<T>(
    host: HostConnection,
    image: ImageOptions,
    mounts: Mounts | MountArray | null,
    name: string | null,
    fn: (sub: SubContainer) => Promise<T>,
  ): Promise<T> {
    const owned = await SubContainerOwned.of(host, { throwaway: true, ...image }, mounts, name);
    try {
      return await fn(owned);
    } finally {
      await owned.destroy();
    }
  }

  /**
   * Takes over a detached subcontainer: this connection owns it from then on.
   *
   * @throws HostError when there is none of that guid, or another connection owns it
   */
  static attach(host: HostConnection, guid: string): Promise<SubContainerOwned> {
    return host.request(
      "subcontainer.attach",
      { guid },
      (info) =>
        new SubContainerOwned(
          new Core(host, { guid, rootfs: info.rootfs, imageId: info.imageId, detached: false }),
        ),
    );
  }

  /** See `SubContainer.destroy`. */
  override readonly destroy: () => Promise<null> = () => this.#core.destroy();

  override rc(): SubContainerRc {
    return new SubContainerRc(this);
  }

  override isOwned(): this is SubContainerOwned {
    return true;
  }

  protected override get released(): boolean {
    return this.#core.destroyed;
  }

  /** For the counted handles. */
  static coreOf(owned: SubContainerOwned): Core {
    return owned.#core;
  }
}
