// Generated from protocol/ by `cargo xtask schema`. Do not edit.

/** The version of this protocol. */
export const PROTOCOL_VERSION = 1 as const;

/** The longest line, in bytes without its newline, that either side accepts. */
export const MAX_LINE = 33554432 as const;

/** The longest line on the socket of a package. */
export const MAX_PACKAGE_LINE = 1048576 as const;

/** The request was cancelled. */
export const REQUEST_CANCELLED = -32800 as const;

/** The request could not be carried out. */
export const REQUEST_FAILED = -32000 as const;

// broker

/**
 * Parameters of `audit.read`.
 */
export type AuditReadParams = {
  /** The last so many, 1 to 1,000. Default: 100. */
  last?: number;
};

/**
 * Result of `audit.read`: of this package alone.
 */
export type AuditReadResult = {
  /** Oldest first. */
  entries: Array<AuditEntry>;
};

/**
 * Whether there was something to delete.
 */
export type DeletedResult = {
  /** There was. */
  deleted: boolean;
};

/**
 * Result of `dependencies.read`.
 */
export type DependencyInfo = {
  /** Its id. */
  packageId: string;
  /** Its name, for people; absent where it is not installed. */
  name?: string;
  /** Its version; absent where it is not installed. */
  version?: string;
  /** It is active, and everything in it runs. */
  running: boolean;
  /** What its operator is asked to do, as it says. */
  tasks: Array<ToldTask>;
  /** How what it runs is, as it says. */
  health: Array<ToldHealth>;
};

/**
 * Parameters of `dependencies.read`.
 */
export type DependencyParams = {
  /** The id of a package that the manifest's `dependencies` name. */
  packageId: string;
};

/**
 * Parameters of `files.delete`.
 */
export type FilesDeleteParams = {
  /** A file, a link (which is not followed) or a directory; never a granted path itself. */
  path: string;
  /** A directory with all that is in it. Else only an empty one. */
  recursive?: boolean;
};

/**
 * Parameters of `files.list`.
 */
export type FilesListParams = {
  /** A directory. */
  path: string;
  /** Only names behind this one: the last of the answer before. */
  after?: string;
};

/**
 * Result of `files.list`.
 */
export type FilesListResult = {
  /** In the order of their bytes, 1,000 at most. Names that are no UTF-8 are left out. */
  entries: Array<DirEntry>;
  /** There are more behind the last one. */
  more: boolean;
};

/**
 * Parameters of `files.read`.
 */
export type FilesReadParams = {
  /** Absolute, as the package sees it: `/media/startos/volumes/main/a.txt`. */
  path: string;
  /** Where to begin. */
  offset?: number;
  /** So many bytes at most. Default and most: 512 KiB; `files.stream` carries more. */
  length?: number;
};

/**
 * Result of `files.read`.
 */
export type FilesReadResult = {
  /** What is there. */
  data: Data;
  /** Bytes in the whole file. */
  size: number;
  /** Nothing is behind it. */
  eof: boolean;
};

/**
 * Which way the bytes of `files.stream` go.
 */
export type FilesStreamMode = "read" | "write";

/**
 * Parameters of `files.stream`, the first and only request of a connection that then carries the bytes of a file.
 */
export type FilesStreamParams = {
  /** As in [`FilesReadParams`]. */
  path: string;
  /** Which way. */
  mode: FilesStreamMode;
  /** Bytes that are to be written. */
  size?: number;
};

/**
 * Result of `files.stream`.
 */
export type FilesStreamResult = {
  /** Bytes that follow, or that were written. */
  size: number;
};

/**
 * Parameters of `files.write`. What is missing on the way is made.
 */
export type FilesWriteParams = {
  /** As in [`FilesReadParams`]. */
  path: string;
  /** 512 KiB at most; `files.stream` carries more. */
  data: Data;
  /** Behind what is there. Else it takes the place of the whole file, in one step. */
  append?: boolean;
};

/**
 * Parameters of `http.fetch`.
 */
export type HttpFetchParams = {
  /** `http://` or `https://`, to a host and port that was granted. */
  url: string;
  /** Default: GET. */
  method?: string;
  /** Headers. */
  headers?: Array<HttpHeader>;
  /** The body. */
  body?: Data;
  /** Milliseconds for all of it. Default and most: 30,000. */
  timeout?: number;
};

/**
 * Result of `http.fetch`.
 */
export type HttpFetchResult = {
  /** The status: 200. */
  status: number;
  /** Where it came from in the end. */
  url: string;
  /** Headers, in the order in which they came; one that came twice is there twice. */
  headers: Array<HttpHeader>;
  /** The body, 512 KiB at most. */
  body: Data;
};

/**
 * A header of a request or a response.
 */
export type HttpHeader = {
  /** Its name, in any case. */
  name: string;
  /** Its value. */
  value: string;
};

/**
 * Parameters of `kv.delete`.
 */
export type KvDeleteParams = {
  /** The group that the key is in. */
  group: string;
  /** The key. */
  key: string;
  /** Only if this is its revision. */
  ifRevision?: number;
};

/**
 * Parameters of `kv.get`.
 */
export type KvGetParams = {
  /** The group that the key is in. */
  group: string;
  /** The key: 1 to 512 bytes. */
  key: string;
};

/**
 * Result of `kv.get`.
 */
export type KvGetResult = {
  /** The value; null where there is none. */
  value: unknown;
  /** Which revision of it, for `ifRevision`. 0: there is none. */
  revision: number;
};

/**
 * One key.
 */
export type KvKey = {
  /** The key. */
  key: string;
  /** Of its value. */
  revision: number;
};

/**
 * Parameters of `kv.list`.
 */
export type KvListParams = {
  /** The group. */
  group: string;
  /** Only keys that begin like this. */
  prefix?: string;
  /** Only keys behind this one: the last of the answer before. */
  after?: string;
  /** So many at most, 1 to 1,000. Default: 1,000. */
  limit?: number;
};

/**
 * Result of `kv.list`.
 */
export type KvListResult = {
  /** In the order of their bytes. */
  keys: Array<KvKey>;
  /** There are more behind the last one. */
  more: boolean;
};

/**
 * Parameters of `kv.set`.
 */
export type KvSetParams = {
  /** The group that the key is in. */
  group: string;
  /** The key: 1 to 512 bytes. */
  key: string;
  /** The value: 256 KiB of JSON at most. */
  value: unknown;
  /**
   * Only if this is its revision (0: only if there is none); else it fails with
   * [`ErrorKind::Conflict`](crate::ErrorKind).
   */
  ifRevision?: number;
};

/**
 * Result of `kv.set`.
 */
export type KvSetResult = {
  /** The revision that it has now. None is given twice, not even after a delete. */
  revision: number;
};

/**
 * Parameters of a call whose kind this version only knows by name: it is checked, and then answered with
 * [`ErrorKind::Unavailable`](crate::ErrorKind).
 */
export type LaterParams = Record<symbol, never>;

/**
 * How much a line of the log matters.
 */
export type LogLevel = "debug" | "info" | "warn" | "error";

/**
 * Parameters of `log.write`.
 */
export type LogWriteParams = {
  /** Default: `info`. */
  level?: LogLevel;
  /** Control characters are left out; what is beyond 8 KiB is cut. */
  message: string;
};

/**
 * Parameters of `net.connect`, the first and only request of a connection that then carries the bytes of one to the outside.
 */
export type NetConnectParams = {
  /** Host and port, word for word as granted: `db.example.com:5432`, `[2001:db8::1]:53`. */
  to: string;
  /** Milliseconds until it has to be there. Default and most: 30,000. */
  timeout?: number;
};

/**
 * Result of `node.read`: what there is to know of the machine to run well on it. Nothing in it tells which one it is.
 */
export type NodeInfo = {
  /** Name and version of the host, `start-container 0.1.0`. */
  server: string;
  /** As images have it: `amd64`. */
  architecture: string;
  /** The kernel's version, without what its builder has added: `6.18`. */
  kernel: string;
  /** Bytes of memory. */
  memoryBytes: number;
  /** Processors. */
  cpus: number;
};

/**
 * Parameters of `notify.send`.
 */
export type NotifySendParams = {
  /** The channel, as it was granted. */
  channel: string;
  /** A line; what is beyond 200 bytes is cut. */
  title: string;
  /** More of it; what is beyond 4 KiB is cut. */
  message?: string;
};

/**
 * Result of `hello` on a package's socket.
 */
export type PackageHelloResult = {
  /** The protocol version that both will speak. */
  protocol: number;
  /** Name and version of the host, `start-container 0.1.0`. */
  server: string;
  /** Whose socket this is. */
  packageId: string;
  /** What it was granted, and nothing else. */
  granted: {
    [key in string]: {
      [key in string]: Array<string>;
    };
  };
};

/**
 * Names a process: parameters of `process.status` and `process.stop`.
 */
export type ProcessParams = {
  /** As `process.run` has named it. */
  process: string;
};

/**
 * Parameters of `process.run`.
 */
export type ProcessRunParams = {
  /** Program and arguments, word for word as granted. */
  command: Array<string>;
  /** The service of the package in whose file system it runs. Default: the only one. */
  service?: string;
};

/**
 * Result of `process.run`.
 */
export type ProcessRunResult = {
  /** Its name, for this package alone. */
  process: string;
};

/**
 * Result of `process.status`.
 */
export type ProcessStatusResult = {
  /** How it ended; absent while it runs. */
  outcome?: Outcome;
};

/**
 * Names a secret: parameters of `secrets.get` and `secrets.delete`.
 */
export type SecretParams = {
  /** Its name, as it was granted. */
  name: string;
};

/**
 * Result of `secrets.get`.
 */
export type SecretResult = {
  /** Absent: nobody has set it. */
  value?: Data;
};

/**
 * Parameters of `secrets.set`.
 */
export type SetSecretParams = {
  /** Its name, as it was granted. */
  name: string;
  /** 64 KiB at most. It is encrypted before it is written anywhere. */
  value: Data;
};

/**
 * A job of a package: what became of its last run since the package was started.
 */
export type TaskInfo = {
  /** As the manifest calls it. */
  task: string;
  /** It runs now. */
  running: boolean;
  /** How often it was run. */
  runs: number;
  /** When it was run last, in milliseconds since the Unix epoch. */
  started?: number;
  /** When that ended. */
  ended?: number;
  /** How it ended. */
  outcome?: Outcome;
  /** Why it could not be run. */
  error?: string;
  /** The first 64 KiB of its standard output. */
  stdout?: Data;
  /** The first 64 KiB of its standard error. */
  stderr?: Data;
};

/**
 * Parameters of `task.read`.
 */
export type TaskReadParams = {
  /** A job of the manifest. Default: all of them. */
  task?: string;
};

/**
 * Result of `task.read`.
 */
export type TaskReadResult = {
  /** By name. */
  tasks: Array<TaskInfo>;
};

/**
 * Parameters of `task.run`.
 */
export type TaskRunParams = {
  /** A job of the manifest. It fails with [`ErrorKind::Busy`](crate::ErrorKind) while that runs. */
  task: string;
};

/**
 * A volume of a package.
 */
export type VolumeInfo = {
  /** As the manifest calls it. */
  volumeId: string;
  /** Bytes that its file system has free for it. */
  availableBytes: number;
  /** Bytes of its file system, which others may use, too. */
  totalBytes: number;
};

/**
 * Result of `volumes.list`.
 */
export type VolumesResult = {
  /** Those that were granted, by name. */
  volumes: Array<VolumeInfo>;
};

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
  /** What would have to be granted, exactly, where a grant is missing. */
  missing?: {
    [key in string]: {
      [key in string]: Array<string>;
    };
  };
};

/**
 * What sort of failure an error is.
 */
export type ErrorKind = "invalid" | "outOfOrder" | "unsupportedProtocol" | "notFound" | "exists" | "busy" | "notRunning" | "unknownUser" | "commandNotFound" | "commandNotExecutable" | "escape" | "corrupt" | "network" | "unauthorized" | "untrusted" | "needsConsent" | "denied" | "unavailable" | "quarantined" | "timedOut" | "thrown" | "conflict" | "exhausted" | "kernel" | "internal";

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

// function

/**
 * Parameters of `package.fetch`: a request to a function or template of a package that is active.
 */
export type FetchParams = {
  /** Its id. */
  packageId: string;
  /** One of its paths, with a query behind a `?` if there is one. */
  path: string;
  /** Default: GET. */
  method?: string;
  /** Default: none. */
  headers?: Array<[string, string]>;
  /** Default: none. 512 KiB at most. */
  body?: Data;
};

/**
 * Result of `package.fetch`.
 */
export type FetchResult = {
  /** The entry that answered. */
  entry: string;
  /** 200 to 599. */
  status: number;
  /** Names in lower case. */
  headers: Array<[string, string]>;
  /** 4 MiB at most. */
  body: Data;
};

/**
 * What can be said of a package's functions and templates.
 */
export type FunctionsInfo = {
  /** The process that runs them. */
  process: WorkerInfo;
  /** Those that run at certain times, by name. */
  scheduled: Array<ScheduledInfo>;
};

/**
 * A function that runs at certain times.
 */
export type ScheduledInfo = {
  /** When, as the manifest has it. In UTC. */
  schedule: string;
  /** When it is due next, in milliseconds since the Unix epoch; absent where it does not wait for that. */
  next?: number;
  /** Times at which it was due and was left out, because it ran still or its process did not run. */
  skipped: number;
  /** What became of its last run. */
  last: TaskInfo;
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

// logs

/**
 * How much of what was written is kept. The oldest goes first, a file at a time.
 */
export type LogBounds = {
  /** Bytes of one file, with the times of what is in it: 64 KiB to 1 TiB. Default 10,000,000. */
  size?: number;
  /** How many files, 1 to 100. Default 3. */
  files?: number;
};

/**
 * Where else than to files a stream that is kept goes.
 */
export type LogDriver = "files" | "journald";

/**
 * The stream that something was written to.
 */
export type LogStream = "stdout" | "stderr";

/**
 * Parameters of `logs.read`, the first and only request of a connection that then carries frames (see [`Frame`]).
 */
export type LogsParams = {
  /** The subcontainer. */
  guid: string;
  /** Go on with what is written from now on, until no process has a stream that is kept. */
  follow?: boolean;
  /** Only what was written at or after this time, in milliseconds since the Unix epoch. */
  since?: number;
  /** Only what was written before this time, in milliseconds since the Unix epoch. */
  until?: number;
  /** Only the last lines of what there is, this many; what is followed comes after them. */
  tail?: number;
  /** Only this stream. Default: both, in the order in which they were read. */
  stream?: LogStream;
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

// package

/**
 * One line of the audit log.
 */
export type AuditEntry = {
  /** Its number, from 1, without gaps. */
  number: number;
  /** When, in milliseconds since the Unix epoch. */
  time: number;
  /** Who: `operator`, `host`, or a package. */
  actor: string;
  /** Which package it was about. */
  packageId: string;
  /** What: `plugin.status`, `package.grant`. */
  action: string;
  /** How it ended. */
  outcome: AuditOutcome;
  /** More of it, as JSON. */
  detail: string;
  /** Over this entry and the one before it. */
  hash: string;
};

/**
 * How something that was asked for ended.
 */
export type AuditOutcome = "done" | "denied" | "failed";

/**
 * Parameters of `package.audit`.
 */
export type AuditParams = {
  /** Only of this package. */
  packageId?: string;
  /** The last so many. Default: 100; at most 10,000. */
  last?: number;
  /** Check the whole chain, from the first entry on. */
  verify?: boolean;
};

/**
 * Result of `package.audit`.
 */
export type AuditResult = {
  /** Oldest first. */
  entries: Array<AuditEntry>;
  /** Entries in the whole log whose chain was checked; absent where it was not asked for. */
  verified?: number;
};

/**
 * A backup that was made, or restored.
 */
export type BackupInfo = {
  /** Whose. */
  packageId: string;
  /** The version that it had. */
  version: string;
  /** When it was made, in milliseconds since the Unix epoch. */
  created: number;
  /** The volumes in it. */
  volumes: Array<string>;
  /** Bytes of the files in it. */
  bytes: number;
  /** Bytes that it has. */
  size: number;
  /** Of its file. */
  digest: string;
  /** Sockets and devices, which are in no backup. */
  leftOut: number;
  /** Secrets that could not be opened here, and were left out. */
  closedSecrets?: Array<string>;
};

/**
 * Parameters of `package.backup`.
 */
export type BackupParams = {
  /** Its id. */
  packageId: string;
  /** A directory on the host, which has to be there. Its backup is in a directory of its own in there. */
  target: string;
};

/**
 * Parameters of `package.call`: calls code of a package that runs.
 */
export type CallParams = {
  /** Its id. */
  packageId: string;
  /** Which of its worker entries. Default: the only one. */
  module?: string;
  /** What is called, by a name that the module knows. */
  function: string;
  /** What it is given. */
  input?: unknown;
  /** Milliseconds until it is given up. Default: 60,000; at most 3,600,000. */
  timeout?: number;
};

/**
 * What the broker makes of a package's calls. Numbers are since the host has started.
 */
export type CallsInfo = {
  /** Calls that were carried out. */
  done: number;
  /** Calls that were not allowed. */
  denied: number;
  /** Calls that were allowed, and failed. */
  failed: number;
  /** Calls that were more than a package may make; they are among the denied ones. */
  limited: number;
  /** Kinds of calls that have failed again and again, and are refused for a while. */
  broken: Array<string>;
  /** Why, if the package is in quarantine: no call of it is carried out until `package.lift`. */
  quarantined?: string;
};

/**
 * Parameters of `package.disable`.
 */
export type DisableParams = {
  /** Its id. */
  packageId: string;
  /** Those that need it, too. */
  dependents?: boolean;
};

/**
 * Parameters of `package.grant`.
 */
export type GrantParams = {
  /** Its id. */
  packageId: string;
  /** Grant everything that it asks for. */
  all?: boolean;
  /** Grant these, with all that they are asked for. */
  grant?: Array<string>;
  /** Take these back. A package that runs is disabled first, with those that need it. */
  revoke?: Array<string>;
};

/**
 * Parameters of `package.install` and `package.update`.
 */
export type InstallParams = {
  /** Where its bundle comes from. */
  source: PackageSource;
  /** Of an update: grant what the new version asks for beyond what was granted. */
  grantAll?: boolean;
  /** Take a version in that is older than one that was installed before. */
  older?: boolean;
};

/**
 * Result of `package.list`.
 */
export type ListPackagesResult = {
  /** By id. */
  packages: Array<PackageInfo>;
};

/**
 * A package that is installed. Never says where anything lies on the machine.
 */
export type PackageInfo = {
  /** Its identity. */
  packageId: string;
  /** For people. */
  name: string;
  /** Its version. */
  version: string;
  /** Of its bundle. */
  digest: string;
  /** What was decided about it. */
  status: PackageStatus;
  /** What happens with it. */
  run: PackageRun;
  /** Why it cannot be activated as it is: its bundle is gone, or nobody who is trusted vouches for it any more. */
  stale?: string;
  /** What it asks for. */
  asked: {
    [key in string]: {
      [key in string]: Array<string>;
    };
  };
  /** What it was granted. */
  granted: {
    [key in string]: {
      [key in string]: Array<string>;
    };
  };
  /** What it asks for, needs, and was not granted: while there is any, it cannot be activated. */
  missing: {
    [key in string]: {
      [key in string]: Array<string>;
    };
  };
  /** When it was first installed, in milliseconds since the Unix epoch. */
  installed: number;
  /** When anything about it was last decided. */
  changed: number;
  /** Versions that it can be rolled back to. */
  versions: Array<string>;
  /** What the broker makes of its calls; absent where it has made none since the host started, and is in no quarantine. */
  calls?: CallsInfo;
  /** The process that runs its worker entries, if it has some and was started since the host was. */
  worker?: WorkerInfo;
  /** Its functions and templates, if it has some and was started since the host was. */
  functions?: FunctionsInfo;
};

/**
 * Names one package.
 */
export type PackageParams = {
  /** Its id. */
  packageId: string;
};

/**
 * What happens with a package, whatever was decided about it.
 */
export type PackageRun = {
  state: "unknown";
} | {
  state: "loading";
} | {
  state: "running";
} | {
  state: "stopped";
} | {
  state: "errored";
  /** Why. */
  reason: string;
};

/**
 * Where a bundle comes from.
 */
export type PackageSource = {
  from: "file";
  /** Its path. */
  path: string;
} | {
  from: "oci";
  /** `[registry/]repository[:tag][@digest]`. */
  reference: string;
  /** Speak plain HTTP to the registry. */
  insecure?: boolean;
};

/**
 * What the operator decided about a package.
 */
export type PackageStatus = "verified" | "installed" | "active" | "disabled";

/**
 * Result of `package.rekey`.
 */
export type RekeyResult = {
  /** Secrets that were encrypted anew. */
  secrets: number;
};

/**
 * Parameters of `package.reload`.
 */
export type ReloadParams = {
  /** Its id. */
  packageId: string;
  /**
   * For development: a directory on the host whose `entries` are loaded in the place of the bundle's, until the package
   * stops. Nobody has signed them.
   */
  files?: string;
};

/**
 * Parameters of `package.remove`.
 */
export type RemovePackageParams = {
  /** Its id. */
  packageId: string;
  /** Its volumes, too. */
  data?: boolean;
};

/**
 * Parameters of `package.restore`.
 */
export type RestoreParams = {
  /** Its id. */
  packageId: string;
  /** The directory that it was backed up to. */
  target: string;
  /** Also where secrets cannot be opened here: those are left out. */
  withoutSecrets?: boolean;
};

/**
 * Parameters of `package.rollback`.
 */
export type RollbackParams = {
  /** Its id. */
  packageId: string;
  /** Which version. Default: the highest below the one that is installed. */
  version?: string;
  /** Grant what that version asks for beyond what is granted. */
  grantAll?: boolean;
};

/**
 * Parameters of `package.run`.
 */
export type RunJobParams = {
  /** The package. */
  packageId: string;
  /** A job of its manifest, or a function that runs at certain times. */
  job: string;
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
 * Result of `subcontainer.exec` and `subcontainer.run`.
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
 * Parameters of `subcontainer.run`: makes a throw-away subcontainer for one command, runs that as PID 1 inside to its end,
 * and destroys it, in one round trip. Nothing of it is left when there is an answer, whatever that is; the end of the
 * connection, or of the host, ends it, too. Not on the socket of a package.
 */
export type RunParams = {
  /** The image, as in `subcontainer.createFs`. */
  imageId: string;
  /** The command and its arguments. */
  command: Array<string>;
  /** A name for people. */
  name?: string;
  /** A user namespace of its own, as in `subcontainer.createFs`. */
  userns?: boolean;
  /** The sandbox that it is in, as in `subcontainer.createFs`. */
  sandbox?: string;
  /** Bytes that its rootfs takes at most, as in `subcontainer.createFs`. */
  rootfsSize?: number;
  /** What is mounted inside, in this order. */
  mounts?: Array<Mount>;
  /** Run the command under our init instead of as PID 1. */
  init?: boolean;
  /** Share the host's `/dev` and `/sys`, as in `subcontainer.launch`. */
  sharedDevSys?: boolean;
  /** Share the host's `/run`, as in `subcontainer.launch`. */
  sharedRun?: boolean;
  /** Privileges that are not the default's. */
  privileges?: Privileges;
  /** What everything in it may use together. */
  limits?: Limits;
  /** Its network. Default: the machine's. */
  network?: Network;
  /** Environment, working directory, user. */
  options?: CommandOptions;
  /** Standard input; `/dev/null` when absent. */
  input?: Data;
  /** Milliseconds that the command may run. */
  timeout?: number;
  /** Milliseconds between SIGTERM and the end of everything at a timeout or a cancellation. Default 0: at once. */
  grace?: number;
  /** Bytes kept of each of stdout and stderr, as in `subcontainer.exec`. */
  maxBuffer?: number;
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
 * Parameters of `subcontainer.signal`: sends a signal to the leader, whoever launched it.
 */
export type SignalParams = {
  /** The subcontainer. */
  guid: string;
  /** The signal, with or without `SIG`. */
  signal: string;
};

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
  /** When it ends, so does everything that it started. Default: that goes on, until its subcontainer ends. */
  tree?: boolean;
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
export type Stdio = "null" | "pipe" | "log";

/**
 * Parameters of `subcontainer.stop`: asks the leader to end, and kills everything inside after a time.
 */
export type StopParams = {
  /** The subcontainer. */
  guid: string;
  /** The signal. Default: the image's, else `SIGTERM`. */
  signal?: string;
  /** Milliseconds that it has. Default 10,000. */
  timeout?: number;
};

/**
 * Result of `subcontainer.stop`: nothing runs in it.
 */
export type StopResult = {
  /** How the leader ended. None when none ran. */
  outcome?: Outcome;
  /** It had to be killed. */
  killed: boolean;
};

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
   * A terminal of this size instead of pipes; attached as `terminal`. Standard error stays apart when `stderr` is
   * `pipe` or `log`.
   */
  terminal?: TerminalSize;
  /**
   * How much is kept of streams that are `log`, of all processes in the subcontainer together. Default: what was
   * asked for there before, else three files of 10 MB.
   */
  log?: LogBounds;
  /** Where else streams that are `log` go, of all processes in the subcontainer. Default: the host's (`--log-driver`). */
  logDriver?: LogDriver;
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
 * Parameters of `lock.acquire`: answered when this connection holds the lock, which it does until it releases it or ends.
 * When the host is killed, the next one keeps it for whoever goes on with the session, for as long as the grace is.
 *
 * Fails with [`ErrorKind::Busy`](crate::ErrorKind) and the name of who holds it, unless `wait` is set. A connection does
 * not get a lock twice.
 */
export type AcquireParams = {
  /** Its name, 1 to 255 bytes without control characters. What it stands for is agreed between clients. */
  name: string;
  /** Wait until it is free, after those that came before. A cancellation ends that. */
  wait?: boolean;
  /** What for, to tell others. */
  purpose?: string;
};

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
 * Parameters of `stream.connect`, the first and only request of a connection that then carries the bytes of a TCP
 * connection to a port inside, in the container's own network. Shutting the writing half down does so there.
 *
 * Fails with [`ErrorKind::Network`](crate::ErrorKind) and the kernel's reason: `ECONNREFUSED` when nobody listens
 * there, `ETIMEDOUT` when nobody answers in time.
 */
export type ConnectParams = {
  /** The subcontainer or sandbox. It has to run. */
  guid: string;
  /** The port. */
  port: number;
  /** An IP address there, never a name. Default: its loopback, 127.0.0.1 and then `::1`. */
  address?: string;
  /** Milliseconds until the attempt has failed, at most 60,000. Default 1,000. */
  timeout?: number;
};

/**
 * Who ended a leader that did not end by itself.
 */
export type EndedBy = "stop" | "stopTimeout" | "kill" | "destroy";

/**
 * Something that happened to a subcontainer, a sandbox or an image: the parameters of the notification `event`.
 */
export type Event = {
  /** Counts them, also across restarts of the host. 0 for what only this subscriber is told. */
  id: number;
  /** Milliseconds since the Unix epoch. */
  time: number;
  /** The subcontainer; empty where an image is what it happened to. */
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
  /** Who ended it, if the host was asked to. */
  by?: EndedBy;
} | {
  event: "health";
  /** What was looked at. */
  name: string;
  /** How it is. */
  status: Health;
  /** Why. */
  message?: string;
} | {
  event: "updated";
  /** Those that hold now. */
  limits: Limits;
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
  event: "logLost";
  /** How many bytes, since this was told last. */
  bytes: number;
  /** Why, for people. */
  message: string;
} | {
  event: "imported";
  /** Its digest. */
  imageId: string;
} | {
  event: "pulled";
  /** Its digest. */
  imageId: string;
  /** What was asked for. */
  reference: string;
} | {
  event: "removed";
  /** As it was asked for. */
  imageId: string;
} | {
  event: "notice";
  /** Which package. */
  packageId: string;
  /** Through which of the channels that it was granted. */
  channel: string;
  /** A line. */
  title: string;
  /** More of it. */
  message: string;
} | {
  event: "functionRan";
  /** Which package. */
  packageId: string;
  /** Which of its entries. */
  entry: string;
  /** Why it did not come to a good end. */
  error?: string;
} | {
  event: "lagged";
  /** How many. */
  dropped: number;
});

/**
 * Parameters of `events.list`.
 */
export type EventsParams = {
  /** Only events of this subcontainer. */
  guid?: string;
  /** Only those at or after this time, in milliseconds since the Unix epoch. */
  since?: number;
};

/**
 * Result of `events.list`: those that are kept, one to two megabytes of them, oldest first.
 */
export type EventsResult = {
  /** The events. */
  events: Array<Event>;
};

/**
 * How something is that is looked after.
 */
export type Health = "starting" | "healthy" | "unhealthy";

/**
 * Parameters of `events.health`: a client that looks after a subcontainer says how it is.
 */
export type HealthParams = {
  /** The subcontainer: one that this connection owns, or that is detached. */
  guid: string;
  /** What was looked at: the name of a daemon or a check, 1 to 200 bytes. */
  name: string;
  /** How it is. */
  status: Health;
  /** Why, for people; what is beyond 1000 bytes is cut. */
  message?: string;
};

/**
 * Parameters of `hello`, the first request of every connection.
 */
export type HelloParams = {
  /** The protocol version that the client speaks. */
  protocol: number;
  /** Name and version of the client, for the host's log. */
  client: string;
  /**
   * The session that an earlier host gave on a connection of this same process: what that connection owned when the
   * host went away is this one's. One that is not known, or is another process's, is no error: a new one begins.
   */
  session?: string;
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
  /**
   * The session of this connection, for [`HelloParams::session`] after the host has gone away and another has come. It
   * ends with the connection. A secret: whoever has it, and is this process, owns what this connection owns.
   */
  session: string;
  /**
   * How long a host that has started waits for the clients of the one before it, in milliseconds. What belongs to who has
   * not come back by then, or has ended, is destroyed.
   */
  grace: number;
  /** What was owned in the session that goes on, and is again: guids of subcontainers and sandboxes. */
  resumed: Array<string>;
  /** The locks that were held in it, and are again. */
  locks?: Array<string>;
};

/**
 * Parameters of `lock.release`.
 */
export type LockParams = {
  /** Its name. */
  name: string;
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
 * Parameters of `host.replace`. It is answered with an error, or not at all: then the connection ends, and the next host
 * serves the same socket as the same process.
 */
export type ReplaceParams = {
  /** The arguments of the next host, its name first. Its program is that of the process which asks. */
  args: Array<string>;
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
  /** First those that happened at or after this time, in milliseconds since the Unix epoch, as far as they are kept. */
  since?: number;
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
 * How something is that somebody looks after.
 */
export type HealthInfo = {
  /** What was looked at: the name of a daemon or a check. */
  name: string;
  /** How it is. */
  status: Health;
  /** Why, for people. */
  message?: string;
  /** When that was said, in milliseconds since the Unix epoch. */
  time: number;
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
  type: "rpc";
  /** The package. */
  packageId: string;
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
  /** The leader's name for `stream.attach`, `kill`, `wait` and `resize`, when a host launched it. */
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
  /** What the image would have started, if it says so; absent where that is nothing. */
  entrypoint?: Array<string>;
  /** Its arguments, after those of the entrypoint. */
  cmd?: Array<string>;
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
  /** How what runs in it is, as those have said last who look after it (`events.health`). By name. */
  health?: Array<HealthInfo>;
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

// worker

/**
 * Parameters of `module.call`: calls the function `call` that a module exports, with a name and an input.
 */
export type CallModuleParams = {
  /** The name of its entry. */
  module: string;
  /** What is called, by a name that the module knows. */
  function: string;
  /** What it is given. */
  input: unknown;
};

/**
 * Result of `module.call` and `package.call`.
 */
export type CallModuleResult = {
  /** What it returned; null where that was nothing. */
  output: unknown;
};

/**
 * What a health check found.
 */
export type HealthResult = "success" | "loading" | "disabled" | "starting" | "waiting" | "failure";

/**
 * What is behind an interface.
 */
export type InterfaceKind = "ui" | "api" | "p2p";

/**
 * Parameters of `module.load`: imports a module, and calls the function `init` that it exports.
 */
export type LoadModuleParams = {
  /** The name of its entry. */
  module: string;
  /** Its file, as the worker sees it. */
  script: string;
  /** Whose it is. */
  packageId: string;
  /** How often it was loaded before: a module that was imported once is imported anew by another number. */
  generation: number;
  /** The package's data have just been taken from a backup: `init` has to make of them what it needs. */
  restored?: boolean;
  /** What it is. Default: a worker. */
  kind?: ModuleKind;
};

/**
 * One module of a worker.
 */
export type ModuleInfo = {
  /** The name of its entry. */
  module: string;
  /** How it is. */
  state: ModuleState;
};

/**
 * What a module is.
 */
export type ModuleKind = "worker" | "function" | "template";

/**
 * How a module is.
 */
export type ModuleState = "loading" | "loaded" | "unloading";

/**
 * Result of `module.status`.
 */
export type ModuleStatusResult = {
  /** In the order in which they were loaded. */
  modules: Array<ModuleInfo>;
};

/**
 * Parameters of `told`: what the operator may want to know of a module, all of it, in the place of what it told before. At
 * most [`MOST_TOLD`] of each kind; longer texts are cut.
 */
export type ModuleTold = {
  /** The name of its entry. */
  module: string;
  /** Ports that are meant for others. */
  interfaces: Array<ToldInterface>;
  /** What the operator is asked to do. */
  tasks: Array<ToldTask>;
  /** How what it runs is. */
  health: Array<ToldHealth>;
};

/**
 * How much a task matters.
 */
export type TaskSeverity = "optional" | "important" | "critical";

/**
 * How something that a package runs is, as its own code says.
 */
export type ToldHealth = {
  /** As the package's code calls it. */
  id: string;
  /** For people. */
  name: string;
  /** What was found. */
  result: HealthResult;
  /** In more words. */
  message?: string;
};

/**
 * A port of a package that is meant for others. Nothing publishes it.
 */
export type ToldInterface = {
  /** As the package's code calls it. */
  id: string;
  /** For people. */
  name: string;
  /** What is behind it. */
  type: InterfaceKind;
  /** Where, in the package's own network: `http://127.0.0.1:8080/admin`, or without a scheme. */
  address: string;
};

/**
 * An action that a package asks its operator to run.
 */
export type ToldTask = {
  /** The action: `package call ID action:<action>` runs it. */
  action: string;
  /** How much it matters. */
  severity: TaskSeverity;
  /** Why. */
  reason?: string;
};

/**
 * Parameters of `module.unload`, which calls the function `uninit` that the module exports, if it does.
 */
export type UnloadModuleParams = {
  /** The name of its entry. */
  module: string;
  /** The version of the package that comes in the place of this one; absent where none does. */
  target?: string;
};

/**
 * How a worker has ended.
 */
export type WorkerEnd = {
  /** When, in milliseconds since the Unix epoch. */
  time: number;
  /** Why. */
  reason: string;
  /** Where in the package's code, if that is known. */
  stack?: string;
};

/**
 * Parameters of `failed`, and the `data` of errors that code of a package has thrown: what is known of the error.
 */
export type WorkerFault = {
  /** `TypeError: x is undefined`. */
  message: string;
  /** Where, a line for each call; by the source map of the script, where it has one. */
  stack?: string;
};

/**
 * The process that runs a package's worker entries.
 */
export type WorkerInfo = {
  /** What it does. */
  state: WorkerState;
  /** The subcontainer that it runs in: its logs are there. */
  guid: string;
  /** Since when it does that, in milliseconds since the Unix epoch. */
  since: number;
  /** The worker entries, in the order in which they are loaded; those that are loaded, or are about to be. */
  modules: Array<ModuleInfo>;
  /** What those that are loaded have told of themselves; only where one package was asked about. */
  told?: Array<ModuleTold>;
  /** How often it was started again since the package was activated. */
  restarts: number;
  /** How it ended last, unless it was asked to and did. */
  ended?: WorkerEnd;
};

/**
 * Parameters of `ready`: the worker waits for modules.
 */
export type WorkerReadyParams = {
  /** What runs it: `deno 2.9.6`. */
  runtime: string;
};

/**
 * What a worker does.
 */
export type WorkerState = "starting" | "running" | "waiting" | "crashLoop" | "stopping" | "stopped";

// methods

/** Every request: what it takes and what it answers. */
export type Methods = {
  /** Agrees on a version; the first request. */
  hello: { params: HelloParams; result: HelloResult };
  /** Puts the program of the process that asks in the host's place; nothing ends by it. */
  "host.replace": { params: ReplaceParams; result: Empty };
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
  /** Makes a throw-away subcontainer, runs a command to its end in it, and destroys it. */
  "subcontainer.run": { params: RunParams; result: ExecResult };
  /** Starts a command and answers at once. */
  "subcontainer.spawn": { params: SpawnParams; result: SpawnResult };
  /** Sends a signal to a process. */
  "subcontainer.kill": { params: KillParams; result: KillResult };
  /** Sends a signal to the leader. */
  "subcontainer.signal": { params: SignalParams; result: KillResult };
  /** Asks the leader to end, and kills everything inside after a time. */
  "subcontainer.stop": { params: StopParams; result: StopResult };
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
  /** Lists the packages. */
  "package.list": { params: Empty; result: ListPackagesResult };
  /** Describes one package. */
  "package.inspect": { params: PackageParams; result: PackageInfo };
  /** Verifies a bundle and installs its package; nothing of it runs yet. */
  "package.install": { params: InstallParams; result: PackageInfo };
  /** Grants what a package asks for, or takes it back. */
  "package.grant": { params: GrantParams; result: PackageInfo };
  /** Runs a job of a package that is active to its end. A cancellation ends it. */
  "package.run": { params: RunJobParams; result: TaskInfo };
  /** Starts a package, and has it started with the host from now on. */
  "package.activate": { params: PackageParams; result: PackageInfo };
  /** Stops a package and keeps it from starting. */
  "package.disable": { params: DisableParams; result: PackageInfo };
  /** Replaces a package by another version; one that asks for more is turned away without consent. */
  "package.update": { params: InstallParams; result: PackageInfo };
  /** Goes back to a version that was installed before. */
  "package.rollback": { params: RollbackParams; result: PackageInfo };
  /** Removes a package that does not run. */
  "package.remove": { params: RemovePackageParams; result: Empty };
  /** Backs the data of a package up; it is stopped meanwhile. A cancellation ends it. */
  "package.backup": { params: BackupParams; result: BackupInfo };
  /** Puts the data of a backup in the place of a package's. What fails, or is cancelled, is undone. */
  "package.restore": { params: RestoreParams; result: BackupInfo };
  /** Unloads the worker entries of a package that runs, and loads them anew. */
  "package.reload": { params: ReloadParams; result: PackageInfo };
  /** Calls code of a package that runs: an action. */
  "package.call": { params: CallParams; result: CallModuleResult };
  /** Sends a request to a function or template of a package that is active. */
  "package.fetch": { params: FetchParams; result: FetchResult };
  /** Ends a package's quarantine: its calls are carried out again. */
  "package.lift": { params: PackageParams; result: PackageInfo };
  /** Makes a new key for secrets, and encrypts all of them with it. */
  "package.rekey": { params: Empty; result: RekeyResult };
  /** Reads the audit log, and checks that it is whole. */
  "package.audit": { params: AuditParams; result: AuditResult };
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
  /** Turns this connection into a TCP connection to a port inside. */
  "stream.connect": { params: ConnectParams; result: Empty };
  /** Turns this connection into what processes of a subcontainer have written to streams that are kept. */
  "logs.read": { params: LogsParams; result: Empty };
  /** Takes a lock, which this connection then holds. */
  "lock.acquire": { params: AcquireParams; result: Empty };
  /** Gives a lock back. */
  "lock.release": { params: LockParams; result: Empty };
  /** Asks for `event` notifications. */
  "events.subscribe": { params: SubscribeParams; result: Empty };
  /** Lists what has happened. */
  "events.list": { params: EventsParams; result: EventsResult };
  /** Says how a subcontainer is, as an event. */
  "events.health": { params: HealthParams; result: Empty };
};

/** Those that the socket of a package has, too. */
export type SharedMethods = Pick<
  Methods,
  | "subcontainer.createFs"
  | "subcontainer.destroyFs"
  | "subcontainer.mount"
  | "subcontainer.unmount"
  | "subcontainer.launch"
  | "subcontainer.exec"
  | "subcontainer.spawn"
  | "subcontainer.kill"
  | "subcontainer.signal"
  | "subcontainer.stop"
  | "subcontainer.wait"
  | "subcontainer.resize"
  | "subcontainer.list"
  | "subcontainer.inspect"
  | "subcontainer.stats"
  | "subcontainer.detach"
  | "subcontainer.attach"
  | "file.read"
  | "file.write"
  | "file.stat"
  | "file.readdir"
  | "file.readlink"
  | "file.mkdir"
  | "file.remove"
  | "file.rename"
  | "file.symlink"
  | "file.chmod"
  | "file.chown"
  | "stream.attach"
  | "stream.connect"
  | "logs.read"
  | "lock.acquire"
  | "lock.release"
  | "events.health"
>;

/** Every request on the socket of a package: what it takes and what it answers. */
export type PackageMethods = SharedMethods & {
  /** Agrees on a version; the first request. */
  hello: { params: HelloParams; result: PackageHelloResult };
  /** Does nothing. Needs no grant, and is not written down. */
  ping: { params: Empty; result: Empty };
  /** Reads a key. Needs `kv:read` for its group. */
  "kv.get": { params: KvGetParams; result: KvGetResult };
  /** Writes a key, if it is as expected. Needs `kv:write` for its group. */
  "kv.set": { params: KvSetParams; result: KvSetResult };
  /** Lists the keys of a group. Needs `kv:read` for it. */
  "kv.list": { params: KvListParams; result: KvListResult };
  /** Deletes a key. Needs `kv:write` for its group. */
  "kv.delete": { params: KvDeleteParams; result: DeletedResult };
  /** Reads a secret. Needs `secrets` for its name, as the next two do. */
  "secrets.get": { params: SecretParams; result: SecretResult };
  /** Writes a secret, encrypted. */
  "secrets.set": { params: SetSecretParams; result: Empty };
  /** Deletes a secret. */
  "secrets.delete": { params: SecretParams; result: DeletedResult };
  /** Reads a part of a file. Needs `files:read` for a path above it. */
  "files.read": { params: FilesReadParams; result: FilesReadResult };
  /** Writes a file, or adds to its end. Needs `files:write` for a path above it. */
  "files.write": { params: FilesWriteParams; result: Empty };
  /** Lists a directory. Needs `files:read` for it or a path above it. */
  "files.list": { params: FilesListParams; result: FilesListResult };
  /** Deletes a file or a directory. Needs `files:write` for a path above it. */
  "files.delete": { params: FilesDeleteParams; result: DeletedResult };
  /** Carries the bytes of a file, which may be large. Needs `files:read` or `files:write`. */
  "files.stream": { params: FilesStreamParams; result: FilesStreamResult };
  /** Starts a command in the package's sandbox. Needs `process:run` for exactly this command. */
  "process.run": { params: ProcessRunParams; result: ProcessRunResult };
  /** Says whether a process of this package runs, or how it ended. Needs `process:run`, as the next does. */
  "process.status": { params: ProcessParams; result: ProcessStatusResult };
  /** Ends a process of this package, with all that it started. */
  "process.stop": { params: ProcessParams; result: Empty };
  /** Sends a request to the outside. Needs `http:egress` for its host and port. */
  "http.fetch": { params: HttpFetchParams; result: HttpFetchResult };
  /** Writes to the host's log. Needs `log:write`. */
  "log.write": { params: LogWriteParams; result: Empty };
  /** Tells the operator, as an event. Needs `notify:send` for the channel. */
  "notify.send": { params: NotifySendParams; result: Empty };
  /** Says what the package's own sandbox uses. Needs `monitor:read`. */
  "monitor.read": { params: Empty; result: StatsResult };
  /** Reads what was written down about this package. Needs `audit:read`. */
  "audit.read": { params: AuditReadParams; result: AuditReadResult };
  /** Not in this version. Needs `monitor:admin`. */
  "monitor.admin": { params: LaterParams; result: Empty };
  /** Says what the machine is like, not which one. Needs `node:read`. */
  "node.read": { params: Empty; result: NodeInfo };
  /** Not in this version. Needs `node:admin`. */
  "node.admin": { params: LaterParams; result: Empty };
  /** Reads a part of a file of the bundle's assets or ui. Needs `static:read` for a path above it. */
  "static.read": { params: FilesReadParams; result: FilesReadResult };
  /** Not in this version. Needs `static:write`. */
  "static.write": { params: LaterParams; result: Empty };
  /** Says what became of the manifest's jobs. Needs `task:read`. */
  "task.read": { params: TaskReadParams; result: TaskReadResult };
  /** Starts a job of the manifest. Needs `task:run` for its name. */
  "task.run": { params: TaskRunParams; result: TaskInfo };
  /** Not in this version. Needs `tunnel:admin`. */
  "tunnel.admin": { params: LaterParams; result: Empty };
  /** Not in this version. Needs `worker:route`. */
  "worker.route": { params: LaterParams; result: Empty };
  /** Not in this version. Needs `network:plan`. */
  "network.plan": { params: LaterParams; result: Empty };
  /** Not in this version. Needs `network:apply`. */
  "network.apply": { params: LaterParams; result: Empty };
  /** Not in this version. Needs `ddns:admin`. */
  "ddns.admin": { params: LaterParams; result: Empty };
  /** Carries the bytes of a TCP connection to the outside. Needs `net` for exactly this host and port. */
  "net.connect": { params: NetConnectParams; result: Empty };
  /** Lists the volumes that `volumes` grants, and their room. */
  "volumes.list": { params: Empty; result: VolumesResult };
  /** Says which version of a dependency there is, and how it is. Needs `dependencies:read` for its id. */
  "dependencies.read": { params: DependencyParams; result: DependencyInfo };
  /** Not in this version. Needs `backups`. */
  "backups.read": { params: LaterParams; result: Empty };
  /** Not in this version. Needs `ui-proxy`. */
  "uiProxy.route": { params: LaterParams; result: Empty };
  /** Not in this version. Needs `debug`. */
  "debug.attach": { params: LaterParams; result: Empty };
  /** Not in this version. Needs `plugin:admin`. */
  "plugin.admin": { params: LaterParams; result: Empty };
};

/** Every request of the host to a worker: what it takes and what it answers. */
export type WorkerMethods = {
  /** Imports a module, and calls its `init`. */
  "module.load": { params: LoadModuleParams; result: Empty };
  /** Calls a module's `uninit`, and forgets it. */
  "module.unload": { params: UnloadModuleParams; result: Empty };
  /** Says which modules there are. */
  "module.status": { params: Empty; result: ModuleStatusResult };
  /** Calls a module's `call`. */
  "module.call": { params: CallModuleParams; result: CallModuleResult };
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

/** Every notification of a worker to the host: what it carries. */
export type WorkerNotifications = {
  /** It waits for modules. First, and once. */
  ready: WorkerReadyParams;
  /** What the operator may want to know of a module that is loaded. */
  told: ModuleTold;
  /** It ends: an error was caught by nobody. */
  failed: WorkerFault;
};
