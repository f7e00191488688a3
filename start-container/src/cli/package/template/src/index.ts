import { actions } from "./actions.ts";
import { main } from "./main.ts";
import { writePage } from "./page.ts";
import { sdk } from "./sdk.ts";

export const { init, uninit, call } = sdk.serve({ main, init: sdk.setupInit(writePage), actions });
