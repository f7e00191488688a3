import { sdk } from "./sdk.ts";

const PORT = 8080;

export const main = sdk.setupMain(async ({ effects }) =>
  sdk.Daemons.of(effects).addDaemon("web", {
    subcontainer: sdk.SubContainer.lazy(
      effects,
      { imageId: "main" },
      sdk.Mounts.of().mountVolume({ volumeId: "main", mountpoint: "/www", readonly: true }),
      "web",
    ),
    exec: { command: ["httpd", "-f", "-p", `127.0.0.1:${PORT}`, "-h", "/www"] },
    ready: { display: "Web server", port: PORT },
    requires: [],
  }),
);
