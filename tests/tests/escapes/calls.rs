//! System calls that escapes and exploits of the kernel begin with, keys, and files by their numbers.

use std::fs;
use std::process::Command;

use serde_json::json;
use tests::cli::finish;
use tests::{attacks, isolated};

use super::rig::{Arena, Attempt, DOORS, GUARDED, KINDS, MARKER, Relaxed, Said, UNCONFINED, bare};

/// Every capability that these calls ask for, and every call. (Not ALL: who runs the tests may have fewer.)
const EVERYTHING: Relaxed = Relaxed {
    capabilities: &[
        "BPF",
        "DAC_READ_SEARCH",
        "NET_ADMIN",
        "NET_RAW",
        "PERFMON",
        "SYSLOG",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_MODULE",
        "SYS_PACCT",
        "SYS_PTRACE",
        "SYS_RAWIO",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
    ],
    unconfined: true,
    ..GUARDED
};

/// The names of what worked.
fn names(said: &Said) -> Vec<String> {
    let worked = said.lines.iter().filter_map(|line| line.strip_prefix("worked: "));
    worked.map(|line| line.rsplit_once(": ").map_or(line, |(name, _)| name).to_owned()).collect()
}

#[test]
fn s6_cve_2022_0185_calls_that_escapes_begin_with_are_refused() {
    isolated(|| {
        let arena = Arena::new();
        let attempt = Attempt::new(&["calls"]);
        let outside = names(&bare(&["calls"]));
        for name in
            ["unshare:user", "clone:user", "fsopen", "mount", "setns", "keyctl", "bpf", "open_by_handle_at"]
        {
            assert!(outside.iter().any(|other| other == name), "{name} does not work outside: {outside:?}");
        }
        for door in DOORS {
            for kind in KINDS {
                let said = attempt.through(&arena, door, kind, &GUARDED);
                assert!(said.lines.len() > 40, "{said:?}");
                said.all_refused();
            }
            // What this kernel has works where nothing is refused.
            let relaxed = names(&attempt.through(&arena, door, &KINDS[0], &EVERYTHING));
            let missing: Vec<_> = outside.iter().filter(|name| !relaxed.contains(name)).collect();
            assert!(missing.is_empty(), "{door:?}: the control fails: {missing:?}");
        }
    });
}

#[test]
#[cfg(target_arch = "x86_64")]
fn s6_families_of_sockets_are_refused_to_32_bit_calls_too() {
    isolated(|| {
        let arena = Arena::new();
        Attempt::new(&["socket-calls"]).is_refused(&arena);
        Attempt::new(&["socket-calls"]).works_with(&arena, &Relaxed { socketcall: true, ..GUARDED });
    });
}

#[test]
fn s6_shocker_a_file_outside_is_not_opened_by_its_handle() {
    isolated(|| {
        let arena = Arena::new();
        let mut command = Command::new(attacks::program());
        command.args(["handle", MARKER]);
        // What an attacker guesses: inode numbers are small.
        let handle = finish(command, b"").ok().out();
        fs::create_dir_all(arena.host.data().join("volumes/main")).unwrap();
        let mount = json!({"source": {"type": "volume", "volumeId": "main"}, "mountpoint": "/data"});
        let attempt = Attempt::new(&["by-handle", "/data", &handle]).mounted(mount);
        attempt.is_refused(&arena);
        let relaxed = Relaxed { capabilities: &["DAC_READ_SEARCH"], ..GUARDED };
        attempt.works_with(&arena, &relaxed);
    });
}

#[test]
fn s6_no_keyring_of_the_caller_is_inherited() {
    isolated(|| {
        let arena = Arena::new();
        let program = attacks::program();
        let program = program.to_str().unwrap();
        let said = |words: Vec<&str>| {
            let beneath = [program, "with-key", "escape"];
            let ended = arena.host.cli().run_beneath(&beneath, words);
            Said::read("with a key", &ended.out(), &ended.err())
        };
        let find = ["/attacks", "find-key", "escape"];
        for kind in KINDS {
            let mut rpc = arena.host.connect();
            let guid = arena.rootfs(&mut rpc, kind);
            let path = arena.path(&guid).to_str().unwrap().to_owned();
            // Without a filter: it would refuse to look.
            let launch = ["subcontainer", "launch", "--seccomp", "unconfined", &path];
            said([&launch[..], &find].concat()).all_refused();
            let mut params = UNCONFINED.launch(&guid, kind);
            params["command"] = json!(["sleep", "1000"]);
            rpc.call("subcontainer.launch", params);
            said([&["subcontainer", "exec", &path], &find[..]].concat()).all_refused();
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        }
        let mut naive = Command::new(program);
        naive.args(["with-key", "escape", program, "find-key", "escape"]);
        let ended = finish(naive, b"");
        Said::read("naive", &ended.out(), &ended.err()).all_worked();
    });
}
