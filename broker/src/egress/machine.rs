//! Whose an address is, as far as this machine knows: its own, or one of a network of containers on it.
//!
//! The kernel is asked for the route (`RTM_GETROUTE`, Linux 2.2), so that what it answers is what a connection would meet:
//! every address of every link, those of routes of type local, broadcast addresses. Never keeps an answer.

use std::fmt::Debug;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily as Family, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Whose an address is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whose {
    /// This machine's, or all of a network's.
    Ours,
    /// Of a container or virtual machine: on a link that is made of software, with no gateway in between.
    Neighbour,
    /// Somebody's out there.
    Others,
    /// Nobody's that a packet could be sent to from here.
    Unreachable,
}

/// Asks the kernel in this thread's network namespace.
///
/// # Errors
/// Whatever keeps the kernel from being asked; never that there is no route.
pub fn whose(address: IpAddr) -> Result<Whose, Errno> {
    let socket = Socket::open()?;
    let mut question = RouteMessage::default();
    let header = &mut question.header;
    (header.address_family, header.destination_prefix_length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    question.attributes.push(RouteAttribute::Destination(address.into()));
    let route = match socket.ask(Message::GetRoute(question)) {
        Ok(Message::NewRoute(route)) => route,
        // No route; one that says so; a family that this kernel does not have.
        Err(
            Errno::NETUNREACH
            | Errno::HOSTUNREACH
            | Errno::ACCESS
            | Errno::INVAL
            | Errno::AFNOSUPPORT
            | Errno::OPNOTSUPP,
        ) => return Ok(Whose::Unreachable),
        Ok(_) => return Err(Errno::PROTO),
        Err(errno) => return Err(errno),
    };
    match route.header.kind {
        RouteType::Unicast => {}
        RouteType::Unreachable | RouteType::BlackHole | RouteType::Prohibit => return Ok(Whose::Unreachable),
        // Local, broadcast, anycast, multicast, and whatever else is not one host out there.
        _ => return Ok(Whose::Ours),
    }
    let mut link = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => return Ok(Whose::Others),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    let Some(index) = link else { return Ok(Whose::Others) };
    let mut question = LinkMessage::default();
    question.header.index = index;
    let link = match socket.ask(Message::GetLink(question))? {
        Message::NewLink(link) => link,
        _ => return Err(Errno::PROTO),
    };
    let inside = link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => {
            infos.iter().any(|info| matches!(info, LinkInfo::Kind(kind) if joins_containers(kind)))
        }
        _ => false,
    });
    Ok(if inside { Whose::Neighbour } else { Whose::Others })
}

/// Links that lead to containers and virtual machines of this machine. Not tunnels: what is behind those is elsewhere.
fn joins_containers(kind: &InfoKind) -> bool {
    use InfoKind::{Bridge, Dummy, IpVlan, MacVlan, Netkit, Veth};
    matches!(kind, Bridge | Dummy | IpVlan | MacVlan | Netkit | Veth)
}

struct Socket(OwnedFd);

impl Socket {
    fn open() -> Result<Self, Errno> {
        // NETLINK_ROUTE is 0.
        rustix::net::socket_with(Family::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None).map(Self)
    }

    /// One question, its one answer. The kernel answers before `send` returns.
    fn ask<M>(&self, question: M) -> Result<M, Errno>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Debug,
    {
        let mut question =
            NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(question));
        question.header.flags = NLM_F_REQUEST;
        question.finalize();
        let mut bytes = vec![0; question.buffer_len()];
        question.serialize(&mut bytes);
        rustix::net::send(&self.0, &bytes, SendFlags::empty())?;
        let mut buffer = vec![0; 32 << 10];
        let (length, _) = rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty())?;
        let answer = NetlinkMessage::<M>::deserialize(buffer.get(..length).unwrap_or_default());
        match answer.map_err(|_malformed| Errno::PROTO)?.payload {
            NetlinkPayload::InnerMessage(answer) => Ok(answer),
            NetlinkPayload::Error(error) => Err(error
                .code
                .map_or(Errno::PROTO, |code| Errno::from_raw_os_error(code.get().saturating_neg()))),
            _ => Err(Errno::PROTO),
        }
    }
}
