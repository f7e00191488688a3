import { StartSdk } from "start-container/package";
import { manifest } from "./manifest.ts";

export const sdk = StartSdk.of().withManifest(manifest).build(true);
