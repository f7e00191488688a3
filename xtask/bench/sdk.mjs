// Measures the SDK from inside one Node process. Reads `WHAT COUNT` on standard input, answers with a line of JSON.
import { execFile } from "node:child_process";
import { createInterface } from "node:readline";

const { connect, SubContainer } = await import(process.env.SDK);
const host = await connect({ dataDir: process.env.START_CONTAINER_DATA_DIR });
const image = { imageId: "busybox", throwaway: true };
const running = await SubContainer.of(host, image, null, "bench");
await running.exec(["true"]);

async function samples(count, work) {
  const times = [];
  for (let i = 0; i < count; i++) {
    const start = process.hrtime.bigint();
    await work();
    times.push(Number(process.hrtime.bigint() - start) / 1e6);
  }
  return { samples: times };
}

function execFileTrue() {
  return new Promise((resolve, reject) =>
    execFile("/bin/true", (error) => (error ? reject(error) : resolve())),
  );
}

async function execTrue() {
  const { exitCode } = await running.exec(["true"]);
  if (exitCode !== 0) throw new Error(`true ended with ${exitCode}`);
}

async function cold() {
  const sub = await SubContainer.of(host, image);
  const leader = await sub.launch(["/bin/true"], { stdio: "ignore" });
  await leader.wait();
  await sub.destroy();
}

// What there is to contain somebody else's code with.
const containment = {
  limits: { memoryBytes: 64 * 2 ** 20, pids: 64, cpus: 1 },
  network: { mode: "private" },
};
let contained;

async function execContained() {
  if (!contained) {
    contained = await SubContainer.of(host, { ...image, userns: true }, null, "contained");
    await contained.launch(null, { ...containment, stdio: "ignore" });
  }
  const { exitCode } = await contained.exec(["true"]);
  if (exitCode !== 0) throw new Error(`true ended with ${exitCode}`);
}

async function coldContained() {
  const sub = await SubContainer.of(host, { ...image, userns: true });
  const leader = await sub.launch(["/bin/true"], { ...containment, stdio: "ignore" });
  await leader.wait();
  await sub.destroy();
}

async function stdout() {
  const process = await running.spawn(["dd", "if=/dev/zero", "bs=65536", "count=16384"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  let bytes = 0;
  for await (const chunk of process.stdout) bytes += chunk.length;
  await process.wait();
  if (bytes !== 2 ** 30) throw new Error(`${bytes} bytes came`);
}

let idle = [];

async function startIdle(count) {
  const start = process.hrtime.bigint();
  const pids = [];
  for (let i = 0; i < count; i++) {
    const sub = await SubContainer.of(host, image);
    const leader = await sub.launch(null, { stdio: "ignore" });
    pids.push(leader.pid);
    idle.push(sub);
  }
  return { ms: Number(process.hrtime.bigint() - start) / 1e6, pids };
}

async function endIdle() {
  for (const sub of idle) await sub.destroy();
  idle = [];
  return {};
}

const things = {
  execFile: (count) => samples(count, execFileTrue),
  exec: (count) => samples(count, execTrue),
  ping: (count) => samples(count, () => host.request("image.list", {})),
  cold: (count) => samples(count, cold),
  execContained: (count) => samples(count, execContained),
  coldContained: (count) => samples(count, coldContained),
  stdout: (count) => samples(count, stdout),
  idle: startIdle,
  idleEnd: endIdle,
};

for await (const line of createInterface({ input: process.stdin })) {
  const [what, count] = line.split(" ");
  try {
    console.log(JSON.stringify(await things[what](Number(count))));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
await running.destroy();
await contained?.destroy();
await host.close?.();
process.exit(0);
