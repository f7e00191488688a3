//! What must not outlive a boot: which leader runs in which subcontainer.
//!
//! ```text
//! /run/start-container/<guid>/            locked (flock) by whoever changes the subcontainer
//! /run/start-container/<guid>/state.json  the leader, or how it ended
//! /run/start-container/<guid>/exit        the exit code of our init, by itself: where that is the leader
//! /run/start-container/<guid>/log/        streams that are kept (see `crate::logs`)
//! ```
//! A record is written before the thing it records is made and removed after that is gone. A process id in it is
//! believed only together with the time its process started.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use linux::step::{Step, during};
use protocol::image::ImageConfig;
use protocol::limits::Limits;
use protocol::network::Network;
use protocol::process::Outcome;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::sandbox::Role;
use crate::engine::keeper::{self, Kept};
use crate::engine::privileges::Privileges;
use crate::engine::settings::Settings;
use crate::error::{Failure, Result};

/// The leader of a subcontainer, as it is written down.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LeaderRecord {
    pub(crate) pid: i32,
    /// Clock ticks between boot and its start, `/proc/<pid>/stat` field 22: tells it from a later process of the
    /// same number.
    pub(crate) start_time: u64,
    /// Milliseconds since the epoch.
    pub(crate) since: u64,
    /// The name of its group beneath the subcontainer's.
    pub(crate) group: String,
    /// It ends with the process that launched it.
    #[serde(default)]
    pub(crate) guarded: bool,
    /// Who tells of its end when no daemon sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<Kept>,
    /// How its image wants commands to be run.
    #[serde(default)]
    pub(crate) image: ImageConfig,
    /// Where its groups are.
    #[serde(default)]
    pub(crate) role: Role,
    /// The guid by whose groups it is limited, if there are any and that is another's: its sandbox's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limited_by: Option<String>,
    /// What it and every command in it is allowed.
    pub(crate) privileges: Privileges,
    /// What they may use together.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// There are groups for limits: there is one now, or there was.
    #[serde(default)]
    pub(crate) limited: bool,
    /// Their memory has been counted since the launch.
    #[serde(default)]
    pub(crate) counts_memory: bool,
    #[serde(default)]
    pub(crate) network: Network,
    /// What its processes start with.
    #[serde(default)]
    pub(crate) settings: Settings,
    /// The machine's id that is 0 inside, if it has a user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_id: Option<u32>,
    /// An idle init that came with a first command: nobody has launched it, and it makes room for who does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) implicit: bool,
}

/// Nobody serves them, and somebody else may have them by now.
fn without_ports(network: &Network) -> Network {
    match network {
        Network::Private { name, aliases, .. } => {
            Network::Private { name: name.clone(), aliases: aliases.clone(), publish: Vec::new() }
        }
        other => other.clone(),
    }
}

/// What a leader was launched with, and whoever takes its place unasked has, too; but for published ports.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Terms {
    pub(crate) privileges: Privileges,
    #[serde(default)]
    pub(crate) limits: Limits,
    /// None: that of its sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<Network>,
    #[serde(default)]
    pub(crate) settings: Settings,
}

impl Terms {
    fn of(leader: &LeaderRecord) -> Self {
        Self {
            privileges: leader.privileges.clone(),
            limits: leader.limits.clone(),
            network: (!matches!(leader.role, Role::In(_))).then(|| without_ports(&leader.network)),
            settings: leader.settings.clone(),
        }
    }
}

/// A client of the host's, and its session.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Owner {
    /// What its token is checked by: that itself is written down nowhere.
    pub(crate) digest: String,
    pub(crate) uid: u32,
    /// 0: it is in a pid namespace that is not ours.
    pub(crate) pid: i32,
    /// As of a leader.
    pub(crate) start_time: u64,
}

impl Owner {
    /// A handle on the process, if it is there still. One whose number means nothing here counts as gone.
    pub(crate) fn handle(&self) -> Option<OwnedFd> {
        let pidfd = linux::pidfd::open(rustix::process::Pid::from_raw(self.pid)?).ok()?;
        let same = start_time(self.pid) == Some(self.start_time);
        (same && !super::leader::has_ended(&pidfd)).then_some(pidfd)
    }
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) leader: Option<LeaderRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exited: Option<Outcome>,
    /// What the leader had that has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<Terms>,
    /// It ends with a client of the host: a host that finds it at its start destroys it, unless that client comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<Owner>,
    /// Groups with controllers are being made for it.
    #[serde(default)]
    pub(crate) limiting: bool,
    /// Where its rootfs is. The run directory may serve several data directories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data_dir: Option<PathBuf>,
}

impl State {
    /// Whether there are groups with controllers: they stay until the leader's end is written down.
    pub(crate) fn limited(&self) -> bool {
        self.limiting || self.leader.as_ref().is_some_and(|leader| leader.limited)
    }

    /// What the last leader had, whether its end is written down or not.
    pub(crate) fn terms(&self) -> Option<Terms> {
        self.leader.as_ref().map(Terms::of).or_else(|| self.last.clone())
    }
}

/// The directory of one subcontainer, locked against everybody else until this is dropped.
#[derive(Debug)]
pub(crate) struct Locked {
    path: PathBuf,
    dir: OwnedFd,
}

const FILE: &str = "state.json";
const EXIT: &str = "exit";

impl Locked {
    /// Makes the directory if it is not there, and waits for the lock.
    pub(crate) fn acquire(run_dir: &Path, guid: &str) -> Result<Self> {
        loop {
            let path = run_dir.join(guid);
            make_dir(run_dir)
                .and_then(|()| during(Step::MakeState, || make_dir(&path)))
                .map_err(|errno| Failure::kernel("lock", path.display(), errno))?;
            if let Some(locked) = Self::existing(run_dir, guid)? {
                return Ok(locked);
            }
        }
    }

    /// Waits for the lock. None when there is no such directory, or none any more.
    pub(crate) fn existing(run_dir: &Path, guid: &str) -> Result<Option<Self>> {
        let path = run_dir.join(guid);
        let fail = |errno| Failure::kernel("lock", path.display(), errno);
        loop {
            let dir = match open_dir(&path) {
                Err(Errno::NOENT) => return Ok(None),
                other => other.map_err(fail)?,
            };
            rustix::fs::flock(&dir, FlockOperation::LockExclusive).map_err(fail)?;
            // Whoever had the lock may have removed the directory, and somebody else made another one.
            let (Ok(ours), Ok(there)) = (rustix::fs::fstat(&dir), rustix::fs::stat(&path)) else { continue };
            if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino) {
                return Ok(Some(Self { path, dir }));
            }
        }
    }

    pub(crate) fn read(&self) -> Result<State> {
        read_in(self.dir.as_fd(), &self.path).map(|(state, _)| state)
    }

    /// Replaces the state by rename.
    pub(crate) fn write(&self, state: &State) -> Result<()> {
        during(Step::WriteState, || self.replace(state))
    }

    fn replace(&self, state: &State) -> Result<()> {
        let fail = |errno| Failure::kernel("write", self.path.join(FILE).display(), errno);
        let text = serde_json::to_vec(state).map_err(|error| {
            Failure::new(protocol::ErrorKind::Internal, "write", self.path.join(FILE).display())
                .because(error)
        })?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, "state.new", flags, Mode::from(0o600)).map_err(fail)?;
        if rustix::io::write(&file, &text).map_err(fail)? != text.len() {
            return Err(fail(Errno::NOSPC));
        }
        rustix::fs::renameat(&self.dir, "state.new", &self.dir, FILE).map_err(fail)
    }

    /// A new file for the exit code of our init, open to be mapped; the one of an earlier leader is gone.
    pub(crate) fn exit_file(&self) -> Result<OwnedFd> {
        let fail = |errno| Failure::kernel("create", self.path.join(EXIT).display(), errno);
        match rustix::fs::unlinkat(&self.dir, EXIT, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(fail(errno)),
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let made = || rustix::fs::openat(&self.dir, EXIT, flags, Mode::from(0o600));
        let file = during(Step::MakeExitFile, made).map_err(fail)?;
        // Its page is there before somebody maps it: a full file system is met here.
        match rustix::io::write(&file, &[0; 4]).map_err(fail)? {
            4 => Ok(file),
            _ => Err(fail(Errno::NOSPC)),
        }
    }

    /// Removes the directory: nothing of the subcontainer is left.
    pub(crate) fn remove(self) -> Result<()> {
        during(Step::RemoveState, || self.remove_all())
    }

    fn remove_all(&self) -> Result<()> {
        for name in [FILE, "state.new", EXIT] {
            match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(Failure::kernel("remove", self.path.join(name).display(), errno)),
            }
        }
        crate::logs::fifo::remove_all(&self.dir)
            .map_err(|errno| Failure::kernel("remove", self.path.join("log").display(), errno))?;
        match rustix::fs::rmdir(&self.path) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Failure::kernel("remove", self.path.display(), errno)),
        }
    }
}

/// The state of a subcontainer as it is this moment, without the lock.
pub(crate) fn read(run_dir: &Path, guid: &str) -> Result<State> {
    read_with_stamp(run_dir, guid).map(|(state, _)| state)
}

/// What our init has left of its end, if it was the leader and could.
pub(crate) fn init_end(run_dir: &Path, guid: &str) -> Option<linux::pidfd::ExitStatus> {
    let dir = open_dir(&run_dir.join(guid)).ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    keeper::read_record(rustix::fs::openat(&dir, EXIT, flags, Mode::empty()).ok()?)
}

/// Tells one state on disk from the one that replaces it. Nothing has none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stamp {
    inode: u64,
    changed: (i64, u64),
}

impl Stamp {
    fn of(stat: &rustix::fs::Stat) -> Self {
        Self { inode: stat.st_ino, changed: (stat.st_ctime, stat.st_ctime_nsec) }
    }
}

/// As [`read`], with its stamp.
pub(crate) fn read_with_stamp(run_dir: &Path, guid: &str) -> Result<(State, Option<Stamp>)> {
    let path = run_dir.join(guid);
    match open_dir(&path) {
        Ok(dir) => read_in(dir.as_fd(), &path),
        Err(Errno::NOENT) => Ok((State::default(), None)),
        Err(errno) => Err(Failure::kernel("read", path.display(), errno)),
    }
}

/// The stamp of the state as it is this moment.
pub(crate) fn stamp(run_dir: &Path, guid: &str) -> Result<Option<Stamp>> {
    let path = run_dir.join(guid).join(FILE);
    match rustix::fs::lstat(&path) {
        Ok(stat) => Ok(Some(Stamp::of(&stat))),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(Failure::kernel("look at", path.display(), errno)),
    }
}

/// Every subcontainer that has a state.
pub(crate) fn guids(run_dir: &Path) -> Result<Vec<String>> {
    let fail = |error: std::io::Error| {
        Failure::new(protocol::ErrorKind::Kernel, "list", run_dir.display()).because(error)
    };
    let entries = match std::fs::read_dir(run_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(fail)?,
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| super::check_guid(name).is_ok()).collect())
}

/// When a process started, in clock ticks since boot.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let proc = linux::proc::Procfs::shared().ok()?;
    proc.start_time(rustix::process::Pid::from_raw(pid)?).map(|(time, _)| time)
}

fn read_in(dir: std::os::fd::BorrowedFd<'_>, path: &Path) -> Result<(State, Option<Stamp>)> {
    let fail = |errno| Failure::kernel("read", path.join(FILE).display(), errno);
    let file = match rustix::fs::openat(dir, FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok((State::default(), None)),
        other => other.map_err(fail)?,
    };
    let stamp = Stamp::of(&rustix::fs::fstat(&file).map_err(fail)?);
    let text = linux::file::read(file).map_err(fail)?;
    let state = serde_json::from_slice(&text).map_err(|error| {
        Failure::new(protocol::ErrorKind::Corrupt, "read", path.join(FILE).display()).because(error)
    })?;
    Ok((state, Some(stamp)))
}

fn make_dir(path: &Path) -> std::result::Result<(), Errno> {
    match rustix::fs::mkdir(path, Mode::from(0o700)) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

fn open_dir(path: &Path) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}
