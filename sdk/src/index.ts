/**
 * Containers as TypeScript objects: the client of the start-container host.
 *
 * ```ts
 * import { connect, SubContainer } from "start-container";
 *
 * await using host = await connect();
 * await using sub = await SubContainer.of(host, { imageId: "busybox" });
 * const { stdout } = await sub.execFail(["echo", "hello"]);
 * ```
 *
 * @packageDocumentation
 */
import "./polyfill.ts";

export type { Address } from "./client/address.ts";
export type { Progress, RequestOptions } from "./client/connection.ts";
export { type ConnectOptions, connect, type Host } from "./client/host.ts";
export type { HostConnection } from "./client/host-connection.ts";
export type { Images } from "./client/images.ts";
export { ConnectionError, type ConnectionFailure, DestroyedError, HostError } from "./errors.ts";
export type { Content, FileOptions, Files, WriteOptions } from "./files/files.ts";
export type { Dirent, Stats } from "./files/stats.ts";
export type {
  ErrorKind,
  Event,
  Healthcheck,
  HelloResult,
  ImageConfig,
  ImageInfo,
  Limits,
  Methods,
  Outcome,
  RemovedResult,
  RunState,
  SandboxInfo,
  StatsResult,
  SubcontainerInfo,
  TerminalSize,
} from "./generated/protocol.ts";
export {
  type BackupOptions,
  type DependencyOptions,
  type MountArray,
  Mounts,
  type SharedOptions,
  type TmpfsOptions,
  type VolumeOptions,
} from "./mounts/mounts.ts";
export type {
  FileType,
  IdMap,
  MountOptions,
  MountOptionsAssets,
  MountOptionsBackup,
  MountOptionsPointer,
  MountOptionsTmpfs,
  MountOptionsVolume,
} from "./mounts/options.ts";
export type { Input } from "./process/input.ts";
export type {
  CommandOptions,
  ExecOptions,
  LimitOptions,
  StdioKind,
  StdioOptions,
} from "./process/options.ts";
export type { Ended, From, Process } from "./process/process.ts";
export { type ExecResult, ExitError, type ExitResult, type Output } from "./process/result.ts";
export type { Run } from "./process/run.ts";
export { Sandbox, type SandboxOptions } from "./sandbox/sandbox.ts";
export type { LaunchOptions, RunOptions, SpawnOptions } from "./subcontainer/commands.ts";
export { SubContainer } from "./subcontainer/index.ts";
export { SubContainerLazy } from "./subcontainer/lazy.ts";
export { SubContainerOwned } from "./subcontainer/owned.ts";
export { SubContainerRc } from "./subcontainer/rc.ts";
export type {
  Abort,
  Exec,
  ExecFail,
  ImageOptions,
  RunCommand,
  WatchOptions,
} from "./subcontainer/subcontainer.ts";
