import { utils } from "@start9labs/start-sdk";
import { sdk } from "./sdk";
import { storeJson } from "./store";
import { databases, mounts } from "./utils";

const { Action, Actions, InputSpec, Value } = sdk;

export const setPassword = Action.withInput(
  "set-password",
  async ({ effects: _ }) => ({
    name: "Set the password",
    description: "Of the role postgres",
    warning: null,
    allowedStatuses: "any",
    group: null,
    visibility: "enabled",
  }),
  InputSpec.of({
    password: Value.text({
      name: "Password",
      required: true,
      default: null,
      masked: true,
      minLength: 8,
      patterns: [utils.Patterns.ascii],
    }),
  }),
  async () => ({ password: utils.getDefaultString({ charset: "a-z,A-Z,0-9", len: 22 }) }),
  async ({ effects, input }) => storeJson.merge(effects, { password: input.password }),
);

export const createDatabase = Action.withInput(
  "create-database",
  {
    name: "Create a database",
    description: "It is empty at first",
    warning: null,
    allowedStatuses: "only-running",
    group: "Databases",
    visibility: "enabled",
  },
  InputSpec.of({
    name: Value.text({
      name: "Name",
      required: true,
      default: null,
      patterns: [{ regex: "^[a-z][a-z0-9_]{0,62}$", description: "small letters, digits and _" }],
    }),
  }),
  async () => {},
  async ({ effects, input }) => {
    await sdk.SubContainer.withTemp(effects, { imageId: "postgres" }, mounts, "createdb", (sub) =>
      sub.execFail(["createdb", "-h", databases, input.name], { user: "postgres" }),
    );
    return {
      version: "1",
      title: "Success",
      message: `${input.name} is there`,
      result: { type: "single", value: input.name, masked: false, copyable: true, qr: false },
    };
  },
);

export const actions = Actions.of().addAction(setPassword).addAction(createDatabase);
