//! Who runs what packages bring. The host is one; this crate starts nothing itself.

use std::os::fd::BorrowedFd;

use protocol::package::Scopes;
pub use semver::Version;

use crate::Manifest;
use crate::manifest::{Entry, PackageId};

/// Why a runner could not do it.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// A package that may start: verified a moment ago, granted what it needs, with all that it depends on.
#[derive(Clone, Copy, Debug)]
pub struct Startable<'a> {
    /// What it says of itself.
    pub manifest: &'a Manifest,
    /// Its files, as they were signed.
    pub files: BorrowedFd<'a>,
    /// What it was granted, and nothing else.
    pub granted: &'a Scopes,
    /// Its data come from a backup, and its workers have to hear of that.
    pub restored: bool,
}

/// What starts and stops packages.
pub trait Runner: Send + Sync {
    /// Whether it can run this entry of a package. Asked of every entry before anything is started.
    ///
    /// # Errors
    /// Why not, in a few words for the operator.
    fn can_run(&self, manifest: &Manifest, entry: &Entry) -> Result<(), String>;

    /// Starts everything in a package, or nothing: what was started before a failure is stopped again.
    ///
    /// # Errors
    /// Why it did not start.
    fn start(&self, package: &Startable<'_>) -> Result<(), Failed>;

    /// Stops everything of a package. One that does not run is stopped already. `next`: the version that comes in its place,
    /// which its code may want to prepare for.
    ///
    /// # Errors
    /// What still runs, and why.
    fn stop(&self, id: &PackageId, next: Option<&Version>) -> Result<(), Failed>;
}

/// Runs nothing: packages without entries can be active, others cannot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl Runner for Nothing {
    fn can_run(&self, _: &Manifest, _: &Entry) -> Result<(), String> {
        Err("nothing runs entries here".to_owned())
    }

    fn start(&self, _: &Startable<'_>) -> Result<(), Failed> {
        Ok(())
    }

    fn stop(&self, _: &PackageId, _: Option<&Version>) -> Result<(), Failed> {
        Ok(())
    }
}
