import { sdk } from "./sdk";
import { port } from "./utils";

export const setInterfaces = sdk.setupInterfaces(async ({ effects }) => {
  const main = sdk.MultiHost.of(effects, "main");
  const origin = await main.bindPort(port, {
    protocol: null,
    preferredExternalPort: port,
    addSsl: null,
    secure: { ssl: false },
  });
  const sql = sdk.createInterface(effects, {
    name: "Database",
    id: "sql",
    description: "For clients of PostgreSQL",
    type: "api",
    masked: false,
    schemeOverride: { ssl: null, noSsl: "postgresql" },
    username: "postgres",
    path: "",
    query: {},
  });
  return [await origin.export([sql])];
});
