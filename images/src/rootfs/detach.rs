//! Taking a mount away together with what others mounted beneath it.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

use crate::tree::{open_dir, proc_path, read_all};

/// Unmounts everything at and beneath `target`; nothing there is fine.
pub(super) fn detach(target: &Path) -> Result<(), Errno> {
    loop {
        // The common case is one mount with nothing in it. This call takes no other.
        match unmount(target, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) => {
                empty(target)?;
                // Busy for another reason: a handle, a process that is about to end.
                unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
            }
            Err(errno) => return Err(errno),
        }
    }
}

/// Rounds until everything beneath is gone: each takes what the one before uncovered.
const ROUNDS: usize = 64;

/// Unmounts what is beneath, each made a slave first. Somebody may have put the machine's own /dev or /sys there
/// with `mount --rbind`; as peers of it, taking them away here would take away /dev/pts of the machine.
fn empty(target: &Path) -> Result<(), Errno> {
    for _ in 0..ROUNDS {
        let root = open_dir(target)?;
        let mut mounts = Vec::new();
        for inner in beneath(target)? {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // Mounts are met on the way, links are not: the tree is a container's.
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            match rustix::fs::openat2(&root, &inner[..], flags, Mode::empty(), resolve) {
                Ok(mount) => mounts.push(mount),
                // Unmounted since the list was read, or covered by another.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(errno),
            }
        }
        if mounts.is_empty() {
            return Ok(());
        }
        for mount in &mounts {
            gone_is_fine(mount_change(proc_path(mount), MountPropagationFlags::DOWNSTREAM))?;
        }
        for mount in mounts.iter().rev() {
            gone_is_fine(unmount(proc_path(mount), UnmountFlags::DETACH))?;
        }
    }
    Ok(())
}

fn gone_is_fine(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::INVAL) => Ok(()),
        result => result,
    }
}

/// Mount points beneath, relative to it.
fn beneath(target: &Path) -> Result<Vec<Vec<u8>>, Errno> {
    let target = target.canonicalize().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let table = read_all(rustix::fs::open("/proc/self/mountinfo", flags, Mode::empty())?)?;
    let mut inside = Vec::new();
    for line in table.split(|byte| *byte == b'\n') {
        let Some(point) = line.split(|byte| *byte == b' ').nth(4) else { continue };
        let point = unescape(point);
        if let Some(rest) = point.strip_prefix(target.as_os_str().as_bytes())
            && let Some(rest) = rest.strip_prefix(b"/")
        {
            inside.push(rest.to_vec());
        }
    }
    Ok(inside)
}

/// Space, tab, newline and backslash are octal in mountinfo.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, more @ ..] = rest {
        rest = more;
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) = (*first, more) {
            plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = after;
        } else {
            plain.push(*first);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s12_mount_points_with_odd_names_are_read() {
        assert_eq!(unescape(br"/a\040b\134c\011"), b"/a b\\c\t");
        assert_eq!(unescape(br"/plain\"), br"/plain\");
    }
}
