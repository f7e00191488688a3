//! The manifest: what a package says of itself. One typed form for JSON and YAML.
//!
//! ```text
//! text ──read──▶ Manifest ──check──▶ one whose parts fit each other ──check_files──▶ … and the bundle's files
//! ```
//! Owns the words, their rules and the JSON Schema for editors. Unknown fields are refused, at the place where they
//! stand: a misspelt limit would be none, and a capability that an older host does not know must not be ignored. Never
//! opens a file, and never decides whether anything is granted.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};

pub mod capability;
pub mod entry;
mod lists;
mod read;
pub mod schedule;
pub mod words;

pub use capability::{Capabilities, Scope, Scopes, Tier, missing};
pub use entry::{Entry, MountFrom};
pub(crate) use read::MAX_BYTES;
pub use read::{Fault, Syntax};
pub use words::{BundlePath, Line, Name, PackageId};

use entry::{Program, Service};
use words::{AbsolutePath, Domain};

/// The version of this form.
pub const FORM: u8 = 1;

/// A package's manifest.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// The version of this form: 1.
    #[schemars(range(min = 1, max = 1))]
    pub manifest: u8,
    /// Its identity, the same in all versions.
    pub id: PackageId,
    /// For people.
    pub name: Line,
    /// A semantic version: 1.2.3.
    pub version: Version,
    /// What it is, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Line>,
    /// Packages that must be active for this one to be.
    #[serde(default, deserialize_with = "lists::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub dependencies: BTreeMap<PackageId, Dependency>,
    /// Images by name.
    #[serde(default, deserialize_with = "lists::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<Name, Image>,
    /// Its own data, kept over updates.
    #[serde(default, deserialize_with = "lists::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<Name, Volume>,
    /// What it brings.
    #[serde(default, deserialize_with = "lists::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub entries: BTreeMap<Name, Entry>,
    /// What it asks the host for.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// What all of it together may use of the machine.
    #[serde(default)]
    pub limits: protocol::limits::Limits,
    /// How to know that it works.
    #[serde(default, deserialize_with = "lists::map", skip_serializing_if = "BTreeMap::is_empty")]
    pub health: BTreeMap<Name, HealthCheck>,
    /// What is saved, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<Backup>,
}

/// A package that must be active for this one to be.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dependency {
    /// Versions that will do, as Cargo writes them: `^1.2`, `>=1, <3`.
    #[schemars(with = "String")]
    pub version: VersionReq,
    /// Why: shown to the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Line>,
    /// Volumes of it that this package mounts.
    #[serde(default, deserialize_with = "lists::distinct", skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Name>,
}

/// Where an image comes from.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Image {
    /// An archive in the bundle, beneath `images/`: an OCI layout, a docker-archive or a rootfs tar.
    File(BundlePath),
    /// In a registry, `registry/repository@sha256:…`. The digest is needed: it is what the signature covers.
    Reference(Line),
}

/// Data of a package's own.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// What is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Line>,
}

/// How to know that an entry works.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthCheck {
    /// Which service.
    pub entry: Name,
    /// What is tried.
    pub probe: Probe,
    /// Between two tries. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub interval_seconds: Option<u16>,
    /// For one try. Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: Option<u16>,
    /// Failures in a row until it counts as broken. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub failures: Option<u8>,
}

/// What is tried.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// A command inside that ends with 0.
    Exec(capability::Command),
    /// A port of the service that takes connections.
    Port(Name),
    /// A request that is answered with 200 to 399.
    Http(HttpProbe),
}

/// A request.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpProbe {
    /// A port of the service.
    pub port: Name,
    /// What is asked for.
    pub path: AbsolutePath,
    /// The `Host` header. Default: localhost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Domain>,
}

/// What is saved, and how. Without it, all volumes are. While files are copied nothing of the package runs; what it keeps with the
/// host is in every backup.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backup {
    /// Which volumes: all, where this is missing. Where a worker is asked, that says it.
    #[serde(default, deserialize_with = "lists::scope", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub volumes: Vec<Name>,
    /// A worker that is asked before and told after a restore: what `setupBackups` of the SDK makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Name>,
    /// A job that runs before: a dump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Name>,
    /// A job that runs after a restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_restore: Option<Name>,
}

impl Manifest {
    /// The JSON Schema, for editors; on disk it is `packages/schema/manifest.json`.
    #[must_use]
    pub fn json_schema() -> String {
        let mut schema = schemars::schema_for!(Self);
        schema.insert("title".to_owned(), "start-container package manifest".into());
        format!("{:#}\n", schema.to_value())
    }

    /// Whether the parts fit each other: whatever is named is there, and of the kind it must be.
    ///
    /// # Errors
    /// The first part that does not fit, and why.
    pub(crate) fn check(&self) -> Result<(), Misfit> {
        let misfit = |field: String, reason: String| Err(Misfit { field, reason });
        if self.manifest != FORM {
            return misfit("manifest".to_owned(), format!("this release reads form {FORM}"));
        }
        if self.dependencies.contains_key(&self.id) {
            return misfit(
                format!("dependencies.{}", self.id),
                "a package cannot depend on itself".to_owned(),
            );
        }
        let mut asked = self.capabilities.dependencies_read.iter().flat_map(|ask| &ask.packages);
        if let Some(id) = asked.find(|id| !self.dependencies.contains_key(*id)) {
            let field = "capabilities.dependencies:read.packages".to_owned();
            return misfit(field, format!("{id} is not among the dependencies"));
        }
        for (name, image) in &self.images {
            match image {
                Image::File(path) if !path.as_str().starts_with("images/") => {
                    return misfit(format!("images.{name}.file"), "it must be beneath images/".to_owned());
                }
                Image::Reference(reference) if !is_pinned(reference.as_str()) => {
                    return misfit(
                        format!("images.{name}.reference"),
                        "it must end in @sha256: and a digest: a tag may mean another image tomorrow"
                            .to_owned(),
                    );
                }
                _ => {}
            }
        }
        for (name, entry) in &self.entries {
            self.check_entry(entry).map_err(|Misfit { field, reason }| Misfit {
                field: format!("entries.{name}.{}.{field}", entry.kind()),
                reason,
            })?;
        }
        let mut paths = BTreeMap::new();
        for (name, entry) in &self.entries {
            let path = match entry {
                Entry::UrlFunction(function) => &function.path,
                Entry::Template(template) => &template.path,
                _ => continue,
            };
            if let Some(other) = paths.insert(path, name) {
                return misfit(
                    format!("entries.{name}.{}.path", entry.kind()),
                    format!("{other} has this path"),
                );
            }
        }
        if let Some(circle) = self.circle() {
            return misfit(format!("entries.{circle}"), "it requires itself, by way of others".to_owned());
        }
        for (name, check) in &self.health {
            let Some(Entry::Service(service)) = self.entries.get(&check.entry) else {
                return misfit(format!("health.{name}.entry"), format!("{} is no service", check.entry));
            };
            let port = match &check.probe {
                Probe::Exec(_) => None,
                Probe::Port(port) => Some(port),
                Probe::Http(http) => Some(&http.port),
            };
            if let Some(port) = port.filter(|port| !service.ports.contains_key(*port)) {
                return misfit(format!("health.{name}.probe"), format!("{} has no port {port}", check.entry));
            }
        }
        if let Some(backup) = &self.backup {
            for volume in &backup.volumes {
                self.check_volume(volume).or_else(|reason| misfit("backup.volumes".to_owned(), reason))?;
            }
            if let Some(worker) = &backup.worker {
                if !matches!(self.entries.get(worker), Some(Entry::Worker(_))) {
                    return misfit("backup.worker".to_owned(), format!("{worker} is no worker"));
                }
                if !backup.volumes.is_empty() {
                    let reason = format!("{worker} says which volumes: leave one of the two out");
                    return misfit("backup.volumes".to_owned(), reason);
                }
            }
            for (field, job) in [("before", &backup.before), ("afterRestore", &backup.after_restore)] {
                if let Some(job) = job
                    && !matches!(self.entries.get(job), Some(Entry::Job(_)))
                {
                    return misfit(format!("backup.{field}"), format!("{job} is no job"));
                }
            }
        }
        Ok(())
    }

    fn check_entry(&self, entry: &Entry) -> Result<(), Misfit> {
        let misfit = |field: &str, reason: String| Err(Misfit { field: field.to_owned(), reason });
        let beneath = |field: &str, path: &BundlePath, root: &str| {
            if path.as_str().starts_with(root) {
                return Ok(());
            }
            misfit(field, format!("it must be beneath {root}"))
        };
        match entry {
            Entry::Service(service) => {
                self.check_program(&service.program)?;
                for required in &service.requires {
                    if !matches!(self.entries.get(required), Some(Entry::Service(_) | Entry::Job(_))) {
                        return misfit("requires", format!("{required} is no service or job"));
                    }
                }
                Ok(())
            }
            Entry::Job(job) => self.check_program(&job.program),
            Entry::Worker(worker) => beneath("script", &worker.script, "entries/"),
            Entry::Handler(handler) => beneath("component", &handler.component, "entries/"),
            Entry::Ui(ui) => beneath("index", &ui.index, "ui/"),
            Entry::Template(template) => beneath("file", &template.file, "entries/"),
            Entry::ScheduledFunction(function) => {
                if let Err(reason) = schedule::Schedule::parse(function.schedule.as_str()) {
                    return misfit("schedule", reason);
                }
                beneath("function", &function.function, "entries/")
            }
            Entry::UrlFunction(function) => beneath("function", &function.function, "entries/"),
            Entry::Route(route) => match (self.entries.get(&route.to), &route.port) {
                (Some(Entry::Service(Service { ports, .. })), Some(port)) if ports.contains_key(port) => {
                    Ok(())
                }
                (Some(Entry::Service(_)), Some(port)) => {
                    misfit("port", format!("{} has no port {port}", route.to))
                }
                (Some(Entry::Service(_)), None) => {
                    misfit("port", "a service's port must be named".to_owned())
                }
                (Some(Entry::Worker(_) | Entry::Handler(_)), None) => Ok(()),
                (Some(Entry::Worker(_) | Entry::Handler(_)), Some(_)) => {
                    misfit("port", "only a service has ports".to_owned())
                }
                _ => misfit("to", format!("{} is no service, worker or handler", route.to)),
            },
        }
    }

    fn check_program(&self, program: &Program) -> Result<(), Misfit> {
        let misfit =
            |field: String, reason: String| Err(Misfit { field: format!("program.{field}"), reason });
        if !self.images.contains_key(&program.image) {
            return misfit("image".to_owned(), format!("{} is not among the images", program.image));
        }
        if program.command.iter().chain(program.env.values()).any(|text| text.contains('\0')) {
            return misfit("command".to_owned(), "a zero byte cannot be passed to a program".to_owned());
        }
        let mut places = BTreeSet::new();
        for (index, mount) in program.mounts.iter().enumerate() {
            let field = format!("mounts[{index}]");
            if !places.insert(&mount.path) {
                return misfit(field, format!("something is mounted at {} already", mount.path));
            }
            match &mount.from {
                MountFrom::Volume(volume) => {
                    self.check_volume(volume).or_else(|reason| misfit(format!("{field}.from"), reason))?;
                }
                MountFrom::Assets(path)
                    if path.as_str() != "assets" && !path.as_str().starts_with("assets/") =>
                {
                    return misfit(format!("{field}.from.assets"), "it must be beneath assets/".to_owned());
                }
                MountFrom::Assets(_) => {}
                MountFrom::Dependency(pointer) if !self.may_point_to(pointer) => {
                    return misfit(
                        format!("{field}.from.dependency"),
                        format!(
                            "volume {} is not among the volumes of dependencies.{}",
                            pointer.volume, pointer.package
                        ),
                    );
                }
                MountFrom::Dependency(_) => {}
            }
        }
        Ok(())
    }

    fn check_volume(&self, volume: &Name) -> Result<(), String> {
        if self.volumes.contains_key(volume) {
            return Ok(());
        }
        Err(format!("{volume} is not among the volumes"))
    }

    /// Whether a mount may show this volume of another package: only what the manifest declares (row S15).
    #[must_use]
    pub fn may_point_to(&self, pointer: &entry::Pointer) -> bool {
        self.dependencies
            .get(&pointer.package)
            .is_some_and(|dependency| dependency.volumes.contains(&pointer.volume))
    }

    /// The entries, each behind those that it requires.
    #[must_use]
    pub fn start_order(&self) -> Vec<&Name> {
        let mut order: Vec<&Name> = Vec::with_capacity(self.entries.len());
        // There is no circle: each round finds one at least.
        while order.len() < self.entries.len() {
            let ready = self.entries.keys().filter(|name| {
                !order.contains(name) && self.requires(name).iter().all(|one| order.contains(&one))
            });
            let ready: Vec<&Name> = ready.collect();
            if ready.is_empty() {
                break;
            }
            order.extend(ready);
        }
        order
    }

    /// Whether a service requires this entry.
    #[must_use]
    pub fn is_required(&self, name: &Name) -> bool {
        self.entries.keys().any(|entry| self.requires(entry).contains(name))
    }

    fn requires(&self, name: &Name) -> &[Name] {
        match self.entries.get(name) {
            Some(Entry::Service(service)) => &service.requires,
            _ => &[],
        }
    }

    /// An entry that requires itself by way of others.
    fn circle(&self) -> Option<&Name> {
        let order = self.start_order();
        self.entries.keys().find(|name| !order.contains(name))
    }

    /// The files of the bundle that the manifest names.
    #[must_use]
    pub fn files(&self) -> BTreeMap<&BundlePath, String> {
        let images = self.images.iter().filter_map(|(name, image)| match image {
            Image::File(path) => Some((path, format!("images.{name}.file"))),
            Image::Reference(_) => None,
        });
        let entries = self.entries.iter().filter_map(|(name, entry)| {
            let path = match entry {
                Entry::Worker(worker) => &worker.script,
                Entry::Handler(handler) => &handler.component,
                Entry::Ui(ui) => &ui.index,
                Entry::Template(template) => &template.file,
                Entry::ScheduledFunction(function) => &function.function,
                Entry::UrlFunction(function) => &function.function,
                Entry::Service(_) | Entry::Job(_) | Entry::Route(_) => return None,
            };
            Some((path, format!("entries.{name}.{}", entry.kind())))
        });
        images.chain(entries).collect()
    }
}

/// Reads a version.
///
/// # Errors
/// When it is none.
pub fn version(text: &str) -> crate::Result<Version> {
    text.parse().map_err(|error: semver::Error| crate::Error::Manifest {
        file: format!("{text:?}"),
        source: Fault { field: "version".to_owned(), place: None, reason: error.to_string() },
    })
}

/// `….@sha256:` and 64 digits.
fn is_pinned(reference: &str) -> bool {
    reference
        .split_once('@')
        .is_some_and(|(name, digest)| !name.is_empty() && digest.parse::<protocol::Digest>().is_ok())
}

/// A part of a manifest that does not fit the rest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Misfit {
    pub(crate) field: String,
    pub(crate) reason: String,
}
