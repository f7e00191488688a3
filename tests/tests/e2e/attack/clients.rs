//! What a client of the host does to it, and to others.

use std::fs::{self};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use serde_json::json;
use tests::cli::binary;
use tests::{Cli, Host, Rpc, eventually, isolated};

use super::{create, destroy, names, outside, run_dir};

#[test]
fn s9_a_request_ends_with_its_client_whatever_its_id() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = create(&mut rpc, true);
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        let mut client = host.connect();
        for id in [json!("abc"), json!(""), json!(77), json!(77), json!(u64::MAX)] {
            let params = json!({"guid": guid, "command": ["sleep", "1000"]});
            let request =
                json!({"jsonrpc": "2.0", "id": id, "method": "subcontainer.exec", "params": params});
            client.send_line(&request.to_string());
        }
        let count = ["sh", "-c", "cat /proc/[0-9]*/comm | grep -c sleep; true"];
        eventually("all run", || rpc.output(&guid, &count) == "5\n");
        drop(client);
        eventually("all have ended", || rpc.output(&guid, &count) == "0\n");
        destroy(&mut rpc, &guid);
    });
}

#[test]
fn s20_a_thousand_requests_under_way_do_not_keep_a_kill_or_a_cancellation_out() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let sleep = json!({"guid": guid, "command": ["sleep", "1000"]});
        let process = rpc.call("subcontainer.spawn", sleep)["process"].clone();
        let waits: Vec<u64> =
            (0..1030).map(|_| rpc.send("subcontainer.wait", json!({"process": process}))).collect();
        for id in &waits[1024..] {
            assert_eq!(rpc.answer(*id).unwrap_err().kind(), "exhausted");
        }
        rpc.notify("$/cancelRequest", json!({"id": waits[0]}));
        assert_eq!(rpc.answer(waits[0]).unwrap_err().code, -32800);
        // The place of the cancelled one, so that all are taken again.
        let again = rpc.send("subcontainer.wait", json!({"process": process}));
        let killed = rpc.call("subcontainer.kill", json!({"process": process, "signal": "SIGKILL"}));
        assert_eq!(killed["delivered"], true);
        let mut forgotten = 0;
        for id in waits[1..1024].iter().chain([&again]) {
            match rpc.answer(*id) {
                Ok(result) => assert_eq!(result["outcome"]["signal"], "SIGKILL"),
                Err(error) => {
                    assert!(["exhausted", "notFound"].contains(&error.kind()), "{error:?}");
                    forgotten += 1;
                }
            }
        }
        assert!(forgotten <= 1, "{forgotten} were forgotten");
        destroy(&mut rpc, &guid);
    });
}

#[test]
fn s18_processes_that_were_waited_for_and_leaders_that_ended_hold_no_descriptors() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let all = json!({"stdin": "pipe", "stdout": "pipe", "stderr": "pipe"});
        let round = |rpc: &mut Rpc| {
            for _ in 0..20 {
                let params = json!({"guid": guid, "command": ["true"], "streams": all});
                let process = rpc.call("subcontainer.spawn", params)["process"].clone();
                rpc.call("subcontainer.wait", json!({"process": process}));
            }
            for _ in 0..4 {
                rpc.exec(&guid, &["kill", "-TERM", "1"]);
                eventually("it has ended", || {
                    let info = rpc.call("subcontainer.inspect", json!({"guid": guid}));
                    info["state"]["status"] == "exited"
                });
                // It is on its way out: a moment later a new one is launched.
                eventually("a new one is launched", || {
                    let params = json!({"guid": guid, "command": ["true"]});
                    match rpc.try_call("subcontainer.exec", params) {
                        Ok(_) => true,
                        Err(error) if error.kind() == "notRunning" => false,
                        Err(error) => panic!("{error:?}"),
                    }
                });
            }
        };
        round(&mut rpc);
        let before = host.descriptors();
        round(&mut rpc);
        eventually("no more descriptors than before", || host.descriptors() <= before);
        destroy(&mut rpc, &guid);
    });
}

#[test]
fn s20_names_of_nothing_cost_the_host_nothing() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let mut ask = |count: u32| {
            for number in 0..count {
                let long = format!("{}{number}", "x".repeat(1_000_000));
                let none = format!("00000000-0000-4000-8000-{number:012}");
                for guid in [long, none] {
                    let params = json!({"guid": guid, "command": ["true"]});
                    let error = rpc.call_fails("subcontainer.exec", params);
                    assert!(["invalid", "notFound"].contains(&error.kind()), "{}", error.kind());
                }
            }
        };
        ask(8);
        let before = host.own_kib();
        ask(40);
        assert!(host.own_kib() < before + (10 << 10), "{before} KiB grew to {}", host.own_kib());
        assert_eq!(names(Path::new("/run/start-container")), [""; 0]);
    });
}

#[test]
fn s28_the_list_goes_on_while_others_create_and_destroy() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let kept = rpc.create_fs("busybox");
        let stop = AtomicBool::new(false);
        let lists = std::thread::scope(|scope| {
            for _ in 0..3 {
                let mut rpc = host.connect();
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let guid = rpc.create_fs("busybox");
                        destroy(&mut rpc, &guid);
                    }
                });
            }
            let (start, mut lists) = (Instant::now(), 0);
            let mut failure = None;
            while failure.is_none() && start.elapsed() < Duration::from_millis(1500) {
                match rpc.try_call("subcontainer.list", json!({})) {
                    Ok(result) if result.to_string().contains(&kept) => lists += 1,
                    Ok(result) => failure = Some(result.to_string()),
                    Err(error) => failure = Some(format!("{error:?}")),
                }
            }
            stop.store(true, Ordering::Relaxed);
            assert_eq!(failure, None);
            lists
        });
        assert!(lists > 0);
        destroy(&mut rpc, &kept);
    });
}

#[test]
fn s12_whatever_races_with_destroy_leaves_nothing_and_says_what_is() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpcs: Vec<Rpc> = (0..3).map(|_| host.connect()).collect();
        for round in 0..25 {
            let guid = create(&mut rpcs[0], true);
            if round % 2 == 1 {
                rpcs[0].exec(&guid, &["true"]);
            }
            let mount = json!({"mountpoint": "/m", "source": {"type": "tmpfs"}});
            let exec = json!({"guid": guid, "command": ["true"]});
            let calls = [
                ("subcontainer.exec", exec.clone()),
                ("subcontainer.mount", json!({"guid": guid, "mount": mount})),
                ("subcontainer.launch", json!({"guid": guid})),
                ("subcontainer.destroyFs", json!({"guid": guid})),
                ("subcontainer.exec", exec.clone()),
                ("subcontainer.detach", json!({"guid": guid})),
                ("subcontainer.exec", exec),
            ];
            let mut sent = Vec::new();
            for (number, (method, params)) in calls.into_iter().enumerate() {
                if method == "subcontainer.destroyFs" {
                    std::thread::sleep(Duration::from_micros(round * 150));
                }
                let rpc = number % 3;
                sent.push((method, rpc, rpcs[rpc].send(method, params)));
            }
            for (method, rpc, id) in sent {
                let answer = rpcs[rpc].answer(id);
                if method == "subcontainer.destroyFs" {
                    assert!(answer.is_ok(), "{answer:?}");
                } else if let Err(error) = answer {
                    let expected = ["notFound", "notRunning", "exists", "busy"];
                    assert!(expected.contains(&error.kind()), "{method}: {error:?}");
                }
            }
            destroy(&mut rpcs[1], &guid);
            assert!(!run_dir(&guid).exists(), "round {round}");
        }
        let mut left = names(&host.data().join("rootfs"));
        left.retain(|name| name != "lock");
        assert_eq!(left, [""; 0]);
    });
}

/// Makes directories in one another, below `top`.
fn deep(top: &Path, depth: usize) {
    fs::create_dir(top).unwrap();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = rustix::fs::open(top, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&dir, "a", Mode::from(0o755)).unwrap();
        dir = rustix::fs::openat(&dir, "a", flags, Mode::empty()).unwrap();
    }
}

#[test]
fn s17_a_very_deep_tree_is_removed_like_any_other() {
    isolated(|| {
        // In memory: a disk takes seconds to make them.
        fs::create_dir("/tmp/data").unwrap();
        outside(&["mount", "-t", "tmpfs", "tmpfs", "/tmp/data"]);
        let host = Host::on(Cli::at(&binary(), Path::new("/tmp/data")));
        host.cli().import(&tests::image::busybox(), "busybox");
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let volume = host.data().join("volumes/main");
        fs::create_dir_all(&volume).unwrap();
        deep(&volume.join("deep"), 15_000);
        deep(&host.data().join("rootfs").join(&guid).join("upper/deep"), 15_000);
        let mount = json!({"source": {"type": "volume", "volumeId": "main"}, "mountpoint": "/data"});
        rpc.call("subcontainer.mount", json!({"guid": guid, "mount": mount}));
        rpc.call("file.remove", json!({"guid": guid, "path": "/data/deep", "recursive": true}));
        assert!(!volume.join("deep").exists());
        destroy(&mut rpc, &guid);
        rpc.call("image.list", json!({}));
        drop((rpc, host));
        outside(&["umount", "/tmp/data"]);
        fs::remove_dir("/tmp/data").unwrap();
    });
}
