/**
 * What a package's author works with: the functions that the host calls, put together from parts that name each other's types.
 *
 * ```text
 * setupManifest ─▶ StartSdk.of().withManifest(m).build(true) ─▶ setupMain, setupInit, Action …  ─▶ serve ─▶ init, uninit, call
 * ```
 */
import { Daemons } from "../daemons/daemons.ts";
import { UseEntrypoint } from "../daemons/exec.ts";
import { cooldownTrigger, statusTrigger, type Trigger } from "../daemons/plan.ts";
import type { TaskSeverity } from "../generated/protocol.ts";
import { Mounts } from "../mounts/mounts.ts";
import { SubContainer } from "../subcontainer/index.ts";
import type { SubContainerLazy } from "../subcontainer/lazy.ts";
import type { SubContainerOwned } from "../subcontainer/owned.ts";
import { Action, type ActionResult, Actions } from "./actions.ts";
import {
  Backups,
  type PgDumpConfig,
  type SetupBackups,
  type SetupBackupsParams,
  setupBackups,
} from "./backups.ts";
import {
  type CheckDependencies,
  checkDependencies,
  type DependencyRequirement,
  setupDependencies,
} from "./dependencies.ts";
import type { PackageEffects } from "./effects.ts";
import { FileHelper } from "./file-helper.ts";
import { checkPortListening, checkWebUrl, runHealthScript } from "./health.ts";
import { InputSpec, List, Value, Variants } from "./input.ts";
import { type InterfaceOptions, MultiHost, ServiceInterfaceBuilder, setupInterfaces } from "./interfaces.ts";
import type { Names, PackageManifest, StartManifest } from "./manifest.ts";
import { notHere } from "./not-here.ts";
import { type Served, type ServedPackage, serve } from "./serve.ts";
import type { ActionInfo, TaskOptions } from "./tasks.ts";
import { nullIfEmpty } from "./utils.ts";
import { Volume } from "./volume.ts";

/** Why a package's `init` is called: it was not there before, another version was, a backup was restored, or none of these. */
export type InitKind = "install" | "update" | "restore" | null;

/** Called when the package starts, before its `main`. */
export type InitFn = (effects: PackageEffects, kind: InitKind) => Promise<unknown>;

/** A step of `setupInit`: a function, or what has one. */
export type InitScript = InitFn | { init: InitFn };

/** Called when the package stops; `target`: the version that comes in its place, or null. */
export type UninitFn = (effects: PackageEffects, target: string | null) => Promise<unknown>;

/** A step of `setupUninit`: a function, or what has one. */
export type UninitScript = UninitFn | { uninit: UninitFn };

/** Daemons that are put together, and not started yet. */
export interface Buildable {
  build(): Promise<{ term(): Promise<unknown> }>;
}

/** What `setupMain` gives. */
export type Main = (options: { effects: PackageEffects }) => Promise<Buildable>;

/** What `setupInit` gives. */
export type Init = (options: { effects: PackageEffects; kind: InitKind }) => Promise<void>;
/** What `setupUninit` gives. */
export type Uninit = (options: { effects: PackageEffects; target: string | null }) => Promise<void>;

type AnyManifest = PackageManifest | StartManifest;
type Image<M extends AnyManifest> = { imageId: Names<M["images"]>; sharedRun?: boolean };

/** The parts, for one manifest. See `StartSdk`. */
export interface Sdk<M extends AnyManifest> {
  manifest: M;
  /** The package's volumes by name. */
  volumes: { readonly [K in Names<M["volumes"]>]: Volume<K> };
  Action: typeof Action;
  Actions: typeof Actions;
  /** What is in a backup. See `setupBackups`. */
  Backups: {
    /** Volumes, as they are. */
    ofVolumes(...volumes: Names<M["volumes"]>[]): Backups<M>;
    /** A database of PostgreSQL, dumped. */
    withPgDump(config: PgDumpConfig<M>): Backups<M>;
  };
  Daemons: typeof Daemons;
  FileHelper: typeof FileHelper;
  InputSpec: typeof InputSpec;
  Mounts: typeof Mounts;
  MultiHost: typeof MultiHost;
  Value: typeof Value;
  List: typeof List;
  Variants: typeof Variants;
  SubContainer: {
    /** A subcontainer of one of the manifest's images, made at its first use. */
    of(
      effects: PackageEffects,
      image: Image<M>,
      mounts?: Mounts | null,
      name?: string | null,
    ): SubContainerLazy;
    /** The same: as the rest of this SDK calls it. */
    lazy(
      effects: PackageEffects,
      image: Image<M>,
      mounts?: Mounts | null,
      name?: string | null,
    ): SubContainerLazy;
    /** The same, made at once. */
    eager(
      effects: PackageEffects,
      image: Image<M>,
      mounts?: Mounts | null,
      name?: string | null,
    ): Promise<SubContainerOwned>;
    /** The same for as long as a function takes, and destroyed after it. */
    withTemp<T>(
      effects: PackageEffects,
      image: Image<M>,
      mounts: Mounts | null,
      name: string,
      fn: (subcontainer: SubContainer) => Promise<T>,
    ): Promise<T>;
  };
  healthCheck: {
    checkPortListening: typeof checkPortListening;
    checkWebUrl: typeof checkWebUrl;
    runHealthScript: typeof runHealthScript;
  };
  trigger: {
    cooldownTrigger: typeof cooldownTrigger;
    statusTrigger: typeof statusTrigger;
    /** Every second until it is ready, then every 30. */
    defaultTrigger: Trigger;
  };
  action: {
    /** Runs an action of this package. */
    run(options: {
      effects: PackageEffects;
      actionId: string;
      input?: unknown;
    }): Promise<ActionResult | null>;
    /** Asks the operator to run an action of this package: `package status` shows it until that has happened. */
    createOwnTask(
      effects: PackageEffects,
      action: ActionInfo,
      severity: TaskSeverity,
      options?: TaskOptions,
    ): Promise<null>;
    /** The same. @throws NotOnThisHostError for another package's */
    createTask(
      effects: PackageEffects,
      packageId: string,
      action: ActionInfo,
      severity: TaskSeverity,
      options?: TaskOptions,
    ): Promise<null>;
    /** Asks no longer, by replay ids. */
    clearTask(effects: PackageEffects, ...replayIds: string[]): Promise<null>;
  };
  notification: {
    /** Tells the operator. Needs `notify:send` for the channel `sdk`. */
    create(
      effects: PackageEffects,
      options: { level?: string; title: string; message: string },
    ): Promise<null>;
  };
  /** Looks whether those that are needed are there and well. Needs `dependencies:read`. */
  checkDependencies<Id extends Names<M["dependencies"]>>(
    effects: PackageEffects,
    ids?: readonly Id[],
  ): Promise<CheckDependencies<Id>>;
  /** The command of the image: its entrypoint, and after it its own arguments or these. */
  useEntrypoint(arguments_?: readonly string[]): UseEntrypoint;
  nullIfEmpty: typeof nullIfEmpty;
  /** What is behind a port. */
  createInterface(effects: PackageEffects, options: InterfaceOptions): ServiceInterfaceBuilder;
  getDataVersion(effects: PackageEffects): Promise<string | null>;
  setDataVersion(effects: PackageEffects, version: string | null): Promise<null>;
  /** Ends what runs, and calls `main` again. */
  restart(effects: PackageEffects): Promise<null>;
  /** Not on this host. @throws NotOnThisHostError */
  shutdown(effects: PackageEffects): never;
  /** Not on this host. @throws NotOnThisHostError */
  getSystemSmtp(effects: PackageEffects): never;
  /** Not on this host: ports are not published, so they have no addresses. Each of them throws NotOnThisHostError. */
  host: Record<"get" | "getOwn" | "getBridgeAddress", (...all: unknown[]) => never>;
  /** What runs for as long as the package does: its daemons, which are started when it returns them. */
  setupMain(fn: Main): Main;
  /** Steps before `main`, one after the other. */
  setupInit(...steps: InitScript[]): Init;
  /** A step of `setupInit`. */
  setupOnInit(fn: InitFn): InitFn;
  /** Steps after the daemons have ended, one after the other. */
  setupUninit(...steps: UninitScript[]): Uninit;
  /** A step of `setupUninit`. */
  setupOnUninit(fn: UninitFn): UninitFn;
  /** A step of `setupInit` that says which ports are for others. `package status` shows them; nothing publishes them. */
  setupInterfaces: typeof setupInterfaces;
  /** A step of `setupInit` that says which packages are needed, of those that the manifest names. */
  setupDependencies<const R extends { readonly [K in Names<M["dependencies"]>]?: DependencyRequirement }>(
    fn: (options: { effects: PackageEffects }) => Promise<R>,
  ): (effects: PackageEffects) => Promise<null>;
  /**
   * What is backed up, and how: volumes by name, or what makes the whole. The manifest's `backup.worker` names the entry.
   *
   * ```ts
   * const { createBackup, restoreInit } = sdk.setupBackups(async () => sdk.Backups.ofVolumes("main"));
   * export const { init, uninit, call } = sdk.serve({ main, init: sdk.setupInit(restoreInit), createBackup });
   * ```
   */
  setupBackups(params: SetupBackupsParams<M>): SetupBackups;
  /** What the entry's script exports: `export const { init, uninit, call } = sdk.serve({ … })`. */
  serve(parts: Omit<ServedPackage, "manifest">): Served;
}

/**
 * Begins as packages for StartOS do:
 *
 * ```ts
 * export const sdk = StartSdk.of().withManifest(manifest).build(true);
 * ```
 */
export class StartSdk<M extends AnyManifest | null> {
  readonly #manifest: M;

  private constructor(manifest: M) {
    this.#manifest = manifest;
  }

  /** For no manifest yet. */
  static of(): StartSdk<null> {
    return new StartSdk(null);
  }

  /** For this one. */
  withManifest<N extends AnyManifest>(manifest: N): StartSdk<N> {
    return new StartSdk(manifest);
  }

  /** The parts. */
  build(_ready: M extends AnyManifest ? true : "withManifest comes first"): Sdk<NonNullable<M>> {
    const manifest = this.#manifest;
    if (manifest === null) throw new TypeError("withManifest comes first");
    const { volumes = {} } = manifest;
    const names = Array.isArray(volumes) ? (volumes as string[]) : Object.keys(volumes);
    const lazy: Sdk<AnyManifest>["SubContainer"]["lazy"] = (effects, image, mounts, name) =>
      SubContainer.lazy(effects, image, mounts ?? null, name);
    return {
      manifest,
      volumes: Object.fromEntries(names.map((id) => [id, new Volume(id)])) as never,
      Action,
      Actions,
      Backups: Backups as unknown as Sdk<NonNullable<M>>["Backups"],
      Daemons,
      FileHelper,
      InputSpec,
      Mounts,
      MultiHost,
      Value,
      List,
      Variants,
      SubContainer: {
        of: lazy,
        lazy,
        eager: (effects, image, mounts, name) => SubContainer.of(effects, image, mounts ?? null, name),
        withTemp: (effects, image, mounts, name, fn) =>
          SubContainer.withTemp(effects, image, mounts, name, fn),
      },
      healthCheck: { checkPortListening, checkWebUrl, runHealthScript },
      trigger: {
        cooldownTrigger,
        statusTrigger,
        defaultTrigger: statusTrigger(30_000, { starting: 1000, waiting: 1000, failure: 1000 }),
      },
      action: {
        run: ({ effects, ...options }) => effects.action.run(options),
        createOwnTask: (effects, { id }, severity, options) =>
          effects.action.createTask({ ...options, packageId: effects.packageId, actionId: id, severity }),
        createTask: (effects, packageId, { id }, severity, options) =>
          effects.action.createTask({ ...options, packageId, actionId: id, severity }),
        clearTask: (effects, ...only) => effects.action.clearTasks({ only }),
      },
      notification: { create: (effects, options) => effects.notification.create(options) },
      checkDependencies,
      useEntrypoint: (arguments_) => new UseEntrypoint(arguments_),
      nullIfEmpty,
      createInterface: (effects, options) => new ServiceInterfaceBuilder({ ...options, effects }),
      getDataVersion: (effects) => effects.getDataVersion(),
      setDataVersion: (effects, version) => effects.setDataVersion({ version }),
      restart: (effects) => effects.restart(),
      shutdown: (effects) => effects.shutdown(),
      getSystemSmtp: (effects) => effects.getSystemSmtp(),
      host: {
        get: noAddress("host.get"),
        getOwn: noAddress("host.getOwn"),
        getBridgeAddress: noAddress("host.getBridgeAddress"),
      },
      setupMain: (fn) => fn,
      setupInit:
        (...steps) =>
        async ({ effects, kind }) => {
          for (const step of steps) await repeat(step, effects, kind);
        },
      setupOnInit: (fn) => fn,
      setupUninit:
        (...steps) =>
        async ({ effects, target }) => {
          for (const step of steps)
            await (typeof step === "function" ? step(effects, target) : step.uninit(effects, target));
        },
      setupOnUninit: (fn) => fn,
      setupBackups: (params) => setupBackups(params as never),
      setupInterfaces,
      setupDependencies: (fn) => setupDependencies(fn as never),
      serve: (parts) => {
        if (!("version" in manifest))
          throw new TypeError("a manifest without a version is served by serve(…)");
        if (parts.createBackup !== undefined && manifest.backup?.worker === undefined)
          throw new TypeError("createBackup is never asked for: the manifest's backup.worker names no entry");
        return serve({ ...parts, manifest });
      },
    };
  }
}

function noAddress(what: string): () => never {
  return notHere(what, "nothing publishes a package's ports on this host, so it has no address there");
}

/** Calls a step, and again, without a kind, whenever something has changed that it has read with `const`. */
async function repeat(step: InitScript, all: PackageEffects, kind: InitKind): Promise<void> {
  let again = Promise.resolve();
  const call = async (why: InitKind): Promise<void> => {
    const effects = all.child(() => {
      // What it throws then, nobody catches.
      again = again.then(async () => {
        await effects.leave();
        if (!all.signal.aborted) await call(null);
      });
    });
    all.onLeaveContext(() => effects.leave());
    await (typeof step === "function" ? step(effects, why) : step.init(effects, why));
  };
  await call(kind);
}
