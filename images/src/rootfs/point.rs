//! `D/subcontainers` as a private mount of its own, made with the first rootfs and gone with the last.
//!
//! On a machine run by systemd every mount is shared: each rootfs would appear in the namespace of every service,
//! and stay there when it is gone here.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use linux::kernel::Features;
use linux::mount::MountAttr;
use linux::step::{Step, during};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags};

use crate::store::flock;
use linux::tree::{open_dir, text_names_in};

/// Whose mount is at `D/subcontainers`.
enum Mounted {
    Nothing,
    Ours,
    /// The operator put a file system of its own there. It serves as well, and is not ours to take away.
    Theirs,
}

/// A handle on it, made private where it was not. While it is open, [`release`] does nothing.
pub(super) fn attach(data_dir: &Path) -> Result<OwnedFd, Errno> {
    let path = data_dir.join("subcontainers");
    {
        // Shared, to not see it between attached and private.
        let _lock = lock(data_dir, FlockOperation::LockShared)?;
        let dir = open_dir(&path)?;
        if let Mounted::Ours = mounted(data_dir, &dir)? {
            return Ok(dir);
        }
    }
    let _lock = lock(data_dir, FlockOperation::LockExclusive)?;
    let dir = open_dir(&path)?;
    if let Mounted::Nothing = mounted(data_dir, &dir)? {
        let tree = linux::mount::clone_tree(&dir, false, &MountAttr::default(), Features::get())?;
        during(Step::MakePoint, || linux::mount::attach(tree, &dir))?;
    }
    let dir = open_dir(&path)?;
    // After the move: attached to a shared mount, a mount becomes shared.
    let private = MountAttr { propagation: Some(MountPropagationFlags::PRIVATE), ..MountAttr::default() };
    linux::mount::mount_setattr(&dir, false, &private)?;
    Ok(dir)
}

/// Takes the mount away where nothing is mounted in it any more.
pub(super) fn release(data_dir: &Path) -> Result<(), Errno> {
    /// Who looks at the directory holds it for a moment, and may be somebody who was here before the last rootfs
    /// went, and does not come again.
    const PATIENCE: u32 = 20;
    let path = data_dir.join("subcontainers");
    let is_empty = || text_names_in(open_dir(&path)?).map(|names| names.is_empty());
    match is_empty() {
        Ok(true) => {}
        Ok(false) | Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    let _lock = lock(data_dir, FlockOperation::LockExclusive)?;
    for _ in 0..PATIENCE {
        let ours = matches!(mounted(data_dir, &open_dir(&path)?)?, Mounted::Ours);
        if !ours || !is_empty()? {
            return Ok(());
        }
        match during(Step::RemovePoint, || rustix::mount::unmount(&path, UnmountFlags::NOFOLLOW)) {
            Err(Errno::BUSY) => std::thread::sleep(Duration::from_millis(1)),
            Err(Errno::INVAL) => return Ok(()),
            result => return result,
        }
    }
    // Somebody is about to mount a rootfs, or stands in it.
    Ok(())
}

fn mounted(data_dir: &Path, dir: &OwnedFd) -> Result<Mounted, Errno> {
    if !linux::mount::identify(dir)?.is_root {
        return Ok(Mounted::Nothing);
    }
    let (its, above) = (rustix::fs::fstat(dir)?.st_dev, rustix::fs::stat(data_dir)?.st_dev);
    Ok(if its == above { Mounted::Ours } else { Mounted::Theirs })
}

fn lock(data_dir: &Path, how: FlockOperation) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(data_dir.join("rootfs/lock"), flags, Mode::from_raw_mode(0o600))?;
    flock(&file, how).map(|()| file)
}
