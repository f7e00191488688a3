//! Walking a path inside a root one component at a time, making what is missing.
//!
//! Every step is one lookup of one name in a directory that is held open, never following a link; links are read
//! and walked by us. So whoever exchanges components while we walk changes where inside the root we end, and
//! never makes us leave it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, openat, readlinkat, statat};
use rustix::io::{Errno, Result};

/// Links followed before `ELOOP`, as the kernel has it.
const MAX_LINKS: u32 = 40;
/// Times that one name may vanish or appear under us.
const MAX_RACES: u32 = 512;

const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens the directory `path` inside `root`, making it and its parents with `mode` where they are missing
/// (`mkdir -p`). Returns an `O_PATH` handle.
///
/// # Errors
/// `ENOTDIR` if a component is something else, `ELOOP` for too many links, or what `mkdirat(2)` says.
pub fn mkdir_in_root(root: impl AsFd, path: impl AsRef<Path>, mode: Mode) -> Result<OwnedFd> {
    let (root, path) = (root.as_fd(), path.as_ref());
    // Nearly always it is there: one call.
    match super::in_root(root, path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let mut walk = Walk::new(root, path)?;
    while let Some(name) = walk.next_name() {
        walk.enter(&name, mode)?;
    }
    walk.into_handle()
}

/// Opens the file `path` inside `root`, making it empty with `mode`, and its parents with 0755, where they are
/// missing. Returns an `O_PATH` handle of whatever is there, which is not a directory.
///
/// # Errors
/// `EISDIR` if it is a directory, and as [`mkdir_in_root`].
pub fn create_file_in_root(root: impl AsFd, path: impl AsRef<Path>, mode: Mode) -> Result<OwnedFd> {
    let (root, path) = (root.as_fd(), path.as_ref());
    match super::in_root(root, path, OFlags::PATH, Mode::empty()) {
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
        Ok(handle) if is(&handle, FileType::Directory)? => return Err(Errno::ISDIR),
        Ok(handle) => return Ok(handle),
    }
    let mut walk = Walk::new(root, path)?;
    while let Some(name) = walk.next_name() {
        if !walk.names.is_empty() || name == OsStr::new("..") {
            walk.enter(&name, Mode::from_raw_mode(0o755))?;
            continue;
        }
        let made = openat(
            walk.here(),
            name.as_os_str(),
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            mode,
        );
        let handle = match made {
            // A descriptor for writing would make the file busy; the same file, by the descriptor's own entry,
            // cannot be had without /proc, so it is looked up again and followed nowhere.
            Ok(_) | Err(Errno::EXIST) => match openat(walk.here(), name.as_os_str(), HANDLE, Mode::empty()) {
                Err(Errno::NOENT) => {
                    walk.again(name)?;
                    continue;
                }
                other => other?,
            },
            Err(errno) => return Err(errno),
        };
        if is(&handle, FileType::Symlink)? {
            walk.follow(&handle)?;
        } else if is(&handle, FileType::Directory)? {
            return Err(Errno::ISDIR);
        } else {
            return Ok(handle);
        }
    }
    // The path was `/`, `..`, or a link to one: a directory.
    Err(Errno::ISDIR)
}

/// Opens the directory that `path` is in, inside `root`, and returns it with the last name: for calls that act on
/// a name (`unlinkat`, `renameat`, `mkdirat`, `symlinkat`) and must not follow it.
///
/// # Errors
/// `EINVAL` if the path has no last name (`/`, `..`), and as [`in_root`](super::in_root).
pub fn parent_in_root(root: impl AsFd, path: impl AsRef<Path>) -> Result<(OwnedFd, OsString)> {
    let path = path.as_ref();
    // `Path::file_name` takes `a/..` for nameless and `a/.` and `a/` for `a`, which is what is wanted.
    let name = path.file_name().ok_or(Errno::INVAL)?.to_owned();
    let parent = path.parent().unwrap_or(Path::new(""));
    let parent = super::in_root(root, parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    Ok((parent, name))
}

fn is(handle: &OwnedFd, kind: FileType) -> Result<bool> {
    let stat = statat(handle, c"", AtFlags::EMPTY_PATH)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == kind)
}

/// Where a walk is, and what is left of it.
struct Walk<'root> {
    root: BorrowedFd<'root>,
    /// Handles from the root (not in it) to here: `..` takes one off.
    stack: Vec<OwnedFd>,
    names: VecDeque<OsString>,
    links: u32,
    races: u32,
}

impl<'root> Walk<'root> {
    fn new(root: BorrowedFd<'root>, path: &Path) -> Result<Self> {
        let mut walk = Self { root, stack: Vec::new(), names: VecDeque::new(), links: 0, races: 0 };
        walk.prepend(path.as_os_str())?;
        Ok(walk)
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.stack.last().map_or(self.root, |handle| handle.as_fd())
    }

    fn next_name(&mut self) -> Option<OsString> {
        self.names.pop_front()
    }

    fn prepend(&mut self, path: &OsStr) -> Result<()> {
        // The kernel's own limit for what one link or argument says.
        if path.len() >= 4096 {
            return Err(Errno::NAMETOOLONG);
        }
        if path.as_bytes().first() == Some(&b'/') {
            self.stack.clear();
        }
        for name in path.as_bytes().rsplit(|byte| *byte == b'/') {
            if !name.is_empty() && name != b"." {
                self.names.push_front(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(())
    }

    fn again(&mut self, name: OsString) -> Result<()> {
        self.races += 1;
        if self.races > MAX_RACES {
            return Err(Errno::AGAIN);
        }
        self.names.push_front(name);
        Ok(())
    }

    fn follow(&mut self, link: &OwnedFd) -> Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let target = readlinkat(link, c"", Vec::new())?;
        self.prepend(&OsString::from_vec(target.into_bytes()))
    }

    /// One name further; the directory is made when it is missing.
    fn enter(&mut self, name: &OsStr, mode: Mode) -> Result<()> {
        if name == OsStr::new("..") {
            self.stack.pop();
            return Ok(());
        }
        let handle = match openat(self.here(), name, HANDLE, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => match mkdirat(self.here(), name, mode) {
                Ok(()) | Err(Errno::EXIST) => return self.again(name.to_owned()),
                Err(errno) => return Err(errno),
            },
            Err(errno) => return Err(errno),
        };
        if is(&handle, FileType::Symlink)? {
            return self.follow(&handle);
        }
        if !is(&handle, FileType::Directory)? {
            return Err(Errno::NOTDIR);
        }
        self.stack.push(handle);
        Ok(())
    }

    fn into_handle(mut self) -> Result<OwnedFd> {
        match self.stack.pop() {
            Some(handle) => Ok(handle),
            None => openat(self.root, c".", HANDLE | OFlags::DIRECTORY, Mode::empty()),
        }
    }
}
