//! What an address is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use broker::egress::address::{SPECIAL, carried, judge, special};
use broker::egress::{Error, Limits, Reason};
use ipnet::IpNet;
use proptest::prelude::*;

use crate::rig::{Names, PUBLIC, World, get};

/// The registries as IANA publishes them: range, name, RFCs.
fn registry() -> Vec<(IpNet, String, String)> {
    let text = [include_str!("../iana/ipv4.csv"), include_str!("../iana/ipv6.csv")];
    text.into_iter().flat_map(rows).collect()
}

/// Enough of CSV: fields in quotes may have commas, line ends, and quotes twice.
fn rows(text: &str) -> Vec<(IpNet, String, String)> {
    let (mut records, mut record, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            other => field.push(other),
        }
    }
    let mut rows = Vec::new();
    for record in &records[1..] {
        assert_eq!(record.len(), 10, "{record:?}");
        for block in record[0].split(", ") {
            // `192.0.0.0/24 [2]`: a footnote.
            let net = block.split(' ').next().unwrap().parse().unwrap();
            rows.push((net, record[1].trim_matches('"').to_owned(), record[2].clone()));
        }
    }
    rows
}

#[test]
fn b7_the_table_is_the_registry() {
    let registry = registry();
    assert_eq!(registry.len(), 26 + 25);
    for (net, name, source) in &registry {
        let row = SPECIAL.iter().find(|row| row.net == *net && row.name == name);
        let row = row.unwrap_or_else(|| panic!("{net} ({name}) is missing"));
        assert!(source.contains(&format!("[{}]", row.source)), "{row}: {source}");
    }
    // Nor does the table say that something is the registry's which is not.
    let ours = SPECIAL.iter().filter(|row| row.source.starts_with("RFC") && !row.source.contains(' '));
    assert_eq!(ours.count(), registry.len());
}

fn last(net: &IpNet) -> IpAddr {
    net.broadcast()
}

#[test]
fn b7_every_range_is_denied_from_its_first_address_to_its_last() {
    for row in SPECIAL {
        for address in [row.net.network(), last(&row.net)] {
            assert!(!judge(address).is_empty(), "{address} of {row}");
        }
    }
    for text in [
        "0.1.2.3",
        "10.0.0.1",
        "100.127.255.255",
        "127.1.2.3",
        "169.254.169.254",
        "172.31.255.255",
        "192.0.0.9",
        "192.0.2.1",
        "192.31.196.1",
        "192.52.193.1",
        "192.88.99.1",
        "192.168.1.1",
        "192.175.48.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:8.8.8.8",
        "::8.8.8.8",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "100::1",
        "100:0:0:1::1",
        "2001::1",
        "2001:1ff::1",
        "2001:db8::1",
        "2002:808:808::1",
        "2620:4f:8000::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fdff::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "4000::1",
        "::ffff:0:8.8.8.8",
    ] {
        assert!(!judge(text.parse().unwrap()).is_empty(), "{text}");
    }
}

#[test]
fn b7_what_is_beside_a_range_is_not_denied() {
    for text in [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.0.3.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2000::",
        "2001:200::",
        "2001:db7:ffff::",
        "2001:db9::",
        "2001:ffff::",
        "2003::",
        "2620:4f:7fff::",
        "2620:4f:8001::",
        "3ffe:ffff::",
        "3fff:1000::",
    ] {
        assert_eq!(judge(text.parse().unwrap()), [], "{text}");
    }
}

/// Every way in which an IPv6 address carries an IPv4 one.
fn carriers(inner: Ipv4Addr) -> Vec<Ipv6Addr> {
    let bits = inner.to_bits();
    let (high, low) = ((bits >> 16) as u16, bits as u16);
    let (turned_high, turned_low) = (!high, !low);
    vec![
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, high, low >> 8, low << 8, 0, 0),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0, high, low, 0, 0, 0xf7f7, 0xf7f7),
        Ipv6Addr::new(0x2001, 0, 0x808, 0x808, 0, 0, turned_high, turned_low),
        Ipv6Addr::new(0x2a00, 1, 2, 3, 0, 0x5efe, high, low),
        Ipv6Addr::new(0x2a00, 1, 2, 3, 0x200, 0x5efe, high, low),
    ]
}

/// What the standard library says of an address, which knows less.
fn std_says_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_multicast()
                || v4.is_unspecified()
                || v4.octets()[0] == 0
                || v4.octets()[0] >= 240
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.to_ipv4().is_some()
                || v6.segments()[0] & 0xe000 != 0x2000
        }
    }
}

proptest! {
    #[test]
    fn b7_an_address_is_denied_exactly_when_a_range_has_it(bits: u32, wide: u128) {
        for address in [IpAddr::V4(bits.into()), IpAddr::V6(wide.into()), IpAddr::V6((wide >> 3 | 1 << 125).into())] {
            let by_bits = SPECIAL.iter().any(|row| match (row.net, address) {
                (IpNet::V4(net), IpAddr::V4(address)) => {
                    let shift = 32 - u32::from(net.prefix_len());
                    address.to_bits().checked_shr(shift).unwrap_or(0) == net.addr().to_bits().checked_shr(shift).unwrap_or(0)
                }
                (IpNet::V6(net), IpAddr::V6(address)) => {
                    let shift = 128 - u32::from(net.prefix_len());
                    address.to_bits().checked_shr(shift).unwrap_or(0) == net.addr().to_bits().checked_shr(shift).unwrap_or(0)
                }
                _ => false,
            });
            prop_assert_eq!(special(address).is_some(), by_bits, "{}", address);
            prop_assert!(special(address).is_some() || !std_says_special(address), "{}", address);
        }
    }

    #[test]
    fn b7_an_address_in_an_address_is_judged_too(row in 0..27_usize, bits: u32) {
        // Some address of a range of IPv4.
        let IpNet::V4(net) = SPECIAL[row].net else { panic!("row {row} is not of IPv4") };
        let inner = Ipv4Addr::from_bits(net.network().to_bits() | bits & net.hostmask().to_bits());
        for carrier in carriers(inner) {
            prop_assert!(carried(carrier).contains(&inner), "{}", carrier);
            prop_assert!(judge(carrier.into()).iter().any(|(address, _)| *address == IpAddr::V4(inner)), "{}", carrier);
        }
    }
}

/// Every range, asked for by name and as an address: each is denied as such, and nobody is connected to.
#[test]
fn b7_no_request_reaches_a_range_that_is_not_public() {
    let world = World::new();
    for row in SPECIAL {
        for address in [row.net.network(), last(&row.net)] {
            world.names.set("name.example", &[address]);
            let literal = match address {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
            };
            for host in ["name.example", &literal] {
                let target = format!("{host}:{}", world.server.port);
                let error = world.fetch_as(&world.guard, &[&target], get(&format!("http://{target}/")));
                let Err(Error::Denied(denied)) = error else { panic!("{target}: {error:?}") };
                assert!(matches!(denied.reason, Reason::Special { .. }), "{target}: {denied}");
            }
        }
    }
    assert_eq!(world.server.heard(), 0);
}

#[test]
fn b7_one_address_that_may_not_be_reached_denies_all() {
    let world = World::new();
    for bad in ["10.0.0.1", "127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254", "fe80::1"] {
        for addresses in [[PUBLIC, bad.parse().unwrap()], [bad.parse().unwrap(), PUBLIC]] {
            world.names.set("name.example", &addresses);
            let target = format!("name.example:{}", world.server.port);
            let error = world.fetch_as(&world.guard, &[&target], get(&format!("http://{target}/")));
            assert!(matches!(error, Err(Error::Denied(_))), "{addresses:?}: {error:?}");
        }
    }
}

#[test]
fn b7_an_exception_for_a_carrier_is_none_for_what_it_carries() {
    let world = World::new();
    // A network behind NAT64, whose operator lets packages use it.
    let guard = world.guard.clone().with_private(vec!["64:ff9b::/96".parse().unwrap()]);
    world.names.set("name.example", &["64:ff9b::a9fe:a9fe".parse().unwrap()]);
    let limits = Limits::default();
    let target = "name.example:80";
    let error =
        world.run(guard.fetch(&Names::grants(&[target]), get("http://name.example/"), &limits)).unwrap_err();
    let said = "name.example:80 is denied: 169.254.169.254 is in 169.254.0.0/16 (Link Local, RFC3927)";
    assert_eq!(error.to_string(), said);
}
