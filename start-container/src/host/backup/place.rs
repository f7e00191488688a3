//! Beneath a package's directory: its volumes, and what backups need beside them.
//!
//! ```text
//! packages/<id>/volumes/           its data
//! packages/<id>/backup/            what it adds to a backup, or gets from one; mounted as its backup target while it is there
//! packages/<id>/restore/           a restore that is under way; absent: none
//!   store.json  volumes/  own/     the backup, unpacked
//!   undo.json                      from here on there is something to undo: its name, and what the package kept before
//!   before/                        its data, once those of the backup are in their place
//! ```
//! What of `restore/` a killed host has left, the next one undoes, or removes where the restore was complete ([`recover`]). Each step can be done
//! again: one that was done already finds it so.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use broker::{Broker, Kept};
use linux::step::{Step, during};
use linux::tree;
use packages::manifest::PackageId;
use protocol::ErrorKind;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::super::state::Host;
use crate::error::{Failure, Result};

const VOLUMES: &str = "volumes";
const EXTRA: &str = "backup";
const RESTORE: &str = "restore";
const UNDO: &str = "undo.json";
const BEFORE: &str = "before";
const OWN: &str = "own";
const STORE: &str = "store.json";
/// What is kept of a package has 64 MiB at most, and secrets as base64 are longer.
const LONGEST: i64 = 256 << 20;

fn failed(step: &str, id: &PackageId) -> impl FnOnce(Errno) -> Failure {
    let (step, id) = (step.to_owned(), id.to_string());
    move |errno| Failure::kernel(step, id, errno)
}

/// The package's directory.
fn package(host: &Host, id: &PackageId) -> Result<OwnedFd> {
    let make = || {
        let packages = tree::ensure_dir(&host.machine.data_dir().join("packages"), 0o700)?;
        tree::ensure_dir_at(&packages, id.as_str(), 0o755)
    };
    make().map_err(failed("open the directory of", id))
}

/// The volumes that are there.
pub(super) fn volumes_of(host: &Host, id: &PackageId) -> Result<Vec<String>> {
    let package = package(host, id)?;
    let list = || match tree::open_dir_at(&package, VOLUMES) {
        Ok(volumes) => tree::text_names_in(volumes),
        Err(Errno::NOENT) => Ok(Vec::new()),
        Err(errno) => Err(errno),
    };
    list().map_err(failed("list the volumes of", id))
}

/// A volume, made where it is missing.
pub(super) fn volume(host: &Host, id: &PackageId, name: &str) -> Result<OwnedFd> {
    let package = package(host, id)?;
    let open = || tree::ensure_dir_at(tree::ensure_dir_at(&package, VOLUMES, 0o755)?, name, 0o755);
    match tree::open_dir_at(&package, format!("{VOLUMES}/{name}")) {
        // Its root is the package's: its mode stays.
        Ok(volume) => Ok(volume),
        Err(Errno::NOENT) => open().map_err(failed("make a volume of", id)),
        Err(errno) => Err(failed("open a volume of", id)(errno)),
    }
}

/// What a package adds to a backup. It is mounted as its backup target as long as this is there.
pub(super) struct Extra {
    package: OwnedFd,
    id: PackageId,
}

impl Extra {
    pub(super) fn make(host: &Host, id: &PackageId) -> Result<Self> {
        let extra = Self { package: package(host, id)?, id: id.clone() };
        during(Step::OpenBackup, || {
            tree::remove_all(&extra.package, EXTRA)?;
            // Root inside is root here: what is stored has the ids that are seen inside.
            tree::ensure_dir_at(&extra.package, EXTRA, 0o755).map(drop)
        })
        .map_err(failed("make room for the backup of", id))?;
        Ok(extra)
    }

    pub(super) fn dir(&self) -> Result<OwnedFd> {
        tree::open_dir_at(&self.package, EXTRA).map_err(failed("open the backup of", &self.id))
    }

    pub(super) fn remove(self) -> Result<()> {
        during(Step::CloseBackup, || tree::remove_all(&self.package, EXTRA))
            .map_err(failed("remove what was added to the backup of", &self.id))
    }
}

/// How to undo a restore.
#[derive(Deserialize, Serialize)]
struct Undo {
    /// The restore's own name, by which the audit log's database knows that it was completed.
    restore: String,
    /// What the package kept before.
    kept: Kept,
}

/// A restore that is under way.
pub(super) struct Restore {
    package: OwnedFd,
    dir: OwnedFd,
    id: PackageId,
    name: String,
}

impl Restore {
    /// Its directory, empty.
    pub(super) fn make(host: &Host, id: &PackageId) -> Result<Self> {
        let package = package(host, id)?;
        if undo_of(&package, id)?.is_some() {
            return Err(super::refused(
                ErrorKind::Conflict,
                "restore",
                id,
                "an earlier restore is not undone yet",
            ));
        }
        let name = tree::random_name().map_err(failed("name a restore of", id))?;
        let dir = during(Step::UnpackBackup, || {
            tree::remove_all(&package, RESTORE)?;
            tree::ensure_dir_at(&package, RESTORE, 0o700)
        })
        .map_err(failed("make room for a restore of", id))?;
        Ok(Self { package, dir, id: id.clone(), name })
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What the backup says that the package kept.
    pub(super) fn kept(&self) -> Result<Kept> {
        let read = || {
            if rustix::fs::statat(&self.dir, STORE, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?.st_size > LONGEST
            {
                return Err(Errno::FBIG);
            }
            tree::read_file_at(&self.dir, STORE)
        };
        let text = read().map_err(failed("read what was kept of", &self.id))?;
        serde_json::from_slice(&text).map_err(|error| {
            let why = format!("what was kept cannot be read: {error}");
            super::refused(ErrorKind::Corrupt, "restore", &self.id, why)
        })
    }

    /// Those of the package's volumes that the backup has not are empty.
    pub(super) fn add_volumes<'n>(&self, names: impl Iterator<Item = &'n str>) -> Result<()> {
        let add = || {
            let volumes = tree::ensure_dir_at(&self.dir, VOLUMES, 0o755)?;
            for name in names {
                match rustix::fs::mkdirat(&volumes, name, rustix::fs::Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
            }
            rustix::fs::syncfs(&self.dir)
        };
        add().map_err(failed("add volumes to the restore of", &self.id))
    }

    /// From here on there is something to undo.
    pub(super) fn begin(&self, before: &Kept) -> Result<()> {
        let undo = Undo { restore: self.name.clone(), kept: before.clone() };
        let text = serde_json::to_vec(&undo).map_err(|error| {
            Failure::new(ErrorKind::Internal, "write how to undo the restore of", &self.id).because(error)
        })?;
        during(Step::BeginRestore, || {
            // Where there are none, there is something to change places with all the same.
            tree::ensure_dir_at(&self.package, VOLUMES, 0o755)?;
            tree::replace_file_at(&self.dir, UNDO, &text, 0o600, true)
                .and_then(|()| rustix::fs::fsync(&self.dir))
                .and_then(|()| rustix::fs::fsync(&self.package))
        })
        .map_err(failed("write how to undo the restore of", &self.id))
    }

    /// The data of the backup take the place of those that are there, and what the package had added is where it finds it.
    pub(super) fn swap(&self) -> Result<()> {
        let swap = || {
            rename(&self.package, VOLUMES, &self.dir, BEFORE)?;
            rename(&self.dir, VOLUMES, &self.package, VOLUMES)?;
            tree::remove_all(&self.package, EXTRA)?;
            rename(&self.dir, OWN, &self.package, EXTRA)?;
            rustix::fs::fsync(&self.dir)?;
            rustix::fs::fsync(&self.package)
        };
        during(Step::SwapData, swap).map_err(failed("exchange the data of", &self.id))
    }

    /// What is there is as it was before [`Restore::begin`]. The package must not run.
    pub(super) async fn undo(&self, broker: &Broker) -> Result<()> {
        if let Some(Undo { kept, .. }) = undo_of(&self.package, &self.id)? {
            undo(&self.package, &self.dir, &self.id)?;
            broker.replace_kept(self.id.as_str(), kept, ("package.restore.undo", "")).await?;
        }
        self.remove()
    }

    /// What is left of it goes: it was complete, or has changed nothing.
    pub(super) fn remove(&self) -> Result<()> {
        remove(&self.package, &self.id)
    }
}

fn rename(from: &OwnedFd, name: &str, to: &OwnedFd, new: &str) -> std::result::Result<(), Errno> {
    match rustix::fs::renameat(from, name, to, new) {
        // There was none: of a package that never ran, or a backup to which nothing was added.
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn undo_of(package: &OwnedFd, id: &PackageId) -> Result<Option<Undo>> {
    let text = match tree::read_file_at(package, format!("{RESTORE}/{UNDO}")) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.map_err(failed("read how to undo the restore of", id))?,
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        Failure::new(ErrorKind::Corrupt, "read how to undo the restore of", id).because(error)
    })
}

fn undo(package: &OwnedFd, dir: &OwnedFd, id: &PackageId) -> Result<()> {
    let back = || {
        if tree::open_dir_at(dir, BEFORE).is_ok() {
            // Both go at the end.
            rename(package, VOLUMES, dir, "after")?;
            rename(dir, BEFORE, package, VOLUMES)?;
        }
        rustix::fs::fsync(dir)?;
        rustix::fs::fsync(package)
    };
    during(Step::SwapData, back).map_err(failed("bring the data back of", id))
}

/// The file that says what is to be undone goes last but one.
fn remove(package: &OwnedFd, id: &PackageId) -> Result<()> {
    let gone = || {
        tree::remove_all(package, EXTRA)?;
        // Out of sight at once: half of it must not be undone.
        tree::remove_all(package, "restored")?;
        rename(package, RESTORE, package, "restored")?;
        rustix::fs::fsync(package)?;
        tree::remove_all(package, "restored")
    };
    during(Step::EndRestore, gone).map_err(failed("remove what is left of the restore of", id))
}

/// Undoes, or removes, what a host that was killed has left of backups and restores. Before anything of a package starts.
pub(in super::super) async fn recover(host: &Arc<Host>, broker: &Broker) {
    let packages = match tree::open_dir(&host.machine.data_dir().join("packages")) {
        Ok(packages) => packages,
        Err(_none) => return,
    };
    for name in tree::text_names_in(&packages).unwrap_or_default() {
        let Ok(id) = name.parse::<PackageId>() else { continue };
        let Ok(package) = tree::open_dir_at(&packages, &*name) else { continue };
        let there =
            |name: &str| rustix::fs::statat(&package, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok();
        if !there(EXTRA) && !there(RESTORE) && !there("restored") {
            continue;
        }
        if let Err(failure) = recover_one(&package, &id, broker).await {
            tracing::error!("{}", failure.sentence());
        }
    }
}

async fn recover_one(package: &OwnedFd, id: &PackageId, broker: &Broker) -> Result<()> {
    if let Some(Undo { restore, kept }) = undo_of(package, id)?
        && !broker.is_restored(id.as_str(), &restore)?
    {
        tracing::info!("undoing a restore of {id}");
        let dir = tree::open_dir_at(package, RESTORE).map_err(failed("open the restore of", id))?;
        undo(package, &dir, id)?;
        broker.replace_kept(id.as_str(), kept, ("package.restore.undo", "")).await?;
    }
    remove(package, id)
}
