//! The socket, and what a bad or vanishing client can do to it: nothing.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Host, Machine, eventually, isolated, machine::Processes, rpc::bytes};

#[test]
fn the_socket_is_for_root_alone() {
    isolated(|| {
        let host = Host::start();
        let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&host.socket()), 0o600);
        assert_eq!(mode(host.socket().parent().unwrap()), 0o700);
    });
}

#[test]
fn hello_comes_first_and_once_and_versions_must_agree() {
    isolated(|| {
        let host = Host::start();
        let mut rpc = host.connect_raw();
        assert_eq!(rpc.call_fails("image.list", json!({})).kind(), "outOfOrder");
        let mut rpc = host.connect_raw();
        let error = rpc.call_fails("hello", json!({"protocol": 4711, "client": "tests"}));
        assert_eq!(error.kind(), "unsupportedProtocol");
        let mut rpc = host.connect();
        let error = rpc.call_fails("hello", json!({"protocol": 1, "client": "tests"}));
        assert_eq!(error.kind(), "outOfOrder");
    });
}

#[test]
fn malformed_messages_are_answered_and_harm_nobody_else() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut good = host.connect();
        for line in [
            "nonsense",
            "{",
            "[]",
            "[1,2]",
            "null",
            "{}",
            "{\"jsonrpc\":\"2.0\"}",
            "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"image.list\",\"params\":{}}",
            "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"image.list\"}",
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}",
            "\u{1}\u{2}",
        ] {
            let mut rpc = host.connect();
            rpc.send_line(line);
            rpc.stream().set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            if let Some(answer) = rpc.receive() {
                assert!(answer["error"]["code"].as_i64().is_some_and(|code| code < 0), "{line}: {answer}");
            }
        }
        let error = good.call_fails("no.such.method", json!({}));
        assert_eq!(error.code, -32601);
        let error = good.call_fails("subcontainer.createFs", json!({"imageId": 7}));
        assert_eq!(error.code, -32602);
        let error = good.call_fails("subcontainer.createFs", json!({"imageId": "busybox", "noSuchField": 1}));
        assert_eq!(error.code, -32602);
        let error = good.call_fails("subcontainer.exec", json!({}));
        assert_eq!(error.code, -32602);
        let guid = good.create_fs("busybox");
        assert_eq!(good.output(&guid, &["echo", "unharmed"]), "unharmed\n");
        good.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

#[test]
fn an_oversized_line_ends_its_connection_and_costs_no_memory() {
    isolated(|| {
        let host = Host::start();
        let mut rpc = host.connect();
        let chunk = vec![b'x'; 1 << 20];
        let mut sent = 0_usize;
        while sent < 40 && rpc.stream().write_all(&chunk).is_ok() {
            sent += 1;
        }
        assert!(
            sent < 40 || rpc.receive().is_none_or(|answer| answer.get("error").is_some()),
            "it took {sent} MiB"
        );
        drop(rpc);
        let start = Instant::now();
        while host.own_kib() > 80 << 10 {
            assert!(start.elapsed() < Duration::from_secs(10), "{} KiB are held", host.own_kib());
            std::thread::sleep(Duration::from_millis(50));
        }
        host.connect().call("image.list", json!({}));
    });
}

#[test]
fn unknown_things_are_typed_errors() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let nobody = "00000000-0000-4000-8000-000000000000";
        for (method, params, kind) in [
            ("subcontainer.createFs", json!({"imageId": "no-such-image"}), "notFound"),
            ("subcontainer.inspect", json!({"guid": nobody}), "notFound"),
            ("subcontainer.launch", json!({"guid": nobody}), "notFound"),
            ("subcontainer.exec", json!({"guid": nobody, "command": ["true"]}), "notFound"),
            ("subcontainer.exec", json!({"guid": "../../etc", "command": ["true"]}), "invalid"),
            ("subcontainer.wait", json!({"process": "no-such-process"}), "notFound"),
            ("subcontainer.kill", json!({"process": "no-such-process"}), "notFound"),
            (
                "subcontainer.resize",
                json!({"process": "no-such", "size": {"rows": 1, "cols": 1}}),
                "notFound",
            ),
            ("image.inspect", json!({"imageId": "no-such-image"}), "notFound"),
            ("image.import", json!({"path": "/no/such/file"}), "notFound"),
            ("file.read", json!({"guid": nobody, "path": "/etc/passwd"}), "notFound"),
        ] {
            let error = rpc.call_fails(method, params.clone());
            assert_eq!(error.kind(), kind, "{method} {params}: {error:?}");
            assert!(!error.step().is_empty() && !error.message.is_empty(), "{method}: {error:?}");
        }
        let guid = rpc.create_fs("busybox");
        for (params, kind) in [
            (json!({"command": ["no-such-command"]}), "commandNotFound"),
            (json!({"command": ["/etc/passwd"]}), "commandNotExecutable"),
            (json!({"command": ["true"], "options": {"user": "nobody-here"}}), "unknownUser"),
            (json!({"command": []}), "invalid"),
        ] {
            let mut params = params;
            params["guid"] = json!(guid);
            let error = rpc.call_fails("subcontainer.exec", params.clone());
            assert_eq!(error.kind(), kind, "{params}: {error:?}");
        }
        let spawned = rpc.call("subcontainer.spawn", json!({"guid": guid, "command": ["sleep", "1000"]}));
        let error =
            rpc.call_fails("subcontainer.kill", json!({"process": spawned["process"], "signal": "NOSUCH"}));
        assert_eq!(error.kind(), "invalid");
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

#[test]
fn s18_exec_keeps_streams_apart_and_bytes_as_they_are() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let result = rpc.exec(&guid, &["sh", "-c", "printf 'out\\377'; printf err >&2; exit 3"]);
        assert_eq!(result["outcome"], json!({"kind": "exit", "code": 3}));
        assert_eq!(result["stdout"], json!({"base64": "b3V0/w=="}));
        assert_eq!(result["stderr"], json!({"text": "err"}));
        let params = json!({"guid": guid, "command": ["seq", "100000"], "maxBuffer": 10});
        let result = rpc.call("subcontainer.exec", params);
        // As text or in base64: both are right.
        assert_eq!(bytes(&result["stdout"]), b"1\n2\n3\n4\n5\n");
        assert_eq!((&result["stdoutTruncated"], &result["stderrTruncated"]), (&json!(true), &json!(false)));
        let params = json!({"guid": guid, "command": ["cat"], "input": {"text": "through"}});
        assert_eq!(rpc.call("subcontainer.exec", params)["stdout"], json!({"text": "through"}));
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

fn sleepers(rpc: &mut tests::Rpc, guid: &str) -> String {
    rpc.output(guid, &["sh", "-c", "cat /proc/[0-9]*/comm | grep -c sleep; true"])
}

#[test]
fn s20_timeouts_cancellations_and_signals_are_told_apart() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let script = "(trap '' TERM; setsid sleep 1000 &); sleep 1000";
        let params = json!({"guid": guid, "command": ["sh", "-c", script], "timeout": 200});
        let start = Instant::now();
        assert_eq!(rpc.call("subcontainer.exec", params)["outcome"], json!({"kind": "timeout"}));
        assert!(start.elapsed() < Duration::from_secs(3));
        assert_eq!(sleepers(&mut rpc, &guid), "0\n", "its whole tree is gone");

        let id = rpc.send("subcontainer.exec", json!({"guid": guid, "command": ["sh", "-c", script]}));
        std::thread::sleep(Duration::from_millis(200));
        rpc.notify("$/cancelRequest", json!({"id": id}));
        assert_eq!(rpc.answer(id).unwrap_err().code, -32800);
        assert_eq!(sleepers(&mut rpc, &guid), "0\n", "its whole tree is gone");

        let result = rpc.exec(&guid, &["sh", "-c", "kill -KILL $$"]);
        assert_eq!(result["outcome"], json!({"kind": "signal", "signal": "SIGKILL", "number": 9}));

        let script = "trap 'exit 5' TERM; sleep 1000 & wait";
        let params = json!({"guid": guid, "command": ["sh", "-c", script], "timeout": 200, "grace": 5000});
        let start = Instant::now();
        assert_eq!(rpc.call("subcontainer.exec", params)["outcome"], json!({"kind": "timeout"}));
        assert!(start.elapsed() < Duration::from_secs(4), "the grace period ends with the command");
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

/// Groups of commands that end are used again; what a command has left running is nobody's else.
#[test]
fn s20_what_a_command_leaves_running_does_not_end_with_another_one() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        rpc.exec(&guid, &["true"]);
        let left = "setsid sleep 1000 >/dev/null 2>&1 </dev/null &";
        assert_eq!(rpc.exec(&guid, &["sh", "-c", left])["outcome"], json!({"kind": "exit", "code": 0}));
        for _ in 0..3 {
            let params = json!({"guid": guid, "command": ["sleep", "1000"], "timeout": 50});
            assert_eq!(rpc.call("subcontainer.exec", params)["outcome"], json!({"kind": "timeout"}));
            assert_eq!(sleepers(&mut rpc, &guid), "1\n");
        }
        // Many at once, and then none: a few groups stay, and are empty.
        let many: Vec<_> = (0..20)
            .map(|_| rpc.send("subcontainer.exec", json!({"guid": guid, "command": ["true"]})))
            .collect();
        for id in many {
            assert_eq!(rpc.answer(id).unwrap()["outcome"], json!({"kind": "exit", "code": 0}));
        }
        let base =
            ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|root| format!("{root}/start-container/{guid}"));
        let base = base.iter().find(|base| fs::exists(base).unwrap()).unwrap();
        let groups =
            fs::read_dir(base).unwrap().flatten().filter(|entry| entry.file_type().unwrap().is_dir());
        let empty =
            groups.filter(|group| fs::read_to_string(group.path().join("cgroup.procs")).unwrap().is_empty());
        assert!((1..=4).contains(&empty.count()));
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        assert!(!fs::exists(base).unwrap());
    });
}

#[test]
fn streams_of_a_spawned_process_pass_on_connections_of_their_own() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let streams = json!({"stdin": "pipe", "stdout": "pipe", "stderr": "pipe"});
        let params = json!({"guid": guid, "command": ["sh", "-c", "cat; echo done >&2"], "streams": streams});
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        let process = rpc.call("subcontainer.spawn", params)["process"].clone();
        let attach = |stream: &str| {
            let mut line = String::new();
            let connection = std::os::unix::net::UnixStream::connect(host.socket()).unwrap();
            let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "stream.attach", "params": {"process": process, "stream": stream}});
            writeln!(&connection, "{hello}").unwrap();
            // One byte at a time: what follows the line is not ours to swallow.
            let mut byte = [0];
            while byte != *b"\n" {
                std::io::Read::read_exact(&mut &connection, &mut byte).unwrap();
                line.push(byte[0] as char);
            }
            let answer: Value = serde_json::from_str(&line).unwrap();
            assert!(answer.get("error").is_none(), "{answer}");
            connection
        };
        let (stdin, stdout, stderr) = (attach("stdin"), attach("stdout"), attach("stderr"));
        let bytes: Vec<u8> =
            (0..10_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let sent = bytes.clone();
        let writer = std::thread::spawn(move || {
            (&stdin).write_all(&sent).unwrap();
            stdin.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let read = |mut stream: std::os::unix::net::UnixStream| {
            let mut all = Vec::new();
            std::io::Read::read_to_end(&mut stream, &mut all).unwrap();
            all
        };
        assert!(read(stdout) == bytes, "10 MB came back changed");
        assert_eq!(read(stderr), b"done\n");
        writer.join().unwrap();
        assert_eq!(
            rpc.call("subcontainer.wait", json!({"process": process}))["outcome"],
            json!({"kind": "exit", "code": 0})
        );
        let error = rpc.call_fails("subcontainer.wait", json!({"process": process}));
        assert_eq!(error.kind(), "notFound", "it is forgotten once it has been waited for");
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

#[test]
fn a_client_that_vanishes_in_the_middle_of_each_call_leaves_nothing() {
    isolated(|| {
        let host = Host::after_one_life();
        let archive = tests::image::busybox();
        let calls = [
            ("image.import", json!({"path": archive, "name": "again"})),
            ("subcontainer.createFs", json!({"imageId": "busybox", "throwaway": true})),
            ("subcontainer.launch", json!({})),
            ("subcontainer.exec", json!({"command": ["sleep", "1000"]})),
            ("subcontainer.exec", json!({"command": ["sh", "-c", "setsid sleep 1000 & sleep 1000"]})),
            ("subcontainer.spawn", json!({"command": ["sleep", "1000"], "streams": {"stdout": "pipe"}})),
            ("subcontainer.mount", json!({"mount": {"source": {"type": "tmpfs"}, "mountpoint": "/data"}})),
            ("file.write", json!({"path": "/file", "data": {"text": "x".repeat(1 << 20)}})),
            ("subcontainer.destroyFs", json!({})),
        ];
        let before = Machine::look(Processes::All, &[]).unwrap();
        let descriptors = host.descriptors();
        for (method, params) in &calls {
            for delay in [0, 1, 5, 50] {
                let mut rpc = host.connect();
                let mut params = params.clone();
                if !method.starts_with("image.") && *method != "subcontainer.createFs" {
                    let guid = rpc.create_fs("busybox");
                    if *method == "subcontainer.spawn" {
                        rpc.call("subcontainer.launch", json!({"guid": guid}));
                    }
                    params["guid"] = json!(guid);
                }
                rpc.send(method, params);
                std::thread::sleep(Duration::from_millis(delay));
            }
            let left = before.left_after(&[], Duration::from_secs(10)).unwrap();
            assert!(left.is_empty(), "{method}: {left:?}");
        }
        let mut rpc = host.connect();
        assert_eq!(rpc.call("subcontainer.list", json!({}))["subcontainers"], json!([]));
        drop(rpc);
        let start = Instant::now();
        while host.descriptors() > descriptors {
            assert!(
                // What ends a group has up to ten seconds for it.
                start.elapsed() < Duration::from_secs(15),
                "{} descriptors, {descriptors} before: {:?}",
                host.descriptors(),
                fs::read_dir(format!("/proc/{}/fd", host.pid()))
                    .unwrap()
                    .map(|entry| fs::read_link(entry.unwrap().path()).unwrap_or_default())
                    .collect::<Vec<_>>()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

#[test]
fn what_is_launched_while_it_is_destroyed_is_forgotten() {
    isolated(|| {
        let host = Host::after_one_life();
        let descriptors = host.descriptors();
        std::thread::scope(|scope| {
            for worker in 0..6 {
                let host = &host;
                scope.spawn(move || {
                    let mut rpc = host.connect();
                    for round in 0..50 {
                        let guid = rpc.create_fs("busybox");
                        let method =
                            if round % 2 == 0 { "subcontainer.launch" } else { "subcontainer.spawn" };
                        let command = if round % 2 == 0 { json!(null) } else { json!(["sleep", "1000"]) };
                        rpc.send(method, json!({"guid": guid, "command": command}));
                        std::thread::sleep(Duration::from_micros(400 * (worker + round % 10)));
                        let destroyed = rpc.send("subcontainer.destroyFs", json!({"guid": guid}));
                        rpc.answer(destroyed).unwrap();
                    }
                });
            }
        });
        eventually("nothing of them is known", || host.descriptors() <= descriptors);
    });
}

#[test]
fn what_a_connection_made_ends_with_it_unless_detached() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let _ended = rpc.create_fs("busybox");
        let params = json!({"imageId": "busybox", "throwaway": true, "detached": true});
        let kept = rpc.call("subcontainer.createFs", params)["guid"].clone();
        rpc.call("subcontainer.launch", json!({"guid": kept}));
        drop(rpc);
        let mut rpc = host.connect();
        let start = Instant::now();
        loop {
            let list = rpc.call("subcontainer.list", json!({}))["subcontainers"].clone();
            if list.as_array().unwrap().len() == 1 {
                assert_eq!(list[0]["guid"], kept);
                assert_eq!(list[0]["state"]["status"], "running");
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(5), "{list}");
        }
        rpc.call("subcontainer.attach", json!({"guid": kept}));
        rpc.call("subcontainer.destroyFs", json!({"guid": kept}));
        rpc.call("subcontainer.destroyFs", json!({"guid": kept}));
    });
}

#[test]
fn s28_events_tell_what_happened() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut watcher = host.connect();
        watcher.call("events.subscribe", json!({}));
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let params = json!({"guid": guid, "mount": {"source": {"type": "tmpfs"}, "mountpoint": "/t"}});
        rpc.call("subcontainer.mount", params);
        rpc.call("subcontainer.launch", json!({"guid": guid, "command": ["sh", "-c", "exit 3"]}));
        std::thread::sleep(Duration::from_millis(200));
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        let mut seen = Vec::new();
        while seen.last() != Some(&"destroyed".to_owned()) {
            let message = watcher.receive().expect("an event");
            assert_eq!(message["method"], "event", "{message}");
            assert_eq!(message["params"]["guid"], guid.as_str());
            if message["params"]["event"] == "exited" {
                assert_eq!(message["params"]["outcome"], json!({"kind": "exit", "code": 3}));
            }
            seen.push(message["params"]["event"].as_str().unwrap().to_owned());
        }
        assert_eq!(seen, ["created", "mounted", "launched", "exited", "destroyed"]);
    });
}
