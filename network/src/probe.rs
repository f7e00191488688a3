//! What private networks need of the machine, tried in a network namespace that goes with the try.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::error::Result;
use crate::links::{Links, Veth};
use crate::nft;

/// What came of it.
#[derive(Debug)]
pub struct Probe {
    /// A bridge and a veth pair.
    pub links: Result<()>,
    /// A table of rules, by `nft`.
    pub rules: Result<()>,
}

/// Tries everything once. Leaves nothing.
///
/// # Errors
/// When no network namespace can be made: `EPERM` without `CAP_SYS_ADMIN`, `ENOSPC` at `user.max_net_namespaces`.
pub fn probe() -> std::result::Result<Probe, Errno> {
    let (other, ()) = linux::netns::create(|| ())?;
    let (_, probe) = linux::netns::create(|| {
        let links = || {
            let links = Links::open()?;
            let bridge = links.make_bridge("doctor0", 1500, Ipv4Addr::new(10, 0, 0, 1))?;
            links.make_veth(&Veth {
                name: "doctor1",
                alias: "doctor",
                bridge,
                mtu: 1500,
                netns: other.as_fd(),
                mac: [2, 0, 0, 0, 0, 1],
            })
        };
        let table =
            "table inet doctor {\nchain nat {\ntype nat hook postrouting priority 100\nmasquerade\n}\n}\n";
        Probe { links: links(), rules: nft::apply("try rules", table) }
    })?;
    Ok(probe)
}
