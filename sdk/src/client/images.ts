/**
 * The images in the host's store.
 */
import type { ImageInfo, RemovedResult } from "../generated/protocol.ts";
import type { RequestOptions } from "./connection.ts";
import type { HostConnection } from "./host-connection.ts";

/** See the module. */
export class Images {
  readonly #host: HostConnection;

  constructor(host: HostConnection) {
    this.#host = host;
  }

  /**
   * Imports an image from a path on the host: an OCI layout (directory or archive), a docker-archive, a rootfs tar
   * (plain, gzip or zstd) or a rootfs directory.
   *
   * @param options - `name`: default is the name in the archive, else the file's own
   * @throws HostError `corrupt` when it is not what it claims to be; the store is then as it was
   */
  import(path: string, options: { name?: string | undefined } & RequestOptions = {}): Promise<ImageInfo> {
    const { name } = options;
    return this.#host.request(
      "image.import",
      { path, ...(name === undefined ? {} : { name }) },
      undefined,
      options,
    );
  }

  /**
   * Pulls an image from a registry.
   *
   * @param reference - `[registry/]repository[:tag][@digest]`
   * @param options - `name`: default is the reference; `platform`: `os/architecture[/variant]`, default is this
   * machine's; `insecure`: plain HTTP
   * @throws HostError `network`, `unauthorized`, `notFound`, or `corrupt` when a digest is wrong
   */
  pull(
    reference: string,
    options: {
      name?: string | undefined;
      platform?: string | undefined;
      insecure?: boolean | undefined;
    } & RequestOptions = {},
  ): Promise<ImageInfo> {
    const { name, platform, insecure } = options;
    return this.#host.request(
      "image.pull",
      {
        reference,
        ...(name === undefined ? {} : { name }),
        ...(platform === undefined ? {} : { platform }),
        ...(insecure ? { insecure } : {}),
      },
      undefined,
      options,
    );
  }

  /** Every image, oldest first. */
  list(options?: RequestOptions): Promise<ImageInfo[]> {
    return this.#host.request("image.list", {}, ({ images }) => images, options);
  }

  /** One image, by its name, digest, or an unambiguous beginning of the digest. */
  inspect(imageId: string, options?: RequestOptions): Promise<ImageInfo> {
    return this.#host.request("image.inspect", { imageId }, undefined, options);
  }

  /** Removes a name, and the image with its last name. */
  remove(imageId: string, options?: RequestOptions): Promise<RemovedResult> {
    return this.#host.request("image.remove", { imageId }, undefined, options);
  }

  /** Removes layers that no image and no rootfs uses. */
  gc(options?: RequestOptions): Promise<RemovedResult> {
    return this.#host.request("image.gc", {}, undefined, options);
  }
}
