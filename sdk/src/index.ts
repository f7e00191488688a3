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
export { connectInside, type InsideOptions } from "./client/inside.ts";
export { checkPortListening, checkWebUrl, runHealthScript } from "./daemons/checks.ts";
export {
  type AddDaemonParams,
  type AddHealthCheckParams,
  type AddOneshotParams,
  type DaemonSubContainer,
  Daemons,
  type RunParams,
} from "./daemons/daemons.ts";
export type { DaemonsBuilder, DaemonsReconciler } from "./daemons/dynamic.ts";
export type { Effects } from "./daemons/effects.ts";
export type { DaemonLaunch, ExecCommandOptions, ExecFnOptions } from "./daemons/exec.ts";
export type { Cause } from "./daemons/machine.ts";
export {
  cooldownTrigger,
  type HealthCheckResult,
  type HealthStatus,
  statusTrigger,
  type Trigger,
} from "./daemons/plan.ts";
export type { Check, CheckContext, HttpCheck, Ready, ReadyOptions, RestartOptions } from "./daemons/ready.ts";
export type { DaemonSet } from "./daemons/set.ts";
export { type DaemonChange, type DaemonState, type DaemonStatus, describeCause } from "./daemons/status.ts";
export { ConnectionError, type ConnectionFailure, DestroyedError, HostError } from "./errors.ts";
export type { Content, FileOptions, Files, WriteOptions } from "./files/files.ts";
export type { Dirent, Stats } from "./files/stats.ts";
export type {
  ErrorKind,
  Event,
  Healthcheck,
  HealthInfo,
  HelloResult,
  ImageConfig,
  ImageInfo,
  Limits,
  LogBounds,
  LogDriver,
  LogStream,
  Methods,
  NodeInfo,
  Outcome,
  PackageMethods,
  RemovedResult,
  RunState,
  SandboxInfo,
  StatsResult,
  SubcontainerInfo,
  TaskInfo,
  TerminalSize,
  VolumeInfo,
} from "./generated/protocol.ts";
export { type CheckedFile, CorruptFileError } from "./jobs/checked.ts";
export {
  type HookContext,
  Job,
  type JobContext,
  type JobOptions,
  type JobOutcome,
  runJob,
} from "./jobs/job.ts";
export { acquireLock, type LockOptions } from "./jobs/lock.ts";
export { dumpMysql, type MysqlOptions, restoreMysql } from "./jobs/mysql.ts";
export {
  dumpPostgres,
  type PostgresDumpOptions,
  type PostgresOptions,
  type PostgresRestoreOptions,
  restorePostgres,
} from "./jobs/postgres.ts";
export type { JobProgress, ProgressUpdate } from "./jobs/progress.ts";
export { type Screen, showProgress } from "./jobs/show.ts";
export { type SyncOptions, syncDirectory } from "./jobs/sync.ts";
export type { LogChunk, LogLine, LogOptions, Logs } from "./logs/logs.ts";
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
export {
  type ConnectHostOptions,
  connectHost,
  type PackageFiles,
  PackageHost,
  type PackageKeys,
  type PackageMethod,
  type PackageProcess,
  type PackageSecrets,
  type Revisioned,
  type Scopes,
} from "./package/host.ts";
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
export type { OnceOptions, RunOnce } from "./subcontainer/once.ts";
export { SubContainerOwned } from "./subcontainer/owned.ts";
export { SubContainerRc } from "./subcontainer/rc.ts";
export type {
  Abort,
  Exec,
  ExecFail,
  ImageOptions,
  RunCommand,
  StopOptions,
  Stopped,
  WatchOptions,
} from "./subcontainer/subcontainer.ts";
