/**
 * Forms, actions and manifests of packages: what needs no host.
 */
import { describe, expect, test } from "vitest";
import {
  Action,
  type ActionMetadata,
  Actions,
  FileHelper,
  InputError,
  InputSpec,
  List,
  type PackageEffects,
  StartSdk,
  setupManifest,
  Value,
  Variants,
} from "../../src/package/index.ts";

const form = InputSpec.of({
  name: Value.text({ name: "Name", required: true, default: null, minLength: 2, maxLength: 4 }),
  note: Value.textarea({ name: "Note", required: false, default: null }),
  port: Value.number({ name: "Port", required: true, default: 80, integer: true, min: 1, max: 65_535 }),
  on: Value.toggle({ name: "On", default: false }),
  kind: Value.select({ name: "Kind", values: { a: "A", b: "B" }, default: "a" }),
  some: Value.multiselect({ name: "Some", values: { x: "X", y: "Y" }, default: [] }),
  inner: Value.object(
    { name: "Inner" },
    InputSpec.of({ code: Value.text({ name: "Code", required: true, default: "", patterns: [CODE()] }) }),
  ),
});
function CODE(): { regex: string; description: string } {
  return { regex: "^[0-9]+$", description: "only digits" };
}
const good = { name: "Ada", note: "", port: 1, on: true, kind: "b", some: ["x"], inner: { code: "12" } };
const metadata: ActionMetadata = {
  name: "Set",
  description: "",
  warning: null,
  allowedStatuses: "any",
  group: null,
  visibility: "enabled",
};
// Nothing here asks it anything.
const effects = {} as PackageEffects;

describe("J5: forms", () => {
  test("what fits is typed, and nothing else is taken", () => {
    const answers: { name: string; note: string | null; port: number; kind: "a" | "b" } = form.validate(good);
    expect(answers).toEqual({ ...good, note: null });
    expect(form.build().port).toMatchObject({ type: "number", name: "Port", max: 65_535 });
  });

  test.each([
    [{ name: "" }, "name: it is missing"],
    [{ name: "A" }, "name: it is shorter than 2"],
    [{ name: "Adele" }, "name: it is longer than 4"],
    [{ name: 3 }, "name: it is no text"],
    [{ port: 1.5 }, "port: it is no whole number"],
    [{ port: 0 }, "port: it is less than 1"],
    [{ port: Number.NaN }, "port: it is no number"],
    [{ on: 1 }, "on: it is neither true nor false"],
    [{ kind: "toString" }, "kind: it is none of a, b"],
    [{ some: ["x", "z"] }, "some: it is no list of x, y"],
    [{ inner: { code: "1a" } }, "inner.code: only digits"],
    [{ inner: [] }, "inner: it is no object"],
    [{ more: 1 }, "more: nobody asks for it"],
  ])("%j is refused by its field", (change, message) => {
    expect(() => form.validate({ ...good, ...change })).toThrow(message);
    expect(() => form.validate({ ...good, ...change })).toThrow(InputError);
  });
});

describe("J5: forms of start-sdk's kinds", () => {
  const variants = Variants.of({
    none: { name: "None", spec: InputSpec.of({}) },
    own: {
      name: "Own",
      spec: InputSpec.of({ host: Value.text({ name: "Host", required: true, default: null }) }),
    },
  });
  const rich = InputSpec.of({
    mail: Value.union({ name: "Mail", default: "none", variants }),
    names: Value.list(List.text({ name: "Names", maxLength: 2 }, { patterns: [CODE()] })),
    people: Value.list(
      List.obj(
        { name: "People" },
        {
          spec: InputSpec.of({
            born: Value.number({ name: "Born", required: false, default: null, integer: true }),
          }),
        },
      ),
    ),
    maybe: Value.triState({ name: "Maybe", default: null }),
    secret: Value.hidden<{ a: number }>(),
  });
  const answers = {
    mail: { selection: "own", value: { host: "h" } },
    names: ["1"],
    people: [{ born: null }],
    maybe: null,
    secret: { a: 1 },
  };

  test("what fits is typed", () => {
    const fits = rich.validate(answers);
    const mail: { selection: "none"; value: object } | { selection: "own"; value: { host: string } } =
      fits.mail;
    const people: { born: number | null }[] = fits.people;
    expect([mail, people, fits.secret.a]).toEqual([answers.mail, answers.people, 1]);
    expect(rich.build().mail).toMatchObject({ variants: { own: { spec: { host: { type: "text" } } } } });
  });

  test.each([
    [{ mail: { selection: "toString", value: {} } }, "mail: selection is none of none, own"],
    [{ mail: { selection: "own", value: {} } }, "mail.value.host: it is missing"],
    [{ mail: null }, "mail: selection is none of"],
    [{ names: ["1", "x"] }, "names.1: only digits"],
    [{ names: ["1", "2", "3"] }, "names: there are more than 2"],
    [{ people: [{ born: "x" }] }, "people.0.born: it is no number"],
    [{ people: {} }, "people: it is no list"],
    [{ maybe: 0 }, "maybe: it is neither true, false nor null"],
  ])("%j is refused by its field", (change, message) => {
    expect(() => rich.validate({ ...answers, ...change })).toThrow(message);
  });

  test("a field may be made when it is shown, and is checked as it is then", async () => {
    let names: Record<string, string> = { a: "A" };
    const one = Value.dynamicSelect(async () => ({ name: "One", values: names, default: "a" }));
    const nested = InputSpec.of({ inner: Value.object({ name: "Inner" }, InputSpec.of({ one })) });
    const choose = Action.withInput(
      "choose",
      metadata,
      nested,
      async () => null,
      async () => null,
    );
    expect((await choose.describe(effects)).spec).toMatchObject({
      inner: { spec: { one: { values: { a: "A" } } } },
    });
    await expect(choose.run({ effects, input: { inner: { one: "b" } } })).rejects.toThrow(
      "inner.one: it is none of a",
    );
    names = { b: "B" };
    expect(await choose.run({ effects, input: { inner: { one: "b" } } })).toBeNull();
    expect(() => nested.build()).toThrow("resolved before it is shown");
  });
});

describe("J2: actions", () => {
  test("an action is called with input that was checked, or not at all", async () => {
    const seen: unknown[] = [];
    const run = async ({ input }: { input: unknown }): Promise<null> => {
      seen.push(input);
      return null;
    };
    const set = Action.withInput("set", metadata, form, async () => ({ name: "Eva" }), run);
    const off = Action.withoutInput("off", { ...metadata, visibility: { disabled: "not now" } }, run);
    const actions = Actions.of().addAction(set).addAction(off);
    await expect(set.run({ effects, input: { ...good, port: "x" } })).rejects.toThrow(
      "port: it is no number",
    );
    expect(await set.run({ effects, input: good })).toBeNull();
    await expect(off.run({ effects, input: null })).rejects.toThrow("off: not now");
    expect(seen).toEqual([{ ...good, note: null }]);
    const described = await actions.describe(effects);
    expect(described.map(({ id }) => id)).toEqual(["set", "off"]);
    expect(described[0]).toMatchObject({ prefill: { name: "Eva" }, spec: { on: { type: "toggle" } } });
    expect(described[1]?.spec).toBeNull();
    expect(() => actions.addAction(off)).toThrow("there are two actions off");
  });
});

test("P1: names of a manifest are types, and volumes have their place", () => {
  const manifest = setupManifest({
    manifest: 1,
    id: "notes",
    name: "Notes",
    version: "1.0.0",
    images: { main: { file: "images/main.tar" } },
    volumes: { data: {} },
  });
  const sdk = StartSdk.of().withManifest(manifest).build(true);
  expect(sdk.volumes.data).toEqual({ id: "data", path: "/media/startos/volumes/data" });
  const of: Parameters<typeof sdk.SubContainer.lazy>[1] = { imageId: "main" };
  expect(of.imageId).toBe("main");
  const file = FileHelper.json({ base: sdk.volumes.data, subpath: "/a.json" }, { parse: (value) => value });
  expect(file.path).toBe("/media/startos/volumes/data/a.json");
});
