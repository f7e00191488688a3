//! Files of a package, each beneath a path that it was granted.
//!
//! ```text
//! /media/startos/volumes/main/a/b   as the package sees it; granted: /media/startos/volumes/main/a
//!  └ root: a handle of the volume    └ granted: opened beneath the root, no links on the way
//!                                       └ rest: opened beneath that; a link that leaves it is an error
//! ```
//! Nothing is decided about a string but whether it is granted. What is opened is a file or directory of a volume, never a
//! pipe that waits or a device. A volume is hostile ground: the package's own services write to it meanwhile.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};

use linux::resolve::{New, beneath, beneath_no_links, mkdir_beneath};
use protocol::Data;
use protocol::broker::{FilesListResult, FilesReadResult};
use protocol::file::{DirEntry, EntryKind};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Bytes that one call reads or writes.
pub const MAX_CHUNK: usize = 512 << 10;
/// Names that one call lists.
const MAX_NAMES: usize = 1000;
const MAX_PATH: usize = 4096;

const OPEN: OFlags = OFlags::CLOEXEC.union(OFlags::NOCTTY).union(OFlags::NONBLOCK);
const HANDLE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NEW: New = New { mode: Mode::from_raw_mode(0o755), owner: None };

/// A tree that a package sees.
#[derive(Debug)]
pub struct Root {
    /// Where it sees it: `/media/startos/volumes/main`.
    pub at: String,
    /// The tree.
    pub dir: OwnedFd,
    /// It may be written to.
    pub writable: bool,
}

/// Whether this is a path that could be granted.
///
/// # Errors
/// When it is not absolute, goes up, or could be written otherwise.
pub(crate) fn check_path(path: &str) -> Result<()> {
    let plain = path.len() <= MAX_PATH
        && !path.contains('\0')
        && path.strip_prefix('/').is_some_and(|rest| {
            rest.is_empty() || rest.split('/').all(|name| !matches!(name, "" | "." | ".."))
        });
    if plain {
        return Ok(());
    }
    Err(Error::Invalid("a path is absolute, without . and .., nothing twice, and no / at its end".to_owned()))
}

/// What is behind a path, if that is beneath it: `Some("")` for itself.
fn behind<'a>(above: &str, path: &'a str) -> Option<&'a str> {
    match path.strip_prefix(above)? {
        rest if above == "/" || rest.is_empty() => Some(rest),
        rest => rest.strip_prefix('/'),
    }
}

/// A granted directory, and a path in it that is not empty.
#[derive(Debug)]
pub(crate) struct Place {
    base: OwnedFd,
    rest: String,
    path: String,
    /// The path is what was granted, or a volume: no link in its place is followed.
    exact: bool,
}

impl Place {
    /// Finds a path that is granted by `granted`. `make`: what is missing above the granted path's end is made.
    pub(crate) fn find(roots: &[Root], granted: &str, path: &str, make: bool) -> Result<Self> {
        let found = roots.iter().filter_map(|root| Some((root, behind(&root.at, path)?)));
        let (root, inside) = found
            .max_by_key(|(root, _)| root.at.len())
            .ok_or_else(|| Error::NotFound(format!("volume at {}", path.escape_debug())))?;
        if make && !root.writable {
            return Err(Error::kernel("write", path)(Errno::ROFS));
        }
        let fail = || Error::kernel("open", path.escape_debug());
        let granted = behind(&root.at, granted).unwrap_or("");
        let (above, rest, exact) = match behind(granted, inside) {
            _ if granted.is_empty() => ("", inside, inside.is_empty()),
            Some(rest) if !rest.is_empty() => (granted, rest, false),
            _ => {
                let (above, name) = granted.rsplit_once('/').unwrap_or(("", granted));
                (above, name, true)
            }
        };
        let open = || beneath_no_links(&root.dir, above, HANDLE, Mode::empty());
        let base = match open() {
            Err(Errno::NOENT) if make => {
                // By single names: a link on the way is an error, and nothing is made behind it.
                let mut here = linux::tree::open_dir_at(&root.dir, ".").map_err(fail())?;
                for name in above.split('/') {
                    here = linux::tree::ensure_dir_at(&here, name, 0o755).map_err(fail())?;
                }
                here
            }
            other => other.map_err(fail())?,
        };
        let rest = if rest.is_empty() { "." } else { rest };
        Ok(Self { base, rest: rest.to_owned(), path: path.escape_debug().to_string(), exact })
    }

    fn fail(&self, step: &'static str) -> impl Fn(Errno) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::Kernel { step, subject: path.clone(), source }
    }

    fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        let look = if self.exact { beneath_no_links } else { beneath };
        look(&self.base, &self.rest, flags | OPEN, Mode::from_raw_mode(0o644))
    }

    fn open_file(&self, flags: OFlags, step: &'static str) -> Result<(OwnedFd, Stat)> {
        let fail = self.fail(step);
        let file = self.open(flags).map_err(&fail)?;
        let stat = rustix::fs::fstat(&file).map_err(&fail)?;
        regular(&stat).map_err(&fail)?;
        Ok((file, stat))
    }

    /// The directory that holds it, and its name there. `make`: the directory is made.
    fn parent(&self, make: bool) -> Result<(OwnedFd, &str), Errno> {
        let (above, name) = self.rest.rsplit_once('/').unwrap_or((".", &self.rest));
        if name == "." {
            return Err(Errno::BUSY);
        }
        let dir = if make {
            mkdir_beneath(&self.base, above, NEW)?
        } else {
            beneath(&self.base, above, HANDLE, Mode::empty())?
        };
        Ok((dir, name))
    }

    pub(crate) fn read(&self, offset: u64, length: usize) -> Result<FilesReadResult> {
        let (file, stat) = self.open_file(OFlags::RDONLY, "read")?;
        let size = stat.st_size.unsigned_abs();
        let want = (length as u64).min(size.saturating_sub(offset)) as usize;
        let mut bytes = vec![0; want];
        let mut read = 0;
        while read < want {
            match rustix::io::pread(&file, &mut bytes[read..], offset + read as u64)
                .map_err(self.fail("read"))?
            {
                0 => break,
                more => read += more,
            }
        }
        bytes.truncate(read);
        Ok(FilesReadResult { data: Data::from(bytes), size, eof: offset.saturating_add(read as u64) >= size })
    }

    /// The file, to be read from its beginning, and its size.
    pub(crate) fn open_to_read(&self) -> Result<(OwnedFd, u64)> {
        let (file, stat) = self.open_file(OFlags::RDONLY, "read")?;
        Ok((file, stat.st_size.unsigned_abs()))
    }

    pub(crate) fn append(&self, bytes: &[u8]) -> Result<()> {
        let fail = self.fail("write");
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
        if !self.exact {
            self.parent(true).map_err(&fail)?;
        }
        let (file, _) = self.open_file(flags, "write")?;
        linux::tree::write_all(&file, bytes).map_err(fail)
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> Result<()> {
        let new = self.replace()?;
        linux::tree::write_all(new.file(), bytes).map_err(self.fail("write"))?;
        new.commit()
    }

    /// A file that takes the place of what is there, when it is whole.
    pub(crate) fn replace(&self) -> Result<Replacement> {
        let fail = self.fail("write");
        let (dir, name) = self.parent(true).map_err(&fail)?;
        let there = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(fail(Errno::ISDIR));
            }
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(fail(errno)),
        };
        let temporary = format!(".new-{}", linux::tree::random_name().map_err(&fail)?);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        // Without a name a kill leaves nothing; some file systems have none without.
        let (file, named) = match rustix::fs::openat(&dir, ".", flags | OFlags::TMPFILE, mode) {
            Ok(file) => (file, false),
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                (rustix::fs::openat(&dir, temporary.as_str(), flags, mode).map_err(&fail)?, true)
            }
            Err(errno) => return Err(fail(errno)),
        };
        let new = Replacement { dir, name: name.to_owned(), temporary, named, file, path: self.path.clone() };
        // Whose the old one was, the new one is.
        let mode = match there.filter(|stat| regular(stat).is_ok()) {
            Some(stat) => {
                let owner = rustix::fs::Uid::from_raw(stat.st_uid);
                let group = rustix::fs::Gid::from_raw(stat.st_gid);
                rustix::fs::fchown(&new.file, Some(owner), Some(group)).map_err(&fail)?;
                stat.st_mode & 0o777
            }
            None => 0o644,
        };
        rustix::fs::fchmod(&new.file, Mode::from_raw_mode(mode)).map_err(&fail)?;
        Ok(new)
    }

    pub(crate) fn list(&self, after: &str) -> Result<FilesListResult> {
        let fail = self.fail("list");
        let dir = self.open(OFlags::RDONLY | OFlags::DIRECTORY).map_err(&fail)?;
        // However many there are, these are kept.
        let mut first: BTreeMap<String, EntryKind> = BTreeMap::new();
        let mut more = false;
        for entry in rustix::fs::Dir::read_from(&dir).map_err(&fail)? {
            let entry = entry.map_err(&fail)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if matches!(name, "." | "..") || name <= after {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
                known => known,
            };
            first.insert(name.to_owned(), entry_kind(kind));
            if first.len() > MAX_NAMES {
                first.pop_last();
                more = true;
            }
        }
        let entries = first.into_iter().map(|(name, kind)| DirEntry { name, kind }).collect();
        Ok(FilesListResult { entries, more })
    }

    pub(crate) fn delete(&self, recursive: bool) -> Result<bool> {
        let removed = self.parent(false).and_then(|(dir, name)| {
            match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
                Err(Errno::ISDIR) if recursive => linux::tree::remove_all(&dir, name),
                Err(Errno::ISDIR) => rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR),
                other => other,
            }
        });
        match removed {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.fail("delete")(errno)),
        }
    }
}

/// A file on its way to its place. Dropped before that, it is gone.
#[derive(Debug)]
pub struct Replacement {
    dir: OwnedFd,
    name: String,
    temporary: String,
    named: bool,
    file: OwnedFd,
    path: String,
}

impl Replacement {
    /// What is to be written.
    #[must_use]
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Puts it into its place, when it is on disk.
    ///
    /// # Errors
    /// When the kernel refuses; then what was there is there.
    pub fn commit(mut self) -> Result<()> {
        let put = || {
            rustix::fs::fdatasync(&self.file)?;
            if !self.named {
                let own = linux::tree::proc_path(self.file.as_fd());
                rustix::fs::linkat(
                    CWD,
                    own.as_str(),
                    &self.dir,
                    self.temporary.as_str(),
                    AtFlags::SYMLINK_FOLLOW,
                )?;
            }
            Ok(())
        };
        let linked = put();
        self.named |= linked.is_ok();
        linked
            .and_then(|()| {
                rustix::fs::renameat(&self.dir, self.temporary.as_str(), &self.dir, self.name.as_str())
            })
            .map_err(Error::kernel("write", &self.path))?;
        self.named = false;
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if self.named {
            // What stays is a file in the package's own volume.
            _ = rustix::fs::unlinkat(&self.dir, self.temporary.as_str(), AtFlags::empty());
        }
    }
}

fn regular(stat: &Stat) -> Result<(), Errno> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::INVAL),
    }
}

fn entry_kind(kind: FileType) -> EntryKind {
    match kind {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        _ => EntryKind::Other,
    }
}

#[cfg(test)]
mod tests;
