//! `tmpcopyup`: a new tmpfs that begins with what was in the directory beneath it.
//!
//! Made and filled here while it is detached, by handles: nothing is resolved outside the rootfs, and nobody inside has
//! seen it yet.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use linux::mount::{MountAttr, mount_setattr};
use linux::spawn::{Mounted, Op, TreeOp};
use oci_spec::runtime::{Linux, Mount};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::options::{Options, extents};
use crate::error::{Failure, Result};

/// How deep directories may lie in one another.
const DEEPEST: usize = 64;

pub(super) fn steps(
    mount: &Mount,
    options: &Options,
    target: CString,
    rootfs: &Path,
    linux: &Linux,
) -> Result<Vec<Op>> {
    let fail = |errno| Failure::kernel("copy up", mount.destination().display(), errno);
    let tmpfs = super::instance(
        "tmpfs",
        options.own.set.difference(MountAttrFlags::MOUNT_ATTR_RDONLY),
        &options.data,
    )
    .map_err(fail)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // The handle of a new mount is good for paths alone.
    let top = rustix::fs::openat(&tmpfs, c".", flags, Mode::empty()).map_err(fail)?;
    let root = rustix::fs::open(rootfs, flags, Mode::empty()).map_err(fail)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&root, target.as_c_str(), flags, Mode::empty(), resolve) {
        Ok(from) => {
            let stat = rustix::fs::fstat(&from).map_err(fail)?;
            let has_mode = options.data.iter().any(|(key, _)| key == "mode");
            copy_directory(&from, top.as_fd(), DEEPEST).map_err(fail)?;
            if !has_mode {
                rustix::fs::fchmod(&top, Mode::from_raw_mode(stat.st_mode)).map_err(fail)?;
            }
            own(top.as_fd(), c"", &stat).map_err(fail)?;
        }
        Err(Errno::NOENT) => {
            let first =
                extents(linux.uid_mappings().as_deref()).iter().find(|e| e.inside == 0).map(|e| e.outside);
            let uid = first.map(Uid::from_raw);
            rustix::fs::fchown(&top, uid, uid.map(|uid| Gid::from_raw(uid.as_raw()))).map_err(fail)?;
        }
        Err(errno) => return Err(fail(errno)),
    }
    if options.own.set.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
        let attr = MountAttr { set: MountAttrFlags::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        mount_setattr(&tmpfs, false, &attr).map_err(fail)?;
    }
    let source = Mounted::Tree(Arc::new(tmpfs));
    Ok(vec![
        Op::Tree(TreeOp::MakeDir(target.clone())),
        Op::Tree(TreeOp::Mount { source, target, strict: false, in_order: false, propagation: 0 }),
    ])
}

fn own(dir: BorrowedFd<'_>, name: &std::ffi::CStr, stat: &Stat) -> std::result::Result<(), Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    rustix::fs::chownat(dir, name, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)), flags)
}

fn copy_directory(from: &OwnedFd, to: BorrowedFd<'_>, deeper: usize) -> std::result::Result<(), Errno> {
    let Some(deeper) = deeper.checked_sub(1) else { return Err(Errno::LOOP) };
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode);
        let read = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, mode)?;
                let source = rustix::fs::openat(from, name, read | OFlags::DIRECTORY, Mode::empty())?;
                let made = rustix::fs::openat(to, name, read | OFlags::DIRECTORY, Mode::empty())?;
                copy_directory(&source, made.as_fd(), deeper)?;
                own(to, name, &stat)?;
                rustix::fs::fchmod(&made, mode)?;
            }
            FileType::RegularFile => {
                let source = rustix::fs::openat(from, name, read, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let made = rustix::fs::openat(to, name, flags, mode)?;
                let copy = std::io::copy(
                    &mut std::fs::File::from(source),
                    &mut std::fs::File::from(made.try_clone().map_err(errno)?),
                );
                copy.map_err(errno)?;
                own(to, name, &stat)?;
                rustix::fs::fchmod(&made, mode)?;
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(link.as_c_str(), to, name)?;
                own(to, name, &stat)?;
            }
            kind => {
                rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)?;
                own(to, name, &stat)?;
            }
        }
    }
    Ok(())
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
