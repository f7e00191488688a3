//! From a request to an attached container.

use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use linux::step::{Step, during};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{Attachment, Networks, addresses, endpoint};
use crate::address;
use crate::error::{Error, Result};
use crate::hosts;
use crate::links::{Links, Veth};
use crate::machine::{self, Change};
use crate::namespace::Namespace;
use crate::nft;
use crate::plan;
use crate::ports;
use crate::request::Request;
use crate::resolver::{Dns, Resolver};
use crate::state::{self, Attached, HOSTS, Lock, Maker, Network, RESOLV, State};
use crate::{BRIDGE_PREFIX, VETH_PREFIX};

/// Where the way out has no link yet: Ethernet's.
const MTU: u32 = 1500;

impl Networks {
    /// Makes a network namespace for a container and attaches it. The caller releases it by
    /// [`release`](Self::release).
    ///
    /// # Errors
    /// What is wrong with the request is said before anything is made; see [`check`](Self::check). What fails later
    /// is undone.
    pub fn private(&self, guid: &str, request: &Request) -> Result<Attachment> {
        plan::plan(&self.dir.read()?, guid, request)?;
        self.private_in(guid, request, Namespace::create()?)
    }

    /// Attaches a namespace that is there already: one made ahead of time, or by the container itself.
    ///
    /// # Errors
    /// As [`private`](Self::private).
    pub fn private_in(&self, guid: &str, request: &Request, namespace: Namespace) -> Result<Attachment> {
        let links = Links::open()?;
        let lock = self.dir.lock()?;
        let mut state = lock.read()?;
        let ipv6 = machine::has_ipv6();

        // Decide.
        let plan = plan::plan(&state, guid, request)?;
        let published = ports::settle(&state, &plan.publish, ipv6)?;
        settle_network(&mut state, &self.config.pools, &links, &plan.network, ipv6)?;
        let number = plan::lease(&mut state, &plan.network, guid)?;
        let Some(network) = state.networks.get(&plan.network) else {
            return Err(Error::InvalidName { what: "network", name: plan.network });
        };
        let link = link_name(&mut state.serial, &links)?;
        let attached = Attached {
            link,
            v4: address::v4_host(network.v4, number),
            v6: network.v6.map(|v6| address::v6_host(v6, number)),
            network: plan.network,
            names: plan.names,
            published,
            maker: Maker::this_process(),
            idle: false,
        };
        let changes = machine::wanted(ipv6);

        // Write down, then act.
        state.changed.extend(changes.iter().cloned());
        state.attached.insert(guid.to_owned(), attached.clone());
        lock.write(&state)?;
        let made = self.make(&lock, &mut state, &links, guid, &attached, &changes, &namespace);
        made.and_then(|dns| {
            let place = endpoint(&state, guid, &attached);
            Ok(Attachment {
                hosts: self.dir.shown(HOSTS, &attached.network, OFlags::RDONLY)?,
                resolv_conf: self.dir.shown(RESOLV, &attached.network, OFlags::RDONLY)?,
                endpoint: place.ok_or(Errno::NOENT).map_err(state::fail("read", "state.json"))?,
                traces: namespace.traces(),
                netns: Arc::new(namespace.into_fd()),
                dns,
            })
        })
        .inspect_err(|_| {
            // What cannot be undone stays written down, for recover(); why it was to be undone matters more.
            let undone = self.take_away(&mut state, &links, guid).and_then(|()| links.remove(&attached.link));
            if undone.is_ok() {
                state.leaving.remove(&attached.link);
                _ = lock.write(&state).and_then(|()| self.tidy_up(&lock, &mut state, &links));
            }
        })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one step that must not be split from its undoing"
    )]
    fn make(
        &self,
        lock: &Lock<'_>,
        state: &mut State,
        links: &Links,
        guid: &str,
        attached: &Attached,
        changes: &[Change],
        namespace: &Namespace,
    ) -> Result<Dns> {
        machine::apply(changes)?;
        let Some(network) = state.networks.get_mut(&attached.network) else {
            return Err(state::fail("read", "state.json")(Errno::NOENT));
        };
        let (bridge, new) = bridge(links, network)?;
        let was_ready = std::mem::replace(&mut network.ready, true);
        let network = network.clone();
        let resolver = Resolver::read(&self.config.resolv_conf, &self.config.resolved, network.v6.is_some())?;
        let dns = resolver.dns();
        let same_resolver = state.resolver.as_ref() == Some(&resolver);
        state.resolver = Some(resolver);

        // The rules are there before the first packet can be.
        if !was_ready || !changes.is_empty() || !nft::is_installed()? {
            nft::apply("install table", &nft::install(state, machine::strangers(&state.changed)))?;
        } else {
            let mut text = nft::publish(attached);
            if !same_resolver {
                text.push_str(&nft::resolve(state.resolver.as_ref().and_then(|resolver| resolver.forward)));
            }
            if !text.is_empty() {
                nft::apply("publish ports", &text)?;
            }
        }
        if !was_ready || new || !same_resolver {
            self.write_resolv(state)?;
            lock.write(state)?;
        }

        links.make_veth(&Veth {
            name: &attached.link,
            alias: guid,
            bridge,
            mtu: network.mtu,
            netns: namespace.as_fd(),
            mac: address::mac(attached.v4),
        })?;
        if !attached.published.is_empty() {
            links.set_hairpin(&attached.link)?;
        }
        let place = endpoint(state, guid, attached);
        let place = place.ok_or(Errno::NOENT).map_err(state::fail("read", "state.json"))?;
        namespace.connect(&place.addresses, &place.gateways)?;
        links.wait_for_carrier(&attached.link)?;
        links.wait_for_carrier(&network.bridge)?;

        self.name(attached)?;
        Ok(dns)
    }

    /// Puts its names into the file that siblings see.
    pub(super) fn name(&self, attached: &Attached) -> Result<()> {
        let file = self.dir.shown(HOSTS, &attached.network, OFlags::RDWR | OFlags::CREATE)?;
        during(Step::WriteNames, || hosts::add(&file, &addresses(attached), &attached.names))
            .map_err(state::fail("write", &format!("{HOSTS}/{}", attached.network)))
    }

    /// Tells the containers of every network how names are resolved.
    pub(super) fn write_resolv(&self, state: &State) -> Result<()> {
        let Some(resolver) = &state.resolver else { return Ok(()) };
        for (name, network) in state.networks.iter().filter(|(_, network)| network.ready) {
            let file = self.dir.shown(RESOLV, name, OFlags::RDWR | OFlags::CREATE)?;
            hosts::replace(&file, &resolver.text(network.gateway()))
                .map_err(state::fail("write", &format!("{RESOLV}/{name}")))?;
        }
        Ok(())
    }
}

/// Sees to it that the network has a subnet that is still free, and a bridge's name. Makes nothing.
fn settle_network(state: &mut State, pools: &[Ipv4Net], links: &Links, name: &str, ipv6: bool) -> Result<()> {
    if state.networks.get(name).is_some_and(|network| network.ready) {
        return Ok(());
    }
    let old = state.networks.remove(name);
    let bridge = match &old {
        Some(old) => old.bridge.clone(),
        None => bridge_name(state, links)?,
    };
    // The bridge of an attempt that was cut off is no clash.
    let own = links.index(&bridge)?;
    let mut routes = links.routes()?;
    routes.retain(|route| Some(route.link) != own);
    let clashes = |subnet: Ipv4Net| routes.iter().any(|route| address::overlaps(route.destination, subnet));
    let kept = old.as_ref().filter(|old| !clashes(old.v4));
    let v4 = match kept {
        Some(old) => old.v4,
        None => {
            let ours: Vec<Ipv4Net> = state.networks.values().map(|network| network.v4).collect();
            address::free_subnet(pools, &ours, &routes, |link| links.name(link))?
        }
    };
    let leases = kept.map(|old| old.leases.clone()).unwrap_or_default();
    if ipv6 && state.ula.is_none() {
        state.ula = Some(address::ula(&seed()?));
    }
    let network = Network {
        bridge,
        v4,
        v6: state.ula.filter(|_| ipv6).map(|ula| address::v6_subnet(ula, v4)),
        mtu: links.mtu_outwards(&routes)?.unwrap_or(MTU),
        ready: false,
        leases,
    };
    state.networks.insert(name.to_owned(), network);
    Ok(())
}

/// The first name that neither a network of ours nor a link of the machine's has.
fn bridge_name(state: &State, links: &Links) -> Result<String> {
    let mut number = 0_u32;
    loop {
        let name = format!("{BRIDGE_PREFIX}{number}");
        let ours = state.networks.values().any(|network| network.bridge == name);
        if !ours && links.index(&name)?.is_none() {
            return Ok(name);
        }
        number += 1;
    }
}

/// The next name that no link of the machine's has. Counted on, not reused: see [`State::serial`].
fn link_name(serial: &mut u32, links: &Links) -> Result<String> {
    loop {
        let name = format!("{VETH_PREFIX}{serial:x}");
        *serial = serial.wrapping_add(1);
        if links.index(&name)?.is_none() {
            return Ok(name);
        }
    }
}

/// The number of the network's bridge, and whether it was made just now.
fn bridge(links: &Links, network: &Network) -> Result<(u32, bool)> {
    let there = links.index(&network.bridge)?;
    if let Some(index) = there.filter(|_| network.ready) {
        return Ok((index, false));
    }
    let index = match there {
        Some(index) => index,
        None => links.make_bridge(&network.bridge, network.mtu, network.gateway())?,
    };
    // Settings of our own link, which go with it: nothing to put back.
    let bridge = &network.bridge;
    // A call of 127.0.0.1:<published port> leaves through the bridge.
    machine::write(&format!("net/ipv4/conf/{bridge}/route_localnet"), "1")?;
    if network.v6.is_some() {
        machine::write(&format!("net/ipv6/conf/{bridge}/accept_ra"), "0")?;
        // Until its link-local address is known to be nobody else's, it asks for nobody on behalf of others.
        machine::write(&format!("net/ipv6/conf/{bridge}/accept_dad"), "0")?;
    }
    let v6 = network.gateway6().zip(network.v6);
    let v6 = v6.map(|(address, net)| IpNet::new_assert(address.into(), net.prefix_len()));
    let v4 = IpNet::new_assert(IpAddr::V4(network.gateway()), network.v4.prefix_len());
    for address in std::iter::once(v4).chain(v6) {
        links.add_address(index, address)?;
    }
    links.set_up(bridge)?;
    Ok((index, true))
}

/// What the ULA prefix is derived from: the machine's id where it has one, so that it is the same after the state
/// was lost; else chance.
fn seed() -> Result<Vec<u8>> {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    if id.trim().len() == 32 {
        return Ok(id.trim().as_bytes().to_vec());
    }
    let mut seed = vec![0; 16];
    let flags = rustix::rand::GetRandomFlags::empty();
    rustix::rand::getrandom(seed.as_mut_slice(), flags).map_err(state::fail("read", "random bytes"))?;
    Ok(seed)
}
