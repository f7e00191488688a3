//! What a caller may ask for, checked before anything is made. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A place in a private network.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// Which network: those on one reach each other, and resolve each other's names; nobody else does. `None` is
    /// the network named `default`.
    pub network: Option<String>,
    /// Names besides the guid, by which siblings resolve it: host names as in RFC 1123.
    pub aliases: Vec<String>,
    /// Ports that are reachable from outside.
    pub publish: Vec<Publish>,
}

/// A port of the machine that leads to a port of a container.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Publish {
    /// The machine's address, `None` for each one it has, IPv4 and IPv6. `0.0.0.0` is each IPv4 address, `::` each
    /// IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<IpAddr>,
    /// The machine's port; 0 lets the kernel choose a free one.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// What a port belongs to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The network of those who name none.
pub(crate) const DEFAULT_NETWORK: &str = "default";

impl Request {
    /// Refuses what makes no sense by itself: names that are none, a port 0 inside, one port published twice.
    ///
    /// # Errors
    /// Naming the first thing that is wrong.
    pub fn check(&self) -> Result<()> {
        check_label("network", self.network())?;
        for alias in &self.aliases {
            check_host_name(alias)?;
        }
        for (index, publish) in self.publish.iter().enumerate() {
            if publish.container_port == 0 {
                return Err(Error::InvalidPublish {
                    text: publish.to_string(),
                    why: "has no container port",
                });
            }
            if self.publish.iter().take(index).any(|other| other.overlaps(publish)) {
                return Err(Error::InvalidPublish { text: publish.to_string(), why: "is asked for twice" });
            }
        }
        Ok(())
    }

    pub(crate) fn network(&self) -> &str {
        self.network.as_deref().unwrap_or(DEFAULT_NETWORK)
    }
}

impl Publish {
    /// Whether both claim one port of one address. A port yet to be chosen clashes with none.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.host_port == other.host_port
            && self.host_port != 0
            && match (self.host, other.host) {
                (Some(one), Some(two)) if one.is_unspecified() || two.is_unspecified() => {
                    one.is_ipv4() == two.is_ipv4()
                }
                (Some(one), Some(two)) => one == two,
                _ => true,
            }
    }

    /// Whether it concerns IPv4 addresses of the machine.
    pub(crate) fn is_v4(&self) -> bool {
        self.host.is_none_or(|host| host.is_ipv4())
    }

    /// Whether it concerns IPv6 addresses of the machine.
    pub(crate) fn is_v6(&self) -> bool {
        self.host.is_none_or(|host| host.is_ipv6())
    }

    /// The one address it is for.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.host.filter(|host| !host.is_unspecified())
    }
}

impl Protocol {
    /// As nftables and people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            Some(IpAddr::V6(host)) => write!(f, "[{host}]:")?,
            Some(IpAddr::V4(host)) => write!(f, "{host}:")?,
            None => {}
        }
        write!(f, "{}:{}/{}", self.host_port, self.container_port, self.protocol.name())
    }
}

/// `[HOST:]PORT:CONTAINER-PORT[/tcp|/udp]`, as on the command lines of other engines; an IPv6 host is in brackets.
impl FromStr for Publish {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why| Error::InvalidPublish { text: text.to_owned(), why };
        let (rest, protocol) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Protocol::Tcp),
            Some((rest, "udp")) => (rest, Protocol::Udp),
            Some(_) => return Err(invalid("has a protocol other than tcp and udp")),
        };
        let port = |text: &str| text.parse::<u16>().ok().ok_or_else(|| invalid("has a port that is none"));
        let (rest, container) =
            rest.rsplit_once(':').ok_or_else(|| invalid("is not [HOST:]PORT:CONTAINER-PORT[/PROTOCOL]"))?;
        let (host, host_port) = match rest.rsplit_once(':') {
            None => (None, rest),
            Some((host, port)) => {
                let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                let address = match bracketed {
                    Some(host) => host.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
                    None => host.parse().ok().filter(IpAddr::is_ipv4),
                };
                (Some(address.ok_or_else(|| invalid("has a host that is no address"))?), port)
            }
        };
        let publish = Self { host, host_port: port(host_port)?, container_port: port(container)?, protocol };
        if publish.container_port == 0 {
            return Err(invalid("has no container port"));
        }
        Ok(publish)
    }
}

/// A name that is one label: it becomes a file name and a host name.
pub(crate) fn check_label(what: &'static str, name: &str) -> Result<()> {
    if is_label(name) { Ok(()) } else { Err(Error::InvalidName { what, name: name.to_owned() }) }
}

/// Lower case, digits and inner hyphens, at most 63.
fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Labels joined by dots, at most 253 bytes. Nothing that ends up in a hosts file may hold a space or a line end.
/// `localhost` stays what it is, and what reads as an address is no name.
fn check_host_name(name: &str) -> Result<()> {
    let localhost = name == "localhost" || name.ends_with(".localhost");
    let good =
        name.len() <= 253 && !localhost && name.parse::<IpAddr>().is_err() && name.split('.').all(is_label);
    if good { Ok(()) } else { Err(Error::InvalidName { what: "alias", name: name.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn publish(text: &str) -> Publish {
        text.parse().unwrap()
    }

    #[test]
    fn ports_are_written_as_other_engines_write_them() {
        for (text, said) in [
            ("8080:80", "8080:80/tcp"),
            ("8080:80/tcp", "8080:80/tcp"),
            ("127.0.0.1:53:5353/udp", "127.0.0.1:53:5353/udp"),
            ("[::1]:8080:80", "[::1]:8080:80/tcp"),
            ("0:80", "0:80/tcp"),
        ] {
            assert_eq!(publish(text).to_string(), said);
        }
        for bad in ["", "80", ":80", "80:", "a:80", "70000:80", "80:0", "80:80/sctp", "::1:80:80", "x:80:80"]
        {
            assert!(bad.parse::<Publish>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_clash_when_one_packet_could_be_meant_for_both() {
        for (one, two) in [
            ("80:1", "80:2"),
            ("80:1", "127.0.0.1:80:2"),
            ("0.0.0.0:80:1", "127.0.0.1:80:2"),
            ("[::]:80:1", "80:2"),
            ("127.0.0.1:80:1", "127.0.0.1:80:2"),
        ] {
            assert!(
                publish(one).overlaps(&publish(two)) && publish(two).overlaps(&publish(one)),
                "{one} {two}"
            );
        }
        for (one, two) in [
            ("80:1", "81:1"),
            ("80:1", "80:1/udp"),
            ("0.0.0.0:80:1", "[::]:80:1"),
            ("127.0.0.1:80:1", "127.0.0.2:80:1"),
            ("0:1", "0:2"),
        ] {
            assert!(!publish(one).overlaps(&publish(two)), "{one} {two}");
        }
    }

    #[test]
    fn a_name_that_could_write_another_line_is_refused() {
        let request = |alias: &str| Request { aliases: vec![alias.to_owned()], ..Request::default() };
        for good in ["db", "db-1", "a.b.c", "3com"] {
            request(good).check().unwrap();
        }
        for bad in [
            "",
            "a b",
            "a\n10.0.0.1 b",
            "a\tb",
            "-a",
            "a-",
            "a..b",
            "A",
            "localhost",
            "x.localhost",
            "1.2.3.4",
        ] {
            assert!(request(bad).check().is_err(), "{bad:?}");
        }
        let request = |network: &str| Request { network: Some(network.to_owned()), ..Request::default() };
        for bad in ["", ".", "..", "a/b", "a.b"] {
            assert!(request(bad).check().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            host in any::<Option<IpAddr>>(), host_port: u16, container_port in 1u16.., udp: bool,
        ) {
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let one = Publish { host, host_port, container_port, protocol };
            prop_assert_eq!(one.to_string().parse::<Publish>().unwrap(), one);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            drop(text.parse::<Publish>());
        }
    }
}
