//! Attach, release, tidy, recover: the steps in their order, each with its undoing.

mod attach;
mod ready;
mod release;

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::address;
use crate::error::Result;
use crate::links::INSIDE;
use crate::machine::{self, Change};
use crate::plan;
use crate::ports;
use crate::request::{Publish, Request};
use crate::resolver::{self, Dns};
use crate::state::{Attached, Dir, HOSTS, RESOLV, State};
use crate::traces::Traces;

pub use ready::Ready;

/// The private networks of this machine. Any number of processes may have one of these for the same directory at
/// the same time; one of them changes something at a time.
#[derive(Debug)]
pub struct Networks {
    dir: Dir,
    config: Config,
    settings: machine::Watched,
}

/// What an operator may choose.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where subnets are taken from, in this order; at most /24. A subnet that the machine has a route to is passed
    /// over.
    pub pools: Vec<Ipv4Net>,
    /// The machine's resolv.conf.
    pub resolv_conf: PathBuf,
    /// Whom systemd-resolved asks itself.
    pub resolved: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pools: address::POOLS.to_vec(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            resolved: resolver::resolved_file(),
        }
    }
}

/// A container's place in a network, ready to be joined.
#[derive(Debug)]
pub struct Attachment {
    /// To join by `setns(fd, CLONE_NEWNET)`. When neither a handle nor a process has it any more, the kernel
    /// removes its links on its own.
    pub netns: Arc<OwnedFd>,
    /// What the namespace shows of its use before anybody has used it.
    pub traces: Traces,
    /// To bind, read-only, over `/etc/hosts`. All containers of the network share it; it changes when siblings
    /// come and go.
    pub hosts: OwnedFd,
    /// To bind, read-only, over `/etc/resolv.conf`.
    pub resolv_conf: OwnedFd,
    /// Where it is.
    pub endpoint: Endpoint,
    /// How it resolves names of the world. To be said to the user if it is [`Dns::Nobody`].
    pub dns: Dns,
}

/// A container's place in a network, for people and programs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Whose.
    pub guid: String,
    /// The name of the network.
    pub network: String,
    /// The link inside.
    pub interface: String,
    /// The machine's end of the veth pair.
    pub link: String,
    /// Its addresses with the length of the subnet's prefix: IPv4, then IPv6 if the machine has it.
    pub addresses: Vec<IpNet>,
    /// The bridge's addresses.
    pub gateways: Vec<IpAddr>,
    /// By which siblings resolve it: its guid, its aliases.
    pub names: Vec<String>,
    /// Its published ports, with the ports that were chosen.
    pub published: Vec<Publish>,
}

/// Keeps bridges and table while nobody uses them, until it is dropped: the next container needs not wait for them.
#[derive(Debug)]
pub struct Warm(#[expect(dead_code, reason = "it is held, not read")] OwnedFd);

impl Networks {
    /// Takes a directory for the state. It must be the machine's only one (one per network namespace), private to
    /// root, and may but need not outlive a boot.
    ///
    /// # Errors
    /// When it cannot be written to.
    pub fn open(dir: OwnedFd, config: Config) -> Result<Self> {
        Ok(Self { dir: Dir::open(dir)?, config, settings: machine::Watched::default() })
    }

    /// Checks a request as [`private`](Self::private) would once the container is released, and makes nothing: names,
    /// clashes with siblings and with published ports, ports that other programs have.
    ///
    /// # Errors
    /// With the first thing that is in the way, and whose it is.
    pub fn check(&self, guid: &str, request: &Request) -> Result<()> {
        let mut state = self.dir.read()?;
        // What an earlier run of it left goes first.
        state.attached.remove(guid);
        let plan = plan::plan(&state, guid, request)?;
        if plan.publish.is_empty() {
            return Ok(());
        }
        ports::settle(&state, &plan.publish, machine::has_ipv6()).map(drop)
    }

    /// Who is attached.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn list(&self) -> Result<Vec<Endpoint>> {
        let state = self.dir.read()?;
        let attached = state.attached.iter().filter(|(_, attached)| !attached.idle);
        Ok(attached.filter_map(|(guid, attached)| endpoint(&state, guid, attached)).collect())
    }

    /// The files of [`Attachment`] once more, for another container in the same namespace: hosts and resolv.conf.
    /// Nothing if nobody of that guid is attached.
    ///
    /// # Errors
    /// When the state or a file cannot be read.
    pub fn files(&self, guid: &str) -> Result<Option<(OwnedFd, OwnedFd)>> {
        let state = self.dir.read()?;
        let Some(attached) = state.attached.get(guid) else { return Ok(None) };
        let shown = |kind| self.dir.shown(kind, &attached.network, OFlags::RDONLY);
        Ok(Some((shown(HOSTS)?, shown(RESOLV)?)))
    }

    /// The settings of the machine that are changed now, with what they were: for an operator who asks.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn changes(&self) -> Result<Vec<Change>> {
        Ok(self.dir.read()?.changed)
    }

    /// Has [`tidy`](Self::tidy), in whatever process, leave bridges and table until the result is dropped (or this
    /// process dies). For a daemon, whose containers come and go.
    ///
    /// # Errors
    /// When the state directory cannot be written to.
    pub fn keep_warm(&self) -> Result<Warm> {
        self.dir.keep_warm().map(Warm)
    }
}

fn endpoint(state: &State, guid: &str, attached: &Attached) -> Option<Endpoint> {
    let network = state.networks.get(&attached.network)?;
    let v6 =
        attached.v6.zip(network.v6).map(|(address, net)| IpNet::new_assert(address.into(), net.prefix_len()));
    Some(Endpoint {
        guid: guid.to_owned(),
        network: attached.network.clone(),
        interface: INSIDE.to_owned(),
        link: attached.link.clone(),
        addresses: std::iter::once(IpNet::new_assert(attached.v4.into(), network.v4.prefix_len()))
            .chain(v6)
            .collect(),
        gateways: std::iter::once(IpAddr::from(network.gateway()))
            .chain(network.gateway6().filter(|_| attached.v6.is_some()).map(IpAddr::from))
            .collect(),
        names: attached.names.clone(),
        published: attached.published.clone(),
    })
}

fn addresses(attached: &Attached) -> Vec<IpAddr> {
    std::iter::once(attached.v4.into()).chain(attached.v6.map(IpAddr::from)).collect()
}
