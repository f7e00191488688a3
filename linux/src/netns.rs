//! Network namespaces by handle: made, entered, and kept alive without a name in any directory.
//!
//! ```text
//! us                        helper thread
//!   spawn ----------------> unshare(CLONE_NEWNET)
//!                           open ns/net
//!                           work inside
//!   netns, result <-------- ends
//! ```
//!
//! Only the helper changes its namespace, and it ends: no thread of ours is ever in the wrong one (but for [`visit`], which
//! ends the program if the thread cannot return). The namespace
//! lives as long as a descriptor, a process or a mount holds it; then the kernel takes it apart on its own time,
//! and with it both ends of each veth pair that has one end inside (`cleanup_net`, tens of milliseconds later).

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::thread;

use rustix::fs::OFlags;
use rustix::io::{Errno, Result};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, gettid, move_into_link_name_space, unshare_unsafe};

use crate::proc::Procfs;

/// Makes a network namespace and runs `inside` in it, on a thread of its own. It belongs to our user namespace,
/// and has one link: `lo`, which is down.
///
/// `int unshare(int flags)` with `CLONE_NEWNET`, Linux 2.6.24, <https://man7.org/linux/man-pages/man2/unshare.2.html>.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `ENOSPC` at `user.max_net_namespaces`, `EAGAIN` when no thread can be made.
///
/// # Panics
/// When `inside` does.
pub fn create<T: Send>(inside: impl FnOnce() -> T + Send) -> Result<(OwnedFd, T)> {
    on_a_thread(|| {
        // SAFETY: the flag that can break other threads' descriptors is CLONE_FILES; this is not it.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        let proc = Procfs::shared()?;
        // A thread has a directory beneath /proc, though it is not listed there.
        let thread = proc.process(gettid())?;
        let netns = proc.open_magic(thread.as_fd(), "ns", "net", OFlags::RDONLY)?;
        Ok((netns, inside()))
    })
}

/// Runs `inside` in a network namespace, on a thread of its own.
///
/// `int setns(int fd, int nstype)`, Linux 3.0, <https://man7.org/linux/man-pages/man2/setns.2.html>.
///
/// # Errors
/// `EINVAL` if the descriptor is no network namespace, `EPERM` without `CAP_SYS_ADMIN` in it and in our own,
/// `EAGAIN` when no thread can be made.
///
/// # Panics
/// When `inside` does.
pub fn within<T: Send>(netns: BorrowedFd<'_>, inside: impl FnOnce() -> T + Send) -> Result<T> {
    on_a_thread(|| {
        move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
        Ok(inside())
    })
}

/// As [`within`], on the calling thread, which is back home afterwards: for a look that is not worth a thread. Nothing else
/// may run on this thread meanwhile, so `inside` waits for nobody.
///
/// # Errors
/// As [`within`].
pub fn visit<T>(netns: BorrowedFd<'_>, inside: impl FnOnce() -> T) -> Result<T> {
    let proc = Procfs::shared()?;
    let thread = proc.process(gettid())?;
    let home = Home(proc.open_magic(thread.as_fd(), "ns", "net", OFlags::RDONLY)?);
    move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
    let result = inside();
    drop(home);
    Ok(result)
}

/// The network namespace that a thread returns to when this is dropped.
struct Home(OwnedFd);

impl Drop for Home {
    fn drop(&mut self) {
        // One's own namespace can always be returned to. A thread that could not must not serve anybody else.
        if move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).is_err() {
            std::process::abort();
        }
    }
}

/// Runs what changes the namespaces of its thread on one that ends with it.
pub(crate) fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let spawned = thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, work);
        let thread = spawned.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
