/**
 * Types that packages for StartOS know by the name `T`.
 */
import type { Buildable } from "./sdk.ts";

export type { HealthCheckResult, HealthStatus } from "../daemons/plan.ts";
export type { TaskSeverity } from "../generated/protocol.ts";
export type { ActionMetadata, ActionResult } from "./actions.ts";
export type { DependencyRequirement } from "./dependencies.ts";
export type { HealthReport as SetHealth, PackageEffects as Effects } from "./effects.ts";
export type { StartManifest as SDKManifest } from "./manifest.ts";
export type { LocaleString } from "./version-graph.ts";
/** What `setupMain` gives. */
export type DaemonBuildable = Buildable;
/** An id of a package. */
export type PackageId = string;
/** An id of an action. */
export type ActionId = string;
/** A mail server. */
export interface SmtpValue {
  host: string;
  port: number;
  from: string;
  username: string;
  password: string | null | undefined;
  security: "starttls" | "tls";
}
