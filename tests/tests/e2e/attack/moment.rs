//! Kills, damage and races at the wrong moment.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde_json::json;
use tests::cli::{Rootfs, Running, binary};
use tests::{Cli, Host, Machine, Rpc, eventually, isolated, machine::Processes};

use super::{create, destroy, outside, run_dir};

#[test]
fn s26_a_second_host_on_the_same_data_is_refused_and_harms_nothing() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let pid = rpc.call("subcontainer.launch", json!({"guid": guid}))["pid"].clone();
        symlink(host.data(), "/tmp/other-name").unwrap();
        let dotted = host.data().join("volumes/..");
        for data in [host.data(), Path::new("/tmp/other-name"), &dotted] {
            for arguments in [vec!["daemon"], vec!["daemon", "--socket", "/tmp/second.sock"]] {
                let said = Cli::at(&binary(), data).run(arguments).failed(125);
                assert!(said.contains("another host"), "{said}");
            }
        }
        fs::remove_file("/tmp/other-name").unwrap();
        assert!(!Path::new("/tmp/second.sock").exists());
        let info = rpc.call("subcontainer.inspect", json!({"guid": guid}));
        assert_eq!((&info["state"]["status"], &info["state"]["pid"]), (&json!("running"), &pid), "{info}");
        assert_eq!(host.connect().output(&guid, &["echo", "unharmed"]), "unharmed\n");
        destroy(&mut rpc, &guid);
    });
}

#[test]
fn s12_destroy_under_another_data_directory_touches_nothing() {
    isolated(|| {
        let (cli, other) = (Cli::with_busybox(), Cli::new());
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        for name in [&rootfs.guid, &rootfs.path] {
            other.run(["subcontainer", "destroy-fs", name]).failed(125);
        }
        let host = Host::on(other);
        let error = host.connect().call_fails("subcontainer.destroyFs", json!({"guid": rootfs.guid}));
        assert_eq!(error.kind(), "notFound", "{error:?}");
        assert_eq!(cli.state(&rootfs), "running");
        assert_eq!(cli.exec(&rootfs, &[], &["echo", "unharmed"]).ok().out(), "unharmed");
        cli.destroy_fs(&rootfs);
    });
}

fn launch_to_kill(cli: &Cli, rootfs: &Rootfs) -> Running {
    let mut command = cli.command(["subcontainer", "launch", &rootfs.path, "sleep", "1000"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    Running { child }
}

#[test]
fn s9_killing_a_launch_that_waits_or_loses_harms_no_container_that_runs() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let running = cli.launch_idle(&rootfs);
        // One that waits for its turn: we have it.
        let turn = File::open(run_dir(&rootfs.guid)).unwrap();
        flock(&turn, FlockOperation::LockExclusive).unwrap();
        for _ in 0..3 {
            let waiting = launch_to_kill(&cli, &rootfs);
            eventually("it waits", || fs::read_to_string("/proc/locks").unwrap().contains("->"));
            drop(waiting);
        }
        flock(&turn, FlockOperation::Unlock).unwrap();
        drop(turn);
        assert_eq!(cli.exec(&rootfs, &[], &["echo", "unharmed"]).ok().out(), "unharmed");
        // Those that lose, killed anywhere on their way.
        for delay in (0..40).map(|step| Duration::from_micros(step * 400)) {
            let losing = launch_to_kill(&cli, &rootfs);
            std::thread::sleep(delay);
            drop(losing);
        }
        assert_eq!(cli.exec(&rootfs, &[], &["echo", "unharmed"]).ok().out(), "unharmed");
        assert_eq!(cli.state(&rootfs), "running");
        drop(running);
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s7_a_launch_that_fails_leaves_nothing_behind() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let before = Machine::look(Processes::All, &[]).unwrap();
        for flags in [["-u", "nobody-here"].as_slice(), &["-w", "/etc/passwd/x"], &["--init"], &[]] {
            let mut arguments = vec!["subcontainer", "launch"];
            arguments.extend(flags);
            arguments.extend([rootfs.path.as_str(), "/no/such/command"]);
            assert!(cli.run(&arguments).code >= 125);
            let left = before.left_after(&[], Duration::from_secs(1)).unwrap();
            assert!(left.is_empty(), "{flags:?}: {left:?}");
        }
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s7_a_leader_that_cannot_be_written_down_does_not_run() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        fs::create_dir("/tmp/run").unwrap();
        outside(&["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/tmp/run"]);
        assert!(fs::write("/tmp/run/fill", vec![0; 1 << 20]).is_err(), "the disk is full");
        let before = Machine::look(Processes::All, &[]).unwrap();
        let launch = ["--run-dir", "/tmp/run", "subcontainer", "launch", &rootfs.path, "sleep", "1000"];
        let said = cli.run(launch).failed(125);
        assert!(said.contains("No space") || said.contains("ENOSPC"), "{said}");
        let left = before.left_after(&[], Duration::from_secs(2)).unwrap();
        assert!(left.is_empty(), "{left:?}");
        outside(&["umount", "/tmp/run"]);
        fs::remove_dir("/tmp/run").unwrap();
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s26_one_damaged_state_keeps_nothing_else_from_being_recovered() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let (kept, damaged) = (create(&mut rpc, true), create(&mut rpc, true));
        let owned: Vec<String> = (0..2).map(|_| create(&mut rpc, false)).collect();
        for guid in [&kept, &damaged, &owned[0], &owned[1]] {
            rpc.call("subcontainer.launch", json!({"guid": guid}));
        }
        for (guid, text) in [(&damaged, ""), (&owned[1], "{\"leader\":")] {
            fs::write(run_dir(guid).join("state.json"), text).unwrap();
        }
        host.kill();
        host.start_again();
        let mut rpc = host.connect();
        let guids = |rpc: &mut Rpc| -> Vec<String> {
            let list = rpc.call("subcontainer.list", json!({}))["subcontainers"].clone();
            list.as_array().unwrap().iter().map(|one| one["guid"].as_str().unwrap().to_owned()).collect()
        };
        eventually("what was owned is destroyed", || !guids(&mut rpc).contains(&owned[0]));
        assert_eq!(guids(&mut rpc), [kept.as_str(), &damaged, &owned[1]]);
        assert_eq!(rpc.output(&kept, &["echo", "adopted"]), "adopted\n");
        let list = host.cli().run(["--json", "subcontainer", "ls"]).ok().json();
        assert_eq!(list.as_array().unwrap().len(), 3, "{list}");
        for guid in [&kept, &damaged, &owned[1]] {
            destroy(&mut rpc, guid);
        }
    });
}

#[test]
fn s26_a_host_that_recovers_serves_meanwhile() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let owned = create(&mut rpc, false);
        let kept = create(&mut rpc, true);
        rpc.call("subcontainer.launch", json!({"guid": kept}));
        host.kill();
        // Recovery has to wait for us before it can destroy this one.
        let turn = File::open(run_dir(&owned)).unwrap();
        flock(&turn, FlockOperation::LockExclusive).unwrap();
        let start = Instant::now();
        host.start_again();
        let mut rpc = host.connect();
        eventually("recovery waits", || fs::read_to_string("/proc/locks").unwrap().contains("->"));
        assert_eq!(rpc.output(&kept, &["echo", "served"]), "served\n");
        assert!(start.elapsed() < Duration::from_secs(4), "it took {:?}", start.elapsed());
        drop(turn);
        eventually("it goes on", || !run_dir(&owned).exists());
        destroy(&mut rpc, &kept);
    });
}

#[test]
fn s26_a_place_for_a_state_that_was_never_written_goes_with_the_next_host() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = create(&mut rpc, true);
        host.stop();
        // Whoever was killed after he had made it, and one that a rootfs which is there may need again.
        let empty = run_dir("0197a1f2-5c1e-4d0b-9b59-6d2f6f6f1a10");
        for directory in [&empty, &run_dir(&guid)] {
            let _there = fs::create_dir_all(directory);
        }
        host.start_again();
        eventually("it is gone", || !empty.exists());
        let mut rpc = host.connect();
        assert_eq!(rpc.output(&guid, &["echo", "unharmed"]), "unharmed\n");
        destroy(&mut rpc, &guid);
    });
}
