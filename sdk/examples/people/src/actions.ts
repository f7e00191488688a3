import { query } from "./main.ts";
import { sdk } from "./sdk.ts";

const { Action, Actions, InputSpec, Value } = sdk;

const add = Action.withInput(
  "add",
  {
    name: "Add somebody",
    description: "Or change when they were born",
    warning: null,
    allowedStatuses: "only-running",
    group: null,
    visibility: "enabled",
  },
  InputSpec.of({
    name: Value.text({ name: "Name", required: true, default: null, minLength: 1, maxLength: 100 }),
    born: Value.number({
      name: "Born",
      required: false,
      default: null,
      integer: true,
      min: -3000,
      max: 3000,
    }),
  }),
  async () => null,
  async ({ input }) => {
    const born = input.born === null ? "" : String(input.born);
    await query(
      "INSERT INTO people VALUES (:'name', NULLIF(:'born', '')::int) ON CONFLICT (name) DO UPDATE SET born = EXCLUDED.born",
      { name: input.name, born },
    );
    const all = Number(await query("SELECT count(*) FROM people"));
    return { version: "1", title: "People", message: `There are ${all}`, result: { count: all } };
  },
);

export const actions = Actions.of().addAction(add);
