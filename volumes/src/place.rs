//! The place of a mount: a path inside a rootfs that may be hostile.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use linux::kernel::Features;
use linux::mount::identify;
use linux::resolve::{create_file_in_root, in_root, mkdir_in_root};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::{Error, Prepared};

/// Mounts what was prepared on `mountpoint` inside `rootfs`, a handle of the root of a mount. A missing mountpoint is
/// made: a directory with its parents, or an empty file. Links in the rootfs lead nowhere outside it.
///
/// Where the rootfs is a shared mount, the new mount is shared too, and appears in every mount namespace that holds a
/// slave of it. Two calls for one mountpoint at the same time are the caller's to keep apart.
///
/// # Errors
/// For a mountpoint that is not absolute, goes up, is the root, is in use, or is a file where a directory is mounted.
pub fn attach(mount: &Prepared, rootfs: impl AsFd, mountpoint: &str) -> Result<(), Error> {
    let rootfs = rootfs.as_fd();
    let path = checked(mountpoint)?;
    let target = open_target(rootfs, &path, mount.is_directory(), mountpoint)?;
    refuse_occupied(rootfs, &target, mountpoint)?;
    linux::mount::attach(mount, &target)
        .map_err(|source| Error::Attach { mountpoint: mountpoint.to_owned(), source })
}

/// Unmounts what [`attach`] mounted on `mountpoint` inside `rootfs`; never the rootfs itself. Who has files of it open
/// keeps them.
///
/// # Errors
/// When nothing is mounted exactly there, or something is mounted beneath it.
pub fn detach(rootfs: impl AsFd, mountpoint: &str) -> Result<(), Error> {
    let rootfs = rootfs.as_fd();
    let path = checked(mountpoint)?;
    let failed = |source| Error::Detach { mountpoint: mountpoint.to_owned(), source };
    let none = || Error::NotMounted { mountpoint: mountpoint.to_owned() };
    let target = match in_root(rootfs, &path, OFlags::PATH, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(none()),
        other => {
            other.map_err(|source| Error::OpenMountpoint { mountpoint: mountpoint.to_owned(), source })?
        }
    };
    let found = identify(&target).map_err(failed)?;
    if !found.is_root || found.mount == identify(rootfs).map_err(failed)?.mount {
        return Err(none());
    }
    // MNT_DETACH would take them along, and whoever made them would not know.
    if let Some(child) = linux::mounts::beneath(&target, Features::get()).map_err(failed)? {
        let beneath = PathBuf::from(String::from_utf8_lossy(&child.mountpoint).into_owned());
        return Err(Error::Busy { mountpoint: mountpoint.to_owned(), beneath });
    }
    match linux::mount::detach(&target) {
        Err(Errno::INVAL) => Err(none()),
        other => other.map_err(failed),
    }
}

/// Opens the place to mount on, made where it is missing.
pub(crate) fn open_target(
    root: BorrowedFd<'_>,
    path: &Path,
    directory: bool,
    mountpoint: &str,
) -> Result<OwnedFd, Error> {
    let wrong = |expected| Error::MountpointType { mountpoint: mountpoint.to_owned(), expected };
    let opened = if directory {
        mkdir_in_root(root, path, Mode::from_raw_mode(0o755))
    } else {
        create_file_in_root(root, path, Mode::from_raw_mode(0o644))
    };
    opened.map_err(|source| match source {
        Errno::NOTDIR if directory => match in_root(root, path, OFlags::PATH, Mode::empty()) {
            Ok(_) => wrong("directory"),
            // Something on the way is the file.
            Err(_) => Error::OpenMountpoint { mountpoint: mountpoint.to_owned(), source },
        },
        Errno::ISDIR => wrong("file"),
        _ => Error::OpenMountpoint { mountpoint: mountpoint.to_owned(), source },
    })
}

fn refuse_occupied(rootfs: BorrowedFd<'_>, target: &OwnedFd, mountpoint: &str) -> Result<(), Error> {
    let failed = |source| Error::OpenMountpoint { mountpoint: mountpoint.to_owned(), source };
    let found = identify(target).map_err(failed)?;
    if !found.is_root {
        return Ok(());
    }
    if found.mount == identify(rootfs).map_err(failed)?.mount {
        return Err(Error::InvalidMountpoint { mountpoint: mountpoint.to_owned(), why: "is the root" });
    }
    Err(Error::Occupied { mountpoint: mountpoint.to_owned() })
}

/// A mountpoint as a path from the root: absolute, without `..`, and not the root itself.
fn checked(mountpoint: &str) -> Result<PathBuf, Error> {
    let wrong = |why| Error::InvalidMountpoint { mountpoint: mountpoint.to_owned(), why };
    if !mountpoint.starts_with('/') {
        return Err(wrong("is not absolute"));
    }
    if mountpoint.contains('\0') {
        return Err(wrong("has a NUL in it"));
    }
    let mut path = PathBuf::new();
    for component in Path::new(mountpoint).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(wrong("has .. in it")),
        }
    }
    if path.as_os_str().is_empty() { Err(wrong("is the root")) } else { Ok(path) }
}
