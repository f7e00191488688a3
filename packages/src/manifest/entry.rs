//! What a package brings: its entries, each of a kind that one runner knows.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lists;
use super::words::{AbsolutePath, BundlePath, Line, Name, PackageId, Variable};

/// One entry. Which kinds run is for the runners of a release to say: every kind can be read, signed and installed.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Entry {
    /// A program that runs as long as the package is active, in a subcontainer of its own.
    Service(Service),
    /// TypeScript or JavaScript in a process of its own.
    Worker(Worker),
    /// A WebAssembly component that answers requests.
    Handler(Handler),
    /// Files for browsers.
    Ui(Ui),
    /// A program that runs to its end when it is asked to.
    Job(Job),
    /// Requests for a path, sent to another entry.
    Route(Route),
    /// A page that is filled in from a template.
    Template(Template),
    /// A small function that runs at certain times.
    ScheduledFunction(ScheduledFunction),
    /// A small function that answers requests for one path.
    UrlFunction(UrlFunction),
}

impl Entry {
    /// `service`, `worker`, …
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Service(_) => "service",
            Self::Worker(_) => "worker",
            Self::Handler(_) => "handler",
            Self::Ui(_) => "ui",
            Self::Job(_) => "job",
            Self::Route(_) => "route",
            Self::Template(_) => "template",
            Self::ScheduledFunction(_) => "scheduledFunction",
            Self::UrlFunction(_) => "urlFunction",
        }
    }
}

/// A program that runs as long as the package is active.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// What runs.
    pub program: Program,
    /// Ports that it listens on.
    #[serde(default, deserialize_with = "lists::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<Name, Port>,
    /// Entries that run before it and end after it.
    #[serde(default, deserialize_with = "lists::distinct", skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Name>,
    /// Seconds between SIGTERM and SIGKILL. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 3600))]
    pub grace_seconds: Option<u16>,
}

/// A program in an image.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Program {
    /// One of the manifest's images.
    pub image: Name,
    /// Program and arguments. Default: the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Beside the image's.
    #[serde(default, deserialize_with = "lists::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<Variable, String>,
    /// Default: the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<AbsolutePath>,
    /// `USER[:GROUP]`. Default: the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Line>,
    /// What is mounted, each at a place of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
}

/// Something mounted into a program's file system.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// Where.
    pub path: AbsolutePath,
    /// What.
    pub from: MountFrom,
    /// A part of it. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subpath: Option<BundlePath>,
    /// Assets always are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub readonly: bool,
}

/// What is mounted.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum MountFrom {
    /// One of the manifest's volumes.
    Volume(Name),
    /// A directory of the bundle, beneath `assets/`.
    Assets(BundlePath),
    /// A volume of a package that this one depends on, which must say so in `dependencies`.
    Dependency(Pointer),
}

/// A volume of another package.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pointer {
    /// Whose.
    pub package: PackageId,
    /// Which.
    pub volume: Name,
}

/// A port that a service listens on.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// Its number.
    #[schemars(range(min = 1))]
    pub port: std::num::NonZeroU16,
    /// Default: tcp.
    #[serde(default)]
    pub protocol: Protocol,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// TypeScript or JavaScript in a process of its own.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Worker {
    /// A file beneath `entries/`: a module that exports a function `init`.
    pub script: BundlePath,
    /// Seconds until a call of the host's is given up, and the process is started again: its import with `init`, and its
    /// `uninit`. Default: 30. The longest one holds for all workers of a package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub deadline_seconds: Option<std::num::NonZeroU16>,
    /// Seconds between being asked to end and being killed. Default: 10. The longest one holds for all workers of a package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 3600))]
    pub grace_seconds: Option<u16>,
}

/// A WebAssembly component.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Handler {
    /// A file beneath `entries/`.
    pub component: BundlePath,
}

/// Files for browsers.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ui {
    /// A file beneath `ui/`: what is shown first.
    pub index: BundlePath,
}

/// A program that runs to its end.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Job {
    /// What runs.
    pub program: Program,
    /// Seconds until it is ended. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
}

/// Requests for a path, sent to another entry.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// With what is beneath it.
    pub path: AbsolutePath,
    /// A service, worker or handler.
    pub to: Name,
    /// The service's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Name>,
}

/// A page that is filled in, with Jinja's signs; what is put in is escaped for HTML.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Template {
    /// Where it is served.
    pub path: AbsolutePath,
    /// A file beneath `entries/`.
    pub file: BundlePath,
}

/// A small function that runs at certain times.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduledFunction {
    /// A file beneath `entries/`.
    pub function: BundlePath,
    /// Minute, hour, day, month and weekday in UTC, as cron has them: `*/10 8-18 * * mon-fri`. Or `@hourly`, `@daily`,
    /// `@weekly`, `@monthly`.
    pub schedule: Line,
}

/// A small function that answers requests for one path.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UrlFunction {
    /// A file beneath `entries/`.
    pub function: BundlePath,
    /// Which.
    pub path: AbsolutePath,
}
