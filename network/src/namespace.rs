//! A new network namespace, and how it is furnished.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipnet::IpNet;

use crate::error::{Error, Result};
use crate::links::{INSIDE, Links};
use crate::machine;
use crate::traces::Traces;

/// A network namespace for one container: `lo` is up, there is no other link.
///
/// That is what a container with network `none` gets. It needs nothing of the machine, is written down nowhere and
/// goes with its last user, so a daemon may keep some ready.
#[derive(Debug)]
pub struct Namespace {
    netns: OwnedFd,
    /// A socket belongs to the namespace it was opened in: ours reaches inside for ever.
    links: Links,
    traces: Traces,
}

/// What is as in containers of other engines, where it differs from the kernel's defaults: no privilege is needed
/// for ports below 1024, which are the container's own, nor for an ICMP echo socket (`ping` without `CAP_NET_RAW`).
const SYSCTLS: [(&str, &str); 2] =
    [("net/ipv4/ip_unprivileged_port_start", "0"), ("net/ipv4/ping_group_range", "0 2147483647")];

/// Routers send advertisements; there is none on the bridge, but there are siblings. And nobody else has the addresses
/// of a new link: to ask whether somebody has makes them unusable for a second.
const SYSCTLS6: [(&str, &str); 2] =
    [("net/ipv6/conf/default/accept_ra", "0"), ("net/ipv6/conf/default/accept_dad", "0")];

impl Namespace {
    /// Makes one, which belongs to our user namespace.
    ///
    /// # Errors
    /// When the kernel refuses, see [`linux::netns::create`].
    pub fn create() -> Result<Self> {
        let made = linux::netns::create(furnish);
        let (netns, furnished) = made.map_err(|source| Error::Namespace { step: "make", source })?;
        let (links, traces) = furnished?;
        Ok(Self { netns, links, traces })
    }

    /// Takes one that was made elsewhere: by a container with a user namespace of its own, to which it then belongs.
    ///
    /// # Errors
    /// When it cannot be entered, see [`linux::netns::within`].
    pub fn adopt(netns: OwnedFd) -> Result<Self> {
        let entered = linux::netns::within(netns.as_fd(), furnish);
        let (links, traces) = entered.map_err(|source| Error::Namespace { step: "enter", source })??;
        Ok(Self { netns, links, traces })
    }

    /// Its handle, for `setns(fd, CLONE_NEWNET)`. The namespace lives as long as the handle or a process in it.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.netns
    }

    pub(crate) fn traces(&self) -> Traces {
        self.traces
    }

    /// Gives its end of a veth pair addresses and the way out.
    pub(crate) fn connect(&self, addresses: &[IpNet], gateways: &[IpAddr]) -> Result<()> {
        let missing = Error::netlink("look up link", INSIDE);
        let link = self.links.index(INSIDE)?.ok_or(rustix::io::Errno::NODEV).map_err(missing)?;
        for address in addresses {
            self.links.add_address(link, *address)?;
        }
        self.links.set_up(INSIDE)?;
        for gateway in gateways {
            self.links.add_default_route(link, *gateway)?;
        }
        self.links.wait_for_carrier(INSIDE)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }
}

fn furnish() -> Result<(Links, Traces)> {
    let traces = Traces::now()?;
    for (name, value) in SYSCTLS {
        machine::write(name, value)?;
    }
    if machine::has_ipv6() {
        for (name, value) in SYSCTLS6 {
            machine::write(name, value)?;
        }
    }
    let links = Links::open()?;
    links.set_up("lo")?;
    Ok((links, traces))
}
