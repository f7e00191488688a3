//! Making what is missing beneath a root, where a link that leaves is an error.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::{Errno, Result};

use super::beneath;

/// Opens the directory `path` beneath `root`, making it and its parents with `mode` where they are missing. Returns
/// an `O_PATH` handle. A link to nothing is not filled: it is `ENOENT`.
///
/// # Errors
/// `EXDEV` for a path or link that leaves, `ENOTDIR` if something else is there, or what `mkdirat(2)` says.
pub fn mkdir_beneath(root: impl AsFd, path: impl AsRef<Path>, mode: Mode) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    make(root.as_fd(), path.as_ref(), flags, mode, |parent, name| mkdirat(parent, name, mode))
}

/// Opens the file `path` beneath `root`, making it empty with `mode`, and its parents with 0755, where they are
/// missing. Returns an `O_PATH` handle of whatever is there.
///
/// # Errors
/// As [`mkdir_beneath`].
pub fn create_file_beneath(root: impl AsFd, path: impl AsRef<Path>, mode: Mode) -> Result<OwnedFd> {
    let parents = Mode::from_raw_mode(0o755);
    make(root.as_fd(), path.as_ref(), OFlags::PATH, parents, |parent, name| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(parent, name, flags, mode).map(drop)
    })
}

/// Each beginning of the path is looked up beneath the root as a whole, so that links within it may go up again;
/// what is missing is made by its one name in the directory that was just opened.
fn make(
    root: BorrowedFd<'_>,
    path: &Path,
    last: OFlags,
    parents: Mode,
    create: impl Fn(BorrowedFd<'_>, &Path) -> Result<()>,
) -> Result<OwnedFd> {
    match beneath(root, path, last, Mode::empty()) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let mut here = beneath(root, ".", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    let mut so_far = PathBuf::new();
    let mut names = path.components().peekable();
    while let Some(name) = names.next() {
        so_far.push(name);
        let is_last = names.peek().is_none();
        let flags = if is_last { last } else { OFlags::PATH | OFlags::DIRECTORY };
        here = match beneath(root, &so_far, flags, Mode::empty()) {
            Err(Errno::NOENT) if matches!(name, Component::Normal(_)) => {
                let name: &Path = name.as_ref();
                let made = if is_last { create(here.as_fd(), name) } else { mkdirat(&here, name, parents) };
                match made {
                    Ok(()) | Err(Errno::EXIST) => beneath(root, &so_far, flags, Mode::empty())?,
                    Err(errno) => return Err(errno),
                }
            }
            other => other?,
        };
    }
    Ok(here)
}
