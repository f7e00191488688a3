//! From a private network: the machine, other networks, siblings. What the network itself promises is tested in
//! `network/tests`; here, that those inside have no way around it.

use std::net::{TcpListener, UdpSocket};
use std::process::Command;

use serde_json::json;
use tests::cli::finish;
use tests::{Rpc, attacks, isolated};

use super::rig::{Arena, Attempt, GUARDED, KINDS, Relaxed, Said, UNLIMITED, bare};

/// A container on the private network of this name, with its IPv4 address.
fn sibling(arena: &Arena, rpc: &mut Rpc, network: &str, command: &[&str]) -> (String, String) {
    let guid = arena.rootfs(rpc, &KINDS[0]);
    let network = json!({"mode": "private", "name": network});
    rpc.call("subcontainer.launch", json!({"guid": guid, "command": command, "network": network}));
    let state = rpc.call("subcontainer.inspect", json!({"guid": guid}))["state"].clone();
    let address = state["network"]["addresses"][0].as_str().unwrap();
    (guid, address.split('/').next().unwrap().to_owned())
}

#[test]
fn s22_no_service_of_the_machine_is_reached_by_any_address_of_it() {
    isolated(|| {
        let arena = Arena::new();
        let service = TcpListener::bind("0.0.0.0:4711").unwrap();
        let attempt = Attempt::new(&["machine-service", "4711"]).network("private");
        attempt.is_refused(&arena);
        // The machine's network is the default, and has the machine's loopback.
        attempt.works_with(&arena, &UNLIMITED);
        drop(service);
    });
}

#[test]
fn s22_no_container_of_another_network_is_reached() {
    isolated(|| {
        let arena = Arena::new();
        let mut rpc = arena.host.connect();
        let serve = ["sh", "-c", "while :; do echo x | nc -l -p 80; done"];
        let (guid, address) = sibling(&arena, &mut rpc, "bank", &serve);
        let attempt = Attempt::new(&["other-network", &address, "80"]).network("private");
        attempt.is_refused(&arena);
        // The control: from the machine, and from one beside it.
        tests::eventually("it serves", || {
            let mut command = Command::new(attacks::program());
            command.args(["other-network", &address, "80"]);
            finish(command, b"").out().starts_with("worked")
        });
        let (beside, _) = sibling(&arena, &mut rpc, "bank", &["sleep", "1000"]);
        let said = rpc.output(&beside, &["/attacks", "other-network", &address, "80"]);
        Said::read("beside it", &said, "").all_worked();
        for guid in [guid, beside] {
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        }
    });
}

#[test]
fn s22_nobody_speaks_as_a_sibling() {
    isolated(|| {
        let arena = Arena::new();
        let mut rpc = arena.host.connect();
        let (guid, address) = sibling(&arena, &mut rpc, "default", &["sleep", "1000"]);
        let listener = UdpSocket::bind("127.0.0.1:4712").unwrap();
        let attempt = Attempt::new(&["spoof", &address, &address, "4712"]).network("private");
        attempt.is_refused(&arena);
        // The control: who has the address.
        let said = rpc.output(&guid, &["/attacks", "spoof", &address, &address, "4712"]);
        Said::read("as itself", &said, "").all_worked();
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        drop(listener);
    });
}

#[test]
fn s22_links_addresses_and_rules_are_not_those_insides_to_change() {
    isolated(|| {
        let arena = Arena::new();
        for mode in ["none", "private"] {
            Attempt::new(&["rewire"]).network(mode).is_refused(&arena);
        }
        bare(&["rewire"]).all_worked();
        // With the right to, in a network of its own and in no other: the settings stay read-only.
        let relaxed = Relaxed { capabilities: &["NET_ADMIN"], ..GUARDED };
        let attempt = Attempt::new(&["rewire"]).network("private");
        let said = attempt.through(&arena, super::rig::Door::Host, &KINDS[0], &relaxed);
        assert_eq!(said.lines.iter().filter(|line| line.starts_with("worked")).count(), 3, "{said:?}");
        assert!(said.lines[3].starts_with("refused"), "{said:?}");
    });
}
