//! An archive into an empty directory, with nothing taken on trust.
//!
//! Only directories, files, links and fifos, beneath `store.json`, `own/` and the volumes that the manifest names. Each is made
//! anew beneath the directory, through no link and over nothing; a hard link leads to a file of the same tree that this has
//! made. No more bytes and things than the manifest says.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;

use linux::tree;
use protocol::Digest;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use tar::{Entry, EntryType};

use super::pack::{ATTRIBUTES, DEEPEST, PAX};
use super::{Error, Manifest, OWN, STORE, VOLUMES, Watch};

/// What a window of the decompressor may be: 2^27 bytes.
const WINDOW: u32 = 27;

/// What headers of one thing may take: attributes, long names. They are read into memory.
const HEADERS: u64 = 1 << 20;

/// No more than what is left: an archive may say anything of itself.
struct Bounded<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(std::io::Error::other("a header is too long"));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        self.left.set(left - read as u64);
        Ok(read)
    }
}

struct Hashing<'a> {
    file: std::fs::File,
    hasher: Sha256,
    watch: Watch<'a>,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if (self.watch.cancelled)() {
            return Err(std::io::Error::other("cancelled"));
        }
        let read = self.file.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

fn refused(why: impl Into<String>) -> Error {
    Error::Refused(why.into())
}

/// Of a stranger's: nothing of it may move a cursor.
fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(200).flat_map(char::escape_default).collect()
}

/// What could not be read of it.
fn unread(error: &std::io::Error) -> Error {
    refused(format!("it cannot be read: {error}"))
}

pub(super) fn unpack(
    file: OwnedFd,
    manifest: &Manifest,
    into: BorrowedFd<'_>,
    watch: Watch<'_>,
) -> Result<(), Error> {
    // Whatever could not be read then.
    try_unpack(file, manifest, into, watch)
        .map_err(|error| if (watch.cancelled)() { Error::Cancelled } else { error })
}

fn try_unpack(
    file: OwnedFd,
    manifest: &Manifest,
    into: BorrowedFd<'_>,
    watch: Watch<'_>,
) -> Result<(), Error> {
    let mut hashing = Hashing { file: std::fs::File::from(file), hasher: Sha256::new(), watch };
    let mut bytes = 0;
    {
        let mut decoder = zstd::Decoder::new(&mut hashing).map_err(|error| unread(&error))?;
        decoder.window_log_max(WINDOW).map_err(|error| unread(&error))?;
        let left = Rc::new(Cell::new(HEADERS));
        let mut archive = tar::Archive::new(Bounded { inner: decoder, left: Rc::clone(&left) });
        let mut tree = Tree { root: into, last: None };
        let mut count = 0;
        for entry in archive.entries().map_err(|error| unread(&error))? {
            let mut entry = entry.map_err(|error| unread(&error))?;
            count += 1;
            bytes += entry.size();
            if count > manifest.entries || bytes > manifest.bytes {
                return Err(refused("there is more in it than its manifest says"));
            }
            // And the headers of the next one.
            left.set(entry.size() + HEADERS);
            tree.add(&mut entry, manifest)?;
            (watch.progress)(bytes, manifest.bytes);
        }
        if count != manifest.entries || bytes != manifest.bytes {
            return Err(refused("there is less in it than its manifest says"));
        }
        let mut decoder = archive.into_inner().inner;
        let left = std::io::copy(&mut decoder.by_ref().take(1 << 20), &mut std::io::sink());
        // What fills the last block of a tar.
        if left.map_err(|error| unread(&error))? == 1 << 20 {
            return Err(refused("something follows its end"));
        }
    }
    std::io::copy(&mut hashing, &mut std::io::sink()).map_err(|error| unread(&error))?;
    let digest = Digest::finish(hashing.hasher);
    if digest != manifest.digest {
        return Err(refused(format!("its digest is {digest}, not {}", manifest.digest)));
    }
    Ok(())
}

/// Where it is made.
struct Tree<'a> {
    root: BorrowedFd<'a>,
    /// The directory of the last one: the next is mostly in the same.
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Tree<'_> {
    fn add<R: Read>(&mut self, entry: &mut Entry<'_, R>, manifest: &Manifest) -> Result<(), Error> {
        let path = entry.path_bytes().into_owned();
        let path = path.strip_suffix(b"/").unwrap_or(&path).to_vec();
        let failed = |step| Error::kernel(step, shown(&path));
        let kind = entry.header().entry_type();
        check(&path, kind, manifest)?;
        let (parent, name) = split(&path);
        self.enter(parent)?;
        let dir = self.last.as_ref().map_or(self.root, |(_, dir)| dir.as_fd());
        let name = OsStr::from_bytes(name);
        let number = |number: std::io::Result<u64>| {
            number.ok().and_then(|number| u32::try_from(number).ok()).filter(|id| *id != u32::MAX)
        };
        let header = entry.header();
        let (Some(uid), Some(gid), Ok(mode)) = (number(header.uid()), number(header.gid()), header.mode())
        else {
            return Err(refused(format!("{} has no owner or mode", shown(&path))));
        };
        let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let mode = Mode::from_raw_mode(mode & 0o7777);
        let second = i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0);
        let time = Timespec { tv_sec: second, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        let open = |flags: OFlags| {
            let mode = if flags.contains(OFlags::CREATE) { Mode::RUSR | Mode::WUSR } else { Mode::empty() };
            rustix::fs::openat2(dir, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode, tree::BENEATH)
        };
        // The owner first: a change of it takes bits of the mode away.
        let finish = |made: &OwnedFd| {
            rustix::fs::fchown(made, owner, group).and_then(|()| rustix::fs::fchmod(made, mode))
        };
        match kind {
            EntryType::Directory => {
                rustix::fs::mkdirat(dir, name, Mode::RWXU).map_err(failed("make"))?;
                let made = open(OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open"))?;
                set_attributes(entry, &made, &path)?;
                finish(&made).map_err(failed("give its owner to"))
            }
            EntryType::Regular => {
                let made = open(OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL).map_err(failed("make"))?;
                set_attributes(entry, &made, &path)?;
                let size = entry.size();
                let mut file = std::fs::File::from(made);
                let copied =
                    std::io::copy(entry, &mut file).map_err(|error| match Errno::from_io_error(&error) {
                        Some(errno) => failed("write")(errno),
                        None => unread(&error),
                    })?;
                if copied != size {
                    return Err(refused("it is cut off"));
                }
                let made = OwnedFd::from(file);
                finish(&made).map_err(failed("give its owner to"))?;
                rustix::fs::futimens(&made, &times).map_err(failed("set the time of"))
            }
            EntryType::Fifo => {
                let (kind, none) = (FileType::Fifo, Mode::empty());
                rustix::fs::mknodat(dir, name, kind, none, 0).map_err(failed("make"))?;
                rustix::fs::chownat(dir, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)
                    // Made a moment ago where nobody else comes: it is no link.
                    .and_then(|()| rustix::fs::chmodat(dir, name, mode, AtFlags::empty()))
                    .map_err(failed("give its owner to"))
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                rustix::fs::symlinkat(OsStr::from_bytes(&target), dir, name)
                    .and_then(|()| rustix::fs::chownat(dir, name, owner, group, AtFlags::SYMLINK_NOFOLLOW))
                    .map_err(failed("make the link"))
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let tree_of =
                    |path: &[u8]| path.split(|byte| *byte == b'/').take(2).collect::<Vec<_>>().concat();
                if tree_of(&target) != tree_of(&path) {
                    return Err(refused(format!("{} is a link that leaves its volume", shown(&path))));
                }
                check(&target, EntryType::Regular, manifest)?;
                let (parent, last) = split(&target);
                let to = tree::open_dir_at(self.root, OsStr::from_bytes(parent)).map_err(failed("link"))?;
                rustix::fs::linkat(&to, OsStr::from_bytes(last), dir, name, AtFlags::empty())
                    .map_err(failed("link"))
            }
            _ => Err(refused(format!("{} is none of the things that are in a backup", shown(&path)))),
        }
    }

    /// Opens a directory, name by name: there is no limit to how long they are together.
    fn enter(&mut self, path: &[u8]) -> Result<(), Error> {
        if self.last.as_ref().is_some_and(|(last, _)| last == path) {
            return Ok(());
        }
        self.last = None;
        let failed = || Error::kernel("open", shown(path));
        let mut here = tree::open_dir_at(self.root, ".").map_err(failed())?;
        for (depth, name) in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).enumerate() {
            here = match tree::open_dir_at(&here, OsStr::from_bytes(name)) {
                // The roots of trees have no entry of their own.
                Err(Errno::NOENT) if depth == 0 && name == VOLUMES.as_bytes() => {
                    tree::ensure_dir_at(&here, VOLUMES, 0o755).map_err(failed())?
                }
                Err(Errno::LOOP | Errno::NOTDIR | Errno::NOENT | Errno::XDEV) => {
                    return Err(refused(format!("{} is no directory of it", shown(path))));
                }
                other => other.map_err(failed())?,
            };
        }
        self.last = Some((path.to_owned(), here));
        Ok(())
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Whether a backup has such a thing.
fn check(path: &[u8], kind: EntryType, manifest: &Manifest) -> Result<(), Error> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let odd = |part: &&[u8]| part.is_empty() || **part == *b"." || **part == *b".." || part.contains(&0);
    if parts.iter().any(odd) || parts.len() > DEEPEST + 3 {
        return Err(refused(format!("{} is no path of it", shown(path))));
    }
    let known = |name: &[u8]| manifest.volumes.iter().any(|volume| volume.as_bytes() == name);
    let fits = match parts.as_slice() {
        [only] if *only == STORE.as_bytes() => kind == EntryType::Regular,
        [only] if *only == OWN.as_bytes() => kind == EntryType::Directory,
        [first, ..] if *first == OWN.as_bytes() => true,
        [first, volume] if *first == VOLUMES.as_bytes() => known(volume) && kind == EntryType::Directory,
        [first, volume, ..] if *first == VOLUMES.as_bytes() => known(volume),
        _ => false,
    };
    if fits { Ok(()) } else { Err(refused(format!("{} is none of its parts", shown(path)))) }
}

fn set_attributes<R: Read>(entry: &mut Entry<'_, R>, made: &OwnedFd, path: &[u8]) -> Result<(), Error> {
    let Some(all) = entry.pax_extensions().map_err(|error| unread(&error))? else { return Ok(()) };
    for one in all {
        let one = one.map_err(|error| unread(&error))?;
        let Some(name) = one.key().ok().and_then(|key| key.strip_prefix(PAX)) else { continue };
        if !ATTRIBUTES.iter().any(|kind| name.starts_with(kind)) {
            return Err(refused(format!("{} has an attribute {}", shown(path), shown(name.as_bytes()))));
        }
        match rustix::fs::fsetxattr(made, name, one.value_bytes(), XattrFlags::empty()) {
            // A disk that has none of them cannot keep them.
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(errno) => return Err(Error::kernel("set an attribute of", shown(path))(errno)),
        }
    }
    Ok(())
}
