//! Which subnets and addresses are handed out. Pure.
//!
//! A network is a /24 of the first pool that has one to spare, and the /64 of the machine's own ULA prefix that
//! carries the same number. A container has the same host number in both:
//!
//! ```text
//! 10.209.7.0/24            10.209.7.1 is the bridge     10.209.7.23 a container
//! fdab:cdef:123:d107::/64  ….d107::1                    ….d107::17
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// Where subnets are taken from: in private space (RFC 1918), away from what home routers (192.168.0, 192.168.1,
/// 10.0.0), Docker (172.17 to 172.20), Podman (10.88, 10.89) and libvirt (192.168.122) take by default.
pub(crate) const POOLS: [Ipv4Net; 2] = [
    Ipv4Net::new_assert(Ipv4Addr::new(10, 209, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(172, 29, 0, 0), 16),
];

/// The prefix of one network.
const SUBNET: u8 = 24;
/// .0 is the network, .1 the bridge, .255 the broadcast address.
const HOSTS: std::ops::RangeInclusive<u8> = 2..=254;

/// A route of the machine, as far as it matters here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Route {
    pub(crate) destination: IpNet,
    pub(crate) link: u32,
}

/// Takes the first subnet of the pools that no network of ours has and that overlaps no route of the machine.
///
/// # Errors
/// With a route that is in the way, or without one when all subnets are our own. `device` tells the name of a link.
pub(crate) fn free_subnet(
    pools: &[Ipv4Net],
    ours: &[Ipv4Net],
    routes: &[Route],
    device: impl Fn(u32) -> String,
) -> Result<Ipv4Net> {
    let mut in_the_way = None;
    for pool in pools {
        let Ok(mut subnets) = pool.subnets(SUBNET.max(pool.prefix_len())) else { continue };
        let free = subnets.find(|subnet| {
            let clash = routes.iter().find(|route| overlaps(route.destination, *subnet));
            in_the_way = clash.or(in_the_way.take());
            clash.is_none() && !ours.contains(subnet)
        });
        if let Some(free) = free {
            return Ok(free);
        }
    }
    let pools = pools.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (route, device) = match in_the_way {
        Some(route) => (route.destination, device(route.link)),
        None => (IpNet::V4(ours.first().copied().unwrap_or_default()), "our own bridges".to_owned()),
    };
    Err(Error::SubnetsTaken { pools, route, device })
}

/// Whether a route leads to part of the subnet. The default route, which leads everywhere, does not count.
pub(crate) fn overlaps(route: IpNet, subnet: Ipv4Net) -> bool {
    match route {
        IpNet::V4(route) => route.prefix_len() > 0 && (route.contains(&subnet) || subnet.contains(&route)),
        IpNet::V6(_) => false,
    }
}

/// The machine's own ULA prefix (RFC 4193, 3.2.2 with another hash): 40 bits that this seed decides.
pub(crate) fn ula(seed: &[u8]) -> Ipv6Net {
    let hash = Sha256::new().chain_update("start-container network ").chain_update(seed).finalize();
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    for (octet, byte) in octets[1..6].iter_mut().zip(hash) {
        *octet = byte;
    }
    Ipv6Net::new_assert(octets.into(), 48)
}

/// The /64 that goes with a subnet.
pub(crate) fn v6_subnet(ula: Ipv6Net, v4: Ipv4Net) -> Ipv6Net {
    let mut octets = ula.network().octets();
    octets[6..8].copy_from_slice(&v4.network().octets()[1..3]);
    Ipv6Net::new_assert(octets.into(), 64)
}

/// The bridge's own number in its network.
pub(crate) const BRIDGE: u8 = 1;

pub(crate) fn v4_host(subnet: Ipv4Net, number: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet.network().to_bits() | u32::from(number))
}

pub(crate) fn v6_host(subnet: Ipv6Net, number: u8) -> Ipv6Addr {
    Ipv6Addr::from_bits(subnet.network().to_bits() | u128::from(number))
}

/// The first number from `start` on, round the clock, that is not taken.
pub(crate) fn free_host(start: u8, taken: impl Fn(u8) -> bool) -> Option<u8> {
    let count = HOSTS.len();
    let first = usize::from(start) % count;
    HOSTS.cycle().skip(first).take(count).find(|number| !taken(*number))
}

/// The link address that goes with an IPv4 address. An address that is handed out again has the same, so that no
/// sibling's neighbour cache is wrong.
pub(crate) fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    // Locally administered, unicast.
    [0x02, 0x5c, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn route(text: &str) -> Route {
        Route { destination: text.parse().unwrap(), link: 7 }
    }

    fn device(_: u32) -> String {
        "tun0".to_owned()
    }

    #[test]
    fn a_network_steps_around_its_siblings_and_the_machines_routes() {
        let taken = [net("10.209.0.0/24")];
        let routes = [route("0.0.0.0/0"), route("10.209.1.0/24"), route("10.209.2.7/32")];
        assert_eq!(free_subnet(&POOLS, &taken, &routes, device).unwrap(), net("10.209.3.0/24"));
        let vpn = [route("10.0.0.0/8")];
        assert_eq!(free_subnet(&POOLS, &taken, &vpn, device).unwrap(), net("172.29.0.0/24"));
    }

    #[test]
    fn a_clash_names_the_route_and_its_link() {
        let error = free_subnet(&POOLS[..1], &[], &[route("10.0.0.0/8")], device).unwrap_err();
        assert_eq!(error.to_string(), "no free subnet in 10.209.0.0/16: 10.0.0.0/8 goes through tun0");
    }

    #[test]
    fn one_seed_gives_one_prefix_and_a_subnet_has_its_number_in_both_families() {
        let ula = ula(b"machine");
        assert_eq!(ula, super::ula(b"machine"));
        assert_ne!(ula, super::ula(b"another"));
        assert!("fd00::/8".parse::<Ipv6Net>().unwrap().contains(&ula));
        let v6 = v6_subnet(ula, net("10.209.7.0/24"));
        assert!(ula.contains(&v6) && v6.prefix_len() == 64);
        assert!(v6.network().to_string().ends_with(":d107::"), "{v6}");
        assert!(v6_host(v6, 0x17).to_string().ends_with(":d107::17"));
        assert_eq!(v4_host(net("10.209.7.0/24"), 23), Ipv4Addr::new(10, 209, 7, 23));
    }

    proptest! {
        #[test]
        fn every_host_number_is_handed_out_once(start: u8) {
            let mut taken = std::collections::BTreeSet::new();
            while let Some(number) = free_host(start, |number| taken.contains(&number)) {
                prop_assert!(HOSTS.contains(&number));
                taken.insert(number);
            }
            prop_assert_eq!(taken.len(), 253);
        }
    }
}
