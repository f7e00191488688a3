//! Links of the machine that a container is given: `linux.netDevices`.

use std::process::{Command, Stdio};

use serde_json::json;
use tests::{eventually, isolated};

use crate::rig::{Bundle, finish};

fn ip(arguments: &str) -> String {
    finish(Command::new("ip").args(arguments.split(' '))).ok().out()
}

/// A pair of links with addresses, of which one is to be given.
fn pair() {
    ip("link add given mtu 1400 type veth peer name kept");
    ip("addr add 10.9.0.1/24 dev given");
    ip("addr add fd00:9::1/64 dev given nodad");
    ip("addr add 169.254.9.9/16 scope link dev given");
    ip("link set given up");
    ip("link set kept up");
}

#[test]
fn o1_a_link_that_is_given_comes_with_its_name_addresses_and_size() {
    isolated(|| {
        pair();
        let mut bundle = Bundle::new();
        bundle.config["linux"]["netDevices"] = json!({"given": {"name": "inside"}});
        bundle.sh("ip link show; ip addr show dev inside; exec sleep 1000");
        bundle.create("one", &[]).ok();
        assert!(finish(Command::new("ip").args(["link", "show", "given"])).err().contains("does not exist"));
        bundle.ours(&["start", "one"]).ok();
        eventually("it says what it has", || bundle.said().contains("fd00:9::1/64"));
        let said = bundle.said();
        for part in ["inside@", "mtu 1400", "10.9.0.1/24", "LOWER_UP"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("169.254") && !said.contains("given"), "{said}");
        bundle.ours(&["delete", "--force", "one"]).ok();
        // A pair ends with the namespace of either.
        eventually("it is gone", || !ip("link show").contains("kept"));
    });
}

#[test]
fn o1_a_link_stays_with_a_namespace_that_outlives_the_container() {
    isolated(|| {
        pair();
        let mut other = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo; exec sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let mut bundle = Bundle::new();
        for namespace in bundle.config["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "network" {
                namespace["path"] = json!(format!("/proc/{}/ns/net", other.id()));
            }
        }
        bundle.config["linux"]["netDevices"] = json!({"given": {}});
        bundle.sh("ip addr show dev given");
        assert!(bundle.run("ours").ok().out().contains("10.9.0.1/24"));
        let there = |arguments: &str| {
            let target = other.id().to_string();
            finish(Command::new("nsenter").args(["-t", &target, "-n", "ip"]).args(arguments.split(' ')))
        };
        assert!(there("addr show dev given").ok().out().contains("10.9.0.1/24"));

        // One whose name is taken there is not given, and those before it are given back.
        ip("link add another type veth peer name rest");
        ip("link set kept name early");
        bundle.config["linux"]["netDevices"] = json!({"another": {}, "early": {"name": "given"}});
        let said = bundle.run("ours");
        assert!(said.code != 0 && said.err().contains("given"), "{}", said.err());
        ip("link show another");
        ip("link show early");
        ip("link del another");
        there("link del given").ok();
        other.kill().unwrap();
        other.wait().unwrap();
    });
}

#[test]
fn o1_a_link_that_cannot_be_given_is_named() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.sh("true");
        let mut refused = |devices: serde_json::Value, said: &str| {
            bundle.config["linux"]["netDevices"] = devices;
            let run = bundle.run("ours");
            assert!(run.code == 1 && run.err().contains(said), "{said}: {}", run.err());
        };
        refused(json!({"nope": {}}), "look up link nope");
        refused(json!({"a/b": {}}), "linux.netDevices[a/b]");
        refused(json!({"a": {"name": "much-too-long-for-it"}}), "linux.netDevices[a]");
        refused(json!({"a": {"name": "x"}, "b": {"name": "x"}}), "linux.netDevices[b]");
        refused(json!({"a": 5}), "linux.netDevices");
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|one| one["type"] != "network");
        bundle.config["linux"]["netDevices"] = json!({"a": {}});
        assert!(bundle.run("ours").err().contains("linux.netDevices[a]: needs a network namespace"));
    });
}
