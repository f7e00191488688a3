//! Thread 3: tar entries become files beneath one handle.
//!
//! Every path is resolved from the layer's root with openat2, never following a link: a tree that was packed from
//! a file system has no entry that goes through one, so whoever sends such an entry wants to write elsewhere. A
//! later entry replaces an earlier one, as Docker and containerd have it. Whiteouts become what overlay takes for
//! one: a character device 0:0, and `trusted.overlay.opaque` on a directory.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::dress::{dress, dress_special, judge_xattr, set_opaque, timestamps};
use super::failure::{Failure, kernel};
use super::path::{normal, split};
use crate::tar::{Entry, Input, Kind, Reader};
use crate::{Error, Limits, Refusal, Result};
use linux::tree::{BENEATH, open_dir_at, remove_all, write_all};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// aufs's own book-keeping, of no meaning to anyone else (Docker skips it too).
const AUFS: &[u8] = b".wh..wh.";

pub(super) struct Counted {
    pub(super) size: u64,
    pub(super) entries: u64,
    pub(super) has_root: bool,
}

/// Unpacks a whole tar stream into `root`.
pub(super) fn unpack(
    input: impl Input,
    label: &str,
    root: OwnedFd,
    must_end: bool,
    limits: &Limits,
) -> Result<Counted> {
    let mut reader = Reader::new(input, label, limits);
    let mut tree = Tree {
        root: Rc::new(root),
        recent: Vec::new(),
        directories: BTreeMap::new(),
        size: 0,
        has_root: false,
    };
    rustix::fs::fchmod(&tree.root, Mode::from_raw_mode(0o755))
        .map_err(Error::kernel("prepare", "layer directory"))?;
    let mut entries = 0;
    while let Some(entry) = reader.next(must_end)? {
        entries += 1;
        if entries > limits.entries {
            return Err(reader.layer_error(Refusal::TooManyEntries(limits.entries)));
        }
        tree.entry(&entry, &mut reader, limits).map_err(|failure| failure.of(label, &entry))?;
    }
    tree.finish(label)?;
    Ok(Counted { size: tree.size, entries, has_root: tree.has_root })
}

/// Directories kept open: an archive mostly stays in one, and returns to those above it.
const RECENT: usize = 16;

struct Tree {
    root: Rc<OwnedFd>,
    /// Most recent last.
    recent: Vec<(Vec<u8>, Rc<OwnedFd>)>,
    /// Every directory made and its time, set at the end because each new name in it changes it.
    directories: BTreeMap<Vec<u8>, (i64, u32)>,
    size: u64,
    has_root: bool,
}

impl Tree {
    fn entry<I: Input>(
        &mut self,
        entry: &Entry,
        reader: &mut Reader<'_, I>,
        limits: &Limits,
    ) -> Result<(), Failure> {
        let path = normal(&entry.path, limits)?;
        for (name, _) in &entry.xattrs {
            if judge_xattr(name).is_none() {
                return Err(Refusal::Xattr(String::from_utf8_lossy(name).into_owned()).into());
            }
        }
        if path.is_empty() {
            if entry.kind != Kind::Directory {
                return Err(Refusal::ReplacesRoot.into());
            }
            self.has_root = true;
            let root = Rc::clone(&self.root);
            return self.dress_directory(root.as_fd(), path, entry);
        }
        let (parent_path, name) = split(&path);
        if name.starts_with(WHITEOUT) {
            return self.whiteout(parent_path, name, entry);
        }
        let parent = self.parent(parent_path)?;
        let parent = parent.as_fd();
        match entry.kind {
            Kind::Directory => self.directory(parent, name, &path, entry),
            Kind::File => self.file(parent, name, &path, entry, reader, limits),
            Kind::HardLink => self.hard_link(parent, name, &path, entry, limits),
            Kind::Symlink => {
                match entry.link.len() {
                    0 => return Err(Refusal::EmptyLink.into()),
                    1..=4095 => {}
                    length => return Err(Refusal::LinkTooLong(length).into()),
                }
                if entry.link.contains(&0) {
                    return Err(Refusal::ZeroByte.into());
                }
                self.replacing(parent, name, &path, || rustix::fs::symlinkat(&entry.link[..], parent, name))
                    .map_err(kernel("create symbolic link"))?;
                dress_special(parent, name, entry, false)
            }
            Kind::Character | Kind::Block | Kind::Fifo => {
                let kind = match entry.kind {
                    Kind::Character if entry.device == (0, 0) => return Err(Refusal::WhiteoutDevice.into()),
                    Kind::Character => FileType::CharacterDevice,
                    Kind::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                // The kernel's device numbers have 12 and 20 bits; more would silently name another device.
                if entry.device.0 >= 1 << 12 || entry.device.1 >= 1 << 20 {
                    return Err(Refusal::Header("device number").into());
                }
                let device = rustix::fs::makedev(entry.device.0, entry.device.1);
                self.replacing(parent, name, &path, || {
                    rustix::fs::mknodat(parent, name, kind, Mode::empty(), device)
                })
                .map_err(kernel("create device"))?;
                dress_special(parent, name, entry, true)
            }
        }
    }

    /// The directory of this normal path, made where the archive did not mention it.
    fn parent(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Failure> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some(at) = self.recent.iter().rposition(|(recent, _)| recent == path) {
            let found = self.recent.remove(at);
            let handle = Rc::clone(&found.1);
            self.recent.push(found);
            return Ok(handle);
        }
        let handle = match open_dir_at(&self.root, path) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => {
                let (above, name) = split(path);
                let above = self.parent(above)?;
                match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) => {}
                    Err(Errno::EXIST) => return Err(Refusal::ThroughFile.into()),
                    Err(errno) => return Err(Failure::Kernel("create parent directory of", errno)),
                }
                let made = open_dir_at(&above, name).map_err(kernel("open parent directory of"))?;
                rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))
                    .map_err(kernel("set mode of parent directory of"))?;
                // No time was given, and now would make every import of it different.
                self.directories.insert(path.to_vec(), (0, 0));
                made
            }
            Err(Errno::LOOP) => return Err(Refusal::ThroughLink.into()),
            Err(Errno::NOTDIR) => {
                // openat2 says so of a link in the middle as well as of a file; which it is, makes a difference to
                // whoever reads the error.
                return Err(
                    if self.passes_link(path) { Refusal::ThroughLink } else { Refusal::ThroughFile }.into()
                );
            }
            Err(errno) => return Err(Failure::Kernel("open parent directory of", errno)),
        };
        let handle = Rc::new(handle);
        self.remember(path, &handle);
        Ok(handle)
    }

    fn passes_link(&self, path: &[u8]) -> bool {
        let ends =
            path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let Ok(part) = rustix::fs::openat2(&self.root, &path[..end], flags, Mode::empty(), BENEATH)
            else {
                return true;
            };
            match rustix::fs::fstat(&part).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                Ok(FileType::Directory) => {}
                Ok(kind) => return kind == FileType::Symlink,
                Err(_) => return false,
            }
        }
        false
    }

    fn remember(&mut self, path: &[u8], handle: &Rc<OwnedFd>) {
        if self.recent.len() == RECENT {
            self.recent.remove(0);
        }
        self.recent.push((path.to_vec(), Rc::clone(handle)));
    }

    /// Does `create`, and where the name is taken removes what has it and does it again.
    fn replacing<T>(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        mut create: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        match create() {
            Err(Errno::EXIST) => {
                self.remove(parent, name, path)?;
                create()
            }
            result => result,
        }
    }

    fn remove(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<(), Errno> {
        remove_all(parent, name)?;
        if self.directories.contains_key(path) {
            let beneath = [path, b"/"].concat();
            self.directories.retain(|directory, _| directory != path && !directory.starts_with(&beneath));
            self.recent.clear();
        }
        Ok(())
    }

    fn directory(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), Failure> {
        let make = || rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700));
        let mut hides = false;
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat =
                    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(kernel("look at"))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    // Deleted below and made anew here: nothing of the lower directory may show through.
                    hides = is_whiteout(&stat);
                    self.remove(parent, name, path).map_err(kernel("replace"))?;
                    make().map_err(kernel("create directory"))?;
                }
            }
            Err(errno) => return Err(Failure::Kernel("create directory", errno)),
        }
        let handle = open_dir_at(parent, name).map_err(kernel("open directory"))?;
        if hides {
            set_opaque(handle.as_fd())?;
        }
        self.dress_directory(handle.as_fd(), path.to_vec(), entry)?;
        let handle = Rc::new(handle);
        self.recent.retain(|(recent, _)| recent != path);
        self.remember(path, &handle);
        Ok(())
    }

    fn dress_directory(
        &mut self,
        handle: BorrowedFd<'_>,
        path: Vec<u8>,
        entry: &Entry,
    ) -> Result<(), Failure> {
        dress(handle, entry)?;
        self.directories.insert(path, entry.mtime);
        Ok(())
    }

    fn file<I: Input>(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
        reader: &mut Reader<'_, I>,
        limits: &Limits,
    ) -> Result<(), Failure> {
        if entry.size > limits.file {
            return Err(Refusal::FileTooLarge(entry.size, limits.file).into());
        }
        self.size = self.size.saturating_add(entry.size);
        if self.size > limits.expanded {
            return Err(Refusal::ExpandedTooLarge(limits.expanded).into());
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self
            .replacing(parent, name, path, || {
                rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
            })
            .map_err(kernel("create file"))?;
        if let Some(map) = &entry.sparse {
            rustix::fs::ftruncate(&file, entry.size).map_err(kernel("set size of"))?;
            for (offset, mut length) in map.iter().copied() {
                rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(offset)).map_err(kernel("seek in"))?;
                while length > 0 {
                    let most = usize::try_from(length).unwrap_or(usize::MAX);
                    let chunk = reader.contents_at_most(most).map_err(Failure::Other)?;
                    if chunk.is_empty() {
                        return Err(Refusal::Header("sparse map").into());
                    }
                    write_all(&file, chunk).map_err(kernel("write"))?;
                    length -= chunk.len() as u64;
                }
            }
        } else {
            loop {
                let chunk = reader.contents().map_err(Failure::Other)?;
                if chunk.is_empty() {
                    break;
                }
                write_all(&file, chunk).map_err(kernel("write"))?;
            }
        }
        dress(file.as_fd(), entry)?;
        rustix::fs::futimens(&file, &timestamps(entry.mtime)).map_err(kernel("set times of"))
    }

    fn hard_link(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
        limits: &Limits,
    ) -> Result<(), Failure> {
        let text = || String::from_utf8_lossy(&entry.link).into_owned();
        if entry.link.is_empty() {
            return Err(Refusal::EmptyLink.into());
        }
        if entry.link.starts_with(b"/") {
            return Err(Refusal::AbsoluteLink(text()).into());
        }
        let target = normal(&entry.link, limits).map_err(|refusal| match refusal {
            Refusal::DotDot => Refusal::LinkEscapes(text()),
            other => other,
        })?;
        if target == path {
            // To itself: where it is there already, it stays.
            return match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat)
                    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory
                        && !is_whiteout(&stat) =>
                {
                    Ok(())
                }
                _ => Err(Refusal::LinkMissing(text()).into()),
            };
        }
        let (target_parent, target_name) = split(&target);
        let holder = if target_parent.is_empty() {
            Rc::clone(&self.root)
        } else if let Some((_, handle)) = self.recent.iter().find(|(recent, _)| recent == target_parent) {
            Rc::clone(handle)
        } else {
            match open_dir_at(&self.root, target_parent) {
                Ok(handle) => Rc::new(handle),
                Err(Errno::LOOP) => return Err(Refusal::LinkEscapes(text()).into()),
                Err(Errno::NOTDIR) if self.passes_link(target_parent) => {
                    return Err(Refusal::LinkEscapes(text()).into());
                }
                Err(Errno::NOENT | Errno::NOTDIR) => return Err(Refusal::LinkMissing(text()).into()),
                Err(errno) => return Err(Failure::Kernel("open link target of", errno)),
            }
        };
        match rustix::fs::statat(&holder, target_name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Err(Refusal::LinkMissing(text()).into()),
            Err(errno) => return Err(Failure::Kernel("look at link target of", errno)),
            Ok(stat) if is_whiteout(&stat) => return Err(Refusal::LinkMissing(text()).into()),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(Refusal::LinkToDirectory(text()).into());
            }
            Ok(_) => {}
        }
        // Removing what is in the way could remove the target (it may lie beneath): then the link fails cleanly.
        self.replacing(parent, name, path, || {
            rustix::fs::linkat(&holder, target_name, parent, name, AtFlags::empty())
        })
        .map_err(|errno| match errno {
            Errno::NOENT => Failure::Refused(Refusal::LinkMissing(text())),
            errno => Failure::Kernel("create hard link", errno),
        })
    }

    fn whiteout(&mut self, parent_path: &[u8], name: &[u8], entry: &Entry) -> Result<(), Failure> {
        // Layers made on aufs have hard links for whiteouts.
        if !matches!(entry.kind, Kind::File | Kind::HardLink) {
            return Err(Refusal::Whiteout.into());
        }
        if name == OPAQUE {
            let parent = self.parent(parent_path)?;
            return set_opaque(parent.as_fd());
        }
        if name.starts_with(AUFS) {
            return Ok(());
        }
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Refusal::Whiteout.into());
        }
        let parent = self.parent(parent_path)?;
        match rustix::fs::mknodat(&parent, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            // A whiteout speaks of the layers below only. What this layer itself put there stays, and where that
            // is a directory, it hides the lower one.
            Err(Errno::EXIST) => match open_dir_at(&parent, hidden) {
                Ok(directory) => set_opaque(directory.as_fd()),
                Err(_) => Ok(()),
            },
            Err(errno) => Err(Failure::Kernel("create whiteout for", errno)),
        }
    }

    /// Sets the times of all directories.
    fn finish(&mut self, label: &str) -> Result<()> {
        self.recent.clear();
        for (path, mtime) in &self.directories {
            let failed = |source| Error::Write {
                layer: label.to_owned(),
                step: "set times of",
                entry: String::from_utf8_lossy(path).into_owned(),
                source,
            };
            if path.is_empty() {
                rustix::fs::futimens(&self.root, &timestamps(*mtime)).map_err(failed)?;
            } else {
                let handle = open_dir_at(&self.root, &path[..]).map_err(failed)?;
                rustix::fs::futimens(&handle, &timestamps(*mtime)).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
