import { connect, SubContainer } from "start-container";

await using host = await connect();
await using sub = await SubContainer.of(host, { imageId: "busybox" });

const { stdout } = await sub.execFail([
  "sh",
  "-c",
  'echo "hello from $(uname -s), as process $$ of $(hostname)"',
]);
console.log(stdout.trim());
