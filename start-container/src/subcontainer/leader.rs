//! The leader of a running subcontainer: found again by what is written down of it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use protocol::ErrorKind;
use protocol::process::Outcome;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Machine;
use super::state::{self, LeaderRecord, Locked, State, Terms};
use super::update::Seen;
use crate::engine::cgroup::Group;
use crate::engine::device;
use crate::engine::keeper::{Of, kept_end};
use crate::engine::limits::Limited;
use crate::engine::process::{self, Process};
use crate::error::{Failure, Result};

/// The leader of a running subcontainer.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    pub(crate) process: Process,
    /// The group of the subcontainer, with those of the leader and of every command in it.
    pub(super) group: Group,
    pub(super) guid: String,
    /// Its root directory, as it sees it.
    pub(super) root: Arc<OwnedFd>,
    /// Its own `/dev/null`, once a command has needed it.
    null: Arc<OnceLock<Arc<OwnedFd>>>,
    /// What it was launched with, and what every command in it is under.
    pub(super) record: LeaderRecord,
    /// The groups for the limits, as of the last look.
    pub(super) seen: Arc<Mutex<Seen>>,
}

impl Leader {
    pub(super) fn new(
        process: Process,
        group: Group,
        guid: String,
        root: Arc<OwnedFd>,
        record: LeaderRecord,
        seen: Arc<Mutex<Seen>>,
    ) -> Self {
        Self { process, group, guid, root, null: Arc::default(), record, seen }
    }

    /// `/dev/null` of its container, for the streams of commands: what lay there when the first one asked. They share the
    /// one open file; all that could be told between them by that is a lock of `flock(2)`.
    pub(super) fn null(&self) -> std::result::Result<Arc<OwnedFd>, Errno> {
        if let Some(null) = self.null.get() {
            return Ok(Arc::clone(null));
        }
        let null = device::null_in(self.root.as_fd())?;
        Ok(Arc::clone(self.null.get_or_init(|| Arc::new(null))))
    }

    /// Whether it has ended. Its end may not be written down yet.
    pub(crate) fn has_ended(&self) -> bool {
        has_ended(&self.process.pidfd)
    }

    /// Whether nobody has launched it: an idle init that came with a first command.
    pub(crate) fn is_implicit(&self) -> bool {
        self.record.implicit
    }

    /// Whether its commands are in no user namespace of their own, with a bounding set no larger than the default.
    pub(crate) fn is_plain(&self) -> bool {
        self.record.first_id.is_none() && self.record.privileges.are_bounded_by_default()
    }

    /// Whether it has ended or is about to: its root directory goes before it ends what else is in its namespace.
    pub(super) fn is_ending(&self) -> bool {
        self.has_ended() || root_of(self.process.pid).is_err()
    }

    /// The group of a command that runs beside it.
    pub(crate) fn command_group(&self, name: &str) -> Option<Group> {
        self.group.existing_child(name).ok().flatten()
    }

    /// Every process in its subcontainer, by its id on the machine.
    pub(crate) fn processes(&self) -> Result<Vec<i32>> {
        match self.group.processes() {
            // It ended meanwhile.
            Err(Errno::NOENT | Errno::NODEV) => Ok(Vec::new()),
            pids => pids.map_err(|errno| Failure::kernel("list processes of", &self.guid, errno)),
        }
    }

    pub(super) fn not_running(&self) -> Failure {
        let subject = format!("process {}", self.process.pid);
        Failure::new(ErrorKind::NotRunning, "run a command beside", subject)
            .because(std::io::Error::other("the leader has ended"))
    }
}

impl Machine {
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

    pub(super) fn find_leader(&self, guid: &str, state: &State) -> Result<Option<Leader>> {
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
        Ok(Some(Leader::new(process, all, guid, root, record.clone(), seen)))
    }

    /// What the last leader had: whoever runs a command in a subcontainer that has ended gets no more than that.
    pub(crate) fn terms_of_last(&self, guid: &str) -> Result<Option<Terms>> {
        state::read(&self.run_dir, guid).map(|state| state.terms())
    }

    /// How a leader ended whose end nobody saw.
    ///
    /// The kernel says so by a handle from before, where one is kept. Else our init, if that was it and has ended by itself.
    pub(super) fn unseen_end(&self, guid: &str, record: &LeaderRecord) -> Outcome {
        let kept = record.kept.and_then(|kept| kept_end(&self.hierarchy, &self.data_dir, kept, record.pid));
        let Some(status) = kept.or_else(|| state::init_end(&self.run_dir, guid)) else {
            return Outcome::Unknown;
        };
        let outcome = process::outcome(status);
        // Kills were counted from its launch on, in groups that were new then.
        let limited = if record.limited { self.controllers.existing(guid).ok().flatten() } else { None };
        match limited {
            Some(limited) => limited.count_kills_since_made().explain(outcome),
            None => outcome,
        }
    }

    /// The end of this leader need not be remembered for another daemon.
    pub(super) fn nobody_asks_for(&self, pid: i32) {
        if let Some(keeper) = self.keeper.get() {
            keeper.let_go(&Of::Leader(pid));
        }
    }

    /// Writes down how the leader ended, and says so: who has not seen it may not know. Nothing is written when another one
    /// runs by now or all is gone.
    pub(crate) fn leader_ended(&self, guid: &str, pid: i32, outcome: Outcome) -> Result<Outcome> {
        // Not made again by whoever finds it destroyed: somebody may kill this process before it is removed again.
        let lock = Locked::existing(&self.run_dir, guid)?;
        let state = lock.as_ref().map_or_else(|| Ok(State::default()), Locked::read)?;
        let its = state.leader.as_ref().filter(|leader| leader.pid == pid);
        let (Some(lock), Some(leader)) = (&lock, its) else {
            self.nobody_asks_for(pid);
            return Ok(outcome);
        };
        let outcome = match outcome {
            Outcome::Unknown => self.unseen_end(guid, leader),
            known => known,
        };
        // What a command line launched shows its proc on the host side.
        if leader.guarded
            && let Ok(rootfs) = self.rootfs(guid)
        {
            unpublish_proc(&rootfs.path());
        }
        self.end_all(guid, &leader.role, state.limited())?;
        let last = state.terms();
        lock.write(&State { leader: None, exited: Some(outcome.clone()), last, ..state })?;
        // While nobody else can look: whoever finds no leader there need not ask for its end, and may close the keeper.
        self.nobody_asks_for(pid);
        Ok(outcome)
    }
}

/// Whether the process that made a group is there (see [`Machine::command_name`]).
pub(super) fn caller_lives(group: &str) -> bool {
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
pub(super) fn ended_with_its_caller(leader: &Leader) -> bool {
    const GUARDS_PATIENCE: Duration = Duration::from_secs(5);
    leader.record.guarded
        && !caller_lives(&leader.record.group)
        && linux::pidfd::ends_within(&leader.process.pidfd, GUARDS_PATIENCE)
}

/// The root directory of a process, as it sees it.
pub(super) fn root_of(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/root");
    rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Failure::kernel("open", path, errno))
}

pub(super) fn has_ended(pidfd: &OwnedFd) -> bool {
    linux::pidfd::ends_within(pidfd, Duration::ZERO)
}

/// Removes the proc of an earlier leader from the host side of a rootfs.
pub(super) fn unpublish_proc(rootfs: &Path) {
    use rustix::mount::UnmountFlags;
    // Usually there is none.
    let _absent = rustix::mount::unmount(rootfs.join("proc"), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
}
