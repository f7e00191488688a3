//! Packages: install, grant, activate, disable, update, roll back, remove.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::Digest;
use crate::function::FunctionsInfo;
use crate::worker::WorkerInfo;

/// What a capability reaches: field of its scope → items. Empty for one that has none; never "all".
pub type Scope = BTreeMap<String, BTreeSet<String>>;

/// Capabilities by name, each with its scope.
pub type Scopes = BTreeMap<String, Scope>;

/// What the operator decided about a package.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize, TS,
)]
#[serde(rename_all = "camelCase")]
pub enum PackageStatus {
    /// Its bundle is in the store, and no more.
    Verified,
    /// It may be activated.
    Installed,
    /// It runs, and is started with the host.
    Active,
    /// It does not run.
    Disabled,
}

/// What happens with a package, whatever was decided about it.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum PackageRun {
    /// This host has not looked yet.
    #[default]
    Unknown,
    /// It is being started.
    Loading,
    /// Everything in it runs.
    Running,
    /// Nothing of it runs.
    Stopped,
    /// It could not be started, or has ended by itself.
    Errored {
        /// Why.
        reason: String,
    },
}

/// Where a bundle comes from.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", tag = "from", deny_unknown_fields)]
pub enum PackageSource {
    /// A bundle's file on the host.
    File {
        /// Its path.
        path: String,
    },
    /// An artifact in an OCI registry, with one layer of the type `application/vnd.start-container.bundle.v1`.
    Oci {
        /// `[registry/]repository[:tag][@digest]`.
        reference: String,
        /// Speak plain HTTP to the registry.
        #[serde(default)]
        #[ts(optional, as = "Option<_>")]
        insecure: bool,
    },
}

/// Parameters of `package.install` and `package.update`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstallParams {
    /// Where its bundle comes from.
    pub source: PackageSource,
    /// Of an update: grant what the new version asks for beyond what was granted.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub grant_all: bool,
    /// Take a version in that is older than one that was installed before.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub older: bool,
}

/// Names one package.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PackageParams {
    /// Its id.
    pub package_id: String,
}

/// Parameters of `package.reload`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReloadParams {
    /// Its id.
    pub package_id: String,
    /// For development: a directory on the host whose `entries` are loaded in the place of the bundle's, until the package
    /// stops. Nobody has signed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub files: Option<String>,
}

/// Parameters of `package.run`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunJobParams {
    /// The package.
    pub package_id: String,
    /// A job of its manifest, or a function that runs at certain times.
    pub job: String,
}

/// Parameters of `package.grant`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantParams {
    /// Its id.
    pub package_id: String,
    /// Grant everything that it asks for.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub all: bool,
    /// Grant these, with all that they are asked for.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub grant: Vec<String>,
    /// Take these back. A package that runs is disabled first, with those that need it.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub revoke: Vec<String>,
}

/// Parameters of `package.disable`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DisableParams {
    /// Its id.
    pub package_id: String,
    /// Those that need it, too.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub dependents: bool,
}

/// Parameters of `package.rollback`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RollbackParams {
    /// Its id.
    pub package_id: String,
    /// Which version. Default: the highest below the one that is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub version: Option<String>,
    /// Grant what that version asks for beyond what is granted.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub grant_all: bool,
}

/// Parameters of `package.remove`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemovePackageParams {
    /// Its id.
    pub package_id: String,
    /// Its volumes, too.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub data: bool,
}

/// Parameters of `package.backup`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupParams {
    /// Its id.
    pub package_id: String,
    /// A directory on the host, which has to be there. Its backup is in a directory of its own in there.
    pub target: String,
}

/// Parameters of `package.restore`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreParams {
    /// Its id.
    pub package_id: String,
    /// The directory that it was backed up to.
    pub target: String,
    /// Also where secrets cannot be opened here: those are left out.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub without_secrets: bool,
}

/// A backup that was made, or restored.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct BackupInfo {
    /// Whose.
    pub package_id: String,
    /// The version that it had.
    pub version: String,
    /// When it was made, in milliseconds since the Unix epoch.
    #[ts(type = "number")]
    pub created: u64,
    /// The volumes in it.
    pub volumes: Vec<String>,
    /// Bytes of the files in it.
    #[ts(type = "number")]
    pub bytes: u64,
    /// Bytes that it has.
    #[ts(type = "number")]
    pub size: u64,
    /// Of its file.
    #[ts(type = "string")]
    pub digest: Digest,
    /// Sockets and devices, which are in no backup.
    #[ts(type = "number")]
    pub left_out: u64,
    /// Secrets that could not be opened here, and were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed_secrets: Vec<String>,
}

/// A package that is installed. Never says where anything lies on the machine.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct PackageInfo {
    /// Its identity.
    pub package_id: String,
    /// For people.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Of its bundle.
    #[ts(type = "string")]
    pub digest: Digest,
    /// What was decided about it.
    pub status: PackageStatus,
    /// What happens with it.
    pub run: PackageRun,
    /// Why it cannot be activated as it is: its bundle is gone, or nobody who is trusted vouches for it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub stale: Option<String>,
    /// What it asks for.
    pub asked: Arc<Scopes>,
    /// What it was granted.
    pub granted: Arc<Scopes>,
    /// What it asks for, needs, and was not granted: while there is any, it cannot be activated.
    pub missing: Arc<Scopes>,
    /// When it was first installed, in milliseconds since the Unix epoch.
    #[ts(type = "number")]
    pub installed: u64,
    /// When anything about it was last decided.
    #[ts(type = "number")]
    pub changed: u64,
    /// Versions that it can be rolled back to.
    pub versions: Vec<String>,
    /// What the broker makes of its calls; absent where it has made none since the host started, and is in no quarantine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub calls: Option<CallsInfo>,
    /// The process that runs its worker entries, if it has some and was started since the host was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub worker: Option<WorkerInfo>,
    /// Its functions and templates, if it has some and was started since the host was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub functions: Option<FunctionsInfo>,
}

/// What the broker makes of a package's calls. Numbers are since the host has started.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct CallsInfo {
    /// Calls that were carried out.
    #[ts(type = "number")]
    pub done: u64,
    /// Calls that were not allowed.
    #[ts(type = "number")]
    pub denied: u64,
    /// Calls that were allowed, and failed.
    #[ts(type = "number")]
    pub failed: u64,
    /// Calls that were more than a package may make; they are among the denied ones.
    #[ts(type = "number")]
    pub limited: u64,
    /// Kinds of calls that have failed again and again, and are refused for a while.
    pub broken: Vec<String>,
    /// Why, if the package is in quarantine: no call of it is carried out until `package.lift`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub quarantined: Option<String>,
}

/// Result of `package.list`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ListPackagesResult {
    /// By id.
    pub packages: Vec<PackageInfo>,
}

/// Parameters of `package.call`: calls code of a package that runs.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallParams {
    /// Its id.
    pub package_id: String,
    /// Which of its worker entries. Default: the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub module: Option<String>,
    /// What is called, by a name that the module knows.
    pub function: String,
    /// What it is given.
    #[serde(default)]
    #[ts(optional, type = "unknown")]
    pub input: serde_json::Value,
    /// Milliseconds until it is given up. Default: 60,000; at most 3,600,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub timeout: Option<u64>,
}

/// Parameters of `package.audit`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuditParams {
    /// Only of this package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub package_id: Option<String>,
    /// The last so many. Default: 100; at most 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub last: Option<u32>,
    /// Check the whole chain, from the first entry on.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub verify: bool,
}

/// How something that was asked for ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum AuditOutcome {
    /// It was done.
    Done,
    /// It was not allowed.
    Denied,
    /// It was allowed, and failed.
    Failed,
}

/// What is to be written into the audit log: what an [`AuditEntry`] is made of, in its words.
#[derive(Clone, Copy, Debug)]
pub struct AuditLine<'a> {
    /// When, in milliseconds since the Unix epoch.
    pub time: u64,
    /// Who: `operator`, `host`, or the package.
    pub actor: &'a str,
    /// About which package: its id.
    pub package: &'a str,
    /// What.
    pub action: &'a str,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// More, as JSON.
    pub detail: &'a str,
}

/// One line of the audit log.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Its number, from 1, without gaps.
    #[ts(type = "number")]
    pub number: u64,
    /// When, in milliseconds since the Unix epoch.
    #[ts(type = "number")]
    pub time: u64,
    /// Who: `operator`, `host`, or a package.
    pub actor: String,
    /// Which package it was about.
    pub package_id: String,
    /// What: `plugin.status`, `package.grant`.
    pub action: String,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// More of it, as JSON.
    pub detail: String,
    /// Over this entry and the one before it.
    #[ts(type = "string")]
    pub hash: Digest,
}

/// Result of `package.audit`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct AuditResult {
    /// Oldest first.
    pub entries: Vec<AuditEntry>,
    /// Entries in the whole log whose chain was checked; absent where it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub verified: Option<u64>,
}

/// Result of `package.rekey`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct RekeyResult {
    /// Secrets that were encrypted anew.
    #[ts(type = "number")]
    pub secrets: u64,
}
