//! Attachments without a container: made ahead, or left by one that did not use its own.
//!
//! ```text
//! make_ready() --> ready --take()--> attached to a container --rest()--> resting: it has ended
//!                    ^                                                      | retire(): it is forgotten
//!                    +------ nobody used it <-- look_over() <-- retired <---+
//! ```
//! To make a namespace and a veth pair, and to take them apart, is most of what a private network costs, and all of
//! it is the kernel's. So a daemon makes some while nobody waits, and uses again what nobody has used: see
//! [`Networks::look_over`] for what that means, and for what it leaves to the caller to know.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::release::{end_leases, unpublish};
use super::{Attachment, Networks, endpoint};
use crate::error::Result;
use crate::nft;
use crate::plan;
use crate::request::Request;
use crate::resolver::Resolver;
use crate::state::{self, HOSTS, Maker, Network, RESOLV};
use crate::traces::Traces;

/// An attachment that belongs to no container. Dropping it leaves it written down under the name of this process;
/// whoever makes one ends it by [`Networks::take`] or [`Networks::discard`].
#[derive(Debug)]
pub struct Ready {
    key: String,
    netns: Arc<OwnedFd>,
    traces: Traces,
}

impl Networks {
    /// Makes an attachment ahead of time: namespace, link, address. It has no names and publishes nothing.
    ///
    /// # Errors
    /// As [`private`](Self::private).
    pub fn make_ready(&self, network: Option<&str>) -> Result<Ready> {
        let key = {
            let lock = self.dir.lock()?;
            let mut state = lock.read()?;
            let key = next_key(&mut state);
            lock.write(&state)?;
            key
        };
        let request = Request { network: network.map(str::to_owned), ..Request::default() };
        let made = self.private(&key, &request)?;
        let ready = Ready { key, netns: made.netns, traces: made.traces };
        // It was somebody for a moment. Nobody knew the name.
        self.rest(&ready.key)?;
        Ok(ready)
    }

    /// Gives a container an attachment that is there. When it does not suit what is asked for (another network, an
    /// address that is the container's own already, rules or settings that are no longer as they were), it comes
    /// back, and [`private`](Self::private) is the way.
    ///
    /// # Errors
    /// What is wrong with the request, as [`check`](Self::check) says it. The attachment is written down as it was.
    pub fn take(
        &self,
        guid: &str,
        request: &Request,
        ready: Ready,
    ) -> Result<std::result::Result<Attachment, Ready>> {
        let lock = self.dir.lock()?;
        let mut state = lock.read()?;
        let plan = plan::plan(&state, guid, request)?;
        let suits = |network: &Network| {
            network.ready && !network.leases.contains_key(guid) && network.leases.contains_key(&ready.key)
        };
        let fits = plan.publish.is_empty()
            && state.attached.get(&ready.key).is_some_and(|attached| attached.network == plan.network);
        let Some(network) = state.networks.get(&plan.network).filter(|network| fits && suits(network)) else {
            return Ok(Err(ready));
        };
        let resolver = Resolver::read(&self.config.resolv_conf, &self.config.resolved, network.v6.is_some())?;
        let same_rules = state.resolver.as_ref() == Some(&resolver)
            && self.settings.is_as_wanted()
            && nft::is_installed()?;
        if !same_rules {
            return Ok(Err(ready));
        }
        rename(&mut state, &ready.key, guid);
        let Some(attached) = state.attached.get_mut(guid) else { return Ok(Err(ready)) };
        attached.names = plan.names;
        attached.idle = false;
        attached.maker = Maker::this_process();
        let attached = attached.clone();
        let place = endpoint(&state, guid, &attached);
        let attachment = Attachment {
            hosts: self.dir.shown(HOSTS, &attached.network, OFlags::RDONLY)?,
            resolv_conf: self.dir.shown(RESOLV, &attached.network, OFlags::RDONLY)?,
            endpoint: place.ok_or(Errno::NOENT).map_err(state::fail("read", "state.json"))?,
            netns: ready.netns,
            traces: ready.traces,
            dns: resolver.dns(),
        };
        lock.write(&state)?;
        self.name(&attached)?;
        Ok(Ok(attachment))
    }

    /// A container has ended: its names and its ports go, its link and its address stay with it. Returns whether it
    /// was attached.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub fn rest(&self, guid: &str) -> Result<bool> {
        let lock = self.dir.lock()?;
        let mut state = lock.read()?;
        let Some(attached) = state.attached.get_mut(guid) else { return Ok(false) };
        unpublish(attached)?;
        self.unname(attached)?;
        attached.published.clear();
        attached.idle = true;
        lock.write(&state)?;
        Ok(true)
    }

    /// A container is forgotten: what it was attached by belongs to nobody. None when it is not attached any more.
    /// Its processes are gone; the caller looks it [over](Self::look_over) before anybody else gets it.
    ///
    /// # Errors
    /// When the state cannot be written, or names not be removed.
    pub fn retire(&self, guid: &str, netns: Arc<OwnedFd>, traces: Traces) -> Result<Option<Ready>> {
        let lock = self.dir.lock()?;
        let mut state = lock.read()?;
        match state.attached.get_mut(guid) {
            Some(attached) if attached.published.is_empty() => {
                self.unname(attached)?;
                attached.idle = true;
            }
            _ => return Ok(None),
        }
        let key = next_key(&mut state);
        rename(&mut state, guid, &key);
        end_leases(&mut state, guid);
        lock.write(&state)?;
        Ok(Some(Ready { key, netns, traces }))
    }

    /// Gives back an attachment that nobody has used, and discards one that somebody has: of which a socket is left,
    /// or by which anything was sent or received, the kernel's own announcements of multicast groups aside.
    ///
    /// Such a namespace is as it was made, if nobody in it had a capability over it. One thing cannot be seen: whether
    /// somebody still holds an open file of its `/proc/net`. So a caller retires only what processes had that could
    /// not hand a descriptor to anybody.
    ///
    /// # Errors
    /// When the namespace cannot be looked at, or discarded.
    pub fn look_over(&self, ready: Ready) -> Result<Option<Ready>> {
        match ready.traces.are_those_of(ready.netns.as_fd()) {
            Ok(true) => Ok(Some(ready)),
            Ok(false) => self.discard(ready).map(|()| None),
            Err(error) => self.discard(ready).and(Err(error)),
        }
    }

    /// Takes an attachment apart that nobody is to have.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub fn discard(&self, ready: Ready) -> Result<()> {
        self.forget(&ready.key)
    }
}

fn next_key(state: &mut state::State) -> String {
    let key = format!("ready-{:x}", state.serial);
    state.serial = state.serial.wrapping_add(1);
    key
}

/// Link and address of one become another's.
fn rename(state: &mut state::State, from: &str, to: &str) {
    let Some(attached) = state.attached.remove(from) else { return };
    if let Some(network) = state.networks.get_mut(&attached.network)
        && let Some(number) = network.leases.remove(from)
    {
        network.leases.insert(to.to_owned(), number);
    }
    state.attached.insert(to.to_owned(), attached);
}
