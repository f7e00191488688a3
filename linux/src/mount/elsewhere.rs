//! A clone of a mount that is in another mount namespace.
//!
//! `open_tree(2)` clones what is in the caller's own namespace only. So a thread goes there, clones, and ends: no thread
//! that serves anybody is ever in the wrong one.

use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::resume_unwind;
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};

use super::{MountAttr, clone_tree, identify};
use crate::kernel::Features;

/// A detached clone of what is mounted at `path` in the mount namespace of a process, with all that is mounted beneath
/// it.
///
/// The path is resolved beneath the root of that namespace, and no link in it is followed.
///
/// `int setns(int fd, int nstype)` on a pidfd, Linux 5.8, <https://man7.org/linux/man-pages/man2/setns.2.html>.
///
/// # Errors
/// `EXDEV` if `path` is not the root of a mount there, `ELOOP` for a link, `ESRCH` if the process is gone, `EPERM`
/// without `CAP_SYS_ADMIN` and `CAP_SYS_CHROOT`.
///
/// # Panics
/// Never: a panic of its thread would be passed on.
pub fn clone_from(process: &OwnedFd, path: &str, attr: &MountAttr<'_>) -> Result<OwnedFd> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("mounts".to_owned()).spawn_scoped(scope, || {
            // A thread that shares its root and working directory cannot change its mount namespace.
            crate::process::unshare(UnshareFlags::FS)?;
            move_into_thread_name_spaces(process.as_fd(), ThreadNameSpaceType::MOUNT)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open("/", flags, Mode::empty())?;
            let place = crate::resolve::beneath_no_links(&root, path, flags, Mode::empty())?;
            if !identify(&place)?.is_root {
                return Err(Errno::XDEV);
            }
            clone_tree(&place, true, attr, Features::get())
        });
        let thread = thread.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
