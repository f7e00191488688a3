//! Links of the machine that a container is given (`linux.netDevices` of an OCI Spec): moved into its namespace, with
//! their addresses.
//!
//! Makes no link and removes none: whose namespace it is, has them. When that ends, the kernel gives physical links back to
//! the machine and removes the others.
//!
//! Source: OCI runtime spec, config-linux.md, "Network Devices".

use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::links::Links;

/// `IFA_F_PERMANENT`: nobody else gave it, and nobody else renews it.
const PERMANENT: u32 = 0x80;

/// A link, by its name on the machine and in the namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Device {
    /// On the machine.
    pub name: String,
    /// Inside.
    pub inside: String,
}

impl Device {
    /// Whether `name` is one that a link can have: one to fifteen bytes, no slash, colon or space.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        !name.is_empty() && name.len() < 16 && name != "." && name != ".." && !name.contains(bad)
    }
}

/// Moves links of this thread's network namespace into another one, under their names there, up, with the permanent
/// addresses of global scope that they have. Those moved before one that cannot be are given back, without addresses.
///
/// # Errors
/// A link that is not there, or a name that is taken there; `EPERM` without `CAP_NET_ADMIN` in both.
pub fn give(netns: BorrowedFd<'_>, devices: &[Device]) -> Result<()> {
    let links = Links::open()?;
    for (count, device) in devices.iter().enumerate() {
        let Err(error) = give_one(&links, netns, device) else { continue };
        take_back(netns, &devices[..count]);
        return Err(error);
    }
    Ok(())
}

/// Puts the loopback of a namespace up.
///
/// # Errors
/// [`Error::Netlink`].
pub fn loopback_up(netns: BorrowedFd<'_>) -> Result<()> {
    inside(netns, "lo", |links| links.set_up("lo"))
}

fn give_one(links: &Links, netns: BorrowedFd<'_>, device: &Device) -> Result<()> {
    let Device { name, inside: new } = device;
    let index = links.index(name)?.ok_or(Errno::NODEV).map_err(Error::netlink("look up link", name))?;
    let addresses = links.addresses(index)?;
    inside(netns, new, |there| match there.index(new)? {
        Some(_) => Err(Error::netlink("name link", new)(Errno::EXIST)),
        None => Ok(()),
    })?;
    // A link that is up keeps its name.
    links.set_down(index, name)?;
    links.move_to(index, name, netns, new)?;
    inside(netns, new, |there| {
        let index = there.index(new)?.ok_or(Errno::NODEV).map_err(Error::netlink("look up link", new))?;
        for address in addresses {
            there.add_address(index, address)?;
        }
        there.set_up(new)
    })
}

fn take_back(netns: BorrowedFd<'_>, devices: &[Device]) {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(home) = rustix::fs::open("/proc/thread-self/ns/net", flags, Mode::empty()) else { return };
    for Device { name, inside: new } in devices {
        // Where this fails, it stays with the namespace.
        let _kept = inside(netns, new, |there| match there.index(new)? {
            Some(index) => {
                there.set_down(index, new)?;
                there.move_to(index, new, home.as_fd(), name)
            }
            None => Ok(()),
        });
    }
}

fn inside<T: Send>(
    netns: BorrowedFd<'_>,
    name: &str,
    work: impl FnOnce(Links) -> Result<T> + Send,
) -> Result<T> {
    linux::netns::within(netns, || Links::open().and_then(work))
        .map_err(Error::netlink("enter the namespace of", name))?
}

impl Links {
    fn set_down(&self, index: u32, name: &str) -> Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.change_mask = LinkFlags::Up;
        self.ask("put down", name, Message::SetLink(link), 0)
    }

    /// Into a namespace and under another name, in one request.
    fn move_to(&self, index: u32, name: &str, netns: BorrowedFd<'_>, new: &str) -> Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes =
            vec![LinkAttribute::NetNsFd(netns.as_raw_fd()), LinkAttribute::IfName(new.to_owned())];
        self.ask("move link", name, Message::SetLink(link), 0)
    }

    /// The addresses of a link that somebody gave it for everybody to see.
    fn addresses(&self, index: u32) -> Result<Vec<IpNet>> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        let answers = self.list(Message::GetAddress(message), NLM_F_DUMP, "addresses")?;
        Ok(answers.iter().filter_map(|answer| address(answer, index)).collect())
    }
}

fn address(answer: &Message, index: u32) -> Option<IpNet> {
    let Message::NewAddress(message) = answer else { return None };
    let flags = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(flags.bits()),
        _ => None,
    });
    let permanent = flags.unwrap_or(u32::from(message.header.flags.bits())) & PERMANENT != 0;
    if message.header.index != index || message.header.scope != AddressScope::Universe || !permanent {
        return None;
    }
    let mut found: Option<IpAddr> = None;
    for attribute in &message.attributes {
        match attribute {
            // Of a pair of addresses, our own.
            AddressAttribute::Local(address) => found = Some(*address),
            AddressAttribute::Address(address) => found = found.or(Some(*address)),
            _ => {}
        }
    }
    IpNet::new(found?, message.header.prefix_len).ok()
}
