import { actions } from "./actions.ts";
import { createBackup, restoreInit } from "./backups.ts";
import { main } from "./main.ts";
import { sdk } from "./sdk.ts";

export const { init, uninit, call } = sdk.serve({
  main,
  init: sdk.setupInit(restoreInit),
  actions,
  createBackup,
});
