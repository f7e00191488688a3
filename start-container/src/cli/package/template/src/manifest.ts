import { setupManifest } from "start-container/package";

export const manifest = setupManifest({
  manifest: 1,
  id: "ID",
  name: "ID",
  version: "0.1.0",
  description: "Serves a page",
  images: { main: { file: "images/main.tar" } },
  volumes: { main: {} },
  entries: { main: { worker: { script: "entries/main.js" } } },
  capabilities: {
    subcontainers: { reason: "Runs its web server", names: ["main"] },
    "kv:read": { reason: "Its settings", groups: ["sdk", "settings"] },
    "kv:write": { reason: "Its settings", groups: ["sdk", "settings"] },
    "files:read": { reason: "The page that it serves", paths: ["/media/startos/volumes/main"] },
    "files:write": { reason: "The page that it serves", paths: ["/media/startos/volumes/main"] },
  },
  limits: { memoryBytes: 512 * 1024 * 1024 },
});
