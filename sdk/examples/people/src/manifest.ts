import { setupManifest } from "start-container/package";

export const manifest = setupManifest({
  manifest: 1,
  id: "people",
  name: "People",
  version: "1.0.0",
  description: "Who is who",
  images: { main: { file: "images/main.tar" } },
  volumes: { main: { description: "The database" } },
  entries: { main: { worker: { script: "entries/main.js" } } },
  capabilities: {
    subcontainers: { reason: "Runs its database and its web application", names: ["main"] },
    backups: { reason: "Dumps its database for a backup", names: ["main"] },
  },
  backup: { worker: "main" },
  limits: { memoryBytes: 1024 * 1024 * 1024, pids: 512 },
});
