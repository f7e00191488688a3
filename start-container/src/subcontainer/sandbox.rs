//! Sandboxes: the outer boundary of what belongs together, a package's subcontainers for one.
//!
//! ```text
//! sandbox    user, network, ipc, pid, mount, uts, cgroup namespaces; /dev /sys /run; limits; our idle init
//!   own commands (exec, spawn)
//!   member   pid (beneath), mount, uts, cgroup namespaces; a rootfs; its /dev /sys and, if asked for, /run
//!   member
//! ```
//! A sandbox is what a subcontainer is: a rootfs (over an image or over nothing) and a leader. Its members say in their
//! records in which one they are. It ends with its leader, by the kernel's hand: the pid namespaces of its members are
//! beneath its own. It is destroyed after its members, so that its ids are nobody else's as long as data has them.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use images::Rootfs;
use linux::mount::MountAttr;
use protocol::ErrorKind;
use protocol::network::Network;
use protocol::process::{CommandOptions, Privileges as Asked};
use protocol::sandbox::{SandboxInfo, SandboxSettings};
use rustix::mount::MountPropagationFlags;
use serde::{Deserialize, Serialize};

use super::state::Stamp;
use super::{Io, Launch, Launched, Leader, Machine, Owner};
use crate::engine::dev_null;
use crate::engine::limits::Limited;
use crate::engine::privileges::Privileges;
use crate::error::{Failure, Result};

/// Where the group of a sandbox's own processes is, beneath the group of all of it.
const OWN: &str = "own";

/// What something with a rootfs is to others.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Role {
    /// Nothing.
    #[default]
    Alone,
    Sandbox,
    /// It is in the sandbox of this guid.
    In(String),
}

impl Role {
    pub(crate) fn of(rootfs: &Rootfs) -> Self {
        match rootfs.within() {
            Some(sandbox) => Self::In(sandbox.to_owned()),
            None if rootfs.sandbox().is_some() => Self::Sandbox,
            None => Self::Alone,
        }
    }

    /// The way to the group of its processes.
    pub(super) fn own_group<'a>(&'a self, guid: &'a str) -> Vec<&'a str> {
        match self {
            Self::Sandbox => vec![guid, OWN],
            _ => self.whole_group(guid),
        }
    }

    /// The way to the group in which everything is that ends with it.
    pub(super) fn whole_group<'a>(&'a self, guid: &'a str) -> Vec<&'a str> {
        match self {
            Self::In(sandbox) => vec![sandbox, guid],
            _ => vec![guid],
        }
    }
}

/// A sandbox that runs, as somebody needs it who is launched in it.
pub(super) struct Around {
    pub(super) guid: String,
    pub(super) leader: Leader,
    /// The groups that limit it, and the state that names them.
    pub(super) limited: (Option<Stamp>, Option<Limited>),
    /// Detached clones of its mounts, by their places.
    pub(super) trees: Vec<(&'static str, Arc<OwnedFd>)>,
}

/// What is refused before anything is made.
pub(super) fn check(settings: &SandboxSettings) -> Result<()> {
    if settings.network == Network::Host {
        return Err(Failure::new(ErrorKind::Invalid, "read network", "host")
            .because(std::io::Error::other("a sandbox has a network of its own: none, or a private one")));
    }
    Ok(())
}

impl Machine {
    /// Makes what is there of a sandbox that does not run. With an image, its own processes are that one's.
    ///
    /// Its owner is as in [`Machine::make_fs`].
    pub(crate) fn create_sandbox(
        &self,
        image: Option<&str>,
        name: Option<String>,
        throwaway: bool,
        settings: SandboxSettings,
        owner: Option<&Owner>,
    ) -> Result<Rootfs> {
        check(&settings)?;
        let guid = uuid::Uuid::new_v4().to_string();
        self.controllers.plan(&settings.limits)?;
        self.networking.check(&guid, &settings.network)?;
        let options = images::rootfs::Options {
            name,
            throwaway,
            guid: Some(guid),
            sandbox: Some(settings),
            ..Default::default()
        };
        self.make_fs(image, options, owner)
    }

    /// Starts a sandbox, with what it was made with. It goes on when this process ends.
    pub(crate) fn start_sandbox(&self, rootfs: &Rootfs) -> Result<Launched> {
        let settings = rootfs.sandbox().cloned().ok_or_else(|| no_sandbox(rootfs.guid()))?;
        let null = dev_null()?;
        let launch = Launch {
            command: None,
            init: false,
            options: &CommandOptions::default(),
            privileges: Privileges::plan(&Asked::default(), false, false)?,
            limits: settings.limits,
            network: Some(settings.network),
            publish_proc: false,
            stays: true,
            implicit: false,
            io: Io {
                stdio: [Arc::clone(&null), Arc::clone(&null), null],
                terminal: None,
                stderr_apart: false,
                own: false,
            },
        };
        self.launch_as(&Role::Sandbox, rootfs, &launch)
    }

    /// The rootfs of a sandbox.
    pub(crate) fn sandbox(&self, guid: &str) -> Result<Rootfs> {
        super::check_guid(guid)?;
        match self.rootfs(guid) {
            Ok(rootfs) if rootfs.sandbox().is_some() => Ok(rootfs),
            Ok(_) => Err(no_sandbox(guid)),
            Err(failure) if failure.kind == ErrorKind::NotFound => Err(no_sandbox(guid)),
            Err(failure) => Err(failure),
        }
    }

    /// The rootfs of those in a sandbox, oldest first.
    pub(crate) fn members(&self, guid: &str) -> Result<Vec<Rootfs>> {
        let mut all = Rootfs::list(&self.data_dir).map_err(Failure::from)?;
        all.retain(|rootfs| rootfs.within() == Some(guid));
        Ok(all)
    }

    /// One sandbox.
    pub(crate) fn sandbox_info(&self, rootfs: &Rootfs) -> Result<SandboxInfo> {
        let settings = rootfs.sandbox().cloned().ok_or_else(|| no_sandbox(rootfs.guid()))?;
        let info = self.info(rootfs)?;
        let members = self.members(rootfs.guid())?;
        Ok(SandboxInfo {
            guid: info.guid,
            name: info.name,
            image_id: rootfs.image().map(|image| image.to_string()),
            rootfs: info.rootfs,
            created: info.created,
            throwaway: info.throwaway,
            first_id: info.first_id.unwrap_or_default(),
            state: info.state,
            settings,
            mounts: info.mounts,
            subcontainers: members.iter().map(|member| member.guid().to_owned()).collect(),
        })
    }

    /// Every sandbox, oldest first.
    pub(crate) fn sandboxes(&self) -> Result<Vec<SandboxInfo>> {
        let mut all = Vec::new();
        for rootfs in Rootfs::list(&self.data_dir).map_err(Failure::from)? {
            if rootfs.sandbox().is_none() {
                continue;
            }
            match self.sandbox_info(&rootfs) {
                Ok(info) => all.push(info),
                // Destroyed meanwhile.
                Err(failure) if failure.kind == ErrorKind::NotFound => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(all)
    }

    /// The sandbox that somebody is about to be launched in.
    pub(super) fn around(&self, guid: &str, shared_run: bool) -> Result<Around> {
        let leader = self.leader(guid)?.ok_or_else(|| not_running(guid))?;
        let private = MountAttr { propagation: Some(MountPropagationFlags::PRIVATE), ..MountAttr::default() };
        let clone = |place: &'static str| match linux::mount::clone_from(
            &leader.process.pidfd,
            &place[1..],
            &private,
        ) {
            Ok(tree) => Ok((place, Arc::new(tree))),
            Err(_) if leader.is_ending() => Err(not_running(guid)),
            Err(errno) => Err(Failure::kernel("share with sandbox", place, errno)),
        };
        let places = ["/dev", "/sys"].into_iter().chain(shared_run.then_some("/run"));
        let trees = places.map(clone).collect::<Result<_>>()?;
        let limited = self.limited(&leader)?;
        Ok(Around { guid: guid.to_owned(), leader, limited, trees })
    }
}

pub(super) fn not_running(guid: &str) -> Failure {
    Failure::new(ErrorKind::NotRunning, "launch in sandbox", guid)
        .because(std::io::Error::other("its init has ended, and everything in it"))
}

fn no_sandbox(guid: &str) -> Failure {
    Failure::new(ErrorKind::NotFound, "find sandbox", guid)
}
