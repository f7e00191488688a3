//! Calls of package code, through the socket of its package.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tests::rpc::Rpc;
use tests::{Host, attacks, isolated};

use super::packages::{Author, wait_for};

const SOCKET: &str = "/media/startos/rpc/host.sock";
const VOLUME: &str = "/media/startos/volumes/data";

fn capabilities() -> Value {
    json!({
        "kv:read": { "reason": "Settings", "groups": ["settings"] },
        "kv:write": { "reason": "Settings", "groups": ["settings"] },
        "secrets": { "reason": "Its token", "names": ["token"] },
        "files:read": { "reason": "Notes", "paths": [VOLUME] },
        "files:write": { "reason": "Notes", "paths": [format!("{VOLUME}/out")] },
        "process:run": { "reason": "Export", "commands": [["sh", "-c", "echo ran >> /data/ran; sleep 100"]] },
        "notify:send": { "reason": "News", "names": ["ops"] },
        "log:write": { "reason": "Faults" },
        "monitor:read": { "reason": "Its size" },
        "audit:read": { "reason": "Its own calls" },
        "monitor:admin": { "reason": "Later" },
    })
}

/// A package with no code: the test speaks in its place, as root of the machine may.
fn quiet(id: &str) -> Value {
    json!({ "manifest": 1, "id": id, "name": id, "version": "1.0.0", "volumes": { "data": {} },
        "capabilities": capabilities() })
}

/// One whose service, as a user that is nobody, says these lines to the host, and keeps what it hears.
fn speaking(id: &str, lines: &[Value]) -> Value {
    let mut manifest = quiet(id);
    let said: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let command = "while [ ! -x /data/caller ]; do sleep 0.05; done; \
        printf %s \"$LINES_TO_SAY\" | /data/caller \"$SOCKET\" > /data/heard.new; mv /data/heard.new /data/heard; \
        while :; do sleep 0.2; done";
    manifest["images"] = json!({ "main": { "file": "images/main.tar" } });
    manifest["entries"] = json!({ "web": { "service": {
        "program": {
            "image": "main", "command": ["sh", "-c", command], "user": "1000:1000",
            "env": { "LINES_TO_SAY": said, "SOCKET": SOCKET },
            "mounts": [{ "path": "/data", "from": { "volume": "data" } }]
        },
        "graceSeconds": 1
    } } });
    manifest
}

fn say(id: u64, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn hello() -> Value {
    say(0, "hello", json!({ "protocol": 1, "client": "notes 1.0.0" }))
}

pub(super) struct World {
    pub(super) host: Host,
    pub(super) author: Author,
}

impl World {
    pub(super) fn new() -> Self {
        let host = Host::start();
        let author = Author::trusted(host.cli());
        Self { host, author }
    }

    /// Installed, with all that it asks for, and active.
    pub(super) fn activate(&self, manifest: &Value) {
        let cli = self.host.cli();
        let id = manifest["id"].as_str().unwrap();
        let volume = self.volume(id);
        cli.run(["package", "install", &self.author.bundle(cli, manifest)]).ok();
        cli.run(["package", "grant", id, "--all"]).ok();
        fs::create_dir_all(&volume).unwrap();
        std::os::unix::fs::chown(&volume, Some(1000), Some(1000)).unwrap();
        fs::copy(attacks::caller(), volume.join("caller")).unwrap();
        cli.run(["package", "activate", id]).ok();
    }

    pub(super) fn volume(&self, id: &str) -> PathBuf {
        self.host.data().join("packages").join(id).join("volumes/data")
    }

    pub(super) fn socket(&self, id: &str) -> PathBuf {
        self.host.data().join("packages").join(id).join("rpc/host.sock")
    }

    /// A connection as this package.
    pub(super) fn connect(&self, id: &str) -> Rpc {
        let mut rpc = Rpc::connect(&self.socket(id));
        rpc.hello();
        rpc
    }

    /// What a speaking package has heard.
    fn heard(&self, id: &str) -> Vec<Value> {
        let heard = self.volume(id).join("heard");
        wait_for("what the service hears", || heard.exists());
        let text = fs::read_to_string(heard).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| json!(line))).collect()
    }

    /// Lines of the audit log: who, what, how it ended.
    pub(super) fn audit(&self) -> Vec<(String, String, String)> {
        let audit =
            self.host.cli().run(["--json", "package", "audit", "-n", "10000", "--verify"]).ok().json();
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
        let entries = audit["entries"].as_array().unwrap();
        entries
            .iter()
            .map(|entry| (text(entry, "actor"), text(entry, "action"), text(entry, "outcome")))
            .collect()
    }
}

pub(super) fn line(actor: &str, action: &str, outcome: &str) -> (String, String, String) {
    (actor.to_owned(), action.to_owned(), outcome.to_owned())
}

#[test]
fn b1_a_service_speaks_as_its_package_whatever_it_says_it_is() {
    isolated(|| {
        let world = World::new();
        world.activate(&quiet("other"));
        world
            .connect("other")
            .call("kv.set", json!({ "group": "settings", "key": "k", "value": "of other" }));
        world.activate(&speaking(
            "notes",
            &[
                hello(),
                say(1, "kv.set", json!({ "group": "settings", "key": "k", "value": "of notes" })),
                say(2, "kv.get", json!({ "group": "settings", "key": "k" })),
                say(3, "kv.get", json!({ "group": "settings", "key": "k", "packageId": "other" })),
                json!({ "jsonrpc": "2.0", "id": 4, "package": "other", "method": "kv.get",
                    "params": { "group": "settings", "key": "k" } }),
                say(5, "kv.get", json!({ "group": "private", "key": "k" })),
                say(6, "package.list", json!({})),
            ],
        ));
        let heard = world.heard("notes");
        assert_eq!(heard[0]["result"]["packageId"], "notes", "{heard:?}");
        assert!(!heard[0].to_string().contains(world.host.data().to_str().unwrap()), "it tells a local path");
        assert_eq!(heard[2]["result"], json!({ "value": "of notes", "revision": 1 }));
        assert_eq!(heard[3]["error"]["code"], -32602);
        assert_eq!(heard[4]["result"]["value"], "of notes");
        let denied = &heard[5]["error"];
        assert_eq!(denied["data"]["missing"], json!({ "kv:read": { "groups": ["private"] } }), "{denied}");
        assert!(denied["message"].as_str().unwrap().contains("not granted: kv:read private"), "{denied}");
        assert_eq!(heard[6]["error"]["code"], -32601, "what the operator does is no call of a package's");
        wait_for("the lines of its calls", || world.audit().contains(&line("notes", "kv.get", "done")));
        let audit = world.audit();
        assert!(
            audit.contains(&line("notes", "kv.set", "done"))
                && audit.contains(&line("notes", "kv.get", "denied"))
        );
    });
}

#[test]
fn b1_who_is_in_another_sandbox_is_not_heard_even_where_the_socket_is_mounted() {
    isolated(|| {
        let world = World::new();
        world.activate(&quiet("other"));
        world.activate(&speaking("notes", &[hello()]));
        assert_eq!(world.heard("notes").len(), 1);
        let list = world.host.cli().run(["--json", "subcontainer", "ls"]).ok().json();
        let guid = list[0]["guid"].as_str().unwrap().to_owned();
        let mut operator = world.host.connect();
        let mount = json!({ "source": { "type": "rpc", "packageId": "other" }, "mountpoint": "/other" });
        operator.call("subcontainer.mount", json!({ "guid": guid, "mount": mount }));
        let said = format!("{}\n", hello());
        let script = format!("printf %s '{said}' | /data/caller /other/host.sock");
        let ran = operator.exec(&guid, &["sh", "-c", &script]);
        assert_eq!(tests::rpc::bytes(&ran["stdout"]), b"closed\n", "{ran}");
        let own =
            format!("printf %s '{said}' | /data/caller {SOCKET}; touch /media/startos/rpc/x; rm -f {SOCKET}");
        let ran = operator.exec(&guid, &["sh", "-c", &own]);
        let heard = String::from_utf8(tests::rpc::bytes(&ran["stdout"])).unwrap();
        assert!(heard.contains("\"packageId\":\"notes\""), "{ran}");
        assert!(world.socket("notes").exists(), "it was taken away from inside");
    });
}

#[test]
fn b1_a_door_is_there_while_its_package_is_active_and_after_a_kill() {
    isolated(|| {
        let mut world = World::new();
        world.activate(&speaking("notes", &[hello()]));
        world.heard("notes");
        let mut connected = world.connect("notes");
        world.host.cli().run(["package", "disable", "notes"]).ok();
        assert!(!world.socket("notes").exists());
        assert!(connected.try_send_line(&hello().to_string()).is_err() || connected.receive().is_none());
        fs::remove_file(world.volume("notes").join("heard")).unwrap();
        world.host.cli().run(["package", "activate", "notes"]).ok();
        // What this start has heard must not pass for what the next one hears.
        world.heard("notes");
        fs::remove_file(world.volume("notes").join("heard")).unwrap();
        world.host.kill();
        assert!(UnixStream::connect(world.socket("notes")).is_err(), "nobody listens");
        world.host.start_again();
        wait_for("the service, after a kill", || world.volume("notes").join("heard").exists());
        assert_eq!(world.connect("notes").call("ping", json!({})), json!({}));
        let info = world.host.cli().run(["package", "status", "notes"]).ok().out();
        assert!(info.contains("active, running"), "{info}");
        world.host.cli().run(["package", "disable", "notes"]).ok();
        world.host.cli().run(["package", "remove", "notes"]).ok();
        assert!(!world.socket("notes").exists());
    });
}

#[test]
fn b10_what_was_denied_or_changed_outlives_a_kill_and_a_torn_log() {
    isolated(|| {
        let mut world = World::new();
        world.activate(&quiet("notes"));
        let mut notes = world.connect("notes");
        notes.call("kv.set", json!({ "group": "settings", "key": "k", "value": 1 }));
        notes.call_fails("kv.get", json!({ "group": "private", "key": "k" }));
        world.host.kill();
        // As a loss of power leaves it: the last frame is half there.
        let log = world.host.data().join("state.db-wal");
        let mut torn = fs::OpenOptions::new().append(true).open(&log).unwrap();
        torn.write_all(&[7; 1000]).unwrap();
        drop(torn);
        world.host.start_again();
        let audit = world.audit();
        assert!(audit.contains(&line("notes", "kv.set", "done")), "{audit:?}");
        assert!(audit.contains(&line("notes", "kv.get", "denied")), "{audit:?}");
        wait_for("the door", || {
            world.socket("notes").exists() && UnixStream::connect(world.socket("notes")).is_ok()
        });
        let kept = world.connect("notes").call("kv.get", json!({ "group": "settings", "key": "k" }));
        assert_eq!(kept["value"], 1);
    });
}

#[test]
fn b2_what_is_granted_later_holds_at_once_and_what_is_taken_back_closes_the_door() {
    isolated(|| {
        let world = World::new();
        let cli = world.host.cli();
        let mut manifest = quiet("notes");
        for (_, ask) in manifest["capabilities"].as_object_mut().unwrap() {
            ask["optional"] = json!(true);
        }
        cli.run(["package", "install", &world.author.bundle(cli, &manifest)]).ok();
        cli.run(["package", "activate", "notes"]).ok();
        let mut notes = world.connect("notes");
        let get = json!({ "group": "settings", "key": "k" });
        assert_eq!(notes.call_fails("kv.get", get.clone()).kind(), "denied", "nothing is granted");
        cli.run(["package", "grant", "notes", "kv:read"]).ok();
        assert_eq!(notes.call("kv.get", get)["revision"], 0);
        cli.run(["package", "grant", "notes", "--revoke", "kv:read"]).ok();
        assert_eq!(notes.receive(), None);
        assert!(!world.socket("notes").exists());
    });
}

#[test]
fn b6_commands_run_in_the_packages_own_sandbox_and_are_its_own() {
    isolated(|| {
        let world = World::new();
        world.activate(&speaking("notes", &[hello()]));
        world.activate(&speaking("other", &[hello()]));
        world.heard("notes");
        let command = json!({ "command": ["sh", "-c", "echo ran >> /data/ran; sleep 100"] });
        let mut notes = world.connect("notes");
        let process = notes.call("process.run", command.clone())["process"].clone();
        wait_for("what the command does", || world.volume("notes").join("ran").exists());
        assert!(!world.volume("other").join("ran").exists());
        assert_eq!(notes.call("process.status", json!({ "process": process })), json!({}));
        let mut other = world.connect("other");
        for method in ["process.status", "process.stop"] {
            assert_eq!(
                other.call_fails(method, json!({ "process": process })).kind(),
                "notFound",
                "{method}"
            );
        }
        let longer = json!({ "command": ["sh", "-c", "echo ran >> /data/ran; sleep 100; id"] });
        assert_eq!(notes.call_fails("process.run", longer).kind(), "denied");
        assert_eq!(
            notes.call_fails("process.run", json!({ "command": command["command"], "service": "db" })).kind(),
            "notFound"
        );
        notes.call("process.stop", json!({ "process": process }));
        wait_for("its end", || {
            notes.call("process.status", json!({ "process": process }))["outcome"]["kind"] == "signal"
        });
        assert!(notes.call("monitor.read", json!({}))["processes"].as_u64().unwrap() > 0);
        for _ in 0..32 {
            notes.call("process.run", command.clone());
        }
        assert_eq!(notes.call_fails("process.run", command).kind(), "exhausted", "so many and no more");
    });
}

#[test]
fn b7_a_connection_to_the_outside_carries_bytes_where_the_operator_lets_it() {
    isolated(|| {
        let mut world = World::new();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut from, mut back) = (stream.as_ref().unwrap(), stream.as_ref().unwrap());
                std::io::copy(&mut from, &mut back).unwrap();
            }
        });
        let mut manifest = quiet("notes");
        manifest["capabilities"]["net"] = json!({ "reason": "Its database", "hosts": [to] });
        world.activate(&manifest);
        let open = |world: &World, to: &str| {
            let mut stream = UnixStream::connect(world.socket("notes")).unwrap();
            writeln!(stream, "{}", say(1, "net.connect", json!({ "to": to }))).unwrap();
            stream
        };
        let said = |mut stream: UnixStream| {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        let refused = said(open(&world, &to));
        assert!(refused.contains("\"kind\":\"denied\"") && refused.contains("127.0.0.0/8"), "{refused}");
        assert!(said(open(&world, "db.example:5432")).contains("\"missing\":{\"net\""));

        world.host.stop();
        world.host.start_with(&["--package-network", "127.0.0.0/8"]);
        wait_for("its door", || world.socket("notes").exists());
        let mut stream = open(&world, &to);
        let bytes: Vec<u8> = (0..3_u32 << 20).map(|at| ((at * 7) >> 3) as u8).collect();
        let mut writing = stream.try_clone().unwrap();
        let sent = bytes.clone();
        let writer = std::thread::spawn(move || {
            writing.write_all(&sent).unwrap();
            writing.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        writer.join().unwrap();
        let answer = heard.iter().position(|byte| *byte == b'\n').unwrap();
        let told: Value = serde_json::from_slice(&heard[..answer]).unwrap();
        assert_eq!((&told["id"], &told["result"]), (&json!(1), &json!({})), "{told}");
        assert!(heard[answer + 1..] == bytes, "{} bytes of {}", heard.len() - answer - 1, bytes.len());

        // It ends with the package.
        let stream = open(&world, &to);
        world.host.cli().run(["package", "disable", "notes"]).ok();
        assert_eq!(said(stream).lines().count(), 1);
        let audit = world.audit();
        for outcome in ["done", "denied"] {
            assert!(audit.contains(&line("notes", "net.connect", outcome)), "{outcome}: {audit:?}");
        }
    });
}

#[test]
fn b8_large_files_go_by_and_are_not_kept_in_memory() {
    isolated(|| {
        let world = World::new();
        world.activate(&quiet("notes"));
        let size = 96 << 20;
        let before = world.host.own_kib();
        let request = |mode: &str, size: u64| {
            let params = json!({ "path": format!("{VOLUME}/out/big"), "mode": mode, "size": size });
            format!("{}\n", say(1, "files.stream", params))
        };
        let chunk: Vec<u8> = (0..1_u32 << 20).map(|at| ((at * 7) >> 3) as u8).collect();

        let mut writing = UnixStream::connect(world.socket("notes")).unwrap();
        writing.write_all(request("write", size).as_bytes()).unwrap();
        for _ in 0..size >> 20 {
            writing.write_all(&chunk).unwrap();
        }
        let mut answer = String::new();
        writing.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(&format!("\"size\":{size}")), "{answer}");

        // Half of it, and the caller is gone: the old one is there.
        let mut broken = UnixStream::connect(world.socket("notes")).unwrap();
        broken.write_all(request("write", size).as_bytes()).unwrap();
        broken.write_all(&chunk).unwrap();
        drop(broken);
        wait_for("the line that tells of it", || {
            world.audit().contains(&line("notes", "files.stream", "failed"))
        });

        let mut reading = UnixStream::connect(world.socket("notes")).unwrap();
        reading.write_all(request("read", 0).as_bytes()).unwrap();
        let mut bytes = Vec::new();
        reading.read_to_end(&mut bytes).unwrap();
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        assert_eq!(bytes.len() - end, size as usize);
        assert!(bytes[end..].chunks(1 << 20).all(|part| part == chunk));
        let grown = world.host.own_kib().saturating_sub(before);
        assert!(grown < 16 << 10, "the host has grown by {grown} KiB");
        assert!(world.audit().contains(&line("notes", "files.stream", "done")));
        let names = fs::read_dir(world.volume("notes").join("out")).unwrap().count();
        assert_eq!(names, 1, "something is left of what was broken off");
    });
}

#[test]
fn b4_files_are_those_that_were_granted() {
    isolated(|| {
        let world = World::new();
        world.activate(&quiet("notes"));
        let mut notes = world.connect("notes");
        let out = format!("{VOLUME}/out/a/note");
        notes.call("files.write", json!({ "path": out, "data": { "text": "hello" } }));
        assert_eq!(fs::read_to_string(world.volume("notes").join("out/a/note")).unwrap(), "hello");
        assert_eq!(notes.call("files.read", json!({ "path": out }))["data"]["text"], "hello");
        let outside = json!({ "path": format!("{VOLUME}/caller"), "data": { "text": "x" } });
        assert_eq!(notes.call_fails("files.write", outside).kind(), "denied");
        std::os::unix::fs::symlink(world.host.data(), world.volume("notes").join("out/link")).unwrap();
        let link = json!({ "path": format!("{VOLUME}/out/link/state.db") });
        assert_eq!(notes.call_fails("files.read", link).kind(), "escape");
        assert_eq!(notes.call_fails("files.read", json!({ "path": "/etc/passwd" })).kind(), "denied");
        let up = json!({ "path": format!("{VOLUME}/out/../../../../state.db") });
        assert_eq!(notes.call_fails("files.read", up).kind(), "invalid");
        wait_for("the denials", || {
            world.audit().iter().filter(|entry| **entry == line("notes", "files.read", "denied")).count() == 2
        });
    });
}

#[test]
fn b11_quarantine_is_shown_ends_connections_and_is_lifted_by_the_operator() {
    isolated(|| {
        let mut world = World::new();
        world.activate(&quiet("notes"));
        let mut notes = world.connect("notes");
        for _ in 0..100 {
            notes.call_fails("kv.get", json!({ "group": "private", "key": "k" }));
        }
        while let Some(last) = notes.receive() {
            assert_eq!(last["error"]["data"]["kind"], "quarantined", "{last}");
        }
        world.host.kill();
        world.host.start_again();
        wait_for("the door", || UnixStream::connect(world.socket("notes")).is_ok());
        let mut refused = Rpc::connect(&world.socket("notes"));
        let told = refused.receive().unwrap();
        assert!(told["error"]["message"].as_str().unwrap().contains("100 denied calls"), "{told}");
        let cli = world.host.cli();
        let listed = cli.run(["package", "ls"]).ok().out();
        assert!(listed.contains("in quarantine: 100 denied calls within 60 s"), "{listed}");
        cli.run(["package", "lift", "notes"]).ok();
        assert_eq!(world.connect("notes").call("ping", json!({})), json!({}));
        assert!(world.audit().contains(&line("operator", "package.lift", "done")));
        assert!(cli.run(["package", "lift", "notes"]).failed(125).contains("no quarantine of notes"));
    });
}

#[test]
fn b11_who_floods_or_talks_nonsense_harms_nobody_else() {
    isolated(|| {
        let world = World::new();
        world.activate(&quiet("notes"));
        world.activate(&quiet("other"));
        // Connections that say nothing: so many and no more.
        let idle: Vec<UnixStream> =
            (0..264).map(|_| UnixStream::connect(world.socket("notes")).unwrap()).collect();
        let closed = || {
            let is_closed = |mut stream: &UnixStream| {
                stream.set_nonblocking(true).unwrap();
                matches!(stream.read(&mut [0]), Ok(0))
            };
            idle.iter().filter(|stream| is_closed(stream)).count()
        };
        wait_for("the end of those that are too many", || closed() == 8);
        drop(idle);
        wait_for("room", || {
            let mut rpc = Rpc::connect(&world.socket("notes"));
            rpc.try_send_line(&hello().to_string()).is_ok() && rpc.receive().is_some()
        });
        std::thread::sleep(Duration::from_millis(500));
        // Those that carry calls: fewer.
        let mut greeted: Vec<Rpc> = (0..32).map(|_| world.connect("notes")).collect();
        let mut late = Rpc::connect(&world.socket("notes"));
        late.send_line(&hello().to_string());
        assert_eq!(late.receive().unwrap()["error"]["data"]["kind"], "exhausted");
        assert_eq!(greeted[31].call("ping", json!({})), json!({}));
        drop(greeted);
        wait_for("room", || {
            let mut rpc = Rpc::connect(&world.socket("notes"));
            rpc.try_send_line(&hello().to_string()).is_ok() && rpc.receive().is_some()
        });
        for nonsense in ["{", "[]", "null", "\u{1}", "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"ping\"}"] {
            let mut rpc = world.connect("notes");
            rpc.send_line(nonsense);
            assert!(rpc.receive().unwrap()["error"]["code"].is_i64(), "{nonsense}");
            assert_eq!(rpc.call("ping", json!({})), json!({}));
        }
        let mut before = Rpc::connect(&world.socket("notes"));
        before.send_line(&say(1, "kv.get", json!({ "group": "settings", "key": "k" })).to_string());
        assert_eq!(before.receive().unwrap()["error"]["data"]["kind"], "outOfOrder");
        let mut long = Rpc::connect(&world.socket("notes"));
        long.try_send_line(&"x".repeat((1 << 20) + 10)).ok();
        assert!(long.receive().is_none_or(|last| last["error"]["code"] == -32600));
        // One that asks and never reads.
        let deaf = UnixStream::connect(world.socket("notes")).unwrap();
        deaf.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut asking = &deaf;
        writeln!(asking, "{}", hello()).unwrap();
        let read = format!("{}\n", say(7, "files.read", json!({ "path": format!("{VOLUME}/caller") })));
        let memory = world.host.own_kib();
        for _ in 0..20_000 {
            if asking.write_all(read.as_bytes()).is_err() {
                break;
            }
        }
        let grown = world.host.own_kib().saturating_sub(memory);
        assert!(grown < 64 << 10, "answers that nobody reads take {grown} KiB");
        assert_eq!(
            world.connect("other").call("kv.get", json!({ "group": "settings", "key": "k" }))["revision"],
            0
        );
        world.host.cli().run(["package", "disable", "notes"]).ok();
    });
}

#[test]
fn b5_secrets_are_encrypted_and_their_key_is_exchanged() {
    isolated(|| {
        let mut world = World::new();
        world.activate(&quiet("notes"));
        let mut notes = world.connect("notes");
        notes.call("secrets.set", json!({ "name": "token", "value": { "text": "hunter2-hunter2" } }));
        assert_eq!(notes.call_fails("secrets.get", json!({ "name": "other" })).kind(), "denied");
        let said = world.host.cli().run(["package", "rekey"]).ok().out();
        assert_eq!(said, "1 secrets are encrypted with a new key");
        world.host.kill();
        world.host.start_again();
        wait_for("the door", || UnixStream::connect(world.socket("notes")).is_ok());
        let kept = world.connect("notes").call("secrets.get", json!({ "name": "token" }));
        assert_eq!(kept["value"]["text"], "hunter2-hunter2");
        for file in fs::read_dir(world.host.data()).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                let bytes = fs::read(&path).unwrap();
                assert!(!bytes.windows(15).any(|window| window == b"hunter2-hunter2"), "{}", path.display());
            }
        }
        world.host.cli().run(["package", "disable", "notes"]).ok();
        world.host.cli().run(["package", "remove", "notes", "--data"]).ok();
        assert!(world.audit().contains(&line("operator", "package.forget", "done")));
    });
}

#[test]
fn b3_what_a_package_says_reaches_the_operator_and_what_is_not_there_says_so() {
    isolated(|| {
        let world = World::new();
        world.activate(&quiet("notes"));
        let mut notes = world.connect("notes");
        notes.call("log.write", json!({ "level": "warn", "message": "slow\u{1b}[2J\nforged" }));
        wait_for("the line", || world.host.said().contains("package notes: slow[2J forged"));
        notes.call("notify.send", json!({ "channel": "ops", "title": "disk is nearly full" }));
        assert_eq!(
            notes.call_fails("notify.send", json!({ "channel": "sms", "title": "x" })).kind(),
            "denied"
        );
        let events = world.host.cli().run(["events", "--since", "1h"]).ok().out();
        assert!(events.contains("package notes says on ops: disk is nearly full"), "{events}");
        let later = notes.call_fails("monitor.admin", json!({}));
        assert_eq!((later.kind(), later.code), ("unavailable", -32000), "{later:?}");
        assert!(later.message.contains("not available in this version"));
        wait_for("its own lines", || {
            let entries = notes.call("audit.read", json!({ "last": 1000 }))["entries"].clone();
            let entries = entries.as_array().unwrap();
            assert!(entries.iter().all(|entry| entry["packageId"] == "notes"), "{entries:?}");
            entries.iter().any(|entry| entry["action"] == "monitor.admin" && entry["outcome"] == "failed")
        });
    });
}
