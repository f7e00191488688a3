//! Limits that change while a container runs.
//!
//! ```text
//! update: plan (refuses) -> state: there are groups -> make them, set limits -> state: the limits -> move what runs
//!                                                               | that fails: set back what was set
//! exec:   look at the state -> join the groups that are there -> start -> look again: another state? move what runs
//! ```
//! By the first state, whoever ends the container finds the groups. The second one tells that they are complete: a command that looked before that has either started when the update moves what runs, or sees another state
//! after its start.

use std::sync::MutexGuard;

use protocol::ErrorKind;
use protocol::limits::Limits;

use super::state::{LeaderRecord, Stamp, State};
use super::{Leader, Machine, state};
use crate::engine::limits::{self, Limited};
use crate::engine::lock;
use crate::engine::process::Process;
use crate::error::{Failure, Result};

/// The groups for the limits, and the state on disk that they go with.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) stamp: Option<Stamp>,
    pub(super) limited: Option<Limited>,
}

impl Leader {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// Whose groups for limits it is in: its own, or those of its sandbox.
    fn limited_as(&self) -> &str {
        self.record.limited_by.as_deref().unwrap_or(&self.guid)
    }
}

impl Machine {
    /// Changes the limits of a container that runs. What is not named stays. Returns those that hold now.
    ///
    /// # Errors
    /// `Invalid`: a limit that makes no sense, alone or with those that stay, or that cannot hold for what runs already.
    /// `Busy`: less memory than is in use. Nothing has changed then. After any other error those before are set again.
    pub(crate) fn update(&self, guid: &str, change: &Limits) -> Result<Limits> {
        let lock = self.lock(guid)?;
        let state = lock.read()?;
        let leader = self.find_leader(guid, &state)?.ok_or_else(|| {
            Failure::new(ErrorKind::NotRunning, "update limits of", guid)
                .because(std::io::Error::other("it is not running"))
        })?;
        let old = leader.record;
        if old.limited_by.is_some() {
            return Err(Failure::new(ErrorKind::Invalid, "update limits of", guid).because(
                std::io::Error::other("it is limited with its sandbox, whose limits can be changed"),
            ));
        }
        let limits = limits::merge(&old.limits, change);
        self.controllers.plan(change)?;
        self.controllers.plan(&limits)?;
        refuse(guid, &old, change)?;
        // Whoever finds the groups, finds them by this.
        let with = |limits: &Limits| {
            let leader = LeaderRecord { limits: limits.clone(), limited: true, ..old.clone() };
            lock.write(&State { leader: Some(leader), ..state.clone() })
        };
        if !old.limited {
            with(&old.limits)?;
        }
        let updated = self.controllers.update(guid, change);
        if updated.is_err() {
            // The failure is what the caller must hear of.
            let _back = self.controllers.update(guid, &limits::undo(&old.limits, change));
        }
        with(if updated.is_ok() { &limits } else { &old.limits })?;
        if let Some(groups) = self.controllers.existing(guid)? {
            groups.gather()?;
        }
        updated.map(|()| limits)
    }

    /// The groups that a command has to join now, and the state that names them.
    pub(super) fn limited(&self, leader: &Leader) -> Result<(Option<Stamp>, Option<Limited>)> {
        let now = state::stamp(&self.run_dir, leader.limited_as())?;
        {
            let seen = leader.seen();
            if seen.stamp == now {
                return Ok((now, seen.limited.clone()));
            }
        }
        let (state, stamp) = state::read_with_stamp(&self.run_dir, leader.limited_as())?;
        let same = |record: &LeaderRecord| {
            (record.pid, record.start_time) == (leader.record.pid, leader.record.start_time)
        };
        let mut seen = leader.seen();
        // Of another leader, or none: ours is about to be found ended. A sandbox's ends with it who is in it.
        if state.leader.as_ref().is_some_and(|it| leader.record.limited_by.is_some() || same(it)) {
            let limited =
                if state.limited() { self.controllers.existing(leader.limited_as())? } else { None };
            *seen = Seen { stamp, limited };
        }
        Ok((stamp, seen.limited.clone()))
    }

    /// After a command has started: moves it to groups that an update has made since `before`.
    pub(super) fn catch_up(
        &self,
        leader: &Leader,
        before: Option<Stamp>,
        process: &mut Process,
    ) -> Result<()> {
        if state::stamp(&self.run_dir, leader.limited_as())? == before {
            return Ok(());
        }
        let (_, Some(limited)) = self.limited(leader)? else { return Ok(()) };
        limited.gather()?;
        process.kills.get_or_insert_with(|| limited.count_kills());
        Ok(())
    }
}

/// What cannot be limited any more, since it has not been counted from the beginning: the kernel does not charge anew
/// for memory that is in use.
fn refuse(guid: &str, leader: &LeaderRecord, change: &Limits) -> Result<()> {
    let refused = |why: &str| {
        let error = Failure::new(ErrorKind::Invalid, "update limits of", guid);
        Err(error.because(std::io::Error::other(why.to_owned())))
    };
    if *change == Limits::default() {
        return refused("none was named");
    }
    let memory = change.memory_bytes.is_some() || change.memory_reservation_bytes.is_some();
    if memory && !leader.counts_memory {
        return refused(
            "it was launched without any limit, so the memory that it uses is not counted; launch it with one",
        );
    }
    let known = |size: &str| leader.limits.hugetlb.iter().any(|limit| limit.page_size == size);
    match change.hugetlb.iter().find(|limit| !known(&limit.page_size)) {
        Some(limit) => refused(&format!(
            "it was launched without a limit for huge pages of {}, so those that it uses are not counted",
            limit.page_size
        )),
        None => Ok(()),
    }
}
