//! What package code says to the host, on the socket of its package: `/media/startos/rpc/host.sock`.
//!
//! ```text
//! hello ──▶ any number of calls, each checked against what the package was granted
//!       └─▶ files.stream: from here on the bytes of one file
//! ```
//! Who calls is known from the socket; no message says it. Lines are at most [`MAX_PACKAGE_LINE`] long. A call without a
//! grant fails with [`ErrorKind::Denied`](crate::ErrorKind), and `data.missing` names exactly what would have to be granted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ts_rs::TS;

use crate::Data;
use crate::file::DirEntry;
use crate::package::{AuditEntry, Scopes};
use crate::process::Outcome;
use crate::worker::{ToldHealth, ToldTask};

/// The longest line on a package's socket, in bytes without its newline. A longer one ends the connection.
pub const MAX_PACKAGE_LINE: usize = 1024 * 1024;

/// Result of `hello` on a package's socket.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct PackageHelloResult {
    /// The protocol version that both will speak.
    pub protocol: u32,
    /// Name and version of the host, `start-container 0.1.0`.
    pub server: String,
    /// Whose socket this is.
    pub package_id: String,
    /// What it was granted, and nothing else.
    pub granted: Scopes,
}

/// Parameters of `kv.get`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KvGetParams {
    /// The group that the key is in.
    pub group: String,
    /// The key: 1 to 512 bytes.
    pub key: String,
}

/// Result of `kv.get`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct KvGetResult {
    /// The value; null where there is none.
    #[ts(type = "unknown")]
    pub value: Value,
    /// Which revision of it, for `ifRevision`. 0: there is none.
    #[ts(type = "number")]
    pub revision: u64,
}

/// Parameters of `kv.set`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KvSetParams {
    /// The group that the key is in.
    pub group: String,
    /// The key: 1 to 512 bytes.
    pub key: String,
    /// The value: 256 KiB of JSON at most.
    #[ts(type = "unknown")]
    pub value: Value,
    /// Only if this is its revision (0: only if there is none); else it fails with
    /// [`ErrorKind::Conflict`](crate::ErrorKind).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub if_revision: Option<u64>,
}

/// Result of `kv.set`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct KvSetResult {
    /// The revision that it has now. None is given twice, not even after a delete.
    #[ts(type = "number")]
    pub revision: u64,
}

/// Parameters of `kv.delete`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KvDeleteParams {
    /// The group that the key is in.
    pub group: String,
    /// The key.
    pub key: String,
    /// Only if this is its revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub if_revision: Option<u64>,
}

/// Whether there was something to delete.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct DeletedResult {
    /// There was.
    pub deleted: bool,
}

/// Parameters of `kv.list`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KvListParams {
    /// The group.
    pub group: String,
    /// Only keys that begin like this.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub prefix: String,
    /// Only keys behind this one: the last of the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub after: Option<String>,
    /// So many at most, 1 to 1,000. Default: 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub limit: Option<u32>,
}

/// One key.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct KvKey {
    /// The key.
    pub key: String,
    /// Of its value.
    #[ts(type = "number")]
    pub revision: u64,
}

/// Result of `kv.list`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct KvListResult {
    /// In the order of their bytes.
    pub keys: Vec<KvKey>,
    /// There are more behind the last one.
    pub more: bool,
}

/// Names a secret: parameters of `secrets.get` and `secrets.delete`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretParams {
    /// Its name, as it was granted.
    pub name: String,
}

/// Result of `secrets.get`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct SecretResult {
    /// Absent: nobody has set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub value: Option<Data>,
}

/// Parameters of `secrets.set`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetSecretParams {
    /// Its name, as it was granted.
    pub name: String,
    /// 64 KiB at most. It is encrypted before it is written anywhere.
    pub value: Data,
}

/// Parameters of `files.read`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilesReadParams {
    /// Absolute, as the package sees it: `/media/startos/volumes/main/a.txt`.
    pub path: String,
    /// Where to begin.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub offset: u64,
    /// So many bytes at most. Default and most: 512 KiB; `files.stream` carries more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub length: Option<u32>,
}

/// Result of `files.read`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FilesReadResult {
    /// What is there.
    pub data: Data,
    /// Bytes in the whole file.
    #[ts(type = "number")]
    pub size: u64,
    /// Nothing is behind it.
    pub eof: bool,
}

/// Parameters of `files.write`. What is missing on the way is made.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilesWriteParams {
    /// As in [`FilesReadParams`].
    pub path: String,
    /// 512 KiB at most; `files.stream` carries more.
    pub data: Data,
    /// Behind what is there. Else it takes the place of the whole file, in one step.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub append: bool,
}

/// Parameters of `files.list`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilesListParams {
    /// A directory.
    pub path: String,
    /// Only names behind this one: the last of the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub after: Option<String>,
}

/// Result of `files.list`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FilesListResult {
    /// In the order of their bytes, 1,000 at most. Names that are no UTF-8 are left out.
    pub entries: Vec<DirEntry>,
    /// There are more behind the last one.
    pub more: bool,
}

/// Parameters of `files.delete`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilesDeleteParams {
    /// A file, a link (which is not followed) or a directory; never a granted path itself.
    pub path: String,
    /// A directory with all that is in it. Else only an empty one.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub recursive: bool,
}

/// Which way the bytes of `files.stream` go.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum FilesStreamMode {
    /// From the file: it is answered, and then come `size` bytes.
    Read,
    /// Into the file, in the place of all that was in it: behind the request go `size` bytes, and it is answered when the file
    /// is in its place. A connection that breaks before leaves the file as it was.
    Write,
}

/// Parameters of `files.stream`, the first and only request of a connection that then carries the bytes of a file.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilesStreamParams {
    /// As in [`FilesReadParams`].
    pub path: String,
    /// Which way.
    pub mode: FilesStreamMode,
    /// Bytes that are to be written.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub size: u64,
}

/// Result of `files.stream`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FilesStreamResult {
    /// Bytes that follow, or that were written.
    #[ts(type = "number")]
    pub size: u64,
}

/// Parameters of `net.connect`, the first and only request of a connection that then carries the bytes of one to the outside.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetConnectParams {
    /// Host and port, word for word as granted: `db.example.com:5432`, `[2001:db8::1]:53`.
    pub to: String,
    /// Milliseconds until it has to be there. Default and most: 30,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub timeout: Option<u32>,
}

/// Parameters of `process.run`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProcessRunParams {
    /// Program and arguments, word for word as granted.
    pub command: Vec<String>,
    /// The service of the package in whose file system it runs. Default: the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub service: Option<String>,
}

/// Names a process: parameters of `process.status` and `process.stop`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProcessParams {
    /// As `process.run` has named it.
    pub process: String,
}

/// Result of `process.run`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ProcessRunResult {
    /// Its name, for this package alone.
    pub process: String,
}

/// Result of `process.status`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ProcessStatusResult {
    /// How it ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub outcome: Option<Outcome>,
}

/// Parameters of `task.run`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskRunParams {
    /// A job of the manifest. It fails with [`ErrorKind::Busy`](crate::ErrorKind) while that runs.
    pub task: String,
}

/// Parameters of `task.read`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskReadParams {
    /// A job of the manifest. Default: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub task: Option<String>,
}

/// Result of `task.read`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct TaskReadResult {
    /// By name.
    pub tasks: Vec<TaskInfo>,
}

/// A job of a package: what became of its last run since the package was started.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct TaskInfo {
    /// As the manifest calls it.
    pub task: String,
    /// It runs now.
    pub running: bool,
    /// How often it was run.
    pub runs: u32,
    /// When it was run last, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub started: Option<u64>,
    /// When that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub ended: Option<u64>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub outcome: Option<Outcome>,
    /// Why it could not be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub error: Option<String>,
    /// The first 64 KiB of its standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub stdout: Option<Data>,
    /// The first 64 KiB of its standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub stderr: Option<Data>,
}

/// Parameters of `dependencies.read`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DependencyParams {
    /// The id of a package that the manifest's `dependencies` name.
    pub package_id: String,
}

/// Result of `dependencies.read`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct DependencyInfo {
    /// Its id.
    pub package_id: String,
    /// Its name, for people; absent where it is not installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub name: Option<String>,
    /// Its version; absent where it is not installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub version: Option<String>,
    /// It is active, and everything in it runs.
    pub running: bool,
    /// What its operator is asked to do, as it says.
    pub tasks: Vec<ToldTask>,
    /// How what it runs is, as it says.
    pub health: Vec<ToldHealth>,
}

/// Result of `volumes.list`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct VolumesResult {
    /// Those that were granted, by name.
    pub volumes: Vec<VolumeInfo>,
}

/// A volume of a package.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct VolumeInfo {
    /// As the manifest calls it.
    pub volume_id: String,
    /// Bytes that its file system has free for it.
    #[ts(type = "number")]
    pub available_bytes: u64,
    /// Bytes of its file system, which others may use, too.
    #[ts(type = "number")]
    pub total_bytes: u64,
}

/// Result of `node.read`: what there is to know of the machine to run well on it. Nothing in it tells which one it is.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct NodeInfo {
    /// Name and version of the host, `start-container 0.1.0`.
    pub server: String,
    /// As images have it: `amd64`.
    pub architecture: String,
    /// The kernel's version, without what its builder has added: `6.18`.
    pub kernel: String,
    /// Bytes of memory.
    #[ts(type = "number")]
    pub memory_bytes: u64,
    /// Processors.
    pub cpus: u32,
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum LogLevel {
    /// For whoever looks for a fault.
    Debug,
    /// For whoever looks.
    #[default]
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something does not work.
    Error,
}

/// Parameters of `log.write`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogWriteParams {
    /// Default: `info`.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub level: LogLevel,
    /// Control characters are left out; what is beyond 8 KiB is cut.
    pub message: String,
}

/// Parameters of `notify.send`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotifySendParams {
    /// The channel, as it was granted.
    pub channel: String,
    /// A line; what is beyond 200 bytes is cut.
    pub title: String,
    /// More of it; what is beyond 4 KiB is cut.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub message: String,
}

/// Parameters of `audit.read`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuditReadParams {
    /// The last so many, 1 to 1,000. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub last: Option<u32>,
}

/// Result of `audit.read`: of this package alone.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct AuditReadResult {
    /// Oldest first.
    pub entries: Vec<AuditEntry>,
}

/// A header of a request or a response.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpHeader {
    /// Its name, in any case.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Parameters of `http.fetch`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpFetchParams {
    /// `http://` or `https://`, to a host and port that was granted.
    pub url: String,
    /// Default: GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub method: Option<String>,
    /// Headers.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub headers: Vec<HttpHeader>,
    /// The body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub body: Option<Data>,
    /// Milliseconds for all of it. Default and most: 30,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub timeout: Option<u32>,
}

/// Result of `http.fetch`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct HttpFetchResult {
    /// The status: 200.
    pub status: u16,
    /// Where it came from in the end.
    pub url: String,
    /// Headers, in the order in which they came; one that came twice is there twice.
    pub headers: Vec<HttpHeader>,
    /// The body, 512 KiB at most.
    pub body: Data,
}

/// Parameters of a call whose kind this version only knows by name: it is checked, and then answered with
/// [`ErrorKind::Unavailable`](crate::ErrorKind).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
pub struct LaterParams {}
