//! procfs by handles that are known to be procfs.
//!
//! Whoever can mount over `/proc`, or over a file in it, can make a write to `/proc/…/attr/exec` go elsewhere
//! (CVE-2019-16884, CVE-2025-52881). So: the root is asked what it is, and nothing under it may be another mount.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstat, fstatfs, openat2};
use rustix::io::{Errno, Result};
use rustix::mount::MountAttrFlags;
use rustix::process::Pid;

use crate::mount::{FsContext, identify};

/// The inode of procfs' root (`PROC_ROOT_INO`): a directory of procfs bound over `/proc` has another.
const ROOT_INODE: u64 = 1;

/// The root of a procfs.
#[derive(Debug)]
pub struct Procfs {
    root: OwnedFd,
}

impl Procfs {
    /// `/proc`, if it is the root of a procfs; else a detached one of our own.
    ///
    /// # Errors
    /// When `/proc` is something else and we may not mount one.
    pub fn open() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(c"/proc", flags, Mode::empty()).and_then(Self::from_handle) {
            Ok(proc) => Ok(proc),
            Err(_) => Self::detached(),
        }
    }

    /// As [`Procfs::open`], once for this process: what it was then, it stays.
    ///
    /// # Errors
    /// As [`Procfs::open`].
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Procfs> = OnceLock::new();
        if let Some(shared) = SHARED.get() {
            return Ok(shared);
        }
        let opened = Self::open()?;
        Ok(SHARED.get_or_init(|| opened))
    }

    /// A new procfs of our pid namespace, mounted nowhere: nobody can have put anything over its files.
    ///
    /// `fsopen("proc")`, Linux 5.2.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`, or where a masked `/proc` forbids full ones.
    pub fn detached() -> Result<Self> {
        let context = FsContext::open("proc").map_err(|error| error.errno())?;
        context.create().map_err(|error| error.errno())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let root = context.mount(attributes).map_err(|error| error.errno())?;
        Self::from_handle(root)
    }

    /// Takes a directory for the root of a procfs, after a look at it.
    ///
    /// # Errors
    /// `EXDEV` if it is not the root of a procfs.
    pub fn from_handle(root: OwnedFd) -> Result<Self> {
        if fstatfs(&root)?.f_type != PROC_SUPER_MAGIC || fstat(&root)?.st_ino != ROOT_INODE {
            return Err(Errno::XDEV);
        }
        Ok(Self { root })
    }

    /// The handle on its root.
    #[must_use]
    pub fn into_root(self) -> OwnedFd {
        self.root
    }

    /// The directory of a process.
    ///
    /// # Errors
    /// `ENOENT` if there is none (any more). The handle stays with that process: when it is gone, lookups in it
    /// are `ESRCH`, whoever has the number then.
    pub fn process(&self, pid: Pid) -> Result<OwnedFd> {
        self.open_at(Path::new(&pid.to_string()), OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Opens a file or directory of this procfs: no magic links, and nothing that is mounted over it.
    ///
    /// # Errors
    /// `EXDEV` if something is mounted over it, `ELOOP` for a magic link.
    pub fn open_at(&self, path: impl AsRef<Path>, oflags: OFlags) -> Result<OwnedFd> {
        self.open_beneath(self.root.as_fd(), path.as_ref(), oflags)
    }

    /// Reads a whole file of this procfs.
    ///
    /// # Errors
    /// As [`open_at`](Self::open_at), and those of `read(2)`.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        crate::file::read(self.open_at(path, OFlags::RDONLY)?)
    }

    /// When a process started, in clock ticks since boot, and whether it has ended: fields 22 and 3 of its `stat`. None when
    /// there is no such process.
    #[must_use]
    pub fn start_time(&self, pid: Pid) -> Option<(u64, bool)> {
        let stat = self.read(format!("{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // The name, in parentheses, may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let ended = matches!(fields.next()?, "Z" | "X");
        Some((fields.nth(18)?.parse().ok()?, ended))
    }

    /// Follows a magic link, such as `user` in `ns` of a process's directory: what it points to is elsewhere by
    /// nature, but the link itself must be procfs' own.
    ///
    /// # Errors
    /// `EXDEV` if something is mounted over the link.
    pub fn open_magic(
        &self,
        process: BorrowedFd<'_>,
        directory: &str,
        link: &str,
        oflags: OFlags,
    ) -> Result<OwnedFd> {
        let directory = self.open_beneath(process, Path::new(directory), OFlags::PATH | OFlags::DIRECTORY)?;
        let handle = rustix::fs::openat(
            &directory,
            link,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        if identify(&handle)?.mount != identify(&self.root)?.mount {
            return Err(Errno::XDEV);
        }
        rustix::fs::openat(&directory, link, oflags | OFlags::CLOEXEC, Mode::empty())
    }

    fn open_beneath(&self, from: BorrowedFd<'_>, path: &Path, oflags: OFlags) -> Result<OwnedFd> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        openat2(from, path, oflags | OFlags::CLOEXEC, Mode::empty(), how)
    }
}

impl AsFd for Procfs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}
