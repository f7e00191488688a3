//! Whether a port of the machine is free, by asking for it; and who has it, if not.
//!
//! A published port is taken by rules, not by a socket: nothing keeps another program from binding it later, but
//! it would get no calls from outside. What is bound before is respected.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::error::{Error, Result};
use crate::plan::published_by_nobody;
use crate::request::{Protocol, Publish};
use crate::state::State;

/// Looked at before giving up on a port that is free in both families.
const TRIES: usize = 64;

/// Chooses ports where the kernel may, and checks that nobody has any of them.
pub(crate) fn settle(state: &State, publish: &[Publish], ipv6: bool) -> Result<Vec<Publish>> {
    let mut settled: Vec<Publish> = Vec::with_capacity(publish.len());
    for publish in publish {
        let one = if publish.host_port == 0 {
            choose(state, &settled, publish, ipv6)?
        } else {
            is_free(publish, ipv6).map(drop)?;
            *publish
        };
        settled.push(one);
    }
    Ok(settled)
}

fn choose(state: &State, settled: &[Publish], publish: &Publish, ipv6: bool) -> Result<Publish> {
    let mut last = Ok(());
    for _ in 0..TRIES {
        let bound = is_free(publish, ipv6)?;
        let port = bound.first().and_then(|socket| rustix::net::getsockname(socket).ok());
        let port = port.and_then(|address| SocketAddr::try_from(address).ok()).map(|address| address.port());
        drop(bound);
        let candidate = Publish { host_port: port.unwrap_or_default(), ..*publish };
        if settled.iter().any(|other| other.overlaps(&candidate)) {
            continue;
        }
        last = published_by_nobody(state, &candidate).and_then(|()| is_free(&candidate, ipv6).map(drop));
        if last.is_ok() && candidate.host_port != 0 {
            return Ok(candidate);
        }
    }
    last?;
    Err(Error::TryPort { port: publish.to_string(), source: Errno::ADDRINUSE })
}

/// Fails unless the port can be bound at each address it is wanted for. The sockets hold it while they are open.
fn is_free(publish: &Publish, ipv6: bool) -> Result<Vec<OwnedFd>> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    match publish.host {
        Some(host) => addresses.push(host),
        None => addresses.push(Ipv4Addr::UNSPECIFIED.into()),
    }
    if publish.host.is_none() && ipv6 {
        addresses.push(Ipv6Addr::UNSPECIFIED.into());
    }
    let mut sockets = Vec::new();
    for address in addresses {
        let address = SocketAddr::new(address, publish.host_port);
        match bind(address, publish.protocol) {
            Ok(socket) => sockets.push(socket),
            Err(source @ Errno::ADDRINUSE) => {
                let owner = owner(address, publish.protocol);
                return Err(Error::PortInUse { port: publish.to_string(), owner, source });
            }
            Err(source) => return Err(Error::TryPort { port: publish.to_string(), source }),
        }
    }
    Ok(sockets)
}

fn bind(address: SocketAddr, protocol: Protocol) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        // A listener is still in the way with it; what is left of closed connections is not.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// The program that has a port, as `name (pid N)`.
fn owner(address: SocketAddr, protocol: Protocol) -> String {
    let inodes: Vec<u64> = ["", "6"]
        .iter()
        .filter_map(|family| {
            fs::read_to_string(format!("/proc/thread-self/net/{}{family}", protocol.name())).ok()
        })
        .flat_map(|table| holders(&table, address))
        .collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        let descriptors = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let links = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
        let holds = |link: std::path::PathBuf| {
            inodes.iter().any(|inode| link.as_os_str() == format!("socket:[{inode}]").as_str())
        };
        if links.into_iter().any(holds) {
            let program = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return format!("{} (pid {pid})", program.trim());
        }
    }
    "another program".to_owned()
}

/// The inodes of the sockets that hold a port, from `/proc/net/tcp` or its like. Pure.
fn holders(table: &str, wanted: SocketAddr) -> Vec<u64> {
    let holder = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (address, port) = fields.nth(1)?.rsplit_once(':')?;
        let _remote = fields.next()?;
        // TCP: a listener; UDP: not connected. Others do not keep a port from being bound.
        let state = fields.next()?;
        let inode = fields.nth(5)?.parse().ok()?;
        let any = address.bytes().all(|byte| byte == b'0');
        let same = any || wanted.ip().is_unspecified() || hexadecimal(wanted.ip()) == address;
        let port = u16::from_str_radix(port, 16).ok()?;
        (port == wanted.port() && same && matches!(state, "0A" | "07")).then_some(inode)
    };
    table.lines().skip(1).filter_map(holder).collect()
}

/// As the kernel prints it: words in the machine's byte order.
fn hexadecimal(address: IpAddr) -> String {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    octets
        .chunks_exact(4)
        .filter_map(|word| word.try_into().ok())
        .map(|word: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(word)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 0 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0 100 0 0 10 0
   2: 0100007F:0050 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 102 1 0 100 0 0 10 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_holder_of_a_port_is_found_in_the_kernels_table() {
        let holders = |address: &str| holders(TABLE, address.parse().unwrap());
        assert_eq!(holders("127.0.0.1:53"), [100]);
        assert_eq!(holders("0.0.0.0:53"), [100], "any address includes that one");
        assert_eq!(holders("127.0.0.2:53"), [0; 0]);
        assert_eq!(holders("192.0.2.1:22"), [101], "it is bound at any address");
        assert_eq!(holders("127.0.0.1:80"), [0; 0], "a connection holds no port");
    }
}
