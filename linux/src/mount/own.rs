//! A mount namespace for one piece of work.

use rustix::io::Result;
use rustix::mount::{MountPropagationFlags as Propagation, mount_change};
use rustix::thread::UnshareFlags;

use crate::netns::on_a_thread;

/// Runs `inside` on a thread with a mount namespace of its own, a copy of the machine's: what is mounted there later comes
/// in, and nothing goes out. It lives as long as that thread and what it starts; whoever is killed leaves no mount.
///
/// `int unshare(int flags)` with `CLONE_NEWNS`, Linux 2.6.16, <https://man7.org/linux/man-pages/man2/unshare.2.html>.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `ENOSPC` at `user.max_mnt_namespaces`, `EAGAIN` when no thread can be made.
///
/// # Panics
/// When `inside` does.
pub fn in_own_namespace<T: Send>(inside: impl FnOnce() -> T + Send) -> Result<T> {
    on_a_thread(|| {
        // SAFETY: the flag that can break other threads' descriptors is CLONE_FILES; these are not it.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }?;
        mount_change(c"/", Propagation::DOWNSTREAM | Propagation::REC)?;
        Ok(inside())
    })
}
