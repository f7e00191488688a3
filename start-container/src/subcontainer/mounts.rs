//! Mounts of a subcontainer, that runs or not.

use linux::step::{Step, during};
use protocol::ErrorKind;
use protocol::subcontainer::Mount;
use volumes::Package;

use super::{Machine, as_root_of};
use crate::error::{Failure, Result};

impl Machine {
    /// Adds a mount; a running container sees it at once.
    pub(crate) fn mount(&self, guid: &str, mount: &Mount) -> Result<()> {
        self.mount_with(guid, mount, None)
    }

    /// The same, of a package: with its own volumes and assets.
    pub(crate) fn mount_with(&self, guid: &str, mount: &Mount, package: Option<Package<'_>>) -> Result<()> {
        let _lock = self.lock(guid)?;
        let rootfs = self.rootfs(guid)?;
        rootfs.ensure_mounted().map_err(Failure::from)?;
        let mounts = rootfs.mounts().map_err(Failure::from)?;
        if mounts.iter().any(|other| same_path(&other.mountpoint, &mount.mountpoint)) {
            return Err(Failure::new(ErrorKind::Exists, "mount on", &mount.mountpoint)
                .because(std::io::Error::other("mountpoint is in use already")));
        }
        let sources = self.sources()?;
        let prepared = match package {
            Some(package) => sources.prepare_for(mount, package, rootfs.ids()),
            None => sources.prepare(mount, rootfs.ids()),
        };
        let prepared = prepared.map_err(Failure::from)?;
        let root = rootfs.handle().map_err(Failure::from)?;
        {
            // A mountpoint that is missing is made.
            let _owner = as_root_of(rootfs.ids())?;
            during(Step::Mount, || volumes::attach(&prepared, &root, &mount.mountpoint))
                .map_err(Failure::from)?;
        }
        let written = rootfs.update_mounts(|mounts| {
            mounts.push(mount.clone());
            Ok(())
        });
        if written.is_err() {
            // What is not written down must not be there.
            volumes::detach(&root, &mount.mountpoint).map_err(Failure::from)?;
        }
        written
    }

    /// Takes a mount away, from a running container too.
    pub(crate) fn unmount(&self, guid: &str, mountpoint: &str) -> Result<()> {
        let _lock = self.lock(guid)?;
        let rootfs = self.rootfs(guid)?;
        let mounts = rootfs.mounts().map_err(Failure::from)?;
        if !mounts.iter().any(|mount| same_path(&mount.mountpoint, mountpoint)) {
            return Err(Failure::new(ErrorKind::NotFound, "unmount", mountpoint)
                .because(std::io::Error::other("nothing of ours is mounted there")));
        }
        let root = rootfs.handle().map_err(Failure::from)?;
        during(Step::Unmount, || volumes::detach(&root, mountpoint)).map_err(Failure::from)?;
        rootfs.update_mounts(|mounts| {
            mounts.retain(|mount| !same_path(&mount.mountpoint, mountpoint));
            Ok(())
        })
    }
}

/// Two spellings of one mountpoint.
pub(super) fn same_path(a: &str, b: &str) -> bool {
    let parts = |path: &str| {
        path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect::<Vec<_>>()
    };
    parts(a) == parts(b)
}
