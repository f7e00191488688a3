import { VersionInfo } from "@start9labs/start-sdk";
import { storeJson } from "../store";

export const v1_1_0 = VersionInfo.of({
  version: "1.1.0:0",
  releaseNotes: { en_US: "More memory" },
  migrations: {
    up: async ({ effects }) => {
      await storeJson.merge(effects, { sharedBuffers: "64MB" });
    },
    down: async ({ effects }) => {
      await storeJson.merge(effects, { sharedBuffers: "32MB" });
    },
  },
});
