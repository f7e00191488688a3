// Measures the SDK, or what it is compared with, from inside a Node process. Reads `WHAT COUNT` on standard input,
// answers with a line of JSON.
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

async function execTrueIn(container) {
  const { exitCode } = await container.exec(["true"]);
  if (exitCode !== 0) throw new Error(`true ended with ${exitCode}`);
}

const execTrue = () => execTrueIn(running);

// Milliseconds from the end of one call to the end of the next, with `inFlight` calls on their way at any moment.
async function flowing(count, inFlight, work) {
  const times = [];
  let left = count;
  let last = process.hrtime.bigint();
  const lane = async () => {
    while (left-- > 0) {
      await work();
      const now = process.hrtime.bigint();
      times.push(Number(now - last) / 1e6);
      last = now;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, lane));
  const mean = times.reduce((sum, time) => sum + time, 0) / times.length;
  return { samples: [mean] };
}

// What each of these takes that were asked for at once, so many times.
async function atOnce(rounds, containers) {
  const times = [];
  for (let round = 0; round < rounds; round++) {
    await Promise.all(
      containers.map(async (container) => {
        const start = process.hrtime.bigint();
        await execTrueIn(container);
        times.push(Number(process.hrtime.bigint() - start) / 1e6);
      }),
    );
  }
  return { samples: times };
}

// The same without a pause, so many in all: how many fail, and why the first did.
async function many(count, containers) {
  let left = count;
  let failures = 0;
  let first;
  await Promise.all(
    containers.map(async (container) => {
      while (left-- > 0) {
        try {
          await execTrueIn(container);
        } catch (error) {
          failures++;
          first ??= String(error);
        }
      }
    }),
  );
  return { failures, first };
}

let podmans;

// By Docker's API: made, started, read to its end, and asked how it ended.
async function execByDockerode() {
  if (!podmans) {
    const { default: Docker } = await import(process.env.DOCKERODE);
    podmans = new Docker({ socketPath: process.env.PODMAN_SOCKET }).getContainer("idle0");
  }
  const exec = await podmans.exec({ Cmd: ["/bin/true"], AttachStdout: true, AttachStderr: true });
  const stream = await exec.start({ hijack: true, stdin: false });
  for await (const _chunk of stream);
  let state;
  do state = await exec.inspect();
  while (state.Running);
  if (state.ExitCode !== 0) throw new Error(`true ended with ${state.ExitCode} in podman's`);
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

// The same as one wish: what `crun run` and the calls of the floor do.
async function onceContained() {
  const { exitCode } = await SubContainer.runOnce(host, { imageId: "busybox", userns: true }, ["/bin/true"], containment);
  if (exitCode !== 0) throw new Error(`true ended with ${exitCode}`);
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

async function madeOf(imageId) {
  const sub = await SubContainer.of(host, { imageId, throwaway: true });
  await sub.destroy();
}

const things = {
  execFile: (count) => samples(count, execFileTrue),
  exec: (count) => samples(count, execTrue),
  ping: (count) => samples(count, () => host.request("image.list", {})),
  cold: (count) => samples(count, cold),
  execContained: (count) => samples(count, execContained),
  coldContained: (count) => samples(count, coldContained),
  onceContained: (count) => samples(count, onceContained),
  stdout: (count) => samples(count, stdout),
  idle: startIdle,
  idleEnd: endIdle,
  execTwo: (count) => flowing(count * 20, 2, execTrue),
  execFileTwo: (count) => flowing(count * 20, 2, execFileTrue),
  atOnceInOne: (count) => atOnce(count, Array(64).fill(running)),
  atOnceInMany: (count) => atOnce(count, idle),
  manyInOne: (count) => many(count, Array(64).fill(running)),
  manyInMany: (count) => many(count, idle),
  dockerode: (count) => samples(count, execByDockerode),
  layers1: (count) => samples(count, () => madeOf("layers1")),
  layers10: (count) => samples(count, () => madeOf("layers10")),
  layers100: (count) => samples(count, () => madeOf("layers100")),
  ofDebian: (count) => samples(count, () => madeOf("debian")),
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
