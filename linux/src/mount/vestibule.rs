//! A mount namespace with next to nothing in it, for containers to begin in.
//!
//! A new mount namespace is a copy of its maker's, mount by mount, and so is taking the copy apart: on a machine with a
//! thousand containers, each of which has its rootfs mounted, that is most of what starting another one costs. A process
//! that makes its own from this one copies three mounts.
//!
//! ```text
//! /           an empty tmpfs, read-only
//! /root       the directory for a rootfs
//! /dev/null   the machine's
//! ```

use std::ffi::CStr;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Result;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::thread::{UnshareFlags, gettid};

use super::MountAttr;
use crate::netns::on_a_thread;
use crate::proc::Procfs;

/// Where a rootfs is attached in it.
pub const PLACE: &CStr = c"/root";

/// Makes one. It lives as long as the descriptor, and as any that begins as a copy of it.
///
/// Kernel: 5.2 (`fsopen`, `move_mount`).
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `ENOSPC` at `user.max_mnt_namespaces`, `EAGAIN` when no thread can be made.
pub fn vestibule() -> Result<OwnedFd> {
    on_a_thread(|| {
        // SAFETY: the flag that can break other threads' descriptors is CLONE_FILES; these are not it.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }?;
        // There is none to open later.
        let proc = Procfs::open()?;
        let context = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(&context, c"mode", c"0755")?;
        rustix::mount::fsconfig_set_string(&context, c"size", c"4k")?;
        rustix::mount::fsconfig_create(&context)?;
        let empty = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        rustix::fs::mkdirat(&empty, c"root", Mode::from(0o755))?;
        rustix::fs::mkdirat(&empty, c"dev", Mode::from(0o755))?;
        // Not opened: a child that another thread starts just now would have it open for writing for a moment, too, and what
        // is written to cannot become read-only.
        rustix::fs::mknodat(&empty, c"dev/null", FileType::RegularFile, Mode::from(0o444), 0)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let null = rustix::mount::open_tree(CWD, c"/dev/null", flags)?;
        // Nothing of what follows reaches the machine's namespace.
        rustix::mount::mount_change(
            c"/",
            rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
        )?;
        let whole = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&empty, c"", CWD, c"/", whole)?;
        rustix::process::fchdir(&empty)?;
        rustix::process::pivot_root(c".", c".")?;
        rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
        rustix::mount::move_mount(&null, c"", &empty, c"dev/null", whole)?;
        let read_only = MountAttr { set: MountAttrFlags::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        super::mount_setattr(&empty, false, &read_only)?;
        let thread = proc.process(gettid())?;
        proc.open_magic(thread.as_fd(), "ns", "mnt", OFlags::RDONLY)
    })
}
