//! The few file calls that control groups need, relative to open directories.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Opens a file beneath a directory. Nothing in a cgroup file system is a link.
pub(crate) fn open(dir: BorrowedFd<'_>, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
}

pub(crate) fn open_dir(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    open(dir, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// The whole text of a file, which the kernel makes as it is read.
pub(crate) fn read(dir: BorrowedFd<'_>, name: &str) -> Result<String, Errno> {
    text(open(dir, name, OFlags::RDONLY)?.as_fd())
}

/// The whole text of an open file, from its beginning.
pub(crate) fn read_open(file: BorrowedFd<'_>) -> Result<String, Errno> {
    rustix::fs::seek(file, rustix::fs::SeekFrom::Start(0))?;
    text(file)
}

fn text(file: BorrowedFd<'_>) -> Result<String, Errno> {
    linux::file::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes a value in the one `write(2)` that the kernel parses.
pub(crate) fn write(dir: BorrowedFd<'_>, name: &str, value: &str) -> Result<(), Errno> {
    write_open(open(dir, name, OFlags::WRONLY)?.as_fd(), value)
}

/// As [`write`], into an open file.
pub(crate) fn write_open(file: BorrowedFd<'_>, value: &str) -> Result<(), Errno> {
    loop {
        match rustix::io::write(file, value.as_bytes()) {
            Ok(n) if n == value.len() => return Ok(()),
            Ok(_) => return Err(Errno::IO),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Makes a directory, or finds it.
pub(crate) fn make(dir: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    match rustix::fs::mkdirat(dir, name, Mode::from(0o755)) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// The names of the directories beneath.
pub(crate) fn children(dir: BorrowedFd<'_>) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if entry.file_type() == rustix::fs::FileType::Directory && name != "." && name != ".." {
            names.push(name.into_owned());
        }
    }
    Ok(names)
}

/// Processes in a group and in the groups beneath it. One that is removed meanwhile has none.
///
/// Those beneath first: what a command left running moves up when its group is removed, and is met at least once so.
pub(crate) fn processes(dir: BorrowedFd<'_>) -> Result<Vec<i32>, Errno> {
    let mut pids = Vec::new();
    let names = match children(dir) {
        Err(Errno::NODEV | Errno::NOENT) => return Ok(pids),
        names => names?,
    };
    for name in names {
        match open_dir(dir, &name) {
            Ok(child) => pids.extend(processes(child.as_fd())?),
            Err(Errno::NODEV | Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    match read(dir, "cgroup.procs") {
        Err(Errno::NODEV | Errno::NOENT) => {}
        text => pids.extend(text?.lines().filter_map(|line| line.parse::<i32>().ok())),
    }
    Ok(pids)
}

/// `name value` lines: the value of a name.
pub(crate) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
