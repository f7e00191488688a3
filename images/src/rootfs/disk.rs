//! The disk of a rootfs that has a size: a file system of its own, in a file.
//!
//! ```text
//! D/rootfs/<guid>/disk.ext4    sparse, as long as the size; upper and work lie in it
//! D/rootfs/<guid>/disk.new     what it is called until it is a file system
//! ```
//! It is mounted as a loop device, and that mount is nowhere in any tree: the overlay alone holds it. So the overlay's
//! end is the mount's and the device's, also after a kill at any step, and nothing of this is undone by hand.
//!
//! The file is locked for as long as it is a device: mounted a second time, it would be destroyed.
//!
//! Why not a project quota, and what this costs: docs/decisions/0013-rootfs-size.md.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use linux::kernel::Features;
use linux::loopdev;
use linux::mount::{ContextError, FsContext};
use linux::step::{Step, during};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags, move_mount};

use linux::tree::open_dir_at;

const FILE: &str = "disk.ext4";
const NEW_FILE: &str = "disk.new";

/// Room for the file system's own needs, and a little more.
const LEAST: u64 = 16 << 20;
/// The longest file of ext4 with blocks of 4 KiB, less one block.
const MOST: u64 = (16 << 40) - BLOCK;

const BLOCK: u64 = 4096;

/// Why a rootfs cannot have a disk of its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// Too small or too large.
    #[error("{0} bytes is not from {LEAST} to {MOST}")]
    Size(u64),
    /// There is no `mkfs.ext4` on this machine.
    #[error("this machine has no mkfs.ext4 (Debian: package e2fsprogs)")]
    NoMkfs,
    /// It could not be run.
    #[error("cannot run mkfs.ext4")]
    Run(#[source] std::io::Error),
    /// It failed.
    #[error("mkfs.ext4: {0}")]
    Mkfs(String),
    /// The disk is mounted, by somebody who does not show it here.
    #[error("it is mounted in another namespace, or not yet gone from where it was")]
    InUse,
    /// The file system refuses.
    #[error(transparent)]
    Configure(#[from] ContextError),
    /// The kernel refused a step.
    #[error("cannot {step} it")]
    Kernel {
        /// What was being done.
        step: &'static str,
        /// The kernel's reason.
        source: Errno,
    },
}

impl DiskError {
    /// The kernel's reason, where it was the kernel.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Size(_) | Self::NoMkfs | Self::Mkfs(_) => None,
            Self::Run(source) => Errno::from_io_error(source),
            Self::InUse => Some(Errno::BUSY),
            Self::Configure(error) => Some(error.errno()),
            Self::Kernel { source, .. } => Some(*source),
        }
    }

    /// What was asked for cannot be had here; nothing was made.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Size(_) | Self::NoMkfs)
    }
}

fn step(step: &'static str) -> impl Fn(Errno) -> DiskError {
    move |source| DiskError::Kernel { step, source }
}

/// Where distributions have it.
const MKFS: [&str; 4] = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4", "/usr/bin/mkfs.ext4", "/bin/mkfs.ext4"];

fn mkfs() -> Result<&'static str, DiskError> {
    MKFS.into_iter().find(|path| Path::new(path).exists()).ok_or(DiskError::NoMkfs)
}

/// Whether a disk of this size can be made here. Makes nothing.
pub(super) fn check(bytes: u64) -> Result<(), DiskError> {
    if !(LEAST..=MOST).contains(&bytes) {
        return Err(DiskError::Size(bytes));
    }
    mkfs().map(drop)
}

/// Makes the disk in the directory of its rootfs, if it is not there.
///
/// `volatile`: it need not survive a crash of the machine, so it has no journal.
fn make(dir: &OwnedFd, bytes: u64, volatile: bool) -> Result<(), DiskError> {
    if rustix::fs::statat(dir, FILE, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(());
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(dir, NEW_FILE, flags, Mode::from_raw_mode(0o600)).map_err(step("create"))?;
    rustix::fs::ftruncate(&file, bytes / BLOCK * BLOCK).map_err(step("size"))?;
    let journal = if volatile { ["-O", "^has_journal"] } else { ["-J", "size=4"] };
    let made = Command::new(mkfs()?)
        // No blocks are kept for root; inodes for small files, as images have them; nothing is written that can be
        // written when it is needed.
        .args(["-q", "-F", "-m", "0", "-b", "4096", "-i", "8192"])
        .args(journal)
        .args(["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", "/proc/self/fd/0"])
        .env_clear()
        .stdin(Stdio::from(file))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(DiskError::Run)?;
    if !made.status.success() {
        return Err(DiskError::Mkfs(String::from_utf8_lossy(&made.stderr).trim().replace('\n', "; ")));
    }
    rustix::fs::renameat(dir, NEW_FILE, dir, FILE).map_err(step("name"))
}

/// Takes the lock that the device will hold. The device before this one may be on its way out.
fn lock(file: &OwnedFd) -> Result<(), DiskError> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(Errno::WOULDBLOCK) => return Err(DiskError::InUse),
            locked => return locked.map_err(step("lock")),
        }
    }
}

/// A disk that is mounted for as long as this, or an overlay over it, is there.
pub(super) struct Mounted<'p> {
    root: OwnedFd,
    /// Before Linux 6.15 an overlay takes no detached mount: it is attached meanwhile, at this name.
    attached: Option<(&'p OwnedFd, String)>,
}

impl<'p> Mounted<'p> {
    /// Makes the disk where it is missing, and mounts it.
    pub(super) fn new(
        dir: &OwnedFd,
        bytes: u64,
        volatile: bool,
        point: &'p OwnedFd,
        guid: &str,
        features: &Features,
    ) -> Result<Self, DiskError> {
        during(Step::MakeDisk, || make(dir, bytes, volatile))?;
        during(Step::MountDisk, || Self::mount(dir, point, guid, features))
    }

    fn mount(dir: &OwnedFd, point: &'p OwnedFd, guid: &str, features: &Features) -> Result<Self, DiskError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, FILE, flags, Mode::empty()).map_err(step("open"))?;
        lock(&file)?;
        let device = loopdev::attach(&file).map_err(step("make a loop device of"))?;
        let context = FsContext::open("ext4")?;
        context.string("source", device.path.as_path())?;
        // Nothing is written that nobody asked for; what is deleted gives its place on the machine's disk back; and
        // where that has none left, what cannot be written is refused and not lost later.
        context.flag("noinit_itable")?;
        context.flag("discard")?;
        context.string("errors", "remount-ro")?;
        context.create()?;
        let root = context.mount(MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID)?;
        let mut mounted = Self { root, attached: None };
        if !(features.overlay_layer_fds && features.open_tree_attr) {
            let name = format!("{guid}.layer-disk");
            match rustix::fs::mkdirat(point, name.as_str(), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(step("create a mount point for")(errno)),
            }
            mounted.attached = Some((point, name.clone()));
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(&mounted.root, "", point, name.as_str(), flags).map_err(step("attach"))?;
        }
        Ok(mounted)
    }

    /// Its root directory.
    pub(super) fn root(&self) -> Result<OwnedFd, Errno> {
        open_dir_at(&self.root, ".")
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if let Some((point, name)) = &self.attached {
            // The overlay has a clone of its own. What stays is found by whoever destroys the rootfs.
            let _gone = linux::mount::detach(self.root.as_fd());
            let _gone = rustix::fs::unlinkat(point, name.as_str(), AtFlags::REMOVEDIR);
        }
    }
}

/// Whether there is one, or the beginning of one.
pub(super) fn is_in(dir: &OwnedFd) -> bool {
    [FILE, NEW_FILE].iter().any(|name| rustix::fs::statat(dir, *name, AtFlags::SYMLINK_NOFOLLOW).is_ok())
}

/// Removes the disk. Whatever is left of its mount keeps it until that has gone.
pub(super) fn remove(dir: &OwnedFd) -> Result<(), Errno> {
    for name in [FILE, NEW_FILE] {
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
