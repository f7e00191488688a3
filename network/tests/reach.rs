//! Who reaches whom.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use common::*;
use tests::isolate::isolated;

/// The bridge's frames pass netfilter on some machines (Docker's load `br_netfilter`), and on some they do not.
fn with_and_without_bridge_netfilter(test: impl Fn()) {
    for value in ["0", "1"] {
        for family in ["iptables", "ip6tables"] {
            // Absent where the kernel has it not: then one way is all there is.
            _ = std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{family}"), value);
        }
        test();
    }
}

#[test]
fn s22_siblings_reach_each_other_and_the_internet_by_both_families() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let _internet = Server::tcp(Some(lab.internet.as_fd()), "[::]:80");
        with_and_without_bridge_netfilter(|| {
            let one = networks.private("one", &request("shop", &[], &[])).unwrap();
            let two = networks.private("two", &request("shop", &[], &[])).unwrap();
            let server = Server::tcp(Some(one.netns.as_fd()), "[::]:80");
            let from = Some(two.netns.as_fd());
            assert_eq!(call(from, v4(&one), 80).unwrap(), v4(&two).to_string());
            assert_eq!(call(from, v6(&one), 80).unwrap(), v6(&two).to_string());
            assert_eq!(call(from, ip(INTERNET), 80).unwrap(), MACHINE, "with the machine's address");
            assert_eq!(call(from, ip(INTERNET6), 80).unwrap(), MACHINE6);
            linux::netns::within(two.netns.as_fd(), || {
                // Without any privilege: the group range of echo sockets is open.
                assert!(
                    std::fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").unwrap().starts_with('0')
                );
            })
            .unwrap();
            drop(server);
            for guid in ["one", "two"] {
                networks.forget(guid).unwrap();
            }
        });
        networks.tidy().unwrap();
    });
}

/// A lost packet, or a lost question for a neighbour's address, is sent again after a second. On a busy machine that
/// happens once in a hundred calls, see decision 0009; here it would be each time.
#[test]
fn s22_the_first_call_of_a_new_container_from_outside_is_answered_at_once() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let outside = Some(lab.internet.as_fd());
        let mut slow = Vec::new();
        for turn in 0..6 {
            let one = networks.private("one", &request("shop", &[], &["8080:80"])).unwrap();
            let server = Server::tcp(Some(one.netns.as_fd()), "[::]:80");
            for address in [ip(MACHINE6), ip(MACHINE)] {
                let start = std::time::Instant::now();
                call(outside, address, 8080).unwrap();
                if start.elapsed() > std::time::Duration::from_millis(700) {
                    slow.push((turn, address));
                }
            }
            drop(server);
            networks.release("one").unwrap();
            // The next one has a new bridge too.
            networks.tidy().unwrap();
        }
        assert!(slow.len() <= 2, "{slow:?}");
    });
}

#[test]
fn s22_containers_of_different_networks_do_not_reach_each_other() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        with_and_without_bridge_netfilter(|| {
            let one = networks.private("one", &request("shop", &[], &[])).unwrap();
            let other = networks.private("other", &request("bank", &[], &[])).unwrap();
            let sibling = networks.private("sibling", &request("shop", &[], &[])).unwrap();
            let server = Server::tcp(Some(one.netns.as_fd()), "[::]:80");
            for address in [v4(&one), v6(&one)] {
                assert_unreachable(Some(other.netns.as_fd()), address, 80);
                assert!(call(Some(sibling.netns.as_fd()), address, 80).is_ok(), "a sibling does");
            }
            run(&format!("nft flush chain inet {} forward", network::TABLE));
            for address in [v4(&one), v6(&one)] {
                assert!(call(Some(other.netns.as_fd()), address, 80).is_ok(), "the control");
            }
            drop(server);
            for guid in ["one", "other", "sibling"] {
                networks.forget(guid).unwrap();
            }
            networks.tidy().unwrap();
        });
    });
}

#[test]
fn s22_nobody_outside_reaches_a_container_that_published_nothing() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let one = networks.private("one", &request("shop", &[], &[])).unwrap();
        let server = Server::tcp(Some(one.netns.as_fd()), "[::]:80");
        let outside = Some(lab.internet.as_fd());
        // A neighbour on the wire may send packets for any address to the machine.
        linux::netns::within(lab.internet.as_fd(), || {
            run(&format!("ip route add {} via {MACHINE}", one.endpoint.addresses[0].trunc()));
            run(&format!("ip -6 route add {} via {MACHINE6}", one.endpoint.addresses[1].trunc()));
        })
        .unwrap();
        for address in [v4(&one), v6(&one)] {
            assert_unreachable(outside, address, 80);
            assert!(call(None, address, 80).is_ok(), "the machine itself does");
        }
        run(&format!("nft flush chain inet {} forward", network::TABLE));
        for address in [v4(&one), v6(&one)] {
            assert!(call(outside, address, 80).is_ok(), "the control");
        }
        drop(server);
        networks.release("one").unwrap();
        networks.tidy().unwrap();
    });
}

#[test]
fn s22_a_container_reaches_no_service_of_the_machine() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let _service = Server::tcp(None, "[::]:5432");
        let one = networks.private("one", &request("shop", &[], &[])).unwrap();
        let other = networks.private("other", &request("bank", &[], &[])).unwrap();
        let from = Some(one.netns.as_fd());
        let machines = one.endpoint.gateways.iter().chain(&other.endpoint.gateways).copied();
        for address in machines.chain([ip(MACHINE), ip(MACHINE6)]) {
            assert_unreachable(from, address, 5432);
        }
        assert!(call(Some(lab.internet.as_fd()), ip(MACHINE), 5432).is_ok(), "the control");
        // The bridge routes 127.0.0.0/8 (CVE-2020-8558): by a route of its own, root inside reaches no loopback.
        linux::netns::within(one.netns.as_fd(), || {
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
            run("ip addr del 127.0.0.1/8 dev lo");
            run(&format!("ip route add 127.0.0.0/8 via {}", one.endpoint.gateways[0]));
        })
        .unwrap();
        assert_unreachable(from, ip("127.0.0.1"), 5432);
        run(&format!("nft flush chain inet {} input", network::TABLE));
        assert_unreachable(from, ip("127.0.0.1"), 5432);
        assert!(call(from, ip(MACHINE), 5432).is_ok(), "the control");
        run(&format!("nft flush chain inet {} source", network::TABLE));
        assert!(call(from, ip("127.0.0.1"), 5432).is_ok(), "the control");
        for guid in ["one", "other"] {
            networks.release(guid).unwrap();
        }
        networks.tidy().unwrap();
    });
}

#[test]
fn s22_a_container_cannot_speak_with_anothers_address() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let one = networks.private("one", &request("shop", &[], &[])).unwrap();
        let other = networks.private("other", &request("bank", &[], &[])).unwrap();
        let sink =
            linux::netns::within(lab.internet.as_fd(), || UdpSocket::bind("[::]:53").unwrap()).unwrap();
        sink.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        let heard = || sink.recv(&mut [0; 16]).is_ok();
        linux::netns::within(one.netns.as_fd(), || {
            run(&format!("ip addr add {}/32 dev lo", v4(&other)));
            run(&format!("ip -6 addr add {}/128 dev lo nodad", v6(&other)));
        })
        .unwrap();
        let speak = |as_whom: IpAddr| {
            linux::netns::within(one.netns.as_fd(), || {
                let to = if as_whom.is_ipv4() { INTERNET } else { INTERNET6 };
                UdpSocket::bind((as_whom, 0)).unwrap().send_to(b"hello", (to, 53)).unwrap();
            })
            .unwrap();
        };
        for (its_own, anothers) in [(v4(&one), v4(&other)), (v6(&one), v6(&other))] {
            // This one first: who asks for the gateway's link address with another's is not answered, and tries
            // again only after a second.
            speak(its_own);
            assert!(heard(), "{its_own}");
            speak(anothers);
            assert!(!heard(), "{anothers}");
        }
        run(&format!("nft flush chain inet {} source", network::TABLE));
        for anothers in [v4(&other), v6(&other)] {
            speak(anothers);
            assert!(heard(), "the control: {anothers}");
        }
        for guid in ["one", "other"] {
            networks.release(guid).unwrap();
        }
        networks.tidy().unwrap();
    });
}

#[test]
fn s22_the_machine_is_no_router_for_strangers_while_it_forwards_for_containers() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        // Another network behind the machine, which is none of ours.
        let (behind, ()) = linux::netns::create(|| ()).unwrap();
        let there = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&behind));
        run(&format!("ip link add lan0 type veth peer name eth0 netns {there}"));
        run("ip addr add 192.0.2.1/24 dev lan0");
        run("ip link set lan0 up");
        linux::netns::within(behind.as_fd(), || {
            run("ip addr add 192.0.2.2/24 dev eth0");
            run("ip link set eth0 up");
            run("ip route add default via 192.0.2.1");
        })
        .unwrap();
        linux::netns::within(lab.internet.as_fd(), || {
            run(&format!("ip route add 192.0.2.0/24 via {MACHINE}"));
        })
        .unwrap();
        let server = Server::tcp(Some(behind.as_fd()), "0.0.0.0:80");
        let outside = Some(lab.internet.as_fd());
        let it = ip("192.0.2.2");
        assert_unreachable(outside, it, 80);
        let _one = networks.private("one", &request("shop", &[], &[])).unwrap();
        // Forwarding is on for our containers only.
        assert_unreachable(outside, it, 80);
        networks.release("one").unwrap();
        networks.tidy().unwrap();
        // Where it is a router by its owner's wish, it stays one.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        call(outside, it, 80).unwrap();
        let _one = networks.private("one", &request("shop", &[], &[])).unwrap();
        call(outside, it, 80).unwrap();
        networks.release("one").unwrap();
        networks.tidy().unwrap();
        call(outside, it, 80).unwrap();
        drop(server);
        drop(behind);
        run("ip link del lan0");
    });
}

#[test]
fn s22_abstract_sockets_of_the_machine_are_out_of_reach() {
    isolated(|| {
        let lab = Lab::offline();
        let networks = lab.networks();
        let name = SocketAddr::from_abstract_name("start-container-test").unwrap();
        let _listener = UnixListener::bind_addr(&name).unwrap();
        assert!(UnixStream::connect_addr(&name).is_ok(), "the control");
        let one = networks.private("one", &request("shop", &[], &[])).unwrap();
        let none = network::Namespace::create().unwrap();
        for netns in [one.netns.as_fd(), none.as_fd()] {
            let refused = linux::netns::within(netns, || UnixStream::connect_addr(&name)).unwrap();
            assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        }
        networks.release("one").unwrap();
        networks.tidy().unwrap();
    });
}

#[test]
fn s22_network_none_has_a_loopback_that_is_up_and_nothing_else() {
    isolated(|| {
        let before = traces();
        let none = network::Namespace::create().unwrap();
        let _server = Server::tcp(Some(none.as_fd()), "127.0.0.1:80");
        assert_eq!(call(Some(none.as_fd()), ip("127.0.0.1"), 80).unwrap(), "127.0.0.1");
        let links = linux::netns::within(none.as_fd(), || run("ip -o link")).unwrap();
        assert_eq!(links.lines().count(), 1, "{links}");
        assert_unreachable(Some(none.as_fd()), ip(MACHINE), 80);
        assert_eq!(traces(), before);
    });
}
