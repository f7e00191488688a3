//! A bundle's files on disk: written by handle, and looked at again.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use sha2::{Digest as _, Sha256};

use crate::bundle::{MANIFEST, Sink, TreeHasher};
use crate::{Digest, Error, Result};

/// Writes files beneath a directory that nobody else knows yet.
pub(crate) struct Tree {
    root: OwnedFd,
    /// The directory of the last file: the next one is mostly in the same.
    last: Option<(String, OwnedFd)>,
    file: Option<(String, OwnedFd)>,
}

impl Tree {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { root, last: None, file: None }
    }

    fn directory(&mut self, path: &str) -> Result<()> {
        if self.last.as_ref().is_some_and(|(last, _)| last == path) {
            return Ok(());
        }
        let mut here =
            linux::tree::open_dir_at(&self.root, ".").map_err(Error::kernel("open", "the tree"))?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            here = linux::tree::ensure_dir_at(&here, name, 0o755).map_err(Error::kernel("create", path))?;
        }
        self.last = Some((path.to_owned(), here));
        Ok(())
    }
}

impl Sink for Tree {
    fn begin(&mut self, path: &str, executable: bool) -> Result<()> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.directory(directory)?;
        let parent = self.last.as_ref().map_or(self.root.as_fd(), |(_, dir)| dir.as_fd());
        let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, mode)
            // The umask must not decide.
            .and_then(|file| rustix::fs::fchmod(&file, mode).map(|()| file))
            .map_err(Error::kernel("create", path))?;
        self.file = Some((path.to_owned(), file));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        match &self.file {
            Some((path, file)) => linux::tree::write_all(file, bytes).map_err(Error::kernel("write", path)),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<()> {
        self.file = None;
        Ok(())
    }
}

/// Hashes what is in a directory as [`crate::bundle::Contents::tree`] was: any file more, less or changed gives another
/// digest. Links and special files are errors: nobody unpacked them.
pub(crate) fn hash(root: &OwnedFd) -> Result<Digest> {
    let mut files = Vec::new();
    list(root, "", 0, &mut files)?;
    files.sort_by(|(a, _), (b, _)| (a != MANIFEST, a).cmp(&(b != MANIFEST, b)));
    let mut tree = TreeHasher::new();
    let mut buffer = vec![0; 256 << 10];
    for (path, executable) in files {
        let failed = |step| Error::kernel(step, &path);
        let file = linux::resolve::beneath_no_links(root, &path, OFlags::RDONLY, Mode::empty())
            .map_err(failed("open"))?;
        let (mut hasher, mut size) = (Sha256::new(), 0);
        loop {
            match rustix::io::read(&file, &mut buffer[..]).map_err(failed("read"))? {
                0 => break,
                read => {
                    hasher.update(&buffer[..read]);
                    size += read as u64;
                }
            }
        }
        tree.file(&path, executable, size, &Digest::finish(hasher));
    }
    Ok(tree.finish())
}

fn list(dir: &OwnedFd, path: &str, depth: usize, files: &mut Vec<(String, bool)>) -> Result<()> {
    let odd = |path: &str| Error::Kernel {
        step: "hash",
        subject: path.to_owned(),
        source: rustix::io::Errno::NOTSUP,
    };
    if depth > crate::bundle::path::MAX_DEPTH {
        return Err(odd(path));
    }
    for (name, _) in linux::tree::names_in(dir).map_err(Error::kernel("list", path))? {
        let inner = name.to_str().map_err(|_bytes| odd(path))?;
        let inner = if path.is_empty() { inner.to_owned() } else { format!("{path}/{inner}") };
        let stat = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Error::kernel("look at", &inner))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let below = linux::tree::open_dir_at(dir, &name).map_err(Error::kernel("open", &inner))?;
                list(&below, &inner, depth + 1, files)?;
            }
            FileType::RegularFile => files.push((inner, stat.st_mode & 0o100 != 0)),
            _ => return Err(odd(&inner)),
        }
    }
    Ok(())
}
