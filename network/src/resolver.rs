//! How containers on private networks resolve names of the world: the machine's own resolvers, made reachable.
//!
//! | the machine's resolv.conf names | containers are told |
//! |---|---|
//! | resolvers elsewhere | the same |
//! | 127.0.0.53, systemd-resolved | those that systemd-resolved itself asks (`/run/systemd/resolve/resolv.conf`) |
//! | another address of the machine, 127.0.0.1 for one | the bridge's address, port 53 of which leads there |
//! | nothing usable | nothing: names of siblings still resolve, by the hosts file |
//!
//! systemd-resolved's own stub cannot be led to: it is bound to the link `lo` and answers only what came from there.
//! IPv6 addresses of the machine are not led to either: `::1` takes no packet from another link, whatever the rules.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where the C library stops reading (`MAXNS`).
const MOST: usize = 3;

/// What containers are told, but for the bridge's address, which each network has its own of.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Resolver {
    /// Reachable from a container as they are.
    pub(crate) servers: Vec<IpAddr>,
    /// A resolver of the machine's, to which port 53 of the bridge's address leads.
    pub(crate) forward: Option<SocketAddr>,
    /// Lines of the machine's file that are about how to ask: `search`, `options`.
    pub(crate) lines: Vec<String>,
}

/// How a container's names are resolved.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Dns {
    /// By these, asked directly.
    Servers(Vec<IpAddr>),
    /// By one of the machine's own, through the bridge's address.
    Forwarded(SocketAddr),
    /// By nobody: the machine's resolv.conf has no resolver that a container could reach. Only siblings have names.
    Nobody,
}

impl Resolver {
    /// Reads the machine's files. A missing resolv.conf is one that names nothing.
    pub(crate) fn read(resolv_conf: &Path, resolved: &Path, ipv6: bool) -> Result<Self> {
        let text = read(resolv_conf)?;
        let first = Self::parse(&text, ipv6, is_ours);
        if first.forward.is_some_and(|forward| is_stub(forward.ip())) {
            let second = Self::parse(&read(resolved)?, ipv6, is_ours);
            if !second.servers.is_empty() {
                return Ok(second);
            }
            // Without that file, 127.0.0.53 may be any resolver's.
        }
        Ok(first)
    }

    /// Pure but for `is_ours`, which tells whether an address is one of the machine's.
    fn parse(text: &str, ipv6: bool, is_ours: impl Fn(IpAddr) -> bool) -> Self {
        let mut resolver = Self::default();
        for line in text.lines().map(str::trim) {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // One with a scope (`fe80::1%eth0`) is reachable by that link only, and does not parse.
                    let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else {
                        continue;
                    };
                    let address = if address.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address };
                    if is_ours(address) {
                        if resolver.forward.is_none() && address.is_ipv4() {
                            resolver.forward = Some(SocketAddr::new(address, 53));
                        }
                    } else if resolver.servers.len() < MOST && (ipv6 || address.is_ipv4()) {
                        resolver.servers.push(address);
                    }
                }
                Some("search" | "domain" | "options") => resolver.lines.push(line.to_owned()),
                _ => {}
            }
        }
        if !resolver.servers.is_empty() {
            resolver.forward = None;
        }
        resolver
    }

    /// The resolv.conf of the containers behind a bridge.
    pub(crate) fn text(&self, gateway: Ipv4Addr) -> String {
        let forwarded = self.forward.map(|_| IpAddr::from(gateway));
        let servers = self.servers.iter().copied().chain(forwarded);
        let servers = servers.map(|server| format!("nameserver {server}\n"));
        servers.chain(self.lines.iter().map(|line| format!("{line}\n"))).collect()
    }

    pub(crate) fn dns(&self) -> Dns {
        match self.forward {
            Some(forward) => Dns::Forwarded(forward),
            None if self.servers.is_empty() => Dns::Nobody,
            None => Dns::Servers(self.servers.clone()),
        }
    }
}

/// The addresses of systemd-resolved's stub (systemd-resolved.service(8)).
fn is_stub(address: IpAddr) -> bool {
    [IpAddr::from([127, 0, 0, 53]), IpAddr::from([127, 0, 0, 54])].contains(&address)
}

/// Whether the address is one of the machine's: only those can be bound.
fn is_ours(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

fn read(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(|source| Error::Resolver { path: path.display().to_string(), source }),
    }
}

/// Where systemd-resolved says whom it asks itself.
pub(crate) fn resolved_file() -> PathBuf {
    PathBuf::from("/run/systemd/resolve/resolv.conf")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Resolver {
        Resolver::parse(text, true, |address| address.is_loopback() || address.to_string() == "192.0.2.2")
    }

    fn told(text: &str) -> String {
        parse(text).text(Ipv4Addr::new(10, 209, 0, 1))
    }

    #[test]
    fn resolvers_elsewhere_are_passed_on_with_the_way_to_ask() {
        let text = "# a comment\nnameserver 192.0.2.53\n nameserver 2001:db8::53 \nsearch a.example b.example\n\
                    options ndots:2\nsortlist 1.2.3.4\nnameserver nonsense\nnameserver fe80::1%eth0\n";
        assert_eq!(
            told(text),
            "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch a.example b.example\noptions ndots:2\n"
        );
    }

    #[test]
    fn a_resolver_of_the_machine_is_reached_by_the_bridge() {
        for server in ["127.0.0.1", "127.0.0.53", "192.0.2.2", "0.0.0.0"] {
            assert_eq!(told(&format!("nameserver {server}\n")), "nameserver 10.209.0.1\n", "{server}");
        }
        assert_eq!(
            parse("nameserver 127.0.0.1\nnameserver 192.0.2.53\n").dns(),
            Dns::Servers(vec!["192.0.2.53".parse().unwrap()]),
            "one that needs no help is better"
        );
    }

    #[test]
    fn no_usable_resolver_is_said() {
        for text in ["", "search x\n", "nameserver ::1\n", "nameserver fe80::1%eth0\n"] {
            assert_eq!(parse(text).dns(), Dns::Nobody, "{text:?}");
        }
    }

    #[test]
    fn without_ipv6_no_ipv6_resolver_is_named() {
        let resolver = Resolver::parse("nameserver 2001:db8::53\nnameserver 192.0.2.53\n", false, |_| false);
        assert_eq!(resolver.servers, ["192.0.2.53".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn systemd_resolveds_own_resolvers_stand_in_for_its_stub() {
        let directory = tempfile::tempdir().unwrap();
        let (stub, real) = (directory.path().join("stub"), directory.path().join("real"));
        std::fs::write(&stub, "nameserver 127.0.0.53\n").unwrap();
        let forwarded = Resolver::read(&stub, &real, true).unwrap();
        assert_eq!(forwarded.dns(), Dns::Forwarded("127.0.0.53:53".parse().unwrap()));
        std::fs::write(&real, "nameserver 192.0.2.53\nsearch lan\n").unwrap();
        let resolver = Resolver::read(&stub, &real, true).unwrap();
        assert_eq!(resolver.text(Ipv4Addr::LOCALHOST), "nameserver 192.0.2.53\nsearch lan\n");
    }
}
