/**
 * A subcontainer for one command: made, run to its end in, and gone, in one message there and one back.
 */
import type { HostConnection } from "../client/host-connection.ts";
import type { RunParams } from "../generated/protocol.ts";
import { listed, type MountArray, type Mounts } from "../mounts/mounts.ts";
import { toWire } from "../mounts/options.ts";
import type { ExecResult } from "../process/result.ts";
import {
  aborted,
  bounded,
  type ContainOptions,
  contained,
  fits,
  type RunOptions,
  toResult,
} from "./commands.ts";
import { type ImageOptions, withinSandbox } from "./subcontainer.ts";

/** What `SubContainer.runOnce` takes. */
export type OnceOptions = RunOptions &
  ContainOptions & {
    /** What is mounted in it. */
    mounts?: Mounts | MountArray | null | undefined;
    /** A name for people. */
    name?: string | undefined;
  };

/** `runOnce` of either encoding. */
export interface RunOnce {
  /**
   * Makes a throw-away subcontainer over an image, runs a command in it as its first process, and destroys it, in one round
   * trip. Resolves however the command ended, and when nothing of it is left; the host sees to that if this program, or the
   * connection, ends meanwhile. There is no time limit unless one is given. The host of a package (`connectHost`) does not have
   * it: there, `withTemp` and `exec`.
   *
   * ```ts
   * const { stdout } = await SubContainer.runOnce(host, { imageId: "busybox", userns: true }, ["uname", "-a"]);
   * ```
   *
   * @param command - the program, looked up in the image's PATH, and its arguments: PID 1 inside, or beneath an init of ours
   *   with `init: true`
   * @throws HostError when it could not be started: no such image, command or user, a mount that fails; nothing is left then
   * @throws RangeError when input or output are to be larger than a message carries (8 MiB): `withTemp` and `exec` take any
   */
  (
    host: HostConnection,
    image: ImageOptions,
    command: readonly string[],
    options: OnceOptions & { encoding: "buffer" },
  ): Promise<ExecResult<Uint8Array>>;
  (
    host: HostConnection,
    image: ImageOptions,
    command: readonly string[],
    options?: OnceOptions & { encoding?: "utf8" | undefined },
  ): Promise<ExecResult<string>>;
}

/** See {@link RunOnce}. */
export const runOnce: RunOnce = (async (
  host: HostConnection,
  image: ImageOptions,
  command: readonly string[],
  options: OnceOptions = {},
): Promise<ExecResult<string> | ExecResult<Uint8Array>> => {
  if (!fits(host, options)) {
    throw new RangeError("input and output of runOnce travel in one message each: 8 MiB at most, and whole");
  }
  const { mounts, name, signal } = options;
  const params: RunParams = { imageId: image.imageId, command: command as string[], ...withinSandbox(image) };
  if (name !== undefined) params.name = name;
  if (image.userns) params.userns = true;
  if (image.rootfsSize !== undefined) params.rootfsSize = image.rootfsSize;
  if (mounts) params.mounts = listed(mounts).map(({ mountpoint, options }) => toWire(mountpoint, options));
  const { sharedDevSys, sharedRun } = image;
  contained(bounded(params, options), { sharedDevSys, sharedRun, ...options });
  const answer = host.request(
    "subcontainer.run",
    params,
    (result) => toResult(result, command, options),
    signal && { signal },
  );
  return signal === undefined ? answer : answer.catch((error) => aborted(error, command, options));
}) as RunOnce;
