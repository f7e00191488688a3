//! Ending a subcontainer, and what is left when one was ended by force.

use images::Rootfs;
use protocol::ErrorKind;

use super::leader::caller_lives;
use super::sandbox::Role;
use super::state::{self, Locked, State};
use super::{Leader, Machine, check_guid};
use crate::error::{Failure, Result};

/// What an earlier host left.
#[derive(Debug, Default)]
pub(crate) struct LeftBehind {
    pub(crate) owned: Vec<String>,
    pub(crate) running: Vec<(String, Leader)>,
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

    pub(super) fn look_at(&self, guid: &str, left: &mut LeftBehind) -> Result<()> {
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
    pub(super) fn end_orphans(&self, leader: &Leader) -> Result<()> {
        let own = leader.process.group.location().1;
        for (name, group) in leader.group.groups().into_iter().filter(|(name, _)| name != own) {
            if !caller_lives(&name) {
                group.destroy()?;
            }
        }
        Ok(())
    }
}
