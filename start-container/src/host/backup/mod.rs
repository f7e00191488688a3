//! Backups of packages, made and restored for the operator.
//!
//! ```text
//! backup:  held ─▶ job `before`, worker: "backup" ─▶ stopped ─▶ volumes, what it has added, what it keeps ─▶ target ─▶ started again
//! restore: held ─▶ unpacked beside its data, all of it good ─▶ stopped ─▶ how to undo it is on disk ─▶ data change places
//!                 ─▶ started: worker's init is told, job `afterRestore` ─▶ complete: on disk ─▶ what was there before goes
//!                                                     └ whatever fails, a kill too: undone
//! ```
//! Decides the order, and nothing else: what a backup looks like is [`volumes::backup`]'s, what is where beneath a package's directory
//! is [`place`]'s, and nobody but the package knows what is in its volumes. What a package adds is written to a directory of the
//! host's ([`place::Extra`]): the target is in no container. A package that is not active is started for this where it has to do
//! something itself, and stopped again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use broker::Kept;
use packages::Held;
use packages::manifest::{Backup, PackageId};
use protocol::ErrorKind;
use protocol::package::{BackupInfo, BackupParams, RestoreParams};
use protocol::process::Outcome;
use tokio::runtime::Handle;
use volumes::backup::{Manifest, Target, Watch, What};

use super::connection::{Answer, Call};
use super::methods::{Steps, with_progress};
use super::packages::Open;
use super::state::Host;
use crate::error::{Failure, Result};
use crate::subcontainer::now;

pub(super) mod place;

use place::{Extra, Restore};

/// What a worker's script is called with before a backup, by the SDK's name for it.
const BACKUP: &str = "backup";
/// How long a package may take to dump what it has.
const TO_DUMP: Duration = Duration::from_secs(12 * 3600);
/// How often a cancellation is looked for.
const LOOK: Duration = Duration::from_millis(200);

/// `package.backup`
pub(super) async fn backup(host: Arc<Host>, call: Call, p: BackupParams) -> Answer<BackupInfo> {
    let own = Arc::clone(&host);
    with_progress(host, call, move |_, steps, cancel| {
        let (work, id) = Work::begin(&own, &p.package_id, steps, cancel)?;
        let done = work.backup(&id, Path::new(&p.target));
        work.written_down(&id, "package.backup", &p.target, done)
    })
    .await
}

/// `package.restore`
pub(super) async fn restore(host: Arc<Host>, call: Call, p: RestoreParams) -> Answer<BackupInfo> {
    let own = Arc::clone(&host);
    with_progress(host, call, move |_, steps, cancel| {
        let (work, id) = Work::begin(&own, &p.package_id, steps, cancel)?;
        let done = work.restore(&id, Path::new(&p.target), p.without_secrets);
        work.written_down(&id, "package.restore", &p.target, done)
    })
    .await
}

fn refused(kind: ErrorKind, step: &str, id: &PackageId, why: impl Into<String>) -> Failure {
    Failure::new(kind, step, id).because(std::io::Error::other(why.into()))
}

/// A backup or a restore that is under way, on a thread of its own.
struct Work<'a> {
    host: &'a Arc<Host>,
    open: &'a Open,
    runtime: Handle,
    steps: &'a Steps,
    cancel: &'a images::Cancel,
}

impl<'a> Work<'a> {
    fn begin(
        host: &'a Arc<Host>,
        id: &str,
        steps: &'a Steps,
        cancel: &'a images::Cancel,
    ) -> Result<(Self, PackageId)> {
        let id = super::packages::id(id)?;
        Ok((Self { host, open: host.open_packages()?, runtime: Handle::current(), steps, cancel }, id))
    }

    /// With a line in the audit log where it has failed; what was done has written its own.
    fn written_down(
        &self,
        id: &PackageId,
        action: &'static str,
        target: &str,
        done: Result<BackupInfo>,
    ) -> Result<BackupInfo> {
        if let Err(failure) = &done {
            let why = failure.sentence();
            self.runtime.block_on(self.open.broker.note(id.as_str(), action, target, Some(&why)))?;
        }
        done
    }

    fn tell(&self, stage: &str, done: u64, total: Option<u64>) {
        images::Progress::update(self.steps, stage, done, total);
    }

    fn must_be_wanted(&self) -> Result<()> {
        match self.cancel.is_cancelled() {
            true => Err(volumes::backup::Error::Cancelled.into()),
            false => Ok(()),
        }
    }

    /// Waits for a job or a worker, and for a cancellation.
    fn wait<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let cancelled = async {
            while !self.cancel.is_cancelled() {
                tokio::time::sleep(LOOK).await;
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                result = work => result,
                () = cancelled => Err(volumes::backup::Error::Cancelled.into()),
            }
        })
    }

    fn run_job(&self, held: &Held<'_>, name: &str) -> Result<()> {
        self.tell(&format!("job {name}"), 0, None);
        let jobs = self.open.runner.jobs(&held.id)?;
        let never = std::future::pending::<()>();
        let ran = self.wait(jobs.run(name, never))?;
        match ran.outcome {
            Some(Outcome::Exit { code: 0 }) => Ok(()),
            outcome => {
                let why = ran.error.unwrap_or_else(|| format!("it has ended: {outcome:?}"));
                Err(refused(ErrorKind::Internal, "run job", &held.id, format!("{name}: {why}")))
            }
        }
    }

    // -- backup

    fn backup(&self, id: &PackageId, target: &Path) -> Result<BackupInfo> {
        let held = self.open.packages.hold(id, "backed up")?;
        let target_of = Target::open(absolute(target)?, id.as_str(), true)?;
        let how = held.manifest.as_ref().and_then(|manifest| manifest.backup.clone()).unwrap_or_default();
        let extra = Extra::make(self.host, id)?;
        // What keeps it from being started again is told after what kept it from being saved.
        let saved = self.save(&held, &how, &extra, &target_of);
        let again = if held.active { held.stop().and_then(|()| held.start(false)) } else { held.stop() };
        let gone = extra.remove();
        let manifest = saved?;
        let subject = format!("{} ({})", target.display(), manifest.digest);
        self.runtime.block_on(self.open.broker.note(id.as_str(), "package.backup", &subject, None))?;
        again?;
        gone?;
        Ok(info(manifest, Vec::new()))
    }

    fn save(&self, held: &Held<'_>, how: &Backup, extra: &Extra, target: &Target) -> Result<Manifest> {
        let id = &held.id;
        if (how.before.is_some() || how.worker.is_some()) && !held.runs() {
            held.start(false)?;
        }
        if let Some(job) = &how.before {
            self.run_job(held, job.as_str())?;
        }
        let declared = || held.manifest.iter().flat_map(|manifest| manifest.volumes.keys());
        let names: Vec<String> = match &how.worker {
            Some(worker) => {
                let volumes = self.ask(held, worker.as_str())?;
                if let Some(odd) = volumes.iter().find(|name| !declared().any(|one| one.as_str() == **name)) {
                    let why = format!("its worker names a volume {odd:?}, which the manifest does not");
                    return Err(refused(ErrorKind::Invalid, "back up", id, why));
                }
                volumes
            }
            None if !how.volumes.is_empty() => how.volumes.iter().map(ToString::to_string).collect(),
            // Of one whose bundle is gone, whatever is there.
            None if held.manifest.is_none() => place::volumes_of(self.host, id)?,
            None => declared().map(ToString::to_string).collect(),
        };
        self.must_be_wanted()?;
        // Nothing of it runs while its files are read: they are of one moment.
        held.stop()?;
        let store = serde_json::to_vec(&self.open.broker.kept(id.as_str())?)
            .map_err(|error| Failure::new(ErrorKind::Internal, "write what is kept of", id).because(error))?;
        let mut dirs = Vec::new();
        for name in names {
            let dir = place::volume(self.host, id, &name)?;
            dirs.push((name, dir));
        }
        let what = What {
            package_id: id.as_str(),
            version: held.version.to_string(),
            bundle: held.digest,
            created: now(),
            made_by: concat!("start-container ", env!("CARGO_PKG_VERSION")),
            store: &store,
            volumes: dirs,
            own: Some(extra.dir()?),
        };
        let stage = format!("backup of {id}");
        Ok(target
            .write(&what, self.watch(&|done, total| self.tell(&stage, done, Some(total)), &self.stopped()))?)
    }

    fn stopped(&self) -> impl Fn() -> bool + use<> {
        let cancel = self.cancel.clone();
        move || cancel.is_cancelled()
    }

    fn watch<'w>(&self, progress: &'w dyn Fn(u64, u64), cancelled: &'w dyn Fn() -> bool) -> Watch<'w> {
        Watch { progress, cancelled }
    }

    /// Has a worker do what it does before a backup. Which volumes are to be saved, and are so that they can be.
    fn ask(&self, held: &Held<'_>, worker: &str) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Answer {
            volumes: Vec<String>,
        }
        let id = &held.id;
        self.tell(&format!("worker {worker}"), 0, None);
        let input = serde_json::Value::Null;
        let call = self.open.runner.call(id, Some(worker.to_owned()), BACKUP.to_owned(), input, TO_DUMP);
        let answer = self.wait(call)?;
        let Answer { volumes } = serde_json::from_value(answer.output).map_err(|error| {
            refused(
                ErrorKind::Invalid,
                "back up",
                id,
                format!("its worker does not say which volumes: {error}"),
            )
        })?;
        Ok(volumes)
    }

    // -- restore

    fn restore(&self, id: &PackageId, target: &Path, without_secrets: bool) -> Result<BackupInfo> {
        let held = self.open.packages.hold(id, "restored")?;
        held.must_not_be_needed()?;
        let Some(package) = &held.manifest else {
            return Err(refused(ErrorKind::Conflict, "restore", id, "its bundle cannot be used"));
        };
        let target_of = Target::open(absolute(target)?, id.as_str(), false)?;
        let manifest = target_of.manifest()?;
        check_version(&held, &manifest)?;
        let how = package.backup.clone().unwrap_or_default();
        let restore = Restore::make(self.host, id)?;
        let prepared = (|| {
            let stage = format!("restore of {id}");
            let progress = |done, total| self.tell(&stage, done, Some(total));
            let into = restore.dir();
            target_of.unpack(&manifest, into, self.watch(&progress, &self.stopped()))?;
            let kept = restore.kept()?;
            let closed = self.open.broker.closed_secrets(id.as_str(), &kept)?;
            if !closed.is_empty() && !without_secrets {
                let why = format!(
                    "its secrets cannot be opened with this host's key ({}): they were encrypted with another. \
                     Bring secrets.key of the host that made it, or ask for it without secrets",
                    closed.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
                );
                return Err(refused(ErrorKind::Conflict, "restore", id, why));
            }
            restore.add_volumes(package.volumes.keys().map(|name| name.as_str()))?;
            self.must_be_wanted()?;
            Ok((kept, closed))
        })();
        let (kept, closed) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => {
                restore.remove()?;
                return Err(failure);
            }
        };
        let subject = format!("{} ({})", target.display(), manifest.digest);
        match self.change(&held, &how, &restore, kept, &subject) {
            Ok(()) => Ok(info(manifest, closed)),
            Err(failure) => {
                let undone = held
                    .stop()
                    .map_err(Failure::from)
                    .and_then(|()| self.runtime.block_on(restore.undo(&self.open.broker)))
                    .and_then(|()| if held.active { Ok(held.start(false)?) } else { Ok(()) });
                match undone {
                    Ok(()) => Err(failure),
                    Err(second) => Err(refused(
                        failure.kind,
                        "restore",
                        id,
                        format!(
                            "{}; and what was there before is not back: {}",
                            failure.sentence(),
                            second.sentence()
                        ),
                    )),
                }
            }
        }
    }

    /// From here on it is undone where it fails.
    fn change(
        &self,
        held: &Held<'_>,
        how: &Backup,
        restore: &Restore,
        kept: Kept,
        subject: &str,
    ) -> Result<()> {
        let (id, broker) = (&held.id, &self.open.broker);
        held.stop()?;
        let before = broker.kept(id.as_str())?;
        restore.begin(&before)?;
        self.runtime.block_on(broker.replace_kept(id.as_str(), kept, ("package.restore.begin", subject)))?;
        restore.swap()?;
        let asked = how.worker.is_some() || how.after_restore.is_some();
        if asked || held.active {
            self.tell(&format!("start of {id}"), 0, None);
            held.start(how.worker.is_some())?;
        }
        if let Some(job) = &how.after_restore {
            self.run_job(held, job.as_str())?;
        }
        self.must_be_wanted()?;
        if !held.active {
            held.stop()?;
        }
        self.runtime.block_on(broker.complete_restore(id.as_str(), restore.name(), subject))?;
        if let Err(failure) = restore.remove() {
            // It is complete. The next host removes what is left.
            tracing::error!("{}", failure.sentence());
        }
        Ok(())
    }
}

fn absolute(target: &Path) -> Result<&Path> {
    if target.is_absolute() {
        return Ok(target);
    }
    Err(Failure::new(ErrorKind::Invalid, "open backup target", target.display())
        .because(std::io::Error::other("a path for the host is absolute")))
}

/// Data of a later version are none that this one knows.
fn check_version(held: &Held<'_>, manifest: &Manifest) -> Result<()> {
    let version = packages::manifest::version(&manifest.version)?;
    if version.cmp_precedence(&held.version).is_gt() {
        let why =
            format!("the backup is of version {version}, and {} is installed: update it first", held.version);
        return Err(refused(ErrorKind::Conflict, "restore", &held.id, why));
    }
    Ok(())
}

fn info(manifest: Manifest, closed_secrets: Vec<String>) -> BackupInfo {
    let Manifest { package_id, version, created, volumes, bytes, size, digest, left_out, .. } = manifest;
    BackupInfo { package_id, version, created, volumes, bytes, size, digest, left_out, closed_secrets }
}
