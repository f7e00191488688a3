//! The host's own methods, as package code may ask for them: what a call is about, and its parameters with everything folded
//! in that is the package's. Pure.
//!
//! ```text
//! image of the manifest ─▶ digest that was imported      volume, assets, own socket ─▶ as they are
//! sandbox ─▶ the package's                               a dependency's volume ─▶ only one that the manifest names
//! ```
//! Whatever would loosen what holds a package is refused by its name. Each type is taken apart field by field, without a rest:
//! a field that a later protocol brings does not compile before somebody has decided about it here.
//!
//! Never says whose a guid or a process is: the host knows what was made through which door.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;

use crate::capability::Capability;
use crate::error::{Error, Result};
use crate::meter::Class;

mod commands;
mod files;
mod places;

#[cfg(test)]
mod tests;

/// What is a package's own.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Its id.
    pub package: String,
    /// Its sandbox.
    pub sandbox: String,
    /// Its images: names of the manifest, and the digests that were imported when it started.
    pub images: BTreeMap<String, String>,
    /// Its volumes.
    pub volumes: BTreeSet<String>,
    /// Volumes of other packages that its manifest names: package and volume.
    pub pointers: BTreeSet<(String, String)>,
}

/// What a call is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum About<'a> {
    /// Nothing that was made: whatever the package has, or has not.
    Nothing,
    /// An image, as the manifest calls it.
    Image(&'a str),
    /// A subcontainer.
    Guid(&'a str),
    /// A process in one.
    Process(&'a str),
}

/// Parameters of a method of the host's that package code may call.
pub trait Confine: DeserializeOwned + Send + 'static {
    /// What it is about.
    fn about(&self) -> About<'_>;

    /// What it needs beside `subcontainers`.
    fn also(&self) -> Option<Capability> {
        None
    }

    /// What else there is to write down.
    fn subject(&self) -> String {
        String::new()
    }

    /// The same, as the host carries it out for this package.
    ///
    /// # Errors
    /// The name of what may not be asked for.
    fn confine(self, own: &Own) -> Result<Self>;
}

/// The methods of the host's that package code may call, and what they cost.
pub const METHODS: &[(&str, Class)] = &[
    ("subcontainer.createFs", Class::Act),
    ("subcontainer.destroyFs", Class::Act),
    ("subcontainer.mount", Class::Act),
    ("subcontainer.unmount", Class::Act),
    ("subcontainer.launch", Class::Act),
    ("subcontainer.stop", Class::Act),
    ("subcontainer.exec", Class::Run),
    ("subcontainer.spawn", Class::Run),
    ("subcontainer.kill", Class::Run),
    ("subcontainer.signal", Class::Run),
    ("subcontainer.resize", Class::Run),
    ("subcontainer.wait", Class::Read),
    ("subcontainer.list", Class::Scan),
    ("subcontainer.inspect", Class::Scan),
    ("subcontainer.stats", Class::Scan),
    ("subcontainer.detach", Class::Run),
    ("subcontainer.attach", Class::Run),
    ("file.read", Class::Run),
    ("file.write", Class::Run),
    ("file.stat", Class::Run),
    ("file.readdir", Class::Scan),
    ("file.readlink", Class::Run),
    ("file.mkdir", Class::Run),
    ("file.remove", Class::Run),
    ("file.rename", Class::Run),
    ("file.symlink", Class::Run),
    ("file.chmod", Class::Run),
    ("file.chown", Class::Run),
    ("lock.acquire", Class::Act),
    ("lock.release", Class::Run),
    ("events.health", Class::Tell),
    ("stream.attach", Class::Run),
    ("stream.connect", Class::Run),
    ("logs.read", Class::Run),
];

/// A method of the host's that package code may call, by its name.
#[must_use]
pub fn find(method: &str) -> Option<(&'static str, Class)> {
    METHODS.iter().find(|(name, _)| *name == method).copied()
}

/// What no package may ask for.
fn refuse<T>(what: &str, why: &str) -> Result<T> {
    Err(Error::Denied(format!("{what}: {why}")))
}

/// Refuses what was asked for, unless it is as if it was not.
fn unless_absent<T: Default + PartialEq>(value: &T, what: &str, why: &str) -> Result<()> {
    if *value == T::default() { Ok(()) } else { refuse(what, why) }
}
