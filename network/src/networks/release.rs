//! From an attached container to nothing.

use std::collections::BTreeMap;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{Networks, addresses};
use crate::error::{Error, Result};
use crate::hosts;
use crate::links::Links;
use crate::machine;
use crate::nft;
use crate::resolver::Resolver;
use crate::state::{self, Attached, HOSTS, Lock, RESOLV, State};

impl Networks {
    /// Takes a container off its network: its ports, its names. Its link goes with its namespace, soon after the
    /// last process in it and the last handle of it are gone; or by [`tidy`](Self::tidy), at once. Its address stays
    /// its own. Returns whether it was attached.
    ///
    /// # Errors
    /// When something cannot be removed; it is written down then, and may be tried again.
    pub fn release(&self, guid: &str) -> Result<bool> {
        let lock = self.dir.lock()?;
        let mut state = lock.read()?;
        let was_attached = self.withdraw(&mut state, guid)?;
        if was_attached {
            lock.write(&state)?;
        }
        Ok(was_attached)
    }

    /// The ports, the names and the link of one container. Writes nothing down.
    fn withdraw(&self, state: &mut State, guid: &str) -> Result<bool> {
        let Some(attached) = state.attached.get(guid) else { return Ok(false) };
        unpublish(attached)?;
        self.take_away(state, &Links::open()?, guid)?;
        Ok(true)
    }

    /// As [`release`](Self::release), and its address is no longer its own.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub fn forget(&self, guid: &str) -> Result<()> {
        let lock = self.dir.lock()?;
        let mut state = lock.read()?;
        self.withdraw(&mut state, guid)?;
        end_leases(&mut state, guid);
        lock.write(&state)
    }

    /// Removes what nobody uses: links of released containers at once, then, unless somebody
    /// [keeps them](Self::keep_warm), bridges without containers; without any container also the table, and the
    /// machine's settings are put back. 10 to 20 ms for each link and bridge, in which others may attach.
    ///
    /// # Errors
    /// With the first thing that cannot be removed; it is written down, and may be tried again.
    pub fn tidy(&self) -> Result<()> {
        let links = Links::open()?;
        // Their names are never used again, so no lock is needed for what takes long.
        for link in self.dir.read()?.leaving {
            links.remove(&link)?;
        }
        let lock = self.dir.lock()?;
        let mut state = lock.read()?;
        self.tidy_up(&lock, &mut state, &links)
    }

    /// After a crash or a restart: releases everybody who is not `alive` and whose maker no longer lives, puts
    /// rules and settings back to what those need who stay, and tidies.
    ///
    /// `alive` says whether a guid's container runs. It is asked without a lock held.
    ///
    /// # Errors
    /// With the first thing that failed; what is left is written down, and this may be called again.
    pub fn recover(&self, alive: impl Fn(&str) -> bool) -> Result<()> {
        let mut dead = BTreeMap::new();
        for (guid, attached) in self.dir.read()?.attached {
            if !attached.maker.lives() && !alive(&guid) {
                dead.insert(guid, attached.link);
            }
        }
        let links = Links::open()?;
        let lock = self.dir.lock()?;
        let mut state = lock.read()?;
        for (guid, link) in dead {
            // Unless it was attached anew in between.
            if state.attached.get(&guid).is_some_and(|attached| attached.link == link) {
                self.take_away(&mut state, &links, &guid)?;
            }
        }
        if !state.attached.is_empty() {
            let ipv6 = machine::has_ipv6();
            let changes = machine::wanted(ipv6);
            state.changed.extend(changes.iter().cloned());
            state.resolver = Some(Resolver::read(&self.config.resolv_conf, &self.config.resolved, ipv6)?);
            lock.write(&state)?;
            machine::apply(&changes)?;
            self.write_resolv(&state)?;
            nft::apply("install table", &nft::install(&state, machine::strangers(&state.changed)))?;
        }
        lock.write(&state)?;
        drop(lock);
        self.tidy()
    }

    /// Names go; the link falls silent and is noted as leaving. Writes nothing down.
    pub(super) fn take_away(&self, state: &mut State, links: &Links, guid: &str) -> Result<()> {
        let Some(attached) = state.attached.get_mut(guid) else { return Ok(()) };
        links.silence(&attached.link)?;
        self.unname(attached)?;
        state.leaving.insert(attached.link.clone());
        state.attached.remove(guid);
        // A daemon, which tidies at its end, may see many go.
        if state.leaving.len() > MANY { still_leaving(state, links) } else { Ok(()) }
    }

    /// Takes its names out of the file that siblings see.
    pub(super) fn unname(&self, attached: &mut Attached) -> Result<()> {
        let names = std::mem::take(&mut attached.names);
        if names.is_empty() {
            return Ok(());
        }
        match self.dir.shown(HOSTS, &attached.network, OFlags::RDWR) {
            Err(Error::File { source: Errno::NOENT, .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(file) => hosts::remove(&file, &addresses(attached), &names)
                .map_err(state::fail("write", &format!("{HOSTS}/{}", attached.network))),
        }
    }

    pub(super) fn tidy_up(&self, lock: &Lock<'_>, state: &mut State, links: &Links) -> Result<()> {
        still_leaving(state, links)?;
        if self.dir.is_kept_warm()? {
            return lock.write(state);
        }
        let State { networks, attached, .. } = state;
        let mut fewer = false;
        for (name, network) in networks.iter_mut() {
            if attached.values().any(|attached| attached.network == *name) {
                continue;
            }
            // Also what an attempt that was cut off may have left.
            links.remove(&network.bridge)?;
            self.dir.remove_shown(HOSTS, name)?;
            self.dir.remove_shown(RESOLV, name)?;
            fewer |= std::mem::replace(&mut network.ready, false);
        }
        if state.attached.is_empty() {
            if nft::is_installed()? {
                nft::apply("remove table", &nft::uninstall())?;
            }
            machine::restore(&state.changed)?;
            state.changed.clear();
            state.resolver = None;
        } else if fewer {
            nft::apply("install table", &nft::install(state, machine::strangers(&state.changed)))?;
        }
        drop_empty(state);
        lock.write(state)
    }
}

/// Takes its ports out of the rules.
pub(super) fn unpublish(attached: &Attached) -> Result<()> {
    let text = nft::withdraw(attached);
    // Where somebody flushed the table, the ports went with it.
    if !text.is_empty() && nft::is_installed()? {
        nft::apply("withdraw ports", &text)?;
    }
    Ok(())
}

/// Addresses are its own no longer.
pub(super) fn end_leases(state: &mut State, guid: &str) {
    for network in state.networks.values_mut() {
        network.leases.remove(guid);
    }
    drop_empty(state);
}

/// Links that are noted as leaving, and may be gone by now.
const MANY: usize = 64;

/// Forgets of the links that were leaving those that are gone.
fn still_leaving(state: &mut State, links: &Links) -> Result<()> {
    for link in std::mem::take(&mut state.leaving) {
        if links.index(&link)?.is_some() {
            state.leaving.insert(link);
        }
    }
    Ok(())
}

/// A network without bridge and without leases has nothing to be remembered.
fn drop_empty(state: &mut State) {
    state.networks.retain(|_, network| network.ready || !network.leases.is_empty());
}
