//! What a host that starts knows of the containers of one that was killed: which run, and how the others ended.

use serde_json::{Value, json};
use tests::{Host, Rpc, eventually, isolated};

/// A detached container with this leader.
fn launched(rpc: &mut Rpc, launch: &Value) -> (String, i32) {
    let params = json!({"imageId": "busybox", "detached": true, "throwaway": true});
    let guid = rpc.call("subcontainer.createFs", params)["guid"].as_str().unwrap().to_owned();
    let mut params = launch.clone();
    params["guid"] = json!(guid);
    let pid = rpc.call("subcontainer.launch", params)["pid"].as_i64().unwrap();
    (guid, i32::try_from(pid).unwrap())
}

fn state(rpc: &mut Rpc, guid: &str) -> Value {
    rpc.call("subcontainer.inspect", json!({"guid": guid}))["state"].clone()
}

fn kill(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

fn exited(code: u8) -> Value {
    json!({"status": "exited", "outcome": {"kind": "exit", "code": code}})
}

fn destroy_all(rpc: &mut Rpc, all: &[(String, i32)]) {
    for (guid, _) in all {
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    }
}

#[test]
fn s26_how_containers_ended_while_no_host_ran_is_known() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let waits = "trap 'exit 7' USR1; while :; do sleep 0.05; done";
        let idle = launched(&mut rpc, &json!({}));
        let beneath = launched(&mut rpc, &json!({"command": ["sh", "-c", waits], "init": true}));
        let first = launched(&mut rpc, &json!({"command": ["sh", "-c", waits]}));
        let killed = launched(&mut rpc, &json!({"command": ["sleep", "1000"]}));
        let killed_init = launched(&mut rpc, &json!({}));
        let runs = launched(&mut rpc, &json!({}));
        // Its handler is there.
        std::thread::sleep(std::time::Duration::from_millis(200));
        host.kill();
        use rustix::process::Signal;
        kill(idle.1, Signal::TERM);
        kill(beneath.1, Signal::USR1);
        kill(first.1, Signal::USR1);
        kill(killed.1, Signal::KILL);
        kill(killed_init.1, Signal::KILL);
        // A command line knows it, too, before the next host does.
        let told = host.cli().run(["--json", "subcontainer", "inspect", &first.0]).ok().json();
        let kernel = linux::kernel::Features::get().pidfd_exit_info;
        let unknown = json!({"status": "exited", "outcome": {"kind": "unknown"}});
        let if_kept = |state: Value| if kernel { state } else { unknown.clone() };
        assert_eq!(told["state"], if_kept(exited(7)));
        host.start_again();
        let mut rpc = host.connect();
        let signal =
            json!({"status": "exited", "outcome": {"kind": "signal", "signal": "SIGKILL", "number": 9}});
        assert_eq!(state(&mut rpc, &idle.0), exited(143));
        assert_eq!(state(&mut rpc, &beneath.0), exited(7));
        assert_eq!(state(&mut rpc, &first.0), if_kept(exited(7)));
        assert_eq!(state(&mut rpc, &killed.0), if_kept(signal.clone()));
        assert_eq!(state(&mut rpc, &killed_init.0), if_kept(signal));
        assert_eq!(state(&mut rpc, &runs.0)["status"], "running");
        // Adopted: its end is seen, and known, though it is no child of this host's.
        kill(runs.1, Signal::TERM);
        while state(&mut rpc, &runs.0)["status"] == "running" {}
        assert_eq!(state(&mut rpc, &runs.0), exited(143));
        destroy_all(&mut rpc, &[idle, beneath, first, killed, killed_init, runs]);
    });
}

#[test]
fn s26_ends_are_known_after_several_hosts_and_an_orderly_stop() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let waits = "trap 'exit 9' USR1; while :; do sleep 0.05; done";
        let one = launched(&mut rpc, &json!({"command": ["sh", "-c", waits]}));
        let two = launched(&mut rpc, &json!({"command": ["sh", "-c", waits]}));
        std::thread::sleep(std::time::Duration::from_millis(200));
        drop(rpc);
        for _ in 0..3 {
            host.kill();
            host.start_again();
        }
        // What is launched later does not take the place of what is remembered.
        let three = launched(&mut host.connect(), &json!({"command": ["sh", "-c", waits]}));
        std::thread::sleep(std::time::Duration::from_millis(200));
        host.stop();
        for (_, pid) in [&one, &two, &three] {
            kill(*pid, rustix::process::Signal::USR1);
        }
        // One is destroyed by a command line, while no host runs.
        host.cli().run(["subcontainer", "destroy-fs", &two.0]).ok();
        host.start_again();
        let mut rpc = host.connect();
        if linux::kernel::Features::get().pidfd_exit_info {
            assert_eq!(state(&mut rpc, &one.0), exited(9));
            assert_eq!(state(&mut rpc, &three.0), exited(9));
        }
        destroy_all(&mut rpc, &[one, three]);
        drop(rpc);
        // Nobody is there who would say that it has nothing to keep any more.
        let last = launched(&mut host.connect(), &json!({}));
        host.stop();
        host.cli().run(["subcontainer", "destroy-fs", &last.0]).ok();
    });
}

#[test]
fn s26_a_container_can_lie_about_its_own_end_only() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let liar = launched(&mut rpc, &json!({}));
        let honest = launched(&mut rpc, &json!({}));
        let word = |guid: &str| std::fs::read(format!("/run/start-container/{guid}/exit")).unwrap();
        assert_eq!((word(&liar.0), word(&honest.0)), (vec![0; 4], vec![0; 4]));
        // The file is no descriptor of anybody's inside, and the way by the map is the machine's root's.
        let look = r#"
            ls /proc/1/fd /proc/self/fd | grep -v '^/' | sort -u
            map=$(grep -m1 rw-s /proc/1/maps | sed 's/ .*//')
            dd if=/proc/1/map_files/$map of=/dev/null bs=4 count=1 2>/dev/null && echo reached
            grep -c rw-s /proc/self/maps /proc/1/maps"#;
        let seen = rpc.output(&liar.0, &["sh", "-c", look]);
        assert!(!seen.contains("reached"), "{seen}");
        assert!(seen.contains("/proc/self/maps:0\n/proc/1/maps:1\n"), "{seen}");
        // But its own init's memory is within reach of its root.
        let write = r#"
            at=$(grep -m1 rw-s /proc/1/maps | sed 's/-.*//')
            printf "$0" | dd of=/proc/1/mem bs=1 seek=$((0x$at)) conv=notrunc 2>/dev/null"#;
        for (lie, outcome) in
            [("MORE", json!({"kind": "unknown"})), ("\\115dne", json!({"kind": "exit", "code": 77}))]
        {
            let result = rpc.exec(&liar.0, &["sh", "-c", write, lie]);
            assert_eq!(result["outcome"], json!({"kind": "exit", "code": 0}), "{result}");
            // No handle of it is kept: the file is all that tells.
            let path = format!("/run/start-container/{}/state.json", liar.0);
            let mut state: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            state["leader"].as_object_mut().unwrap().remove("kept");
            state["leader"]["pid"] = json!(i32::MAX);
            std::fs::write(&path, state.to_string()).unwrap();
            let told = host.cli().run(["--json", "subcontainer", "inspect", &liar.0]).ok().json();
            assert_eq!(told["state"]["outcome"], outcome);
        }
        assert_eq!(word(&honest.0), vec![0; 4]);
        destroy_all(&mut rpc, &[liar, honest]);
        drop(rpc);
        host.stop();
    });
}

#[test]
fn s26_a_host_that_has_nothing_to_do_does_nothing() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let all: Vec<_> = (0..10).map(|_| launched(&mut rpc, &json!({}))).collect();
        host.kill();
        host.start_again();
        // Also with somebody connected.
        let mut rpc = host.connect();
        rpc.call("subcontainer.list", json!({}));
        let switches = |host: &Host| -> u64 {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", host.pid())).unwrap();
            let status = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("status"));
            let lines = |text: String| -> u64 {
                let counts = text.lines().filter(|line| line.contains("ctxt_switches:"));
                counts.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
            };
            tasks.flatten().filter_map(|task| status(task).ok()).map(lines).sum()
        };
        // Threads for what blocks end ten seconds after they were needed.
        let begun = std::time::Instant::now();
        let mut last = switches(&host);
        loop {
            std::thread::sleep(std::time::Duration::from_secs(3));
            let now = switches(&host);
            if now == last {
                break;
            }
            assert!(begun.elapsed().as_secs() < 40, "woken {} times in three seconds", now - last);
            last = now;
        }
        destroy_all(&mut rpc, &all);
    });
}

#[test]
fn s26_an_adopted_leader_is_ended_and_waited_for_by_its_owner() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let waits = "trap 'exit 7' TERM; while :; do sleep 0.05; done";
        let all =
            [json!({"command": ["sh", "-c", waits], "init": true}), json!({"command": ["sh", "-c", waits]})]
                .map(|launch| launched(&mut rpc, &launch));
        // Its handler is there.
        std::thread::sleep(std::time::Duration::from_millis(200));
        host.kill();
        host.start_again();
        let mut rpc = host.connect();
        for (guid, pid) in &all {
            let mut name = Value::Null;
            eventually("it is adopted", || {
                name = state(&mut rpc, guid)["process"].clone();
                name.is_string()
            });
            let waiting = rpc.send("subcontainer.wait", json!({"process": name}));
            assert_eq!(rpc.call("subcontainer.kill", json!({"process": name}))["delivered"], true);
            let ended = rpc.answer(waiting).unwrap();
            let known = linux::kernel::Features::get().pidfd_exit_info || *pid == all[0].1;
            let exit = json!({"kind": "exit", "code": 7});
            assert_eq!(ended["outcome"], if known { exit } else { json!({"kind": "unknown"}) });
        }
        destroy_all(&mut rpc, &all);
    });
}

/// The keepers of a data directory: by their command lines, of which the last word is that.
fn keepers(host: &Host) -> Vec<i32> {
    let ours = format!("start-container-keeper\0kept\0for\0{}\0", host.data().display());
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == ours.as_bytes())
    })
    .collect()
}

#[test]
fn s26_a_keeper_that_is_killed_is_followed_by_another_that_knows_as_much() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let waits = "trap 'echo last; exit 7' USR1; while :; do sleep 0.05; done";
        let launch = json!({"command": ["sh", "-c", waits], "streams": {"stdout": "log"}});
        let before = launched(&mut rpc, &launch);
        let [first] = keepers(&host)[..] else { panic!("one keeper") };
        kill(first, rustix::process::Signal::KILL);
        // Also while there is none.
        let between = launched(&mut rpc, &launch);
        let mut second = 0;
        eventually("there is another one", || {
            second = keepers(&host).first().copied().unwrap_or(0);
            second != 0
        });
        let after = launched(&mut rpc, &launch);
        std::thread::sleep(std::time::Duration::from_millis(300));
        host.kill();
        for (_, pid) in [&before, &between, &after] {
            kill(*pid, rustix::process::Signal::USR1);
        }
        host.start_again();
        assert_eq!(keepers(&host), [second]);
        let mut rpc = host.connect();
        for (guid, _) in [&before, &between, &after] {
            if linux::kernel::Features::get().pidfd_exit_info {
                assert_eq!(state(&mut rpc, guid), exited(7));
            }
            eventually("its last words are kept", || host.cli().run(["logs", guid]).ok().out() == "last");
        }
        destroy_all(&mut rpc, &[before, between, after]);
        drop(rpc);
        host.stop();
        assert_eq!(keepers(&host), [0; 0]);
    });
}

#[test]
fn s26_a_keeper_that_is_killed_with_its_host_is_followed_by_one_that_is_told() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let waits = "trap 'echo last; exit 7' USR1; while :; do sleep 0.05; done";
        let launch = json!({"command": ["sh", "-c", waits], "streams": {"stdout": "log"}});
        let all: Vec<_> = (0..3).map(|_| launched(&mut rpc, &launch)).collect();
        host.kill();
        for keeper in keepers(&host) {
            kill(keeper, rustix::process::Signal::KILL);
        }
        host.start_again();
        let [_new] = keepers(&host)[..] else { panic!("one keeper") };
        // It has no more to adopt them by than what it was told just now.
        host.kill();
        for (_, pid) in &all {
            kill(*pid, rustix::process::Signal::USR1);
        }
        host.start_again();
        let mut rpc = host.connect();
        for (guid, _) in &all {
            if linux::kernel::Features::get().pidfd_exit_info {
                assert_eq!(state(&mut rpc, guid), exited(7));
            }
            eventually("its last words are kept", || host.cli().run(["logs", guid]).ok().out() == "last");
        }
        destroy_all(&mut rpc, &all);
        drop(rpc);
        host.stop();
        assert_eq!(keepers(&host), [0; 0]);
    });
}

#[test]
fn s26_an_init_that_came_with_a_command_makes_room_for_a_launch_after_a_restart_too() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let made = json!({"imageId": "busybox", "detached": true, "throwaway": true});
        let guid = rpc.call("subcontainer.createFs", made)["guid"].as_str().unwrap().to_owned();
        assert_eq!(rpc.output(&guid, &["echo", "first"]), "first\n");
        host.kill();
        host.start_again();
        let mut rpc = host.connect();
        assert_eq!(rpc.output(&guid, &["echo", "second"]), "second\n");
        let launch = json!({"guid": guid, "command": ["sh", "-c", "exit 3"]});
        let launched = rpc.call("subcontainer.launch", launch);
        let ended = rpc.call("subcontainer.wait", json!({"process": launched["process"]}));
        assert_eq!(ended["outcome"], json!({"kind": "exit", "code": 3}));
        // One that somebody has launched does not.
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        host.kill();
        host.start_again();
        let mut rpc = host.connect();
        assert_eq!(rpc.call_fails("subcontainer.launch", json!({"guid": guid})).kind(), "exists");
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

#[test]
fn s23_a_command_after_the_end_of_a_leader_has_what_that_had_and_no_more() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let launch = json!({
            "command": ["true"],
            "limits": {"pids": 20, "memoryBytes": 64 << 20},
            "network": {"mode": "none"},
            "privileges": {"capDrop": ["ALL"]},
            "options": {"umask": 0o077, "ulimits": {"nofile": {"soft": 77}}},
        });
        let (guid, _) = launched(&mut rpc, &launch);
        let look = "umask; ulimit -n; grep CapBnd /proc/self/status; grep -c : /proc/net/dev";
        let expected = "0077\n77\nCapBnd:\t0000000000000000\n1\n";
        for restart in [false, true] {
            eventually("it has ended", || state(&mut rpc, &guid)["status"] == "exited");
            if restart {
                host.kill();
                host.start_again();
                rpc = host.connect();
            }
            assert_eq!(rpc.output(&guid, &["sh", "-c", look]), expected, "restarted: {restart}");
            let allowed = rpc.call("subcontainer.inspect", json!({"guid": guid}))["state"]["allowed"].clone();
            assert_eq!(allowed["limits"], launch["limits"], "{allowed}");
            assert_eq!(allowed["network"], launch["network"], "{allowed}");
            let pid = state(&mut rpc, &guid)["pid"].as_i64().unwrap();
            kill(i32::try_from(pid).unwrap(), rustix::process::Signal::KILL);
        }
        // Whoever launches says anew what it is.
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        assert!(rpc.output(&guid, &["sh", "-c", look]).starts_with("0022\n1024\n"));
        // A private network stays one, without its ports: those may be somebody else's by now.
        let network = json!({"mode": "private", "publish": ["18080:80"]});
        let (first, _) = launched(&mut rpc, &json!({"command": ["true"], "network": network}));
        eventually("it has ended", || state(&mut rpc, &first)["status"] == "exited");
        assert_eq!(rpc.output(&first, &["sh", "-c", "grep -c eth0 /proc/net/dev"]), "1\n");
        let (second, _) = launched(&mut rpc, &json!({"network": network}));
        assert_eq!(rpc.output(&first, &["sh", "-c", "grep -c eth0 /proc/net/dev"]), "1\n");
        assert_eq!(state(&mut rpc, &first)["network"]["published"], json!([]));
        for guid in [first, second] {
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        }
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}
