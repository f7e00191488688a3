//! Whose an address is, in namespaces of the test's own.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;

use broker::egress::machine::{Whose, whose};
use broker::egress::{Error, Guard, Limits, Reason, Resolve};

use crate::rig::{Names, Server, hello};

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A machine with public addresses of its own, a bridge to containers that have some too, and the world behind a gateway.
fn machine<T: Send>(inside: impl FnOnce() -> T + Send) -> T {
    linux::netns::create(|| {
        for command in [
            "link set lo up",
            "link add up0 type veth peer name up1",
            "addr add 10.0.0.2/24 dev up0",
            "addr add 1.2.3.4/32 dev up0",
            "addr add 2a00:1::4/128 dev up0 nodad",
            "link set up0 up",
            "link set up1 up",
            "route add default via 10.0.0.1",
            "link add containers type bridge",
            "addr add 1.2.4.1/24 dev containers",
            "addr add 2a00:2::1/64 dev containers nodad",
            "link set containers up",
            "route add blackhole 1.2.5.0/24",
            "route add local 1.2.6.0/24 dev lo",
        ] {
            ip(command);
        }
        inside()
    })
    .unwrap()
    .1
}

#[test]
fn b7_the_kernel_says_whose_an_address_is() {
    machine(|| {
        for (address, expected) in [
            ("1.2.3.4", Whose::Ours),
            ("2a00:1::4", Whose::Ours),
            ("1.2.4.1", Whose::Ours),
            ("1.2.4.255", Whose::Ours),
            ("1.2.6.7", Whose::Ours),
            ("127.0.0.1", Whose::Ours),
            ("255.255.255.255", Whose::Ours),
            ("224.0.0.1", Whose::Ours),
            ("1.2.4.9", Whose::Neighbour),
            ("2a00:2::9", Whose::Neighbour),
            ("1.2.5.1", Whose::Unreachable),
            ("2a00:3::1", Whose::Unreachable),
            ("1.1.1.1", Whose::Others),
        ] {
            assert_eq!(whose(address.parse().unwrap()), Ok(expected), "{address}");
        }
    });
}

#[test]
fn b7_the_machine_and_its_containers_are_not_outside_even_with_public_addresses() {
    machine(|| {
        let server = Server::at("0.0.0.0:0", hello);
        let names = Arc::new(Names::default());
        let guard = Guard::with_resolver(Arc::clone(&names) as Arc<dyn Resolve>);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (address, container) in
            [("1.2.3.4", false), ("1.2.4.1", false), ("2a00:1::4", false), ("1.2.4.9", true)]
        {
            let address: IpAddr = address.parse().unwrap();
            names.set("name.example", &[address]);
            let target = format!("name.example:{}", server.port);
            let grants = Names::grants(&[&target]);
            let request = crate::rig::get(&format!("http://{target}/"));
            let error = runtime.block_on(guard.fetch(&grants, request, &Limits::default())).unwrap_err();
            let Error::Denied(denied) = error else { panic!("{address}: {error}") };
            let expected = if container { Reason::Neighbour(address) } else { Reason::Machine(address) };
            assert_eq!(denied.reason, expected);
        }
        assert_eq!(server.heard(), 0);
    });
}

#[test]
fn b7_a_public_address_is_reached_without_anybodys_word() {
    // The world: a namespace behind the machine's gateway, where 93.184.216.34 is somebody's.
    let (world, server) = linux::netns::create(|| {
        ip("link set lo up");
        ip("addr add 93.184.216.34/32 dev lo");
        Server::at("93.184.216.34:0", hello)
    })
    .unwrap();
    let port = server.port;
    linux::netns::create(|| {
        ip("link set lo up");
        ip("link add up0 type veth peer name up1");
        ip("addr add 10.0.0.2/24 dev up0");
        ip("link set up0 up");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&world);
        ip(&format!("link set up1 netns /proc/{}/fd/{fd}", std::process::id()));
        linux::netns::within(std::os::fd::AsFd::as_fd(&world), || {
            ip("addr add 10.0.0.1/24 dev up1");
            ip("link set up1 up");
        })
        .unwrap();
        ip("route add default via 10.0.0.1");
        let names = Arc::new(Names::default());
        names.set("name.example", &["93.184.216.34".parse().unwrap()]);
        let guard = Guard::with_resolver(Arc::clone(&names) as Arc<dyn Resolve>);
        let target = format!("name.example:{port}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let body = runtime.block_on(async {
            let grants = Names::grants(&[&target]);
            let request = crate::rig::get(&format!("http://{target}/"));
            let mut response = guard.fetch(&grants, request, &Limits::default()).await.unwrap();
            response.bytes().await.unwrap()
        });
        assert_eq!(body, b"hello");
    })
    .unwrap();
    // Ends where it lives: its address is nowhere else.
    linux::netns::within(std::os::fd::AsFd::as_fd(&world), || drop(server)).unwrap();
}
