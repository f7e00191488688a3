//! Paths inside a root that may be hostile.
//!
//! Owns the two ways to look a path up: *in root* (as if the root were `/`: absolute links and `..` stay inside)
//! and *beneath* (whatever would leave is an error). Neither ever follows a magic link such as `/proc/self/root`.
//! Never looks at a path twice: what is returned is a handle, and everything after is done to the handle.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};

mod make;
mod walk;

pub use make::{New, create_file_beneath, mkdir_beneath};
pub use walk::{create_file_in_root, mkdir_in_root, parent_in_root};

/// How often a lookup is begun again when somebody renames directories under it.
///
/// The kernel gives `EAGAIN` when it cannot tell whether `..` stayed inside; that costs it one look at the rename
/// sequence lock, so an attacker who renames all the time wins a few rounds, and hardly this many.
const ATTEMPTS: u32 = 512;

fn lookup(
    root: BorrowedFd<'_>,
    path: &Path,
    oflags: OFlags,
    mode: Mode,
    how: ResolveFlags,
) -> Result<OwnedFd> {
    let oflags = oflags | OFlags::CLOEXEC;
    // openat2, unlike open, refuses a mode where nothing is created.
    let creates = oflags.contains(OFlags::CREATE) || oflags.contains(OFlags::TMPFILE);
    let mode = if creates { mode } else { Mode::empty() };
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let mut attempts = 0;
    loop {
        match openat2(root, path, oflags, mode, how) {
            Err(Errno::AGAIN) if attempts < ATTEMPTS => attempts += 1,
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Opens `path` as a process whose root is `root` would: absolute paths and links begin at `root`, and `..` stops
/// there. An empty path is the root itself. `mode` counts only where `oflags` create.
///
/// `long openat2(int dirfd, const char *pathname, struct open_how *how, size_t size)`, Linux 5.6, with
/// `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`, <https://man7.org/linux/man-pages/man2/openat2.2.html>.
///
/// # Errors
/// Those of `open(2)`; `ELOOP` for a magic link; `EAGAIN` if directories are renamed without end.
pub fn in_root(root: impl AsFd, path: impl AsRef<Path>, oflags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    lookup(root.as_fd(), path.as_ref(), oflags, mode, how)
}

/// Opens `path` beneath `root`. Links are followed as long as every step stays beneath.
///
/// `openat2` with `RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS`, as in [`in_root`].
///
/// # Errors
/// `EXDEV` for an absolute path, an absolute link or a `..` that leaves; otherwise as [`in_root`].
pub fn beneath(root: impl AsFd, path: impl AsRef<Path>, oflags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    lookup(root.as_fd(), path.as_ref(), oflags, mode, how)
}

/// [`beneath`], and no component may be a symbolic link.
///
/// # Errors
/// `ELOOP` for a link; otherwise as [`beneath`].
pub fn beneath_no_links(
    root: impl AsFd,
    path: impl AsRef<Path>,
    oflags: OFlags,
    mode: Mode,
) -> Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    lookup(root.as_fd(), path.as_ref(), oflags, mode, how)
}
