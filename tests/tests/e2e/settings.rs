//! What each process starts with: its own limits, file mode mask, and place in the queue of the out-of-memory killer.
//! (row S6)

use serde_json::json;
use tests::{Cli, Host, isolated};

/// What a process says about itself: descriptors, core files, mask, score.
const TELL: [&str; 3] =
    ["sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c; umask; cat /proc/self/oom_score_adj"];

/// The hard limit on descriptors that this process has, and so what it starts.
fn own_hard() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

fn own_score() -> i32 {
    std::fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap()
}

#[test]
fn s6_limits_mask_and_score_of_who_starts_it_are_not_inherited() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let hard = own_hard().min(524_288);
        let expected = format!("1024\n{hard}\n0\n0022\n{}", own_score().max(0));
        // Whatever the caller has.
        let from = |arguments: &[&str], score: &str| {
            let script =
                format!("ulimit -Sn 77; umask 077; echo {score} > /proc/self/oom_score_adj; exec \"$@\"");
            let mut command = std::process::Command::new("sh");
            command.args(["-c", &script, "sh"]).arg(tests::cli::binary()).args(arguments);
            command.env("START_CONTAINER_DATA_DIR", cli.data());
            tests::cli::finish(command, b"")
        };
        let own = own_score().to_string();
        let launch = [&["subcontainer", "launch", &rootfs.path], &TELL[..]].concat();
        assert_eq!(from(&launch, &own).ok().out(), expected);
        let running = cli.launch_idle(&rootfs);
        let exec = [&["subcontainer", "exec", &rootfs.path], &TELL[..]].concat();
        assert_eq!(from(&exec, &own).ok().out(), expected);
        drop(running);
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s6_what_a_launch_was_given_holds_for_commands_unless_they_ask() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let flags =
            ["--ulimit", "nofile=64:128", "--ulimit", "core=0:0", "--umask", "027", "--oom-score-adj", "500"];
        let tell = [&["subcontainer", "launch"], &flags[..], &[&rootfs.path], &TELL].concat();
        assert_eq!(cli.run(tell).ok().out(), "64\n128\n0\n0027\n500");
        let running = cli.launch(&rootfs, &flags, &["sleep", "1000"]);
        assert_eq!(cli.exec(&rootfs, &[], &TELL).ok().out(), "64\n128\n0\n0027\n500");
        let flags = ["--ulimit", "nofile=32", "--umask", "0", "--oom-score-adj", "1000"];
        assert_eq!(cli.exec(&rootfs, &flags, &TELL).ok().out(), "32\n32\n0\n0000\n1000");
        let said = cli.run(["subcontainer", "inspect", &rootfs.path]).ok().out();
        assert!(
            said.contains("each     umask 0027, core 0:0, nofile 64:128, oom score adjustment 500"),
            "{said}"
        );
        // Our own is as it was: the child wrote its own, before it was a program of its own.
        assert_eq!(cli.run(["subcontainer", "ls"]).ok().code, 0);
        drop(running);
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s6_the_host_gives_them_and_keeps_its_own() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        for userns in [false, true] {
            let made = rpc.call(
                "subcontainer.createFs",
                json!({"imageId": "busybox", "throwaway": true, "userns": userns}),
            );
            let guid = made["guid"].as_str().unwrap();
            let options =
                json!({"umask": 0o77, "ulimits": {"nofile": {"soft": 64, "hard": 128}}, "oomScoreAdj": 700});
            rpc.call("subcontainer.launch", json!({"guid": guid, "options": options}));
            assert_eq!(rpc.output(guid, &TELL), "64\n128\n0\n0077\n700\n");
            let own = json!({"oomScoreAdj": 800, "ulimits": {"nofile": {"soft": 16}}});
            let exec = json!({"guid": guid, "command": TELL, "options": own});
            let done = rpc.call("subcontainer.exec", exec);
            assert_eq!(tests::rpc::bytes(&done["stdout"]), b"16\n16\n0\n0077\n800\n");
            let state = rpc.call("subcontainer.inspect", json!({"guid": guid}))["state"].clone();
            assert_eq!(state["allowed"]["ulimits"], json!({"nofile": {"soft": 64, "hard": 128}}), "{state}");
            let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", host.pid())).unwrap();
            assert_eq!(score.trim().parse(), Ok(own_score()), "the host's own has changed");
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        }
    });
}

#[test]
fn s6_what_cannot_be_given_is_refused_before_anything_starts() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        for (flags, words) in [
            (["--ulimit", "files=1"], "read ulimit files: none of cpu, fsize"),
            (["--ulimit", "nofile=2:1"], "nofile=2:1: the soft limit is above the hard one"),
            (["--ulimit", "nofile=-1"], "set ulimit nofile=-1: "),
            (["--ulimit", "nofile"], "must be TYPE=SOFT[:HARD]"),
            (["--umask", "1777"], "read umask 0o1777"),
            (["--umask", "8"], "not a mode in octal"),
            (["--oom-score-adj", "1001"], "read oom score adjustment 1001"),
        ] {
            let launch = [&["subcontainer", "launch"], &flags[..], &[&rootfs.path, "true"]].concat();
            let said = cli.run(launch).failed(125);
            assert!(said.contains(words), "{words}: {said}");
            assert_eq!(cli.state(&rootfs), "created");
        }
        let running = cli.launch_idle(&rootfs);
        let said = cli.exec(&rootfs, &["--ulimit", "nofile=-1"], &["true"]).failed(125);
        assert!(said.contains("set ulimit nofile=-1"), "{said}");
        // Where we may lower it, it is lowered; where not, that is said.
        let score = (own_score() - 1).max(-1000).to_string();
        let lower = cli.exec(&rootfs, &["--oom-score-adj", &score], &["cat", "/proc/self/oom_score_adj"]);
        if lower.code == 0 {
            assert_eq!(lower.out(), score);
        } else {
            assert!(lower.failed(125).contains("without CAP_SYS_RESOURCE it can only be raised"));
        }
        drop(running);
        cli.destroy_fs(&rootfs);
    });
}
