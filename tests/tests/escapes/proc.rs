//! Masked and read-only paths, and what an image or a container puts where an engine mounts, masks or writes.

use std::fs;
use std::path::Path;

use serde_json::json;
use tests::cli::Rootfs;
use tests::{Rpc, isolated, skip};

use super::rig::{
    Arena, Attempt, DOORS, Door, GUARDED, KINDS, MARKER, MAY_MOUNT, bare, mountpoints, naive, outside,
    plant_link,
};

/// Those of the paths that this kernel has, and that are something to whoever is outside.
fn that_are_there<'a>(how: &str, paths: &[&'a str]) -> Vec<&'a str> {
    let there = |path: &&&str| bare(&["kernel-file", how, path]).lines[0].starts_with("worked");
    paths.iter().filter(there).copied().collect()
}

fn cannot(how: &str, paths: &[&str]) {
    let arena = Arena::new();
    let attempt = Attempt::new(&[&["kernel-file", how], paths].concat());
    attempt.is_refused(&arena);
    attempt.works_with(&arena, &MAY_MOUNT);
}

#[test]
fn s6_what_the_machine_tells_is_masked() {
    isolated(|| {
        let paths =
            ["/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/latency_stats", "/sys/firmware"];
        let paths = that_are_there("read", &paths);
        assert!(paths.contains(&"/proc/keys") || paths.contains(&"/proc/timer_list"), "{paths:?}");
        cannot("read", &paths);
    });
}

#[test]
fn s6_the_memory_of_the_kernel_is_masked() {
    isolated(|| {
        if that_are_there("read", &["/proc/kcore"]).is_empty() {
            skip!("this kernel has no /proc/kcore");
        }
        cannot("read", &["/proc/kcore"]);
    });
}

#[test]
fn s6_the_tables_of_the_firmware_are_masked() {
    isolated(|| {
        let paths = that_are_there("read", &["/proc/acpi", "/sys/firmware", "/proc/scsi", "/proc/asound"]);
        if paths.is_empty() {
            skip!("this machine has no firmware that it tells of");
        }
        cannot("read", &paths);
    });
}

#[test]
fn s6_cve_2020_8694_counters_that_tell_of_others_are_masked() {
    isolated(|| {
        let paths = that_are_there("read", &["/proc/interrupts", "/sys/devices/virtual/powercap"]);
        cannot("read", &paths);
    });
}

#[test]
fn s6_nothing_is_read_or_written_through_the_root_of_another_process() {
    isolated(|| {
        let arena = Arena::new();
        Attempt::new(&["reach", MARKER, "0.2"]).is_refused(&arena);
        let words = [
            "sh",
            "-c",
            "cd /proc/1/root/tmp && echo x >>/proc/1/root/tmp/marker; \
            echo x >>/proc/self/root/tmp/marker; echo x >>/proc/self/root/../../tmp/marker; echo refused: done",
        ];
        Attempt::command(&words).is_refused(&arena);
        assert_eq!(fs::read_to_string(MARKER).unwrap(), "a file outside\n");
        // Its /proc shows the shell, pid 1, which still has the root of the machine.
        let script = "mount -t proc proc $R/proc; chroot $R /attacks reach /tmp/marker; true";
        naive(|_| (), script).all_worked();
    });
}

#[test]
fn s6_there_is_no_way_up_from_a_changed_root() {
    isolated(|| {
        let arena = Arena::new();
        Attempt::new(&["chroot-climb", MARKER]).is_refused(&arena);
        naive(|_| (), "exec chroot $R /attacks chroot-climb /tmp/marker").all_worked();
    });
}

#[test]
fn s6_cve_2025_31133_a_false_null_device_does_not_open_what_it_masks() {
    isolated(|| {
        let arena = Arena::new();
        // What an engine binds over masked files is where it links to.
        let target = Path::new("/proc/sys/kernel/domainname");
        let prepare = |root: &Path| plant_link(&root.join("dev/null"), target);
        let masked = [
            "/proc/acpi",
            "/proc/asound",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/sched_debug",
            "/proc/scsi",
            "/proc/sysrq-trigger",
            "/sys/firmware",
        ];
        Attempt::new(&[&["masks"], &masked[..]].concat()).prepared(prepare).is_refused(&arena);
        let script = "mount -t proc proc $R/proc; mount --bind $R/dev/null $R/proc/keys; \
            exec chroot $R /attacks masks /proc/keys";
        naive(prepare, script).all_worked();
        // Not because of anything else.
        naive(|_| (), &script.replace("$R/dev/null", "/dev/null")).all_refused();
        // Nor is it taken for a standard stream.
        let before = fs::read_to_string(target).unwrap();
        let words = ["sh", "-c", "echo evil; echo refused: done"];
        Attempt::command(&words).prepared(prepare).is_refused(&arena);
        assert_eq!(fs::read_to_string(target).unwrap(), before);
    });
}

#[test]
fn s6_cve_2025_52565_a_false_console_draws_no_mount_outside() {
    isolated(|| {
        let arena = Arena::new();
        let prepare = |root: &Path| {
            for name in ["console", "ptmx", "tty", "pts"] {
                plant_link(&root.join("dev").join(name), MARKER);
            }
        };
        let before = mountpoints();
        for kind in KINDS {
            let mut rpc = arena.host.connect();
            let guid = arena.rootfs(&mut rpc, kind);
            let path = arena.path(&guid);
            prepare(&path);
            let cli = arena.host.cli();
            let root = path.to_str().unwrap();
            let flags = [&["subcontainer", "launch", "--force-tty"], kind.flags].concat();
            let by_cli = cli.run([&flags[..], &[root, "/attacks", "reach", MARKER]].concat()).ok();
            assert!(by_cli.out().starts_with("refused"), "{}", by_cli.out());
            let params = json!({"guid": guid, "streams": {"terminal": {"rows": 9, "cols": 9}}, "command": ["sleep", "9"]});
            rpc.call("subcontainer.launch", params);
            let exec = ["subcontainer", "exec", "--force-tty", root, "sh", "-c", "tty && readlink /dev/ptmx"];
            assert_eq!(cli.run(exec).ok().out().replace('\r', "").lines().last(), Some("pts/ptmx"));
            assert_eq!(fs::read_to_string(MARKER).unwrap(), "a file outside\n");
            arena.destroy(&mut rpc, &guid);
            assert_eq!(mountpoints(), before);
        }
        // The bind of a console by a path: it lands on the file outside.
        let script = "mount --bind /dev/null $R/dev/console; \
            test -c /tmp/marker && echo worked: /tmp/marker is a device now || echo refused: it is a file";
        naive(prepare, script).all_worked();
    });
}

#[test]
fn s6_cve_2025_52565_a_terminal_comes_from_a_devpts_and_from_nothing_else() {
    isolated(|| {
        let arena = Arena::new();
        let mut rpc = arena.host.connect();
        let guid = arena.rootfs(&mut rpc, &KINDS[0]);
        // It may mount: the most that root inside can be given.
        rpc.call("subcontainer.launch", MAY_MOUNT.launch(&guid, &KINDS[0]));
        let exec = |command: &[&str]| {
            let path = arena.path(&guid);
            let words = [&["subcontainer", "exec", "--force-tty", path.to_str().unwrap()], command].concat();
            arena.host.cli().run(words)
        };
        assert_eq!(exec(&["echo", "fine"]).ok().out().trim(), "fine");
        let link = "umount /dev/pts; rm -r /dev/pts && ln -s /tmp/pts /dev/pts && mkdir /tmp/pts && mkfifo /tmp/pts/ptmx";
        for (fake, kind) in [
            ("mount -t tmpfs tmpfs /dev/pts && mkfifo /dev/pts/ptmx", "escape"),
            ("umount /dev/pts && mkfifo /dev/pts/ptmx", "escape"),
            (link, "escape"),
        ] {
            rpc.output(&guid, &["sh", "-c", fake]);
            let said = exec(&["echo", "fine"]).failed(125);
            assert!(said.contains("open terminal"), "{fake}: {said}");
            let streams = json!({"terminal": {"rows": 9, "cols": 9}});
            let params = json!({"guid": guid, "command": ["true"], "streams": streams});
            let error = rpc.call_fails("subcontainer.spawn", params);
            assert_eq!(error.kind(), kind, "{fake}: {error:?}");
            rpc.output(&guid, &["sh", "-c", "umount /dev/pts 2>/dev/null; true"]);
        }
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

/// Files that an engine writes to, or reads its decisions from, in the /proc that it finds.
const FALSE_PROC: [&str; 9] = [
    "self/attr/exec",
    "self/attr/current",
    "self/attr/apparmor/exec",
    "thread-self/attr/exec",
    "self/oom_score_adj",
    "self/setgroups",
    "self/uid_map",
    "1/oom_score_adj",
    "sys/kernel/domainname",
];

#[test]
fn s6_cve_2019_16884_and_cve_2025_52881_a_false_proc_takes_no_write_of_ours_and_unmasks_nothing() {
    isolated(|| {
        let arena = Arena::new();
        let volume = arena.host.data().join("volumes/main");
        let fill = |tree: &Path| {
            for name in FALSE_PROC {
                fs::create_dir_all(tree.join(name).parent().unwrap()).unwrap();
                fs::write(tree.join(name), "bait").unwrap();
            }
        };
        fill(&volume);
        // The image says that /data is /proc; the operator mounts a volume at /data.
        let prepare = |root: &Path| {
            fs::remove_dir_all(root.join("data")).ok();
            plant_link(&root.join("data"), "/proc");
        };
        let mount = json!({"source": {"type": "volume", "volumeId": "main"}, "mountpoint": "/data"});
        let paths = ["/proc/keys", "/proc/timer_list", "/sys/firmware"];
        let attempt = Attempt::new(&[&["kernel-file", "read"], &paths[..]].concat());
        attempt.prepared(prepare).mounted(mount.clone()).is_refused(&arena);
        // And while it runs: over the real /proc, launched by each; and mounted by root inside, who may.
        let cli = arena.host.cli();
        let enter = |rpc: &mut Rpc, rootfs: &Rootfs| {
            for _ in 0..3 {
                let params = json!({"guid": rootfs.guid, "command": ["true"], "options": {"user": "user"}});
                rpc.call("subcontainer.exec", params);
                cli.exec(rootfs, &["--user", "user"], &["true"]).ok();
                // There may be no devpts where it was.
                cli.exec(rootfs, &["--force-tty"], &["true"]);
            }
        };
        let [plain, userns, ..] = KINDS else { panic!("other kinds") };
        for (door, relaxed, kind) in [
            (Door::Host, GUARDED, plain),
            (Door::Host, GUARDED, userns),
            (Door::Launch, GUARDED, plain),
            (Door::Launch, GUARDED, userns),
            (Door::Host, MAY_MOUNT, plain),
        ] {
            let mut rpc = arena.host.connect();
            let guid = arena.rootfs(&mut rpc, kind);
            let path = arena.path(&guid);
            prepare(&path);
            let rootfs = Rootfs { guid: guid.clone(), path: path.to_str().unwrap().to_owned() };
            let mut running = None;
            if door == Door::Launch {
                running = Some(cli.launch(&rootfs, kind.flags, &[]));
            } else {
                rpc.call("subcontainer.launch", relaxed.launch(&guid, kind));
            }
            if relaxed.unconfined {
                fill(&path.join("bait"));
                rpc.output(&guid, &["mount", "--bind", "/bait", "/proc"]);
            } else {
                let mounted = rpc.try_call("subcontainer.mount", json!({"guid": guid, "mount": mount}));
                // A leader of the command line has its /proc on the host's side too: that place is taken.
                assert_eq!(mounted.is_err(), door == Door::Launch, "{mounted:?}");
            }
            enter(&mut rpc, &rootfs);
            let bait = if relaxed.unconfined { path.join("bait") } else { volume.clone() };
            for name in FALSE_PROC {
                assert_eq!(fs::read_to_string(bait.join(name)).unwrap(), "bait", "{name} was written to");
            }
            drop(running);
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        }
        // What engines do once they are inside: they write to what they take for their own process.
        let script = "(root=$R; echo unconfined >$root/proc/self/attr/exec); \
            grep -q unconfined $R/proc/self/attr/exec && echo worked: it wrote to the bait || echo refused: not";
        naive(|root| fill(&root.join("proc")), script).all_worked();
        // And a mask on a /proc that is not one masks nothing of the one that is mounted later.
        let script = "touch $R/proc/keys; mount --bind /dev/null $R/proc/keys; mount -t proc proc $R/proc; \
            exec chroot $R /attacks kernel-file read /proc/keys";
        naive(|_| (), script).all_worked();
    });
}

#[test]
fn s11_cve_2019_19921_a_link_for_a_mountpoint_of_ours_draws_no_mount_outside() {
    isolated(|| {
        let arena = Arena::new();
        fs::create_dir_all("/tmp/outside/pts").unwrap();
        let before = mountpoints();
        let names = ["proc", "sys", "dev", "run", "dev/pts", "dev/shm"];
        for (name, kind) in names.into_iter().flat_map(|name| KINDS.iter().map(move |kind| (name, kind))) {
            let prepare = |root: &Path| plant_link(&root.join(name), "/tmp/outside");
            let mut rpc = arena.host.connect();
            let guid = arena.rootfs(&mut rpc, kind);
            let path = arena.path(&guid);
            prepare(&path);
            let root = path.to_str().unwrap();
            for flags in [&[][..], &["--shared-dev-sys", "--shared-run"]] {
                let words =
                    [&["subcontainer", "launch"], flags, &[root, "/attacks", "reach", MARKER]].concat();
                let by_cli = arena.host.cli().run(words);
                assert!(
                    by_cli.code == 125 || by_cli.out().starts_with("refused"),
                    "{name}: {}",
                    by_cli.out()
                );
            }
            let by_host =
                rpc.try_call("subcontainer.exec", json!({"guid": guid, "command": ["ls", "/tmp/outside"]}));
            if let Ok(result) = by_host {
                assert_ne!(result["outcome"], json!({"kind": "exit", "code": 0}), "{name}");
            }
            arena.destroy(&mut rpc, &guid);
            assert_eq!(mountpoints(), before, "{name}");
            assert_eq!(fs::read_dir("/tmp/outside").unwrap().count(), 1, "{name}");
        }
        let script = "mount -t proc proc $R/proc; \
            test -e /tmp/outside/self && echo worked: mounted outside || echo refused: not";
        naive(|root| plant_link(&root.join("proc"), "/tmp/outside"), script).all_worked();
        fs::remove_dir_all("/tmp/outside").unwrap();
    });
}

#[test]
fn s11_no_directory_is_made_outside_for_a_working_directory() {
    isolated(|| {
        let arena = Arena::new();
        fs::create_dir("/tmp/outside").unwrap();
        for kind in KINDS {
            for door in DOORS {
                let mut rpc = arena.host.connect();
                let guid = arena.rootfs(&mut rpc, kind);
                let path = arena.path(&guid);
                plant_link(&path.join("away"), "/tmp/outside");
                plant_link(&path.join("up"), "../../../../../../../../tmp/outside");
                let root = path.to_str().unwrap();
                for cwd in ["/away/new", "/up/new", "/../../../../../../../tmp/outside/new"] {
                    let mut params = GUARDED.launch(&guid, kind);
                    params["command"] = json!(["true"]);
                    params["options"] = json!({"cwd": cwd});
                    let flags =
                        [&["subcontainer", "launch", "--workdir", cwd], kind.flags, &[root, "true"]].concat();
                    match door {
                        Door::Launch => drop(arena.host.cli().run(flags)),
                        Door::Exec => continue,
                        Door::Host => drop(rpc.try_call("subcontainer.launch", params)),
                    }
                }
                rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
            }
        }
        assert_eq!(fs::read_dir("/tmp/outside").unwrap().count(), 0);
        let script =
            "mkdir -p $R/away/new; test -d /tmp/outside/new && echo worked: made || echo refused: not";
        naive(|root| plant_link(&root.join("away"), "/tmp/outside"), script).all_worked();
        outside(&["rm", "-r", "/tmp/outside"]);
    });
}
