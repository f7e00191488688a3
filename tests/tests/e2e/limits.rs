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
