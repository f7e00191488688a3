//! Small steps on directories held by handle: make, replace a file, remove a whole tree.
//!
//! Never follows a symbolic link and never crosses into another mount.

use std::ffi::{CStr, CString};
use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, IFlags, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

/// Follows nothing and stays beneath the directory it starts from.
pub const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Opens a directory that the operator named; links on the way are theirs to make.
pub fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a directory beneath `dir`.
pub fn open_dir_at(dir: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(dir, path, DIRECTORY, Mode::empty(), BENEATH)
}

/// Makes a directory beneath `dir` unless it is there, and opens it.
pub fn ensure_dir_at(dir: impl AsFd, name: &str, mode: u32) -> Result<OwnedFd, Errno> {
    match open_dir_at(&dir, name) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let made = open_dir_at(&dir, name)?;
    // The umask must not decide.
    rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))?;
    Ok(made)
}

/// Makes a directory and its parents unless they are there, and opens it.
pub fn ensure_dir(path: &Path, mode: u32) -> Result<OwnedFd, Errno> {
    match open_dir(path) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        ensure_dir(parent, 0o755)?;
    }
    match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let made = open_dir(path)?;
    rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))?;
    Ok(made)
}

/// Writes all of `bytes`.
pub fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(&fd, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Reads a whole file that was opened for reading.
pub fn read_all(fd: impl AsFd) -> Result<Vec<u8>, Errno> {
    let size = usize::try_from(rustix::fs::fstat(&fd)?.st_size).unwrap_or(0);
    // Files of the store have the size that fstat says; those of /proc say none.
    let mut bytes = Vec::with_capacity(if size == 0 { 16 << 10 } else { size });
    loop {
        match rustix::io::read(&fd, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(bytes),
            Ok(_) if bytes.len() == size => return Ok(bytes),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if bytes.capacity() == bytes.len() {
            bytes.reserve(bytes.len());
        }
    }
}

/// Reads the file `path` beneath `dir`.
pub fn read_file_at(dir: impl AsFd, path: impl rustix::path::Arg) -> Result<Vec<u8>, Errno> {
    let file = rustix::fs::openat2(
        dir,
        path,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
        BENEATH,
    )?;
    read_all(file)
}

/// Replaces the file `name` in `dir` by one with these bytes, in one step. The caller holds whatever lock keeps
/// another from replacing the same file at the same time.
pub fn replace_file_at(dir: impl AsFd, name: &str, bytes: &[u8], mode: u32, sync: bool) -> Result<(), Errno> {
    let new = format!("{name}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&dir, new.as_str(), flags, Mode::from_raw_mode(mode))?;
    let written = rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
        .and_then(|()| write_all(&file, bytes))
        .and_then(|()| if sync { rustix::fs::fsync(&file) } else { Ok(()) })
        .and_then(|()| rustix::fs::renameat(&dir, new.as_str(), &dir, name));
    if written.is_err() {
        // The first error is the one to tell; the next replacement truncates what may be left here.
        _ = rustix::fs::unlinkat(&dir, new.as_str(), AtFlags::empty());
    }
    written
}

/// The names in a directory, without `.` and `..`, and their types as far as the file system tells.
pub fn names_in(dir: impl AsFd) -> Result<Vec<(CString, FileType)>, Errno> {
    rustix::fs::seek(&dir, rustix::fs::SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(names)
}

/// The same as text, names that are not UTF-8 left out: for directories that only this crate writes to.
pub fn text_names_in(dir: impl AsFd) -> Result<Vec<String>, Errno> {
    Ok(names_in(dir)?.into_iter().filter_map(|(name, _)| name.into_string().ok()).collect())
}

/// Random hex digits for the name of something temporary.
pub fn random_name() -> Result<String, Errno> {
    let mut bytes = [0_u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().fold(String::new(), |mut name, byte| {
        _ = write!(name, "{byte:02x}");
        name
    }))
}

/// A path to what the handle holds, for the calls that take no handle.
pub fn proc_path(fd: impl AsFd) -> String {
    use std::os::fd::AsRawFd as _;
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Directories held open at once while a tree is removed. A deeper one is first moved up: the depth of what a
/// container leaves behind is the container's choice, our stack and descriptors are not.
const DEPTH: usize = 48;

/// Removes `name` in `dir` with all that is beneath; nothing there is fine. Files and directories marked
/// immutable or append-only are unmarked first. No link is followed, and a mount inside is `EBUSY`, never entered.
pub fn remove_all(dir: impl AsFd, name: impl rustix::path::Arg) -> Result<(), Errno> {
    let dir = dir.as_fd();
    name.into_with_c_str(|name| match unlink(dir, name, FileType::Unknown) {
        Err(Errno::ISDIR) => remove_within(dir, name, None, 0),
        Err(Errno::NOENT) => Ok(()),
        result => result,
    })
}

/// The same, for what is most likely a directory.
pub fn remove_dir(dir: impl AsFd, name: &str) -> Result<(), Errno> {
    rustix::path::Arg::into_with_c_str(name, |text| match remove_within(dir.as_fd(), text, None, 0) {
        Err(Errno::NOTDIR) => remove_all(&dir, text),
        result => result,
    })
}

fn remove_within(
    parent: BorrowedFd<'_>,
    name: &CStr,
    top: Option<BorrowedFd<'_>>,
    depth: usize,
) -> Result<(), Errno> {
    match rmdir(parent, name) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(Errno::NOENT) => return Ok(()),
        result => return result,
    }
    // Here and below: somebody else may remove it, too.
    let dir = match open_dir_at(parent, name) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let dir = dir.as_fd();
    let top = top.unwrap_or(dir);
    // Entries may appear while we look (a deeper directory moved up), so until the directory itself can go.
    loop {
        let entries = match names_in(dir) {
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        for (entry, kind) in entries {
            let removed =
                if kind == FileType::Directory { Err(Errno::ISDIR) } else { unlink(dir, &entry, kind) };
            match removed {
                Err(Errno::ISDIR) if depth < DEPTH => remove_within(dir, &entry, Some(top), depth + 1)?,
                Err(Errno::ISDIR) => match rmdir(dir, &entry) {
                    Err(Errno::NOTEMPTY | Errno::EXIST) => {
                        rustix::fs::renameat(dir, &entry, top, random_name()?)?;
                    }
                    Err(Errno::NOENT) => {}
                    result => result?,
                },
                Err(Errno::NOENT) => {}
                result => result?,
            }
        }
        match rmdir(parent, name) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(Errno::NOENT) => return Ok(()),
            result => return result,
        }
    }
}

fn unlink(dir: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::PERM) => {
            unmark(dir, name, kind);
            rustix::fs::unlinkat(dir, name, AtFlags::empty())
        }
        result => result,
    }
}

fn rmdir(dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::PERM) => {
            unmark(dir, name, FileType::Directory);
            rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
        }
        result => result,
    }
}

/// Takes the immutable and append-only marks from `name` and from the directory it is in. What fails here shows
/// as the error of the removal that is tried again.
fn unmark(dir: BorrowedFd<'_>, name: &CStr, kind: FileType) {
    let unmark = |fd: BorrowedFd<'_>| {
        if let Ok(flags) = rustix::fs::ioctl_getflags(fd) {
            let kept = flags.difference(IFlags::IMMUTABLE | IFlags::APPEND);
            if kept != flags {
                _ = rustix::fs::ioctl_setflags(fd, kept);
            }
        }
    };
    unmark(dir);
    // Opening a device or a fifo has effects of its own, and they cannot be marked.
    let kind = match kind {
        FileType::Unknown => match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(_) => return,
        },
        kind => kind,
    };
    if matches!(kind, FileType::RegularFile | FileType::Directory) {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(fd) = rustix::fs::openat2(dir, name, flags, Mode::empty(), BENEATH) {
            unmark(fd.as_fd());
        }
    }
}
