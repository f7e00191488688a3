//! What there is not enough of: descriptors, watches, processes, memory, disk.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use tests::{Cli, Host, attacks, eventually, isolated};

use super::rig::{Arena, Attempt, DOORS, Door, GUARDED, KINDS, UNLIMITED, naive};

#[test]
fn s23_commands_that_leave_their_streams_to_others_take_no_descriptors_of_the_host() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let mut host = Host::on(cli);
        host.stop();
        host.start_beneath(&["prlimit", "--nofile=128"]);
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        let streams = json!({"stdin": "pipe", "stdout": "pipe", "stderr": "pipe"});
        let leave = ["sh", "-c", "for i in 1 2 3; do setsid sleep 1000 & done"];
        let params = json!({"guid": guid, "command": leave, "streams": streams});
        for _ in 0..60 {
            // Streams can be attached to for a second after the end: until then there may be no more.
            eventually("there are descriptors again", || {
                let spawned = rpc.try_call("subcontainer.spawn", params.clone());
                let process = spawned.map(|result| result["process"].clone());
                process.is_ok_and(|process| {
                    rpc.try_call("subcontainer.wait", json!({"process": process})).is_ok()
                })
            });
        }
        eventually("there are descriptors again", || {
            rpc.try_call("subcontainer.exec", json!({"guid": guid, "command": ["true"]})).is_ok()
        });
        // The control: the limit is real, and those who ask for more than there are get an error and not an end.
        let params = json!({"guid": guid, "command": ["sleep", "1000"], "streams": streams});
        let refused = (0..64).find_map(|_| rpc.try_call("subcontainer.spawn", params.clone()).err());
        assert!(
            refused.is_some(),
            "the control fails: 64 processes with three pipes each fit into 128 descriptors"
        );
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        let again = rpc.create_fs("busybox");
        assert_eq!(rpc.output(&again, &["echo", "fine"]), "fine\n");
        rpc.call("subcontainer.destroyFs", json!({"guid": again}));
    });
}

#[test]
fn s23_who_takes_every_descriptor_inside_takes_none_of_the_host() {
    isolated(|| {
        let arena = Arena::new();
        for kind in KINDS {
            for door in DOORS {
                let mut rpc = arena.host.connect();
                let guid = arena.rootfs(&mut rpc, kind);
                let path = arena.path(&guid);
                let root = path.to_str().unwrap();
                let take = "/attacks take-descriptors >/taken";
                let cli = arena.host.cli();
                let mut params = GUARDED.launch(&guid, kind);
                let mut child = None;
                match door {
                    Door::Launch => params["command"] = json!(["sh", "-c", take]),
                    Door::Exec | Door::Host => {}
                }
                rpc.call("subcontainer.launch", params);
                match door {
                    Door::Launch => {}
                    Door::Exec => {
                        let mut exec = cli.command(["subcontainer", "exec", root, "sh", "-c", take]);
                        child = Some(exec.stdout(Stdio::null()).spawn().unwrap());
                    }
                    Door::Host => {
                        rpc.call("subcontainer.spawn", json!({"guid": guid, "command": ["sh", "-c", take]}));
                    }
                }
                let taken = || std::fs::read_to_string(path.join("taken")).unwrap_or_default();
                eventually("they are taken", || taken().ends_with('\n'));
                let count: u64 = taken().trim().trim_start_matches("holds ").parse().unwrap();
                // The control: it has taken all that its own limit gives, which is not that of who runs the host.
                assert!((100..1024).contains(&count), "{count}");
                assert_eq!(rpc.output(&guid, &["echo", "fine"]), "fine\n");
                assert_eq!(cli.run(["subcontainer", "exec", root, "echo", "fine"]).ok().out(), "fine");
                rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
                if let Some(mut child) = child {
                    child.wait().unwrap();
                }
            }
        }
        assert!(Path::new("/proc").exists());
    });
}

#[test]
fn s23_who_takes_every_watch_inside_takes_none_of_another() {
    isolated(|| {
        let arena = Arena::new();
        // They are counted for users. (Without a user namespace, root inside is one with the machine's.)
        let [_, userns, ..] = KINDS else { panic!("other kinds") };
        let mut rpc = arena.host.connect();
        let mut guids = Vec::new();
        for _ in 0..2 {
            let guid = arena.rootfs(&mut rpc, userns);
            rpc.call("subcontainer.launch", GUARDED.launch(&guid, userns));
            let take = ["sh", "-c", "ulimit -n $(ulimit -Hn); /attacks take-watches >/taken"];
            rpc.call("subcontainer.spawn", json!({"guid": guid, "command": take}));
            let taken = arena.path(&guid).join("taken");
            eventually("they are taken", || {
                std::fs::read_to_string(&taken).is_ok_and(|text| text.ends_with('\n'))
            });
            assert_ne!(std::fs::read_to_string(&taken).unwrap(), "holds 0\n");
            rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).unwrap();
            guids.push(guid);
        }
        for guid in guids {
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        }
        // Two of one user, who is nobody here.
        let mut children = Vec::new();
        for first in [true, false] {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=54321", "--regid=54321", "--clear-groups"]).arg(attacks::program());
            let mut child = command.arg("take-watches").stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            children.push(child);
            assert_eq!(line != "holds 0\n", first, "the control fails: {line}");
        }
        for mut child in children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    });
}

#[test]
fn s23_who_takes_every_terminal_inside_leaves_some_to_others() {
    isolated(|| {
        let arena = Arena::new();
        Attempt::new(&["take-terminals", "300"]).is_refused(&arena);
        let script = "mount -t devpts -o newinstance,ptmxmode=666 devpts $R/dev; exec chroot $R /attacks take-terminals 300";
        naive(|_| (), script).all_worked();
        // Enough for anybody.
        let fits = Attempt::new(&["take-terminals", "200"]);
        fits.through(&arena, Door::Exec, &KINDS[0], &GUARDED).all_worked();
    });
}

#[test]
fn s23_a_fork_bomb_is_held() {
    isolated(|| {
        let arena = Arena::new();
        let bomb = Attempt::new(&["fork-bomb", "200"]).limited(&[("--pids-limit", "64", "pids", 64)]);
        bomb.is_refused(&arena);
        bomb.works_with(&arena, &UNLIMITED);
    });
}

#[test]
fn s23_a_memory_bomb_is_held() {
    isolated(|| {
        let arena = Arena::new();
        let bomb = Attempt::new(&["memory-bomb", "67108864"])
            .limited(&[("--memory", "32m", "memoryBytes", 32 << 20), ("--swap", "0", "swapBytes", 0)]);
        bomb.is_refused(&arena);
        bomb.works_with(&arena, &UNLIMITED);
    });
}

#[test]
fn s23_files_in_memory_that_is_nobodys_are_held() {
    isolated(|| {
        let arena = Arena::new();
        // Each is of 64 MiB at most, whatever the limits of the container are.
        for directory in ["/dev", "/dev/shm"] {
            Attempt::new(&["fill", directory, "83886080"]).is_refused(&arena);
        }
        let script = "mount -t tmpfs tmpfs $R/dev/shm; exec chroot $R /attacks fill /dev/shm 83886080";
        naive(|_| (), script).all_worked();
    });
}

#[test]
fn s23_a_full_disk_is_the_containers_own() {
    isolated(|| {
        let arena = Arena::new();
        for directory in ["/", "/tmp"] {
            let fill = Attempt::new(&["fill", directory, "50331648"]).sized(32 << 20);
            fill.is_refused(&arena);
            fill.works_with(&arena, &UNLIMITED);
        }
    });
}
