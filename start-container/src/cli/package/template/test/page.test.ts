import assert from "node:assert/strict";
import { after, test } from "node:test";
import { connectTested } from "start-container/package";

const tested = await connectTested();
after(() => tested.close());

test("its daemons come up", async () => {
  await tested.healthy();
});

test("the title that was chosen is there the next time", async () => {
  const done = await tested.action("set-title", { title: "Mine" });
  assert.equal(done?.message, "It is Mine now");
  const [setTitle] = await tested.actions();
  assert.deepEqual(setTitle?.prefill, { title: "Mine" });
});
