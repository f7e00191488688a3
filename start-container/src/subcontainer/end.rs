//! Ending a subcontainer, and what is left when one was ended by force.

use std::collections::HashSet;

use images::Rootfs;
use protocol::ErrorKind;
use protocol::process::Outcome;

use super::leader::caller_lives;
use super::sandbox::Role;
use super::state::{self, Locked, State};
use super::{Leader, Machine, Owner, check_guid};
use crate::engine::keeper::{self, Of};
use crate::error::{Failure, Result};
use crate::logs::fifo::Fifo;

/// What an earlier host left.
#[derive(Debug, Default)]
pub(crate) struct LeftBehind {
    /// Whose owners are gone.
    pub(crate) owned: Vec<String>,
    /// Whose owners may come back.
    pub(crate) awaited: Vec<(String, Owner)>,
    pub(crate) running: Vec<(String, Leader)>,
    /// Leaders that have ended since, and how.
    pub(crate) ended: Vec<(String, Outcome)>,
    /// In which nothing runs that is written down.
    pub(crate) still: Vec<String>,
    /// Streams that are kept, by subcontainer. Their processes may have ended since.
    pub(crate) streams: Vec<(String, Vec<Fifo>)>,
    /// What could not be looked at.
    pub(crate) failures: Vec<Failure>,
}

impl Machine {
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
        let leader = state.as_ref().and_then(|state| state.leader.clone());
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
        drop(self.namespaces.take(guid));
        Rootfs::destroy(&self.data_dir, guid).map_err(Failure::from)?;
        if let Some(keeper) = self.keeper.get() {
            if let Some(leader) = leader {
                self.nobody_asks_for(leader.pid);
            }
            keeper.let_go(&Of::Stream(guid.to_owned()));
        } else {
            let fifos = crate::logs::fifo::inodes(&self.run_dir, guid);
            let kept = leader.and_then(|leader| leader.kept);
            keeper::let_go(&self.hierarchy, &self.data_dir, kept, &fifos);
        }
        crate::logs::remove(&self.data_dir, guid)?;
        lock.remove()?;
        Ok(members)
    }

    /// Ends everything in a subcontainer, and takes away what was made for its leader.
    pub(super) fn end_all(&self, guid: &str, role: &Role, limited: bool) -> Result<()> {
        self.end_processes(guid, Some(role), limited)?;
        self.networking.release(guid)
    }

    /// Ends everything in a subcontainer, and removes its groups. Where they are is looked for if nobody knows.
    pub(super) fn end_processes(&self, guid: &str, role: Option<&Role>, limited: bool) -> Result<()> {
        let group = match role {
            Some(role) => self.hierarchy.existing(&role.whole_group(guid))?,
            None => self.hierarchy.find(guid)?,
        };
        if let Some(group) = group {
            group.destroy()?;
        }
        if limited {
            self.controllers.remove(guid)?;
        }
        if self.sealed.is_none() {
            self.hierarchy.tidy();
        }
        Ok(())
    }

    /// As a daemon that ends: takes away what it kept for containers to come.
    pub(crate) fn close(&self) -> Result<()> {
        self.keeper.get().map_or(Ok(()), |keeper| keeper.close()).and(self.networking.close())
    }

    /// As a daemon whose process goes on as another program: what that one cannot find it makes anew.
    pub(crate) fn rest(&self) -> Result<()> {
        self.networking.close()
    }

    /// Takes away what is there for all subcontainers, if there is none.
    pub(crate) fn release(&self) -> Result<()> {
        self.controllers.tidy();
        self.hierarchy.tidy();
        self.networking.tidy()?;
        Rootfs::release(&self.data_dir).map_err(Failure::from)
    }

    /// Takes away what an earlier host left of private networks whose containers are gone.
    pub(crate) fn recover_networks(&self) -> Result<()> {
        self.networking.recover(|guid| self.leader(guid).is_ok_and(|leader| leader.is_some()))
    }

    /// What an earlier host of this data directory left: subcontainers whose owners are gone, and leaders that run. Asked
    /// before this one makes any. The groups in `inherited` are of commands that go on.
    pub(crate) fn left_behind(&self, inherited: &HashSet<String>) -> Result<LeftBehind> {
        let mut left = LeftBehind::default();
        for guid in state::guids(&self.run_dir)? {
            if let Err(failure) = self.look_at(&guid, inherited, &mut left) {
                left.failures.push(failure);
            }
        }
        match self.kept_streams() {
            Ok(streams) => left.streams = streams,
            Err(failure) => left.failures.push(failure),
        }
        // What is still wanted of it is known by now.
        if let Some(keeper) = self.keeper.get() {
            keeper.let_others_go();
        }
        if let Err(failure) =
            self.store().and_then(|store| Rootfs::give_back_stale_ids(store).map_err(Failure::from))
        {
            left.failures.push(failure);
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

    /// What was being made or destroyed when its maker was killed. Those whose owners live are their business.
    pub(crate) fn remnants(&self) -> Result<Vec<String>> {
        let mut remnants = Rootfs::remnants(&self.data_dir).map_err(Failure::from)?;
        for guid in state::guids(&self.run_dir)? {
            let state = state::read(&self.run_dir, &guid)?;
            let elsewhere = state.data_dir.is_some_and(|dir| dir != self.data_dir);
            let awaited = state.owner.is_some_and(|owner| owner.handle().is_some());
            let lost = || self.rootfs(&guid).is_err_and(|failure| failure.kind == ErrorKind::NotFound);
            if !elsewhere && !awaited && !remnants.contains(&guid) && lost() {
                remnants.push(guid);
            }
        }
        Ok(remnants)
    }

    /// Removes one of [`Machine::remnants`].
    pub(crate) fn remove_remnant(&self, guid: &str) -> Result<()> {
        if let Some(lock) = Locked::existing(&self.run_dir, guid)? {
            let state = lock.read()?;
            if state == State::default() {
                // Nobody knows whose it was. Who is about to write into it makes it again.
                lock.remove()?;
            } else if state.data_dir.is_some_and(|dir| dir != self.data_dir) {
                return Ok(());
            }
        }
        self.destroy(guid).map(drop)
    }

    fn look_at(&self, guid: &str, inherited: &HashSet<String>, left: &mut LeftBehind) -> Result<()> {
        let state = state::read(&self.run_dir, guid)?;
        if state == State::default() {
            // Made by somebody who was killed before he could write anything, or who is about to: that one makes it
            // again. It says nothing either way.
            if let Some(lock) = Locked::existing(&self.run_dir, guid)?
                && lock.read()? == State::default()
            {
                self.end_unrecorded(guid, false)?;
                lock.remove()?;
            }
            return Ok(());
        }
        if state.data_dir.as_ref() != Some(&self.data_dir) {
            return Ok(());
        }
        let lost = self.rootfs(guid).is_err_and(|failure| failure.kind == ErrorKind::NotFound);
        if lost || state.owner.as_ref().is_some_and(|owner| owner.handle().is_none()) {
            // Its owner is gone, or its files are: whoever made or destroyed it was killed before the end.
            left.owned.push(guid.to_owned());
            return Ok(());
        }
        left.awaited.extend(state.owner.clone().map(|owner| (guid.to_owned(), owner)));
        let Some(record) = &state.leader else {
            left.still.push(guid.to_owned());
            return Ok(());
        };
        match self.find_leader(guid, &state)? {
            Some(leader) => {
                self.adopt(&leader);
                end_orphans(&leader, inherited)?;
                left.running.push((guid.to_owned(), leader));
            }
            None => {
                let outcome = self.leader_ended(guid, record.pid, Outcome::Unknown)?;
                left.ended.push((guid.to_owned(), outcome));
            }
        }
        Ok(())
    }

    /// Ends what somebody has started in it who was killed before he could write it down.
    pub(crate) fn end_what_is_unknown(&self, guid: &str) -> Result<()> {
        let Some(lock) = Locked::existing(&self.run_dir, guid)? else { return Ok(()) };
        let state = lock.read()?;
        if state.leader.is_some() { Ok(()) } else { self.end_unrecorded(guid, state.limited()) }
    }

    /// The same, for who has the lock, as those have who launch.
    fn end_unrecorded(&self, guid: &str, limited: bool) -> Result<()> {
        let Ok(rootfs) = self.rootfs(guid) else { return Ok(()) };
        let role = Role::of(&rootfs);
        if !limited && self.hierarchy.existing(&role.own_group(guid))?.is_none() {
            return Ok(());
        }
        tracing::info!("ending what runs in {guid}: nothing is written down of it");
        self.end_all(guid, &role, limited)
    }

    /// The keeper of an earlier daemon has its handle, or gets one now.
    fn adopt(&self, leader: &Leader) {
        if let (Some(keeper), Some(kept)) = (self.keeper.get(), leader.record.kept) {
            keeper.adopt(kept, &leader.process.pidfd, leader.process.pid);
        }
    }
}

/// Ends the commands in a container whose caller (a host, or a command line) is gone. Nobody of this process has started one
/// yet; it may have been another program, though, or somebody else, long ago, who had its number.
fn end_orphans(leader: &Leader, inherited: &HashSet<String>) -> Result<()> {
    let own = leader.process.group.location().1;
    let ours = format!("{}-", std::process::id());
    for (name, group) in leader.group.groups().into_iter().filter(|(name, _)| name != own) {
        let lives = if name.starts_with(&ours) { inherited.contains(&name) } else { caller_lives(&name) };
        if !lives {
            group.destroy()?;
        }
    }
    Ok(())
}
