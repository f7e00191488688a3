//! Images: import, pull, list, remove.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Parameters of `image.import`. Progress is sent as `$/progress`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportParams {
    /// A path on the host: an OCI layout (directory or archive), a docker-archive, a rootfs tar (plain, gzip or
    /// zstd) or a rootfs directory. Which one it is, is read from the bytes.
    pub path: String,
    /// The name to give it. Default: the name in the archive, else the file's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub name: Option<String>,
}

/// Parameters of `image.pull`. Progress is sent as `$/progress`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PullParams {
    /// `[registry/]repository[:tag][@digest]`.
    pub reference: String,
    /// The name to give it. Default: the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub name: Option<String>,
    /// `os/architecture[/variant]`. Default: this machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub platform: Option<String>,
    /// Speak plain HTTP to the registry.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub insecure: bool,
}

/// Names one image: parameters of `image.inspect` and `image.remove`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageParams {
    /// Name, digest, or an unambiguous beginning of the digest.
    pub image_id: String,
}

/// An image in the store.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageInfo {
    /// The digest of its config, `sha256:…`.
    pub digest: String,
    /// The names that point to it.
    pub names: Vec<String>,
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// Digests of its uncompressed layers (diff ids), lowest first.
    pub layers: Vec<String>,
    /// Bytes of all its layers, unpacked.
    #[ts(type = "number")]
    pub size: u64,
    /// When it was imported, in milliseconds since the Unix epoch.
    #[ts(type = "number")]
    pub imported: u64,
    /// How it wants to be run.
    pub config: ImageConfig,
}

/// The part of an OCI image config that says how to run it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageConfig {
    /// `NAME=value`, newlines safe.
    #[serde(default)]
    pub env: Vec<String>,
    /// User.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub user: Option<String>,
    /// Working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub workdir: Option<String>,
    /// Entry point.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// Default arguments.
    #[serde(default)]
    pub cmd: Vec<String>,
    /// The signal that stops it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub stop_signal: Option<String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `80/tcp`.
    #[serde(default)]
    pub exposed_ports: Vec<String>,
    /// Paths that it declares as volumes.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// Docker's health check, where the image has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub healthcheck: Option<Healthcheck>,
}

impl ImageConfig {
    /// What runs where nobody says what: entry point and default arguments. May be empty.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        [self.entrypoint.as_slice(), &self.cmd].concat()
    }
}

/// Docker's `HEALTHCHECK`. Times are in nanoseconds, as there.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Healthcheck {
    /// `["CMD", …]`, `["CMD-SHELL", …]` or `["NONE"]`.
    pub test: Vec<String>,
    /// Between checks.
    #[ts(type = "number")]
    pub interval: u64,
    /// For one check.
    #[ts(type = "number")]
    pub timeout: u64,
    /// Before failures count.
    #[ts(type = "number")]
    pub start_period: u64,
    /// Failures in a row until it is unhealthy.
    pub retries: u32,
}

/// Result of `image.list`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageListResult {
    /// Every image, oldest first.
    pub images: Vec<ImageInfo>,
}

/// Result of `image.remove` and `image.gc`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct RemovedResult {
    /// Digests of images and layers that were removed.
    pub removed: Vec<String>,
    /// Bytes freed.
    #[ts(type = "number")]
    pub freed: u64,
}
