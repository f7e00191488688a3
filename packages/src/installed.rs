//! What is installed: the operator's decisions, and what becomes of them.
//!
//! ```text
//! admit (store) ──▶ install ──▶ grant ──▶ activate ──▶ runner
//!                                  ▲          │ disable, update, roll back, remove
//! ```
//! Owns the tables `package`, `version` and `highest` of `state.db`, and says what runs. One change at a time; looking
//! waits for none of them.
//!
//! A decision and its line in the audit log are one transaction. A start comes before the decision is written down, so
//! that a start that fails is no decision; a stop comes after, so that what was to stop does not start again when the
//! host is killed in between.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linux::step::{Step, during};
use protocol::Digest;
use protocol::package::{
    AuditEntry, AuditLine, AuditOutcome, GrantParams, PackageInfo, PackageRun, PackageStatus, Scopes,
};
use rusqlite::Connection;
use semver::Version;
use serde_json::json;

use crate::lifecycle::{self, Refused};
use crate::manifest::{PackageId, capability};
use crate::plan::{self, Needs};
use crate::runner::{Runner, Startable};
use crate::store::Stored;
use crate::trust::For;
use crate::{Error, Manifest, Result, Store, Trust, audit, database};

mod held;
mod records;

pub use held::Held;
use records::Record;

/// Who decides here: whoever can reach the host's socket.
const OPERATOR: &str = "operator";
/// Versions of a package that are kept, to roll back to.
const KEPT: usize = 4;

/// The packages of a host.
pub struct Packages {
    store: Store,
    data_dir: PathBuf,
    database: Mutex<Connection>,
    runs: Mutex<BTreeMap<PackageId, PackageRun>>,
    runner: Arc<dyn Runner>,
    changing: Mutex<()>,
    /// Those about which nothing is decided for now, and why.
    held: Mutex<BTreeMap<PackageId, &'static str>>,
    /// The host is stopping: what is held is not started again.
    closing: AtomicBool,
    clock: fn() -> u64,
}

impl std::fmt::Debug for Packages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packages").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked left a transaction that was rolled back, or a map that is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Packages {
    /// Opens what is installed beneath a data directory, and removes bundles that nothing refers to. `clock` gives
    /// milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// When the store or the database cannot be opened.
    pub fn open(data_dir: &Path, runner: Arc<dyn Runner>, clock: fn() -> u64) -> Result<Self> {
        let store = Store::open(data_dir)?;
        let packages = Self {
            store,
            data_dir: data_dir.to_owned(),
            database: Mutex::new(database::open(data_dir)?),
            runs: Mutex::default(),
            runner,
            changing: Mutex::default(),
            held: Mutex::default(),
            closing: AtomicBool::new(false),
            clock,
        };
        let known: BTreeSet<Digest> = packages.read(records::digests)?;
        for digest in packages.store.list()? {
            if !known.contains(&digest) {
                packages.store.remove(&digest)?;
            }
        }
        Ok(packages)
    }

    /// The store of bundles.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        read(&lock(&self.database))
    }

    /// One transaction, with its line in the audit log.
    fn write(
        &self,
        id: &PackageId,
        action: &str,
        detail: &serde_json::Value,
        change: impl FnOnce(&Connection, u64) -> Result<()>,
    ) -> Result<()> {
        let now = (self.clock)();
        let failed = |source| Error::Database { step: "write what is installed", source };
        let mut database = lock(&self.database);
        let transaction =
            database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
        change(&transaction, now)?;
        let entry = AuditLine {
            time: now,
            actor: OPERATOR,
            package: id.as_str(),
            action,
            outcome: AuditOutcome::Done,
            detail: &detail.to_string(),
        };
        audit::append(&transaction, &entry)?;
        during(Step::WriteDecision, || transaction.commit()).map_err(failed)
    }

    /// Writes down that something was refused, or failed, and gives the error back.
    fn refuse(&self, id: &PackageId, action: &str, error: Error) -> Error {
        let outcome = match error {
            Error::Runner { .. } | Error::Kernel { .. } | Error::Database { .. } => AuditOutcome::Failed,
            _ => AuditOutcome::Denied,
        };
        let mut why = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            why = format!("{why}: {source}");
        }
        let entry = AuditLine {
            time: (self.clock)(),
            actor: OPERATOR,
            package: id.as_str(),
            action,
            outcome,
            detail: &json!({ "reason": why }).to_string(),
        };
        let written = (|| {
            let mut database = lock(&self.database);
            let failed = |source| Error::Database { step: "write the audit log", source };
            let transaction = database.transaction().map_err(failed)?;
            audit::append(&transaction, &entry)?;
            transaction.commit().map_err(failed)
        })();
        // What cannot be written down is the graver failure.
        written.err().unwrap_or(error)
    }

    fn set_run(&self, id: &PackageId, run: PackageRun) {
        lock(&self.runs).insert(id.clone(), run);
    }

    fn run_of(&self, id: &PackageId) -> PackageRun {
        lock(&self.runs).get(id).cloned().unwrap_or_default()
    }

    /// A runner tells that something of a package has ended by itself.
    pub fn has_failed(&self, id: &PackageId, reason: &str) {
        if let Some(run) = lock(&self.runs).get_mut(id)
            && matches!(run, PackageRun::Running | PackageRun::Loading)
        {
            *run = PackageRun::Errored { reason: reason.to_owned() };
        }
    }

    /// A runner tells that what had failed for this reason is well again. Where something else has failed, that stays.
    pub fn has_recovered(&self, id: &PackageId, reason: &str) {
        if let Some(run) = lock(&self.runs).get_mut(id)
            && matches!(run, PackageRun::Errored { reason: known } if known == reason)
        {
            *run = PackageRun::Running;
        }
    }

    // -- looking

    /// Every package, by id.
    ///
    /// # Errors
    /// When the database, the trust file or the store cannot be read.
    pub fn list(&self) -> Result<Vec<PackageInfo>> {
        let (records, mut versions) =
            self.read(|database| Ok((records::shown(database)?, records::versions(database)?)))?;
        let there: BTreeSet<Digest> = self.store.list()?.into_iter().collect();
        let trust = Trust::read(&self.store.trust_file())?;
        Ok(records
            .into_iter()
            .map(|record| {
                let stale = stale(&record, there.contains(&record.digest), &trust);
                let versions = versions.remove(&record.id).unwrap_or_default();
                self.info(record, versions, stale)
            })
            .collect())
    }

    /// One package.
    ///
    /// # Errors
    /// When there is none, and as [`Packages::list`].
    pub fn get(&self, id: &PackageId) -> Result<PackageInfo> {
        let (record, versions) =
            self.read(|database| Ok((records::get(database, id)?, records::versions_of(database, id)?)))?;
        let there = self.store.has(&record.digest);
        let stale = stale(&record, there, &Trust::read(&self.store.trust_file())?);
        Ok(self.info(record, versions, stale))
    }

    fn info(&self, record: Record, versions: Vec<Version>, stale: Option<String>) -> PackageInfo {
        let versions = versions.iter().filter(|version| **version != record.version).map(Version::to_string);
        PackageInfo {
            functions: None,
            run: self.run_of(&record.id),
            missing: if Arc::ptr_eq(&record.needed, &record.granted) {
                Arc::default()
            } else if record.granted.is_empty() {
                Arc::clone(&record.needed)
            } else {
                Arc::new(capability::missing(&record.needed, &record.granted))
            },
            package_id: record.id.to_string(),
            name: record.name,
            version: record.version.to_string(),
            digest: record.digest,
            status: record.status,
            stale,
            asked: record.asked,
            granted: record.granted,
            installed: record.installed,
            changed: record.changed,
            versions: versions.collect(),
            calls: None,
            worker: None,
        }
    }

    /// The last lines of the audit log; with `verify`, how many the whole log has, if its chain is whole.
    ///
    /// # Errors
    /// When the log was tampered with, or cannot be read.
    pub fn audit(
        &self,
        id: Option<&PackageId>,
        last: u32,
        verify: bool,
    ) -> Result<(Vec<AuditEntry>, Option<u64>)> {
        self.read(|database| {
            let view = database
                .unchecked_transaction()
                .map_err(|source| Error::Database { step: "read the audit log", source })?;
            let verified = verify.then(|| audit::verify(&view)).transpose()?;
            Ok((audit::last(&view, id.map(PackageId::as_str), last)?, verified))
        })
    }

    // -- deciding

    /// Takes a bundle in that nobody else can write to, and installs it. `older`: also one that is older than what was
    /// installed before.
    ///
    /// # Errors
    /// When it is not trusted or not as it must be, the package is installed already, or it is older.
    pub fn install(&self, bundle: File, older: bool) -> Result<PackageInfo> {
        let stored = self.store.admit_file(bundle, (self.clock)())?;
        let id = stored.manifest.id.clone();
        let _one_at_a_time = lock(&self.changing);
        let installed = (|| {
            if self.read(|database| records::find(database, &id))?.is_some() {
                return Err(Error::Exists(format!("package {id}")));
            }
            self.check_age(&stored, None, older)?;
            let record = Record::new(&stored, (self.clock)());
            self.write(
                &id,
                "plugin.status",
                &status_detail(PackageStatus::Verified, &record),
                |database, _| {
                    lifecycle::step(PackageStatus::Verified, PackageStatus::Installed, None)
                        .map_err(|source| Error::Lifecycle { id: id.to_string(), source })?;
                    records::put(database, &record)?;
                    records::add_version(database, &record)
                },
            )
        })();
        match installed {
            Ok(()) => self.get(&id),
            Err(error) => Err(self.turn_away(&stored, "plugin.status", error)),
        }
    }

    /// What was taken in for nothing goes again, unless it was there before.
    fn turn_away(&self, stored: &Stored, action: &str, error: Error) -> Error {
        let error = self.refuse(&stored.manifest.id, action, error);
        let known = self.read(records::digests).is_ok_and(|known| known.contains(&stored.digest));
        if !known {
            // What stays is removed when the host starts again.
            _ = self.store.remove(&stored.digest);
        }
        error
    }

    fn check_age(&self, stored: &Stored, current: Option<&Record>, older: bool) -> Result<()> {
        let (id, version) = (&stored.manifest.id, &stored.manifest.version);
        let versions = self.read(|database| records::digests_of(database, id))?;
        if let Some((_, digest)) = versions.iter().find(|(known, _)| known == version)
            && *digest != stored.digest
        {
            let reason = format!(
                "{id} {version} is known with other contents ({digest}): a new version needs a new number"
            );
            return Err(Error::Conflict(reason));
        }
        let highest = self.read(|database| records::highest(database, id))?;
        let most = highest.as_ref().into_iter().chain(current.map(|record| &record.version)).max();
        match most.filter(|most| version.cmp_precedence(most).is_lt()) {
            Some(most) if !older => Err(Error::Conflict(format!(
                "{id} {version} is older than {most}, which was installed: say that you want the older one"
            ))),
            _ => Ok(()),
        }
    }

    /// Replaces a package by another version. One that asks for more than was granted is turned away, unless `grant_all`
    /// consents to it; the one that is there goes on as it was.
    ///
    /// # Errors
    /// As [`Packages::install`]; when it needs consent; when packages that are active need the version that is there;
    /// when it does not stop, or the new one does not start.
    pub fn update(&self, bundle: File, grant_all: bool, older: bool) -> Result<PackageInfo> {
        let stored = self.store.admit_file(bundle, (self.clock)())?;
        let id = stored.manifest.id.clone();
        let _one_at_a_time = lock(&self.changing);
        let result = (|| {
            self.must_be_free(&id)?;
            let record = self.read(|database| records::get(database, &id))?;
            if record.digest == stored.digest {
                return Err(Error::Exists(format!("package {id} {}", record.version)));
            }
            self.check_age(&stored, Some(&record), older)?;
            self.replace(record, &stored, grant_all)
        })();
        match result {
            Ok(()) => self.get(&id),
            Err(error) => Err(self.turn_away(&stored, "package.update", error)),
        }
    }

    /// Goes back to a version that was installed before: the highest below this one, or the one that is named.
    ///
    /// # Errors
    /// When there is none, and as [`Packages::update`].
    pub fn rollback(
        &self,
        id: &PackageId,
        version: Option<&Version>,
        grant_all: bool,
    ) -> Result<PackageInfo> {
        let _one_at_a_time = lock(&self.changing);
        let result = (|| {
            self.must_be_free(id)?;
            let record = self.read(|database| records::get(database, id))?;
            let mut versions = self.read(|database| records::digests_of(database, id))?;
            versions.retain(|(known, _)| match version {
                Some(wanted) => known == wanted && *known != record.version,
                None => *known < record.version,
            });
            let (_, digest) = versions.into_iter().max().ok_or_else(|| {
                let which = version
                    .map_or_else(|| "earlier version".to_owned(), |version| format!("version {version}"));
                Error::Unknown(format!("{which} of {id} to roll back to"))
            })?;
            let (stored, _) = self.store.check(&digest, (self.clock)())?;
            self.replace(record, &stored, grant_all)
        })();
        match result {
            Ok(()) => self.get(id),
            Err(error) => Err(self.refuse(id, "package.update", error)),
        }
    }

    /// Another version in the place of the one that is there.
    fn replace(&self, old: Record, stored: &Stored, grant_all: bool) -> Result<()> {
        let (id, manifest) = (&old.id, &stored.manifest);
        let mut new = Record::new(stored, (self.clock)());
        new.installed = old.installed;
        // What it asked for before and was not given, it need not be asked about again, where it can do without.
        let mut known = Scopes::clone(&old.asked);
        for (name, scope) in &*old.granted {
            known.insert(name.clone(), scope.clone());
        }
        let mut more = capability::missing(&new.asked, &known);
        for (name, scope) in capability::missing(&new.needed, &old.granted) {
            more.insert(name, scope);
        }
        if !more.is_empty() && !grant_all {
            return Err(Error::NeedsConsent {
                id: id.to_string(),
                version: manifest.version.to_string(),
                missing: more,
            });
        }
        new.granted = if grant_all {
            Arc::clone(&new.asked)
        } else {
            Arc::new(capability::common(&new.asked, &old.granted))
        };
        let was_active = old.status == PackageStatus::Active;
        let others = self.active_needs()?;
        if was_active {
            let hurt = plan::hurt(id, Some(&manifest.version), &others);
            if !hurt.is_empty() {
                return Err(Error::Needed { conflicts: hurt });
            }
            // Whether the new one can start is looked at before the old one is stopped.
            self.check_needs(&new)?;
            self.check_entries(manifest)?;
        }
        // Written down as disabled first: killed here, the new one does not run unasked.
        new.status = if was_active { PackageStatus::Disabled } else { old.status };
        let detail =
            json!({ "from": old.version, "to": new.version, "digest": new.digest, "granted": new.granted });
        let dropped = self.dropped_versions(&new)?;
        self.write(id, "package.update", &detail, |database, _| {
            records::put(database, &new)?;
            records::add_version(database, &new)?;
            dropped.iter().try_for_each(|(version, _)| records::drop_version(database, id, version))
        })?;
        for (_, digest) in dropped {
            // What stays is removed when the host starts again.
            _ = self.store.remove(&digest);
        }
        if was_active {
            self.stop_for(id, Some(&new.version))?;
            self.start_and_record(&new)?;
        }
        Ok(())
    }

    /// Versions beyond those that are kept: the lowest ones.
    fn dropped_versions(&self, new: &Record) -> Result<Vec<(Version, Digest)>> {
        let mut versions = self.read(|database| records::digests_of(database, &new.id))?;
        versions.retain(|(version, _)| *version != new.version);
        versions.sort();
        let many = (versions.len() + 1).saturating_sub(KEPT);
        Ok(versions.drain(..many).collect())
    }

    /// Grants what a package asks for, or takes it back: then it is disabled first, with those that need it. Returns the package as it is then.
    ///
    /// # Errors
    /// When there is no such package, or it does not ask for what is to be granted.
    pub fn grant(&self, id: &PackageId, params: &GrantParams) -> Result<PackageInfo> {
        let _one_at_a_time = lock(&self.changing);
        self.must_be_free(id)?;
        let mut record = self.read(|database| records::get(database, id))?;
        let mut granted = Scopes::clone(if params.all { &record.asked } else { &record.granted });
        for name in &params.grant {
            let Some(scope) = record.asked.get(name) else {
                let error = Error::Unknown(format!("capability {name} that {id} asks for"));
                return Err(self.refuse(id, "package.grant", error));
            };
            granted.insert(name.clone(), scope.clone());
        }
        let mut less = false;
        for name in &params.revoke {
            less |= granted.remove(name).is_some();
        }
        if less && record.status == PackageStatus::Active {
            self.disable_with_dependents(&record, &self.active_needs()?)?;
            record.status = PackageStatus::Disabled;
        }
        let added = capability::missing(&granted, &record.granted);
        let taken = capability::missing(&record.granted, &granted);
        record.granted = Arc::new(granted);
        self.write(id, "package.grant", &json!({ "granted": added, "revoked": taken }), |database, now| {
            record.changed = now;
            records::put(database, &record)
        })?;
        self.get(id)
    }

    /// Starts a package, and has it started with the host from now on.
    ///
    /// # Errors
    /// When its state does not allow it, its bundle cannot be used, it needs consent or other packages, nothing here runs
    /// an entry of it, or it does not start. It stays what it was then.
    pub fn activate(&self, id: &PackageId) -> Result<PackageInfo> {
        let _one_at_a_time = lock(&self.changing);
        let result = self.read(|database| records::get(database, id)).and_then(|record| {
            self.must_be_free(id)?;
            lifecycle::step(record.status, PackageStatus::Active, None)
                .map_err(|source| Error::Lifecycle { id: id.to_string(), source })?;
            self.start_and_record(&record)
        });
        match result {
            Ok(()) => self.get(id),
            Err(error @ Error::Unknown(_)) => Err(error),
            Err(error) => Err(self.refuse(id, "plugin.status", error)),
        }
    }

    fn start_and_record(&self, record: &Record) -> Result<()> {
        let id = &record.id;
        self.start(record)?;
        let mut active = record.clone();
        active.status = PackageStatus::Active;
        let written =
            self.write(id, "plugin.status", &status_detail(record.status, &active), |database, now| {
                active.changed = now;
                records::put(database, &active)
            });
        if written.is_err() {
            // The first error is the one to tell.
            _ = self.stop(id);
        }
        written
    }

    /// Checks everything once more and starts it.
    fn start(&self, record: &Record) -> Result<()> {
        self.start_with(record, false)
    }

    fn start_with(&self, record: &Record, restored: bool) -> Result<()> {
        let id = &record.id;
        let (stored, files) = self.store.check(&record.digest, (self.clock)()).map_err(|error| {
            let source = Refused::Stale(error.to_string());
            Error::Lifecycle { id: id.to_string(), source }
        })?;
        self.check_needs(record)?;
        self.check_entries(&stored.manifest)?;
        self.set_run(id, PackageRun::Loading);
        let package = Startable {
            manifest: &stored.manifest,
            files: std::os::fd::AsFd::as_fd(&files),
            granted: &record.granted,
            restored,
        };
        match self.runner.start(&package) {
            Ok(()) => {
                // Unless something of it has ended already.
                if let Some(run @ PackageRun::Loading) = lock(&self.runs).get_mut(id) {
                    *run = PackageRun::Running;
                }
                Ok(())
            }
            Err(source) => {
                self.set_run(id, PackageRun::Errored { reason: source.to_string() });
                Err(Error::Runner { step: "start", id: id.to_string(), source })
            }
        }
    }

    /// Consent, and whom it depends on.
    fn check_needs(&self, record: &Record) -> Result<()> {
        let missing = capability::missing(&record.needed, &record.granted);
        if !missing.is_empty() {
            return Err(Error::NeedsConsent {
                id: record.id.to_string(),
                version: record.version.to_string(),
                missing,
            });
        }
        let there = self.read(records::active)?;
        let running = there.into_iter().filter(|(id, _)| self.run_of(id) == PackageRun::Running).collect();
        let unmet = plan::unmet(&record.id, &record.dependencies, &running);
        if unmet.is_empty() { Ok(()) } else { Err(Error::Needed { conflicts: unmet }) }
    }

    fn check_entries(&self, manifest: &Manifest) -> Result<()> {
        for (name, entry) in &manifest.entries {
            self.runner.can_run(manifest, entry).map_err(|reason| Error::NoRunner {
                id: manifest.id.to_string(),
                entry: name.to_string(),
                kind: entry.kind(),
                reason,
            })?;
        }
        Ok(())
    }

    fn active_needs(&self) -> Result<BTreeMap<PackageId, Needs>> {
        let records = self.read(records::all)?;
        let active = records.into_iter().filter(|record| record.status == PackageStatus::Active);
        Ok(active.map(|record| (record.id, record.dependencies)).collect())
    }

    /// Stops a package, and keeps it from starting. Needs nothing of its bundle, which may be gone. `dependents`: those
    /// that need it are disabled before it.
    ///
    /// # Errors
    /// When it is disabled already, active packages need it, or it does not stop.
    pub fn disable(&self, id: &PackageId, dependents: bool) -> Result<PackageInfo> {
        let _one_at_a_time = lock(&self.changing);
        let record = self.read(|database| records::get(database, id))?;
        let needs = self.active_needs()?;
        let result = (|| {
            self.must_be_free(id)?;
            let errored = matches!(self.run_of(id), PackageRun::Errored { .. });
            if record.status == PackageStatus::Disabled && errored {
                // It may not have stopped when it was disabled.
                return self.stop(id);
            }
            let hurt = plan::hurt(id, None, &needs);
            if !hurt.is_empty() && !dependents {
                return Err(Error::Needed { conflicts: hurt });
            }
            self.disable_with_dependents(&record, &needs)
        })();
        match result {
            Ok(()) => self.get(id),
            Err(error) => Err(self.refuse(id, "plugin.status", error)),
        }
    }

    fn disable_with_dependents(&self, record: &Record, active: &BTreeMap<PackageId, Needs>) -> Result<()> {
        for id in plan::dependents(&record.id, active) {
            self.disable_one(&self.read(|database| records::get(database, &id))?)?;
        }
        self.disable_one(record)
    }

    fn disable_one(&self, record: &Record) -> Result<()> {
        let id = &record.id;
        self.must_be_free(id)?;
        lifecycle::step(record.status, PackageStatus::Disabled, None)
            .map_err(|source| Error::Lifecycle { id: id.to_string(), source })?;
        let mut disabled = record.clone();
        disabled.status = PackageStatus::Disabled;
        self.write(id, "plugin.status", &status_detail(record.status, &disabled), |database, now| {
            disabled.changed = now;
            records::put(database, &disabled)
        })?;
        self.stop(id)
    }

    fn stop(&self, id: &PackageId) -> Result<()> {
        self.stop_for(id, None)
    }

    /// Stops what runs; `next` comes in its place.
    fn stop_for(&self, id: &PackageId, next: Option<&Version>) -> Result<()> {
        match self.runner.stop(id, next) {
            Ok(()) => {
                self.set_run(id, PackageRun::Stopped);
                Ok(())
            }
            Err(source) => {
                self.set_run(
                    id,
                    PackageRun::Errored { reason: format!("it could not be stopped: {source}") },
                );
                Err(Error::Runner { step: "stop", id: id.to_string(), source })
            }
        }
    }

    /// Removes a package that does not run, and its bundles. `data`: its volumes, too.
    ///
    /// # Errors
    /// When it is active, or something of it cannot be removed.
    pub fn remove(&self, id: &PackageId, data: bool) -> Result<()> {
        let _one_at_a_time = lock(&self.changing);
        self.must_be_free(id)?;
        let record = self.read(|database| records::get(database, id))?;
        let run = self.run_of(id);
        let runs = matches!(run, PackageRun::Running | PackageRun::Loading);
        if record.status == PackageStatus::Active || runs {
            let error = Error::Conflict(format!("{id} is active: disable it first"));
            return Err(self.refuse(id, "package.remove", error));
        }
        let digests = self.read(|database| records::digests_of(database, id))?;
        if data {
            // Before it is forgotten: whoever is killed in between can ask for it again.
            let dir = linux::tree::ensure_dir(&self.data_dir.join("packages"), 0o700)
                .map_err(Error::kernel("open", "packages"))?;
            during(Step::RemoveData, || linux::tree::remove_all(&dir, id.as_str()))
                .map_err(Error::kernel("remove the data of", id))?;
        }
        self.write(
            id,
            "package.remove",
            &json!({ "version": record.version, "data": data }),
            |database, _| records::remove(database, id),
        )?;
        lock(&self.runs).remove(id);
        for (_, digest) in digests {
            self.store.remove(&digest)?;
        }
        Ok(())
    }

    // -- with the host

    /// Starts every active package, whoever is needed first. One that does not start is left out, with those that need
    /// it; the others do not mind. Returns what went wrong.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn boot(&self) -> Result<Vec<Error>> {
        let _one_at_a_time = lock(&self.changing);
        let mut errors = Vec::new();
        for id in plan::order(&self.active_needs()?) {
            let started =
                self.read(|database| records::get(database, &id)).and_then(|record| self.start(&record));
            if let Err(error) = started {
                self.set_run(&id, PackageRun::Errored { reason: error.to_string() });
                errors.push(self.refuse(&id, "package.boot", error));
            }
        }
        Ok(errors)
    }

    /// Stops everything that runs, in the reverse of the order in which it starts. Nothing is decided by that.
    /// Returns what went wrong.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn shutdown(&self) -> Result<Vec<Error>> {
        let _one_at_a_time = lock(&self.changing);
        self.closing.store(true, Ordering::Relaxed);
        let order = plan::order(&self.active_needs()?);
        Ok(order.iter().rev().filter_map(|id| self.stop(id).err()).collect())
    }
}

fn status_detail(from: PackageStatus, record: &Record) -> serde_json::Value {
    json!({
        "from": lifecycle::word(from), "to": lifecycle::word(record.status),
        "version": record.version, "digest": record.digest,
    })
}

/// Why a record cannot be activated, as far as can be seen without looking into its bundle.
fn stale(record: &Record, there: bool, trust: &Trust) -> Option<String> {
    if !there {
        return Some("its bundle is gone".to_owned());
    }
    let good = record.signers.iter().any(|key| trust.may_sign(key, &record.id, For::Use, 0));
    (!good).then(|| "nobody who is trusted vouches for it any more".to_owned())
}

/// What the operator is shown before granting: name → items.
#[must_use]
pub fn shown(scopes: &Scopes) -> String {
    let one = |(name, scope): (&String, &capability::Scope)| {
        let items: Vec<&str> = scope.values().flatten().map(String::as_str).collect();
        if items.is_empty() { name.clone() } else { format!("{name} ({})", items.join(" ")) }
    };
    scopes.iter().map(one).collect::<Vec<_>>().join(", ")
}
