// Generated from protocol/ by `cargo xtask schema`. Do not edit.

/** The version of this protocol. */
export const PROTOCOL_VERSION = 1 as const;

/** The longest line, in bytes without its newline, that either side accepts. */
export const MAX_LINE = 33554432 as const;

/** The request was cancelled. */
export const REQUEST_CANCELLED = -32800 as const;

/** The request could not be carried out. */
export const REQUEST_FAILED = -32000 as const;

// data

/**
 * Bytes in a JSON message: as text when they are UTF-8, in base64 (RFC 4648, padded) when they are not, or when
 * JSON's escapes would make the text longer than that.
 */
export type Data = {
  text: string;
} | {
  base64: string;
};

// error

/**
 * The `data` member of an error response.
 */
export type ErrorData = {
  /** What sort of failure it is, for programs. */
  kind: ErrorKind;
  /** The step that failed, for people and tests: `mount volume`, `look up user`. */
  step: string;
  /** The thing it was done to: a path, an image, a command. */
  subject: string;
  /** The kernel's reason, where it was the kernel: `ENOENT`. */
  errno?: string;
};

/**
 * What sort of failure an error is.
 */
export type ErrorKind = "invalid" | "outOfOrder" | "unsupportedProtocol" | "notFound" | "exists" | "busy" | "notRunning" | "unknownUser" | "commandNotFound" | "commandNotExecutable" | "escape" | "corrupt" | "network" | "unauthorized" | "exhausted" | "kernel" | "internal";

// file

/**
 * Parameters of `file.chmod`.
 */
export type ChmodParams = {
  /** The subcontainer. */
  guid: string;
  /** Path inside. */
  path: string;
  /** Permission bits. */
  mode: number;
};

/**
 * Parameters of `file.chown`.
 */
export type ChownParams = {
  /** The subcontainer. */
  guid: string;
  /** Path inside. */
  path: string;
  /** Owner. */
  uid: number;
  /** Group. */
  gid: number;
};

/**
 * One entry of a directory.
 */
export type DirEntry = {
  /** Its name (U+FFFD where it is not UTF-8). */
  name: string;
  /** What it is. */
  kind: EntryKind;
};

/**
 * What a directory entry is.
 */
export type EntryKind = "file" | "directory" | "symlink" | "other";

/**
 * Parameters of `file.mkdir`.
 */
export type MkdirParams = {
  /** The subcontainer. */
  guid: string;
  /** Path inside. */
  path: string;
  /** Parents too, and no error if it exists. */
  recursive?: boolean;
  /** Permission bits. Default 0o755. */
  mode?: number;
};

/**
 * Names one path: parameters of `file.stat`, `file.readdir` and `file.readlink`.
 */
export type PathParams = {
  /** The subcontainer. */
  guid: string;
  /** Path inside. */
  path: string;
  /** Say what a link is instead of what it points to (`stat` only). */
  noFollow?: boolean;
};

/**
 * Parameters of `file.read`.
 */
export type ReadParams = {
  /** The subcontainer. */
  guid: string;
  /** Path inside. */
  path: string;
  /** First byte. Default 0. */
  offset?: number;
  /** Bytes at most. Default and maximum: 8 MiB. */
  length?: number;
};

/**
 * Result of `file.read`.
 */
export type ReadResult = {
  /** The bytes. */
  data: Data;
  /** The file ended with them. */
  eof: boolean;
};

/**
 * Result of `file.readdir`.
 */
export type ReaddirResult = {
  /** Its entries by name, without `.` and `..`. */
  entries: Array<DirEntry>;
};

/**
 * Result of `file.readlink`.
 */
export type ReadlinkResult = {
  /** Where the link points, as it is stored. */
  target: string;
};

/**
 * Parameters of `file.remove`.
 */
export type RemoveParams = {
  /** The subcontainer. */
  guid: string;
  /** Path inside; a link is removed itself. */
  path: string;
  /** A directory with all that is in it. Mounts inside are an error, never entered. */
  recursive?: boolean;
  /** No error if it does not exist. */
  force?: boolean;
};

/**
 * Parameters of `file.rename`.
 */
export type RenameParams = {
  /** The subcontainer. */
  guid: string;
  /** Path inside. */
  from: string;
  /** Path inside. */
  to: string;
};

/**
 * Result of `file.stat`.
 */
export type StatResult = {
  /** What it is. */
  kind: EntryKind;
  /** Bytes. */
  size: number;
  /** Permission bits, with setuid, setgid and sticky. */
  mode: number;
  /** Owner. */
  uid: number;
  /** Group. */
  gid: number;
  /** Last change of the content, in milliseconds since the Unix epoch. */
  mtime: number;
};

/**
 * Parameters of `file.symlink`.
 */
export type SymlinkParams = {
  /** The subcontainer. */
  guid: string;
  /** What the link says. */
  target: string;
  /** Path inside. */
  path: string;
};

/**
 * Parameters of `file.write`.
 */
export type WriteParams = {
  /** The subcontainer. */
  guid: string;
  /** Path inside. */
  path: string;
  /** What to write. */
  data: Data;
  /** Add to the end instead of replacing the content. */
  append?: boolean;
  /** Permission bits of a file that is created. Default 0o666 less the umask 0o022. */
  mode?: number;
  /** An error if it exists. */
  exclusive?: boolean;
};

// image

/**
 * Docker's `HEALTHCHECK`. Times are in nanoseconds, as there.
 */
export type Healthcheck = {
  /** `["CMD", …]`, `["CMD-SHELL", …]` or `["NONE"]`. */
  test: Array<string>;
  /** Between checks. */
  interval: number;
  /** For one check. */
  timeout: number;
  /** Before failures count. */
  startPeriod: number;
  /** Failures in a row until it is unhealthy. */
  retries: number;
};

/**
 * The part of an OCI image config that says how to run it.
 */
export type ImageConfig = {
  /** `NAME=value`, newlines safe. */
  env: Array<string>;
  /** User. */
  user?: string;
  /** Working directory. */
  workdir?: string;
  /** Entry point. */
  entrypoint: Array<string>;
  /** Default arguments. */
  cmd: Array<string>;
  /** The signal that stops it. */
  stopSignal?: string;
  /** Labels. */
  labels: {
    [key in string]: string;
  };
  /** `80/tcp`. */
  exposedPorts: Array<string>;
  /** Paths that it declares as volumes. */
  volumes: Array<string>;
  /** Docker's health check, where the image has one. */
  healthcheck?: Healthcheck;
};

/**
 * An image in the store.
 */
export type ImageInfo = {
  /** The digest of its config, `sha256:…`. */
  digest: string;
  /** The names that point to it. */
  names: Array<string>;
  /** `linux`. */
  os: string;
  /** `amd64`, `arm64`. */
  architecture: string;
  /** Digests of its uncompressed layers (diff ids), lowest first. */
  layers: Array<string>;
  /** Bytes of all its layers, unpacked. */
  size: number;
  /** When it was imported, in milliseconds since the Unix epoch. */
  imported: number;
  /** How it wants to be run. */
  config: ImageConfig;
};

/**
 * Result of `image.list`.
 */
export type ImageListResult = {
  /** Every image, oldest first. */
  images: Array<ImageInfo>;
};

/**
 * Names one image: parameters of `image.inspect` and `image.remove`.
 */
export type ImageParams = {
  /** Name, digest, or an unambiguous beginning of the digest. */
  imageId: string;
};

/**
 * Parameters of `image.import`. Progress is sent as `$/progress`.
 */
export type ImportParams = {
  /**
   * A path on the host: an OCI layout (directory or archive), a docker-archive, a rootfs tar (plain, gzip or
   * zstd) or a rootfs directory. Which one it is, is read from the bytes.
   */
  path: string;
  /** The name to give it. Default: the name in the archive, else the file's own. */
  name?: string;
};

/**
 * Parameters of `image.pull`. Progress is sent as `$/progress`.
 */
export type PullParams = {
  /** `[registry/]repository[:tag][@digest]`. */
  reference: string;
  /** The name to give it. Default: the reference. */
  name?: string;
  /** `os/architecture[/variant]`. Default: this machine's. */
  platform?: string;
  /** Speak plain HTTP to the registry. */
  insecure?: boolean;
};

/**
 * Result of `image.remove` and `image.gc`.
 */
export type RemovedResult = {
  /** Digests of images and layers that were removed. */
  removed: Array<string>;
  /** Bytes freed. */
  freed: number;
};

// limits

/**
 * Bytes for one size of huge pages.
 */
export type HugePageLimit = {
  /** As the kernel writes it: `2MB`, `1GB`. */
  pageSize: string;
  /** Bytes; none at all is a limit too. */
  limitBytes: number;
};

/**
 * Rates for one block device.
 */
export type IoLimit = {
  /** A whole disk, as `8:0` or `/dev/sda`. The kernel refuses partitions. */
  device: string;
  /** Bytes read in a second. */
  readBps?: number;
  /**
   * Bytes written in a second. Through v1 only what is written directly or synchronously is held back: the
   * kernel's own writing of the page cache belongs to nobody there.
   */
  writeBps?: number;
  /** Reads in a second. */
  readIops?: number;
  /** Writes in a second. */
  writeIops?: number;
};

/**
 * Limits of one group. What is absent is not limited, and left as it is by an update.
 *
 * An unknown name is refused when it is read: a misspelt limit would be none.
 */
export type Limits = {
  /**
   * Memory in bytes, page cache and kernel memory included; at least 6 MiB, as Docker has it. What goes beyond it
   * is reclaimed, then swapped out, then a process of the group is killed.
   */
  memoryBytes?: number;
  /**
   * Memory in bytes that is reclaimed last when the machine runs short; at most `memoryBytes`. A wish to the
   * kernel: `memory.low`, and in v1 the soft limit.
   */
  memoryReservationBytes?: number;
  /**
   * Swap space in bytes, beside the memory. Needs `memoryBytes`. Absent beside `memoryBytes`: as much again, as in
   * Docker.
   */
  swapBytes?: number;
  /** Processors' worth of time: 0.5 is half of one. From 0.01 to as many as are online. */
  cpus?: number;
  /**
   * The period in which `cpus` is measured out, in microseconds, 1,000 to 1,000,000. Absent: 100,000. Needs
   * `cpus`.
   */
  cpuPeriodMicros?: number;
  /** Share of processor time when there is not enough for all, 1 to 10,000. The kernel's default is 100. */
  cpuWeight?: number;
  /** Processors that may be used, as the list `0-3,5`. */
  cpusetCpus?: string;
  /** Memory nodes that may be used, as a list. */
  cpusetMems?: string;
  /** Processes and threads together, at least 1. */
  pids?: number;
  /**
   * Share of block devices' time, 10 to 1,000, as Docker's `--blkio-weight`. Has an effect where the device's
   * scheduler knows weights (bfq), or by the kernel's cost model in v2.
   */
  ioWeight?: number;
  /** Limits for block devices, each device once. */
  io?: Array<IoLimit>;
  /** Limits for huge pages, each size once. */
  hugetlb?: Array<HugePageLimit>;
};

// network

/**
 * Which network a container has.
 */
export type Network = {
  mode: "host";
} | {
  mode: "none";
} | {
  mode: "private";
  /** Those on a network of one name reach each other, and resolve each other's names. Default: `default`. */
  name?: string;
  /** Names beside its id by which they do. */
  aliases?: Array<string>;
  /** Ports of the machine that lead to its own: `[ADDRESS:]PORT:PORT[/udp]`, 0 for any free one. */
  publish?: Array<string>;
};

/**
 * A container's place in a private network.
 */
export type NetworkInfo = {
  /** The network's name. */
  name: string;
  /** Its addresses, with the length of the prefix. */
  addresses: Array<string>;
  /** Its names there. */
  names: Array<string>;
  /** Its published ports, with those that were chosen. */
  published: Array<string>;
};

// process

/**
 * What a container that runs is allowed.
 */
export type Allowed = {
  /** The capabilities that root inside can have. */
  capabilities: Array<string>;
  /** The filter of its system calls. */
  seccomp: SeccompProfile;
  /** It shares the `/dev` and `/sys` of the host, or of the sandbox that it is in. */
  sharedDevSys: boolean;
  /** It shares the `/run` of the host, or of the sandbox that it is in. */
  sharedRun: boolean;
  /** What everything in it may use together. */
  limits?: Limits;
  /** Its network. */
  network: Network;
  /** The file mode creation mask, if it was given at launch. */
  umask?: number;
  /** Limits of each process that were given at launch. */
  ulimits?: {
    [key in string]: Ulimit;
  };
  /** How early the kernel kills it, if that was given at launch. */
  oomScoreAdj?: number;
};

/**
 * What `launch`, `exec` and `spawn` share.
 */
export type CommandOptions = {
  /** Environment variables beyond the image's own; the same name replaces it. */
  env?: {
    [key in string]: string;
  };
  /** Working directory inside. Default: the image's, else `/`. Created for `launch` when it is missing. */
  cwd?: string;
  /**
   * `name`, `uid`, `name:group` or `uid:gid`. Names are looked up in the container's own files. Default: the
   * image's user, else root.
   */
  user?: string;
  /** The file mode creation mask, 0 to 0o777. Default: the launch's, else 0o022. */
  umask?: number;
  /**
   * Limits of each process, by the names of `setrlimit(2)` in small letters: `nofile`, `nproc`, `core`, … Default
   * for a name that is absent: the launch's, else one that does not depend on who runs the host (`nofile` is
   * 1024:524288). A hard limit above the host's own needs `CAP_SYS_RESOURCE` there, and no user namespace.
   */
  ulimits?: {
    [key in string]: Ulimit;
  };
  /**
   * How early the kernel kills it when memory runs out, -1000 (never) to 1000 (first). Default: the launch's, else
   * 0. Less than the host's own needs `CAP_SYS_RESOURCE` there.
   */
  oomScoreAdj?: number;
};

/**
 * Parameters of `subcontainer.exec`: runs a command to its end in one round trip. When the subcontainer has no
 * leader yet, an idle init is launched first.
 */
export type ExecParams = {
  /** The subcontainer. */
  guid: string;
  /** The command and its arguments. */
  command: Array<string>;
  /** Environment, working directory, user. */
  options?: CommandOptions;
  /** Standard input; `/dev/null` when absent. */
  input?: Data;
  /** Milliseconds until the command and everything it started is ended. */
  timeout?: number;
  /** Milliseconds between SIGTERM and SIGKILL at a timeout or a cancellation. Default 0: SIGKILL at once. */
  grace?: number;
  /**
   * Bytes kept of each of stdout and stderr; the rest is read and dropped, and the result says so.
   * Default and maximum: 8 MiB.
   */
  maxBuffer?: number;
};

/**
 * Result of `subcontainer.exec`.
 */
export type ExecResult = {
  /** How the command ended. */
  outcome: Outcome;
  /** Standard output. */
  stdout: Data;
  /** Standard error. */
  stderr: Data;
  /** Standard output was longer than `maxBuffer`. */
  stdoutTruncated: boolean;
  /** Standard error was longer than `maxBuffer`. */
  stderrTruncated: boolean;
};

/**
 * Parameters of `subcontainer.kill`.
 */
export type KillParams = {
  /** The process. */
  process: string;
  /** Signal name, with or without `SIG`. Default `SIGTERM`. */
  signal?: string;
  /** Send it to everything that the process started too. `SIGKILL` to a tree leaves none alive. */
  tree?: boolean;
};

/**
 * Result of `subcontainer.kill`.
 */
export type KillResult = {
  /** Whether there was still a process to send it to. */
  delivered: boolean;
};

/**
 * Parameters of `subcontainer.launch`: starts the leader, PID 1 inside.
 */
export type LaunchParams = {
  /** The subcontainer. */
  guid: string;
  /** The command that becomes PID 1. Absent: our idle init, which reaps orphans and stops on SIGTERM. */
  command?: Array<string>;
  /** Run the command under our init instead of as PID 1. */
  init?: boolean;
  /**
   * Share the host's `/dev` and `/sys` recursively instead of a private `/dev` and a read-only `/sys`. In a sandbox it
   * shares that one's in any case, and never the host's.
   */
  sharedDevSys?: boolean;
  /** Share the host's `/run` recursively; in a sandbox, that one's. */
  sharedRun?: boolean;
  /** Privileges that are not the default's. Commands that run in it later have the same. */
  privileges?: Privileges;
  /** What everything in it may use together. Commands that run in it later count. */
  limits?: Limits;
  /**
   * Its network, and that of commands that run in it later. Default: the machine's; in a sandbox, that one's, and no
   * other can be asked for.
   */
  network?: Network;
  /** Environment, working directory, user. */
  options?: CommandOptions;
  /** Standard streams. */
  streams?: Streams;
};

/**
 * How a process ended.
 */
export type Outcome = {
  kind: "exit";
  /** The exit code, 0 to 255. */
  code: number;
} | {
  kind: "signal";
  /** The signal's name, `SIGKILL`. */
  signal: string;
  /** Its number on the host. */
  number: number;
} | {
  kind: "timeout";
} | {
  kind: "abort";
} | {
  kind: "outOfMemory";
} | {
  kind: "unknown";
};

/**
 * Privileges of a container beyond, or below, the default.
 */
export type Privileges = {
  /** Capabilities (`NET_ADMIN`, `CAP_NET_ADMIN`, or `ALL`) that root inside has beyond the default. */
  capAdd?: Array<string>;
  /** Capabilities, or `ALL`, that it has not; taken away before `capAdd` is added. */
  capDrop?: Array<string>;
  /** Which system calls it may make. */
  seccomp?: Seccomp;
};

/**
 * Parameters of `subcontainer.resize`.
 */
export type ResizeParams = {
  /** The process. */
  process: string;
  /** The new size. */
  size: TerminalSize;
};

/**
 * Which system calls a container may make.
 */
export type Seccomp = SeccompProfile | Record<string, unknown>;

/**
 * Filters that have a name.
 */
export type SeccompProfile = "default" | "socketcall" | "unconfined" | "own";

/**
 * Parameters of `subcontainer.spawn`: starts a command in a running subcontainer and answers at once.
 */
export type SpawnParams = {
  /** The subcontainer. */
  guid: string;
  /** The command and its arguments; the command is looked up in the container's PATH. */
  command: Array<string>;
  /** Environment, working directory, user. */
  options?: CommandOptions;
  /** Standard streams. */
  streams?: Streams;
};

/**
 * Result of `subcontainer.launch` and `subcontainer.spawn`: the process runs.
 */
export type SpawnResult = {
  /**
   * The name of the process for `stream.attach`, `kill`, `wait`, `resize`. It is forgotten when a `wait` has
   * been answered, when the subcontainer is destroyed, or when its owner's connection ends.
   */
  process: string;
  /** Process id on the host. */
  pid: number;
};

/**
 * What a process of `spawn` or `launch` gets as its standard streams.
 */
export type Stdio = "null" | "pipe";

/**
 * The standard streams of a process.
 */
export type Streams = {
  /** Standard input. */
  stdin?: Stdio;
  /** Standard output. */
  stdout?: Stdio;
  /** Standard error. */
  stderr?: Stdio;
  /**
   * A terminal of this size instead of pipes; attached as `terminal`. Standard error stays apart, as a pipe,
   * when `stderr` is `pipe`.
   */
  terminal?: TerminalSize;
};

/**
 * A terminal's size in characters.
 */
export type TerminalSize = {
  /** Rows. */
  rows: number;
  /** Columns. */
  cols: number;
};

/**
 * A limit of a process; -1 is no limit.
 */
export type Ulimit = {
  /** What holds; the process can raise it up to the hard one. */
  soft: number;
  /** Default: the soft one. */
  hard?: number;
};

/**
 * Parameters of `subcontainer.wait`.
 */
export type WaitParams = {
  /** The process. */
  process: string;
};

/**
 * Result of `subcontainer.wait`.
 */
export type WaitResult = {
  /** How it ended. */
  outcome: Outcome;
};

// sandbox

/**
 * Parameters of `sandbox.create`.
 */
export type CreateSandboxParams = {
  /**
   * An image for the sandbox's own processes: its name, or its digest `sha256:…`, or an unambiguous beginning of it.
   * Default: an empty rootfs.
   */
  imageId?: string;
  /** A name for people, and its hostname where it can be one. */
  name?: string;
  /** The rootfs need not survive a crash of the machine: its upper layer is never synced (overlay `volatile`). */
  throwaway?: boolean;
  /** It outlives this connection. Otherwise it is destroyed when the connection ends, with everything in it. */
  detached?: boolean;
  /** What it is. */
  settings?: SandboxSettings;
};

/**
 * Result of `sandbox.list`.
 */
export type ListSandboxesResult = {
  /** Every sandbox of this host, oldest first. */
  sandboxes: Array<SandboxInfo>;
};

/**
 * A sandbox, as `sandbox.list` and `sandbox.inspect` show it.
 */
export type SandboxInfo = {
  /** Its id. */
  guid: string;
  /** Its name for people. */
  name?: string;
  /** The digest of the image for its own processes, if it has one. */
  imageId?: string;
  /** Where its rootfs is mounted on the host. */
  rootfs: string;
  /** Milliseconds since the Unix epoch. */
  created: number;
  /** Not synced to disk. */
  throwaway: boolean;
  /** The id of the machine that is 0 inside, in each of its subcontainers too. */
  firstId: number;
  /** What its init is doing. When that has ended, so has everything in it. */
  state: RunState;
  /** What it was made with. */
  settings: SandboxSettings;
  /** Its own mounts, in the order they were made. */
  mounts: Array<Mount>;
  /** The ids of its subcontainers, oldest first. */
  subcontainers: Array<string>;
};

/**
 * What a sandbox was made with, and is started with again.
 */
export type SandboxSettings = {
  /** The network of everything in it: `none` (the default) or a private one. Never the machine's. */
  network?: Network;
  /** What everything in it may use together. */
  limits?: Limits;
};

// session

/**
 * Parameters of `stream.attach`, the first and only request of a connection that then carries bytes.
 * A stream can be attached once at a time; after a detach it can be attached again.
 */
export type AttachStreamParams = {
  /** The process, as `subcontainer.spawn` or `subcontainer.launch` named it. */
  process: string;
  /** Which stream. */
  stream: StreamKind;
};

/**
 * Parameters of the notification `$/cancelRequest`, client to host. The request named is answered with code
 * -32800 once whatever it had started is gone.
 */
export type CancelParams = {
  /** The id of the request to cancel. */
  id: number;
};

/**
 * Something that happened to a subcontainer or a sandbox: the parameters of the notification `event`.
 */
export type Event = {
  /** Milliseconds since the Unix epoch. */
  time: number;
  /** The subcontainer. */
  guid: string;
} & ({
  event: "created";
  /** The image beneath it; empty for a sandbox without one. */
  imageId: string;
} | {
  event: "launched";
  /** Its process id on the host. */
  pid: number;
} | {
  event: "exited";
  /** How. */
  outcome: Outcome;
} | {
  event: "mounted";
  /** Where. */
  mountpoint: string;
} | {
  event: "unmounted";
  /** Where. */
  mountpoint: string;
} | {
  event: "destroyed";
} | {
  event: "lagged";
  /** How many. */
  dropped: number;
});

/**
 * Parameters of `hello`, the first request of every connection.
 */
export type HelloParams = {
  /** The protocol version that the client speaks. */
  protocol: number;
  /** Name and version of the client, for the host's log. */
  client: string;
};

/**
 * Result of `hello`.
 */
export type HelloResult = {
  /** The protocol version that both will speak. */
  protocol: number;
  /** Name and version of the host, `start-container 0.1.0`. */
  server: string;
  /** The host's data directory. */
  dataDir: string;
};

/**
 * Parameters of the notification `$/progress`, host to client.
 */
export type ProgressParams = {
  /** The id of the request that progresses. */
  id: number;
  /** What is being done, for a person: `layer sha256:1234…`. */
  stage: string;
  /** Units done (bytes unless `stage` says otherwise). */
  done: number;
  /** Units in all, where known. */
  total?: number;
};

/**
 * Which of a process's streams a second connection carries.
 */
export type StreamKind = "stdin" | "stdout" | "stderr" | "terminal";

/**
 * Parameters of `events.subscribe`. The host then sends each event as the notification `event`.
 */
export type SubscribeParams = {
  /** Only events of this subcontainer. */
  guid?: string;
};

// stats

/**
 * Processor time, in microseconds.
 */
export type CpuStats = {
  /** All. */
  usageMicros: number;
  /** In user mode. */
  userMicros: number;
  /** In the kernel. */
  systemMicros: number;
  /** How many periods passed while something wanted to run, where time is limited. */
  periods?: number;
  /** In how many of them the quota was used up. */
  throttledPeriods?: number;
  /** For how long it had to wait. */
  throttledMicros?: number;
};

/**
 * Block devices, all together.
 */
export type IoStats = {
  /** Bytes read. */
  readBytes: number;
  /** Bytes written. */
  writeBytes: number;
  /** Reads. */
  reads: number;
  /** Writes. */
  writes: number;
};

/**
 * Memory, in bytes.
 */
export type MemoryStats = {
  /** In use: of processes, page cache and kernel. */
  currentBytes: number;
  /** The most that was in use. Kernel: v2 since 5.19. */
  peakBytes?: number;
  /** The limit, if there is one. */
  limitBytes?: number;
  /** Memory of processes that no file is behind. */
  anonymousBytes: number;
  /** Page cache. */
  fileBytes: number;
  /** Swap space in use, where it is counted. */
  swapBytes?: number;
  /** Processes that the kernel has killed for want of memory. */
  oomKills: number;
};

/**
 * Processes and threads.
 */
export type PidsStats = {
  /** Alive. */
  current: number;
  /** The limit, if there is one. */
  limit?: number;
  /** How often the limit has refused a new one. */
  refused: number;
};

/**
 * `psi.rst`: time in which some or all of the processes that wanted to work could not.
 */
export type Pressure = {
  /** Some waited. */
  some: Stall;
  /** All waited. */
  full: Stall;
};

/**
 * Time lost, by what was waited for.
 */
export type PressureStats = {
  /** For a processor. */
  cpu?: Pressure;
  /** For memory to be reclaimed or read back. */
  memory?: Pressure;
  /** For block devices. */
  io?: Pressure;
};

/**
 * What was written to a rootfs that has a size.
 */
export type RootfsStats = {
  /** Bytes in use, those that the file system needs for itself included. */
  usedBytes: number;
  /** Bytes at most. */
  sizeBytes: number;
};

/**
 * Time lost.
 */
export type Stall = {
  /** Percent of the last ten seconds. */
  avg10: number;
  /** Percent of the last minute. */
  avg60: number;
  /** Percent of the last five minutes. */
  avg300: number;
  /** Microseconds since the launch. */
  totalMicros: number;
};

/**
 * Result of `subcontainer.stats`: what everything inside uses together.
 *
 * Time and pressure are counted wherever a container runs. `memory`, `pids` and `io` are counted where the container
 * has limits of any kind, and where the machine's controllers are on cgroup v2 and in use for another container.
 */
export type StatsResult = {
  /** Processes alive. */
  processes: number;
  /** Processor time used since the launch, in microseconds, by those that have ended too. */
  cpuMicros: number;
  /**
   * Memory in use, in bytes: what is charged to the container where that is counted (`memory.currentBytes`), else
   * the proportional set size of the processes alive, in which page cache that nobody has mapped is missing.
   */
  memoryBytes: number;
  /** Memory, where it is counted. */
  memory?: MemoryStats;
  /** Processor time in parts; absent while nothing runs. */
  cpu?: CpuStats;
  /** Processes and threads, where they are counted. */
  pids?: PidsStats;
  /** Block devices, where they are counted. */
  io?: IoStats;
  /**
   * Time lost by waiting. In it is what this kernel measures: none where it was built without PSI or booted with
   * `psi=0`.
   */
  pressure?: PressureStats;
  /** The rootfs, if it has a size of its own and is mounted. */
  rootfs?: RootfsStats;
};

// subcontainer

/**
 * Parameters of `subcontainer.createFs`.
 */
export type CreateFsParams = {
  /** The image: its name, or its digest `sha256:…`, or an unambiguous beginning of it. */
  imageId: string;
  /** A name for people. */
  name?: string;
  /** The rootfs need not survive a crash of the machine: its upper layer is never synced (overlay `volatile`). */
  throwaway?: boolean;
  /** It outlives this connection. Otherwise it is destroyed when the connection ends. */
  detached?: boolean;
  /**
   * Give it a user namespace: ids 0 to 65,535 inside are ids of the machine that nothing else has, so that root
   * inside is nobody outside.
   */
  userns?: boolean;
  /** The sandbox that it is in: its user namespace, network, `/dev` and `/sys` are that one's, and it ends with it. */
  sandbox?: string;
  /**
   * Bytes on the machine's disk that what is written to the rootfs takes at most, 16 MiB to 16 TiB; beyond it, writes
   * fail with `ENOSPC`. It is a file system of its own then, in a file, which needs some of that for itself (4 MiB
   * and a thirtieth). Absent: as much as the machine's disk has.
   */
  rootfsSize?: number;
};

/**
 * Result of `subcontainer.createFs`.
 */
export type CreateFsResult = {
  /** The subcontainer's id. */
  guid: string;
  /** Where its rootfs is mounted on the host. */
  rootfs: string;
  /** The image's digest. */
  imageId: string;
};

/**
 * A result with nothing in it.
 */
export type Empty = Record<symbol, never>;

/**
 * What a mount source must be.
 */
export type FileType = "file" | "directory" | "infer";

/**
 * Names one subcontainer: parameters of `destroyFs`, `inspect`, `stats`, `detach` and `attach`.
 */
export type GuidParams = {
  /** The subcontainer. */
  guid: string;
};

/**
 * One range of an id map: `fromId` on the source appears as `toId` in the container, for `range` ids.
 */
export type IdMap = {
  /** First id as stored in the source. */
  fromId: number;
  /** First id as seen inside. */
  toId: number;
  /** How many ids. Default 1. */
  range?: number;
};

/**
 * Result of `subcontainer.list`.
 */
export type ListResult = {
  /** Every subcontainer of this host, oldest first. */
  subcontainers: Array<SubcontainerInfo>;
};

/**
 * One mount of a subcontainer.
 */
export type Mount = {
  /** Where its files come from. */
  source: MountSource;
  /** Absolute path inside; created where it is missing. A second mount on the same one is an error. */
  mountpoint: string;
  /** Nothing can be written through it. */
  readonly?: boolean;
  /** Id maps. Ids that no range names keep their number, unless a range already gives that number to another. */
  idmap?: Array<IdMap>;
};

/**
 * Parameters of `subcontainer.mount`. Works before the launch and while it runs.
 */
export type MountParams = {
  /** The subcontainer. */
  guid: string;
  /** The mount. */
  mount: Mount;
};

/**
 * Where a mount's files come from. Every path is confined beneath its root: `..` and links that leave it are
 * errors.
 */
export type MountSource = {
  type: "volume";
  /** The volume. */
  volumeId: string;
  /** A path inside it. */
  subpath?: string;
  /** What it must be. */
  filetype?: FileType;
} | {
  type: "assets";
  /** A path inside them. */
  subpath?: string;
  /** What it must be. */
  filetype?: FileType;
} | {
  type: "pointer";
  /** The dependency. */
  packageId: string;
  /** Its volume. */
  volumeId: string;
  /** A path inside it. */
  subpath?: string;
  /** What it must be. */
  filetype?: FileType;
} | {
  type: "backup";
  /** A path inside it. */
  subpath?: string;
  /** What it must be. */
  filetype?: FileType;
} | {
  type: "tmpfs";
  /** Bytes at most. Default: half of the machine's memory, as the kernel has it. */
  size?: number;
  /** Permission bits of its root. Default 0o755. */
  mode?: number;
};

/**
 * What a subcontainer is doing.
 */
export type RunState = {
  status: "created";
} | {
  status: "running";
  /** The leader's process id on the host. */
  pid: number;
  /** When it was launched, in milliseconds since the Unix epoch. */
  since: number;
  /** The leader's name for `stream.attach`, `kill`, `wait` and `resize`, when this host launched it. */
  process?: string;
  /** What it is allowed. */
  allowed: Allowed;
  /** Where it is in its private network. */
  network?: NetworkInfo;
} | {
  status: "exited";
  /** How. */
  outcome: Outcome;
};

/**
 * A subcontainer, as `list` and `inspect` show it.
 */
export type SubcontainerInfo = {
  /** Its id. */
  guid: string;
  /** Its name for people. */
  name?: string;
  /** The image's digest. */
  imageId: string;
  /** Where its rootfs is mounted on the host. */
  rootfs: string;
  /** Milliseconds since the Unix epoch. */
  created: number;
  /** Not synced to disk. */
  throwaway: boolean;
  /** The id of the machine that is 0 inside, if it has a user namespace. */
  firstId?: number;
  /** The sandbox that it is in. */
  sandbox?: string;
  /** Bytes on the machine's disk that what is written to it takes at most, if that is limited. */
  rootfsSize?: number;
  /** What it is doing. */
  state: RunState;
  /** Its mounts, in the order they were made. */
  mounts: Array<Mount>;
};

/**
 * Parameters of `subcontainer.unmount`.
 */
export type UnmountParams = {
  /** The subcontainer. */
  guid: string;
  /** Where the mount is, inside. */
  mountpoint: string;
};

/**
 * Parameters of `subcontainer.update`: changes limits while it runs.
 */
export type UpdateParams = {
  /** The subcontainer. */
  guid: string;
  /**
   * What changes; what is absent stays. 2^53 - 1 takes a limit away. Less memory than is in use is refused, and memory
   * where it has not been counted since the launch, which is where that named no limit at all.
   */
  limits: Limits;
};

/**
 * Result of `subcontainer.update`.
 */
export type UpdateResult = {
  /** What holds now. */
  limits: Limits;
};

// methods

/** Every request: what it takes and what it answers. */
export type Methods = {
  /** Agrees on a version; the first request. */
  hello: { params: HelloParams; result: HelloResult };
  /** Imports an image from a path on the host. */
  "image.import": { params: ImportParams; result: ImageInfo };
  /** Pulls an image from a registry. */
  "image.pull": { params: PullParams; result: ImageInfo };
  /** Lists the images. */
  "image.list": { params: Empty; result: ImageListResult };
  /** Describes one image. */
  "image.inspect": { params: ImageParams; result: ImageInfo };
  /** Removes a name, and the image with its last name. */
  "image.remove": { params: ImageParams; result: RemovedResult };
  /** Removes layers that no image and no rootfs uses. */
  "image.gc": { params: Empty; result: RemovedResult };
  /** Creates a writable rootfs over an image. */
  "subcontainer.createFs": { params: CreateFsParams; result: CreateFsResult };
  /** Ends everything inside, unmounts everything and deletes the rootfs. */
  "subcontainer.destroyFs": { params: GuidParams; result: Empty };
  /** Mounts a source inside. */
  "subcontainer.mount": { params: MountParams; result: Empty };
  /** Unmounts what `mount` mounted. */
  "subcontainer.unmount": { params: UnmountParams; result: Empty };
  /** Starts the leader, PID 1 inside. */
  "subcontainer.launch": { params: LaunchParams; result: SpawnResult };
  /** Runs a command to its end. */
  "subcontainer.exec": { params: ExecParams; result: ExecResult };
  /** Starts a command and answers at once. */
  "subcontainer.spawn": { params: SpawnParams; result: SpawnResult };
  /** Sends a signal to a process. */
  "subcontainer.kill": { params: KillParams; result: KillResult };
  /** Answers when a process has ended. */
  "subcontainer.wait": { params: WaitParams; result: WaitResult };
  /** Changes the size of a process's terminal. */
  "subcontainer.resize": { params: ResizeParams; result: Empty };
  /** Lists the subcontainers. */
  "subcontainer.list": { params: Empty; result: ListResult };
  /** Describes one subcontainer. */
  "subcontainer.inspect": { params: GuidParams; result: SubcontainerInfo };
  /** Says what everything inside uses together. */
  "subcontainer.stats": { params: GuidParams; result: StatsResult };
  /** Changes limits while it runs. */
  "subcontainer.update": { params: UpdateParams; result: UpdateResult };
  /** Lets it outlive this connection, which owned it. */
  "subcontainer.detach": { params: GuidParams; result: Empty };
  /** Makes this connection the owner of a detached subcontainer. */
  "subcontainer.attach": { params: GuidParams; result: SubcontainerInfo };
  /** Creates a sandbox and starts it. */
  "sandbox.create": { params: CreateSandboxParams; result: SandboxInfo };
  /** Starts a sandbox again whose init has ended. */
  "sandbox.start": { params: GuidParams; result: SandboxInfo };
  /** Lists the sandboxes. */
  "sandbox.list": { params: Empty; result: ListSandboxesResult };
  /** Describes one sandbox. */
  "sandbox.inspect": { params: GuidParams; result: SandboxInfo };
  /** Ends everything in a sandbox, and deletes it with its subcontainers. */
  "sandbox.destroy": { params: GuidParams; result: Empty };
  /** Lets a sandbox outlive this connection, which owned it; not its subcontainers, which are detached one by one. */
  "sandbox.detach": { params: GuidParams; result: Empty };
  /** Makes this connection the owner of a detached sandbox. */
  "sandbox.attach": { params: GuidParams; result: SandboxInfo };
  /** Reads a part of a file. */
  "file.read": { params: ReadParams; result: ReadResult };
  /** Writes a file, or adds to its end. */
  "file.write": { params: WriteParams; result: Empty };
  /** Describes a file. */
  "file.stat": { params: PathParams; result: StatResult };
  /** Lists a directory. */
  "file.readdir": { params: PathParams; result: ReaddirResult };
  /** Says where a symbolic link points. */
  "file.readlink": { params: PathParams; result: ReadlinkResult };
  /** Creates a directory. */
  "file.mkdir": { params: MkdirParams; result: Empty };
  /** Removes a file or a directory. */
  "file.remove": { params: RemoveParams; result: Empty };
  /** Renames a file or a directory. */
  "file.rename": { params: RenameParams; result: Empty };
  /** Creates a symbolic link. */
  "file.symlink": { params: SymlinkParams; result: Empty };
  /** Changes permission bits. */
  "file.chmod": { params: ChmodParams; result: Empty };
  /** Changes owner and group. */
  "file.chown": { params: ChownParams; result: Empty };
  /** Turns this connection into a byte stream of a process. */
  "stream.attach": { params: AttachStreamParams; result: Empty };
  /** Asks for `event` notifications. */
  "events.subscribe": { params: SubscribeParams; result: Empty };
};

/** Every notification: what it carries. */
export type Notifications = {
  /** Client to host: end a request under way. */
  "$/cancelRequest": CancelParams;
  /** Host to client: how far a request is. */
  "$/progress": ProgressParams;
  /** Host to client: something happened to a subcontainer. */
  event: Event;
};
