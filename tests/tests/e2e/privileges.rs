//! What a container is allowed: capabilities and system calls, at launch and for every later command.

use std::fs;

use serde_json::json;
use tests::{Cli, Host, isolated};

/// The bounding set of the default: the OCI engines' less CAP_MKNOD and CAP_NET_RAW.
const DEFAULT: &str = "00000000a00405fb";

const STATUS: [&str; 4] = ["grep", "-E", "^(CapBnd|CapEff|NoNewPrivs|Seccomp):", "/proc/self/status"];

fn status(bounding: &str, seccomp: u8) -> String {
    format!("CapEff:\t{bounding}\nCapBnd:\t{bounding}\nNoNewPrivs:\t1\nSeccomp:\t{seccomp}")
}

#[test]
fn s6_commands_of_one_host_have_what_each_container_was_launched_with() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let kinds = [
            (json!({}), json!({}), DEFAULT),
            (json!({}), json!({"capAdd": ["SYS_ADMIN", "NET_RAW"]}), "00000000a02425fb"),
            (json!({}), json!({"capDrop": ["ALL"], "capAdd": ["KILL"]}), "0000000000000020"),
            (json!({"userns": true}), json!({}), DEFAULT),
            (json!({"userns": true}), json!({"capDrop": ["ALL"]}), "0000000000000000"),
        ];
        let running = kinds.map(|(make, privileges, expected)| {
            let mut make = make;
            make["imageId"] = json!("busybox");
            make["throwaway"] = json!(true);
            let guid = rpc.call("subcontainer.createFs", make)["guid"].as_str().unwrap().to_owned();
            rpc.call("subcontainer.launch", json!({"guid": guid, "privileges": privileges}));
            (guid, expected)
        });
        // Threads that start commands are used again, by turns.
        for _ in 0..5 {
            for (guid, expected) in &running {
                let said = rpc.output(guid, &["grep", "CapBnd", "/proc/self/status"]);
                assert_eq!(said, format!("CapBnd:\t{expected}\n"));
            }
        }
        for (guid, _) in running {
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        }
    });
}

#[test]
fn s6_every_process_inside_has_the_default_capabilities_and_the_default_filter() {
    isolated(|| {
        let host = Host::with_busybox();
        let cli = host.cli();
        let rootfs = cli.create_fs("busybox");
        let write = [&["sh", "-c", "\"$@\" >/status; exec sleep 1000", "sh"][..], &STATUS].concat();
        let running = cli.launch(&rootfs, &[], &write);
        let inside = std::path::Path::new(&rootfs.path).join("status");
        tests::eventually("it has written", || {
            fs::read_to_string(&inside).is_ok_and(|text| text.lines().count() == 4)
        });
        assert_eq!(fs::read_to_string(&inside).unwrap().trim_end(), status(DEFAULT, 2));
        assert_eq!(cli.exec(&rootfs, &[], &STATUS).ok().out(), status(DEFAULT, 2));
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        assert_eq!(rpc.output(&guid, &STATUS).trim_end(), status(DEFAULT, 2));
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        drop(running);
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s6_privileges_are_given_and_taken_by_name_and_hold_for_later_commands() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let flags = ["--cap-drop", "all", "--cap-add", "cap_sys_time", "--seccomp", "unconfined"];
        let running = cli.launch(&rootfs, &flags, &["sleep", "1000"]);
        assert_eq!(cli.exec(&rootfs, &[], &STATUS).ok().out(), status("0000000002000000", 0));
        let said = cli.run(["subcontainer", "inspect", &rootfs.path]).ok().out();
        for words in [
            "has 1 capabilities; beyond the default: CAP_SYS_TIME; not: CAP_AUDIT_WRITE, CAP_CHOWN",
            "calls    all: it has no filter",
            "shared   nothing of the host's /dev, /sys and /run",
            "network  the host's",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        drop(running);
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s6_the_filter_refuses_namespaces_and_a_filter_of_ones_own_replaces_it() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let namespaces = ["unshare", "-U", "true"];
        let filter = tempfile::NamedTempFile::new().unwrap();
        // Root inside may chown by its capabilities, and by this filter not.
        let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
            [{"names": ["chown", "fchownat", "lchown"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#;
        fs::write(filter.path(), json).unwrap();
        let own = filter.path().to_str().unwrap();
        for (profile, unshares, chowns) in
            [("default", false, true), ("unconfined", true, true), (own, true, false)]
        {
            let rootfs = cli.create_fs("busybox");
            let running = cli.launch(&rootfs, &["--seccomp", profile], &["sleep", "1000"]);
            let unshared = cli.exec(&rootfs, &[], &namespaces);
            assert_eq!(unshared.code == 0, unshares, "{profile}: {}", unshared.err());
            let chowned = cli.exec(&rootfs, &[], &["sh", "-c", "touch /file; chown 7 /file"]);
            assert_eq!(chowned.code == 0, chowns, "{profile}: {}", chowned.err());
            assert!(chowns || chowned.err().contains("Function not implemented"), "{}", chowned.err());
            drop(running);
            cli.destroy_fs(&rootfs);
        }
    });
}

#[test]
fn s7_privileges_that_do_not_exist_are_refused_before_anything_is_made() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let filter = tempfile::NamedTempFile::new().unwrap();
        let path = filter.path().to_str().unwrap();
        for (flags, json, words) in [
            (["--cap-add", "NET_AMDIN"], "", "add capability NET_AMDIN"),
            (["--cap-drop", ""], "", "drop capability"),
            (["--seccomp", "/no/such/file"], "", "read seccomp filter /no/such/file"),
            (["--seccomp", path], "[]", "read seccomp filter"),
            (["--seccomp", path], r#"{"defaultAction": "SCMP_ACT_NOTHING"}"#, "read seccomp filter"),
            (
                ["--seccomp", path],
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["opne"], "action": "SCMP_ACT_ERRNO"}]}"#,
                "opne",
            ),
        ] {
            fs::write(filter.path(), json).unwrap();
            let said = cli
                .run([&["subcontainer", "launch"], &flags[..], &[&rootfs.path, "true"]].concat())
                .failed(125);
            assert!(said.contains(words), "{words}: {said}");
            assert_eq!(cli.state(&rootfs), "created");
        }
        cli.destroy_fs(&rootfs);
    });
}
