//! Taking a mount away together with what others mounted beneath it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use linux::kernel::Features;
use linux::mount::{MountAttr, mount_setattr};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, unmount};

use linux::tree::open_dir;

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
    let slave = MountAttr { propagation: Some(MountPropagationFlags::DOWNSTREAM), ..MountAttr::default() };
    for _ in 0..ROUNDS {
        let root = open_dir(target)?;
        let mut mounts = Vec::new();
        for inner in beneath(target)? {
            // Mounts are met on the way, links are not: the tree is a container's.
            match linux::resolve::beneath_no_links(
                &root,
                inner,
                OFlags::PATH | OFlags::NOFOLLOW,
                Mode::empty(),
            ) {
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
            gone_is_fine(mount_setattr(mount, false, &slave))?;
        }
        for mount in mounts.iter().rev() {
            gone_is_fine(linux::mount::detach(mount))?;
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
fn beneath(target: &Path) -> Result<Vec<PathBuf>, Errno> {
    let target = target.canonicalize().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let mounts = linux::mounts::list(None, Features::get())?;
    let inside = |point: &[u8]| {
        let inner = Path::new(OsStr::from_bytes(point)).strip_prefix(&target).ok()?.to_owned();
        (!inner.as_os_str().is_empty()).then_some(inner)
    };
    Ok(mounts.iter().filter_map(|mount| inside(&mount.mountpoint)).collect())
}
