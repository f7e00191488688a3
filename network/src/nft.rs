//! Our one nftables table, `inet start-container`. Never touches another.
//!
//! The rules never change; networks and published ports are elements of its sets and maps. So a container without
//! published ports needs no transaction at all, and one with some needs one. A network that comes or goes replaces
//! the table. The text is pure; `nft` applies it, all of it or nothing.
//!
//! | way of a packet | what happens |
//! |---|---|
//! | container → outside | forwarded, with the machine's address (masquerade) |
//! | container → sibling on its network | bridged, or forwarded where the bridge's frames pass netfilter |
//! | container → container on another network | refused |
//! | container → the machine | refused, but for echo, neighbour discovery and names (`resolver`) |
//! | outside → published port of the machine | to the container, with the caller's address |
//! | the machine, also by 127.0.0.1 → published port | to the container, with the bridge's address |
//! | container → published port, its own too | to the container; from the same network, with the bridge's address |
//! | outside → container's address | dropped |
//! | source address that is not of the bridge's subnet | dropped |

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use linux::step::{Step, during};
use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::netlink::Socket;
use crate::request::Publish;
use crate::state::{Attached, Network, State};

/// The name of the table, of family `inet`.
pub const TABLE: &str = "start-container";

/// Sets, maps and chains. `STRANGERS` is replaced.
const RULES: &str = r#"
table inet start-container {
  # Our bridges, the way from one to itself, and the subnet of each.
  set bridges { type ifname; }
  set within { type ifname . ifname; }
  set home4 { type ifname . ipv4_addr; flags interval; }
  set home6 { type ifname . ipv6_addr; flags interval; }
  # Ports of every address of the machine, and of one.
  map published4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
  map published4_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
  map published6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
  map published6_at { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
  # A resolver that only the machine itself can reach.
  map resolver { type inet_proto : ipv4_addr . inet_service; }

  chain source {
    type filter hook prerouting priority -300; policy accept;
    # The bridges route 127.0.0.0/8, for the machine's own calls of published ports: nobody else may use that
    # (CVE-2020-8558).
    iifname @bridges ip daddr 127.0.0.0/8 drop
    iifname @bridges meta nfproto ipv4 iifname . ip saddr != @home4 drop
    iifname @bridges meta nfproto ipv6 ip6 saddr != { ::, fe80::/10 } iifname . ip6 saddr != @home6 drop
  }
  chain published {
    meta l4proto { tcp, udp } dnat ip addr . port to ip daddr . meta l4proto . th dport map @published4_at
    meta l4proto { tcp, udp } dnat ip addr . port to meta l4proto . th dport map @published4
    meta l4proto { tcp, udp } dnat ip6 addr . port to ip6 daddr . meta l4proto . th dport map @published6_at
    meta l4proto { tcp, udp } dnat ip6 addr . port to meta l4proto . th dport map @published6
  }
  chain arriving {
    type nat hook prerouting priority -100; policy accept;
    iifname @bridges fib daddr type local meta l4proto { tcp, udp } th dport 53 dnat ip addr . port to meta l4proto map @resolver
    # A neighbour on the wire may address a packet to 127.0.0.1: a port published there is not for it.
    ip daddr 127.0.0.0/8 return
    fib daddr type local jump published
  }
  chain calling {
    type nat hook output priority -100; policy accept;
    # There is no way back to ::1 from another link: refused at once is better than no answer.
    ip6 daddr ::1 return
    fib daddr type local jump published
  }
  chain resolving {
    type nat hook input priority 100; policy accept;
    # A resolver on the loopback answers only to the loopback.
    iifname @bridges ct status dnat ip daddr 127.0.0.0/8 snat ip to 127.0.0.1
  }
  chain leaving {
    type nat hook postrouting priority 100; policy accept;
    oifname @bridges ip saddr 127.0.0.0/8 masquerade
    # Between siblings by a published port: the answer has to come back through here.
    ct status dnat oifname . ip saddr @home4 masquerade
    ct status dnat oifname . ip6 saddr @home6 masquerade
    iifname @bridges oifname != @bridges masquerade
  }
  chain input {
    type filter hook input priority 0; policy accept;
    iifname @bridges ct state established,related accept
    iifname @bridges ct status dnat accept
    iifname @bridges icmp type echo-request accept
    iifname @bridges icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept
    iifname @bridges reject with icmpx admin-prohibited
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname . oifname @within accept
    oifname @bridges ct state established,related accept
    oifname @bridges ct status dnat accept
    iifname @bridges oifname @bridges reject with icmpx admin-prohibited
    oifname @bridges drop
    iifname @bridges accept
STRANGERS
  }
}
"#;

/// Families in which the machine forwards packets only because we asked for it: it is no router for others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Strangers {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

/// The whole table, in place of the one that may be there.
pub(crate) fn install(state: &State, strangers: Strangers) -> String {
    let mut refused = String::new();
    for (refuse, family) in [(strangers.v4, "ipv4"), (strangers.v6, "ipv6")] {
        if refuse {
            _ = writeln!(refused, "    meta nfproto {family} drop");
        }
    }
    // Adding it first makes the removal of what may not be there succeed.
    let mut text = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
    text.push_str(&RULES.replace("STRANGERS\n", &refused));
    for network in state.networks.values().filter(|network| network.ready) {
        text.push_str(&elements("add", &network_elements(network)));
    }
    for attached in state.attached.values() {
        text.push_str(&publish(attached));
    }
    text.push_str(&resolve(state.resolver.as_ref().and_then(|resolver| resolver.forward)));
    text
}

/// The table goes, whether it is there or not.
pub(crate) fn uninstall() -> String {
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
}

pub(crate) fn publish(attached: &Attached) -> String {
    elements("add", &published_elements(attached))
}

/// Removes what [`publish`] may have added.
pub(crate) fn withdraw(attached: &Attached) -> String {
    let elements_of = published_elements(attached);
    elements("add", &elements_of) + &elements("delete", &elements_of)
}

/// Sends what containers ask their gateway's port 53 to a resolver of the machine's, or to nobody.
pub(crate) fn resolve(forward: Option<SocketAddr>) -> String {
    let mut text = format!("flush map inet {TABLE} resolver\n");
    if let Some(SocketAddr::V4(to)) = forward {
        let (ip, port) = (to.ip(), to.port());
        let element = format!("tcp : {ip} . {port}, udp : {ip} . {port}");
        text.push_str(&elements("add", &[("resolver", element)]));
    }
    text
}

fn elements(verb: &str, elements: &[(&'static str, String)]) -> String {
    elements.iter().fold(String::new(), |mut text, (set, element)| {
        _ = writeln!(text, "{verb} element inet {TABLE} {set} {{ {element} }}");
        text
    })
}

fn network_elements(network: &Network) -> Vec<(&'static str, String)> {
    let bridge = format!("\"{}\"", network.bridge);
    let mut elements = vec![
        ("bridges", bridge.clone()),
        ("within", format!("{bridge} . {bridge}")),
        ("home4", format!("{bridge} . {}", network.v4)),
    ];
    elements.extend(network.v6.map(|v6| ("home6", format!("{bridge} . {v6}"))));
    elements
}

fn published_elements(attached: &Attached) -> Vec<(&'static str, String)> {
    let of = |publish: &Publish| {
        let (protocol, host_port, port) =
            (publish.protocol.name(), publish.host_port, publish.container_port);
        let to = |address: IpAddr, any: &'static str, at: &'static str| match publish.address() {
            None => (any, format!("{protocol} . {host_port} : {address} . {port}")),
            Some(host) => (at, format!("{host} . {protocol} . {host_port} : {address} . {port}")),
        };
        let v4 = publish.is_v4().then(|| to(attached.v4.into(), "published4", "published4_at"));
        let v6 = attached.v6.filter(|_| publish.is_v6());
        [v4, v6.map(|v6| to(v6.into(), "published6", "published6_at"))]
    };
    attached.published.iter().flat_map(of).flatten().collect()
}

/// Where Debian, Fedora, Alpine and NixOS have it, for a caller whose `PATH` lacks the directories of root.
const PROGRAMS: [&str; 4] = ["nft", "/usr/sbin/nft", "/sbin/nft", "/run/current-system/sw/bin/nft"];

/// Has `nft` apply a text: all of it or nothing. Takes 2 to 4 ms for elements, 10 to 20 ms for the table.
pub(crate) fn apply(step: &'static str, text: &str) -> Result<()> {
    during(Step::ApplyRules, || run(step, text))
}

fn run(step: &'static str, text: &str) -> Result<()> {
    let start = |program: &str| {
        Command::new(program)
            .args(["-f", "-"])
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    };
    let mut started = start(PROGRAMS[0]);
    for program in &PROGRAMS[1..] {
        match started {
            Err(ref error) if error.kind() == std::io::ErrorKind::NotFound => started = start(program),
            _ => break,
        }
    }
    let mut child = started.map_err(|source| Error::StartNft { source })?;
    // A child that reads no more says why on its way out.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().map_err(|source| Error::StartNft { source })?;
    if output.status.success() {
        return written.map_err(|source| Error::StartNft { source });
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let message = said.lines().next().unwrap_or("nothing").to_owned();
    Err(Error::Nft { step, message })
}

/// Whether the table is there: somebody may have flushed all rules of the machine. Takes 20 µs.
pub(crate) fn is_installed() -> Result<bool> {
    let fail = |errno| Error::netlink("look up table", TABLE)(errno);
    let socket = Socket::open(Some(rustix::net::netlink::NETFILTER)).map_err(fail)?;
    match socket.request(GetTable, 0) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(fail(errno)),
    }
}

/// `NFT_MSG_GETTABLE` for our table: the one message of nf_tables that is asked too often to start `nft` for it.
#[derive(Debug)]
struct GetTable;

impl GetTable {
    /// `struct nfgenmsg`: family `inet`, version 0, no resource; then the attribute `NFTA_TABLE_NAME`.
    fn bytes() -> Vec<u8> {
        const NFPROTO_INET: u8 = 1;
        const NFTA_TABLE_NAME: u16 = 1;
        let length = 4 + TABLE.len() + 1;
        let mut bytes = vec![NFPROTO_INET, 0, 0, 0];
        bytes.extend(u16::try_from(length).unwrap_or_default().to_ne_bytes());
        bytes.extend(NFTA_TABLE_NAME.to_ne_bytes());
        bytes.extend(TABLE.as_bytes());
        bytes.resize(4 + length.next_multiple_of(4), 0);
        bytes
    }
}

impl NetlinkSerializable for GetTable {
    fn message_type(&self) -> u16 {
        const NFNL_SUBSYS_NFTABLES: u16 = 10;
        const NFT_MSG_GETTABLE: u16 = 1;
        (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETTABLE
    }

    fn buffer_len(&self) -> usize {
        Self::bytes().len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&Self::bytes());
    }
}

impl NetlinkDeserializable for GetTable {
    type Error = DecodeError;

    /// That there is an answer is all we want to know.
    fn deserialize(_header: &NetlinkHeader, _payload: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self)
    }
}
