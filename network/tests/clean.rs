//! What is left afterwards: nothing. And what is kept meanwhile.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;

use common::*;
use network::{Error, Namespace, Networks};
use tests::isolate::isolated;

#[test]
fn s22_nothing_is_left_of_a_network_when_its_last_container_goes() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        run("nft add table inet somebody");
        let before = traces();
        let one = networks.private("one", &request("shop", &["web"], &["8080:80"])).unwrap();
        let two = networks.private("two", &request("bank", &[], &[])).unwrap();
        assert!(run("nft list tables").contains(network::TABLE));
        let changed: Vec<String> =
            networks.changes().unwrap().into_iter().map(|change| change.sysctl).collect();
        assert_eq!(
            changed,
            ["net/ipv4/ip_forward", "net/ipv6/conf/up0/accept_ra", "net/ipv6/conf/all/forwarding"]
        );
        assert!(networks.release("one").unwrap());
        networks.tidy().unwrap();
        assert!(!traces().iter().any(|trace| trace.contains("scb0")), "its bridge is gone");
        assert!(!lab.state().join("hosts/shop").exists());
        assert!(call(Some(two.netns.as_fd()), two.endpoint.gateways[0], 1).is_err(), "the other's is not");
        assert!(run("nft list tables").contains(network::TABLE));
        assert!(networks.release("two").unwrap());
        networks.tidy().unwrap();
        // Their namespaces are still here: nothing outside of them is.
        assert_eq!(traces(), before);
        assert!(networks.list().unwrap().is_empty() && networks.changes().unwrap().is_empty());
        for directory in ["hosts", "resolv"] {
            assert_eq!(std::fs::read_dir(lab.state().join(directory)).unwrap().count(), 0, "{directory}");
        }
        assert!(!networks.release("one").unwrap(), "twice is once");
        networks.tidy().unwrap();
        drop((one, two));
        run("nft delete table inet somebody");
    });
}

#[test]
fn s22_a_link_goes_with_its_namespace() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let one = networks.private("one", &request("shop", &[], &[])).unwrap();
        let link = one.endpoint.link.clone();
        let there = || traces().iter().any(|trace| trace.contains(&link));
        assert!(there());
        drop(one);
        eventually("the kernel removes the link", || !there());
        networks.release("one").unwrap();
        networks.tidy().unwrap();
    });
}

#[test]
fn s22_a_setting_that_somebody_else_made_is_left_alone() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let forwarding = "/proc/sys/net/ipv4/ip_forward";
        let read = || std::fs::read_to_string(forwarding).unwrap();
        std::fs::write(forwarding, "1").unwrap();
        let _one = networks.private("one", &request("shop", &[], &[])).unwrap();
        assert!(networks.changes().unwrap().iter().all(|change| change.sysctl != "net/ipv4/ip_forward"));
        networks.release("one").unwrap();
        networks.tidy().unwrap();
        assert_eq!(read(), "1\n");
        // Ours, but changed since.
        std::fs::write(forwarding, "0").unwrap();
        let accept = "/proc/sys/net/ipv6/conf/up0/accept_ra";
        let _one = networks.private("one", &request("shop", &[], &[])).unwrap();
        assert_eq!((read().as_str(), std::fs::read_to_string(accept).unwrap().as_str()), ("1\n", "2\n"));
        std::fs::write(accept, "0").unwrap();
        networks.release("one").unwrap();
        networks.tidy().unwrap();
        assert_eq!((read().as_str(), std::fs::read_to_string(accept).unwrap().as_str()), ("0\n", "0\n"));
    });
}

#[test]
fn s22_a_daemon_keeps_bridge_and_table_warm() {
    isolated(|| {
        let lab = Lab::new();
        let before = traces();
        let networks = lab.networks();
        let warm = networks.keep_warm().unwrap();
        let one = networks.private("one", &request("shop", &[], &["8080:80"])).unwrap();
        networks.release("one").unwrap();
        // A command line next to the daemon.
        lab.networks().tidy().unwrap();
        assert!(traces().iter().any(|trace| trace.contains("scb0")));
        assert!(!traces().iter().any(|trace| trace.contains(&one.endpoint.link)));
        assert!(!run("nft list ruleset").contains("8080"));
        drop(warm);
        networks.tidy().unwrap();
        assert_eq!(traces(), before);
    });
}

#[test]
fn s22_an_address_is_remembered_until_it_is_forgotten() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let first = networks.private("one", &request("shop", &[], &[])).unwrap().endpoint.addresses;
        networks.release("one").unwrap();
        networks.tidy().unwrap();
        // Another process, later; the network was taken down in between.
        let networks = lab.networks();
        let _two = networks.private("two", &request("bank", &[], &[])).unwrap();
        let again = networks.private("one", &request("shop", &[], &[])).unwrap().endpoint.addresses;
        assert_eq!(again, first);
        for guid in ["one", "two"] {
            networks.forget(guid).unwrap();
        }
        networks.tidy().unwrap();
        let state = std::fs::read_to_string(lab.state().join("state.json")).unwrap();
        assert!(!state.contains("one") && !state.contains("shop"), "{state}");
        assert!(state.contains("ula"), "the prefix stays: {state}");
    });
}

#[test]
fn s22_a_subnet_that_the_machine_has_a_route_to_is_not_taken() {
    isolated(|| {
        let lab = Lab::new();
        run("ip route add 10.209.0.0/23 via 203.0.113.1");
        let networks = lab.networks();
        let one = networks.private("one", &request("shop", &[], &[])).unwrap();
        assert_eq!(one.endpoint.addresses[0].trunc().to_string(), "10.209.2.0/24");
        networks.release("one").unwrap();
        networks.tidy().unwrap();
        // Somebody took the network's subnet while it was down: it moves.
        run("ip route add 10.209.2.0/24 via 203.0.113.1");
        let one = networks.private("one", &request("shop", &[], &[])).unwrap();
        assert_eq!(one.endpoint.addresses[0].trunc().to_string(), "10.209.3.0/24");
        networks.forget("one").unwrap();
        networks.tidy().unwrap();
        let before = traces();
        let config = network::Config { pools: vec!["10.209.0.0/22".parse().unwrap()], ..lab.config() };
        let networks = Networks::open(std::fs::File::open(lab.state()).unwrap().into(), config).unwrap();
        run("ip route add 10.0.0.0/8 via 203.0.113.1");
        let error = networks.private("one", &request("shop", &[], &[])).unwrap_err();
        assert!(matches!(error, Error::SubnetsTaken { .. }), "{error}");
        assert!(error.to_string().starts_with("no free subnet in 10.209.0.0/22: 10."), "{error}");
        assert!(error.to_string().ends_with("goes through up0"), "{error}");
        run("ip route del 10.0.0.0/8");
        assert_eq!(traces(), before);
    });
}

#[test]
fn s22_many_attach_at_once_and_each_has_its_own_address() {
    isolated(|| {
        let lab = Lab::new();
        let before = traces();
        let attached: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|number| {
                    // As so many processes.
                    let networks = lab.networks();
                    scope.spawn(move || {
                        (0..4)
                            .map(|turn| {
                                let guid = format!("g{number}-{turn}");
                                let request = request(&format!("net{}", number % 3), &[], &["0:80"]);
                                networks.private(&guid, &request).unwrap()
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let addresses: BTreeSet<_> = attached.iter().map(v4).collect();
        let ports: BTreeSet<_> = attached.iter().map(|one| one.endpoint.published[0].host_port).collect();
        assert_eq!((addresses.len(), ports.len()), (32, 32));
        for one in &attached {
            let server = Server::tcp(Some(one.netns.as_fd()), "[::]:80");
            let port = one.endpoint.published[0].host_port;
            assert!(call(Some(lab.internet.as_fd()), ip(MACHINE), port).is_ok(), "{:?}", one.endpoint);
            drop(server);
        }
        let networks = lab.networks();
        for one in &attached {
            networks.forget(&one.endpoint.guid).unwrap();
        }
        networks.tidy().unwrap();
        assert_eq!(traces(), before);
    });
}

#[test]
fn s22_rules_that_somebody_flushed_are_back_with_the_next_container() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let one = networks.private("one", &request("shop", &[], &["8080:80"])).unwrap();
        let server = Server::tcp(Some(one.netns.as_fd()), "[::]:80");
        run("nft flush ruleset");
        assert_unreachable(Some(lab.internet.as_fd()), ip(MACHINE), 8080);
        let _two = networks.private("two", &request("shop", &[], &[])).unwrap();
        assert!(call(Some(lab.internet.as_fd()), ip(MACHINE), 8080).is_ok());
        drop(server);
        run("nft flush ruleset");
        for guid in ["one", "two"] {
            networks.release(guid).unwrap();
        }
        networks.tidy().unwrap();
    });
}

#[test]
fn s22_what_fails_halfway_is_undone() {
    isolated(|| {
        let lab = Lab::new();
        let before = traces();
        let networks = lab.networks();
        let wanted = request("shop", &["web"], &["8080:80"]);
        // After the bridge, before the rules.
        std::fs::remove_file(lab.config().resolv_conf).unwrap();
        std::fs::create_dir(lab.config().resolv_conf).unwrap();
        let error = networks.private("one", &wanted).unwrap_err();
        assert!(matches!(error, Error::Resolver { .. }), "{error}");
        assert_eq!(traces(), before);
        std::fs::remove_dir(lab.config().resolv_conf).unwrap();
        // After rules and links.
        let namespace = Namespace::create().unwrap();
        let disable = || std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        linux::netns::within(namespace.as_fd(), disable).unwrap();
        let error = networks.private_in("one", &wanted, namespace).unwrap_err();
        assert!(error.to_string().starts_with("add address fd"), "{error}");
        assert_eq!(traces(), before);
        assert!(networks.list().unwrap().is_empty());
    });
}

#[test]
fn s22_a_link_of_somebody_elses_with_our_kind_of_name_is_left_alone() {
    isolated(|| {
        let lab = Lab::new();
        run("ip link add scv0 type veth peer name scb0");
        let before = traces();
        let networks = lab.networks();
        let one = networks.private("one", &request("shop", &[], &[])).unwrap();
        assert_eq!(one.endpoint.link, "scv1");
        networks.release("one").unwrap();
        networks.tidy().unwrap();
        assert_eq!(traces(), before);
        run("ip link del scv0");
    });
}
