//! What somebody who wants harm does: as root inside a container, as a client of the host, as the one who kills
//! processes at the wrong moment, as the maker of an image. Each test was once a fault, or guards against one that
//! others had.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::cli::{Rootfs, Running, binary, finish};
use tests::rpc::bytes;
use tests::{Cli, Host, Machine, Rpc, eventually, isolated, machine::Processes};

#[track_caller]
fn outside(words: &[&str]) {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    finish(command, b"").ok();
}

fn create(rpc: &mut Rpc, detached: bool) -> String {
    let params = json!({"imageId": "busybox", "throwaway": true, "detached": detached});
    rpc.call("subcontainer.createFs", params)["guid"].as_str().unwrap().to_owned()
}

fn destroy(rpc: &mut Rpc, guid: &str) {
    rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
}

fn rootfs(host: &Host, guid: &str) -> PathBuf {
    host.data().join("subcontainers").join(guid)
}

fn run_dir(guid: &str) -> PathBuf {
    Path::new("/run/start-container").join(guid)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A connection that carries one stream.
fn attach(host: &Host, process: &Value, stream: &str) -> Result<UnixStream, Value> {
    let mut connection = UnixStream::connect(host.socket()).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let params = json!({"process": process, "stream": stream});
    writeln!(
        connection,
        "{}",
        json!({"jsonrpc": "2.0", "id": 1, "method": "stream.attach", "params": params})
    )
    .unwrap();
    let (mut line, mut byte) = (Vec::new(), [0]);
    while byte != *b"\n" {
        connection.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    let answer: Value = serde_json::from_slice(&line).unwrap();
    if answer.get("error").is_some() { Err(answer) } else { Ok(connection) }
}

fn read_until(stream: &mut UnixStream, text: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).unwrap();
        assert!(count > 0, "it ended without {text:?}: {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&some[..count]);
    }
}

// -- root inside

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
fn s6_nothing_inside_can_open_the_hosts_binary_for_writing() {
    isolated(|| {
        // A copy: what fails here must not overwrite the one that all tests use.
        let own = PathBuf::from("/tmp/start-container");
        fs::copy(binary(), &own).unwrap();
        let data = tempfile::tempdir().unwrap();
        let cli = Cli::at(&own, data.path());
        cli.import(&tests::image::busybox(), "busybox");
        let host = Host::on(Cli::at(&own, data.path()));
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let tree = rootfs(&host, &guid);
        fs::write(tree.join("script"), "#!/proc/self/exe\n").unwrap();
        outside(&["chmod", "755", tree.join("script").to_str().unwrap()]);
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        // Whatever is there for a moment is opened without being changed; then its name is written down.
        let script = "while :; do for p in /proc/[0-9]*; do \
            (: >>$p/exe) 2>/dev/null && echo \"$(readlink $p/exe)\" >>/opened; \
            for fd in $p/fd/*; do case $(readlink $fd) in *start-container) echo $fd >>/held;; esac; done; \
            done; touch /round; done";
        let hunters: Vec<u64> = (0..2)
            .map(|_| rpc.send("subcontainer.exec", json!({"guid": guid, "command": ["sh", "-c", script]})))
            .collect();
        eventually("the hunters hunt", || tree.join("round").exists());
        let path = tree.to_str().unwrap();
        for _ in 0..20 {
            for command in ["/proc/self/exe", "/script", "true"] {
                let params = json!({"guid": guid, "command": [command, "--help"], "timeout": 2000});
                // It fails or runs something of the container's: both are right.
                let _either = rpc.try_call("subcontainer.exec", params);
            }
            let by_cli = cli.run(["subcontainer", "exec", path, "/proc/self/exe", "--version"]);
            assert!(
                !by_cli.out().starts_with("start-container"),
                "it ran the host's binary: {}",
                by_cli.out()
            );
        }
        assert!(hunters.len() == 2 && tree.join("round").exists());
        let opened = fs::read_to_string(tree.join("opened")).unwrap_or_default();
        // Our init is a sealed file in memory: opening it is of no use.
        assert_eq!(opened.lines().filter(|line| !line.contains("memfd:")).collect::<Vec<_>>(), [""; 0]);
        assert!(!tree.join("held").exists(), "{:?}", fs::read_to_string(tree.join("held")));
        assert!(fs::read(&own).unwrap() == fs::read(binary()).unwrap(), "the binary was overwritten");
        destroy(&mut rpc, &guid);
        drop((rpc, host));
        fs::remove_file(&own).unwrap();
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

// -- the wrong moment

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

// -- clients

#[test]
fn s9_a_request_ends_with_its_client_whatever_its_id() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = create(&mut rpc, true);
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        let mut client = host.connect();
        for id in [json!("abc"), json!(""), json!(77), json!(77), json!(u64::MAX)] {
            let params = json!({"guid": guid, "command": ["sleep", "1000"]});
            let request =
                json!({"jsonrpc": "2.0", "id": id, "method": "subcontainer.exec", "params": params});
            client.send_line(&request.to_string());
        }
        let count = ["sh", "-c", "cat /proc/[0-9]*/comm | grep -c sleep; true"];
        eventually("all run", || rpc.output(&guid, &count) == "5\n");
        drop(client);
        eventually("all have ended", || rpc.output(&guid, &count) == "0\n");
        destroy(&mut rpc, &guid);
    });
}

#[test]
fn s20_a_thousand_requests_under_way_do_not_keep_a_kill_or_a_cancellation_out() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let sleep = json!({"guid": guid, "command": ["sleep", "1000"]});
        let process = rpc.call("subcontainer.spawn", sleep)["process"].clone();
        let waits: Vec<u64> =
            (0..1030).map(|_| rpc.send("subcontainer.wait", json!({"process": process}))).collect();
        for id in &waits[1024..] {
            assert_eq!(rpc.answer(*id).unwrap_err().kind(), "exhausted");
        }
        rpc.notify("$/cancelRequest", json!({"id": waits[0]}));
        assert_eq!(rpc.answer(waits[0]).unwrap_err().code, -32800);
        // The place of the cancelled one, so that all are taken again.
        let again = rpc.send("subcontainer.wait", json!({"process": process}));
        let killed = rpc.call("subcontainer.kill", json!({"process": process, "signal": "SIGKILL"}));
        assert_eq!(killed["delivered"], true);
        let mut forgotten = 0;
        for id in waits[1..1024].iter().chain([&again]) {
            match rpc.answer(*id) {
                Ok(result) => assert_eq!(result["outcome"]["signal"], "SIGKILL"),
                Err(error) => {
                    assert!(["exhausted", "notFound"].contains(&error.kind()), "{error:?}");
                    forgotten += 1;
                }
            }
        }
        assert!(forgotten <= 1, "{forgotten} were forgotten");
        destroy(&mut rpc, &guid);
    });
}

#[test]
fn s18_processes_that_were_waited_for_and_leaders_that_ended_hold_no_descriptors() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let all = json!({"stdin": "pipe", "stdout": "pipe", "stderr": "pipe"});
        let round = |rpc: &mut Rpc| {
            for _ in 0..20 {
                let params = json!({"guid": guid, "command": ["true"], "streams": all});
                let process = rpc.call("subcontainer.spawn", params)["process"].clone();
                rpc.call("subcontainer.wait", json!({"process": process}));
            }
            for _ in 0..4 {
                rpc.exec(&guid, &["kill", "-TERM", "1"]);
                eventually("it has ended", || {
                    let info = rpc.call("subcontainer.inspect", json!({"guid": guid}));
                    info["state"]["status"] == "exited"
                });
                // It is on its way out: a moment later a new one is launched.
                eventually("a new one is launched", || {
                    let params = json!({"guid": guid, "command": ["true"]});
                    match rpc.try_call("subcontainer.exec", params) {
                        Ok(_) => true,
                        Err(error) if error.kind() == "notRunning" => false,
                        Err(error) => panic!("{error:?}"),
                    }
                });
            }
        };
        round(&mut rpc);
        let before = host.descriptors();
        round(&mut rpc);
        eventually("no more descriptors than before", || host.descriptors() <= before);
        destroy(&mut rpc, &guid);
    });
}

#[test]
fn s20_names_of_nothing_cost_the_host_nothing() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let mut ask = |count: u32| {
            for number in 0..count {
                let long = format!("{}{number}", "x".repeat(1_000_000));
                let none = format!("00000000-0000-4000-8000-{number:012}");
                for guid in [long, none] {
                    let params = json!({"guid": guid, "command": ["true"]});
                    let error = rpc.call_fails("subcontainer.exec", params);
                    assert!(["invalid", "notFound"].contains(&error.kind()), "{}", error.kind());
                }
            }
        };
        ask(8);
        let before = host.own_kib();
        ask(40);
        assert!(host.own_kib() < before + (10 << 10), "{before} KiB grew to {}", host.own_kib());
        assert_eq!(names(Path::new("/run/start-container")), [""; 0]);
    });
}

#[test]
fn s28_the_list_goes_on_while_others_create_and_destroy() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let kept = rpc.create_fs("busybox");
        let stop = AtomicBool::new(false);
        let lists = std::thread::scope(|scope| {
            for _ in 0..3 {
                let mut rpc = host.connect();
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let guid = rpc.create_fs("busybox");
                        destroy(&mut rpc, &guid);
                    }
                });
            }
            let (start, mut lists) = (Instant::now(), 0);
            let mut failure = None;
            while failure.is_none() && start.elapsed() < Duration::from_millis(1500) {
                match rpc.try_call("subcontainer.list", json!({})) {
                    Ok(result) if result.to_string().contains(&kept) => lists += 1,
                    Ok(result) => failure = Some(result.to_string()),
                    Err(error) => failure = Some(format!("{error:?}")),
                }
            }
            stop.store(true, Ordering::Relaxed);
            assert_eq!(failure, None);
            lists
        });
        assert!(lists > 0);
        destroy(&mut rpc, &kept);
    });
}

#[test]
fn s12_whatever_races_with_destroy_leaves_nothing_and_says_what_is() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpcs: Vec<Rpc> = (0..3).map(|_| host.connect()).collect();
        for round in 0..25 {
            let guid = create(&mut rpcs[0], true);
            if round % 2 == 1 {
                rpcs[0].exec(&guid, &["true"]);
            }
            let mount = json!({"mountpoint": "/m", "source": {"type": "tmpfs"}});
            let exec = json!({"guid": guid, "command": ["true"]});
            let calls = [
                ("subcontainer.exec", exec.clone()),
                ("subcontainer.mount", json!({"guid": guid, "mount": mount})),
                ("subcontainer.launch", json!({"guid": guid})),
                ("subcontainer.destroyFs", json!({"guid": guid})),
                ("subcontainer.exec", exec.clone()),
                ("subcontainer.detach", json!({"guid": guid})),
                ("subcontainer.exec", exec),
            ];
            let mut sent = Vec::new();
            for (number, (method, params)) in calls.into_iter().enumerate() {
                if method == "subcontainer.destroyFs" {
                    std::thread::sleep(Duration::from_micros(round * 150));
                }
                let rpc = number % 3;
                sent.push((method, rpc, rpcs[rpc].send(method, params)));
            }
            for (method, rpc, id) in sent {
                let answer = rpcs[rpc].answer(id);
                if method == "subcontainer.destroyFs" {
                    assert!(answer.is_ok(), "{answer:?}");
                } else if let Err(error) = answer {
                    let expected = ["notFound", "notRunning", "exists", "busy"];
                    assert!(expected.contains(&error.kind()), "{method}: {error:?}");
                }
            }
            destroy(&mut rpcs[1], &guid);
            assert!(!run_dir(&guid).exists(), "round {round}");
        }
        let mut left = names(&host.data().join("rootfs"));
        left.retain(|name| name != "lock");
        assert_eq!(left, [""; 0]);
    });
}

/// Makes directories in one another, below `top`.
fn deep(top: &Path, depth: usize) {
    fs::create_dir(top).unwrap();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = rustix::fs::open(top, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&dir, "a", Mode::from(0o755)).unwrap();
        dir = rustix::fs::openat(&dir, "a", flags, Mode::empty()).unwrap();
    }
}

#[test]
fn s17_a_very_deep_tree_is_removed_like_any_other() {
    isolated(|| {
        // In memory: a disk takes seconds to make them.
        fs::create_dir("/tmp/data").unwrap();
        outside(&["mount", "-t", "tmpfs", "tmpfs", "/tmp/data"]);
        let host = Host::on(Cli::at(&binary(), Path::new("/tmp/data")));
        host.cli().import(&tests::image::busybox(), "busybox");
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let volume = host.data().join("volumes/main");
        fs::create_dir_all(&volume).unwrap();
        deep(&volume.join("deep"), 15_000);
        deep(&host.data().join("rootfs").join(&guid).join("upper/deep"), 15_000);
        let mount = json!({"source": {"type": "volume", "volumeId": "main"}, "mountpoint": "/data"});
        rpc.call("subcontainer.mount", json!({"guid": guid, "mount": mount}));
        rpc.call("file.remove", json!({"guid": guid, "path": "/data/deep", "recursive": true}));
        assert!(!volume.join("deep").exists());
        destroy(&mut rpc, &guid);
        rpc.call("image.list", json!({}));
        drop((rpc, host));
        outside(&["umount", "/tmp/data"]);
        fs::remove_dir("/tmp/data").unwrap();
    });
}

// -- terminals

#[test]
fn s21_a_terminal_carries_much_both_ways_at_once() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let input = "line\n".repeat(100_000);
        let script = "stty -echo; seq 200000; wc -l";
        let exec = ["subcontainer", "exec", "--force-tty", &rootfs.path, "sh", "-c", script];
        let ended = cli.run_with_input(input.as_bytes(), exec).ok();
        let lines = ended.out();
        assert!(lines.contains("\r\n199999\r\n200000\r\n"), "the output has gaps");
        assert_eq!(lines.lines().last().map(str::trim), Some("100000"), "the input has gaps");
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s8_a_terminal_that_nobody_reads_still_ends_with_a_signal() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let mut command = cli.command(["subcontainer", "exec", "--force-tty", &rootfs.path, "yes"]);
        let input = File::open("/dev/zero").unwrap();
        let child = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut running = Running { child };
        let stdout = running.child.stdout.take().unwrap();
        // How much a pipe takes depends on how it came: it is full when it takes no more.
        let (mut count, mut since) = (0, Instant::now());
        eventually("its output is full", || {
            let now = rustix::io::ioctl_fionread(&stdout).unwrap();
            if now != count {
                (count, since) = (now, Instant::now());
            }
            count > 0 && since.elapsed() > Duration::from_millis(200)
        });
        running.signal(Signal::TERM);
        eventually("it has ended", || running.child.try_wait().unwrap().is_some());
        drop(stdout);
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s19_the_end_of_input_is_one_after_a_partial_line_too() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let _running = cli.launch_idle(&rootfs);
        let exec = ["subcontainer", "exec", "--force-tty", &rootfs.path, "cat"];
        for (input, count) in [("abc", 1), ("abc\n", 1), ("", 0), ("abc\nabc", 2)] {
            let start = Instant::now();
            let out = cli.run_with_input(input.as_bytes(), exec).ok().out();
            // Each line twice: what was typed, and what the command wrote.
            assert_eq!(out.matches("abc").count(), 2 * count, "{input:?}: {out:?}");
            assert!(start.elapsed() < Duration::from_secs(3), "{input:?} took {:?}", start.elapsed());
        }
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s21_a_terminal_can_be_left_and_attached_to_again_and_loses_nothing() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let script = "for i in 1 2 3 4 5; do until [ -e /go$i ]; do sleep 0.01; done; \
            echo output-$i; touch /done$i; done; read line; echo typed-$line; sleep 1000";
        let streams = json!({"terminal": {"rows": 24, "cols": 80}});
        let params = json!({"guid": guid, "command": ["sh", "-c", script], "streams": streams});
        let process = rpc.call("subcontainer.spawn", params)["process"].clone();
        let again = || {
            let mut attached = None;
            eventually("it can be attached to again", || {
                attached = attach(&host, &process, "terminal").ok();
                attached.is_some()
            });
            attached.unwrap()
        };
        for i in 1..=5 {
            drop(again());
            fs::write(rootfs(&host, &guid).join(format!("go{i}")), "").unwrap();
            let done = rootfs(&host, &guid).join(format!("done{i}"));
            eventually("it has written", || done.exists());
            read_until(&mut again(), &format!("output-{i}"));
        }
        let mut terminal = again();
        terminal.write_all(b"word\n").unwrap();
        read_until(&mut terminal, "typed-word");
        destroy(&mut rpc, &guid);
    });
}
