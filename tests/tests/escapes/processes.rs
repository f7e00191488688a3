//! Processes outside: their signals, memory, descriptors, limits, sockets.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::json;
use tests::rpc::bytes;
use tests::{attacks, isolated};

use super::rig::{Arena, Attempt, DOORS, Door, GUARDED, KINDS, UNLIMITED, bare, naive};

/// A process outside whose number no process inside has. Killed on drop.
struct Victim(Child);

impl Victim {
    fn new(above: u32) -> Self {
        // A number that is not taken inside, so that what is found there is nobody else.
        fs::write("/proc/sys/kernel/ns_last_pid", above.to_string()).unwrap();
        let child = Command::new(attacks::program()).arg("victim").spawn().unwrap();
        let victim = Self(child);
        tests::eventually("the victim runs its program", || {
            fs::read_to_string(format!("/proc/{}/cmdline", victim.0.id()))
                .is_ok_and(|text| text.contains("victim"))
        });
        victim
    }

    fn lives(&mut self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        self.0.try_wait().unwrap().is_none() && stat.contains(") S ")
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// No process outside can be named: the control is the same attempt by somebody in its pid namespace.
fn cannot(how: &[&str]) {
    let arena = Arena::new();
    let mut victim = Victim::new(20_000);
    let pid = victim.0.id().to_string();
    for how in how {
        Attempt::new(&["outer", how, &pid]).is_refused(&arena);
        assert!(victim.lives(), "{how}");
    }
    for how in how {
        let another = Victim::new(21_000);
        bare(&["outer", how, &another.0.id().to_string()]).all_worked();
    }
}

#[test]
fn s6_no_process_outside_is_signalled() {
    isolated(|| cannot(&["signal", "owner"]));
}

#[test]
fn s6_no_process_outside_is_traced() {
    isolated(|| cannot(&["ptrace"]));
}

#[test]
fn s6_no_descriptor_is_taken_from_a_process_outside() {
    isolated(|| cannot(&["pidfd"]));
}

#[test]
fn s6_no_memory_of_a_process_outside_is_read() {
    isolated(|| cannot(&["memory"]));
}

#[test]
fn s6_no_limit_of_a_process_outside_is_seen() {
    isolated(|| cannot(&["limits"]));
}

#[test]
fn s6_signals_to_all_reach_nobody_outside() {
    isolated(|| {
        let arena = Arena::new();
        let mut victim = Victim::new(20_000);
        let cli = arena.host.cli();
        for kind in KINDS {
            for door in DOORS {
                for signal in ["9", "15"] {
                    let mut rpc = arena.host.connect();
                    let guid = arena.rootfs(&mut rpc, kind);
                    let path = arena.path(&guid);
                    let path = path.to_str().unwrap();
                    let attack = ["/attacks", "signal-all", signal];
                    let by_launch = [&["subcontainer", "launch"], kind.flags, &[path], &attack[..]].concat();
                    match door {
                        Door::Launch => drop(cli.run(by_launch)),
                        Door::Exec | Door::Host => {
                            rpc.call("subcontainer.launch", GUARDED.launch(&guid, kind));
                        }
                    }
                    match door {
                        Door::Launch => {}
                        Door::Exec => drop(cli.run([&["subcontainer", "exec", path], &attack[..]].concat())),
                        // The leader may end meanwhile, which ends the command too.
                        Door::Host => {
                            drop(rpc.try_call("subcontainer.exec", json!({"guid": guid, "command": attack})));
                        }
                    }
                    rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
                    // A signal takes a moment to end somebody.
                    std::thread::sleep(Duration::from_millis(30));
                    assert!(victim.lives(), "{door:?} {signal}");
                }
            }
        }
        arena.host.connect().call("image.list", json!({}));
        // A careless engine: no pid namespace of its own. (This shell is the first process of the test's.)
        let script = "mount -t proc proc /proc; $R/attacks victim & sleep 0.1; \
            setsid -w chroot $R /attacks signal-all 9 || true; \
            sleep 0.3 || sleep 0.3; \
            kill -0 $! 2>/dev/null && ! grep -q 'State:.Z' /proc/$!/status \
            && echo refused: it lives || echo worked: it is dead";
        naive(|_| (), script).all_worked();
    });
}

#[test]
fn s22_cve_2020_15257_no_abstract_socket_outside_is_reached_from_a_network_of_its_own() {
    isolated(|| {
        let arena = Arena::new();
        let address = SocketAddr::from_abstract_name("shim").unwrap();
        let _listener = UnixListener::bind_addr(&address).unwrap();
        for mode in ["none", "private"] {
            let attempt = Attempt::new(&["abstract", "shim"]).network(mode);
            attempt.is_refused(&arena);
            // The machine's network is the default.
            attempt.works_with(&arena, &UNLIMITED);
        }
    });
}

#[test]
fn s22_a_socket_of_a_container_that_is_gone_leads_into_nobody_elses_network() {
    isolated(|| {
        let arena = Arena::new();
        let mut rpc = arena.host.connect();
        let private = json!({"mode": "private"});
        let volume = json!({"source": {"type": "volume", "volumeId": "meet"}, "mountpoint": "/data"});
        let serves = json!(["nc", "-ll", "-p", "7777", "-e", "true"]);
        for stays in [false, true] {
            let [taker, leaver] = [(), ()].map(|()| {
                let guid = arena.rootfs(&mut rpc, &KINDS[0]);
                rpc.call("subcontainer.mount", json!({"guid": guid, "mount": volume}));
                rpc.call("subcontainer.launch", json!({"guid": guid, "network": private}));
                guid
            });
            let command = json!(["/attacks", "use-socket", "/data/meet", "7777", "3"]);
            let taking = rpc.send("subcontainer.exec", json!({"guid": taker, "command": command}));
            tests::eventually("somebody takes it", || arena.path(&taker).join("data/meet").exists());
            if stays {
                // The control: this one has the network still.
                let params = json!({"guid": leaver, "command": serves, "streams": {}});
                rpc.call("subcontainer.spawn", params);
            }
            let left = rpc.output(&leaver, &["/attacks", "leave-socket", "/data/meet"]);
            assert!(left.starts_with("worked"), "{left}");
            if !stays {
                rpc.call("subcontainer.destroyFs", json!({"guid": leaver}));
            }
            // One of them would have what it had.
            let others = [(); 12].map(|()| {
                let guid = arena.rootfs(&mut rpc, &KINDS[0]);
                let params = json!({"guid": guid, "command": serves, "network": private});
                rpc.call("subcontainer.launch", params);
                guid
            });
            let said = rpc.answer(taking).unwrap();
            let said = String::from_utf8(bytes(&said["stdout"])).unwrap();
            assert!(said.starts_with(if stays { "worked" } else { "refused" }), "{said}");
            for guid in others.iter().chain([&taker, &leaver]) {
                rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
            }
        }
    });
}
