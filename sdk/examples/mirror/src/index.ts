import { setDependencies } from "./dependencies.ts";
import { setInterfaces } from "./interfaces.ts";
import { main } from "./main.ts";
import { sdk } from "./sdk.ts";

export const { init, uninit, call } = sdk.serve({
  init: sdk.setupInit(setDependencies, setInterfaces),
  main,
});
