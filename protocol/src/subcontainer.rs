//! Rootfs, mounts and the state of subcontainers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::limits::Limits;
use crate::network::NetworkInfo;
use crate::process::{Allowed, Outcome};
use crate::session::Health;

/// Parameters of `subcontainer.createFs`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateFsParams {
    /// The image: its name, or its digest `sha256:…`, or an unambiguous beginning of it.
    pub image_id: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub name: Option<String>,
    /// The rootfs need not survive a crash of the machine: its upper layer is never synced (overlay `volatile`).
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub throwaway: bool,
    /// It outlives this connection. Otherwise it is destroyed when the connection ends.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub detached: bool,
    /// Give it a user namespace: ids 0 to 65,535 inside are ids of the machine that nothing else has, so that root
    /// inside is nobody outside.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub userns: bool,
    /// The sandbox that it is in: its user namespace, network, `/dev` and `/sys` are that one's, and it ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub sandbox: Option<String>,
    /// Bytes on the machine's disk that what is written to the rootfs takes at most, 16 MiB to 16 TiB; beyond it, writes
    /// fail with `ENOSPC`. It is a file system of its own then, in a file, which needs some of that for itself (4 MiB
    /// and a thirtieth). Absent: as much as the machine's disk has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub rootfs_size: Option<u64>,
}

/// How many ids a user namespace of ours has.
pub const OWN_IDS: u32 = 65_536;

/// Result of `subcontainer.createFs`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct CreateFsResult {
    /// The subcontainer's id.
    pub guid: String,
    /// Where its rootfs is mounted on the host.
    pub rootfs: String,
    /// The image's digest.
    pub image_id: String,
}

/// Names one subcontainer: parameters of `destroyFs`, `inspect`, `stats`, `detach` and `attach`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuidParams {
    /// The subcontainer.
    pub guid: String,
}

/// Parameters of `subcontainer.update`: changes limits while it runs.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateParams {
    /// The subcontainer.
    pub guid: String,
    /// What changes; what is absent stays. 2^53 - 1 takes a limit away. Less memory than is in use is refused, and memory
    /// where it has not been counted since the launch, which is where that named no limit at all.
    pub limits: Limits,
}

/// Result of `subcontainer.update`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct UpdateResult {
    /// What holds now.
    pub limits: Limits,
}

/// A result with nothing in it.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
pub struct Empty {}

/// One range of an id map: `fromId` on the source appears as `toId` in the container, for `range` ids.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdMap {
    /// First id as stored in the source.
    pub from_id: u32,
    /// First id as seen inside.
    pub to_id: u32,
    /// How many ids. Default 1.
    #[serde(default = "one")]
    #[ts(optional, as = "Option<_>")]
    pub range: u32,
}

fn one() -> u32 {
    1
}

/// What a mount source must be.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum FileType {
    /// A regular file; an empty one is created where it is missing (not for `assets` and read-only sources).
    File,
    /// A directory; created where it is missing (not for `assets` and read-only sources).
    Directory,
    /// Whatever is there; an error where nothing is.
    #[default]
    Infer,
}

/// Where a mount's files come from. Every path is confined beneath its root: `..` and links that leave it are
/// errors.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum MountSource {
    /// The owner's own data: `volumes/<volumeId>`. Created on first use.
    Volume {
        /// The volume.
        volume_id: String,
        /// A path inside it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        subpath: Option<String>,
        /// What it must be.
        #[serde(default)]
        #[ts(optional, as = "Option<_>")]
        filetype: FileType,
    },
    /// Packaged static files: `assets`. Always read-only.
    Assets {
        /// A path inside them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        subpath: Option<String>,
        /// What it must be.
        #[serde(default)]
        #[ts(optional, as = "Option<_>")]
        filetype: FileType,
    },
    /// A dependency's volume: `packages/<packageId>/volumes/<volumeId>`. Never created.
    Pointer {
        /// The dependency.
        package_id: String,
        /// Its volume.
        volume_id: String,
        /// A path inside it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        subpath: Option<String>,
        /// What it must be.
        #[serde(default)]
        #[ts(optional, as = "Option<_>")]
        filetype: FileType,
    },
    /// The directory of a package's socket: `packages/<packageId>/rpc`. Always read-only, and never created: it is there
    /// while the package is active. Whoever can connect to `host.sock` in it speaks as that package.
    Rpc {
        /// The package.
        package_id: String,
    },
    /// The backup target: `backup`.
    Backup {
        /// A path inside it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        subpath: Option<String>,
        /// What it must be.
        #[serde(default)]
        #[ts(optional, as = "Option<_>")]
        filetype: FileType,
    },
    /// Memory, empty at first, gone with the subcontainer.
    Tmpfs {
        /// Bytes at most. Default: half of the machine's memory, as the kernel has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional, type = "number")]
        size: Option<u64>,
        /// Permission bits of its root. Default 0o755.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        mode: Option<u32>,
    },
}

/// One mount of a subcontainer.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// Where its files come from.
    pub source: MountSource,
    /// Absolute path inside; created where it is missing. A second mount on the same one is an error.
    pub mountpoint: String,
    /// Nothing can be written through it.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub readonly: bool,
    /// Id maps. Ids that no range names keep their number, unless a range already gives that number to another.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub idmap: Vec<IdMap>,
}

/// Parameters of `subcontainer.mount`. Works before the launch and while it runs.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MountParams {
    /// The subcontainer.
    pub guid: String,
    /// The mount.
    pub mount: Mount,
}

/// Parameters of `subcontainer.unmount`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnmountParams {
    /// The subcontainer.
    pub guid: String,
    /// Where the mount is, inside.
    pub mountpoint: String,
}

/// What a subcontainer is doing.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(tag = "status", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum RunState {
    /// It has a rootfs and no leader.
    Created,
    /// Its leader runs.
    Running {
        /// The leader's process id on the host.
        pid: u32,
        /// When it was launched, in milliseconds since the Unix epoch.
        #[ts(type = "number")]
        since: u64,
        /// The leader's name for `stream.attach`, `kill`, `wait` and `resize`, when a host launched it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        process: Option<String>,
        /// What it is allowed.
        allowed: Box<Allowed>,
        /// Where it is in its private network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        network: Option<NetworkInfo>,
    },
    /// Its leader ended.
    Exited {
        /// How.
        outcome: Outcome,
    },
}

/// A subcontainer, as `list` and `inspect` show it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct SubcontainerInfo {
    /// Its id.
    pub guid: String,
    /// Its name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub name: Option<String>,
    /// The image's digest.
    pub image_id: String,
    /// What the image would have started, if it says so; absent where that is nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<_>")]
    pub entrypoint: Vec<String>,
    /// Its arguments, after those of the entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<_>")]
    pub cmd: Vec<String>,
    /// Where its rootfs is mounted on the host.
    pub rootfs: String,
    /// Milliseconds since the Unix epoch.
    #[ts(type = "number")]
    pub created: u64,
    /// Not synced to disk.
    pub throwaway: bool,
    /// The id of the machine that is 0 inside, if it has a user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub first_id: Option<u32>,
    /// The sandbox that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub sandbox: Option<String>,
    /// Bytes on the machine's disk that what is written to it takes at most, if that is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub rootfs_size: Option<u64>,
    /// What it is doing.
    pub state: RunState,
    /// Its mounts, in the order they were made.
    pub mounts: Vec<Mount>,
    /// How what runs in it is, as those have said last who look after it (`events.health`). By name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<_>")]
    pub health: Vec<HealthInfo>,
}

/// How something is that somebody looks after.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct HealthInfo {
    /// What was looked at: the name of a daemon or a check.
    pub name: String,
    /// How it is.
    pub status: Health,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub message: Option<String>,
    /// When that was said, in milliseconds since the Unix epoch.
    #[ts(type = "number")]
    pub time: u64,
}

/// Result of `subcontainer.list`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ListResult {
    /// Every subcontainer of this host, oldest first.
    pub subcontainers: Vec<SubcontainerInfo>,
}
