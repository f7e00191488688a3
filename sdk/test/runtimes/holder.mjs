/**
 * Holds subcontainers in every state and then waits to be killed. Arguments: the data directory, a number to sleep.
 */
import { connect, SubContainer } from "start-container";

const [, , dataDir, mark] = process.argv;
const host = await connect({ dataDir });
const image = { imageId: "busybox", throwaway: true };
const subs = await Promise.all(Array.from({ length: 3 }, () => SubContainer.of(host, image, null, "held")));
void subs[0].exec(["sleep", mark], {}, null);
await subs[1].spawn(["sleep", mark], {});
await subs[2].launch(["sh", "-c", `sleep ${mark}; true`], { stdio: "ignore" });
await subs[1].exec(["true"]);
console.log(JSON.stringify(subs.map(({ guid }) => guid)));
