//! The private `/dev`: a tmpfs with the devices that every container has, made detached by the parent.
//!
//! And its `null` as a standard stream. The machine's own is never one: who is root inside could change its mode and
//! its owner through the descriptor, for everybody.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use linux::mount::{MountAttr, mount_setattr};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, makedev};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};

/// Name, major, minor. OCI runtime spec, "Default Devices".
pub(crate) const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

pub(crate) const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Fills the root of a new, detached tmpfs.
pub(crate) fn populate(dev: &OwnedFd) -> Result<(), Errno> {
    for (name, major, minor) in DEVICES {
        rustix::fs::mknodat(dev, name, FileType::CharacterDevice, Mode::from(0o666), makedev(major, minor))?;
        // mknod(2) applies the umask, which belongs to the whole process.
        rustix::fs::chmodat(dev, name, Mode::from(0o666), rustix::fs::AtFlags::empty())?;
    }
    for (target, name) in LINKS {
        rustix::fs::symlinkat(target, dev.as_fd(), name)?;
    }
    for name in ["pts", "shm", "mqueue"] {
        rustix::fs::mkdirat(dev, name, Mode::from(0o755))?;
    }
    Ok(())
}

/// Whether this is the device that is empty and takes everything.
pub(crate) fn is_null(fd: impl AsFd) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3)
    })
}

/// Puts a container's own `null` in the place of the machine's.
pub(crate) fn give_own_null(
    stdio: &mut [Arc<OwnedFd>; 3],
    open: impl FnOnce() -> Result<Arc<OwnedFd>, Errno>,
) -> Result<(), Errno> {
    let nulls = stdio.each_ref().map(is_null);
    if nulls.contains(&true) {
        let own = open()?;
        for (stream, _) in stdio.iter_mut().zip(nulls).filter(|(_, null)| *null) {
            *stream = Arc::clone(&own);
        }
    }
    Ok(())
}

/// `null` in a new `/dev`, which nobody else has seen yet.
pub(crate) fn null_of(dev: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(dev, "null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// `/dev/null` of a container that runs. Those inside may have put anything there: then the machine's, on a mount of its
/// own on which nothing can be changed.
pub(crate) fn null_in(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::openat2(root, "dev/null", flags, Mode::empty(), resolve) {
        // What it is, is asked before it is opened: opening a pipe waits, and some devices do something.
        Ok(found) if is_null(&found) => again(&found).or_else(|_errno| machines_null()),
        _ => machines_null(),
    }
}

/// The machine's, unchangeable: a mount that is read-only lets devices be written to, and nothing else.
pub(crate) fn machines_null() -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(rustix::fs::CWD, "/dev/null", flags)?;
    let fixed = MountAttr { set: MountAttrFlags::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    mount_setattr(&tree, false, &fixed)?;
    again(&tree)
}

/// What an `O_PATH` descriptor is of, opened.
fn again(place: &OwnedFd) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
}
