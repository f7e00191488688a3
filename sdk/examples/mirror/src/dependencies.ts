import { sdk } from "./sdk.ts";

export const setDependencies = sdk.setupDependencies(async () => ({
  "my-service": { kind: "running", versionRange: ">=0.1.0", healthChecks: ["web"] },
}));
