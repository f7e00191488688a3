import { sdk } from "./sdk.ts";

export const PORT = 8080;

export const main = sdk.setupMain(async ({ effects }) =>
  sdk.Daemons.of(effects)
    .addDaemon("web", {
      subcontainer: sdk.SubContainer.of(
        effects,
        { imageId: "main" },
        sdk.Mounts.of().mountDependency({
          dependencyId: "my-service",
          volumeId: "main",
          mountpoint: "/www",
          readonly: true,
        }),
        "web",
      ),
      exec: { command: ["httpd", "-f", "-p", `127.0.0.1:${PORT}`, "-h", "/www"] },
      ready: { display: "Web server", port: PORT },
      requires: [],
    })
    .addHealthCheck("source", {
      ready: {
        display: "The page's own server",
        fn: async () => {
          const check = await sdk.checkDependencies(effects);
          const well = check.satisfied() && check.healthCheckSatisfied("my-service", "web");
          return { result: well ? "success" : "failure", message: null };
        },
      },
      requires: [],
    }),
);
