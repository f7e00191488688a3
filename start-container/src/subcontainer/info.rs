//! What there is to tell of subcontainers.

use images::Rootfs;
use protocol::ErrorKind;
use protocol::network::Network;
use protocol::stats::{RootfsStats, StatsResult};
use protocol::subcontainer::{RunState, SubcontainerInfo};
use rustix::io::Errno;

use super::sandbox::Role;
use super::state::{self, State};
use super::{Machine, stats};
use crate::error::{Failure, Result};

impl Machine {
    /// One subcontainer.
    pub(crate) fn info(&self, rootfs: &Rootfs) -> Result<SubcontainerInfo> {
        // One that cannot be read says as little as none.
        let state = state::read(&self.run_dir, rootfs.guid()).unwrap_or_default();
        let run_state = match (self.find_leader(rootfs.guid(), &state)?, state) {
            (Some(leader), _) => {
                // Those of a sandbox bound who is in it, who shares its parts in any case.
                let limits = match &leader.record.limited_by {
                    Some(sandbox) => {
                        state::read(&self.run_dir, sandbox)?.leader.map(|it| it.limits).unwrap_or_default()
                    }
                    None => leader.record.limits.clone(),
                };
                let network = leader.record.network.clone();
                let settings = leader.record.settings.clone();
                let mut allowed = leader.record.privileges.allowed(limits, network, settings);
                allowed.shared_dev_sys |= rootfs.within().is_some();
                RunState::Running {
                    pid: leader.process.pid as u32,
                    since: leader.record.since,
                    process: None,
                    allowed: Box::new(allowed),
                    network: match leader.record.network {
                        Network::Private { .. } => {
                            self.networking.info(rootfs.within().unwrap_or(rootfs.guid()))?
                        }
                        _ => None,
                    },
                }
            }
            (None, State { exited: Some(outcome), .. }) => RunState::Exited { outcome },
            (None, State { leader: Some(record), .. }) => {
                RunState::Exited { outcome: self.unseen_end(rootfs.guid(), &record) }
            }
            (None, _) => RunState::Created,
        };
        Ok(SubcontainerInfo {
            guid: rootfs.guid().to_owned(),
            name: rootfs.name().map(str::to_owned),
            image_id: rootfs.image().map(|image| image.to_string()).unwrap_or_default(),
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            rootfs: rootfs.path().display().to_string(),
            created: rootfs.created(),
            throwaway: rootfs.throwaway(),
            first_id: rootfs.ids(),
            sandbox: rootfs.within().map(str::to_owned),
            rootfs_size: rootfs.size(),
            state: run_state,
            mounts: rootfs.mounts().map_err(Failure::from)?,
            health: Vec::new(),
        })
    }

    /// The same, with what its image would have started. One whose image is gone says nothing of that.
    pub(crate) fn inspect(&self, rootfs: &Rootfs) -> Result<SubcontainerInfo> {
        let info = self.info(rootfs)?;
        let image = self.image_config(rootfs).unwrap_or_default();
        Ok(SubcontainerInfo { entrypoint: image.entrypoint, cmd: image.cmd, ..info })
    }

    /// Every subcontainer, oldest first.
    pub(crate) fn list(&self) -> Result<Vec<SubcontainerInfo>> {
        let mut all = Vec::new();
        for rootfs in Rootfs::list(&self.data_dir).map_err(Failure::from)? {
            if rootfs.sandbox().is_some() {
                continue;
            }
            match self.info(&rootfs) {
                Ok(info) => all.push(info),
                // Destroyed meanwhile.
                Err(failure) if failure.kind == ErrorKind::NotFound => {}
                Err(failure) => return Err(failure),
            }
        }
        all.sort_by_key(|info| info.created);
        Ok(all)
    }

    /// What everything inside uses together.
    pub(crate) fn stats(&self, guid: &str) -> Result<StatsResult> {
        let rootfs = self.rootfs(guid)?;
        let role = Role::of(&rootfs);
        let disk = rootfs.usage().map_err(Failure::from)?.zip(rootfs.size());
        let disk = disk.map(|(used_bytes, size_bytes)| RootfsStats { used_bytes, size_bytes });
        let Some(group) = self.hierarchy.existing(&role.whole_group(guid))? else {
            return Ok(stats::of(None, &[], disk));
        };
        let pids = match group.processes() {
            // Removed meanwhile.
            Err(Errno::NOENT | Errno::NODEV) => return Ok(stats::of(None, &[], disk)),
            pids => pids.map_err(|errno| Failure::kernel("list processes of", guid, errno))?,
        };
        Ok(stats::of(self.controllers.stats(guid)?, &pids, disk))
    }
}
