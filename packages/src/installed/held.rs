//! A package about which nothing is decided for now: its data are being backed up, or restored.
//!
//! It may be stopped and started meanwhile, which decides nothing: whether it is active stays as it is, so that a host that is
//! killed starts it again, or does not. Others are decided about as usual.

use std::sync::atomic::Ordering;

use protocol::Digest;
use protocol::package::{PackageRun, PackageStatus};
use semver::Version;

use super::{Packages, lock, records};
use crate::manifest::PackageId;
use crate::{Error, Manifest, Result, plan};

/// See the module. Whoever has it decides; it ends with this.
#[derive(Debug)]
pub struct Held<'a> {
    packages: &'a Packages,
    /// Which package.
    pub id: PackageId,
    /// Its version.
    pub version: Version,
    /// Of its bundle.
    pub digest: Digest,
    /// What it says of itself. None: its bundle is gone, or nobody vouches for it any more; then it is not active.
    pub manifest: Option<Manifest>,
    /// Whether it is active.
    pub active: bool,
}

impl Packages {
    /// Holds a package. `doing`: why, as in "it is being backed up".
    ///
    /// # Errors
    /// When there is no such package, it is held, or it is active and its bundle cannot be used.
    pub fn hold(&self, id: &PackageId, doing: &'static str) -> Result<Held<'_>> {
        let _one_at_a_time = lock(&self.changing);
        self.must_be_free(id)?;
        let record = self.read(|database| records::get(database, id))?;
        let active = record.status == PackageStatus::Active;
        let manifest = match self.store.check(&record.digest, (self.clock)()) {
            Ok((stored, _)) => Some(stored.manifest),
            Err(error) if active => return Err(error),
            // Its data can be saved all the same.
            Err(_) => None,
        };
        lock(&self.held).insert(id.clone(), doing);
        let (version, digest) = (record.version, record.digest);
        Ok(Held { packages: self, id: id.clone(), version, digest, manifest, active })
    }

    pub(super) fn must_be_free(&self, id: &PackageId) -> Result<()> {
        match lock(&self.held).get(id) {
            None => Ok(()),
            Some(doing) => Err(Error::Conflict(format!("{id} is being {doing}: wait until that is over"))),
        }
    }
}

impl Held<'_> {
    /// Whether anything of it runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        !matches!(self.packages.run_of(&self.id), PackageRun::Unknown | PackageRun::Stopped)
    }

    /// That no package which needs it is active.
    ///
    /// # Errors
    /// Those that are.
    pub fn must_not_be_needed(&self) -> Result<()> {
        let hurt = plan::hurt(&self.id, None, &self.packages.active_needs()?);
        if hurt.is_empty() { Ok(()) } else { Err(Error::Needed { conflicts: hurt }) }
    }

    /// Stops all of it. Where nothing runs, that is done already.
    ///
    /// # Errors
    /// When something does not end.
    pub fn stop(&self) -> Result<()> {
        let _one_at_a_time = lock(&self.packages.changing);
        self.packages.stop(&self.id)
    }

    /// Starts it. `restored`: its data come from a backup.
    ///
    /// # Errors
    /// When it may not start, or does not.
    pub fn start(&self, restored: bool) -> Result<()> {
        let _one_at_a_time = lock(&self.packages.changing);
        if self.packages.closing.load(Ordering::Relaxed) {
            return Err(Error::Conflict("the host is stopping".to_owned()));
        }
        let record = self.packages.read(|database| records::get(database, &self.id))?;
        self.packages.start_with(&record, restored)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        lock(&self.packages.held).remove(&self.id);
    }
}
