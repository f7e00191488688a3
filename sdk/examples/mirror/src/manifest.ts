import { setupManifest } from "start-container/package";

export const manifest = setupManifest({
  manifest: 1,
  id: "mirror",
  name: "Mirror",
  version: "1.0.0",
  description: "Serves the page of another package",
  images: { main: { file: "images/main.tar" } },
  dependencies: {
    "my-service": { version: ">=0.1", reason: "Its page is what this one serves", volumes: ["main"] },
  },
  entries: { main: { worker: { script: "entries/main.js" } } },
  capabilities: {
    subcontainers: { reason: "Runs its web server", names: ["main"] },
    "dependencies:read": { reason: "Looks whether the page is looked after", packages: ["my-service"] },
  },
  limits: { memoryBytes: 512 * 1024 * 1024 },
});
