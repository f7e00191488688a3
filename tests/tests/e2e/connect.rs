//! Connections to ports inside, and commands of which nothing stays.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::rpc::Rpc;
use tests::{Host, eventually, isolated};

/// A container with this network, in which something listens at a port of its loopback and answers in capitals.
fn serving(rpc: &mut Rpc, network: &str, port: u16) -> String {
    let guid = rpc.create_fs("busybox");
    rpc.call("subcontainer.launch", json!({"guid": guid, "network": {"mode": network}}));
    let command = ["nc", "-ll", "-p", &port.to_string(), "-e", "tr", "a-z", "A-Z"];
    rpc.call("subcontainer.spawn", json!({"guid": guid, "command": command}));
    eventually("it listens", || rpc.output(&guid, &["netstat", "-ltn"]).contains(&format!(":{port} ")));
    guid
}

fn connect(host: &Host, params: &Value) -> Rpc {
    let mut rpc = host.connect_raw();
    rpc.call("stream.connect", params.clone());
    rpc
}

#[test]
fn s24_a_port_is_reached_in_the_network_that_it_is_in() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        // The same port in both, and nobody outside.
        for (network, said) in [("none", "one"), ("private", "two")] {
            let guid = serving(&mut rpc, network, 4711);
            let stream = connect(&host, &json!({"guid": guid, "port": 4711}));
            stream.stream().write_all(said.as_bytes()).unwrap();
            stream.stream().shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.stream().read_to_string(&mut answer).unwrap();
            assert_eq!(answer, said.to_uppercase());
            drop(stream);
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        }
        TcpListener::bind("127.0.0.1:4711").unwrap();
    });
}

#[test]
fn s24_a_port_that_is_not_there_is_an_error_and_no_connection() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let fails = |params: Value| host.connect_raw().call_fails("stream.connect", params);
        assert_eq!(fails(json!({"guid": guid, "port": 1})).kind(), "notRunning");
        let nobody = "1b4e28ba-2fa1-41d2-883f-0016d3cca427";
        assert_eq!(fails(json!({"guid": nobody, "port": 1})).kind(), "notFound");
        assert_eq!(fails(json!({"guid": "../..", "port": 1})).kind(), "invalid");
        rpc.call("subcontainer.launch", json!({"guid": guid, "network": {"mode": "private"}}));
        let refused = fails(json!({"guid": guid, "port": 1}));
        assert_eq!((refused.kind(), &refused.data["errno"]), ("network", &json!("ECONNREFUSED")));
        assert!(refused.message.starts_with("connect to 127.0.0.1:1 in "), "{}", refused.message);
        for address in ["localhost", "127.0.0.1:80", "", "127.1", "::1%lo"] {
            assert_eq!(
                fails(json!({"guid": guid, "port": 1, "address": address})).kind(),
                "invalid",
                "{address}"
            );
        }
        assert_eq!(fails(json!({"guid": guid, "port": 1, "timeout": 60_001})).kind(), "invalid");
        // Nobody answers there: the kernel would wait for minutes.
        let start = Instant::now();
        let late = fails(json!({"guid": guid, "port": 1, "address": "203.0.113.1", "timeout": 200}));
        assert!(
            ["ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH", "ECONNREFUSED"]
                .contains(&late.data["errno"].as_str().unwrap()),
            "{late:?}"
        );
        assert!(start.elapsed() < Duration::from_secs(5));
        // The connection may ask for another one, and a bad one harms nobody.
        let mut again = host.connect_raw();
        again.call_fails("stream.connect", json!({"guid": guid, "port": 1}));
        again.call_fails("stream.connect", json!({"guid": guid, "port": 65_536}));
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

#[test]
fn s24_a_server_that_floods_or_sleeps_keeps_nothing_of_the_host() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        rpc.call("subcontainer.launch", json!({"guid": guid, "network": {"mode": "none"}}));
        for (port, program) in [(1, "cat /dev/zero"), (2, "sleep 1000")] {
            let command = ["sh", "-c", &format!("exec nc -ll -p {port} -e {program}")];
            rpc.call("subcontainer.spawn", json!({"guid": guid, "command": command}));
            eventually("it listens", || {
                rpc.output(&guid, &["netstat", "-ltn"]).contains(&format!(":{port} "))
            });
        }
        let (descriptors, memory) = (host.descriptors(), host.own_kib());
        // Those who listen take one after the other, on a busy machine not at once.
        let params = |number| json!({"guid": guid, "port": 1 + number % 2, "timeout": 30_000});
        let clients: Vec<Rpc> = (0..40).map(|number| connect(&host, &params(number))).collect();
        std::thread::sleep(Duration::from_millis(500));
        assert!(host.own_kib() < memory + 20_000, "{} KiB, {memory} before", host.own_kib());
        // Half of them have said that there is no more, and then gone; the others have just gone.
        for client in clients.iter().step_by(3) {
            client.stream().shutdown(Shutdown::Write).unwrap();
        }
        drop(clients);
        eventually("they are forgotten", || host.descriptors() <= descriptors);
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

#[test]
fn s24_what_a_command_has_started_ends_with_it_where_that_is_asked_for() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        for tree in [true, false] {
            let command = ["sh", "-c", "setsid sleep 1000 & exit 3"];
            let spawned =
                rpc.call("subcontainer.spawn", json!({"guid": guid, "command": command, "tree": tree}));
            let ended = rpc.call("subcontainer.wait", json!({"process": spawned["process"]}));
            assert_eq!(ended["outcome"], json!({"kind": "exit", "code": 3}));
            let left = rpc.output(&guid, &["ps"]).matches("sleep 1000").count();
            assert_eq!(left, usize::from(!tree), "tree: {tree}");
        }
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}
