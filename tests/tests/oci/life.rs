//! A container's life by its commands, and what is said when something is wrong.

use std::fs;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tests::{eventually, isolated};

use crate::rig::{Bundle, finish};

#[test]
fn o1_a_container_is_created_started_killed_and_deleted() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.sh("echo started; exec sleep 1000");
        bundle.config["annotations"] = json!({"a.b": "c"});
        let pid_file = bundle.path().join("pid");
        bundle.create("one", &["--pid-file", pid_file.to_str().unwrap()]).ok();
        let state: Value = serde_json::from_str(&bundle.ours(&["state", "one"]).ok().out()).unwrap();
        assert_eq!(state["status"], "created");
        assert_eq!(state["id"], "one");
        assert_eq!(state["bundle"], bundle.path().to_str().unwrap());
        assert_eq!(state["annotations"]["a.b"], "c");
        assert_eq!(state["pid"].to_string(), fs::read_to_string(&pid_file).unwrap());
        assert_eq!(bundle.said(), "", "nothing runs before start");
        assert_eq!(bundle.status("one"), "created", "looking does not start it");
        let early = bundle.ours(&["delete", "one"]);
        assert!(early.code != 0 && early.err().contains("not stopped: created"), "{}", early.err());

        let again = bundle.create("one", &[]);
        assert!(again.code != 0 && again.err().contains("already exists"), "{}", again.err());
        bundle.ours(&["start", "one"]).ok();
        eventually("it runs", || bundle.said() == "started\n");
        assert_eq!(bundle.status("one"), "running");
        let twice = bundle.ours(&["start", "one"]);
        assert!(twice.code != 0 && twice.err().contains("already running"), "{}", twice.err());
        let running = bundle.ours(&["delete", "one"]);
        assert!(running.code != 0 && running.err().contains("not stopped"), "{}", running.err());
        assert!(bundle.ours(&["list"]).ok().out().contains("one"));
        assert_eq!(bundle.ours(&["list", "--quiet"]).ok().out(), "one");

        bundle.ours(&["kill", "one", "KILL"]).ok();
        eventually("it stops", || bundle.status("one") == "stopped");
        let dead = bundle.ours(&["kill", "one", "TERM"]);
        assert!(dead.code != 0 && dead.err().contains("not running"), "{}", dead.err());
        bundle.ours(&["delete", "one"]).ok();
        let gone = bundle.ours(&["state", "one"]);
        assert!(gone.code != 0 && gone.err().contains("does not exist"), "{}", gone.err());
        bundle.ours(&["delete", "--force", "one"]).ok();
    });
}

#[test]
fn o1_commands_run_beside_the_first_one() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.config["process"]["args"] = json!(["sleep", "1000"]);
        bundle.create("one", &[]).ok();
        bundle.ours(&["start", "one"]).ok();
        let said = bundle.ours(&[
            "exec",
            "--user",
            "5:6",
            "-g",
            "7",
            "--cwd",
            "/etc",
            "-e",
            "A=b",
            "one",
            "sh",
            "-c",
            "id -u; id -g; pwd; echo $A; cat /proc/1/comm; exit 9",
        ]);
        assert_eq!((said.code, said.out().as_str()), (9, "5\n6\n/etc\nb\nsleep"));
        let process = bundle.path().join("process.json");
        let text = json!({"args": ["sh", "-c", "grep Cap /proc/self/status; grep -c . /proc/self/cgroup"], "cwd": "/",
            "env": ["PATH=/bin"], "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}});
        fs::write(&process, text.to_string()).unwrap();
        let said = bundle.ours(&["exec", "--process", process.to_str().unwrap(), "one"]).ok().out();
        assert!(said.contains("CapEff:\t0000000000000020"), "{said}");
        let missing = bundle.ours(&["exec", "one", "nope"]);
        assert_eq!(missing.code, 255);
        assert!(missing.err().contains("executable file not found in $PATH"), "{}", missing.err());

        let pid_file = bundle.path().join("pid");
        // It keeps what it is given open: nobody can wait for the end of that.
        let mut detached = bundle.runtime("ours");
        detached.args(["exec", "-d", "--pid-file", pid_file.to_str().unwrap(), "one", "sleep", "999"]);
        assert!(detached.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap().success());
        let pid = fs::read_to_string(&pid_file).unwrap();
        let pids: Vec<u32> =
            serde_json::from_str(&bundle.ours(&["ps", "--format", "json", "one"]).ok().out()).unwrap();
        assert_eq!(pids.len(), 2);
        assert!(pids.contains(&pid.parse().unwrap()));
        assert!(bundle.ours(&["ps", "one"]).ok().out().contains("sleep 999"));

        bundle.ours(&["pause", "one"]).ok();
        assert_eq!(bundle.status("one"), "paused");
        let paused = bundle.ours(&["exec", "one", "true"]);
        assert!(paused.code == 255 && paused.err().contains("paused"), "{}", paused.err());
        bundle.ours(&["resume", "one"]).ok();
        bundle.ours(&["exec", "one", "true"]).ok();

        bundle.ours(&["update", "--memory", "64m", "--pids-limit", "30", "one"]).ok();
        let stats: Value =
            serde_json::from_str(&bundle.ours(&["events", "--stats", "one"]).ok().out()).unwrap();
        assert_eq!(stats["data"]["memory"]["usage"]["limit"], 64 << 20);
        assert_eq!(stats["data"]["pids"]["limit"], 30);
        let too_much = bundle.ours(&["update", "--memory", "much", "one"]);
        assert!(too_much.code != 0 && too_much.err().contains("read size much"), "{}", too_much.err());
        bundle.ours(&["delete", "--force", "one"]).ok();
    });
}

#[test]
fn o1_a_container_that_somebody_waits_for_is_everybodys() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.sh("echo; exec sleep 1000");
        for delete in [false, true] {
            let mut waiting = bundle.runtime("ours");
            let mut waiting = waiting.args(["run", "one"]).stdout(Stdio::piped()).spawn().unwrap();
            waiting.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            bundle.ours(&["pause", "one"]).ok();
            bundle.ours(&["resume", "one"]).ok();
            bundle.ours(&["update", "--pids-limit", "30", "one"]).ok();
            bundle.ours(if delete { &["delete", "--force", "one"] } else { &["kill", "one", "KILL"] }).ok();
            assert_eq!(waiting.wait().unwrap().code(), Some(137));
            assert!(bundle.ours(&["state", "one"]).err().contains("does not exist"));
        }
    });
}

#[test]
fn o1_hooks_run_at_their_points_with_the_state_on_their_input() {
    isolated(|| {
        let mut bundle = Bundle::new();
        let log = bundle.path().join("hooks.log");
        let outside = |name: &str| {
            let script = format!(
                "read state; echo {name} $(echo $state | sed 's/.*\"status\":\"\\([a-z]*\\)\".*/\\1/') >> {}",
                log.display()
            );
            json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "timeout": 10}])
        };
        bundle.config["hooks"] = json!({
            "prestart": outside("prestart"), "createRuntime": outside("createRuntime"),
            // Its path is the machine's, its namespaces are the container's.
            "createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", format!("echo createContainer $(hostname) >> {}", log.display())],
                "env": ["PATH=/usr/bin:/bin"]}],
            "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "read state; echo startContainer > /from-hook; test -e /bin/busybox"]}],
            "poststart": outside("poststart"), "poststop": outside("poststop"),
        });
        bundle.config["root"]["readonly"] = json!(false);
        bundle.config["hostname"] = json!("inside");
        bundle.sh("cat /from-hook");
        let said = bundle.run("ours").ok();
        assert_eq!(said.out(), "startContainer");
        assert_eq!(
            fs::read_to_string(&log).unwrap(),
            "prestart created\ncreateRuntime creating\ncreateContainer inside\npoststart running\npoststop stopped\n"
        );

        // One that fails takes the container with it.
        bundle.config["hooks"] =
            json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo because >&2; exit 3"]}]});
        let failed = bundle.create("two", &[]);
        assert!(failed.code != 0 && failed.err().contains("hooks.createRuntime[0]"), "{}", failed.err());
        assert!(failed.err().contains("because"), "{}", failed.err());
        assert!(bundle.ours(&["state", "two"]).err().contains("does not exist"));
        bundle.config["hooks"] =
            json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]});
        let slow = bundle.create("two", &[]);
        assert!(slow.code != 0 && slow.err().contains("did not end in its time"), "{}", slow.err());
        bundle.config["hooks"] = json!({"poststop": [{"path": "relative"}]});
        let bad = bundle.create("two", &[]);
        assert!(bad.code != 0 && bad.err().contains("hooks.poststop[0]"), "{}", bad.err());
    });
}

#[test]
fn o1_a_terminal_is_given_to_whoever_listens() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.sh("tty; stty size; test -t 2 && ls -l /dev/console | cut -c1; cat");
        bundle.config["process"]["terminal"] = json!(true);
        bundle.config["process"]["consoleSize"] = json!({"height": 33, "width": 99});
        let alone = bundle.create("one", &[]);
        assert!(alone.code != 0 && alone.err().contains("--console-socket"), "{}", alone.err());
        let path = bundle.path().join("console");
        let listener = UnixListener::bind(&path).unwrap();
        bundle.create("one", &["--console-socket", path.to_str().unwrap()]).ok();
        let master = receive(&listener);
        bundle.ours(&["start", "one"]).ok();
        let mut master = fs::File::from(master);
        let mut said = String::new();
        let mut buffer = [0; 256];
        while !said.contains("c\r\n") {
            let count = master.read(&mut buffer).unwrap();
            said.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        assert_eq!(said, "/dev/pts/0\r\n33 99\r\nc\r\n");
        bundle.ours(&["delete", "--force", "one"]).ok();
    });
}

pub(crate) fn receive(listener: &UnixListener) -> OwnedFd {
    let (connection, _) = listener.accept().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 64];
    let mut message = [std::io::IoSliceMut::new(&mut bytes)];
    rustix::net::recvmsg(connection.as_fd(), &mut message, &mut control, rustix::net::RecvFlags::empty())
        .unwrap();
    let fds = control.drain().find_map(|message| match message {
        rustix::net::RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fds.expect("a descriptor")
}

#[test]
fn o1_clocks_of_a_time_namespace_are_moved() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        bundle.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}});
        bundle.sh("cut -d. -f1 /proc/uptime");
        let uptime: u64 = bundle.run("ours").ok().out().parse().unwrap();
        assert!(uptime > 1_000_000, "{uptime}");
    });
}

#[test]
fn o1_root_of_a_user_namespace_owns_its_namespaces_and_files() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        for map in ["uidMappings", "gidMappings"] {
            bundle.config["linux"][map] = json!([{"containerID": 0, "hostID": 300_000, "size": 65536}]);
        }
        bundle.config["root"]["readonly"] = json!(false);
        bundle.config["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]);
        bundle.config["process"]["capabilities"]["effective"] = json!(["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]);
        bundle.config["process"]["capabilities"]["permitted"] = json!(["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]);
        let chowned =
            Command::new("chown").args(["-R", "300000:300000"]).arg(bundle.rootfs()).status().unwrap();
        assert!(chowned.success());
        fs::set_permissions(bundle.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        bundle.sh("cat /proc/self/uid_map; stat -c %u /proc/1 /dev/null /dev/shm; touch /made; hostname owned && hostname; \
            mount -t tmpfs tmpfs /tmp && echo mounted; ip link set lo up && echo up");
        let said = bundle.run("ours").ok().out();
        let lines: Vec<&str> = said.lines().map(str::trim).collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["0", "300000", "65536"]);
        assert_eq!(lines[1..], ["0", "65534", "0", "owned", "mounted", "up"], "{said}");
        let made = fs::metadata(bundle.rootfs().join("made")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 300_000);
    });
}

#[test]
fn o1_ids_of_a_mount_are_mapped() {
    isolated(|| {
        let mut bundle = Bundle::new();
        let source = bundle.path().join("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("file"), "").unwrap();
        std::os::unix::fs::chown(source.join("file"), Some(1000), Some(1000)).unwrap();
        let map = json!([{"containerID": 1000, "hostID": 2000, "size": 1}]);
        bundle.config["mounts"].as_array_mut().unwrap().push(json!({"destination": "/m", "type": "bind",
            "source": source, "options": ["bind", "idmap"], "uidMappings": map, "gidMappings": map}));
        bundle.sh("stat -c %u:%g /m/file");
        assert_eq!(bundle.run("ours").ok().out(), "2000:2000");
    });
}

#[test]
fn o1_recursive_attributes_reach_the_mounts_beneath() {
    isolated(|| {
        let mut bundle = Bundle::new();
        let source = bundle.path().join("source");
        fs::create_dir_all(source.join("beneath")).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(source.join("beneath"))
            .status()
            .unwrap();
        assert!(mounted.success());
        for (option, refused) in [("ro", false), ("rro", true)] {
            let mounts = bundle.config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["destination"] != "/m");
            mounts.push(
                json!({"destination": "/m", "type": "bind", "source": source, "options": ["rbind", option]}),
            );
            bundle.sh("touch /m/x 2>/dev/null; echo $?; touch /m/beneath/x 2>/dev/null; echo $?");
            let said = bundle.run("ours").ok().out();
            assert_eq!(said, if refused { "1\n1" } else { "1\n0" }, "{option}");
        }
        let unmounted = Command::new("umount").arg(source.join("beneath")).status().unwrap();
        assert!(unmounted.success());
    });
}

#[test]
fn o1_descriptors_are_preserved_only_when_asked_for() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.sh("cat <&3; ls /proc/self/fd | wc -l");
        let ours = bundle.runtime("ours");
        let run = |flags: &str| {
            let script = format!(
                "{} --root {} run {flags} --bundle {} fds 3<<< hello",
                ours.get_program().display(),
                bundle.path().join("state").display(),
                bundle.path().display()
            );
            finish(Command::new("bash").args(["-c", &script]))
        };
        assert_eq!(run("--preserve-fds 1").ok().out(), "hello\n5");
        let without = run("");
        assert!(!without.out().contains("hello"), "{}", without.out());
    });
}

#[test]
fn o1_failures_are_logged_as_engines_read_them() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.config["process"]["args"] = json!(["/nope"]);
        let log = bundle.path().join("log");
        let mut command = bundle.runtime("ours");
        command.arg("--log").arg(&log).args(["--log-format", "json", "create", "one"]);
        let failed = finish(&mut command);
        assert_eq!(failed.code, 1);
        let line: Value =
            serde_json::from_str(fs::read_to_string(&log).unwrap().lines().next().unwrap()).unwrap();
        assert_eq!(line["level"], "error");
        assert!(line["msg"].as_str().unwrap().contains("no such file or directory"), "{line}");
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    });
}

#[test]
fn o1_what_is_wrong_with_a_config_is_said_by_field_and_nothing_is_made() {
    isolated(|| {
        for (pointer, value, field) in [
            ("/process/cwd", json!("here"), "process.cwd"),
            ("/process/args", json!([]), "process.args"),
            ("/linux/namespaces", json!([{"type": "mount"}, {"type": "moon"}]), "linux.namespaces[1].type"),
            ("/mounts/0/destination", json!(""), "mounts[0].destination"),
            ("/linux/maskedPaths", json!("all"), "linux.maskedPaths"),
            ("/root/path", json!("nowhere"), "root.path"),
            ("/ociVersion", json!("3.0.0"), "ociVersion"),
        ] {
            let mut bundle = Bundle::new();
            *bundle.config.pointer_mut(pointer).unwrap() = value;
            let failed = bundle.create("one", &[]);
            assert!(failed.code != 0 && failed.err().contains(field), "{pointer}: {}", failed.err());
            assert!(bundle.ours(&["state", "one"]).err().contains("does not exist"));
        }
        let bundle = Bundle::new();
        for id in ["", "../one", "a/b", "."] {
            let failed = bundle.ours(&["create", id]);
            assert!(
                failed.code != 0 && failed.err().contains("invalid container ID"),
                "{id}: {}",
                failed.err()
            );
        }
    });
}

#[test]
fn o1_features_tell_what_the_code_does() {
    let bundle = Bundle::new();
    let features: Value = serde_json::from_str(&bundle.ours(&["features"]).ok().out()).unwrap();
    let words = features["mountOptions"].as_array().unwrap();
    for word in ["rro", "tmpcopyup", "ridmap", "rslave", "nosymfollow"] {
        assert!(words.contains(&json!(word)), "{word}");
    }
    assert_eq!(features["linux"]["cgroup"]["systemd"], true);
    assert_eq!(features["linux"]["namespaces"].as_array().unwrap().len(), 8);
}

#[test]
fn o1_an_agent_is_asked_about_system_calls() {
    isolated(|| {
        let mut bundle = Bundle::new();
        let agent = bundle.path().join("agent");
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("oci/agent.c");
        let built = Command::new("gcc").args(["-Wall", "-o"]).arg(&agent).arg(source).status().unwrap();
        assert!(built.success());
        let door = bundle.path().join("door");
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": door, "listenerMetadata": "for the agent",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]});
        bundle.sh("mkdir /tmp/x 2>&1 | cut -d: -f3-");
        let without = bundle.run("ours");
        assert!(without.code != 0 && without.err().contains("listenerPath"), "{}", without.err());
        for no_new_privileges in [true, false] {
            bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            let asked = Command::new(&agent).arg(&door).stdout(Stdio::piped()).spawn().unwrap();
            eventually("the agent listens", || door.exists());
            std::thread::sleep(std::time::Duration::from_millis(50));
            // By run, and by create and start.
            if no_new_privileges {
                assert_eq!(bundle.run("ours").ok().out(), " No medium found");
            } else {
                bundle.create("two", &[]).ok();
                bundle.ours(&["start", "two"]).ok();
                eventually("it is told", || bundle.said() == " No medium found\n");
                bundle.ours(&["delete", "--force", "two"]).ok();
            }
            let said = asked.wait_with_output().unwrap();
            let state: Value = serde_json::from_slice(&said.stdout).unwrap();
            assert_eq!(state["metadata"], "for the agent");
            assert_eq!(state["fds"], json!(["seccompFd"]));
            assert_eq!(state["state"]["pid"], state["pid"]);
            fs::remove_file(&door).unwrap();
        }
    });
}

#[test]
fn o1_an_io_priority_is_given() {
    // Debian's runc and crun are too old to know it.
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
        bundle.sh("ionice -p 1");
        assert!(bundle.run("ours").ok().out().starts_with("idle"));
    });
}

#[test]
fn o1_a_policy_of_scheduling_is_given() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
        // proc_pid_stat(5): nice, policy.
        bundle.sh("cut -d' ' -f19,41 /proc/1/stat");
        assert_eq!(bundle.run("ours").ok().out(), "5 3");
        bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_FLY"]});
        assert!(bundle.run("ours").err().contains("process.scheduler.flags"));
    });
}

#[test]
fn o1_processors_of_a_command_are_those_it_is_given() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.sh("exec sleep 1000");
        bundle.create("one", &[]).ok();
        bundle.ours(&["start", "one"]).ok();
        let process = bundle.path().join("process.json");
        let run = |affinity: Value| {
            let text = json!({"args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "cwd": "/",
                "env": ["PATH=/bin"], "execCPUAffinity": affinity});
            fs::write(&process, text.to_string()).unwrap();
            bundle.ours(&["exec", "--process", process.to_str().unwrap(), "one"])
        };
        assert_eq!(run(json!({"initial": "0", "final": "0"})).ok().out(), "Cpus_allowed_list:\t0");
        let bad = run(json!({"final": "0-"}));
        assert!(bad.code == 255 && bad.err().contains("execCPUAffinity.final"), "{}", bad.err());
        bundle.ours(&["delete", "--force", "one"]).ok();
    });
}

#[test]
fn o1_a_policy_of_memory_is_given_where_the_machine_has_nodes() {
    isolated(|| {
        let mut bundle = Bundle::new();
        bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0"});
        bundle.sh("grep -c bind:0 /proc/1/numa_maps");
        let said = bundle.run("ours");
        if fs::exists("/proc/self/numa_maps").unwrap() {
            assert_ne!(said.ok().out(), "0");
        } else {
            assert!(said.code != 0 && said.err().contains("memory policy"), "{}", said.err());
        }
        bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "zero"});
        assert!(bundle.run("ours").err().contains("linux.memoryPolicy.nodes"));
    });
}

#[test]
fn o1_a_user_who_is_not_root_is_told_so_and_leaves_nothing() {
    isolated(|| {
        let bundle = Bundle::new();
        bundle.runtime("ours");
        for path in [bundle.path(), &bundle.rootfs()] {
            std::os::unix::fs::chown(path, Some(4711), Some(4711)).unwrap();
        }
        // Where everybody can execute it.
        let program = bundle.path().join("own/start-container-oci");
        fs::create_dir(bundle.path().join("own")).unwrap();
        fs::copy(tests::cli::binary(), &program).unwrap();
        let mut own = Command::new("setpriv");
        own.args(["--reuid", "4711", "--regid", "4711", "--clear-groups", "--"]);
        own.arg(program).args(["run", "one"]).current_dir(bundle.path());
        let said = finish(own.env("XDG_RUNTIME_DIR", bundle.path()));
        assert!(said.code == 1 && said.err().contains("this needs root"), "{}", said.err());
        assert!(!bundle.path().join("start-container").exists());
    });
}

#[test]
fn o1_a_program_that_only_a_capability_allows_is_executed() {
    isolated(|| {
        let mut bundle = Bundle::new();
        let program = bundle.rootfs().join("bin/busybox-own");
        fs::copy(bundle.rootfs().join("bin/busybox"), &program).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o744)).unwrap();
        bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        bundle.config["process"]["args"] = json!(["busybox-own", "echo", "ran"]);
        let refused = bundle.run("ours");
        assert!(refused.code != 0 && refused.err().contains("permission denied"), "{}", refused.err());
        for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
            bundle.config["process"]["capabilities"][set] = json!(["CAP_DAC_OVERRIDE"]);
        }
        assert_eq!(bundle.run("ours").ok().out(), "ran");
    });
}

#[test]
fn o1_a_script_whose_interpreter_is_missing_is_not_said_to_be_missing() {
    isolated(|| {
        let mut bundle = Bundle::new();
        let script = bundle.rootfs().join("bin/script");
        fs::write(&script, "#!/no/such/thing\n").unwrap();
        fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let said = |failed: tests::Finished| {
            let text = "exec /bin/script: no such file or directory: the interpreter";
            assert!(failed.code != 0 && failed.err().contains(text), "{}", failed.err());
        };
        bundle.config["process"]["args"] = json!(["/bin/script"]);
        said(bundle.run("ours"));
        bundle.create("one", &[]).ok();
        said(bundle.ours(&["start", "one"]));
        bundle.ours(&["delete", "--force", "one"]).ok();
        bundle.sh("exec sleep 1000");
        bundle.create("two", &[]).ok();
        bundle.ours(&["start", "two"]).ok();
        said(bundle.ours(&["exec", "two", "/bin/script"]));
        bundle.ours(&["delete", "--force", "two"]).ok();
    });
}
