/**
 * The manifest, written in TypeScript: in the form of `manifest.yaml`, or in that of packages for StartOS, to which the host's
 * part is added. Checked by the compiler, and by `start-container package pack` in full.
 */
import type { Limits } from "../generated/protocol.ts";
import { ExtendedVersion } from "./version.ts";
import type { LocaleString, VersionGraph } from "./version-graph.ts";

/** What is asked for, and why. */
export interface CapabilityRequest {
  /** Read by the operator before it is granted. */
  reason: string;
  optional?: boolean;
  [scope: string]: string | boolean | readonly string[] | readonly (readonly string[])[] | undefined;
}

/** What a package needs of another. */
export interface DependencyRequest {
  /** Versions that will do, as Cargo writes them: `^1.2`, `>=1, <3`. */
  version: string;
  /** Read by the operator. */
  reason?: string;
  /** Volumes of it that this package mounts. */
  volumes?: readonly string[];
}

/** Where an image comes from. */
export type ImageSource = { file: string } | { reference: string };

/** A package's manifest. `start-container package schema` has every field, and what each means. */
export interface PackageManifest {
  manifest: 1;
  id: string;
  name: string;
  version: string;
  description?: string;
  dependencies?: Record<string, DependencyRequest>;
  images?: Record<string, ImageSource>;
  volumes?: Record<string, { description?: string }>;
  entries?: Record<string, Record<string, unknown>>;
  capabilities?: Record<string, CapabilityRequest>;
  limits?: Limits;
  health?: Record<string, unknown>;
  backup?: { volumes?: readonly string[]; worker?: string; before?: string; afterRestore?: string };
}

/** The manifest of a package for StartOS, as it is written with `@start9labs/start-sdk`. */
export interface StartManifest {
  readonly id: string;
  readonly title: string;
  readonly license: string;
  readonly packageRepo: string;
  readonly upstreamRepo: string;
  readonly marketingUrl: string;
  readonly donationUrl: string | null;
  readonly description: { readonly short: LocaleString; readonly long: LocaleString };
  readonly images: Record<string, { readonly source: unknown; readonly arch?: readonly string[] }>;
  readonly volumes: readonly string[];
  readonly dependencies: Record<
    string,
    { readonly description: LocaleString | null; readonly optional: boolean } & Record<string, unknown>
  >;
  readonly alerts?: Record<string, LocaleString | null>;
  readonly osVersion?: string;
  readonly hardwareRequirements?: object;
  readonly hardwareAcceleration?: boolean;
}

/** Names of something in a manifest: the keys of a record, or the items of a list. */
export type Names<T> = T extends readonly (infer I)[]
  ? I & string
  : T extends Record<infer K, unknown>
    ? K & string
    : never;

/** Takes a manifest as it is, with its names as types: of images, volumes and dependencies. */
export function setupManifest<const M extends PackageManifest | StartManifest>(manifest: M): M {
  return manifest;
}

/** A manifest of a package for StartOS, with its version. */
export type BuiltManifest<M extends StartManifest = StartManifest> = M & {
  version: string;
  releaseNotes: LocaleString;
};

/** Adds what the versions of a package say. `hostManifest` makes the host's manifest of it. */
export function buildManifest<const M extends StartManifest>(
  versions: VersionGraph<string>,
  manifest: M,
): BuiltManifest<M> {
  const { version, releaseNotes } = versions.current.options;
  return { ...manifest, version, releaseNotes };
}

/** What this host wants to know of a package beyond its manifest for StartOS. */
export interface HostPart<M extends StartManifest> {
  /** Where each image is in the bundle: `{ main: { file: "images/main.tar" } }`. */
  images: Record<Names<M["images"]>, ImageSource>;
  /** The versions of those that it depends on, and their volumes. One that is optional may be left out. */
  dependencies?: { [K in keyof M["dependencies"]]?: DependencyRequest };
  /** What is asked for beyond what every such package needs. */
  capabilities?: Record<string, CapabilityRequest>;
  /** In the place of those that every package has. */
  limits?: Limits;
  /** Default: `entries/main.js`. */
  script?: string;
}

/**
 * The host's manifest of a package for StartOS. It asks for what such a package uses without saying so: its images, files of its
 * volumes, keys for what the SDK remembers, how its dependencies are.
 *
 * @throws RangeError where a dependency is missing that is not optional, or the version has no three numbers
 */
export function hostManifest<M extends StartManifest>(
  built: BuiltManifest<M>,
  part: HostPart<M>,
): PackageManifest {
  const { images, limits, script = "entries/main.js" } = part;
  const dependencies = (part.dependencies ?? {}) as Record<string, DependencyRequest>;
  for (const [id, { optional }] of Object.entries(built.dependencies)) {
    if (!optional && dependencies[id] === undefined)
      throw new RangeError(`which versions of ${id} it needs is to be said: dependencies.${id}.version`);
  }
  const paths = built.volumes.map((id) => `/media/startos/volumes/${id}`);
  const packages = Object.keys(dependencies);
  const kept = { reason: "Remembers its version and its tasks", groups: ["sdk"] };
  const files = { reason: "Its settings", paths };
  return {
    manifest: 1,
    id: built.id,
    name: built.title,
    version: ExtendedVersion.parse(built.version).toManifest(),
    description: plain(built.description.short),
    images,
    volumes: Object.fromEntries(built.volumes.map((id) => [id, {}])),
    ...(packages.length === 0 ? {} : { dependencies }),
    entries: { main: { worker: { script } } },
    capabilities: {
      subcontainers: { reason: "Runs its services", names: Object.keys(images) },
      "kv:read": kept,
      "kv:write": kept,
      ...(paths.length === 0 ? {} : { "files:read": files, "files:write": files }),
      ...(packages.length === 0
        ? {}
        : { "dependencies:read": { reason: "Looks whether what it needs is well", packages } }),
      ...part.capabilities,
    },
    ...(limits === undefined ? {} : { limits }),
  };
}

/** A text in English, or in the language that there is. */
function plain(text: LocaleString): string {
  return typeof text === "string" ? text : (text.en_US ?? Object.values(text)[0] ?? "");
}
