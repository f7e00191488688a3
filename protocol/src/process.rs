//! Commands inside a subcontainer: how they are started, fed, watched and ended.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::Data;
use crate::limits::Limits;
use crate::logs::{LogBounds, LogDriver};
use crate::network::Network;
use crate::subcontainer::Mount;

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TerminalSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// What `launch`, `exec` and `spawn` share.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommandOptions {
    /// Environment variables beyond the image's own; the same name replaces it.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub env: BTreeMap<String, String>,
    /// Working directory inside. Default: the image's, else `/`. Created for `launch` when it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub cwd: Option<String>,
    /// `name`, `uid`, `name:group` or `uid:gid`. Names are looked up in the container's own files. Default: the
    /// image's user, else root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub user: Option<String>,
    /// The file mode creation mask, 0 to 0o777. Default: the launch's, else 0o022.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub umask: Option<u32>,
    /// Limits of each process, by the names of `setrlimit(2)` in small letters: `nofile`, `nproc`, `core`, … Default
    /// for a name that is absent: the launch's, else one that does not depend on who runs the host (`nofile` is
    /// 1024:524288). A hard limit above the host's own needs `CAP_SYS_RESOURCE` there, and no user namespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[ts(optional, as = "Option<_>")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// How early the kernel kills it when memory runs out, -1000 (never) to 1000 (first). Default: the launch's, else
    /// 0. Less than the host's own needs `CAP_SYS_RESOURCE` there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub oom_score_adj: Option<i32>,
}

/// A limit of a process; -1 is no limit.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ulimit {
    /// What holds; the process can raise it up to the hard one.
    #[ts(type = "number")]
    pub soft: i64,
    /// Default: the soft one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub hard: Option<i64>,
}

/// What a process of `spawn` or `launch` gets as its standard streams.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum Stdio {
    /// `/dev/null`.
    #[default]
    Null,
    /// A pipe that `stream.attach` can reach.
    Pipe,
    /// Kept by the host for `logs.read`, within bounds. Not for standard input. The host may end meanwhile, or be killed:
    /// nothing is lost, and a process that writes more than a pipe holds waits for the next host.
    Log,
}

/// The standard streams of a process.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Streams {
    /// Standard input.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub stdin: Stdio,
    /// Standard output.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub stdout: Stdio,
    /// Standard error.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub stderr: Stdio,
    /// A terminal of this size instead of pipes; attached as `terminal`. Standard error stays apart when `stderr` is
    /// `pipe` or `log`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub terminal: Option<TerminalSize>,
    /// How much is kept of streams that are `log`, of all processes in the subcontainer together. Default: what was
    /// asked for there before, else three files of 10 MB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub log: Option<LogBounds>,
    /// Where else streams that are `log` go, of all processes in the subcontainer. Default: the host's (`--log-driver`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub log_driver: Option<LogDriver>,
}

/// Privileges of a container beyond, or below, the default.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Privileges {
    /// Capabilities (`NET_ADMIN`, `CAP_NET_ADMIN`, or `ALL`) that root inside has beyond the default.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub cap_add: Vec<String>,
    /// Capabilities, or `ALL`, that it has not; taken away before `capAdd` is added.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub cap_drop: Vec<String>,
    /// Which system calls it may make.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub seccomp: Seccomp,
}

/// Which system calls a container may make.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(untagged)]
pub enum Seccomp {
    /// One that has a name.
    Profile(SeccompProfile),
    /// A filter in the form of `linux.seccomp` of the OCI runtime spec.
    Filter(#[ts(type = "Record<string, unknown>")] serde_json::Map<String, serde_json::Value>),
}

impl Default for Seccomp {
    fn default() -> Self {
        Self::Profile(SeccompProfile::Default)
    }
}

/// Filters that have a name.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum SeccompProfile {
    /// What the OCI engines allow by default, for the capabilities that the container has.
    #[default]
    Default,
    /// The default and `socketcall(2)`, by which most 32-bit programs open their sockets. Families of sockets that the
    /// default refuses (`AF_VSOCK`, `AF_ALG`) are in reach then, since no filter sees which one is asked for.
    Socketcall,
    /// Every call.
    Unconfined,
    /// In what a host says: a filter that was given at launch.
    Own,
}

/// What a container that runs is allowed.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Allowed {
    /// The capabilities that root inside can have.
    pub capabilities: Vec<String>,
    /// The filter of its system calls.
    pub seccomp: SeccompProfile,
    /// It shares the `/dev` and `/sys` of the host, or of the sandbox that it is in.
    pub shared_dev_sys: bool,
    /// It shares the `/run` of the host, or of the sandbox that it is in.
    pub shared_run: bool,
    /// What everything in it may use together.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub limits: Limits,
    /// Its network.
    #[serde(default)]
    pub network: Network,
    /// The file mode creation mask, if it was given at launch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub umask: Option<u32>,
    /// Limits of each process that were given at launch.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[ts(optional, as = "Option<_>")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// How early the kernel kills it, if that was given at launch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub oom_score_adj: Option<i32>,
}

/// Parameters of `subcontainer.launch`: starts the leader, PID 1 inside.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LaunchParams {
    /// The subcontainer.
    pub guid: String,
    /// The command that becomes PID 1. Absent: our idle init, which reaps orphans and stops on SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub command: Option<Vec<String>>,
    /// Run the command under our init instead of as PID 1.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub init: bool,
    /// Share the host's `/dev` and `/sys` recursively instead of a private `/dev` and a read-only `/sys`. In a sandbox it
    /// shares that one's in any case, and never the host's.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub shared_dev_sys: bool,
    /// Share the host's `/run` recursively; in a sandbox, that one's.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub shared_run: bool,
    /// Privileges that are not the default's. Commands that run in it later have the same.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub privileges: Privileges,
    /// What everything in it may use together. Commands that run in it later count.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub limits: Limits,
    /// Its network, and that of commands that run in it later. Default: the machine's; in a sandbox, that one's, and no
    /// other can be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub network: Option<Network>,
    /// Environment, working directory, user.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub options: CommandOptions,
    /// Standard streams.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub streams: Streams,
}

/// Parameters of `subcontainer.spawn`: starts a command in a running subcontainer and answers at once.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpawnParams {
    /// The subcontainer.
    pub guid: String,
    /// The command and its arguments; the command is looked up in the container's PATH.
    pub command: Vec<String>,
    /// Environment, working directory, user.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub options: CommandOptions,
    /// Standard streams.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub streams: Streams,
    /// When it ends, so does everything that it started. Default: that goes on, until its subcontainer ends.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub tree: bool,
}

/// Result of `subcontainer.launch` and `subcontainer.spawn`: the process runs.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct SpawnResult {
    /// The name of the process for `stream.attach`, `kill`, `wait`, `resize`. It is forgotten when a `wait` has
    /// been answered, when the subcontainer is destroyed, or when its owner's connection ends.
    pub process: String,
    /// Process id on the host.
    pub pid: u32,
}

/// Parameters of `subcontainer.exec`: runs a command to its end in one round trip. When the subcontainer has no
/// leader yet, an idle init is launched first.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecParams {
    /// The subcontainer.
    pub guid: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Environment, working directory, user.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub options: CommandOptions,
    /// Standard input; `/dev/null` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub input: Option<Data>,
    /// Milliseconds until the command and everything it started is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub timeout: Option<u64>,
    /// Milliseconds between SIGTERM and SIGKILL at a timeout or a cancellation. Default 0: SIGKILL at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub grace: Option<u64>,
    /// Bytes kept of each of stdout and stderr; the rest is read and dropped, and the result says so.
    /// Default and maximum: 8 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub max_buffer: Option<u64>,
}

/// Result of `subcontainer.exec` and `subcontainer.run`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ExecResult {
    /// How the command ended.
    pub outcome: Outcome,
    /// Standard output.
    pub stdout: Data,
    /// Standard error.
    pub stderr: Data,
    /// Standard output was longer than `maxBuffer`.
    pub stdout_truncated: bool,
    /// Standard error was longer than `maxBuffer`.
    pub stderr_truncated: bool,
}

/// Parameters of `subcontainer.run`: makes a throw-away subcontainer for one command, runs that as PID 1 inside to its end,
/// and destroys it, in one round trip. Nothing of it is left when there is an answer, whatever that is; the end of the
/// connection, or of the host, ends it, too. Not on the socket of a package.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunParams {
    /// The image, as in `subcontainer.createFs`.
    pub image_id: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub name: Option<String>,
    /// A user namespace of its own, as in `subcontainer.createFs`.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub userns: bool,
    /// The sandbox that it is in, as in `subcontainer.createFs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub sandbox: Option<String>,
    /// Bytes that its rootfs takes at most, as in `subcontainer.createFs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub rootfs_size: Option<u64>,
    /// What is mounted inside, in this order.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub mounts: Vec<Mount>,
    /// Run the command under our init instead of as PID 1.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub init: bool,
    /// Share the host's `/dev` and `/sys`, as in `subcontainer.launch`.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub shared_dev_sys: bool,
    /// Share the host's `/run`, as in `subcontainer.launch`.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub shared_run: bool,
    /// Privileges that are not the default's.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub privileges: Privileges,
    /// What everything in it may use together.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub limits: Limits,
    /// Its network. Default: the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub network: Option<Network>,
    /// Environment, working directory, user.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub options: CommandOptions,
    /// Standard input; `/dev/null` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub input: Option<Data>,
    /// Milliseconds that the command may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub timeout: Option<u64>,
    /// Milliseconds between SIGTERM and the end of everything at a timeout or a cancellation. Default 0: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub grace: Option<u64>,
    /// Bytes kept of each of stdout and stderr, as in `subcontainer.exec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub max_buffer: Option<u64>,
}

/// How a process ended.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// It ended by itself.
    Exit {
        /// The exit code, 0 to 255.
        code: i32,
    },
    /// A signal ended it.
    Signal {
        /// The signal's name, `SIGKILL`.
        signal: String,
        /// Its number on the host.
        number: i32,
    },
    /// The time limit ended it.
    Timeout,
    /// A cancellation, or the end of the caller, ended it.
    Abort,
    /// The kernel's out-of-memory killer ended it, or the child whose end it ended with (128 + SIGKILL), as our init does.
    OutOfMemory,
    /// It ended while no host watched, and the kernel kept no record of how.
    Unknown,
}

/// Parameters of `subcontainer.kill`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KillParams {
    /// The process.
    pub process: String,
    /// Signal name, with or without `SIG`. Default `SIGTERM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub signal: Option<String>,
    /// Send it to everything that the process started too. `SIGKILL` to a tree leaves none alive.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub tree: bool,
}

/// Result of `subcontainer.kill`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct KillResult {
    /// Whether there was still a process to send it to.
    pub delivered: bool,
}

/// Parameters of `subcontainer.stop`: asks the leader to end, and kills everything inside after a time.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StopParams {
    /// The subcontainer.
    pub guid: String,
    /// The signal. Default: the image's, else `SIGTERM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub signal: Option<String>,
    /// Milliseconds that it has. Default 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub timeout: Option<u64>,
}

/// Result of `subcontainer.stop`: nothing runs in it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct StopResult {
    /// How the leader ended. None when none ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub outcome: Option<Outcome>,
    /// It had to be killed.
    pub killed: bool,
}

/// Parameters of `subcontainer.signal`: sends a signal to the leader, whoever launched it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignalParams {
    /// The subcontainer.
    pub guid: String,
    /// The signal, with or without `SIG`.
    pub signal: String,
}

/// Parameters of `subcontainer.wait`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WaitParams {
    /// The process.
    pub process: String,
}

/// Result of `subcontainer.wait`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct WaitResult {
    /// How it ended.
    pub outcome: Outcome,
}

/// Parameters of `subcontainer.resize`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResizeParams {
    /// The process.
    pub process: String,
    /// The new size.
    pub size: TerminalSize,
}
