//! Sandboxes: what the subcontainers of one package share, and what bounds them.
//!
//! A sandbox has a rootfs and a leader, as a subcontainer has: its guid is good for `subcontainer.exec`, `spawn`, `mount`,
//! `unmount`, `stats` and for file calls.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::limits::Limits;
use crate::network::Network;
use crate::subcontainer::{Mount, RunState};

/// Parameters of `sandbox.create`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateSandboxParams {
    /// An image for the sandbox's own processes: its name, or its digest `sha256:…`, or an unambiguous beginning of it.
    /// Default: an empty rootfs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub image_id: Option<String>,
    /// A name for people, and its hostname where it can be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub name: Option<String>,
    /// The rootfs need not survive a crash of the machine: its upper layer is never synced (overlay `volatile`).
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub throwaway: bool,
    /// It outlives this connection. Otherwise it is destroyed when the connection ends, with everything in it.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub detached: bool,
    /// What it is.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub settings: SandboxSettings,
}

/// What a sandbox was made with, and is started with again.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SandboxSettings {
    /// The network of everything in it: `none` (the default) or a private one. Never the machine's.
    #[serde(default = "no_network")]
    #[ts(optional, as = "Option<_>")]
    pub network: Network,
    /// What everything in it may use together.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub limits: Limits,
}

impl Default for SandboxSettings {
    fn default() -> Self {
        Self { network: no_network(), limits: Limits::default() }
    }
}

fn no_network() -> Network {
    Network::None
}

/// A sandbox, as `sandbox.list` and `sandbox.inspect` show it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct SandboxInfo {
    /// Its id.
    pub guid: String,
    /// Its name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub name: Option<String>,
    /// The digest of the image for its own processes, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub image_id: Option<String>,
    /// Where its rootfs is mounted on the host.
    pub rootfs: String,
    /// Milliseconds since the Unix epoch.
    #[ts(type = "number")]
    pub created: u64,
    /// Not synced to disk.
    pub throwaway: bool,
    /// The id of the machine that is 0 inside, in each of its subcontainers too.
    pub first_id: u32,
    /// What its init is doing. When that has ended, so has everything in it.
    pub state: RunState,
    /// What it was made with.
    pub settings: SandboxSettings,
    /// Its own mounts, in the order they were made.
    pub mounts: Vec<Mount>,
    /// The ids of its subcontainers, oldest first.
    pub subcontainers: Vec<String>,
}

/// Result of `sandbox.list`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ListSandboxesResult {
    /// Every sandbox of this host, oldest first.
    pub sandboxes: Vec<SandboxInfo>,
}
