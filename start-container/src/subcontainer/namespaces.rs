//! The user namespaces of rootfs that were made and not launched yet.
//!
//! A rootfs with ids of its own shows its layers through a map of ids, and its container's first process lives with the same
//! map: one namespace does for both. A daemon keeps it from the one to the other. A second launch makes its own, since
//! somebody has been in the first.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use crate::engine::lock;

/// How many are kept: each is a descriptor.
const MOST: usize = 64;

#[derive(Debug)]
pub(super) struct Namespaces {
    /// By guid. None for a command line, which makes or launches.
    kept: Option<Mutex<HashMap<String, Arc<OwnedFd>>>>,
}

impl Namespaces {
    pub(super) fn new(keep: bool) -> Self {
        Self { kept: keep.then(Mutex::default) }
    }

    /// For the first launch. Not when there are many: then that makes its own.
    pub(super) fn keep(&self, guid: &str, namespace: &Arc<OwnedFd>) {
        let Some(kept) = &self.kept else { return };
        let mut kept = lock(kept);
        if kept.len() < MOST {
            kept.insert(guid.to_owned(), Arc::clone(namespace));
        }
    }

    /// Gives it away, once.
    pub(super) fn take(&self, guid: &str) -> Option<Arc<OwnedFd>> {
        lock(self.kept.as_ref()?).remove(guid)
    }
}
