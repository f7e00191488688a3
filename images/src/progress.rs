//! How a long operation is watched and stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// Hears how far an import or a pull is. Called from several threads, often: be quick.
pub trait Progress: Sync {
    /// `done` bytes of `total` (where known) of `stage`, words for a person: `layer sha256:1234abcd…`.
    fn update(&self, stage: &str, done: u64, total: Option<u64>);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn update(&self, _stage: &str, _done: u64, _total: Option<u64>) {}
}

/// A switch that stops an operation under way; its clones are the same switch.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Not yet cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// The operation ends with [`Error::Cancelled`] as soon as it notices, and leaves nothing behind.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Was it cancelled?
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// For operations that know nothing of images.
impl AsRef<AtomicBool> for Cancel {
    fn as_ref(&self) -> &AtomicBool {
        &self.0
    }
}
