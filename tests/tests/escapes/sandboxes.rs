//! From one sandbox to another; from those in one to its init, to each other, to those on their way in; beyond its end.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::rpc::bytes;
use tests::{Rpc, attacks, eventually, isolated};

use super::rig::{Arena, MARKER, Said};

/// A sandbox over busybox with the attacks in it, of this connection.
fn sandbox(arena: &Arena, rpc: &mut Rpc, settings: &Value) -> String {
    let params = json!({"imageId": "busybox", "throwaway": true, "settings": settings});
    let guid = rpc.call("sandbox.create", params)["guid"].as_str().unwrap().to_owned();
    fs::copy(attacks::program(), arena.path(&guid).join("attacks")).unwrap();
    guid
}

/// A subcontainer in it, which runs, with the attacks.
fn member(arena: &Arena, rpc: &mut Rpc, sandbox: &str) -> String {
    let params = json!({"imageId": "busybox", "throwaway": true, "sandbox": sandbox});
    let guid = rpc.call("subcontainer.createFs", params)["guid"].as_str().unwrap().to_owned();
    fs::copy(attacks::program(), arena.path(&guid).join("attacks")).unwrap();
    rpc.call("subcontainer.launch", json!({"guid": guid, "sharedRun": true}));
    guid
}

fn said(rpc: &mut Rpc, guid: &str, command: &[&str]) -> Said {
    let result = rpc.exec(guid, command);
    let text = |name: &str| String::from_utf8_lossy(&bytes(&result[name])).into_owned();
    Said::read(format!("{command:?}"), &text("stdout"), &text("stderr"))
}

/// A process in there that waits to be found.
fn victim(rpc: &mut Rpc, guid: &str) -> u64 {
    let spawned = rpc.call("subcontainer.spawn", json!({"guid": guid, "command": ["/attacks", "victim"]}));
    spawned["pid"].as_u64().unwrap()
}

/// Neither dead nor stopped.
fn lives(pid: u64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") S "))
}

fn init(rpc: &mut Rpc, sandbox: &str) -> u64 {
    rpc.call("sandbox.inspect", json!({"guid": sandbox}))["state"]["pid"].as_u64().unwrap()
}

#[test]
fn s13_nothing_of_a_sandbox_is_reached_from_another() {
    isolated(|| {
        let arena = Arena::new();
        let mut rpc = arena.host.connect();
        let (theirs, ours) = (sandbox(&arena, &mut rpc, &json!({})), sandbox(&arena, &mut rpc, &json!({})));
        let inside = member(&arena, &mut rpc, &theirs);
        let source = json!({"type": "volume", "volumeId": "main"});
        rpc.call(
            "subcontainer.mount",
            json!({"guid": inside, "mount": {"source": source, "mountpoint": "/data"}}),
        );
        let make = "echo x | tee /dev/shm/it /run/it /data/it >/index.html; >/dev/mqueue/it; \
            /attacks memory-of make 77; httpd -p 8080 -h /";
        rpc.output(&inside, &["sh", "-c", make]);
        let listener = json!({"guid": inside, "command": ["/attacks", "listen-abstract", "it"]});
        rpc.call("subcontainer.spawn", listener);
        let fetch = "timeout 2 wget -qO- http://127.0.0.1:8080/ >/dev/null && echo worked: loopback || echo refused: loopback";
        let look = "for f in /dev/shm/it /run/it /dev/mqueue/it; do \
            test -e $f && echo worked: $f || echo refused: $f; done";
        let attempts: [&[&str]; 4] = [
            &["sh", "-c", fetch],
            &["sh", "-c", look],
            &["/attacks", "memory-of", "find", "77"],
            &["/attacks", "abstract", "it"],
        ];
        let beside = member(&arena, &mut rpc, &theirs);
        eventually("it listens", || {
            let result = rpc.exec(&beside, &["/attacks", "abstract", "it"]);
            bytes(&result["stdout"]).starts_with(b"worked")
        });
        let member = member(&arena, &mut rpc, &ours);
        for attempt in attempts {
            said(&mut rpc, &member, attempt).all_refused();
            said(&mut rpc, &ours, attempt).all_refused();
            // The control: who is in the same sandbox, where all of that is shared.
            said(&mut rpc, &beside, attempt).all_worked();
            said(&mut rpc, &theirs, attempt).all_worked();
        }
        // A volume is only where it is mounted; and its files, were they in sight, another's.
        let find =
            "find / -xdev -name it -user 0 | grep . >/dev/null && echo worked: find || echo refused: find";
        said(&mut rpc, &member, &["sh", "-c", find]).all_refused();
        let firsts = [&theirs, &ours]
            .map(|guid| rpc.call("sandbox.inspect", json!({"guid": guid}))["firstId"].clone());
        assert_ne!(firsts[0], firsts[1]);
        for guid in [theirs, ours] {
            rpc.call("sandbox.destroy", json!({"guid": guid}));
        }
    });
}

#[test]
fn s13_nobody_in_a_sandbox_signals_its_init_its_others_or_another_sandbox() {
    isolated(|| {
        let arena = Arena::new();
        let mut rpc = arena.host.connect();
        let (one, two) = (sandbox(&arena, &mut rpc, &json!({})), sandbox(&arena, &mut rpc, &json!({})));
        let (a, b) = (member(&arena, &mut rpc, &one), member(&arena, &mut rpc, &one));
        let c = member(&arena, &mut rpc, &two);
        let mut victims = vec![init(&mut rpc, &one), init(&mut rpc, &two)];
        victims.extend([&one, &two, &b, &c].map(|guid| victim(&mut rpc, guid)));
        for signal in ["9", "15", "19"] {
            // The attack itself ends, or its leader does: both are its own.
            drop(rpc.try_call(
                "subcontainer.exec",
                json!({"guid": a, "command": ["/attacks", "signal-all", signal], "timeout": 5000}),
            ));
            std::thread::sleep(Duration::from_millis(50));
            for victim in &victims {
                assert!(lives(*victim), "signal {signal} has reached {victim} of {victims:?}");
            }
        }
        // The control, which is no promise: the sandbox's own processes are above its members'.
        drop(rpc.try_call(
            "subcontainer.exec",
            json!({"guid": one, "command": ["/attacks", "signal-all", "9"], "timeout": 5000}),
        ));
        eventually("its own and its members' are dead", || !lives(victims[2]) && !lives(victims[4]));
        assert!(lives(victims[1]) && lives(victims[3]) && lives(victims[5]), "another sandbox's are not");
        for guid in [one, two] {
            rpc.call("sandbox.destroy", json!({"guid": guid}));
        }
    });
}

#[test]
fn s13_who_is_on_his_way_into_a_sandbox_shows_nothing_of_the_machine() {
    isolated(|| {
        let arena = Arena::new();
        let (mut rpc, mut watch) = (arena.host.connect(), arena.host.connect());
        let sandbox = sandbox(&arena, &mut rpc, &json!({}));
        // From above: every pid namespace in it is beneath its own.
        let hunt = json!({"guid": sandbox, "command": ["/attacks", "hunt-roots", MARKER, "2"]});
        let hunters: Vec<u64> = (0..2).map(|_| watch.send("subcontainer.exec", hunt.clone())).collect();
        let start = Instant::now();
        let mut lives = 0;
        while start.elapsed() < Duration::from_millis(1800) {
            let params = json!({"imageId": "busybox", "throwaway": true, "sandbox": sandbox});
            let guid = rpc.call("subcontainer.createFs", params)["guid"].as_str().unwrap().to_owned();
            rpc.output(&guid, &["true"]);
            let path = arena.path(&guid);
            let path = path.to_str().unwrap();
            arena.host.cli().run(["subcontainer", "exec", path, "true"]).ok();
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
            lives += 1;
        }
        assert!(lives > 3, "{lives}");
        for id in hunters {
            let result = watch.answer(id).unwrap();
            let text = String::from_utf8_lossy(&bytes(&result["stdout"])).into_owned();
            Said::read("a hunter from above", &text, &result.to_string()).all_refused();
        }
        rpc.call("sandbox.destroy", json!({"guid": sandbox}));
        // The control: a careless engine starts a process in a pid namespace, and changes its root later.
        let guid = arena.rootfs(&mut rpc, &super::rig::KINDS[0]);
        let pid = rpc.call("subcontainer.launch", json!({"guid": guid}))["pid"].to_string();
        let hunt = json!({"guid": guid, "command": ["/attacks", "hunt-roots", MARKER, "2"]});
        let hunter = watch.send("subcontainer.exec", hunt);
        let mut careless = Command::new(attacks::program());
        careless.args(["naive-beside", &pid, attacks::program().to_str().unwrap(), "sleep"]);
        tests::cli::finish(careless, b"").ok();
        let result = watch.answer(hunter).unwrap();
        let text = String::from_utf8_lossy(&bytes(&result["stdout"])).into_owned();
        Said::read("a careless engine", &text, &result.to_string()).all_worked();
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

#[test]
fn s9_who_stops_those_on_their_way_in_does_not_keep_a_sandbox_from_its_end() {
    isolated(|| {
        let arena = Arena::new();
        let (mut rpc, mut another) = (arena.host.connect(), arena.host.connect());
        let sandbox = sandbox(&arena, &mut rpc, &json!({}));
        let stop = json!({"guid": sandbox, "command": ["/attacks", "stop-all", "20"]});
        rpc.call("subcontainer.spawn", stop);
        for _ in 0..8 {
            let params = json!({"imageId": "busybox", "throwaway": true, "sandbox": sandbox});
            let guid = rpc.call("subcontainer.createFs", params)["guid"].clone();
            another.send("subcontainer.launch", json!({"guid": guid, "command": ["sleep", "1000"]}));
            std::thread::sleep(Duration::from_millis(20));
        }
        let start = Instant::now();
        rpc.call("sandbox.destroy", json!({"guid": sandbox}));
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        assert_eq!(rpc.call("subcontainer.list", json!({}))["subcontainers"], json!([]));
    });
}

#[test]
fn s9_nothing_outlives_the_owner_of_a_sandbox() {
    isolated(|| {
        let arena = Arena::new();
        let mut other = arena.host.connect();
        let stubborn = "trap '' TERM HUP INT QUIT; \
            for i in 1 2 3 4 5; do (setsid sh -c 'trap \"\" TERM HUP; sleep 7777 & sleep 7777 & wait' &) ; done; wait";
        let sleepers = || {
            let processes = fs::read_dir("/proc").unwrap().flatten();
            let command =
                |entry: fs::DirEntry| fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            processes.map(command).filter(|command| command.ends_with("sleep\x007777\0")).count()
        };
        for detached in [false, true] {
            let mut rpc = arena.host.connect();
            let guid = sandbox(&arena, &mut rpc, &json!({"limits": {"pids": 200}}));
            let inside = member(&arena, &mut rpc, &guid);
            for at in [&guid, &inside] {
                rpc.call("subcontainer.spawn", json!({"guid": at, "command": ["sh", "-c", stubborn]}));
            }
            eventually("all are there", || sleepers() == 20);
            if detached {
                rpc.call("sandbox.detach", json!({"guid": guid}));
                rpc.call("subcontainer.detach", json!({"guid": inside}));
            }
            drop(rpc);
            if detached {
                // The control: without an owner, they live. (Commands are their caller's in any case.)
                std::thread::sleep(Duration::from_millis(300));
                assert_eq!(
                    other.call("sandbox.inspect", json!({"guid": guid}))["state"]["status"],
                    "running"
                );
                assert!(lives(init(&mut other, &guid)));
                other.call("sandbox.destroy", json!({"guid": guid}));
            }
            eventually("nothing is left", || sleepers() == 0);
        }
        eventually("nobody", || other.call("sandbox.list", json!({}))["sandboxes"] == json!([]));
    });
}
