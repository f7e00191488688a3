//! What an address is: whether it is of the public internet, and if not, what it is for.
//!
//! Owns the table. Knows nothing of this machine: see [`super::machine`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A range of addresses that nobody out there has as their own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Special {
    /// The range.
    pub net: IpNet,
    /// What it is for, as the registry calls it.
    pub name: &'static str,
    /// Who says so.
    pub source: &'static str,
}

impl std::fmt::Display for Special {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {})", self.net, self.name, self.source)
    }
}

const fn v4(octets: [u8; 4], length: u8, name: &'static str, source: &'static str) -> Special {
    let [a, b, c, d] = octets;
    Special { net: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)), name, source }
}

const fn v6(segments: [u16; 8], length: u8, name: &'static str, source: &'static str) -> Special {
    let [a, b, c, d, e, f, g, h] = segments;
    let address = Ipv6Addr::new(a, b, c, d, e, f, g, h);
    Special { net: IpNet::V6(Ipv6Net::new_assert(address, length)), name, source }
}

/// Every range that is denied.
///
/// The rows with an RFC as their source are IANA's special-purpose registries in full, as of 2026-07-18:
/// <https://www.iana.org/assignments/iana-ipv4-special-registry/iana-ipv4-special-registry-1.csv> and
/// <https://www.iana.org/assignments/iana-ipv6-special-registry/iana-ipv6-special-registry-1.csv>; a copy, which a test
/// compares with these rows, is in `broker/tests/iana`. Also those that the registries call globally reachable are denied:
/// anycast of protocols, relays and delegations for wrong questions; nothing that a package is served by lives there. What
/// else is denied (multicast, what is not yet or no longer unicast) is from IANA's address space registries and RFC 4291.
#[rustfmt::skip]
pub const SPECIAL: &[Special] = &[
    v4([0, 0, 0, 0], 8, "This network", "RFC791"),
    v4([0, 0, 0, 0], 32, "This host on this network", "RFC1122"),
    v4([10, 0, 0, 0], 8, "Private-Use", "RFC1918"),
    v4([100, 64, 0, 0], 10, "Shared Address Space", "RFC6598"),
    v4([127, 0, 0, 0], 8, "Loopback", "RFC1122"),
    v4([169, 254, 0, 0], 16, "Link Local", "RFC3927"),
    v4([172, 16, 0, 0], 12, "Private-Use", "RFC1918"),
    v4([192, 0, 0, 0], 24, "IETF Protocol Assignments", "RFC6890"),
    v4([192, 0, 0, 0], 29, "IPv4 Service Continuity Prefix", "RFC7335"),
    v4([192, 0, 0, 8], 32, "IPv4 dummy address", "RFC7600"),
    v4([192, 0, 0, 9], 32, "Port Control Protocol Anycast", "RFC7723"),
    v4([192, 0, 0, 10], 32, "Traversal Using Relays around NAT Anycast", "RFC8155"),
    v4([192, 0, 0, 170], 32, "NAT64/DNS64 Discovery", "RFC8880"),
    v4([192, 0, 0, 171], 32, "NAT64/DNS64 Discovery", "RFC8880"),
    v4([192, 0, 2, 0], 24, "Documentation (TEST-NET-1)", "RFC5737"),
    v4([192, 31, 196, 0], 24, "AS112-v4", "RFC7535"),
    v4([192, 52, 193, 0], 24, "AMT", "RFC7450"),
    v4([192, 88, 99, 0], 24, "Deprecated (6to4 Relay Anycast)", "RFC7526"),
    v4([192, 88, 99, 2], 32, "6a44-relay anycast address", "RFC6751"),
    v4([192, 168, 0, 0], 16, "Private-Use", "RFC1918"),
    v4([192, 175, 48, 0], 24, "Direct Delegation AS112 Service", "RFC7534"),
    v4([198, 18, 0, 0], 15, "Benchmarking", "RFC2544"),
    v4([198, 51, 100, 0], 24, "Documentation (TEST-NET-2)", "RFC5737"),
    v4([203, 0, 113, 0], 24, "Documentation (TEST-NET-3)", "RFC5737"),
    v4([240, 0, 0, 0], 4, "Reserved", "RFC1112"),
    v4([255, 255, 255, 255], 32, "Limited Broadcast", "RFC8190"),
    v4([224, 0, 0, 0], 4, "Multicast", "IANA's IPv4 address space"),

    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, "Loopback Address", "RFC4291"),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128, "Unspecified Address", "RFC4291"),
    v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, "IPv4-mapped Address", "RFC4291"),
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, "IPv4-IPv6 Translat.", "RFC6052"),
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "IPv4-IPv6 Translat.", "RFC8215"),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "Discard-Only Address Block", "RFC6666"),
    v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64, "Dummy IPv6 Prefix", "RFC9780"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "IETF Protocol Assignments", "RFC2928"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "TEREDO", "RFC4380"),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128, "Port Control Protocol Anycast", "RFC7723"),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128, "Traversal Using Relays around NAT Anycast", "RFC8155"),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 3], 128, "DNS-SD Service Registration Protocol Anycast", "RFC9665"),
    v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, "Benchmarking", "RFC5180"),
    v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32, "AMT", "RFC7450"),
    v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48, "AS112-v6", "RFC7535"),
    v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28, "Deprecated (previously ORCHID)", "RFC4843"),
    v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, "ORCHIDv2", "RFC7343"),
    v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28, "Drone Remote ID Protocol Entity Tags (DETs) Prefix", "RFC9374"),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "Documentation", "RFC3849"),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4", "RFC3056"),
    v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, "Direct Delegation AS112 Service", "RFC7534"),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "Documentation", "RFC9637"),
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, "Segment Routing (SRv6) SIDs", "RFC9602"),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "Unique-Local", "RFC4193"),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "Link-Local Unicast", "RFC4291"),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "Deprecated (Site-Local Unicast)", "RFC 3879"),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "Multicast", "RFC 4291, 2.7"),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96, "Deprecated (IPv4-Compatible)", "RFC 4291, 2.5.5.1"),
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, "IPv4-translated", "RFC 2765, 2.1"),
    // Global unicast is 2000::/3 and nothing else, until IANA says otherwise.
    v6([0, 0, 0, 0, 0, 0, 0, 0], 3, "not global unicast", "IANA's IPv6 address space"),
    v6([0x4000, 0, 0, 0, 0, 0, 0, 0], 2, "not global unicast", "IANA's IPv6 address space"),
    v6([0x8000, 0, 0, 0, 0, 0, 0, 0], 1, "not global unicast", "IANA's IPv6 address space"),
];

/// The narrowest range of [`SPECIAL`] that an address is in; none for one of the public internet. Says nothing of what the
/// address may carry in itself: see [`carried`].
#[must_use]
pub fn special(address: IpAddr) -> Option<&'static Special> {
    SPECIAL.iter().filter(|row| row.net.contains(&address)).max_by_key(|row| row.net.prefix_len())
}

/// The IPv4 addresses that an IPv6 address carries, and that somebody on the way may send its packets to.
#[must_use]
pub fn carried(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let pair = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    let last = pair(g, h);
    let mut carried = match [a, b, c, d, e, f] {
        // Compatible (RFC 4291, 2.5.5.1), mapped (2.5.5.2), translated (RFC 2765), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => vec![last],
        // NAT64 of a network's own choice (RFC 8215): whole at the end, or around bits 64 to 71 (RFC 6052, 2.2).
        [0x64, 0xff9b, 1, ..] => vec![last, pair(d, e << 8 | f >> 8)],
        // 6to4 (RFC 3056).
        [0x2002, ..] => vec![pair(b, c)],
        // Teredo (RFC 4380, 4): its server, and the client with every bit turned.
        [0x2001, 0, ..] => vec![pair(c, d), Ipv4Addr::from_bits(!last.to_bits())],
        _ => Vec::new(),
    };
    // ISATAP (RFC 5214, 6.1): an interface of IANA's OUI, under whatever prefix.
    if matches!([e, f], [0 | 0x200, 0x5efe]) {
        carried.push(last);
    }
    carried
}

/// Why an address is not of the public internet: the ranges that it and what it carries are in, each with the address that
/// is in it. Empty for one that is.
#[must_use]
pub fn judge(address: IpAddr) -> Vec<(IpAddr, &'static Special)> {
    let carried = match address {
        IpAddr::V4(_) => Vec::new(),
        IpAddr::V6(address) => carried(address),
    };
    let all = std::iter::once(address).chain(carried.into_iter().map(IpAddr::V4));
    all.filter_map(|address| Some((address, special(address)?))).collect()
}
