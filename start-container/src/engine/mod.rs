//! The engine: the only way in which this program starts a process in a container.
//!
//! ```text
//! request ──plan──▶ OCI Spec ──compile──▶ Script ──linux::spawn──▶ process ──▶ supervise
//!          (pure)             (opens what                (the child)
//!                              must be open)
//! ```
//! A process of the host's is cloned from the host's own memory; one of a command line's is cloned by a [`guard`].
//! [`plan`] and [`user`] decide, [`compile`] prepares handles, `linux::spawn` applies. Nothing here knows about
//! the CLI, the host or where a rootfs comes from.

pub(crate) mod cgroup;
pub(crate) mod compile;
pub(crate) mod device;
pub(crate) mod guard;
pub(crate) mod hand;
pub(crate) mod keeper;
pub(crate) mod limits;
pub(crate) mod network;
pub(crate) mod plan;
pub(crate) mod privileges;
pub(crate) mod process;
pub(crate) mod settings;
pub(crate) mod terminal;
pub(crate) mod user;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::{Mode, OFlags};

use crate::error::{Failure, Result};

/// A pipe, both ends close-on-exec.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| Failure::kernel("create pipe", "", errno))
}

/// `/dev/null`, read and write; opened once.
pub(crate) fn dev_null() -> Result<Arc<OwnedFd>> {
    static NULL: OnceLock<Arc<OwnedFd>> = OnceLock::new();
    if let Some(null) = NULL.get() {
        return Ok(Arc::clone(null));
    }
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Failure::kernel("open", "/dev/null", errno))?;
    Ok(Arc::clone(NULL.get_or_init(|| Arc::new(null))))
}

/// A lock of ours is never held across a panic that matters: the data behind it is whole after each statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
