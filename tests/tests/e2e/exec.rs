//! Commands inside: namespaces, users, secrets, and their end.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tests::{Cli, eventually, isolated};

#[test]
fn s6_exec_joins_every_namespace_of_the_leader() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let list = "cd /proc/self/ns && for n in pid mnt ipc uts cgroup net; do readlink $n; done";
        let inside = cli.exec(&rootfs, &[], &["sh", "-c", list]).ok().out();
        let info = cli.run(["--json", "subcontainer", "inspect", &rootfs.guid]).ok().json();
        let leader = format!("/proc/{}/ns", info["state"]["pid"]);
        for (name, inside) in ["pid", "mnt", "ipc", "uts", "cgroup", "net"].iter().zip(inside.lines()) {
            let of = |directory: &str| {
                fs::read_link(Path::new(directory).join(name)).unwrap().display().to_string()
            };
            assert_eq!(inside, of(&leader), "{name}: that of the leader");
            assert_eq!(
                inside == of("/proc/self/ns"),
                *name == "net",
                "{name}: not ours, but for the network"
            );
        }
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s6_launch_and_exec_write_nothing_into_the_rootfs() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let running = cli.launch_idle(&rootfs);
        cli.exec(&rootfs, &[], &["true"]).ok();
        let mut find = std::process::Command::new("find");
        find.arg(cli.data().join("rootfs").join(&rootfs.guid).join("upper")).args(["-mindepth", "1"]);
        assert_eq!(tests::cli::finish(find, b"").ok().out(), "");
        drop(running);
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s6_what_is_inside_sees_only_what_is_inside() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let processes = cli.exec(&rootfs, &[], &["sh", "-c", "ls -d /proc/[0-9]* | wc -l"]).ok().out();
        assert!(processes.parse::<u32>().unwrap() <= 4, "{processes} processes");
        let mounts = cli.exec(&rootfs, &[], &["cat", "/proc/self/mountinfo"]).ok().out();
        assert!(!mounts.contains(cli.data().to_str().unwrap()) || mounts.lines().count() < 30, "{mounts}");
        let descriptors = cli.exec(&rootfs, &[], &["sh", "-c", "ls /proc/self/fd | wc -l"]).ok().out();
        assert_eq!(descriptors, "4", "stdin, stdout, stderr, and the one that lists");
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s7_launch_tells_the_step_that_failed() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let said = cli.run(["subcontainer", "launch", &rootfs.path, "/no/such/command"]).failed(127);
        assert!(said.contains("/no/such/command"), "{said}");
        let said = cli.run(["subcontainer", "launch", &rootfs.path, "/etc/passwd"]).failed(126);
        assert!(said.contains("/etc/passwd"), "{said}");
        let said = cli.run(["subcontainer", "launch", "-u", "nobody-here", &rootfs.path, "true"]).failed(125);
        assert!(said.contains("nobody-here"), "{said}");
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s9_killing_the_command_line_ends_everything_it_started() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        // Children that ignore signals, in sessions of their own, without a parent.
        let script = "for i in 1 2 3 4 5; do (trap '' TERM HUP INT; setsid sleep 1000 &); done; echo ready; sleep 1000";
        let mut command = cli.command(["subcontainer", "exec", &rootfs.path, "sh", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
            .unwrap();
        let sleepers = || {
            cli.exec(&rootfs, &[], &["sh", "-c", "cat /proc/[0-9]*/comm | grep -c sleep; true"]).ok().out()
        };
        eventually("all sleep", || sleepers() == "6");
        child.kill().unwrap();
        child.wait().unwrap();
        let start = Instant::now();
        while sleepers() != "0" {
            assert!(start.elapsed() < Duration::from_secs(5), "{} are left", sleepers());
        }
        assert_eq!(cli.state(&rootfs), "running", "the container itself is not the caller's");
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s9_killing_launch_ends_the_container() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let mut running = cli.launch(&rootfs, &[], &["sh", "-c", "(setsid sleep 1000 &); sleep 1000"]);
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        let start = Instant::now();
        while cli.state(&rootfs) == "running" {
            assert!(start.elapsed() < Duration::from_secs(5), "it still runs");
        }
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s10_users_are_looked_up_inside_and_an_unknown_one_is_an_error() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let id = |user: &str| {
            let flag = format!("--user={user}");
            cli.exec(&rootfs, &[&flag], &["sh", "-c", "echo $(id -u):$(id -g):$(id -G)"])
        };
        assert_eq!(id("user").ok().out(), "1000:1000:1000 50", "its supplementary groups too");
        assert_eq!(id("1000").ok().out(), "1000:1000:1000 50");
        assert_eq!(id("daemon").ok().out(), "1:1:1");
        assert_eq!(id("4711").ok().out(), "4711:0:0", "a number without an entry");
        assert_eq!(id("4711:4712").ok().out(), "4711:4712:4712");
        assert_eq!(id("user:daemon").ok().out(), "1000:1:1");
        assert_eq!(id("").ok().out(), "0:0:0", "nothing is the image's own user");
        for unknown in ["nobody-here", "root:no-such-group", "-1", "4294967296"] {
            let said = id(unknown).failed(125);
            assert!(said.contains("user") || said.contains("group"), "{unknown:?}: {said}");
        }
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s10_numbers_need_no_passwd_and_a_planted_link_is_not_followed_out() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let etc = Path::new(&rootfs.path).join("etc");
        fs::remove_file(etc.join("passwd")).unwrap();
        fs::remove_file(etc.join("group")).unwrap();
        let _running = cli.launch_idle(&rootfs);
        assert_eq!(
            cli.exec(&rootfs, &["-u", "5:6"], &["sh", "-c", "id -u; id -g; id -G"]).ok().out(),
            "5\n6\n6"
        );
        // The outer machine knows this user; the container must not.
        fs::write("/tmp/passwd", "spy:x:0:0::/:/bin/sh\n").unwrap();
        symlink("/tmp/passwd", etc.join("passwd")).unwrap();
        cli.exec(&rootfs, &["-u", "spy"], &["id"]).failed(125);
        fs::remove_file("/tmp/passwd").unwrap();
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s22_environment_is_on_no_command_line_but_the_one_that_was_typed() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let file = cli.data().join("secrets");
        fs::write(&file, "PASSWORD=correct-horse\n").unwrap();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch(&rootfs, &["--env-file", file.to_str().unwrap()], &["sleep", "1000"]);
        let lines = |name: &str| -> Vec<String> {
            fs::read_dir("/proc")
                .unwrap()
                .flatten()
                .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()))
                .filter_map(|entry| fs::read(entry.path().join(name)).ok())
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .filter(|text| text.contains("correct-horse"))
                .collect()
        };
        assert_eq!(lines("cmdline"), Vec::<String>::new());
        assert_eq!(lines("environ").len(), 1, "it is in the environment of the process itself");
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn input_and_output_pass_unchanged() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let bytes: Vec<u8> =
            (0..3_000_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let same = cli.run_with_input(&bytes, ["subcontainer", "exec", &rootfs.path, "cat"]).ok();
        assert!(same.stdout == bytes, "12 MB came back changed");
        let both = cli.exec(&rootfs, &[], &["sh", "-c", "echo out; echo err >&2"]).ok();
        assert_eq!((both.out().as_str(), both.err().as_str()), ("out", "err"));
        cli.destroy_fs(&rootfs);
    });
}
