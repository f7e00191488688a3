//! Subcontainers and what is mounted in them.

use protocol::logs::LogsParams;
use protocol::session::{AcquireParams, ConnectParams, HealthParams, LockParams};
use protocol::subcontainer::{
    CreateFsParams, Empty, GuidParams, IdMap, Mount, MountParams, MountSource, OWN_IDS, UnmountParams,
};

use super::{About, Confine, Own, refuse, unless_absent};
use crate::capability::Capability;
use crate::error::Result;

impl Confine for CreateFsParams {
    fn about(&self) -> About<'_> {
        About::Image(&self.image_id)
    }

    fn subject(&self) -> String {
        self.name.clone().unwrap_or_default()
    }

    fn confine(self, own: &Own) -> Result<Self> {
        let Self { image_id, name, throwaway: _, detached, userns, sandbox, rootfs_size } = self;
        unless_absent(&userns, "userns", "its ids are those of the package's sandbox")?;
        unless_absent(&sandbox, "sandbox", "it is in the package's own")?;
        let Some(digest) = own.images.get(&image_id) else {
            return refuse("imageId", "it is none of the manifest's images");
        };
        let name = name.map_or_else(|| own.package.clone(), |name| format!("{}-{name}", own.package));
        Ok(Self {
            image_id: digest.clone(),
            name: Some(name),
            // It is gone when its package is: nothing of it need outlive a crash of the machine.
            throwaway: true,
            detached,
            userns: false,
            sandbox: Some(own.sandbox.clone()),
            rootfs_size,
        })
    }
}

impl Confine for GuidParams {
    fn about(&self) -> About<'_> {
        About::Guid(&self.guid)
    }

    fn confine(self, _: &Own) -> Result<Self> {
        let Self { guid } = self;
        Ok(Self { guid })
    }
}

impl Confine for Empty {
    fn about(&self) -> About<'_> {
        About::Nothing
    }

    fn confine(self, _: &Own) -> Result<Self> {
        let Self {} = self;
        Ok(Self {})
    }
}

impl Confine for MountParams {
    fn about(&self) -> About<'_> {
        About::Guid(&self.guid)
    }

    fn also(&self) -> Option<Capability> {
        matches!(self.mount.source, MountSource::Backup { .. }).then_some(Capability::Backups)
    }

    fn subject(&self) -> String {
        let what = match &self.mount.source {
            MountSource::Volume { volume_id, .. } => format!("volume {volume_id}"),
            MountSource::Assets { .. } => "assets".to_owned(),
            MountSource::Pointer { package_id, volume_id, .. } => {
                format!("volume {volume_id} of {package_id}")
            }
            MountSource::Rpc { package_id } => format!("socket of {package_id}"),
            MountSource::Backup { .. } => "backup".to_owned(),
            MountSource::Tmpfs { .. } => "tmpfs".to_owned(),
        };
        format!("{} {what} on {}", self.guid, self.mount.mountpoint)
    }

    fn confine(self, own: &Own) -> Result<Self> {
        let Self { guid, mount } = self;
        let Mount { source, mountpoint, readonly, idmap } = mount;
        match &source {
            MountSource::Volume { volume_id, subpath: _, filetype: _ } => {
                if !own.volumes.contains(volume_id) {
                    return refuse("volumeId", "it is none of the manifest's volumes");
                }
            }
            // Those of its bundle; the host sees to that.
            MountSource::Assets { subpath: _, filetype: _ } => {}
            MountSource::Pointer { package_id, volume_id, subpath: _, filetype: _ } => {
                if !own.pointers.contains(&(package_id.clone(), volume_id.clone())) {
                    return refuse(
                        "pointer",
                        "it is no volume of a dependency that the manifest's dependencies name",
                    );
                }
            }
            MountSource::Rpc { package_id } => {
                if *package_id != own.package {
                    return refuse("rpc", "it is the socket of another package");
                }
            }
            // Its own part of the target; see `also`.
            MountSource::Backup { subpath: _, filetype: _ } => {}
            MountSource::Tmpfs { size: _, mode: _ } => {}
        }
        for IdMap { from_id, to_id, range } in &idmap {
            let within = |first: u32| first.checked_add(*range).is_some_and(|end| end <= OWN_IDS);
            if !within(*from_id) || !within(*to_id) {
                return refuse("idmap", "ids are 0 to 65,535");
            }
        }
        Ok(Self { guid, mount: Mount { source, mountpoint, readonly, idmap } })
    }
}

impl Confine for UnmountParams {
    fn about(&self) -> About<'_> {
        About::Guid(&self.guid)
    }

    fn subject(&self) -> String {
        format!("{} {}", self.guid, self.mountpoint)
    }

    fn confine(self, _: &Own) -> Result<Self> {
        let Self { guid, mountpoint } = self;
        Ok(Self { guid, mountpoint })
    }
}

impl Confine for LogsParams {
    fn about(&self) -> About<'_> {
        About::Guid(&self.guid)
    }

    fn confine(self, _: &Own) -> Result<Self> {
        let Self { guid, follow, since, until, tail, stream } = self;
        Ok(Self { guid, follow, since, until, tail, stream })
    }
}

impl Confine for ConnectParams {
    fn about(&self) -> About<'_> {
        About::Guid(&self.guid)
    }

    fn subject(&self) -> String {
        format!("{} port {}", self.guid, self.port)
    }

    fn confine(self, _: &Own) -> Result<Self> {
        // Made in the sandbox's own network: there is nothing else to reach.
        let Self { guid, port, address, timeout } = self;
        Ok(Self { guid, port, address, timeout })
    }
}

impl Confine for HealthParams {
    fn about(&self) -> About<'_> {
        About::Guid(&self.guid)
    }

    fn subject(&self) -> String {
        format!("{} {}", self.guid, self.name)
    }

    fn confine(self, _: &Own) -> Result<Self> {
        let Self { guid, name, status, message } = self;
        Ok(Self { guid, name, status, message })
    }
}

/// Locks of packages have names of their own: no package holds, or waits for, what others agree on.
fn own_lock(own: &Own, name: &str) -> Result<String> {
    if name.is_empty() || name.len() > 128 {
        return Err(crate::Error::Invalid("the name of a package's lock has 1 to 128 bytes".to_owned()));
    }
    Ok(format!("package/{}/{name}", own.package))
}

impl Confine for AcquireParams {
    fn about(&self) -> About<'_> {
        About::Nothing
    }

    fn subject(&self) -> String {
        self.name.clone()
    }

    fn confine(self, own: &Own) -> Result<Self> {
        let Self { name, wait, purpose } = self;
        Ok(Self { name: own_lock(own, &name)?, wait, purpose })
    }
}

impl Confine for LockParams {
    fn about(&self) -> About<'_> {
        About::Nothing
    }

    fn subject(&self) -> String {
        self.name.clone()
    }

    fn confine(self, own: &Own) -> Result<Self> {
        let Self { name } = self;
        Ok(Self { name: own_lock(own, &name)? })
    }
}
