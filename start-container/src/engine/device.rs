//! The private `/dev`: a tmpfs with the devices that every container has, made detached by the parent.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, makedev};
use rustix::io::Errno;

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
