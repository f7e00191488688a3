/**
 * Other packages that a package needs: which, in which versions, and whether they are there and well.
 *
 * The host knows those of the manifest, and does not start a package without them. What is said here is beyond that: it may
 * change while the package runs, and it is for the package to look. Needs `dependencies:read` for their ids.
 */
import type { DependencyInfo } from "../generated/protocol.ts";
import type { PackageEffects } from "./effects.ts";
import { ExtendedVersion, VersionRange } from "./version.ts";

/** What is needed of one. */
export type DependencyRequirement =
  | { kind: "running"; versionRange: string; healthChecks: readonly string[] }
  | { kind: "exists"; versionRange: string };

/** By package. */
export type Requirements = Record<string, DependencyRequirement>;

/** A step of `setupInit` that says what is needed. */
export function setupDependencies<const R extends Requirements>(
  fn: (options: { effects: PackageEffects }) => Promise<R>,
): (effects: PackageEffects) => Promise<null> {
  return async (effects) => {
    const requirements = await fn({ effects });
    for (const { versionRange } of Object.values(requirements)) VersionRange.parse(versionRange);
    effects.state.requirements = requirements;
    return null;
  };
}

/** Whether what is needed is there. Functions that begin with `throwIf` say what is not. */
export interface CheckDependencies<Id extends string = string> {
  infoFor(id: Id): { requirement: DependencyRequirement; result: DependencyInfo };
  installedSatisfied(id: Id): boolean;
  installedVersionSatisfied(id: Id): boolean;
  runningSatisfied(id: Id): boolean;
  /** It asks for nothing that is critical. */
  tasksSatisfied(id: Id): boolean;
  healthCheckSatisfied(id: Id, healthCheckId: string): boolean;
  satisfied(): boolean;
  throwIfInstalledNotSatisfied(id: Id): null;
  throwIfInstalledVersionNotSatisfied(id: Id): null;
  throwIfRunningNotSatisfied(id: Id): null;
  throwIfTasksNotSatisfied(id: Id): null;
  throwIfHealthNotSatisfied(id: Id, healthCheckId?: string): null;
  throwIfNotSatisfied(id?: Id): null;
}

/**
 * Asks the host how those that are needed are now; `ids`: only these.
 *
 * @throws HostError `denied` without `dependencies:read` for one of them
 */
export async function checkDependencies<Id extends string>(
  effects: PackageEffects,
  ids?: readonly Id[],
): Promise<CheckDependencies<Id>> {
  const { requirements } = effects.state;
  const asked = (ids ?? Object.keys(requirements)) as readonly Id[];
  const ask = (packageId: string): Promise<DependencyInfo> =>
    effects.host.call("dependencies.read", { packageId });
  const found = new Map(await Promise.all(asked.map(async (id) => [id, await ask(id)] as const)));
  return judge(requirements, found);
}

/** What of a dependency is not as it is needed, in the order in which it is looked at. @internal */
export function judge<Id extends string>(
  requirements: Requirements,
  found: ReadonlyMap<Id, DependencyInfo>,
): CheckDependencies<Id> {
  const infoFor = (id: Id): { requirement: DependencyRequirement; result: DependencyInfo } => {
    const result = found.get(id);
    if (result === undefined) throw new RangeError(`nobody has asked about ${id}`);
    return { requirement: requirements[id] ?? { kind: "exists", versionRange: "*" }, result };
  };
  const title = (id: Id): string => infoFor(id).result.name ?? id;
  const installed = (id: Id): string | null =>
    infoFor(id).result.version === undefined ? `${title(id)} is not installed` : null;
  const version = (id: Id): string | null => {
    const { requirement, result } = infoFor(id);
    const there = result.version;
    const range = VersionRange.parse(requirement.versionRange);
    if (there !== undefined && range.satisfiedBy(ExtendedVersion.parse(there))) return null;
    return installed(id) ?? `${title(id)} is needed in ${range}, not in ${there}`;
  };
  const running = (id: Id): string | null => {
    const { requirement, result } = infoFor(id);
    return requirement.kind === "exists" || result.running ? null : `${title(id)} does not run`;
  };
  const tasks = (id: Id): string | null => {
    const task = infoFor(id).result.tasks.find(({ severity }) => severity === "critical");
    return task === undefined ? null : `${title(id)} waits for its action ${task.action}`;
  };
  const health = (id: Id, check?: string): string | null => {
    const { requirement, result } = infoFor(id);
    const needed = requirement.kind === "running" ? requirement.healthChecks : [];
    for (const one of check === undefined ? needed : [check]) {
      const said = result.health.find((report) => report.id === one);
      if (said?.result === "success" || said?.result === "disabled") continue;
      return `${title(id)}: ${said?.name ?? one} ${said?.message ?? said?.result ?? "says nothing"}`;
    }
    return null;
  };
  const all = (id: Id): string[] =>
    [installed(id) ?? version(id), running(id), tasks(id), health(id)].filter((why) => why !== null);
  const refuse = (why: readonly (string | null)[]): null => {
    const said = why.filter((one) => one !== null);
    if (said.length > 0) throw new Error(said.join("; "));
    return null;
  };
  return {
    infoFor,
    installedSatisfied: (id) => installed(id) === null,
    installedVersionSatisfied: (id) => version(id) === null,
    runningSatisfied: (id) => running(id) === null,
    tasksSatisfied: (id) => tasks(id) === null,
    healthCheckSatisfied: (id, check) => health(id, check) === null,
    satisfied: () => [...found.keys()].every((id) => all(id).length === 0),
    throwIfInstalledNotSatisfied: (id) => refuse([installed(id)]),
    throwIfInstalledVersionNotSatisfied: (id) => refuse([version(id)]),
    throwIfRunningNotSatisfied: (id) => refuse([running(id)]),
    throwIfTasksNotSatisfied: (id) => refuse([tasks(id)]),
    throwIfHealthNotSatisfied: (id, check) => refuse([health(id, check)]),
    throwIfNotSatisfied: (id) => refuse((id === undefined ? [...found.keys()] : [id]).flatMap(all)),
  };
}
