//! What root inside a container tries.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::cli::{binary, finish};
use tests::rpc::bytes;
use tests::{Cli, Host, eventually, isolated};

use super::{destroy, outside, rootfs};

#[test]
fn s6_root_inside_makes_no_device_node() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        for node in ["b 8 0", "c 1 1", "c 10 200"] {
            let made = cli.exec(&rootfs, &[], &["sh", "-c", &format!("mknod /tmp/node {node}")]);
            assert!(made.failed(1).contains("Operation not permitted"), "{node}");
        }
        let capabilities = cli.exec(&rootfs, &[], &["grep", "CapBnd", "/proc/self/status"]).ok().out();
        let set = u64::from_str_radix(capabilities.split_whitespace().nth(1).unwrap(), 16).unwrap();
        // CAP_NET_RAW, CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_MKNOD
        for capability in [13, 16, 17, 19, 21, 27] {
            assert_eq!(set >> capability & 1, 0, "capability {capability} in {capabilities}");
        }
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s14_a_device_node_in_an_image_a_rootfs_or_a_volume_opens_no_device() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let first = rpc.create_fs("busybox");
        let tree = rootfs(&host, &first);
        outside(&["mknod", tree.join("layer-node").to_str().unwrap(), "c", "1", "5"]);
        outside(&["cp", "-a", tree.to_str().unwrap(), "/tmp/tree"]);
        destroy(&mut rpc, &first);
        rpc.call("image.import", json!({"path": "/tmp/tree", "name": "nodes"}));
        fs::remove_dir_all("/tmp/tree").unwrap();
        let guid = rpc.create_fs("nodes");
        outside(&["mknod", rootfs(&host, &guid).join("upper-node").to_str().unwrap(), "c", "1", "5"]);
        let volume = host.data().join("volumes/main");
        fs::create_dir_all(&volume).unwrap();
        outside(&["mknod", volume.join("node").to_str().unwrap(), "c", "1", "5"]);
        let mount = json!({"source": {"type": "volume", "volumeId": "main"}, "mountpoint": "/data"});
        rpc.call("subcontainer.mount", json!({"guid": guid, "mount": mount}));
        for node in ["/layer-node", "/upper-node", "/data/node"] {
            let result = rpc.exec(&guid, &["head", "-c", "1", node]);
            let said = result["stderr"]["text"].as_str().unwrap();
            assert!(said.contains("Permission denied") || said.contains("No such file"), "{node}: {result}");
            rpc.call_fails("file.read", json!({"guid": guid, "path": node}));
            rpc.call_fails("file.write", json!({"guid": guid, "path": node, "data": {"text": "x"}}));
        }
        destroy(&mut rpc, &guid);
    });
}

#[test]
fn s11_a_link_to_a_setting_of_the_kernel_is_not_written_through() {
    isolated(|| {
        let host = Host::with_busybox();
        let cli = Cli::at(&binary(), host.data());
        let by_cli = cli.create_fs("busybox");
        let _running = cli.launch_idle(&by_cli);
        let mut rpc = host.connect();
        let (plain, shared) = (rpc.create_fs("busybox"), rpc.create_fs("busybox"));
        rpc.call("subcontainer.launch", json!({"guid": plain}));
        rpc.call("subcontainer.launch", json!({"guid": shared, "sharedDevSys": true}));
        // A setting of our own namespace, and one that is written as it is.
        let settings = ["/proc/sys/kernel/domainname", "/sys/kernel/profiling"];
        let before = settings.map(|path| fs::read_to_string(path).ok());
        let proc_link = format!("{}/escape", by_cli.path);
        symlink("/proc/1/root/etc/escaped", proc_link).unwrap();
        for guid in [by_cli.guid.as_str(), &plain, &shared] {
            for (number, setting) in settings.iter().enumerate() {
                let link = format!("/link{number}");
                symlink(setting, rootfs(&host, guid).join(&link[1..])).unwrap();
                for path in [link.as_str(), setting] {
                    for append in [false, true] {
                        let params =
                            json!({"guid": guid, "path": path, "data": {"text": "0\n"}, "append": append});
                        let error = rpc.call_fails("file.write", params);
                        assert!(
                            ["escape", "notFound", "kernel"].contains(&error.kind()),
                            "{path}: {error:?}"
                        );
                    }
                    rpc.call_fails("file.chmod", json!({"guid": guid, "path": path, "mode": 0o777}));
                }
            }
        }
        let params = json!({"guid": by_cli.guid, "path": "/escape", "data": {"text": "x"}});
        rpc.call_fails("file.write", params);
        assert!(!Path::new("/etc/escaped").exists());
        assert_eq!(settings.map(|path| fs::read_to_string(path).ok()), before);
        destroy(&mut rpc, &plain);
        destroy(&mut rpc, &shared);
        cli.destroy_fs(&by_cli);
    });
}

#[test]
fn s10_a_hostile_passwd_neither_hangs_nor_tells() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let etc = Path::new(&rootfs.path).join("etc");
        for name in ["passwd", "group"] {
            let file = etc.join(name);
            let keep = fs::read(&file).unwrap();
            let plant: [(&str, &dyn Fn()); 5] = [
                ("fifo", &|| outside(&["mkfifo", file.to_str().unwrap()])),
                ("huge", &|| File::create(&file).unwrap().set_len(1 << 40).unwrap()),
                ("environ", &|| symlink("/proc/self/environ", &file).unwrap()),
                ("loop", &|| symlink(name, &file).unwrap()),
                ("directory", &|| fs::create_dir(&file).unwrap()),
            ];
            for (what, plant) in plant {
                fs::remove_file(&file).unwrap();
                plant();
                let mut command = cli.command(["subcontainer", "exec", "-u", "spy", &rootfs.path, "id"]);
                // A line that a lookup would find, were it to read our environment.
                command.env("TOLD", "\nspy:x:0:0:correct-horse:/:/bin/sh\n");
                let start = Instant::now();
                let said = finish(command, b"").failed(125);
                assert!(start.elapsed() < Duration::from_secs(3), "{name} {what} took {:?}", start.elapsed());
                assert!(!said.contains("correct-horse"), "{name} {what}: {said}");
                // A number must not hang either.
                let numeric = cli.exec(&rootfs, &["-u", "7:7"], &["id", "-u"]);
                assert!(numeric.code == 125 || numeric.out() == "7", "{name} {what}: {}", numeric.err());
                if file.is_dir() {
                    fs::remove_dir(&file).unwrap();
                } else {
                    fs::remove_file(&file).unwrap();
                }
                fs::write(&file, &keep).unwrap();
            }
        }
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s9_stopping_everything_inside_does_not_stop_a_time_limit_or_a_kill() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        let stop = ["sh", "-c", "while :; do kill -STOP -1; touch /round; done"];
        rpc.send("subcontainer.exec", json!({"guid": guid, "command": stop}));
        eventually("it stops", || rootfs(&host, &guid).join("round").exists());
        let start = Instant::now();
        let params = json!({"guid": guid, "command": ["true"], "timeout": 200});
        let calls: Vec<u64> = (0..30).map(|_| rpc.send("subcontainer.exec", params.clone())).collect();
        let mut timeouts = 0;
        for id in calls {
            let outcome = rpc.answer(id).map(|result| result["outcome"]["kind"].clone());
            timeouts += usize::from(outcome == Ok(json!("timeout")));
        }
        assert!(start.elapsed() < Duration::from_secs(4), "it took {:?}", start.elapsed());
        assert!(timeouts > 0, "nothing was ever stopped");
        destroy(&mut rpc, &guid);
        drop(rpc);
        let start = Instant::now();
        host.stop();
        assert!(start.elapsed() < Duration::from_secs(4), "threads of the host are held");
    });
}

#[test]
fn s9_a_command_that_is_held_on_its_way_in_ends_with_its_killed_caller() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        let stop = ["sh", "-c", "while :; do kill -STOP -1; touch /round; done"];
        rpc.send("subcontainer.exec", json!({"guid": guid, "command": stop}));
        let tree = rootfs(&host, &guid);
        eventually("it stops", || tree.join("round").exists());
        // Guards, and what shares a guard's memory still; of these, those that are stopped.
        let guards = || -> (usize, usize) {
            let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
            let is_guard = |path: &PathBuf| {
                fs::read(path.join("cmdline")).is_ok_and(|text| text.starts_with(b"start-container-guard"))
            };
            let states =
                all.filter(is_guard).map(|path| fs::read_to_string(path.join("stat")).unwrap_or_default());
            let states: Vec<_> = states.collect();
            (states.len(), states.iter().filter(|stat| stat.contains(") T ")).count())
        };
        let mut held = 0;
        let path = tree.to_str().unwrap();
        for _ in 0..20 {
            let exec = || host.cli().command(["subcontainer", "exec", path, "true"]).spawn().unwrap();
            let mut callers: Vec<_> = (0..10).map(|_| exec()).collect();
            std::thread::sleep(Duration::from_millis(300));
            held += guards().1;
            for caller in &mut callers {
                caller.kill().unwrap();
                caller.wait().unwrap();
            }
            eventually("all that they had started has ended", || guards().0 == 0);
            if held > 0 {
                break;
            }
        }
        assert!(held > 0, "nothing was ever held on its way");
        destroy(&mut rpc, &guid);
    });
}

#[test]
fn s8_signals_have_their_usual_meaning_inside() {
    isolated(|| {
        let host = Host::with_busybox();
        let cli = Cli::at(&binary(), host.data());
        let ask = ["sh", "-c", "grep -E '^Sig(Ign|Blk|Cgt)' /proc/self/status >/signals; exec sleep 1000"];
        let blocked_or_ignored = |text: &str| -> Vec<String> {
            let line = |line: &&str| !line.starts_with("SigCgt") && !line.ends_with("0000000000000000");
            text.lines().filter(line).map(str::to_owned).collect()
        };
        let rootfs_ = cli.create_fs("busybox");
        let running = cli.launch(&rootfs_, &[], &ask);
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        rpc.call("subcontainer.launch", json!({"guid": guid, "command": ask}));
        for tree in [PathBuf::from(&rootfs_.path), rootfs(&host, &guid)] {
            let file = tree.join("signals");
            eventually("the leader has written", || {
                fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == 3)
            });
            assert_eq!(blocked_or_ignored(&fs::read_to_string(&file).unwrap()), [""; 0]);
        }
        let grep = ["grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"];
        assert_eq!(blocked_or_ignored(&rpc.output(&guid, &grep)), [""; 0]);
        assert_eq!(blocked_or_ignored(&cli.exec(&rootfs_, &[], &grep).ok().out()), [""; 0]);
        assert_eq!(
            blocked_or_ignored(&cli.exec(&rootfs_, &["--force-tty"], &grep).ok().out().replace('\r', "")),
            [""; 0]
        );
        // Under nohup and its like, too.
        let beneath = ["sh", "-c", "trap '' INT PIPE HUP TERM; exec \"$@\"", "sh"];
        let mut arguments = vec!["subcontainer", "exec", &rootfs_.path];
        arguments.extend(grep);
        assert_eq!(blocked_or_ignored(&cli.run_beneath(&beneath, arguments).ok().out()), [""; 0]);
        let pipe = rpc.exec(&guid, &["sh", "-c", "(yes; echo $? >&2) | head -n 1"]);
        assert_eq!(bytes(&pipe["stderr"]), b"141\n", "SIGPIPE ends a writer: {pipe}");
        destroy(&mut rpc, &guid);
        drop(running);
        cli.destroy_fs(&rootfs_);
    });
}

#[test]
fn s10_the_machines_own_null_device_keeps_its_owner() {
    isolated(|| {
        let host = Host::with_busybox();
        let owner =
            |path: &Path| fs::metadata(path).map(|file| (file.uid(), file.gid(), file.mode())).unwrap();
        let before = owner(Path::new("/dev/null"));
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        rpc.call("subcontainer.launch", json!({"guid": guid, "options": {"user": "1000"}}));
        for streams in [json!({}), json!({"stdout": "pipe"}), json!({"terminal": {"rows": 9, "cols": 9}})] {
            let params =
                json!({"guid": guid, "command": ["true"], "options": {"user": "user"}, "streams": streams});
            let process = rpc.call("subcontainer.spawn", params)["process"].clone();
            rpc.call("subcontainer.wait", json!({"process": process}));
        }
        let params =
            json!({"guid": guid, "command": ["stat", "-c", "%u", "/dev/null"], "options": {"user": "user"}});
        let inside = rpc.call("subcontainer.exec", params);
        let after = owner(Path::new("/dev/null"));
        if after != before {
            outside(&["chown", &format!("{}:{}", before.0, before.1), "/dev/null"]);
        }
        assert_eq!(after, before);
        assert_eq!(bytes(&inside["stdout"]), b"0\n");
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        destroy(&mut rpc, &guid);
    });
}

#[test]
fn s22_environment_given_to_the_host_is_on_no_command_line() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let options = json!({"env": {"PASSWORD": "correct-horse"}});
        let launch = json!({"guid": guid, "command": ["sleep", "1000"], "init": true, "options": options});
        rpc.call("subcontainer.launch", launch);
        for streams in [json!({}), json!({"terminal": {"rows": 9, "cols": 9}})] {
            let params =
                json!({"guid": guid, "command": ["sleep", "1000"], "options": options, "streams": streams});
            rpc.call("subcontainer.spawn", params);
        }
        let with_secret = |name: &str| {
            let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join(name));
            processes
                .filter_map(|path| fs::read(path).ok())
                .filter(|bytes| String::from_utf8_lossy(bytes).contains("correct-horse"))
                .count()
        };
        eventually("the secret is in the environment of each", || with_secret("environ") >= 3);
        assert_eq!(with_secret("cmdline"), 0);
        destroy(&mut rpc, &guid);
    });
}

#[test]
fn s6_a_command_on_its_way_in_shows_nothing_of_the_host() {
    isolated(|| {
        // In the machine's mounts, and in no container's.
        let marker = PathBuf::from("/tmp/host-only");
        fs::create_dir(&marker).unwrap();
        outside(&["mount", "-t", "tmpfs", "host-only", marker.to_str().unwrap()]);
        assert!(fs::read_to_string("/proc/self/mountinfo").unwrap().contains("host-only"));
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        let tree = rootfs(&host, &guid);
        // Whoever is stopped in the middle can be looked at at leisure.
        let spy = "while :; do kill -STOP -1; for p in /proc/[0-9]*; do \
            grep -q host-only $p/mountinfo && echo $p >>/seen; done; kill -CONT -1; touch /round; done";
        rpc.send("subcontainer.exec", json!({"guid": guid, "command": ["sh", "-c", spy]}));
        eventually("it spies", || tree.join("round").exists());
        for _ in 0..30 {
            rpc.output(&guid, &["true"]);
            host.cli().run(["subcontainer", "exec", tree.to_str().unwrap(), "true"]).ok();
        }
        assert!(!tree.join("seen").exists(), "{:?}", fs::read_to_string(tree.join("seen")));
        destroy(&mut rpc, &guid);
        drop((rpc, host));
        outside(&["umount", marker.to_str().unwrap()]);
        fs::remove_dir(&marker).unwrap();
    });
}
