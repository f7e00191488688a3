//! Files inside a rootfs, for clients.
//!
//! Every path is resolved inside the rootfs by handle (row S11); what is opened is checked to be a file of a file
//! system that holds files: through a link in a hostile image, `proc` or `sysfs` would take our root's word for the
//! container's.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use linux::fsids::AsOwner;
use protocol::file::{
    ChmodParams, ChownParams, DirEntry, EntryKind, MkdirParams, PathParams, ReadParams, ReadResult,
    ReaddirResult, ReadlinkResult, RemoveParams, RenameParams, StatResult, SymlinkParams, WriteParams,
};
use protocol::subcontainer::{Empty, OWN_IDS};
use protocol::{Data, ErrorKind};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use crate::error::{Failure, Result};
use crate::subcontainer::{Machine, as_root_of};

/// Bytes that one read returns at most.
const MAX_READ: u64 = 8 * 1024 * 1024;

/// A rootfs and a path in it.
///
/// While it lives, what the thread makes belongs to root of the container.
struct Place<'a> {
    root: OwnedFd,
    path: &'a str,
    first_id: Option<u32>,
    _owner: AsOwner,
}

fn place<'a>(machine: &Machine, guid: &str, path: &'a str) -> Result<Place<'a>> {
    crate::subcontainer::check_guid(guid)?;
    if path.is_empty() || path.contains('\0') {
        return Err(Failure::new(ErrorKind::Invalid, "read path", format!("{path:?}")));
    }
    let rootfs = machine.rootfs(guid)?;
    rootfs.ensure_mounted().map_err(Failure::from)?;
    let first_id = rootfs.ids();
    let root = rootfs.handle().map_err(Failure::from)?;
    Ok(Place { root, path, first_id, _owner: as_root_of(first_id)? })
}

impl Place<'_> {
    fn fail(&self, step: &'static str) -> impl Fn(Errno) -> Failure + use<> {
        let path = self.path.to_owned();
        move |errno| Failure::kernel(step, &path, errno)
    }

    /// The id inside that is this one of the machine; that of nobody, where there is none.
    fn seen_inside(&self, id: u32) -> u32 {
        const NOBODY: u32 = 65_534;
        match self.first_id {
            None => id,
            Some(first) => id.checked_sub(first).filter(|id| *id < OWN_IDS).unwrap_or(NOBODY),
        }
    }

    /// The id of the machine that is this one inside.
    fn of_machine(&self, id: u32) -> Result<u32> {
        match self.first_id {
            None => Ok(id),
            Some(first) if id < OWN_IDS => Ok(first + id),
            Some(_) => {
                let why = format!("there is no id {id} in its user namespace");
                Err(Failure::new(ErrorKind::Invalid, "change owner of", self.path)
                    .because(std::io::Error::other(why)))
            }
        }
    }

    /// Opens it; never waits for a FIFO, never becomes a controlling terminal.
    fn open(&self, flags: OFlags, mode: Mode) -> std::result::Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = linux::resolve::in_root(&self.root, self.path, flags, mode)?;
        check_file_system(&file)?;
        Ok(file)
    }

    /// The directory that holds it, and its name there.
    fn parent(&self) -> std::result::Result<(OwnedFd, &str), Errno> {
        let path = self.path.trim_end_matches('/');
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if matches!(name, "" | "." | "..") {
            return Err(Errno::INVAL);
        }
        let parent = if parent.is_empty() { "/" } else { parent };
        let dir = linux::resolve::in_root(
            &self.root,
            parent,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        check_file_system(&dir)?;
        Ok((dir, name))
    }
}

fn check_file_system(file: &OwnedFd) -> std::result::Result<(), Errno> {
    const PROC: u64 = 0x9fa0;
    const SYSFS: u64 = 0x6265_6572;
    const CGROUP: u64 = 0x0027_e0eb;
    const CGROUP2: u64 = 0x6367_7270;
    const DEVPTS: u64 = 0x1cd1;
    const SECURITYFS: u64 = 0x7363_6673;
    const DEBUGFS: u64 = 0x6462_6720;
    const BPF: u64 = 0xcafe_4a11;
    let kind = rustix::fs::fstatfs(file)?.f_type as u64;
    if [PROC, SYSFS, CGROUP, CGROUP2, DEVPTS, SECURITYFS, DEBUGFS, BPF].contains(&kind) {
        return Err(Errno::XDEV);
    }
    Ok(())
}

pub(super) fn read(machine: &Machine, p: ReadParams) -> Result<ReadResult> {
    let place = place(machine, &p.guid, &p.path)?;
    let fail = place.fail("read");
    let file = place.open(OFlags::RDONLY, Mode::empty()).map_err(&fail)?;
    let stat = rustix::fs::fstat(&file).map_err(&fail)?;
    regular(&stat).map_err(&fail)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let want = p.length.unwrap_or(MAX_READ).min(MAX_READ).min(size.saturating_sub(p.offset)) as usize;
    let mut bytes = vec![0; want];
    let mut read = 0;
    while read < want {
        match rustix::io::pread(&file, &mut bytes[read..], p.offset + read as u64).map_err(&fail)? {
            0 => break,
            n => read += n,
        }
    }
    bytes.truncate(read);
    Ok(ReadResult { data: Data::from(bytes), eof: p.offset + read as u64 >= size })
}

pub(super) fn write(machine: &Machine, p: WriteParams) -> Result<Empty> {
    let place = place(machine, &p.guid, &p.path)?;
    let fail = place.fail("write");
    let bytes = p
        .data
        .into_bytes()
        .map_err(|error| Failure::new(ErrorKind::Invalid, "read data for", &p.path).because(error))?;
    let mut flags = OFlags::WRONLY | OFlags::CREATE;
    if p.append {
        flags |= OFlags::APPEND;
    }
    if p.exclusive {
        flags |= OFlags::EXCL;
    }
    let mode = Mode::from(p.mode.unwrap_or(0o644) & 0o7777);
    let file = place.open(flags, mode).map_err(&fail)?;
    regular(&rustix::fs::fstat(&file).map_err(&fail)?).map_err(&fail)?;
    if !p.append {
        // Not by O_TRUNC: what was opened is only known now.
        rustix::fs::ftruncate(&file, 0).map_err(&fail)?;
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let n = rustix::io::write(&file, rest).map_err(&fail)?;
        rest = &rest[n..];
    }
    Ok(Empty {})
}

fn regular(stat: &Stat) -> std::result::Result<(), Errno> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::INVAL),
    }
}

pub(super) fn stat(machine: &Machine, p: &PathParams) -> Result<StatResult> {
    let place = place(machine, &p.guid, &p.path)?;
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    if p.no_follow {
        flags |= OFlags::NOFOLLOW;
    }
    let fail = place.fail("stat");
    let file = linux::resolve::in_root(&place.root, place.path, flags, Mode::empty()).map_err(&fail)?;
    let stat = rustix::fs::fstat(&file).map_err(&fail)?;
    Ok(StatResult {
        kind: kind(FileType::from_raw_mode(stat.st_mode)),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode & 0o7777,
        uid: place.seen_inside(stat.st_uid),
        gid: place.seen_inside(stat.st_gid),
        mtime: stat.st_mtime * 1000 + stat.st_mtime_nsec as i64 / 1_000_000,
    })
}

fn kind(kind: FileType) -> EntryKind {
    match kind {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        _ => EntryKind::Other,
    }
}

pub(super) fn readdir(machine: &Machine, p: &PathParams) -> Result<ReaddirResult> {
    readdir_at_most(machine, p, usize::MAX)
}

/// The same, of a directory with at most so many names.
pub(super) fn readdir_at_most(machine: &Machine, p: &PathParams, most: usize) -> Result<ReaddirResult> {
    let place = place(machine, &p.guid, &p.path)?;
    let fail = place.fail("read directory");
    let dir = place.open(OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).map_err(&fail)?;
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::read_from(&dir).map_err(&fail)? {
        let entry = entry.map_err(&fail)?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if entries.len() == most {
            return Err(Failure::new(ErrorKind::Exhausted, "read directory", &p.path)
                .because(std::io::Error::other(format!("more than {most} names"))));
        }
        let found = match entry.file_type() {
            // Not every file system says.
            FileType::Unknown => rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
            known => known,
        };
        entries.push(DirEntry { name: name.to_string_lossy().into_owned(), kind: kind(found) });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(ReaddirResult { entries })
}

pub(super) fn readlink(machine: &Machine, p: &PathParams) -> Result<ReadlinkResult> {
    let place = place(machine, &p.guid, &p.path)?;
    let fail = place.fail("read link");
    let (dir, name) = place.parent().map_err(&fail)?;
    let target = rustix::fs::readlinkat(&dir, name, Vec::new()).map_err(&fail)?;
    Ok(ReadlinkResult { target: target.to_string_lossy().into_owned() })
}

pub(super) fn mkdir(machine: &Machine, p: &MkdirParams) -> Result<Empty> {
    let place = place(machine, &p.guid, &p.path)?;
    let fail = place.fail("create directory");
    let mode = Mode::from(p.mode.unwrap_or(0o755) & 0o7777);
    if p.recursive {
        linux::resolve::mkdir_in_root(&place.root, place.path, mode).map_err(&fail)?;
    } else {
        let (dir, name) = place.parent().map_err(&fail)?;
        rustix::fs::mkdirat(&dir, name, mode).map_err(&fail)?;
    }
    Ok(Empty {})
}

pub(super) fn remove(machine: &Machine, p: &RemoveParams) -> Result<Empty> {
    let place = place(machine, &p.guid, &p.path)?;
    let fail = place.fail("remove");
    let removed =
        place.parent().and_then(|(dir, name)| match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
            Err(Errno::ISDIR) if p.recursive => images::remove_tree(&dir, name),
            other => other,
        });
    match removed {
        Err(Errno::NOENT) if p.force => Ok(Empty {}),
        other => other.map(|()| Empty {}).map_err(fail),
    }
}

pub(super) fn rename(machine: &Machine, p: &RenameParams) -> Result<Empty> {
    let from = place(machine, &p.guid, &p.from)?;
    let to = place(machine, &p.guid, &p.to)?;
    let fail = from.fail("rename");
    let (from_dir, from_name) = from.parent().map_err(&fail)?;
    let (to_dir, to_name) = to.parent().map_err(to.fail("rename to"))?;
    rustix::fs::renameat(&from_dir, from_name, &to_dir, to_name).map_err(&fail)?;
    Ok(Empty {})
}

pub(super) fn symlink(machine: &Machine, p: &SymlinkParams) -> Result<Empty> {
    let place = place(machine, &p.guid, &p.path)?;
    let fail = place.fail("create link");
    let (dir, name) = place.parent().map_err(&fail)?;
    rustix::fs::symlinkat(&p.target, &dir, name).map_err(&fail)?;
    Ok(Empty {})
}

pub(super) fn chmod(machine: &Machine, p: &ChmodParams) -> Result<Empty> {
    let place = place(machine, &p.guid, &p.path)?;
    let fail = place.fail("change mode of");
    let file = by_path(&place).map_err(&fail)?;
    // A handle of O_PATH has no fchmod before 6.6; its link in proc names just that file.
    rustix::fs::chmod(own_link(&file), Mode::from(p.mode & 0o7777)).map_err(&fail)?;
    Ok(Empty {})
}

pub(super) fn chown(machine: &Machine, p: &ChownParams) -> Result<Empty> {
    let place = place(machine, &p.guid, &p.path)?;
    let fail = place.fail("change owner of");
    let file = by_path(&place).map_err(&fail)?;
    let (uid, gid) = (Uid::from_raw(place.of_machine(p.uid)?), Gid::from_raw(place.of_machine(p.gid)?));
    rustix::fs::chownat(file.as_fd(), "", Some(uid), Some(gid), AtFlags::EMPTY_PATH).map_err(&fail)?;
    Ok(Empty {})
}

fn by_path(place: &Place<'_>) -> std::result::Result<OwnedFd, Errno> {
    let file =
        linux::resolve::in_root(&place.root, place.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    check_file_system(&file)?;
    Ok(file)
}

fn own_link(file: &OwnedFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    let path = Path::new("/proc/self/fd").join(file.as_raw_fd().to_string());
    debug_assert!(path.components().all(|part| part != Component::ParentDir));
    path
}
