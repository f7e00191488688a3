import { actions, setPassword } from "./actions";
import { setDependencies } from "./dependencies";
import { setInterfaces } from "./interfaces";
import { sdk } from "./sdk";
import { storeJson } from "./store";
import { versionGraph } from "./versions";

const seed = sdk.setupOnInit(async (effects) => {
  await storeJson.merge(effects, {});
});

const askForPassword = sdk.setupOnInit(async (effects, kind) => {
  if (kind !== "install") return;
  await sdk.action.createOwnTask(effects, setPassword, "critical", {
    reason: "Nobody can connect without one",
  });
});

export const init = sdk.setupInit(
  versionGraph,
  seed,
  setInterfaces,
  setDependencies,
  actions,
  askForPassword,
);

export const uninit = sdk.setupUninit(versionGraph);
