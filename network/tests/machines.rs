//! Machines and containers of other kinds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use common::*;
use network::Namespace;
use tests::isolate::isolated;

#[test]
fn s22_a_container_with_a_user_namespace_of_its_own_is_attached_too() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let _internet = Server::tcp(Some(lab.internet.as_fd()), "[::]:80");
        // Its network namespace belongs to its user namespace: only so may root in there mount a sysfs.
        let mut child = Command::new("unshare")
            .args([
                "--user",
                "--map-root-user",
                "--net",
                "--kill-child",
                "sh",
                "-c",
                "echo ready; exec sleep 1000",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        let namespaces = format!("/proc/{}/ns", child.id());
        let netns = std::fs::File::open(format!("{namespaces}/net")).unwrap();
        let namespace = Namespace::adopt(netns.into()).unwrap();
        let one = networks.private_in("one", &request("shop", &[], &["8080:80"]), namespace).unwrap();
        let server = Server::tcp(Some(one.netns.as_fd()), "[::]:80");
        assert!(call(Some(lab.internet.as_fd()), ip(MACHINE), 8080).is_ok());
        assert_eq!(call(Some(one.netns.as_fd()), ip(INTERNET), 80).unwrap(), MACHINE);
        drop(server);
        // No capability is held in the namespace's owner by uid 1000, and none is needed for a low port.
        let target = child.id().to_string();
        let enter =
            ["-t", &target, "-n", "setpriv", "--reuid", "1000", "--clear-groups", "--bounding-set", "-all"];
        let script = "socket(S, PF_INET, SOCK_STREAM, 0) && bind(S, sockaddr_in(81, INADDR_ANY)) or die $!";
        let output =
            Command::new("nsenter").args(enter).args(["perl", "-MSocket", "-e", script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        child.kill().unwrap();
        child.wait().unwrap();
        networks.release("one").unwrap();
        networks.tidy().unwrap();
    });
}

#[test]
fn s22_a_machine_without_ipv6_has_private_networks_of_ipv4() {
    isolated(|| {
        let lab = Lab::new();
        for link in ["all", "default"] {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "1").unwrap();
        }
        let before = traces();
        let networks = lab.networks();
        let _internet = Server::tcp(Some(lab.internet.as_fd()), "0.0.0.0:80");
        let one = networks.private("one", &request("shop", &["web"], &["8080:80"])).unwrap();
        assert_eq!((one.endpoint.addresses.len(), one.endpoint.gateways.len()), (1, 1));
        let server = Server::tcp(Some(one.netns.as_fd()), "0.0.0.0:80");
        assert!(call(Some(lab.internet.as_fd()), ip(MACHINE), 8080).is_ok());
        assert_eq!(call(Some(one.netns.as_fd()), ip(INTERNET), 80).unwrap(), MACHINE);
        assert!(networks.changes().unwrap().iter().all(|change| !change.sysctl.contains("ipv6")));
        drop(server);
        networks.release("one").unwrap();
        networks.tidy().unwrap();
        assert_eq!(traces(), before);
    });
}

#[test]
fn s22_a_packet_is_no_larger_than_the_way_out_takes() {
    isolated(|| {
        let lab = Lab::new();
        run("ip link set up0 mtu 1400");
        let networks = lab.networks();
        let one = networks.private("one", &request("shop", &[], &[])).unwrap();
        let inside = linux::netns::within(one.netns.as_fd(), || run("ip link show eth0")).unwrap();
        for (what, link) in [
            ("inside", inside),
            ("the port", run(&format!("ip link show {}", one.endpoint.link))),
            ("the bridge", run("ip link show scb0")),
        ] {
            assert!(link.contains("mtu 1400"), "{what}: {link}");
        }
        networks.release("one").unwrap();
        networks.tidy().unwrap();
    });
}
