//! Subcontainers: a rootfs plus the namespaces of its leader.
//!
//! ```text
//!            create_fs            launch                 leader ends
//!  (nothing) ---------> Created ---------> Running ------------------> Exited
//!      ^                   |                  |                          |  launch again: Running
//!      |      destroy      |                  |                          |
//!      +-------------------+------------------+--------------------------+
//! ```
//! `destroy` works from every state and from every half-made one, and again after itself.
//! Changes to one subcontainer exclude each other, between processes too (see [`state`]); `exec` excludes nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use images::{Rootfs, Store};
use linux::fsids::AsOwner;
use linux::spawn::{Program, Script};
use protocol::ErrorKind;
use protocol::image::ImageConfig;
use protocol::limits::Limits;
use protocol::network::Network;
use protocol::process::{CommandOptions, Outcome, TerminalSize};
use protocol::stats::{RootfsStats, StatsResult};
use protocol::subcontainer::{Mount, RunState, SubcontainerInfo};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use volumes::Sources;

use crate::engine::cgroup::{Group, Hierarchy};
use crate::engine::guard::{Guard, Init};
use crate::engine::limits::{Controllers, Limited};
use crate::engine::network::Networking;
use crate::engine::plan::Surroundings;
use crate::engine::privileges::Privileges;
use crate::engine::process::Process;
use crate::engine::settings::{self, Own, Settings};
use crate::engine::terminal::Terminal;
use crate::engine::{compile, device, plan, user};
use crate::error::{Failure, Result};
use crate::sealed::Sealed;

pub(crate) mod sandbox;
pub(crate) mod state;
mod stats;
mod update;

use sandbox::{Around, Role};
use state::{LeaderRecord, Locked, State};
use update::Seen;

/// Everything on this machine that subcontainers are made of.
#[derive(Debug)]
pub(crate) struct Machine {
    data_dir: PathBuf,
    run_dir: PathBuf,
    store: OnceLock<Store>,
    sources: OnceLock<Sources>,
    hierarchy: Hierarchy,
    init: Init,
    sealed: Option<Sealed>,
    controllers: Controllers,
    networking: Networking,
    commands: AtomicU64,
}

/// The leader of a running subcontainer.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    pub(crate) process: Process,
    /// The group of the subcontainer, with those of the leader and of every command in it.
    group: Group,
    guid: String,
    /// Its root directory, as it sees it.
    root: Arc<OwnedFd>,
    /// What it was launched with, and what every command in it is under.
    record: LeaderRecord,
    /// The groups for the limits, as of the last look.
    seen: Arc<Mutex<Seen>>,
}

impl Leader {
    /// Whether it has ended. Its end may not be written down yet.
    pub(crate) fn has_ended(&self) -> bool {
        has_ended(&self.process.pidfd)
    }

    /// Whether it has ended or is about to: its root directory goes before it ends what else is in its namespace.
    fn is_ending(&self) -> bool {
        self.has_ended() || root_of(self.process.pid).is_err()
    }

    fn not_running(&self) -> Failure {
        let subject = format!("process {}", self.process.pid);
        Failure::new(ErrorKind::NotRunning, "run a command beside", subject)
            .because(std::io::Error::other("the leader has ended"))
    }
}

/// What an earlier host left.
#[derive(Debug, Default)]
pub(crate) struct LeftBehind {
    pub(crate) owned: Vec<String>,
    pub(crate) running: Vec<(String, Leader)>,
    /// What could not be looked at.
    pub(crate) failures: Vec<Failure>,
}

/// Standard streams of a process to start.
#[derive(Clone, Debug)]
pub(crate) struct Io {
    pub(crate) stdio: [Arc<OwnedFd>; 3],
    /// Replace standard input and output by a terminal of this size, and standard error too unless it stays apart.
    pub(crate) terminal: Option<TerminalSize>,
    pub(crate) stderr_apart: bool,
    /// The descriptors were made for this process: its user becomes their owner, so that `/dev/stdout` can be
    /// opened.
    pub(crate) own: bool,
}

/// A leader that was started.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) leader: Leader,
    /// The host's end of its terminal, if it has one.
    pub(crate) terminal: Option<OwnedFd>,
    /// What ends it when this process is killed, if that is a command line.
    pub(crate) guard: Option<Guard>,
}

/// A command that was started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) process: Process,
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
    pub(crate) io: Io,
}

impl Machine {
    /// Opens the data directory, making what is missing of it.
    ///
    /// Without `sealed`, processes are started through guards: they end when this process is killed.
    pub(crate) fn open(data_dir: &Path, run_dir: &Path, sealed: Option<Sealed>) -> Result<Self> {
        let store = OnceLock::new();
        if !data_dir.exists() {
            drop(store.set(Store::open(data_dir).map_err(Failure::from)?));
        }
        // One spelling: it is compared with what is written down.
        let data_dir = data_dir.canonicalize().map_err(|error| {
            Failure::new(ErrorKind::Kernel, "open data directory", data_dir.display()).because(error)
        })?;
        Ok(Self {
            store,
            sources: OnceLock::new(),
            hierarchy: Hierarchy::open()?,
            data_dir,
            run_dir: run_dir.to_owned(),
            // Who is sealed is a daemon.
            init: Init::new(sealed.is_some()),
            // Who is sealed is a daemon.
            networking: Networking::new(run_dir, sealed.is_some()),
            controllers: Controllers::new(sealed.is_some()),
            sealed,
            commands: AtomicU64::new(0),
        })
    }

    /// The images. Opened on first use: a command in a container that runs needs none.
    pub(crate) fn store(&self) -> Result<&Store> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let store = Store::open(&self.data_dir).map_err(Failure::from)?;
        Ok(self.store.get_or_init(|| store))
    }

    /// Opens now what is opened on first use otherwise: for a host, whose first client should not wait or fail for it.
    pub(crate) fn open_all(&self) -> Result<()> {
        self.store()?;
        self.sources()?;
        self.init.get().map(drop)
    }

    /// Where mounts come from. Opened on first use.
    fn sources(&self) -> Result<&Sources> {
        if let Some(sources) = self.sources.get() {
            return Ok(sources);
        }
        let sources = Sources::open(&self.data_dir).map_err(Failure::from)?;
        Ok(self.sources.get_or_init(|| sources))
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Makes a writable rootfs over an image and mounts it; without an image, over nothing.
    ///
    /// When `owned`, for a client of the host: a host that starts after this one was killed destroys it.
    pub(crate) fn make_fs(
        &self,
        image: Option<&str>,
        options: images::rootfs::Options,
        owned: bool,
    ) -> Result<Rootfs> {
        // Nobody destroys the sandbox, and gives its ids to somebody else, before it is known who is in it.
        let _sandbox = match &options.within {
            Some(sandbox) => {
                self.sandbox(sandbox)?;
                Some(self.lock(sandbox)?)
            }
            None => None,
        };
        let guid = options.guid.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        if owned {
            let lock = Locked::acquire(&self.run_dir, &guid)?;
            lock.write(&State { owned: true, ..self.state() })?;
        }
        let options = images::rootfs::Options { guid: Some(guid.clone()), ..options };
        let created = Rootfs::create_over(self.store()?, image, options).map_err(Failure::from);
        if created.is_err() && owned {
            Locked::acquire(&self.run_dir, &guid)?.remove()?;
        }
        created
    }

    /// Writes down whether a subcontainer ends with its owner.
    pub(crate) fn set_owned(&self, guid: &str, owned: bool) -> Result<()> {
        let lock = self.lock(guid)?;
        let state = lock.read()?;
        lock.write(&State { owned, data_dir: Some(self.data_dir.clone()), ..state })
    }

    /// The state of a subcontainer of which nothing is known yet.
    fn state(&self) -> State {
        State { data_dir: Some(self.data_dir.clone()), ..State::default() }
    }

    /// Keeps everybody else from changing a subcontainer, which must exist.
    fn lock(&self, guid: &str) -> Result<Locked> {
        check_guid(guid)?;
        let lock = match Locked::existing(&self.run_dir, guid)? {
            Some(lock) => lock,
            None => {
                // Not there at all: then no directory is made for it.
                self.rootfs(guid)?;
                Locked::acquire(&self.run_dir, guid)?
            }
        };
        match self.rootfs(guid) {
            Ok(_) => Ok(lock),
            // Destroyed while we waited.
            Err(failure) if failure.kind == ErrorKind::NotFound => lock.remove().and(Err(failure)),
            Err(failure) => Err(failure),
        }
    }

    /// What an earlier host of this data directory left: subcontainers whose owners are gone, and leaders that run.
    pub(crate) fn left_behind(&self) -> Result<LeftBehind> {
        let mut left = LeftBehind::default();
        let lives = |guid: &str| self.leader(guid).is_ok_and(|leader| leader.is_some());
        if let Err(failure) = self.networking.recover(lives) {
            left.failures.push(failure);
        }
        for guid in state::guids(&self.run_dir)? {
            if let Err(failure) = self.look_at(&guid, &mut left) {
                left.failures.push(failure);
            }
        }
        // What was being made or destroyed when its maker was killed.
        for guid in Rootfs::remnants(&self.data_dir).map_err(Failure::from)? {
            if !left.owned.contains(&guid) {
                left.owned.push(guid);
            }
        }
        // Whose sandbox is gone has ids that may be somebody else's. Nothing of ours leaves one like that.
        let all = Rootfs::list(&self.data_dir).map_err(Failure::from)?;
        let gone =
            |sandbox: &str| self.sandbox(sandbox).is_err_and(|failure| failure.kind == ErrorKind::NotFound);
        for rootfs in all.iter().filter(|rootfs| rootfs.within().is_some_and(gone)) {
            if !left.owned.iter().any(|guid| guid == rootfs.guid()) {
                left.owned.push(rootfs.guid().to_owned());
            }
        }
        Ok(left)
    }

    fn look_at(&self, guid: &str, left: &mut LeftBehind) -> Result<()> {
        let state = state::read(&self.run_dir, guid)?;
        if state == State::default() {
            // Made by somebody who was killed before he could write anything, or who is about to: that one makes it
            // again. It says nothing either way.
            if let Some(lock) = Locked::existing(&self.run_dir, guid)?
                && lock.read()? == State::default()
            {
                lock.remove()?;
            }
            return Ok(());
        }
        if state.data_dir.as_ref() != Some(&self.data_dir) {
            return Ok(());
        }
        if state.owned {
            left.owned.push(guid.to_owned());
        } else if self.rootfs(guid).is_ok()
            && let Some(leader) = self.find_leader(guid, &state)?
        {
            self.end_orphans(&leader)?;
            left.running.push((guid.to_owned(), leader));
        }
        Ok(())
    }

    /// Ends the commands in a container whose caller (a host, or a command line) is gone.
    fn end_orphans(&self, leader: &Leader) -> Result<()> {
        let own = leader.process.group.location().1;
        for (name, group) in leader.group.groups().into_iter().filter(|(name, _)| name != own) {
            if !caller_lives(&name) {
                group.destroy()?;
            }
        }
        Ok(())
    }

    pub(crate) fn rootfs(&self, guid: &str) -> Result<Rootfs> {
        Rootfs::open(&self.data_dir, guid).map_err(Failure::from)
    }

    /// The rootfs at a path, which must be one of ours.
    pub(crate) fn rootfs_at(&self, path: &Path) -> Result<Rootfs> {
        Rootfs::from_path(&self.data_dir, path).map_err(Failure::from)
    }

    /// How the image beneath a rootfs wants to be run.
    fn image_config(&self, rootfs: &Rootfs) -> Result<ImageConfig> {
        let Some(image) = rootfs.image() else { return Ok(ImageConfig::default()) };
        self.store()?.get(&image.to_string()).map(|image| image.config).map_err(Failure::from)
    }

    /// Ends everything inside and removes every trace. Nothing happens when there is nothing.
    ///
    /// Returns who was destroyed beside: those in it, of a sandbox.
    pub(crate) fn destroy(&self, guid: &str) -> Result<Vec<String>> {
        check_guid(guid)?;
        let role = self.rootfs(guid).ok().map(|rootfs| Role::of(&rootfs));
        if let Some(role) = role.as_ref().filter(|role| **role != Role::Alone) {
            // Somebody may be on his way in, and held there by another in the sandbox, and have the lock meanwhile.
            let group = self.hierarchy.existing(&role.whole_group(guid))?;
            let _gone = group.map(|group| group.kill());
        }
        let lock = Locked::acquire(&self.run_dir, guid)?;
        // A state that cannot be read says nothing against it.
        let state = lock.read().ok();
        // Where nothing can be read, there may be any.
        let limited = state.as_ref().is_none_or(State::limited);
        let elsewhere = state.and_then(|state| state.data_dir).filter(|dir| *dir != self.data_dir);
        if let Some(elsewhere) = elsewhere {
            return Err(Failure::new(ErrorKind::NotFound, "destroy", guid).because(std::io::Error::other(
                format!("it belongs to the data directory {}", elsewhere.display()),
            )));
        }
        let mut members = Vec::new();
        if role.as_ref().is_none_or(|role| *role == Role::Sandbox) {
            for member in self.members(guid)? {
                self.destroy(member.guid())?;
                members.push(member.guid().to_owned());
            }
        }
        self.end_processes(guid, role.as_ref(), limited)?;
        // Looked at now: it may have been mounted in since the launch.
        if !self.rootfs(guid).is_ok_and(|rootfs| rootfs.was_alone()) {
            self.networking.meets_others(guid);
        }
        self.networking.forget(guid)?;
        Rootfs::destroy(&self.data_dir, guid).map_err(Failure::from)?;
        lock.remove()?;
        Ok(members)
    }

    /// Ends everything in a subcontainer, and takes away what was made for its leader.
    fn end_all(&self, guid: &str, role: &Role, limited: bool) -> Result<()> {
        self.end_processes(guid, Some(role), limited)?;
        self.networking.release(guid)
    }

    /// Ends everything in a subcontainer, and removes its groups. Where they are is looked for if nobody knows.
    fn end_processes(&self, guid: &str, role: Option<&Role>, limited: bool) -> Result<()> {
        let group = match role {
            Some(role) => self.hierarchy.existing(&role.whole_group(guid))?,
            None => self.hierarchy.find(guid)?,
        };
        if let Some(group) = group {
            group.destroy()?;
        }
        if limited && let Some(groups) = self.controllers.existing(guid)? {
            groups.remove()?;
        }
        if self.sealed.is_none() {
            self.hierarchy.tidy();
        }
        Ok(())
    }

    /// As a daemon that ends: takes away what it kept for containers to come.
    pub(crate) fn close(&self) -> Result<()> {
        self.networking.close()
    }

    /// Takes away what is there for all subcontainers, if there is none.
    pub(crate) fn release(&self) -> Result<()> {
        self.controllers.tidy();
        self.hierarchy.tidy();
        self.networking.tidy()?;
        Rootfs::release(&self.data_dir).map_err(Failure::from)
    }

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

    fn launch_as(&self, role: &Role, rootfs: &Rootfs, launch: &Launch<'_>) -> Result<Launched> {
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
        let limited = plan.as_ref().map(|plan| self.controllers.create(guid, plan)).transpose();
        let launched = limited.and_then(|limited| {
            let write_down = |leader: &LeaderRecord| {
                let leader = Some(leader.clone());
                lock.write(&State { leader, exited: None, limiting: false, ..next.clone() })
            };
            let launched =
                self.launch_in(around.as_ref(), rootfs, launch, &settings, limited.as_ref(), &write_down);
            launched.map_err(|failure| match &around {
                // Whatever it was that failed, that is why.
                Some(around) if around.leader.is_ending() => sandbox::not_running(&around.guid),
                _ => failure,
            })
        });
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
                let _left = lock.write(&State { leader: None, limiting: false, ..state });
            }
        }
        launched
    }

    /// Everything of a launch that undoing the groups undoes.
    fn launch_in(
        &self,
        around: Option<&Around>,
        rootfs: &Rootfs,
        launch: &Launch<'_>,
        settings: &settings::Planned,
        limited: Option<&Limited>,
        write_down: &dyn Fn(&LeaderRecord) -> Result<()>,
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
        // The groups with controllers that it is in, its own or its sandbox's.
        let limited = limited.or(around.and_then(|around| around.limited.1.as_ref()));
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
        let since = now();
        let kills = limited.map(Limited::count_kills);
        let (mut process, guard) = match around {
            // Somebody else must be in between for a moment, who has none of our memory.
            Some(_) => Guard::start(&self.init, script, group.clone())
                .map(|(process, guard)| (process, Some(guard)))?,
            None => self.start(script, group.clone())?,
        };
        process.kills = kills;
        // With a daemon, what is launched goes on.
        let stays = launch.stays || self.sealed.is_some();
        let settle = || {
            if let Some(report) = report {
                report.wait(command.args).inspect_err(|_| process.end())?;
            }
            // It is our child: until it is waited for, its entry in proc is there.
            let start_time = state::start_time(process.pid).ok_or_else(|| {
                process.end();
                Failure::new(ErrorKind::Exhausted, "read start time of process", process.pid)
            })?;
            let record = LeaderRecord {
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
            };
            write_down(&record).inspect_err(|_| process.end())?;
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
                let mut leader = Leader { process, group, guid, root, record, seen };
                if around.is_some() {
                    // Somebody may have changed the limits of the sandbox meanwhile.
                    let mut process = leader.process.clone();
                    self.catch_up(&leader, stamp, &mut process).inspect_err(|_| process.end())?;
                    leader.process = process;
                }
                Ok(Launched { leader, terminal: master, guard })
            }
            Err(failure) => {
                if let Some(guard) = guard {
                    guard.dismiss(|| {});
                }
                Err(failure)
            }
        }
    }

    /// Starts what `script` says.
    fn start(&self, script: Script, group: Group) -> Result<(Process, Option<Guard>)> {
        match &self.sealed {
            Some(sealed) => Process::start(sealed, script, group).map(|process| (process, None)),
            None => Guard::start(&self.init, script, group).map(|(process, guard)| (process, Some(guard))),
        }
    }

    /// The leader, if one runs by the time that a launch under way is through.
    pub(crate) fn leader_after_launch(&self, guid: &str) -> Result<Option<Leader>> {
        if let Some(leader) = self.leader(guid)? {
            return Ok(Some(leader));
        }
        let lock = self.lock(guid)?;
        self.find_leader(guid, &lock.read()?)
    }

    /// The leader, if one runs.
    pub(crate) fn leader(&self, guid: &str) -> Result<Option<Leader>> {
        let (state, stamp) = state::read_with_stamp(&self.run_dir, guid)?;
        let leader = self.find_leader(guid, &state)?;
        if let Some(Ok(mut seen)) = leader.as_ref().map(|leader| leader.seen.lock()) {
            seen.stamp = stamp;
        }
        Ok(leader)
    }

    fn find_leader(&self, guid: &str, state: &State) -> Result<Option<Leader>> {
        let Some(record) = &state.leader else { return Ok(None) };
        let Some(pid) = rustix::process::Pid::from_raw(record.pid) else { return Ok(None) };
        let pidfd = match linux::pidfd::open(pid) {
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            other => other.map_err(|errno| Failure::kernel("open leader", record.pid, errno))?,
        };
        if state::start_time(record.pid) != Some(record.start_time) || has_ended(&pidfd) {
            return Ok(None);
        }
        let Some(all) = self.hierarchy.existing(&record.role.own_group(guid))? else { return Ok(None) };
        let Some(group) = all.existing_child(&record.group)? else { return Ok(None) };
        let root = match root_of(record.pid) {
            Ok(root) => Arc::new(root),
            // It ended between the two looks.
            Err(failure) if failure.kind == ErrorKind::NotFound => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let limited = match &record.limited_by {
            Some(sandbox) if state::read(&self.run_dir, sandbox)?.limited() => {
                self.controllers.existing(sandbox)?
            }
            None if state.limited() => self.controllers.existing(guid)?,
            _ => None,
        };
        let kills = limited.as_ref().map(Limited::count_kills);
        let process = Process { pid: record.pid, pidfd: Arc::new(pidfd), group, kills };
        let seen = Arc::new(Mutex::new(Seen { stamp: None, limited }));
        let guid = guid.to_owned();
        Ok(Some(Leader { process, group: all, guid, root, record: record.clone(), seen }))
    }

    /// Writes down how the leader ended. Nothing, when another one runs by now or all is gone.
    pub(crate) fn leader_ended(&self, guid: &str, pid: i32, outcome: &Outcome) -> Result<()> {
        // Not made again by whoever finds it destroyed: somebody may kill this process before it is removed again.
        let Some(lock) = Locked::existing(&self.run_dir, guid)? else { return Ok(()) };
        let state = lock.read()?;
        let Some(leader) = state.leader.as_ref().filter(|leader| leader.pid == pid) else { return Ok(()) };
        // What a command line launched shows its proc on the host side.
        if leader.guarded
            && let Ok(rootfs) = self.rootfs(guid)
        {
            unpublish_proc(&rootfs.path());
        }
        self.end_all(guid, &leader.role, state.limited())?;
        lock.write(&State { leader: None, exited: Some(outcome.clone()), ..state })
    }

    /// A group for a command to start beside `leader`. Whoever starts one retires it after the command.
    pub(crate) fn command_group(&self, leader: &Leader) -> Result<Group> {
        leader.group.child(self.command_name()).map_err(|failure| match failure.errno() {
            Some(Errno::NOENT | Errno::NODEV) => leader.not_running(),
            _ => failure,
        })
    }

    /// The name of a group: whose it is, and which of theirs.
    fn command_name(&self) -> String {
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", std::process::id())
    }

    /// Starts a command in a running subcontainer.
    pub(crate) fn exec(
        &self,
        leader: &Leader,
        args: &[String],
        options: &CommandOptions,
        io: &Io,
        group: Group,
    ) -> Result<Started> {
        let command =
            plan::Command { args, options, image: &leader.record.image, terminal: io.terminal.is_some() };
        let user = user::look_up(leader.root.as_fd(), command.user())?;
        let userns = leader.record.first_id.is_some();
        let settings = settings::plan(options, &leader.record.settings, &Own::look()?, userns)?;
        let oci = plan::process(&command, &user, &leader.record.privileges, &settings)?;
        let own = |id: u32| leader.record.first_id.unwrap_or(0) + id;
        let terminal = match io.terminal {
            Some(size) => Some(Terminal::open_in(leader.root.as_fd(), size, own(user.uid))?),
            None => None,
        };
        let (mut stdio, master) = streams(io, terminal, own(user.uid))?;
        device::give_own_null(&mut stdio, || device::null_in(leader.root.as_fd()))
            .map_err(|errno| Failure::kernel("open", "/dev/null", errno))?;
        let (stamp, limited) = self.limited(leader)?;
        let joins = limited.as_ref().map(Limited::joins).transpose()?.unwrap_or_default();
        let filter = leader.record.privileges.program();
        let script = compile::join(&oci, &leader.process.pidfd, stdio, &joins, filter, userns)?;
        let kills = limited.as_ref().map(Limited::count_kills);
        let started = self.start(script, group);
        let (mut process, guard) = started.map_err(|failure| match failure.errno() {
            // So the kernel refuses a process in a pid namespace whose first one is on its way out.
            Some(Errno::NOMEM) if leader.is_ending() => leader.not_running(),
            _ => failure,
        })?;
        process.kills = kills;
        self.catch_up(leader, stamp, &mut process).inspect_err(|_| process.end())?;
        Ok(Started { process, terminal: master, guard })
    }

    /// Adds a mount; a running container sees it at once.
    pub(crate) fn mount(&self, guid: &str, mount: &Mount) -> Result<()> {
        let _lock = self.lock(guid)?;
        let rootfs = self.rootfs(guid)?;
        rootfs.ensure_mounted().map_err(Failure::from)?;
        let mounts = rootfs.mounts().map_err(Failure::from)?;
        if mounts.iter().any(|other| same_path(&other.mountpoint, &mount.mountpoint)) {
            return Err(Failure::new(ErrorKind::Exists, "mount on", &mount.mountpoint)
                .because(std::io::Error::other("mountpoint is in use already")));
        }
        let prepared = self.sources()?.prepare(mount, rootfs.ids()).map_err(Failure::from)?;
        let root = rootfs.handle().map_err(Failure::from)?;
        {
            // A mountpoint that is missing is made.
            let _owner = as_root_of(rootfs.ids())?;
            volumes::attach(&prepared, &root, &mount.mountpoint).map_err(Failure::from)?;
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
        volumes::detach(&root, mountpoint).map_err(Failure::from)?;
        rootfs.update_mounts(|mounts| {
            mounts.retain(|mount| !same_path(&mount.mountpoint, mountpoint));
            Ok(())
        })
    }

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
            (None, State { leader: Some(_), .. }) => RunState::Exited { outcome: Outcome::Unknown },
            (None, _) => RunState::Created,
        };
        Ok(SubcontainerInfo {
            guid: rootfs.guid().to_owned(),
            name: rootfs.name().map(str::to_owned),
            image_id: rootfs.image().map(|image| image.to_string()).unwrap_or_default(),
            rootfs: rootfs.path().display().to_string(),
            created: rootfs.created(),
            throwaway: rootfs.throwaway(),
            first_id: rootfs.ids(),
            sandbox: rootfs.within().map(str::to_owned),
            rootfs_size: rootfs.size(),
            state: run_state,
            mounts: rootfs.mounts().map_err(Failure::from)?,
        })
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

/// Until it is dropped, files that this thread makes belong to root inside.
pub(crate) fn as_root_of(first_id: Option<u32>) -> Result<AsOwner> {
    match first_id {
        None => Ok(AsOwner::nobody_else()),
        Some(id) => AsOwner::new(id).map_err(|errno| Failure::kernel("become root of", id, errno)),
    }
}

/// The streams that the process gets, and the host's end of its terminal.
fn streams(io: &Io, terminal: Option<Terminal>, uid: u32) -> Result<([Arc<OwnedFd>; 3], Option<OwnedFd>)> {
    let mut stdio = io.stdio.clone();
    if io.own {
        let fail = |errno| Failure::kernel("give streams to user", uid, errno);
        for fd in &stdio {
            // Pipes only: anything else, /dev/null for one, is the machine's.
            let stat = rustix::fs::fstat(fd).map_err(fail)?;
            if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo {
                rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None).map_err(fail)?;
            }
        }
    }
    let Some(Terminal { master, slave }) = terminal else { return Ok((stdio, None)) };
    let slave = Arc::new(slave);
    stdio[0] = Arc::clone(&slave);
    stdio[1] = Arc::clone(&slave);
    if !io.stderr_apart {
        stdio[2] = slave;
    }
    Ok((stdio, Some(master)))
}

/// Whether the process that made a group is there (see [`Machine::command_name`]).
fn caller_lives(group: &str) -> bool {
    let caller = group.split_once('-').and_then(|(pid, _)| pid.parse::<i32>().ok());
    let caller = caller.and_then(rustix::process::Pid::from_raw);
    caller.is_some_and(|pid| match linux::pidfd::open(pid) {
        // One that was killed may not have been waited for.
        Ok(pidfd) => !has_ended(&pidfd),
        Err(errno) => errno != Errno::SRCH,
    })
}

/// Whether a leader's guard ends it just now, because the command line that launched it was killed. Returns when it
/// has.
fn ended_with_its_caller(leader: &Leader) -> bool {
    const GUARDS_PATIENCE: Duration = Duration::from_secs(5);
    leader.record.guarded
        && !caller_lives(&leader.record.group)
        && linux::pidfd::ends_within(&leader.process.pidfd, GUARDS_PATIENCE)
}

/// The root directory of a process, as it sees it.
fn root_of(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/root");
    rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Failure::kernel("open", path, errno))
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    linux::pidfd::ends_within(pidfd, Duration::ZERO)
}

/// Removes the proc of an earlier leader from the host side of a rootfs.
fn unpublish_proc(rootfs: &Path) {
    use rustix::mount::UnmountFlags;
    // Usually there is none.
    let _absent = rustix::mount::unmount(rootfs.join("proc"), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
}

/// Two spellings of one mountpoint.
fn same_path(a: &str, b: &str) -> bool {
    let parts = |path: &str| {
        path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect::<Vec<_>>()
    };
    parts(a) == parts(b)
}

fn is_hostname(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// A guid is part of paths: it holds nothing but what `uuid` writes.
pub(crate) fn check_guid(guid: &str) -> Result<()> {
    if guid.len() == 36 && uuid::Uuid::try_parse(guid).is_ok() {
        return Ok(());
    }
    Err(Failure::new(ErrorKind::Invalid, "read subcontainer id", guid))
}

/// Milliseconds since the epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64)
}
