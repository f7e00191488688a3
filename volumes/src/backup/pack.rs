//! Trees into an archive: tar, compressed, with its digest.
//!
//! A tree is a package's and hostile, but nobody changes it meanwhile: who does so all the same gets an error. No link is
//! followed, no mount entered. Sockets and devices are left out: they mean nothing to whoever finds them.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use linux::tree;
use protocol::Digest;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::{Error, OWN, STORE, VOLUMES, Watch, What};

/// Directories in one another: each is open while what is in it is read.
pub(super) const DEEPEST: usize = 256;
/// Of `zstd`: most of what it saves, at the speed of a disk.
const LEVEL: i32 = 3;
/// Attributes that are kept. Those of the kernel's own say what is true of this machine alone.
pub(super) const ATTRIBUTES: [&str; 3] = ["user.", "system.posix_acl_access", "system.posix_acl_default"];
/// How pax calls them.
pub(super) const PAX: &str = "SCHILY.xattr.";

pub(super) struct Packed {
    pub(super) size: u64,
    pub(super) digest: Digest,
    pub(super) bytes: u64,
    pub(super) entries: u64,
    pub(super) left_out: u64,
}

/// A file's bytes on their way there.
struct Hashed {
    file: std::fs::File,
    hasher: Sha256,
    size: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

type Archive = Builder<zstd::Encoder<'static, Hashed>>;

struct Packing<'a> {
    archive: Archive,
    /// Files with more than one name, by device and inode: the first name.
    linked: HashMap<(u64, u64), PathBuf>,
    shown: &'a str,
    watch: Watch<'a>,
    total: u64,
    bytes: u64,
    entries: u64,
    left_out: u64,
}

/// Writes an archive to a file, to the disk.
pub(super) fn pack(file: OwnedFd, what: &What<'_>, shown: &str, watch: Watch<'_>) -> Result<Packed, Error> {
    let failed = |source| Error::Archive { step: "write", subject: shown.to_owned(), source };
    let mut total = what.store.len() as u64;
    let trees: Vec<(PathBuf, &OwnedFd)> = what
        .volumes
        .iter()
        .map(|(name, dir)| (Path::new(VOLUMES).join(name), dir))
        .chain(what.own.iter().map(|dir| (PathBuf::from(OWN), dir)))
        .collect();
    for (path, dir) in &trees {
        total += size_of(dir.as_fd(), path, 0)?;
    }
    let hashed = Hashed { file: std::fs::File::from(file), hasher: Sha256::new(), size: 0 };
    let encoder = zstd::Encoder::new(hashed, LEVEL).map_err(failed)?;
    let mut packing = Packing {
        archive: Builder::new(encoder),
        linked: HashMap::new(),
        shown,
        watch,
        total,
        bytes: 0,
        entries: 0,
        left_out: 0,
    };
    packing.store(what.store, what.created)?;
    for (path, dir) in &trees {
        let stat = rustix::fs::fstat(dir).map_err(Error::kernel("look at", named(path)))?;
        packing.directory(dir.as_fd(), path, &stat, 0)?;
    }
    let Packing { archive, bytes, entries, left_out, .. } = packing;
    let encoder = archive.into_inner().map_err(failed)?;
    let Hashed { file, hasher, size } = encoder.finish().map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(Packed { size, digest: Digest::finish(hasher), bytes, entries, left_out })
}

/// The bytes of the files in a tree.
fn size_of(dir: BorrowedFd<'_>, path: &Path, depth: usize) -> Result<u64, Error> {
    let mut bytes = 0;
    for (name, _) in names(dir, path)? {
        let stat = look(dir, &name, path)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => bytes += stat.st_size.unsigned_abs(),
            FileType::Directory if depth < DEEPEST => {
                let inner = path.join(OsStr::from_bytes(name.to_bytes()));
                let below = tree::open_dir_at(dir, &name).map_err(Error::kernel("open", named(&inner)))?;
                bytes += size_of(below.as_fd(), &inner, depth + 1)?;
            }
            _ => {}
        }
    }
    Ok(bytes)
}

fn names(dir: BorrowedFd<'_>, path: &Path) -> Result<Vec<(std::ffi::CString, FileType)>, Error> {
    tree::names_in(dir).map_err(Error::kernel("list", named(path)))
}

fn look(dir: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<Stat, Error> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(Error::kernel("look at something in", named(path)))
}

fn header(kind: EntryType, stat: &Stat, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(size);
    header
}

impl Packing<'_> {
    fn failed(&self) -> impl FnOnce(std::io::Error) -> Error + use<> {
        let subject = self.shown.to_owned();
        move |source| Error::Archive { step: "write", subject, source }
    }

    fn store(&mut self, store: &[u8], created: u64) -> Result<(), Error> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(created / 1000);
        header.set_size(store.len() as u64);
        (self.bytes, self.entries) = (store.len() as u64, 1);
        let failed = self.failed();
        self.archive.append_data(&mut header, STORE, store).map_err(failed)
    }

    fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &Path,
        stat: &Stat,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(Error::kernel("read what is so deep:", named(path))(Errno::NAMETOOLONG));
        }
        self.attributes(dir, path)?;
        self.add(header(EntryType::Directory, stat, 0), path)?;
        for (name, _) in names(dir, path)? {
            let inner = path.join(OsStr::from_bytes(name.to_bytes()));
            let stat = look(dir, &name, path)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let below =
                        tree::open_dir_at(dir, &name).map_err(Error::kernel("open", named(&inner)))?;
                    self.directory(below.as_fd(), &inner, &stat, depth + 1)?;
                }
                FileType::RegularFile => self.file(dir, &name, &inner, &stat)?,
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(dir, &name, Vec::new())
                        .map_err(Error::kernel("read the link", named(&inner)))?;
                    self.link(header(EntryType::Symlink, &stat, 0), &inner, target.to_bytes())?;
                }
                FileType::Fifo => self.add(header(EntryType::Fifo, &stat, 0), &inner)?,
                _ => self.left_out += 1,
            }
        }
        Ok(())
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: &Path, stat: &Stat) -> Result<(), Error> {
        if stat.st_nlink > 1 {
            match self.linked.get(&(stat.st_dev, stat.st_ino)) {
                Some(first) => {
                    let first = first.as_os_str().as_bytes().to_vec();
                    return self.link(header(EntryType::Link, stat, 0), path, &first);
                }
                None => _ = self.linked.insert((stat.st_dev, stat.st_ino), path.to_owned()),
            }
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(dir, name, flags, Mode::empty(), tree::BENEATH)
            .map_err(Error::kernel("open", named(path)))?;
        let opened = rustix::fs::fstat(&file).map_err(Error::kernel("look at", named(path)))?;
        if opened.st_ino != stat.st_ino || opened.st_size != stat.st_size {
            return Err(changed(path));
        }
        self.attributes(file.as_fd(), path)?;
        let size = opened.st_size.unsigned_abs();
        let mut header = header(EntryType::Regular, &opened, size);
        let (before, mut seen) = (self.bytes, 0);
        let (watch, total) = (self.watch, self.total);
        let progress = |more: usize| {
            seen += more as u64;
            (watch.progress)((before + seen).min(total), total);
            if (watch.cancelled)() { Err(std::io::Error::other(Stopped)) } else { Ok(()) }
        };
        let reader = Exactly { file: std::fs::File::from(file), left: size, progress };
        let failed = self.failed();
        self.archive.append_data(&mut header, path, reader).map_err(|error| match error.get_ref() {
            Some(inner) if inner.is::<Stopped>() => Error::Cancelled,
            Some(inner) if inner.is::<Shorter>() => changed(path),
            _ => failed(error),
        })?;
        (self.bytes, self.entries) = (before + size, self.entries + 1);
        Ok(())
    }

    fn link(&mut self, mut header: Header, path: &Path, target: &[u8]) -> Result<(), Error> {
        self.entries += 1;
        let failed = self.failed();
        self.archive.append_link(&mut header, path, OsStr::from_bytes(target)).map_err(failed)
    }

    fn add(&mut self, mut header: Header, path: &Path) -> Result<(), Error> {
        if (self.watch.cancelled)() {
            return Err(Error::Cancelled);
        }
        self.entries += 1;
        let failed = self.failed();
        self.archive.append_data(&mut header, path, std::io::empty()).map_err(failed)
    }

    /// In front of what they are of.
    fn attributes(&mut self, of: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
        let kept = attributes(of).map_err(Error::kernel("read the attributes of", named(path)))?;
        if kept.is_empty() {
            return Ok(());
        }
        let named: Vec<(String, Vec<u8>)> =
            kept.into_iter().map(|(name, value)| (format!("{PAX}{name}"), value)).collect();
        let failed = self.failed();
        let all = named.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        self.archive.append_pax_extensions(all).map_err(failed)
    }
}

fn attributes(of: BorrowedFd<'_>) -> Result<Vec<(String, Vec<u8>)>, Errno> {
    // The kernel's limits.
    let mut list = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(of, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno),
    };
    let names = list[..length].split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok());
    let mut kept = Vec::new();
    for name in names.filter(|name| ATTRIBUTES.iter().any(|kind| name.starts_with(kind))) {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::fgetxattr(of, name, &mut value[..])?;
        value.truncate(length);
        kept.push((name.to_owned(), value));
    }
    Ok(kept)
}

/// Names are a package's: nothing of one may move a cursor.
fn named(path: &Path) -> String {
    format!("{path:?}")
}

fn changed(path: &Path) -> Error {
    Error::Archive {
        step: "read",
        subject: named(path),
        source: std::io::Error::other("it was changed meanwhile"),
    }
}

/// So many bytes of a file, and no fewer.
struct Exactly<P> {
    file: std::fs::File,
    left: u64,
    progress: P,
}

#[derive(Debug, thiserror::Error)]
#[error("it is shorter than it was")]
struct Shorter;

#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
struct Stopped;

impl<P: FnMut(usize) -> std::io::Result<()>> Read for Exactly<P> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(std::io::Error::other(Shorter));
        }
        self.left -= read as u64;
        (self.progress)(read)?;
        Ok(read)
    }
}
