import { writePage } from "./page.ts";
import { sdk } from "./sdk.ts";

const { Action, Actions, InputSpec, Value } = sdk;

const setTitle = Action.withInput(
  "set-title",
  {
    name: "Set the title",
    description: "What the page begins with",
    warning: null,
    allowedStatuses: "any",
    group: null,
    visibility: "enabled",
  },
  InputSpec.of({
    title: Value.text({ name: "Title", required: true, default: "Hello", minLength: 1, maxLength: 100 }),
  }),
  async ({ effects }) => {
    const { value } = await effects.host.kv("settings").get<string>("title");
    return value === undefined ? null : { title: value };
  },
  async ({ effects, input }) => {
    await effects.host.kv("settings").set("title", input.title);
    await writePage(effects);
    return { version: "1", title: "Title", message: `It is ${input.title} now`, result: null };
  },
);

export const actions = Actions.of().addAction(setTitle);
