//! Starting a leader.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};

use images::Rootfs;
use linux::spawn::{Program, Script};
use linux::step::{Step, during};
use protocol::ErrorKind;
use protocol::image::ImageConfig;
use protocol::limits::Limits;
use protocol::network::Network;
use protocol::process::CommandOptions;
use rustix::fs::{Mode, OFlags};

use super::exec::streams;
use super::leader::{ended_with_its_caller, root_of, unpublish_proc};
use super::sandbox::{self, Around, Role};
use super::state::{self, LeaderRecord, State};
use super::update::Seen;
use super::{Io, Leader, Machine, as_root_of, now};
use crate::engine::cgroup::Group;
use crate::engine::guard::Guard;
use crate::engine::hand::Begun;
use crate::engine::limits::Limited;
use crate::engine::plan::Surroundings;
use crate::engine::privileges::Privileges;
use crate::engine::process::Process;
use crate::engine::settings::{self, Own, Settings};
use crate::engine::terminal::Terminal;
use crate::engine::{compile, plan, user};
use crate::error::{Failure, Result};

/// A leader that was started.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) leader: Leader,
    /// The host's end of its terminal, if it has one.
    pub(crate) terminal: Option<OwnedFd>,
    /// What ends it when this process is killed, if that is a command line.
    pub(crate) guard: Option<Guard>,
}

/// What to launch.
#[derive(Clone, Debug)]
pub(crate) struct Launch<'a> {
    /// None: our idle init.
    pub(crate) command: Option<&'a [String]>,
    /// Run the command beneath our init.
    pub(crate) init: bool,
    pub(crate) options: &'a CommandOptions,
    pub(crate) privileges: Privileges,
    pub(crate) limits: Limits,
    /// None: the machine's, or that of its sandbox.
    pub(crate) network: Option<Network>,
    /// Show the container's proc on the host side of the rootfs.
    pub(crate) publish_proc: bool,
    /// It goes on when this process ends, whoever this is.
    pub(crate) stays: bool,
    /// Nobody has asked for it: a command needs it.
    pub(crate) implicit: bool,
    pub(crate) io: Io,
}

/// What a leader needs to be known after the end of who launched it.
pub(super) struct Survival<'a> {
    /// It goes on then.
    stays: bool,
    /// Where our init leaves its exit code.
    exit_file: Option<Arc<OwnedFd>>,
    write_down: &'a dyn Fn(&LeaderRecord) -> Result<()>,
}

impl Machine {
    /// Starts the leader.
    pub(crate) fn launch(&self, rootfs: &Rootfs, launch: &Launch<'_>) -> Result<Launched> {
        let role = Role::of(rootfs);
        let refused = |why: &'static str| {
            Err(Failure::new(ErrorKind::Invalid, "launch in", rootfs.guid())
                .because(std::io::Error::other(why)))
        };
        match &role {
            Role::Sandbox => return refused("a sandbox is led by our init, and started as a sandbox"),
            Role::In(_) if launch.network.is_some() => return refused("its network is that of its sandbox"),
            Role::In(_) if launch.limits != Limits::default() => {
                return refused("it is limited with its sandbox, which takes the limits");
            }
            _ => {}
        }
        self.launch_as(&role, rootfs, launch)
    }

    pub(super) fn launch_as(&self, role: &Role, rootfs: &Rootfs, launch: &Launch<'_>) -> Result<Launched> {
        let guid = rootfs.guid();
        let lock = self.lock(guid)?;
        let state = lock.read()?;
        if let Some(leader) = self.find_leader(guid, &state)?
            && !ended_with_its_caller(&leader)
        {
            let pid = leader.process.pid;
            return Err(Failure::new(
                ErrorKind::Exists,
                "launch in",
                format!("{guid} (its leader {pid} runs)"),
            ));
        }
        let plan = self.controllers.plan(&launch.limits)?;
        let userns = rootfs.ids().is_some();
        let settings = settings::plan(launch.options, &Settings::default(), &Own::look()?, userns)?;
        self.networking.check(guid, launch.network.as_ref().unwrap_or(&Network::Host))?;
        let around = match role {
            Role::In(sandbox) => Some(self.around(sandbox, launch.privileges.shared_run)?),
            _ => None,
        };
        // What an earlier leader had.
        if state.leader.is_some() || state.limiting {
            self.end_all(guid, role, state.limited())?;
        }
        let next = State { data_dir: Some(self.data_dir.clone()), limiting: plan.is_some(), ..state.clone() };
        if next.limiting {
            lock.write(&next)?;
        }
        let limited = plan.map(|plan| {
            let (controllers, guid) = (Arc::clone(&self.controllers), guid.to_owned());
            self.hand.begin(move || controllers.create(&guid, &plan))
        });
        let launched = {
            let write_down = |leader: &LeaderRecord| {
                let leader = Some(leader.clone());
                lock.write(&State { leader, exited: None, limiting: false, ..next.clone() })
            };
            // With a daemon, what is launched goes on.
            let stays = launch.stays || self.sealed.is_some();
            let of_init = launch.command.is_none() || launch.init;
            let exit_file = (stays && of_init).then(|| lock.exit_file()).transpose();
            let launched = exit_file.and_then(|file| {
                let end = Survival { stays, exit_file: file.map(Arc::new), write_down: &write_down };
                self.launch_in(around.as_ref(), rootfs, launch, &settings, limited, &end)
            });
            launched.map_err(|failure| match &around {
                // Whatever it was that failed, that is why.
                Some(around) if around.leader.is_ending() => sandbox::not_running(&around.guid),
                _ => failure,
            })
        };
        if let (Ok(_), Some(former)) = (&launched, &state.leader) {
            // Who waited for its end will find that of another one written down.
            self.nobody_asks_for(former.pid);
        }
        if launched.is_err() {
            // The failure is what the caller must hear of; a group that stays is removed by `destroy`.
            let left = self.end_all(guid, role, next.limiting);
            if launch.publish_proc {
                unpublish_proc(&rootfs.path());
            }
            if state == State::default() && left.is_ok() {
                // Nothing was known before. What stays is removed by `destroy`, too.
                let _left = lock.remove();
            } else if next.limiting && left.is_ok() {
                if let Some(former) = &state.leader {
                    self.nobody_asks_for(former.pid);
                }
                let _left =
                    lock.write(&State { last: state.terms(), leader: None, limiting: false, ..state });
            }
        }
        launched
    }

    /// Everything of a launch that undoing the groups undoes.
    pub(super) fn launch_in(
        &self,
        around: Option<&Around>,
        rootfs: &Rootfs,
        launch: &Launch<'_>,
        settings: &settings::Planned,
        limited: Option<Begun<Limited>>,
        survival: &Survival<'_>,
    ) -> Result<Launched> {
        let role = &Role::of(rootfs);
        let guid = rootfs.guid();
        let all = match role {
            Role::In(sandbox) => {
                // Not made again by somebody who finds it gone.
                let sandbox =
                    self.hierarchy.existing(&[sandbox])?.ok_or_else(|| sandbox::not_running(sandbox))?;
                sandbox.lasting_child(guid)?
            }
            Role::Sandbox => {
                let [_, own] = role.own_group(guid)[..] else { return Err(sandbox::not_running(guid)) };
                self.hierarchy.create(guid)?.lasting_child(own)?
            }
            Role::Alone => self.hierarchy.create(guid)?,
        };
        // One of its own: the guard of an earlier leader may still be at work on that one's.
        let group = all.child(self.command_name())?;
        rootfs.ensure_mounted().map_err(Failure::from)?;
        let root = rootfs.handle().map_err(Failure::from)?;
        let image = self.image_config(rootfs)?;
        // Our own init is not the image's: it runs as root, in the root directory.
        let of_init = ImageConfig::default();
        let idle = ["start-container-init".to_owned()];
        let command = plan::Command {
            args: launch.command.unwrap_or(&idle),
            options: launch.options,
            image: if launch.command.is_some() { &image } else { &of_init },
            terminal: launch.io.terminal.is_some(),
        };
        let user = user::look_up(root.as_fd(), command.user())?;
        let process = plan::process(&command, &user, &launch.privileges, settings)?;
        let cwd = process.cwd().clone();
        let hostname = rootfs.name().filter(|name| is_hostname(name)).unwrap_or_else(|| &guid[..12]);
        let first_id = rootfs.ids();
        let surroundings = match (role, around) {
            (_, Some(around)) => Surroundings::In(around.leader.process.pid),
            (Role::Sandbox, None) => Surroundings::Sandbox,
            (_, None) => Surroundings::Machine,
        };
        let spec = plan::container(process, hostname, &launch.privileges, first_id, surroundings)?;
        let its_network = match around {
            Some(around) => around.leader.record.network.clone(),
            None => launch.network.clone().unwrap_or_default(),
        };
        let network = match around {
            Some(around) => {
                let leader = &around.leader.process.pidfd;
                Some(self.networking.join_sandbox(&around.guid, leader, &its_network)?)
            }
            None => {
                // A sandbox's is its members', too.
                let least = launch.privileges.are_least() && *role == Role::Alone;
                let alone = least && rootfs.was_alone();
                self.networking.join(guid, &its_network, alone)?
            }
        };
        // What is made for it from here on is its root's.
        let owner = as_root_of(first_id)?;
        let own = |id: u32| first_id.unwrap_or(0) + id;
        if cwd != Path::new("/") {
            linux::resolve::mkdir_in_root(&root, &cwd, Mode::from(0o755))
                .map_err(|errno| Failure::kernel("create working directory", cwd.display(), errno))?;
        }
        let devpts = match launch.io.terminal {
            Some(_) => compile::devpts(&spec, true)?.map(Arc::new),
            None => None,
        };
        let terminal = match (launch.io.terminal, &devpts) {
            (Some(size), Some(devpts)) => Some(Terminal::open(devpts.as_fd(), size, own(user.uid))?),
            (Some(size), None) if around.is_some() => {
                let root = around.map_or(root.as_fd(), |around| around.leader.root.as_fd());
                Some(Terminal::open_in(root, size, own(user.uid))?)
            }
            (Some(size), None) => {
                // The host's own devpts, which was asked for by name.
                let host = rustix::fs::open("/dev/pts", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                    .map_err(|errno| Failure::kernel("open", "/dev/pts", errno))?;
                Some(Terminal::open(host.as_fd(), size, own(user.uid))?)
            }
            _ => None,
        };
        let (stdio, master) = streams(&launch.io, terminal, own(user.uid))?;
        let path = rootfs.path();
        // The groups with controllers that it is in, its own or its sandbox's.
        let own_limits = limited.map(Begun::finish).transpose()?;
        let limited = own_limits.as_ref().or(around.and_then(|around| around.limited.1.as_ref()));
        let joins = limited.map(Limited::joins).transpose()?.unwrap_or_default();
        let files = network.as_ref().map(|network| network.mounts(&root, &path)).transpose()?;
        let container = compile::Container {
            spec: &spec,
            rootfs: root.as_fd(),
            rootfs_path: &path,
            publish_proc: launch.publish_proc,
            joins: &joins,
            network: network.filter(|_| around.is_none()).map(|network| network.namespace),
            sandbox: around.map(|around| compile::Sandbox {
                leader: &around.leader.process.pidfd,
                trees: &around.trees,
            }),
            files: files.as_deref().unwrap_or_default(),
            filter: launch.privileges.program(),
            user: self.namespaces.take(guid),
            vestibule: self.vestibule()?,
            devpts,
        };
        if launch.publish_proc {
            unpublish_proc(&rootfs.path());
        }
        let mut script = compile::container(&container, stdio)?;
        drop(owner);
        let mut report = None;
        if launch.command.is_none() {
            script.program = Program::File(self.init.get()?);
            script.argv.truncate(1);
        } else if launch.init {
            report = Some(self.init.beneath(&mut script)?);
        }
        script.keep.extend(survival.exit_file.clone());
        let since = now();
        let kills = limited.map(Limited::count_kills);
        let (mut process, guard) = match around {
            // Somebody else must be in between for a moment, who has none of our memory.
            Some(_) => {
                let start = || Guard::start(&self.init, script, group.clone());
                during(Step::StartProcess, start).map(|(process, guard)| (process, Some(guard)))?
            }
            None => self.start(script, group.clone())?,
        };
        process.kills = kills;
        let stays = survival.stays;
        let settle = || {
            if let Some(report) = report {
                report.wait(command.args).inspect_err(|_| process.end())?;
            }
            // It is our child: until it is waited for, its entry in proc is there.
            let start_time = state::start_time(process.pid).ok_or_else(|| {
                process.end();
                Failure::new(ErrorKind::Exhausted, "read start time of process", process.pid)
            })?;
            let kept = self.keeper.get().and_then(|keeper| keeper.keep(&process.pidfd, process.pid));
            let record = LeaderRecord {
                kept,
                pid: process.pid,
                start_time,
                since,
                group: group.location().1.to_owned(),
                guarded: guard.is_some() && !stays,
                role: role.clone(),
                limited_by: around.map(|around| around.guid.clone()),
                image: image.clone(),
                privileges: launch.privileges.clone(),
                limits: launch.limits.clone(),
                limited: launch.limits != Limits::default(),
                counts_memory: limited.is_some(),
                network: its_network,
                settings: Settings::of(launch.options),
                first_id,
                implicit: launch.implicit,
            };
            (survival.write_down)(&record).inspect_err(|_| process.end())?;
            match root_of(process.pid) {
                // It has ended already: nothing will run in it, and its files are where they were.
                Err(failure) if failure.kind == ErrorKind::NotFound => Ok((root, record)),
                Err(failure) => {
                    process.end();
                    Err(failure)
                }
                Ok(root) => Ok((root, record)),
            }
        };
        match settle() {
            Ok((root, record)) => {
                let guard = match guard {
                    Some(guard) if stays => {
                        guard.dismiss(|| {});
                        None
                    }
                    guard => guard,
                };
                // What was written down is not looked at again before it changes.
                let stamp = match around {
                    Some(around) => around.limited.0,
                    None => state::stamp(&self.run_dir, guid).ok().flatten(),
                };
                let seen = Arc::new(Mutex::new(Seen { stamp, limited: limited.cloned() }));
                let (group, root, guid) = (all, Arc::new(root), guid.to_owned());
                let mut leader = Leader::new(process, group, guid, root, record, seen);
                if around.is_some() {
                    // Somebody may have changed the limits of the sandbox meanwhile.
                    let mut process = leader.process.clone();
                    self.catch_up(&leader, stamp, &mut process).inspect_err(|_| {
                        process.end();
                        self.nobody_asks_for(process.pid);
                    })?;
                    leader.process = process;
                }
                Ok(Launched { leader, terminal: master, guard })
            }
            Err(failure) => {
                self.nobody_asks_for(process.pid);
                if let Some(guard) = guard {
                    guard.dismiss(|| {});
                }
                Err(failure)
            }
        }
    }

    /// Starts what `script` says.
    pub(super) fn start(&self, script: Script, group: Group) -> Result<(Process, Option<Guard>)> {
        during(Step::StartProcess, || match &self.sealed {
            Some(sealed) => Process::start(sealed, script, group).map(|process| (process, None)),
            None => Guard::start(&self.init, script, group).map(|(process, guard)| (process, Some(guard))),
        })
    }

    /// How the image beneath a rootfs wants to be run.
    pub(super) fn image_config(&self, rootfs: &Rootfs) -> Result<ImageConfig> {
        let Some(image) = rootfs.image() else { return Ok(ImageConfig::default()) };
        self.store()?.run_config(&image).map_err(Failure::from)
    }
}

pub(super) fn is_hostname(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
