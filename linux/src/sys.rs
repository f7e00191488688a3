//! The one way from here to `syscall(2)`.

use std::ffi::{c_int, c_long};
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::{Errno, Result};

/// Numbers that libc 0.2 does not have on every target. Calls since Linux 5.0 have one number everywhere.
pub(crate) mod nr {
    use std::ffi::c_long;
    pub(crate) const MOUNT_SETATTR: c_long = 442;
    pub(crate) const STATMOUNT: c_long = 457;
    pub(crate) const LISTMOUNT: c_long = 458;
    pub(crate) const OPEN_TREE_ATTR: c_long = 467;
}

/// What a libc wrapper left behind: -1 means `errno`.
pub(crate) fn check(returned: c_long) -> Result<usize> {
    usize::try_from(returned)
        .map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

/// A descriptor that a successful call returned.
pub(crate) fn owned(returned: c_long) -> Result<OwnedFd> {
    let number = check(returned)?;
    let number = c_int::try_from(number).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Repeats a call that a signal interrupted.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
