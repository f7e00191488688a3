//! Calls on the own process that rustix lacks: descriptors, exec by handle, keyrings.
//!
//! rustix has the rest: `prctl` (`rustix::process::set_dumpable_behavior`, `set_parent_process_death_signal`,
//! `set_child_subreaper`; `rustix::thread::set_no_new_privs`, `set_keep_capabilities`,
//! `remove_capability_from_bounding_set`, `set_capabilities_secure_bits`), `rustix::process::pivot_root`,
//! `rustix::mount::unmount`, `rustix::system::sethostname`, `rustix::fs::mknodat`, `rustix::pipe::splice`.

use std::convert::Infallible;
use std::ffi::{CStr, c_char, c_uint};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::thread::UnshareFlags;

use crate::sys::check;

/// A copy of a descriptor that this process was started with, by its number.
///
/// `fcntl(F_DUPFD_CLOEXEC)`; what is open at that number stays whoever's it is.
///
/// # Errors
/// `EBADF` when nothing is open there.
pub fn inherited(number: u32) -> Result<OwnedFd> {
    let number = i32::try_from(number).map_err(|_| Errno::BADF)?;
    // SAFETY: a copy is made; no owner in this process loses his.
    crate::sys::owned(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) }.into())
}

/// Marks every descriptor from `first` on as close-on-exec.
///
/// `int close_range(unsigned first, unsigned last, int flags)` with `CLOSE_RANGE_CLOEXEC`, Linux 5.11,
/// <https://man7.org/linux/man-pages/man2/close_range.2.html>.
///
/// # Errors
/// `EINVAL`, `ENOMEM`.
pub fn close_range_on_exec(first: u32) -> Result<()> {
    // SAFETY: descriptors stay open, so no owner in this process loses his.
    let returned =
        unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(returned).map(drop)
}

/// Closes every descriptor from `first` to `last`.
///
/// `int close_range(unsigned first, unsigned last, int flags)`, Linux 5.9,
/// <https://man7.org/linux/man-pages/man2/close_range.2.html>.
///
/// # Safety
/// No `OwnedFd` (or anything else that closes when dropped, or is used again) in this process may refer to one of
/// these descriptors.
///
/// # Errors
/// `EINVAL` if `last` is before `first`.
pub unsafe fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: the caller vouches that nobody owns them.
    let returned = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    check(returned).map(drop)
}

/// Gives the calling thread namespaces of its own. Unlike rustix's, it is safe, because it does not part with the
/// descriptor table: `CLONE_FILES` is `EINVAL`.
///
/// `int unshare(int flags)`, Linux 2.6.16, <https://man7.org/linux/man-pages/man2/unshare.2.html>.
///
/// # Errors
/// `EPERM` without the capability, `EINVAL` for a user namespace in a process with several threads.
pub fn unshare(flags: UnshareFlags) -> Result<()> {
    if flags.contains(UnshareFlags::FILES) {
        return Err(Errno::INVAL);
    }
    // SAFETY: the descriptor table stays shared, so every descriptor means the same to all threads.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Replaces this process by the program that is open as `file`. Returns only an error.
///
/// `int execveat(int dirfd, const char *pathname, char *const argv[], char *const envp[], int flags)` with
/// `AT_EMPTY_PATH`, Linux 3.19, <https://man7.org/linux/man-pages/man2/execveat.2.html>. A script by a
/// close-on-exec descriptor is `ENOENT`: its interpreter could not open it.
///
/// # Errors
/// Those of `execve(2)`.
pub fn execveat(file: impl AsFd, argv: &[&CStr], envp: &[&CStr]) -> Result<Infallible> {
    let argv = pointers(argv);
    let envp = pointers(envp);
    // SAFETY: both arrays end in null and point to C strings that outlive the call, which only reads them.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    match check(returned) {
        Err(errno) => Err(errno),
        Ok(_) => Err(Errno::NOEXEC),
    }
}

fn pointers(strings: &[&CStr]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Gives the calling thread a new, empty session keyring, so that it and its children reach none of the keys of
/// whoever started us.
///
/// `long keyctl(KEYCTL_JOIN_SESSION_KEYRING, const char *name)`, Linux 2.6.11,
/// <https://man7.org/linux/man-pages/man2/keyctl.2.html>.
///
/// # Errors
/// `ENOSYS` where the kernel has no keys, `EDQUOT` where the user has too many.
pub fn keyctl_join_session_keyring() -> Result<()> {
    // SAFETY: a null name asks for an anonymous keyring; nothing else is a pointer.
    let returned = unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<c_char>())
    };
    check(returned).map(drop)
}
