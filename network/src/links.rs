//! Bridges, veth pairs, addresses and routes of one network namespace.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use ipnet::IpNet;
use linux::step::{Step, during};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use rustix::io::Errno;
use rustix::net::netdevice;

use crate::address::{self, Route};
use crate::error::{Error, Result};
use crate::netlink::Socket;

/// What a container calls its end of the veth pair.
pub(crate) const INSIDE: &str = "eth0";

/// The links of the namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Links(Socket);

/// One end in a bridge, the other in a namespace.
pub(crate) struct Veth<'a> {
    /// The machine's end.
    pub(crate) name: &'a str,
    /// For people who look at the machine's links: whose it is.
    pub(crate) alias: &'a str,
    pub(crate) bridge: u32,
    pub(crate) mtu: u32,
    pub(crate) netns: BorrowedFd<'a>,
    /// Of the end inside.
    pub(crate) mac: [u8; 6],
}

impl Links {
    pub(crate) fn open() -> Result<Self> {
        let socket = Socket::open(None);
        socket.map(Self).map_err(Error::netlink("open", "netlink socket"))
    }

    /// The number of a link.
    pub(crate) fn index(&self, name: &str) -> Result<Option<u32>> {
        match netdevice::name_to_index(&self.0, name) {
            Ok(index) => Ok(Some(index)),
            Err(Errno::NODEV) => Ok(None),
            Err(errno) => Err(Error::netlink("look up link", name)(errno)),
        }
    }

    /// The name of a link, for messages.
    pub(crate) fn name(&self, index: u32) -> String {
        netdevice::index_to_name(&self.0, index).unwrap_or_else(|_| format!("link {index}"))
    }

    /// Makes a bridge, down and without addresses. Returns its number.
    ///
    /// No spanning tree, which is the default: a port forwards as soon as it is up. No multicast snooping: without a
    /// querier it forgets who wants neighbour discovery (IPv6). A link address of its own: otherwise the bridge
    /// takes the lowest of its ports', which changes when ports come and go.
    pub(crate) fn make_bridge(&self, name: &str, mtu: u32, address: Ipv4Addr) -> Result<u32> {
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::Address(address::mac(address).to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
            ]),
        ];
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        during(Step::MakeBridge, || self.ask("make bridge", name, Message::NewLink(link), flags))?;
        self.index(name)?.ok_or(Errno::NODEV).map_err(Error::netlink("make bridge", name))
    }

    /// Makes a veth pair: the machine's end is a port of the bridge and up, the other is in the namespace, where
    /// it is `eth0` and down. One request: either both ends are there, where they belong, or none.
    pub(crate) fn make_veth(&self, veth: &Veth<'_>) -> Result<()> {
        let mut inside = LinkMessage::default();
        inside.attributes = vec![
            LinkAttribute::IfName(INSIDE.to_owned()),
            LinkAttribute::Mtu(veth.mtu),
            LinkAttribute::Address(veth.mac.to_vec()),
            LinkAttribute::NetNsFd(veth.netns.as_raw_fd()),
        ];
        let mut link = LinkMessage::default();
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        link.attributes = vec![
            LinkAttribute::IfName(veth.name.to_owned()),
            LinkAttribute::Mtu(veth.mtu),
            LinkAttribute::Controller(veth.bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inside))),
            ]),
        ];
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        during(Step::MakeLink, || self.ask("make veth", veth.name, Message::NewLink(link), flags))?;
        // An alias given at creation is ignored by the kernel.
        let mut alias = LinkMessage::default();
        alias.attributes =
            vec![LinkAttribute::IfName(veth.name.to_owned()), LinkAttribute::IfAlias(veth.alias.to_owned())];
        self.ask("name owner of veth", veth.name, Message::SetLink(alias), 0)
    }

    /// Lets a bridge send frames back out of the port they came in by: a container that calls its own published
    /// port, where the bridge's frames pass netfilter (`bridge-nf-call-iptables`).
    pub(crate) fn set_hairpin(&self, name: &str) -> Result<()> {
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)])),
            ]),
        ];
        self.ask("set hairpin mode of", name, Message::NewLink(link), 0)
    }

    /// Ends the traffic of a bridge's port at once, and has the bridge forget whom it saw there. Its namespace may
    /// live on for tens of milliseconds, with an address that is another's by then. Returns whether it was there.
    ///
    /// Nothing is sent there that is not for a link address known to be there, and none is known or learned;
    /// nothing is taken from there but from such an address (`locked`, Linux 5.18). Taking the port from the bridge,
    /// or putting it down, would have to wait for a grace period; a disabled port (`IFLA_BRPORT_STATE`) is enabled
    /// again by the next change to any port where no spanning tree is used.
    pub(crate) fn silence(&self, name: &str) -> Result<bool> {
        let mut link = LinkMessage::default();
        let silent = vec![
            InfoBridgePort::UnicastFlood(false),
            InfoBridgePort::MulticastFlood(false),
            InfoBridgePort::BroadcastFlood(false),
            InfoBridgePort::Learning(false),
            InfoBridgePort::Locked(true),
            InfoBridgePort::Flush,
        ];
        link.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(silent)),
            ]),
        ];
        match self.0.request(Message::NewLink(link), 0) {
            Ok(_) => Ok(true),
            // Gone, or going: down already.
            Err(Errno::NODEV | Errno::NETDOWN) => Ok(false),
            Err(errno) => Err(Error::netlink("silence port", name)(errno)),
        }
    }

    /// Puts a link up.
    pub(crate) fn set_up(&self, name: &str) -> Result<()> {
        let mut link = LinkMessage::default();
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        self.ask("put up", name, Message::SetLink(link), 0)
    }

    /// Waits until a link that has just been connected carries packets.
    ///
    /// The kernel notices that the other end is up in a work queue of its own, behind whatever else holds the lock
    /// of all links (namespaces that are being taken apart, for tens of milliseconds). What is sent before is lost,
    /// and the first question for a neighbour's address is repeated only after a second. To ask for the link has the
    /// kernel notice at once (Linux 6.8; before, the race is as in other engines).
    pub(crate) fn wait_for_carrier(&self, name: &str) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
        ];
        self.ask("look at link", name, Message::GetLink(message), 0)
    }

    /// Removes a link, and with it the other end of a veth pair. Takes 10 to 20 ms: the kernel waits until nobody
    /// can use it. Returns whether it was there.
    pub(crate) fn remove(&self, name: &str) -> Result<bool> {
        let mut link = LinkMessage::default();
        link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        match during(Step::RemoveLink, || self.0.request(Message::DelLink(link), 0)) {
            Ok(_) => Ok(true),
            Err(Errno::NODEV) => Ok(false),
            Err(errno) => Err(Error::netlink("remove link", name)(errno)),
        }
    }

    /// Adds an address and with it the route to its subnet. No duplicate address detection: we know who has what,
    /// and it would keep the address unusable for a second.
    pub(crate) fn add_address(&self, link: u32, address: IpNet) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address.addr());
        message.header.prefix_len = address.prefix_len();
        message.header.index = link;
        message.attributes =
            vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
        match address {
            IpNet::V4(address) => message.attributes.push(AddressAttribute::Broadcast(address.broadcast())),
            IpNet::V6(_) => message.header.flags = AddressHeaderFlags::Nodad,
        }
        self.ask("add address", address, Message::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Sends what has no other way to a gateway.
    pub(crate) fn add_default_route(&self, link: u32, gateway: IpAddr) -> Result<()> {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(gateway),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Static,
            scope: RouteScope::Universe,
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        message.attributes = vec![RouteAttribute::Gateway(gateway.into()), RouteAttribute::Oif(link)];
        self.ask("add route by", gateway, Message::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Every IPv4 route of every table.
    pub(crate) fn routes(&self) -> Result<Vec<Route>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let answers = self
            .0
            .request(Message::GetRoute(message), NLM_F_DUMP)
            .map_err(Error::netlink("list", "routes"))?;
        Ok(answers.iter().filter_map(route).collect())
    }

    /// The greatest packet that the way out takes: that of the link of the default route.
    pub(crate) fn mtu_outwards(&self, routes: &[Route]) -> Result<Option<u32>> {
        let Some(default) = routes.iter().find(|route| route.destination.prefix_len() == 0) else {
            return Ok(None);
        };
        let mut message = LinkMessage::default();
        message.header.index = default.link;
        let answers = self
            .0
            .request(Message::GetLink(message), 0)
            .map_err(Error::netlink("look up link", self.name(default.link)))?;
        Ok(answers.iter().find_map(|answer| match answer {
            Message::NewLink(link) => link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::Mtu(mtu) => Some(*mtu),
                _ => None,
            }),
            _ => None,
        }))
    }

    /// What the kernel answers to a request.
    pub(crate) fn list(&self, message: Message, flags: u16, what: &str) -> Result<Vec<Message>> {
        self.0.request(message, flags).map_err(Error::netlink("list", what))
    }

    pub(crate) fn ask(
        &self,
        step: &'static str,
        subject: impl ToString,
        message: Message,
        flags: u16,
    ) -> Result<()> {
        self.0.request(message, flags).map(drop).map_err(Error::netlink(step, subject))
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn route(answer: &Message) -> Option<Route> {
    let Message::NewRoute(message) = answer else { return None };
    let mut destination = Ipv4Addr::UNSPECIFIED;
    let mut link = 0;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
            RouteAttribute::Oif(index) => link = *index,
            _ => {}
        }
    }
    let destination = IpNet::new(destination.into(), message.header.destination_prefix_length).ok()?;
    Some(Route { destination, link })
}
