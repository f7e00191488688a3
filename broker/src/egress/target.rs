//! Where a connection goes: a host and a port, word for word.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A host, as it is granted and asked for.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Host {
    /// A name, in lower case. To be resolved, and then judged.
    Name(String),
    /// An address. To be judged.
    Address(IpAddr),
}

/// A host and a port: `api.example.com:443`, `[2001:db8::1]:53`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Target {
    /// Which host.
    pub host: Host,
    /// Which port; not 0.
    pub port: u16,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
        }
    }
}

/// No host and port.
#[derive(Debug, thiserror::Error)]
#[error("it is no host and port, as in api.example.com:443")]
pub struct NoTarget;

impl FromStr for Target {
    type Err = NoTarget;

    fn from_str(text: &str) -> Result<Self, NoTarget> {
        let (host, port) = text.rsplit_once(':').ok_or(NoTarget)?;
        let plain = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| plain && *port != 0).ok_or(NoTarget)?;
        if let Some(inside) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address: Ipv6Addr = inside.parse().map_err(|_malformed| NoTarget)?;
            return Ok(Self { host: Host::Address(address.into()), port });
        }
        if let Ok(address) = host.parse::<Ipv4Addr>() {
            return Ok(Self { host: Host::Address(address.into()), port });
        }
        let byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        let name = !host.is_empty() && host.len() <= 253 && host.bytes().all(byte);
        // What looks like a number is an address to some resolvers: 127.1, 0x7f.1.
        let last = host.rsplit('.').next().unwrap_or_default();
        let number = last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit());
        if name && !number { Ok(Self { host: Host::Name(host.to_owned()), port }) } else { Err(NoTarget) }
    }
}

impl Target {
    /// Of an address of the web, whose host the URL standard has read: lower case, no other way to write a number.
    pub(super) fn of(url: &url::Url) -> Option<Self> {
        let host = match url.host()? {
            url::Host::Domain(name) => Host::Name(name.to_owned()),
            url::Host::Ipv4(address) => Host::Address(address.into()),
            url::Host::Ipv6(address) => Host::Address(address.into()),
        };
        Some(Self { host, port: url.port_or_known_default().filter(|port| *port != 0)? })
    }
}
