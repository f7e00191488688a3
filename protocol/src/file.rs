//! Files inside a rootfs. Every path is resolved inside it: no link leads out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::Data;

/// Parameters of `file.read`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReadParams {
    /// The subcontainer.
    pub guid: String,
    /// Path inside.
    pub path: String,
    /// First byte. Default 0.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub offset: u64,
    /// Bytes at most. Default and maximum: 8 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub length: Option<u64>,
}

/// Result of `file.read`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ReadResult {
    /// The bytes.
    pub data: Data,
    /// The file ended with them.
    pub eof: bool,
}

/// Parameters of `file.write`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WriteParams {
    /// The subcontainer.
    pub guid: String,
    /// Path inside.
    pub path: String,
    /// What to write.
    pub data: Data,
    /// Add to the end instead of replacing the content.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub append: bool,
    /// Permission bits of a file that is created. Default 0o666 less the umask 0o022.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub mode: Option<u32>,
    /// An error if it exists.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub exclusive: bool,
}

/// Names one path: parameters of `file.stat`, `file.readdir` and `file.readlink`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathParams {
    /// The subcontainer.
    pub guid: String,
    /// Path inside.
    pub path: String,
    /// Say what a link is instead of what it points to (`stat` only).
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub no_follow: bool,
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum EntryKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Anything else: device, pipe, socket.
    Other,
}

/// Result of `file.stat`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct StatResult {
    /// What it is.
    pub kind: EntryKind,
    /// Bytes.
    #[ts(type = "number")]
    pub size: u64,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content, in milliseconds since the Unix epoch.
    #[ts(type = "number")]
    pub mtime: i64,
}

/// One entry of a directory.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct DirEntry {
    /// Its name (U+FFFD where it is not UTF-8).
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
}

/// Result of `file.readdir`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ReaddirResult {
    /// Its entries by name, without `.` and `..`.
    pub entries: Vec<DirEntry>,
}

/// Result of `file.readlink`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ReadlinkResult {
    /// Where the link points, as it is stored.
    pub target: String,
}

/// Parameters of `file.mkdir`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MkdirParams {
    /// The subcontainer.
    pub guid: String,
    /// Path inside.
    pub path: String,
    /// Parents too, and no error if it exists.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub recursive: bool,
    /// Permission bits. Default 0o755.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub mode: Option<u32>,
}

/// Parameters of `file.remove`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemoveParams {
    /// The subcontainer.
    pub guid: String,
    /// Path inside; a link is removed itself.
    pub path: String,
    /// A directory with all that is in it. Mounts inside are an error, never entered.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub recursive: bool,
    /// No error if it does not exist.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub force: bool,
}

/// Parameters of `file.rename`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenameParams {
    /// The subcontainer.
    pub guid: String,
    /// Path inside.
    pub from: String,
    /// Path inside.
    pub to: String,
}

/// Parameters of `file.symlink`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SymlinkParams {
    /// The subcontainer.
    pub guid: String,
    /// What the link says.
    pub target: String,
    /// Path inside.
    pub path: String,
}

/// Parameters of `file.chmod`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChmodParams {
    /// The subcontainer.
    pub guid: String,
    /// Path inside.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
}

/// Parameters of `file.chown`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChownParams {
    /// The subcontainer.
    pub guid: String,
    /// Path inside.
    pub path: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}
