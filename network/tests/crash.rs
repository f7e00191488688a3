//! A supervisor that is killed at any step, and the next one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;

use common::*;
use network::{Config, Networks};
use tests::isolate::isolated;

/// The test that is also its own victim, in processes of their own.
const KILLED_AT_ANY_STEP: &str =
    "s22_a_supervisor_killed_at_any_step_leaves_nothing_that_the_next_one_does_not_take_away";
/// What makes it the victim: where the machine's files are.
const STATE: &str = "NETWORK_TEST_STATE";

fn victims_networks(directory: &Path) -> Networks {
    let config = Config {
        resolv_conf: directory.join("resolv.conf"),
        resolved: directory.join("resolved.conf"),
        ..Config::default()
    };
    Networks::open(std::fs::File::open(directory.join("networks")).unwrap().into(), config).unwrap()
}

/// A whole life: attach, release, tidy.
fn live(directory: &Path) {
    let networks = victims_networks(directory);
    let one = networks.private("one", &request("shop", &["web"], &["8080:80", "5353:53/udp"])).unwrap();
    drop(one);
    networks.release("one").unwrap();
    networks.tidy().unwrap();
}

/// Runs the victim until one of its threads, or an `nft` that it started, makes its `nth` call of that name, which
/// kills it: the victim, or `nft`, whose failure the victim then has to deal with. Returns whether it got there.
fn kill_at(lab: &Lab, call: &str, nth: usize) -> bool {
    let program = std::env::current_exe().unwrap();
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:signal=KILL:when={nth}")])
        .arg(program)
        .args(["--exact", KILLED_AT_ANY_STEP, "--test-threads=1"])
        .env(STATE, lab.directory.path())
        .output()
        .unwrap()
        .status;
    !status.success()
}

#[test]
fn s22_a_supervisor_killed_at_any_step_leaves_nothing_that_the_next_one_does_not_take_away() {
    if let Some(directory) = std::env::var_os(STATE) {
        return live(Path::new(&directory));
    }
    isolated(|| {
        let lab = Lab::new();
        lab.state();
        let before = traces();
        let (mut killed, mut left) = (0, 0);
        // Each step is a netlink request, a rename of the state, a write to a setting or a file, or a start of nft.
        for call in [
            "sendto",
            "rename,renameat,renameat2",
            "pwrite64",
            "unlinkat",
            "execve",
            "unshare",
            "flock",
            "sendmsg",
        ] {
            // The first execve is the victim's own.
            let first = if call == "execve" { 2 } else { 1 };
            for nth in first.. {
                assert!(nth < 200, "the victim fails by itself");
                if !kill_at(&lab, call, nth) {
                    assert!(nth > first, "{call} is never called");
                    break;
                }
                killed += 1;
                // Its namespace may live a moment longer.
                left += usize::from(traces() != before);
                let networks = lab.networks();
                networks.recover(|_| false).unwrap();
                assert_eq!(traces(), before, "killed at {call} number {nth}");
                assert!(networks.list().unwrap().is_empty() && networks.changes().unwrap().is_empty());
                for directory in ["hosts", "resolv"] {
                    assert_eq!(std::fs::read_dir(lab.state().join(directory)).unwrap().count(), 0);
                }
            }
        }
        assert!(killed > 40, "it was killed {killed} times only");
        assert!(left > 20, "the control: {left} of {killed} times something was left for recovery");
    });
}

#[test]
fn s22_the_next_supervisor_keeps_what_lives() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let before = traces();
        // Attached by a process that is gone, while its container lives on: held by us.
        let one = networks.private("one", &request("shop", &["web"], &["8080:80"])).unwrap();
        let two = networks.private("two", &request("shop", &[], &["8081:80"])).unwrap();
        let state = lab.state().join("state.json");
        let text = std::fs::read_to_string(&state).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        for guid in ["one", "two"] {
            json["attached"][guid]["maker"]["startTime"] = 1.into();
        }
        std::fs::write(&state, json.to_string()).unwrap();
        // And the machine's rules and settings were lost meanwhile.
        run("nft flush ruleset");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        drop(networks);
        let networks = lab.networks();
        networks.recover(|guid| guid == "one").unwrap();
        let server = Server::tcp(Some(one.netns.as_fd()), "[::]:80");
        assert!(call(Some(lab.internet.as_fd()), ip(MACHINE), 8080).is_ok());
        assert_unreachable(Some(lab.internet.as_fd()), ip(MACHINE), 8081);
        let guids: Vec<String> = networks.list().unwrap().into_iter().map(|place| place.guid).collect();
        assert_eq!(guids, ["one"]);
        assert!(!traces().iter().any(|trace| trace.contains(&two.endpoint.link)));
        assert!(read(&one.hosts).contains("web") && !read(&one.hosts).contains("two"));
        drop(server);
        networks.release("one").unwrap();
        networks.tidy().unwrap();
        assert_eq!(traces(), before);
    });
}

#[test]
fn s22_recovery_leaves_alone_what_another_process_is_making() {
    isolated(|| {
        let lab = Lab::new();
        let networks = lab.networks();
        let one = networks.private("one", &request("shop", &[], &[])).unwrap();
        // No container runs yet, but we, its makers, do.
        networks.recover(|_| false).unwrap();
        assert_eq!(networks.list().unwrap(), [one.endpoint]);
        networks.release("one").unwrap();
        networks.tidy().unwrap();
    });
}
