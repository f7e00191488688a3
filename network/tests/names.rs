//! How containers resolve names.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd as _;

use common::*;
use network::Dns;
use tests::isolate::isolated;

/// The addresses of a name in a hosts file, as the C library reads it.
fn lookup(hosts: &str, name: &str) -> Vec<IpAddr> {
    let addresses = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word == name).then_some(address)
    };
    hosts.lines().filter_map(addresses).collect()
}

#[test]
fn s22_siblings_have_names_which_come_and_go_while_containers_run() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let web = networks.private("web-guid", &request("shop", &["web"], &[])).unwrap();
        assert_eq!(lookup(&read(&web.hosts), "localhost"), [ip("127.0.0.1"), ip("::1")]);
        assert_eq!(lookup(&read(&web.hosts), "web"), [v4(&web), v6(&web)], "its own");
        assert_eq!(lookup(&read(&web.hosts), "db"), [] as [IpAddr; 0]);
        let db = networks.private("db-guid", &request("shop", &["db", "db.shop"], &[])).unwrap();
        for name in ["db", "db.shop", "db-guid"] {
            assert_eq!(
                lookup(&read(&web.hosts), name),
                [v4(&db), v6(&db)],
                "the file that web has is the same"
            );
        }
        let server = Server::tcp(Some(db.netns.as_fd()), "[::]:80");
        assert!(call(Some(web.netns.as_fd()), lookup(&read(&web.hosts), "db")[0], 80).is_ok());
        drop(server);
        let bank = networks.private("bank-guid", &request("bank", &["db"], &[])).unwrap();
        assert_eq!(lookup(&read(&bank.hosts), "db"), [v4(&bank), v6(&bank)], "each network has its own");
        let taken = networks.private("second", &request("shop", &["db"], &[])).unwrap_err();
        assert_eq!(taken.to_string(), r#"name "db" is taken by db-guid on network "shop""#);
        networks.release("db-guid").unwrap();
        assert_eq!(lookup(&read(&web.hosts), "db"), [] as [IpAddr; 0]);
        let mode = rustix::fs::fstat(&web.hosts).unwrap().st_mode & 0o777;
        assert_eq!(mode, 0o644, "any user inside reads it");
        for guid in ["web-guid", "bank-guid"] {
            networks.release(guid).unwrap();
        }
        networks.tidy().unwrap();
    });
}

#[test]
fn s22_a_resolver_elsewhere_is_asked_directly() {
    isolated(|| {
        let lab = Lab::new();
        std::fs::write(lab.config().resolv_conf, "nameserver 203.0.113.1\nsearch lan\n").unwrap();
        let _resolver = Server::udp(Some(lab.internet.as_fd()), "[::]:53");
        let networks = lab.networks();
        let one = networks.private("one", &request("shop", &[], &[])).unwrap();
        assert_eq!(one.dns, Dns::Servers(vec![ip(INTERNET)]));
        assert_eq!(read(&one.resolv_conf), "nameserver 203.0.113.1\nsearch lan\n");
        assert_eq!(ask(Some(one.netns.as_fd()), ip(INTERNET), 53).unwrap(), MACHINE);
        // The machine moves to another network: the next container brings the news to all.
        std::fs::write(lab.config().resolv_conf, "nameserver 192.0.2.53\n").unwrap();
        let _two = networks.private("two", &request("bank", &[], &[])).unwrap();
        assert_eq!(read(&one.resolv_conf), "nameserver 192.0.2.53\n");
        for guid in ["one", "two"] {
            networks.release(guid).unwrap();
        }
        networks.tidy().unwrap();
    });
}

#[test]
fn s22_a_resolver_on_the_machines_loopback_is_reached_by_the_gateway() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        for (server, caller) in [("127.0.0.1", "127.0.0.1"), (MACHINE, "")] {
            std::fs::write(lab.config().resolv_conf, format!("nameserver {server}\n")).unwrap();
            let udp = Server::udp(None, &format!("{server}:53"));
            let tcp = Server::tcp(None, &format!("{server}:53"));
            let other = Server::tcp(None, &format!("{server}:54"));
            let one = networks.private("one", &request("shop", &[], &[])).unwrap();
            let from = Some(one.netns.as_fd());
            let gateway = one.endpoint.gateways[0];
            assert_eq!(one.dns, Dns::Forwarded(format!("{server}:53").parse().unwrap()));
            assert_eq!(read(&one.resolv_conf), format!("nameserver {gateway}\n"));
            // A resolver that serves the loopback only sees a caller from there.
            let expected = if caller.is_empty() { v4(&one).to_string() } else { caller.to_owned() };
            assert_eq!(ask(from, gateway, 53).unwrap(), expected);
            assert_eq!(call(from, gateway, 53).unwrap(), expected);
            assert_unreachable(from, gateway, 54);
            drop((udp, tcp, other));
            networks.release("one").unwrap();
            networks.tidy().unwrap();
        }
    });
}

#[test]
fn s22_a_machine_without_a_usable_resolver_is_said_to_be_one() {
    isolated(|| {
        let lab = Lab::offline();
        std::fs::remove_file(lab.config().resolv_conf).unwrap();
        let networks = lab.networks();
        let one = networks.private("one", &request("shop", &["web"], &[])).unwrap();
        assert_eq!(one.dns, Dns::Nobody);
        assert_eq!(read(&one.resolv_conf), "");
        assert_eq!(
            lookup(&read(&one.hosts), "web"),
            [v4(&one), v6(&one)],
            "siblings have names all the same"
        );
        // Nobody listens: and nothing of the machine's port 53 is open by accident.
        let _service = UdpSocket::bind("0.0.0.0:53").unwrap();
        assert!(ask(Some(one.netns.as_fd()), one.endpoint.gateways[0], 53).is_err());
        networks.release("one").unwrap();
        networks.tidy().unwrap();
    });
}
