import { PORT } from "./main.ts";
import { sdk } from "./sdk.ts";

export const setInterfaces = sdk.setupInterfaces(async ({ effects }) => {
  const origin = await sdk.MultiHost.of(effects, "main").bindPort(PORT, { protocol: "http" });
  const page = sdk.createInterface(effects, {
    name: "The page",
    id: "page",
    description: "As the other package has written it",
    type: "ui",
    masked: false,
    schemeOverride: null,
    username: null,
    path: "",
    query: {},
  });
  return [await origin.export([page])];
});
