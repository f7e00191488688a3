//! Request and state to what will be made. Pure: nothing is made, nothing is looked up.

use crate::address;
use crate::error::{Error, Result};
use crate::request::{Publish, Request, check_label};
use crate::state::State;

/// A request that clashes with nothing we know of.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Plan {
    pub(crate) network: String,
    /// Its guid and its aliases.
    pub(crate) names: Vec<String>,
    pub(crate) publish: Vec<Publish>,
}

/// Checks a request against itself and against what is attached.
pub(crate) fn plan(state: &State, guid: &str, request: &Request) -> Result<Plan> {
    check_label("guid", guid)?;
    request.check()?;
    if let Some(attached) = state.attached.get(guid) {
        return Err(Error::Attached { guid: guid.to_owned(), network: attached.network.clone() });
    }
    let network = request.network();
    let mut names = vec![guid.to_owned()];
    for alias in &request.aliases {
        if !names.contains(alias) {
            names.push(alias.clone());
        }
    }
    for (owner, attached) in &state.attached {
        let taken = names.iter().find(|name| attached.names.contains(name));
        if let Some(name) = taken.filter(|_| attached.network == network) {
            return Err(Error::name_taken(name, network, owner));
        }
    }
    for publish in &request.publish {
        published_by_nobody(state, publish)?;
    }
    Ok(Plan { network: network.to_owned(), names, publish: request.publish.clone() })
}

/// Fails when somebody publishes the port, with their guid.
pub(crate) fn published_by_nobody(state: &State, publish: &Publish) -> Result<()> {
    let clash = |(_, attached): &(&String, &crate::state::Attached)| {
        attached.published.iter().any(|other| other.overlaps(publish))
    };
    match state.attached.iter().find(clash) {
        Some((owner, _)) => Err(Error::PortPublished { port: publish.to_string(), owner: owner.clone() }),
        None => Ok(()),
    }
}

/// The host number of a guid: the one it had; else one nobody has; else one of somebody who is not attached, whose
/// lease ends. Which one is tried first depends on the guid, so that a new one seldom gets what another just left.
pub(crate) fn lease(state: &mut State, network: &str, guid: &str) -> Result<u8> {
    let attached = &state.attached;
    let Some(network_state) = state.networks.get_mut(network) else {
        return Err(Error::InvalidName { what: "network", name: network.to_owned() });
    };
    let leases = &mut network_state.leases;
    if let Some(number) = leases.get(guid) {
        return Ok(*number);
    }
    // FNV-1a: spread, not secrecy.
    let hash =
        guid.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let start = u8::try_from(hash % 251).unwrap_or_default();
    let number = match address::free_host(start, |number| leases.values().any(|taken| *taken == number)) {
        Some(number) => number,
        None => {
            let idle = leases.keys().find(|owner| !attached.contains_key(*owner)).cloned();
            let Some(number) = idle.and_then(|owner| leases.remove(&owner)) else {
                let subnet = network_state.v4.into();
                return Err(Error::AddressesTaken { network: network.to_owned(), subnet });
            };
            number
        }
    };
    leases.insert(guid.to_owned(), number);
    Ok(number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::state::{Attached, Maker, Network};

    fn attached(network: &str, names: &[&str], published: &[&str]) -> Attached {
        Attached {
            network: network.to_owned(),
            link: "scv0".to_owned(),
            v4: "10.209.0.2".parse().unwrap(),
            v6: None,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            published: published.iter().map(|text| text.parse().unwrap()).collect(),
            maker: Maker::this_process(),
            idle: false,
        }
    }

    fn state() -> State {
        let network = Network {
            bridge: "scb0".to_owned(),
            v4: "10.209.0.0/24".parse().unwrap(),
            v6: None,
            mtu: 1500,
            ready: true,
            leases: BTreeMap::new(),
        };
        State {
            networks: BTreeMap::from([("shop".to_owned(), network)]),
            attached: BTreeMap::from([("one".to_owned(), attached("shop", &["one", "db"], &["80:80"]))]),
            ..State::default()
        }
    }

    fn request(network: &str, alias: &str, publish: &str) -> Request {
        Request {
            network: Some(network.to_owned()),
            aliases: vec![alias.to_owned()],
            publish: vec![publish.parse().unwrap()],
        }
    }

    #[test]
    fn a_clash_is_said_with_who_is_in_the_way() {
        let state = state();
        let said = |guid: &str, request: Request| plan(&state, guid, &request).unwrap_err().to_string();
        assert_eq!(said("one", Request::default()), r#"one is attached to network "shop" already"#);
        assert_eq!(
            said("two", request("shop", "db", "81:80")),
            r#"name "db" is taken by one on network "shop""#
        );
        assert_eq!(
            said("two", request("other", "db", "127.0.0.1:80:8080")),
            "port 127.0.0.1:80:8080/tcp is published by one already"
        );
        assert_eq!(said("../x", Request::default()), r#"guid "../x" is not a plain name"#);
        let twice = Request { publish: vec!["1:1".parse().unwrap(); 2], ..Request::default() };
        assert_eq!(said("two", twice), r#"published port "1:1/tcp" is asked for twice"#);
    }

    #[test]
    fn a_name_may_live_on_two_networks() {
        assert!(plan(&state(), "two", &request("other", "db", "81:80")).is_ok());
    }

    #[test]
    fn an_address_is_remembered_until_the_network_is_full_of_others() {
        let mut state = state();
        let number = lease(&mut state, "shop", "gone").unwrap();
        assert_eq!(lease(&mut state, "shop", "gone").unwrap(), number);
        lease(&mut state, "shop", "one").unwrap();
        for guid in 0..251 {
            let guid = format!("g{guid}");
            assert_ne!(lease(&mut state, "shop", &guid).unwrap(), number);
            state.attached.insert(guid, attached("shop", &[], &[]));
        }
        assert_eq!(lease(&mut state, "shop", "last").unwrap(), number, "of the only one who is not attached");
        state.attached.insert("last".to_owned(), attached("shop", &[], &[]));
        let error = lease(&mut state, "shop", "too-many").unwrap_err();
        assert_eq!(error.to_string(), r#"network "shop" has no free address in 10.209.0.0/24"#);
    }
}
