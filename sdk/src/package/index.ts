/**
 * For packages: code that the host runs (see `docs/packages.md`), in the shape that packages for StartOS have.
 *
 * ```ts
 * import { StartSdk, setupManifest } from "start-container/package";
 *
 * const manifest = setupManifest({ manifest: 1, id: "hello", name: "Hello", version: "1.0.0", … });
 * const sdk = StartSdk.of().withManifest(manifest).build(true);
 * const main = sdk.setupMain(async ({ effects }) => sdk.Daemons.of(effects).addDaemon("web", { … }));
 * export const { init, uninit, call } = sdk.serve({ main });
 * ```
 *
 * @packageDocumentation
 */

export { Daemons } from "../daemons/daemons.ts";
export { UseEntrypoint } from "../daemons/exec.ts";
export { Mounts } from "../mounts/mounts.ts";
export { SubContainer } from "../subcontainer/index.ts";
export { SubContainerLazy } from "../subcontainer/lazy.ts";
export {
  Action,
  type ActionDescription,
  type ActionMetadata,
  type ActionResult,
  Actions,
  type FillOptions,
  type MaybeFn,
  type Run,
} from "./actions.ts";
export {
  type BackupHook,
  type BackupPlan,
  Backups,
  type CreateBackup,
  type LazyPassword,
  type PgDumpConfig,
  type SetupBackups,
  type SetupBackupsParams,
} from "./backups.ts";
export type { CheckDependencies, DependencyRequirement, Requirements } from "./dependencies.ts";
export { type HealthReport, PackageEffects } from "./effects.ts";
export {
  FileHelper,
  type FilePath,
  type Reading,
  type Shape,
  type TextForm,
  type WriteFileOptions,
} from "./file-helper.ts";
export type {
  FunctionAnswer,
  FunctionBody,
  FunctionHeaders,
  FunctionHost,
  FunctionKv,
  FunctionPart,
  FunctionRequest,
  ScheduledFunction,
  UrlFunction,
} from "./functions.ts";
export type { CheckOptions } from "./health.ts";
export { connectHost, PackageHost } from "./host.ts";
export {
  type DynamicOptions,
  type FieldSpec,
  InputError,
  InputSpec,
  List,
  type Pattern,
  Value,
  Variants,
} from "./input.ts";
export {
  type AddressReceipt,
  type BindOptions,
  type ExportedInterface,
  type InterfaceOptions,
  MultiHost,
  Origin,
  ServiceInterfaceBuilder,
  type UpdateServiceInterfaces,
} from "./interfaces.ts";
export {
  type BuiltManifest,
  buildManifest,
  type CapabilityRequest,
  type DependencyRequest,
  type HostPart,
  hostManifest,
  type ImageSource,
  type Names,
  type PackageManifest,
  type StartManifest,
  setupManifest,
} from "./manifest.ts";
export { NotOnThisHostError } from "./not-here.ts";
export {
  type Buildable,
  type Init,
  type InitFn,
  type InitKind,
  type InitScript,
  type Main,
  type Sdk,
  StartSdk,
  type Uninit,
  type UninitFn,
  type UninitScript,
} from "./sdk.ts";
export { type Served, type ServedPackage, serve } from "./serve.ts";
export type { ActionInfo, PackageTasks, Task, TaskOptions } from "./tasks.ts";
export { connectTested, type TestedOptions, TestedPackage } from "./testing.ts";
export * as T from "./types.ts";
export * as utils from "./utils.ts";
export { setupI18n } from "./utils.ts";
export { ExtendedVersion, VersionRange } from "./version.ts";
export {
  IMPOSSIBLE,
  type LocaleString,
  type Migration,
  VersionGraph,
  VersionInfo,
  type VersionOptions,
} from "./version-graph.ts";
export { Volume } from "./volume.ts";
