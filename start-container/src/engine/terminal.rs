//! Pseudo-terminals that belong to the container.
//!
//! The pair is opened in the container's own devpts, so that `tty` inside names it, by handles that are checked to
//! be what they claim: a container may have put anything at `/dev/pts` (CVE-2025-52565).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use protocol::ErrorKind;
use protocol::process::TerminalSize;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::error::{Failure, Result};

/// A terminal: the host's end, and the end that is the process's standard streams.
#[derive(Debug)]
pub(crate) struct Terminal {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

const DEVPTS_MAGIC: u64 = 0x1cd1;
const PTMX: (u32, u32) = (5, 2);

impl Terminal {
    /// Opens a pair in the root directory of a devpts.
    pub(crate) fn open(devpts: BorrowedFd<'_>, size: TerminalSize, owner: u32) -> Result<Self> {
        let fail = |errno| Failure::kernel("open terminal", "", errno);
        let is_devpts = rustix::fs::fstatfs(devpts).map_err(fail)?.f_type as u64 == DEVPTS_MAGIC;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let master = rustix::fs::openat(devpts, "ptmx", flags, Mode::empty()).map_err(fail)?;
        let device = rustix::fs::fstat(&master).map_err(fail)?.st_rdev;
        if !is_devpts || (rustix::fs::major(device), rustix::fs::minor(device)) != PTMX {
            return Err(Failure::new(ErrorKind::Escape, "open terminal", "in /dev/pts (not a devpts)"));
        }
        rustix::pty::unlockpt(&master).map_err(fail)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).map_err(fail)?;
        resize(master.as_fd(), size).map_err(fail)?;
        rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(owner)), None).map_err(fail)?;
        Ok(Self { master, slave })
    }

    /// Opens a pair in the devpts of a container that runs.
    pub(crate) fn open_in(root: BorrowedFd<'_>, size: TerminalSize, owner: u32) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let devpts = rustix::fs::openat2(root, "dev/pts", flags, Mode::empty(), resolve)
            .map_err(|errno| Failure::kernel("open terminal in", "/dev/pts", errno))?;
        Self::open(devpts.as_fd(), size, owner)
    }
}

/// Tells a terminal, through its master, how large it is; its foreground processes get SIGWINCH.
pub(crate) fn resize(master: BorrowedFd<'_>, size: TerminalSize) -> std::result::Result<(), Errno> {
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(master, size)
}
