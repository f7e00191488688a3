//! What is mounted in a mount namespace.
//!
//! Two ways to the same list: `listmount` with `statmount` (Linux 6.8; no text to parse but the options), and
//! `/proc/<pid>/mountinfo`. Only reads.

use std::os::fd::AsFd;

use rustix::io::{Errno, Result};
use rustix::mount::MountAttrFlags;
use rustix::process::Pid;

use crate::kernel::Features;

mod mountinfo;
mod statmount;

/// A mount.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mount {
    /// Its id, as in mountinfo and `STATX_MNT_ID`: used again after it is gone.
    pub id: u64,
    /// The id of the mount that it is on; its own, or one that is not listed, for the root.
    pub parent: u64,
    /// The part of the file system that it shows: `/` for all of it.
    pub root: Vec<u8>,
    /// Where it is, as seen from the root of this process, or of the other process's namespace. (mountinfo counts
    /// from the other process's own root; in a container the two are one.)
    pub mountpoint: Vec<u8>,
    /// `ext4`, `tmpfs`, `overlay`; with its subtype, `fuse.sshfs`.
    pub fs_type: String,
    /// What was mounted: a device, or any word. None where the kernel does not tell (`statmount` before 6.13).
    pub source: Option<Vec<u8>>,
    /// Attributes of the mount itself.
    pub attributes: MountAttrFlags,
    /// The file system itself is read-only.
    pub fs_readonly: bool,
    /// Options of the file system, without `rw` and `ro`: `lowerdir=…,upperdir=…`. None as for the source
    /// (before 6.11).
    pub options: Option<Vec<u8>>,
    /// Peer group, if it is shared.
    pub peer_group: Option<u64>,
    /// Peer group that it receives from, if it is a slave.
    pub master: Option<u64>,
}

/// The mounts of the calling thread's mount namespace, or of another process's, in the order of the kernel's list.
///
/// # Errors
/// `ESRCH` or `ENOENT` if the process is gone, `EPERM` and `EACCES` if we may not look.
pub fn list(of: Option<Pid>, features: &Features) -> Result<Vec<Mount>> {
    if features.statmount {
        // Before 6.11 a kernel lists only the caller's own namespace.
        match statmount::list(of) {
            Err(Errno::NOSYS | Errno::INVAL | Errno::NOTTY | Errno::NOENT) => {}
            other => return other,
        }
    }
    mountinfo::list(of)
}

/// One of the mounts that are beneath the mount whose root is `mount`, if there is any; also one that covers it.
///
/// # Errors
/// As [`list`].
pub fn beneath(mount: impl AsFd, features: &Features) -> Result<Option<Mount>> {
    let mount = mount.as_fd();
    if features.statmount {
        return statmount::beneath(mount);
    }
    let id = crate::mount::identify(mount)?.mount;
    Ok(mountinfo::list(None)?.into_iter().find(|child| child.parent == id && child.id != id))
}
