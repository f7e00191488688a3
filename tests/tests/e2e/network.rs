//! Networks of containers, through the command line and the socket. (row S22)
//!
//! What a private network promises is tested in `network/tests`; here, that a container gets it.

use std::io::Read as _;
use std::net::TcpStream;

use serde_json::json;
use tests::{Cli, Host, eventually, isolated};

fn links(text: &str) -> Vec<String> {
    let names = text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn s22_none_is_a_loopback_and_nothing_else() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let running = cli.launch(&rootfs, &["--network", "none"], &["sleep", "1000"]);
        assert_eq!(links(&cli.exec(&rootfs, &[], &["cat", "/proc/net/dev"]).ok().out()), ["lo"]);
        assert_eq!(cli.exec(&rootfs, &[], &["ls", "/sys/class/net"]).ok().out(), "lo");
        assert!(cli.exec(&rootfs, &[], &["ifconfig", "lo"]).ok().out().contains("UP LOOPBACK RUNNING"));
        drop(running);
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s22_siblings_on_a_private_network_reach_each_other_by_name_and_the_machine_by_published_ports() {
    isolated(|| {
        let host = Host::with_busybox();
        let cli = host.cli();
        let mut rpc = host.connect();
        let serve = ["sh", "-c", "while :; do echo hello | nc -l -p 80; done"];
        let server = rpc.create_fs("busybox");
        let network = json!({"mode": "private", "aliases": ["server"], "publish": ["127.0.0.1:0:80"]});
        rpc.call("subcontainer.launch", json!({"guid": server, "command": serve, "network": network}));
        let client = cli.create_fs("busybox");
        let running = cli.launch(&client, &["--network", "private"], &["sleep", "1000"]);
        eventually("the server is reached by name", || {
            cli.exec(&client, &[], &["nc", "-w", "2", "server", "80"]).out() == "hello"
        });
        let state = rpc.call("subcontainer.inspect", json!({"guid": server}))["state"].clone();
        let published = state["network"]["published"][0].as_str().unwrap();
        let port: u16 = published.split(':').nth(1).unwrap().parse().unwrap();
        eventually("the published port is reached", || {
            let mut said = String::new();
            TcpStream::connect(("127.0.0.1", port))
                .is_ok_and(|mut stream| stream.read_to_string(&mut said).is_ok())
                && said == "hello\n"
        });
        let said = cli.run(["subcontainer", "inspect", &client.path]).ok().out();
        assert!(said.contains("network  default: 10."), "{said}");
        // What it was given to read, it cannot write.
        assert_ne!(cli.exec(&client, &[], &["sh", "-c", "echo x >>/etc/hosts"]).code, 0);
        let clash = ["--network", "private", "-p", &format!("127.0.0.1:{port}:80")];
        let third = cli.create_fs("busybox");
        let launch = [&["subcontainer", "launch"], &clash[..], &[&third.path, "true"]].concat();
        let refused = cli.run(launch).failed(125);
        assert!(refused.contains(&port.to_string()) && refused.contains(&server), "{refused}");
        cli.destroy_fs(&third);
        drop(running);
        cli.destroy_fs(&client);
        rpc.call("subcontainer.destroyFs", json!({"guid": server}));
    });
}

#[test]
fn s22_what_a_killed_host_or_command_line_leaves_of_a_network_goes() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let network = json!({"mode": "private", "publish": ["0:80"]});
        rpc.call("subcontainer.launch", json!({"guid": guid, "network": network}));
        host.kill();
        host.start_again();
        eventually("it is destroyed", || {
            host.connect().call("subcontainer.list", json!({}))["subcontainers"] == json!([])
        });
        let cli = host.cli();
        let rootfs = cli.create_fs("busybox");
        let mut running = cli.launch(&rootfs, &["--network", "private"], &["sleep", "1000"]);
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        cli.destroy_fs(&rootfs);
        host.stop();
    });
}

#[test]
fn s22_a_network_that_makes_no_sense_is_refused_before_anything_is_made() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        for (flags, words) in [
            (&["--network", "bridge"][..], "none of host, none, private"),
            (&["-p", "80:80"], "need a private one"),
            (&["--network", "private", "-p", "x:80"], "x:80"),
            (&["--network", "private:no/name"], "no/name"),
            (&["--network", "private", "--network-alias", "a\nb"], "a\\nb"),
        ] {
            let launch = [&["subcontainer", "launch"], flags, &[&rootfs.path, "true"]].concat();
            let said = cli.run(launch).failed(125);
            assert!(said.contains(words), "{words}: {said}");
            assert_eq!(cli.state(&rootfs), "created");
        }
        cli.destroy_fs(&rootfs);
    });
}
