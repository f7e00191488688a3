//! Mount attributes and file system contexts.
//!
//! A mount is prepared while it is detached (nobody can see it), and then moved into place with rustix's
//! `move_mount`. Owns the shapes of `mount_setattr` and the error log of `fsopen` contexts; attaches nothing.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags};

use crate::kernel::Features;
use crate::sys::{check, nr, owned};

mod context;
mod elsewhere;
mod own;
mod vestibule;

pub use context::{ContextError, FsContext};
pub use elsewhere::clone_from;
pub use own::in_own_namespace;
pub use vestibule::{PLACE as VESTIBULE_PLACE, vestibule};

/// What to change on a mount: the arguments of `mount_setattr(2)`.
#[derive(Clone, Copy, Debug)]
pub struct MountAttr<'fd> {
    /// Attributes to set. `MOUNT_ATTR_IDMAP` is added when there is a [`userns`](Self::userns).
    pub set: MountAttrFlags,
    /// Attributes to clear. To choose an atime mode, clear `MOUNT_ATTR__ATIME` and set the new one.
    pub clear: MountAttrFlags,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`; none keeps what is.
    pub propagation: Option<MountPropagationFlags>,
    /// The id map, as a user namespace: an id *inside* it is one stored in the file system, and the id *outside*
    /// that it maps to is the one seen through the mount. Kernel: 5.12; ext4, xfs, btrfs then, tmpfs since 6.3.
    pub userns: Option<BorrowedFd<'fd>>,
}

/// `struct mount_attr` of `linux/mount.h`, version 0 (32 bytes).
#[repr(C)]
struct RawMountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

impl Default for MountAttr<'_> {
    fn default() -> Self {
        Self { set: MountAttrFlags::empty(), clear: MountAttrFlags::empty(), propagation: None, userns: None }
    }
}

impl MountAttr<'_> {
    fn raw(&self) -> RawMountAttr {
        let mut set = u64::from(self.set.bits());
        let userns_fd = match self.userns {
            Some(fd) => {
                set |= u64::from(MountAttrFlags::MOUNT_ATTR_IDMAP.bits());
                u64::try_from(fd.as_raw_fd()).unwrap_or(u64::MAX)
            }
            None => 0,
        };
        RawMountAttr {
            attr_set: set,
            attr_clr: u64::from(self.clear.bits()),
            propagation: self.propagation.map_or(0, |flags| u64::from(flags.bits())),
            userns_fd,
        }
    }

    fn is_empty(&self) -> bool {
        self.set.is_empty() && self.clear.is_empty() && self.propagation.is_none() && self.userns.is_none()
    }
}

/// Changes the attributes of the mount that `mount` is in; with `recursive`, of all mounts beneath it, or none.
///
/// An id map can be set only on a mount that is still detached and has none.
///
/// `int mount_setattr(int dirfd, const char *pathname, unsigned flags, struct mount_attr *attr, size_t size)`,
/// Linux 5.12, <https://man7.org/linux/man-pages/man2/mount_setattr.2.html>. `mount` must be the root of a mount.
pub fn mount_setattr(mount: impl AsFd, recursive: bool, attr: &MountAttr<'_>) -> Result<()> {
    let raw = attr.raw();
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string and `raw` is a `struct mount_attr` of the size passed; both live through
    // the call, which only reads them. The descriptors are borrowed for as long.
    let returned = unsafe {
        libc::syscall(
            nr::MOUNT_SETATTR,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const raw,
            size_of::<RawMountAttr>(),
        )
    };
    check(returned).map(drop)
}

/// A detached clone of the mount at `from` (an `O_PATH` handle is enough), with these attributes from its first
/// moment on.
///
/// One call where the kernel has `open_tree_attr`, two where it has not; nobody can reach the clone in between.
///
/// Before Linux 6.15 `from` must be attached in the caller's namespace: a mount that is itself detached is refused with
/// `EINVAL`. So is an id map on a tmpfs before 6.3.
///
/// `int open_tree_attr(int dfd, const char *filename, unsigned flags, struct mount_attr *uattr, size_t usize)`,
/// Linux 6.15; `open_tree(2)`, Linux 5.2, <https://man7.org/linux/man-pages/man2/open_tree.2.html>.
pub fn clone_tree(
    from: impl AsFd,
    recursive: bool,
    attr: &MountAttr<'_>,
    features: &Features,
) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_NO_AUTOMOUNT;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    if attr.is_empty() || !features.open_tree_attr {
        let tree = rustix::mount::open_tree(from.as_fd(), c"", flags)?;
        if !attr.is_empty() {
            mount_setattr(&tree, recursive, attr)?;
        }
        return Ok(tree);
    }
    let raw = attr.raw();
    // SAFETY: as in `mount_setattr`.
    let returned = unsafe {
        libc::syscall(
            nr::OPEN_TREE_ATTR,
            from.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags.bits(),
            &raw const raw,
            size_of::<RawMountAttr>(),
        )
    };
    owned(returned)
}

/// Moves a detached mount onto `target`, an `O_PATH` handle of the directory or file to cover.
///
/// `int move_mount(int from_dfd, const char *from, int to_dfd, const char *to, unsigned flags)`, Linux 5.2,
/// <https://man7.org/linux/man-pages/man2/move_mount.2.html>.
pub fn attach(tree: impl AsFd, target: impl AsFd) -> Result<()> {
    use rustix::mount::MoveMountFlags as Flags;
    let flags = Flags::MOVE_MOUNT_F_EMPTY_PATH | Flags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree.as_fd(), c"", target.as_fd(), c"", flags)
}

/// Takes the mount whose root `mount` is, and all that is mounted beneath it, out of its namespace. Who has files of
/// it open keeps them.
///
/// `int umount2(const char *target, int flags)` with `MNT_DETACH`, Linux 2.4.11,
/// <https://man7.org/linux/man-pages/man2/umount.2.html>. It takes only a path, so it is given the descriptor's own
/// entry in `/proc`, which leads to that mount wherever it has been moved. But the last step of such a lookup goes
/// up to what covers it: with another mount on its root, that one goes, and this one the next time.
///
/// # Errors
/// `EINVAL` if the handle is not the root of a mount, or that is not attached here.
pub fn detach(mount: impl AsFd) -> Result<()> {
    let mount = mount.as_fd();
    if !identify(mount)?.is_root {
        return Err(Errno::INVAL);
    }
    // UMOUNT_NOFOLLOW would stop at the entry itself. It is `thread-self` because a thread may have a descriptor
    // table of its own.
    let path = format!("/proc/thread-self/fd/{}", mount.as_raw_fd());
    rustix::mount::unmount(path, UnmountFlags::DETACH)
}

/// Whether `handle` is the root of a mount, and the id of its mount, as in mountinfo.
///
/// `statx(2)` with `STATX_MNT_ID` (Linux 5.8) and `STATX_ATTR_MOUNT_ROOT` (5.8).
pub fn identify(handle: impl AsFd) -> Result<Identity> {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
    let stat = statx(handle.as_fd(), c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID | StatxFlags::TYPE)?;
    if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0
        || !stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
    {
        return Err(Errno::NOSYS);
    }
    Ok(Identity {
        mount: stat.stx_mnt_id,
        is_root: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        is_directory: u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFDIR,
    })
}

/// What [`identify`] finds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The mount's id, as in mountinfo: unique among the mounts that exist, used again later.
    pub mount: u64,
    /// The handle is the root of that mount.
    pub is_root: bool,
    /// The handle is a directory.
    pub is_directory: bool,
}
