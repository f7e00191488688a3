//! Published ports.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::net::TcpListener;
use std::os::fd::AsFd as _;

use common::*;
use tests::isolate::isolated;

#[test]
fn s22_a_published_port_is_reached_from_outside_and_from_the_machine() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let one = networks.private("one", &request("shop", &[], &["8080:80", "5353:53/udp"])).unwrap();
        let tcp = Server::tcp(Some(one.netns.as_fd()), "[::]:80");
        let udp = Server::udp(Some(one.netns.as_fd()), "[::]:53");
        let outside = Some(lab.internet.as_fd());
        assert_eq!(call(outside, ip(MACHINE), 8080).unwrap(), INTERNET, "the caller's address is seen");
        assert_eq!(call(outside, ip(MACHINE6), 8080).unwrap(), INTERNET6);
        assert_eq!(ask(outside, ip(MACHINE), 5353).unwrap(), INTERNET);
        assert_eq!(ask(outside, ip(MACHINE6), 5353).unwrap(), INTERNET6);
        let gateway = one.endpoint.gateways[0].to_string();
        assert_eq!(call(None, ip("127.0.0.1"), 8080).unwrap(), gateway, "by the bridge");
        assert_eq!(ask(None, ip("127.0.0.1"), 5353).unwrap(), gateway);
        assert!(call(None, ip(MACHINE), 8080).is_ok());
        assert!(call(None, ip(MACHINE6), 8080).is_ok());
        // There is no way back to ::1, so it is refused at once, and a client tries 127.0.0.1.
        let refused = call(None, ip("::1"), 8080).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        networks.release("one").unwrap();
        assert_unreachable(outside, ip(MACHINE), 8080);
        assert_unreachable(None, ip("127.0.0.1"), 8080);
        drop((tcp, udp));
        networks.tidy().unwrap();
    });
}

#[test]
fn s22_containers_reach_published_ports_too_even_their_own() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        for value in ["0", "1"] {
            for family in ["iptables", "ip6tables"] {
                _ = std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{family}"), value);
            }
            let one = networks.private("one", &request("shop", &[], &["8080:80"])).unwrap();
            let sibling = networks.private("sibling", &request("shop", &[], &[])).unwrap();
            let other = networks.private("other", &request("bank", &[], &[])).unwrap();
            let server = Server::tcp(Some(one.netns.as_fd()), "[::]:80");
            for from in [&one, &sibling, &other] {
                for address in [ip(MACHINE), ip(MACHINE6), one.endpoint.gateways[0]] {
                    let answer = call(Some(from.netns.as_fd()), address, 8080);
                    assert!(answer.is_ok(), "{} to {address}: {answer:?}", from.endpoint.guid);
                }
            }
            drop(server);
            for guid in ["one", "sibling", "other"] {
                networks.release(guid).unwrap();
            }
            networks.tidy().unwrap();
        }
    });
}

#[test]
fn s22_a_port_published_at_one_address_is_published_there_only() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let publish = ["127.0.0.1:8080:80", "203.0.113.2:8081:80", "[2001:db8::2]:8082:80"];
        let one = networks.private("one", &request("shop", &[], &publish)).unwrap();
        let server = Server::tcp(Some(one.netns.as_fd()), "[::]:80");
        let outside = Some(lab.internet.as_fd());
        assert!(call(None, ip("127.0.0.1"), 8080).is_ok());
        assert_unreachable(outside, ip(MACHINE), 8080);
        assert!(call(outside, ip(MACHINE), 8081).is_ok());
        assert_unreachable(outside, ip(MACHINE6), 8081);
        assert!(call(outside, ip(MACHINE6), 8082).is_ok());
        assert_unreachable(outside, ip(MACHINE), 8082);
        // A neighbour on the wire sends a packet for 127.0.0.1 to the machine.
        linux::netns::within(lab.internet.as_fd(), || {
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
            run("ip route flush table local");
            run(&format!("ip route add local {INTERNET} dev eth0 table local"));
            run(&format!("ip route add 127.0.0.0/8 via {MACHINE} src {INTERNET}"));
        })
        .unwrap();
        assert_unreachable(outside, ip("127.0.0.1"), 8080);
        let chain = format!("inet {} arriving", network::TABLE);
        run(&format!("nft flush chain {chain}"));
        run(&format!("nft add rule {chain} jump published"));
        assert!(call(outside, ip("127.0.0.1"), 8080).is_ok(), "the control");
        drop(server);
        networks.release("one").unwrap();
        networks.tidy().unwrap();
    });
}

#[test]
fn s22_a_port_that_somebody_has_is_an_error_before_anything_is_made() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let before = traces();
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let said = |publish: &str| {
            networks.private("one", &request("shop", &[], &[publish])).unwrap_err().to_string()
        };
        let name = std::fs::read_to_string("/proc/self/comm").unwrap();
        let owner = format!("{} (pid {})", name.trim(), std::process::id());
        assert_eq!(said("8080:80"), format!("port 8080:80/tcp is in use by {owner}"));
        let checked = networks.check("one", &request("shop", &[], &["127.0.0.1:8080:80"])).unwrap_err();
        assert_eq!(checked.kind(), protocol::ErrorKind::Busy);
        assert_eq!(said("192.0.2.77:80:80"), "try port 192.0.2.77:80:80/tcp");
        assert_eq!(traces(), before);
        assert!(networks.list().unwrap().is_empty());
        // Another address, another protocol: no clash.
        let fine = request("shop", &[], &["203.0.113.2:8080:80", "8080:80/udp"]);
        let _one = networks.private("one", &fine).unwrap();
        drop(listener);
        let taken = networks.private("two", &request("bank", &[], &["8080:1"])).unwrap_err();
        assert_eq!(taken.to_string(), "port 8080:1/tcp is published by one already");
        let attached: Vec<String> = networks.list().unwrap().into_iter().map(|place| place.guid).collect();
        assert_eq!(attached, ["one"]);
        networks.release("one").unwrap();
        networks.tidy().unwrap();
        assert_eq!(traces(), before);
    });
}

#[test]
fn s22_the_kernel_chooses_a_port_and_it_is_said() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let one =
            networks.private("one", &request("shop", &[], &["0:80", "0:80", "127.0.0.1:0:80"])).unwrap();
        let server = Server::tcp(Some(one.netns.as_fd()), "[::]:80");
        let ports: Vec<u16> = one.endpoint.published.iter().map(|publish| publish.host_port).collect();
        assert!(ports[0] != 0 && ports[0] != ports[1], "{ports:?}");
        assert_eq!(networks.list().unwrap()[0].published, one.endpoint.published);
        assert!(call(Some(lab.internet.as_fd()), ip(MACHINE), ports[0]).is_ok());
        assert!(call(None, ip("127.0.0.1"), ports[2]).is_ok());
        drop(server);
        networks.release("one").unwrap();
        networks.tidy().unwrap();
    });
}
