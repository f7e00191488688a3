import { IMPOSSIBLE, VersionInfo } from "@start9labs/start-sdk";

export const v1_0_0 = VersionInfo.of({
  version: "1.0.0:0",
  releaseNotes: { en_US: "The first one" },
  migrations: { up: IMPOSSIBLE, down: IMPOSSIBLE },
});
