//! The doctor finds what is missing, by trying it, and leaves nothing.

use std::process::Command;

use serde_json::Value;
use tests::cli::finish;
use tests::{Cli, isolated};

/// What it says of one thing: the state, and whether that costs something.
fn of(all: &Value, name: &str) -> (String, bool) {
    let found = all.as_array().unwrap().iter().find(|finding| finding["name"] == name);
    let found = found.unwrap_or_else(|| panic!("nothing about {name}: {all}"));
    (found["state"].as_str().unwrap().to_owned(), found["cost"].is_string())
}

fn states(all: &Value, names: &[&str]) -> Vec<(String, bool)> {
    names.iter().map(|name| of(all, name)).collect()
}

const NEEDED: [&str; 7] =
    ["kernel", "capabilities", "overlay", "idmapped-mounts", "user-namespaces", "seccomp", "cgroup-v2"];

#[test]
fn o2_the_doctor_tries_everything_and_leaves_nothing() {
    isolated(|| {
        let cli = Cli::new();
        let all = cli.run(["--json", "doctor"]).ok().json();
        for name in NEEDED.iter().chain(&["data-dir", "veth-and-bridge", "nftables", "loop-devices", "pids"])
        {
            assert_eq!(of(&all, name), ("ok".into(), false), "{name}: {all}");
        }
        assert_eq!(of(&all, "daemon"), ("limited".into(), true));
        assert!(all.as_array().unwrap().len() > 35);
        let said = cli.run(["doctor"]).ok().out();
        assert!(said.contains("ok       overlay"), "{said}");
        assert!(!cli.run(["doctor", "-q"]).ok().out().contains("ok       overlay"));
    });
}

#[test]
fn o2_the_doctor_finds_what_is_missing() {
    isolated(|| {
        let cli = Cli::new();
        let beneath = |outer: &[&str], code: i32| -> Value {
            let inner = cli.command(["--json", "doctor"]);
            let mut command = Command::new(outer[0]);
            command.args(&outer[1..]).arg(inner.get_program()).args(inner.get_args());
            let finished = finish(command, b"");
            assert_eq!(finished.code, code, "{outer:?}: {}", finished.err());
            finished.json()
        };
        let limited = ("limited".to_owned(), true);
        let missing = ("missing".to_owned(), true);
        let all = beneath(&["setpriv", "--bounding-set", "-net_admin"], 1);
        assert_eq!(of(&all, "capabilities"), missing);
        assert_eq!(states(&all, &["overlay", "cgroup-v2"]), [("ok".into(), false), ("ok".into(), false)]);
        let all = beneath(&["setpriv", "--bounding-set", "-sys_admin"], 1);
        assert_eq!(states(&all, &["capabilities", "overlay", "idmapped-mounts"]), vec![missing.clone(); 3]);
        assert_eq!(of(&all, "network-namespaces"), limited);
        let all = beneath(&["prlimit", "--nofile=100:100"], 0);
        assert_eq!(of(&all, "descriptors"), limited);
        // No loop devices, no rules, no space, no controllers: containers run all the same.
        let hide =
            "mount --bind /dev/null /dev/loop-control; for nft in /usr/sbin/nft /sbin/nft /usr/bin/nft; do
            [ -e $nft ] && mount --bind /dev/null $nft; done; exec \"$@\"";
        let all = beneath(&["unshare", "-m", "sh", "-c", hide, "sh"], 0);
        assert_eq!(states(&all, &["loop-devices", "nftables"]), vec![limited.clone(); 2]);
        assert_eq!(of(&all, "veth-and-bridge"), ("ok".into(), false));
        let small = "mount -t tmpfs -o size=1m tmpfs /mnt; exec \"$@\" --data-dir /mnt/data";
        let all = beneath(&["unshare", "-m", "sh", "-c", small, "sh"], 0);
        assert_eq!(of(&all, "disk-space"), limited);
        // A limit of the machine's, in a user's name.
        let few = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
        let all =
            beneath(&["unshare", "-U", "-r", "-m", "--propagation", "private", "sh", "-c", few, "sh"], 1);
        assert_eq!(of(&all, "user-namespaces"), missing);
    });
}
