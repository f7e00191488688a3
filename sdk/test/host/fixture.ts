/**
 * What the tests of this directory share: a connection for each file, a subcontainer for each test.
 */
import { afterAll, test as base, beforeAll, inject, type TestAPI } from "vitest";
import { connect, type Host, SubContainer, type SubContainerOwned } from "../../src/index.ts";

export { commandLines, until } from "./look.ts";

/** The name of this file's subcontainers; other files run at the same time on the same host. */
export const NAME: string = `test ${process.pid}`;

let host: Host;

beforeAll(async () => {
  host = await connect({ dataDir: inject("dataDir"), client: "tests" });
});

afterAll(async () => {
  const left = host.ended === undefined ? (await host.list()).filter(({ name }) => name === NAME) : [];
  host.close();
  if (left.length > 0) throw new Error(`not destroyed: ${left.map(({ guid }) => guid).join(", ")}`);
});

/** A test with a `host` and, where it asks for one, a throw-away subcontainer `sub` over busybox. */
export const test: TestAPI<{ host: Host; sub: SubContainerOwned }> = base.extend<{
  host: Host;
  sub: SubContainerOwned;
}>({
  // biome-ignore lint/correctness/noEmptyPattern: vitest reads the names of the fixtures from the pattern
  host: async ({}, use) => use(host),
  // biome-ignore lint/correctness/noEmptyPattern: as above
  sub: async ({}, use) => {
    const sub = await SubContainer.of(host, { imageId: "busybox", throwaway: true }, null, NAME);
    await use(sub);
    await sub.destroy();
  },
});
