//! Making what is missing beneath a root, where a link that leaves is an error.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, mkdirat, openat};
use rustix::io::{Errno, Result};

use super::beneath;

/// What is made where something is missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct New {
    /// Permission bits of the last name, whatever the umask; directories on the way get 0755.
    pub mode: Mode,
    /// Who owns it and the directories on the way. None: whoever we are.
    pub owner: Option<(Uid, Gid)>,
}

/// Opens the directory `path` beneath `root`, making it and its parents where they are missing. Returns an `O_PATH`
/// handle. A link to nothing is not filled: it is `ENOENT`.
///
/// # Errors
/// `EXDEV` for a path or link that leaves, `ENOTDIR` if something else is there, or what `mkdirat(2)` says.
pub fn mkdir_beneath(root: impl AsFd, path: impl AsRef<Path>, new: New) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    make(root.as_fd(), path.as_ref(), flags, new, |parent, name| directory(parent, name, new))
}

/// Opens the file `path` beneath `root`, making it empty, and its parents, where they are missing. Returns an
/// `O_PATH` handle of whatever is there.
///
/// # Errors
/// As [`mkdir_beneath`].
pub fn create_file_beneath(root: impl AsFd, path: impl AsRef<Path>, new: New) -> Result<OwnedFd> {
    make(root.as_fd(), path.as_ref(), OFlags::PATH, new, |parent, name| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(parent, name, flags, new.mode)?;
        own(&file, new)
    })
}

/// Each beginning of the path is looked up beneath the root as a whole, so that links within it may go up again;
/// what is missing is made by its one name in the directory that was just opened.
fn make(
    root: BorrowedFd<'_>,
    path: &Path,
    last: OFlags,
    new: New,
    create: impl Fn(BorrowedFd<'_>, &Path) -> Result<()>,
) -> Result<OwnedFd> {
    match beneath(root, path, last, Mode::empty()) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let parents = New { mode: Mode::from_raw_mode(0o755), ..new };
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
                let made = match is_last {
                    true => create(here.as_fd(), name),
                    false => directory(here.as_fd(), name, parents),
                };
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

fn directory(parent: BorrowedFd<'_>, name: &Path, new: New) -> Result<()> {
    mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(parent, name, flags, Mode::empty())?;
    // If somebody has put another directory there since, that one keeps its owner and its mode.
    let stat = fstat(&made)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o777 != 0o700 {
        return Ok(());
    }
    own(&made, new)
}

fn own(made: &OwnedFd, new: New) -> Result<()> {
    if let Some((uid, gid)) = new.owner {
        fchown(made, Some(uid), Some(gid))?;
    }
    fchmod(made, new.mode)
}
