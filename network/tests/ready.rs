//! Attachments made ahead, and used again: only if nobody has used them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;

use common::*;
use network::{Attachment, Networks, Ready, Request};
use tests::isolate::isolated;

fn ours() -> Request {
    Request::default()
}

/// As a daemon does it.
fn retire(networks: &Networks, guid: &str, attached: &Attachment) -> Ready {
    assert!(networks.rest(guid).unwrap());
    networks.retire(guid, Arc::clone(&attached.netns), attached.traces).unwrap().unwrap()
}

fn end(networks: &Networks, guids: &[&str]) {
    for guid in guids {
        networks.forget(guid).unwrap();
    }
    networks.tidy().unwrap();
}

#[test]
fn s22_what_is_made_ahead_serves_as_what_is_made_at_once() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let ready = networks.make_ready(None).unwrap();
        assert!(networks.list().unwrap().is_empty(), "it is nobody's");
        let one = networks
            .take("one", &Request { aliases: vec!["db".to_owned()], ..ours() }, ready)
            .unwrap()
            .unwrap();
        let two = networks.private("two", &ours()).unwrap();
        assert_eq!(networks.list().unwrap().len(), 2);
        assert!(read(&two.hosts).contains(&format!("{} one db", v4(&one))), "{}", read(&two.hosts));
        let _served = Server::tcp(Some(one.netns.as_fd()), "0.0.0.0:80");
        call(Some(two.netns.as_fd()), v4(&one), 80).unwrap();
        call(Some(one.netns.as_fd()), ip(INTERNET), 1).unwrap_err();
        end(&networks, &["one", "two"]);
        assert!(!lab.state().join("hosts/default").exists());
    });
}

#[test]
fn s22_a_namespace_that_nobody_used_is_used_again_with_its_link_and_address() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        // On a busy machine the kernel may keep a closed socket for longer than is waited for.
        let (first, ready) = (0..50)
            .find_map(|_| {
                let first = networks.private("one", &ours()).unwrap();
                let ready = retire(&networks, "one", &first);
                assert!(!read(&first.hosts).contains("one"), "its name is gone");
                Some((first, networks.look_over(ready).unwrap()?))
            })
            .expect("nobody used it");
        let second = networks.take("two", &ours(), ready).unwrap().unwrap();
        assert_eq!(second.endpoint.link, first.endpoint.link);
        assert_eq!(second.endpoint.addresses, first.endpoint.addresses);
        assert!(read(&second.hosts).contains("two"));
        end(&networks, &["two"]);
    });
}

/// What a container does, and what of it is left when its processes are gone.
type Use = fn() -> Option<Box<dyn std::any::Any + Send>>;

#[test]
fn s22_a_namespace_that_somebody_used_is_taken_apart() {
    let uses: [(&str, Use); 6] = [
        ("a socket that somebody else holds", || Some(Box::new(UdpSocket::bind("0.0.0.0:0").unwrap()))),
        ("a socket of no network", || Some(Box::new(std::os::unix::net::UnixDatagram::unbound().unwrap()))),
        ("a packet to the world", || {
            UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", (INTERNET, 9)).unwrap();
            None
        }),
        ("a packet to the world, IPv6", || {
            UdpSocket::bind("[::]:0").unwrap().send_to(b"x", (INTERNET6, 9)).unwrap();
            None
        }),
        ("a packet to itself", || {
            UdpSocket::bind("[::1]:0").unwrap().send_to(b"x", ("::1", 9)).unwrap();
            None
        }),
        ("a connection", || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            drop(std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap());
            None
        }),
    ];
    isolated(move || {
        let lab = Lab::new();
        let networks = lab.networks();
        for (what, using) in uses {
            let one = networks.private("one", &ours()).unwrap();
            let left = inside(Some(one.netns.as_fd()), using);
            let ready = retire(&networks, "one", &one);
            assert!(networks.look_over(ready).unwrap().is_none(), "{what}");
            drop(left);
        }
        networks.tidy().unwrap();
    });
}

#[test]
fn s22_what_does_not_suit_comes_back() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let ready = networks.make_ready(None).unwrap();
        let asked =
            |request: Request, ready: Ready| networks.take("one", &request, ready).unwrap().unwrap_err();
        let ready = asked(request("shop", &[], &[]), ready);
        let ready = asked(Request { publish: vec!["8080:80".parse().unwrap()], ..ours() }, ready);
        // An address of its own.
        drop(networks.private("one", &ours()).unwrap());
        networks.release("one").unwrap();
        let ready = asked(ours(), ready);
        networks.forget("one").unwrap();
        // Other name servers than when it was made.
        let resolv = lab.directory.path().join("resolv.conf");
        let before = std::fs::read(&resolv).unwrap();
        std::fs::write(&resolv, "nameserver 203.0.113.77\n").unwrap();
        let ready = asked(ours(), ready);
        std::fs::write(&resolv, before).unwrap();
        // No rules.
        run(&format!("nft delete table inet {}", network::TABLE));
        let ready = asked(ours(), ready);
        networks.discard(ready).unwrap();
        networks.tidy().unwrap();
    });
}

#[test]
fn s22_what_a_killed_daemon_had_ready_goes_with_the_next_one() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let before = traces();
        let one = networks.private("one", &ours()).unwrap();
        networks.rest("one").unwrap();
        drop((one, networks.make_ready(None).unwrap()));
        // As if another process had made them.
        let path = lab.state().join("state.json");
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for attached in json["attached"].as_object_mut().unwrap().values_mut() {
            attached["maker"]["startTime"] = 1.into();
        }
        std::fs::write(&path, json.to_string()).unwrap();
        lab.networks().recover(|_| false).unwrap();
        assert_eq!(traces(), before);
    });
}
