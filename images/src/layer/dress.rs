//! Owner, mode, attributes and times: what an entry looks like, once it is there.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::failure::{Failure, kernel};
use crate::tar::Entry;

/// Does an image's attribute go onto a file of ours? `None`: it is refused.
pub(super) fn judge_xattr(name: &[u8]) -> Option<bool> {
    match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => Some(true),
        // Labels and signatures belong to the policy of the machine they were made on.
        b"security.selinux" | b"security.ima" | b"security.evm" | b"security.apparmor" => Some(false),
        _ if name.starts_with(b"security.SMACK64") => Some(false),
        // Overlay mounted with userxattr obeys these.
        _ if name.starts_with(b"user.overlay.") => None,
        _ if name.starts_with(b"user.") => Some(true),
        // Above all trusted.overlay.*: redirect, metacopy and opaque are ours to write.
        _ => None,
    }
}

/// Is it an attribute that a layer made of a directory here takes along?
pub(crate) fn keep_xattr(name: &[u8]) -> bool {
    judge_xattr(name) == Some(true)
}

/// Owner, mode and attributes, in the order in which none undoes another: chown clears set-uid bits and
/// capabilities.
pub(super) fn dress(handle: BorrowedFd<'_>, entry: &Entry) -> Result<(), Failure> {
    let (uid, gid) = owner(entry);
    rustix::fs::fchown(handle, Some(uid), Some(gid)).map_err(kernel("set owner of"))?;
    rustix::fs::fchmod(handle, Mode::from_raw_mode(entry.mode)).map_err(kernel("set mode of"))?;
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| keep_xattr(name)) {
        rustix::fs::fsetxattr(handle, &name[..], value, XattrFlags::empty())
            .map_err(kernel("set attributes of"))?;
    }
    Ok(())
}

pub(super) fn set_opaque(directory: BorrowedFd<'_>) -> Result<(), Failure> {
    rustix::fs::fsetxattr(directory, "trusted.overlay.opaque", b"y", XattrFlags::empty())
        .map_err(kernel("make opaque the directory of"))
}

fn owner(entry: &Entry) -> (Uid, Gid) {
    (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid))
}

pub(super) fn timestamps((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Owner, mode, attributes and time of what cannot be opened without effects.
pub(super) fn dress_special(
    parent: BorrowedFd<'_>,
    name: &[u8],
    entry: &Entry,
    has_mode: bool,
) -> Result<(), Failure> {
    let (uid, gid) = owner(entry);
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(kernel("set owner of"))?;
    if has_mode {
        // It was just made by us and is no link, and nobody else comes here: following is harmless, and
        // fchmodat2 is younger (6.6) than the kernels we run on.
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
            .map_err(kernel("set mode of"))?;
    }
    for (key, value) in entry.xattrs.iter().filter(|(key, _)| keep_xattr(key)) {
        let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        match rustix::fs::lsetxattr(&path[..], &key[..], value, XattrFlags::empty()) {
            // The kernel has no user attributes on links and devices.
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(Failure::Kernel("set attributes of", errno)),
        }
    }
    rustix::fs::utimensat(parent, name, &timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(kernel("set times of"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i5_only_harmless_attributes_come_from_an_image() {
        for name in ["user.note", "security.capability", "system.posix_acl_access"] {
            assert_eq!(judge_xattr(name.as_bytes()), Some(true), "{name}");
        }
        for name in
            ["trusted.overlay.redirect", "trusted.x", "user.overlay.opaque", "system.sockprotoname", "odd"]
        {
            assert_eq!(judge_xattr(name.as_bytes()), None, "{name}");
        }
    }
}
