//! What a container may use of the machine, and what is said when it wants more. (row S23)

use serde_json::json;
use tests::{Cli, Host, isolated};

/// Holds more memory than it may: a string that doubles.
const BOMB: [&str; 3] = ["sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done"];

#[test]
fn s23_memory_beyond_the_limit_ends_the_command_and_is_said_to_be_that() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let limits = json!({"memoryBytes": 16 << 20, "swapBytes": 0});
        rpc.call("subcontainer.launch", json!({"guid": guid, "limits": limits}));
        assert_eq!(rpc.exec(&guid, &BOMB)["outcome"], json!({"kind": "outOfMemory"}));
        assert_eq!(rpc.output(&guid, &["echo", "still here"]), "still here\n");
        // Killed by somebody else, it is not said to be that.
        let killed = rpc.exec(&guid, &["sh", "-c", "kill -9 $$"]);
        assert_eq!(killed["outcome"], json!({"kind": "signal", "signal": "SIGKILL", "number": 9}));
        // The leader, too.
        let other = rpc.create_fs("busybox");
        let launched =
            rpc.call("subcontainer.launch", json!({"guid": other, "command": BOMB, "limits": limits}));
        let waited = rpc.call("subcontainer.wait", json!({"process": launched["process"]}));
        assert_eq!(waited["outcome"], json!({"kind": "outOfMemory"}), "{waited}");
        for guid in [guid, other] {
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        }
    });
}

#[test]
fn s23_groups_that_somebody_inside_has_made_go_with_the_container() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let make = "mkdir /groups; mount -t cgroup -o pids pids /groups && mkdir -p /groups/own/beneath";
        let launch = json!({
            "guid": guid,
            "limits": {"pids": 16},
            "privileges": {"capAdd": ["SYS_ADMIN"]},
        });
        rpc.call("subcontainer.launch", launch);
        let made = rpc.exec(&guid, &["sh", "-c", make])["outcome"].clone();
        let v1 = std::path::Path::new("/sys/fs/cgroup/pids/start-container").join(&guid);
        if made == json!({"kind": "exit", "code": 0}) {
            assert!(v1.join("own/beneath").is_dir());
        } else {
            assert!(!v1.exists(), "only where the controller is not bound to v1: {made}");
        }
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        assert!(!v1.exists());
    });
}

#[test]
fn s23_limits_of_the_command_line_hold_for_later_commands_and_are_shown() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let flags = ["--memory", "16m", "--swap", "0", "--pids-limit", "8", "--cpus", "0.5"];
        let running = cli.launch(&rootfs, &flags, &["sleep", "1000"]);
        assert_eq!(cli.exec(&rootfs, &[], &BOMB).code, 137);
        let forks = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done";
        assert!(cli.exec(&rootfs, &[], &["sh", "-c", forks]).err().contains("fork"), "a ninth process");
        let said = cli.run(["subcontainer", "inspect", &rootfs.path]).ok().out();
        for words in ["memoryBytes 16777216 (cgroup v", "pids 8 (cgroup v", "cpus 0.5 (cgroup v"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let groups = cli.exec(&rootfs, &[], &["cat", "/proc/self/cgroup"]).ok().out();
        assert!(!groups.contains("start-container"), "it sees nothing above its own groups: {groups}");
        drop(running);
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s23_a_limit_that_cannot_be_is_refused_before_anything_is_made() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        for (flags, words) in [
            (&["--memory", "1m"][..], "memoryBytes: 1048576 is less than 6 MiB"),
            (&["--cpus", "1000"], "cpus: 1000 is not from 0.01"),
            (&["--pids-limit", "0"], "pids: 0 is not"),
            (&["--cpuset-cpus", "4000"], "cpusetCpus"),
            (&["--memory", "five"], "invalid value"),
            (&["--limits", "/no/such/file"], "read limits /no/such/file"),
        ] {
            let launch = [&["subcontainer", "launch"], flags, &[&rootfs.path, "true"]].concat();
            let said = cli.run(launch).failed(125);
            assert!(said.contains(words), "{words}: {said}");
            assert_eq!(cli.state(&rootfs), "created");
        }
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s23_limits_go_with_their_container_whoever_ends_it() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let cli = Cli::at(&tests::cli::binary(), host.data());
        // By its own end, by the kill of the command line, and left behind by a host that was killed.
        let rootfs = cli.create_fs("busybox");
        let flags = ["--memory", "32m"];
        drop(cli.launch(&rootfs, &flags, &["sleep", "1000"]));
        let mut again = cli.launch(&rootfs, &flags, &["sleep", "1000"]);
        again.child.kill().unwrap();
        again.child.wait().unwrap();
        cli.run(["subcontainer", "launch", &rootfs.path, "true"]).ok();
        cli.destroy_fs(&rootfs);
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        rpc.call("subcontainer.launch", json!({"guid": guid, "limits": {"memoryBytes": 32 << 20}}));
        host.kill();
        host.start_again();
        tests::eventually("it is destroyed", || {
            host.connect().call("subcontainer.list", json!({}))["subcontainers"] == json!([])
        });
    });
}

/// Waits until it has taken this many bytes of memory, in the background, and stays.
const HOLD: [&str; 3] =
    ["sh", "-c", "x=$(head -c 12000000 /dev/zero | tr '\\0' x); echo held > /held; sleep 1000; echo $x"];

#[test]
fn s23_limits_change_while_it_runs_and_hold_for_what_runs_already() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let cli = Cli::at(&tests::cli::binary(), host.data());
        let guid = rpc.create_fs("busybox");
        let limits = json!({"memoryBytes": 64 << 20, "swapBytes": 0, "pids": 50});
        rpc.call("subcontainer.launch", json!({"guid": guid, "limits": limits}));
        rpc.call("subcontainer.spawn", json!({"guid": guid, "command": HOLD}));
        tests::eventually("it holds memory", || {
            rpc.exec(&guid, &["test", "-f", "/held"])["outcome"]["code"] == 0
        });
        // Through the socket, and seen by the command line.
        let update = json!({"guid": guid, "limits": {"memoryBytes": 32 << 20, "swapBytes": 0, "cpus": 0.5}});
        let now = rpc.call("subcontainer.update", update)["limits"].clone();
        assert_eq!(now, json!({"memoryBytes": 32 << 20, "swapBytes": 0, "cpus": 0.5, "pids": 50}));
        let said = cli.run(["subcontainer", "inspect", &guid]).ok().out();
        assert!(said.contains("memoryBytes 33554432") && said.contains("cpus 0.5"), "{said}");
        let first = json!({"oomScoreAdj": 1000});
        let bomb = rpc.call("subcontainer.exec", json!({"guid": guid, "command": BOMB, "options": first}));
        assert_eq!(bomb["outcome"], json!({"kind": "outOfMemory"}));
        let stats = rpc.call("subcontainer.stats", json!({"guid": guid}));
        assert!(
            stats["memory"]["anonymousBytes"].as_u64().unwrap() > 11_000_000,
            "the other still has its: {stats}"
        );
        assert_eq!(stats["memory"]["limitBytes"], 32 << 20, "{stats}");
        assert!(stats["memory"]["peakBytes"].as_u64().unwrap() <= 32 << 20, "{stats}");
        // Less than is in use is refused, and nothing has changed.
        let refused = rpc.call_fails(
            "subcontainer.update",
            json!({"guid": guid, "limits": {"memoryBytes": 8 << 20, "swapBytes": 0, "pids": 3}}),
        );
        assert_eq!(refused.kind(), "busy", "{refused:?}");
        let allowed = rpc.call("subcontainer.inspect", json!({"guid": guid}))["state"]["allowed"].clone();
        assert_eq!(
            (&allowed["limits"]["memoryBytes"], &allowed["limits"]["pids"]),
            (&json!(32 << 20), &json!(50))
        );
        let stats = rpc.call("subcontainer.stats", json!({"guid": guid}));
        assert_eq!(
            (&stats["memory"]["limitBytes"], &stats["pids"]["limit"]),
            (&json!(32 << 20), &json!(50)),
            "{stats}"
        );
        // By the command line, and it holds for what the host starts.
        let said = cli.run(["subcontainer", "update", &guid, "--pids-limit", "6"]).ok().out();
        assert!(said.contains("pids 6 (cgroup v") && said.contains("cpus 0.5"), "{said}");
        let forks = "for i in 1 2 3 4 5 6 7; do sleep 1 & done";
        assert_ne!(rpc.exec(&guid, &["sh", "-c", forks])["outcome"], json!({"kind": "exit", "code": 0}));
        let said = cli.run(["subcontainer", "update", &guid, "--pids-limit", "-1"]).ok().out();
        assert!(!said.contains("pids"), "{said}");
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

#[test]
fn s23_limits_come_to_a_container_that_had_none_and_to_all_in_it() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let cli = Cli::at(&tests::cli::binary(), host.data());
        let guid = rpc.create_fs("busybox");
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        rpc.call("subcontainer.spawn", json!({"guid": guid, "command": ["sleep", "1000"]}));
        // Left behind by a command that has ended.
        rpc.output(&guid, &["sh", "-c", "sleep 1000 </dev/null >/dev/null 2>&1 &"]);
        // The host has seen the container without groups; the command line makes them.
        cli.run(["subcontainer", "update", &guid, "--pids-limit", "10", "--cpus", "0.05"]).ok();
        let stats = rpc.call("subcontainer.stats", json!({"guid": guid}));
        assert_eq!(stats["pids"], json!({"current": 3, "limit": 10, "refused": 0}), "{stats}");
        let forks = ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done"];
        assert_ne!(
            rpc.exec(&guid, &forks)["outcome"],
            json!({"kind": "exit", "code": 0}),
            "the host's commands are limited"
        );
        let busy = ["sh", "-c", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done"];
        assert_eq!(rpc.exec(&guid, &busy)["outcome"], json!({"kind": "exit", "code": 0}));
        let stats = rpc.call("subcontainer.stats", json!({"guid": guid}));
        assert!(stats["cpu"]["throttledPeriods"].as_u64().unwrap() > 0, "{stats}");
        // Memory that is in use already would not count.
        let refused =
            rpc.call_fails("subcontainer.update", json!({"guid": guid, "limits": {"memoryBytes": 64 << 20}}));
        assert_eq!(refused.kind(), "invalid");
        assert!(refused.message.contains("launched without any limit"), "{refused:?}");
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

#[test]
fn s23_commands_that_start_while_limits_come_are_limited() {
    isolated(|| {
        let host = Host::with_busybox();
        let cli = Cli::at(&tests::cli::binary(), host.data());
        for round in 0..20 {
            let mut rpc = host.connect();
            let guid = rpc.create_fs("busybox");
            rpc.call("subcontainer.launch", json!({"guid": guid}));
            std::thread::scope(|scope| {
                let spawn = |_| {
                    let (guid, host) = (&guid, &host);
                    scope.spawn(move || {
                        let mut rpc = host.connect();
                        let process = |_| {
                            let params = json!({"guid": guid, "command": ["sleep", "1000"]});
                            rpc.call("subcontainer.spawn", params)["pid"].as_u64().unwrap()
                        };
                        // They end with their connection.
                        let pids: Vec<u64> = (0..8).map(process).collect();
                        (rpc, pids)
                    })
                };
                let spawners: Vec<_> = (0..6).map(spawn).collect();
                std::thread::sleep(std::time::Duration::from_millis(3 + round));
                cli.run(["subcontainer", "update", &guid, "--pids-limit", "100"]).ok();
                let spawned: Vec<_> = spawners.into_iter().map(|spawner| spawner.join().unwrap()).collect();
                let stats = rpc.call("subcontainer.stats", json!({"guid": guid}));
                assert_eq!(
                    (&stats["processes"], &stats["pids"]["current"]),
                    (&json!(49), &json!(49)),
                    "{stats}"
                );
                drop(spawned);
            });
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        }
    });
}

#[test]
fn s23_a_change_that_cannot_be_is_refused_and_changes_nothing() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let update = |flags: &[&str]| cli.run([&["subcontainer", "update", &rootfs.path], flags].concat());
        assert!(update(&["--pids-limit", "5"]).failed(125).contains("it is not running"));
        let running =
            cli.launch(&rootfs, &["--memory", "32m", "--memory-reservation", "16m"], &["sleep", "1000"]);
        for (flags, words) in [
            (&[][..], "none was named"),
            (&["--memory", "1m"], "memoryBytes: 1048576 is less than 6 MiB"),
            (&["--memory", "8m"], "memoryReservationBytes: 16777216 is not from 0 to 8388608"),
            (&["--cpus", "0"], "cpus: 0 is not from 0.01"),
            (&["--device-read-bps", "/dev/null:1m"], "/dev/null"),
            (&["--device-read-iops", "/dev/null"], "must be NAME:VALUE"),
            (&["--hugetlb", "3MB:1m"], "hugetlb"),
        ] {
            let said = update(flags).failed(125);
            assert!(said.contains(words), "{words}: {said}");
        }
        let said = cli.run(["subcontainer", "inspect", &rootfs.path]).ok().out();
        assert!(said.contains("memoryBytes 33554432 (cgroup v"), "{said}");
        drop(running);
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s23_rates_of_disks_and_shares_are_flags() {
    isolated(|| {
        let Some(disk) = disk() else { tests::skip!("the root is on no block device") };
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let (bps, iops) = (format!("{disk}:20m"), format!("{disk}:500"));
        let flags = [
            "--device-read-bps",
            &bps,
            "--device-write-iops",
            &iops,
            "--cpu-weight",
            "50",
            "--cpuset-mems",
            "0",
        ];
        let running = cli.launch(&rootfs, &flags, &["sleep", "1000"]);
        let limits = || {
            let info = cli.run(["--json", "subcontainer", "inspect", &rootfs.path]).ok().json();
            info["state"]["allowed"]["limits"].clone()
        };
        let io = json!([{"device": disk, "readBps": 20 << 20, "writeIops": 500}]);
        assert_eq!(limits(), json!({"cpuWeight": 50, "cpusetMems": "0", "io": io}));
        cli.run(["subcontainer", "update", &rootfs.path, "--device-read-bps", &format!("{disk}:-1")]).ok();
        assert_eq!(limits()["io"], json!([{"device": disk, "writeIops": 500}]));
        drop(running);
        cli.destroy_fs(&rootfs);
    });
}

/// The whole disk that the root is on, by number.
fn disk() -> Option<String> {
    let device = rustix::fs::stat("/").unwrap().st_dev;
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mut path = std::fs::canonicalize(format!("/sys/dev/block/{number}")).ok()?;
    if path.join("partition").exists() {
        path.pop();
    }
    Some(std::fs::read_to_string(path.join("dev")).ok()?.trim().to_owned())
}
