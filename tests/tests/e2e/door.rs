//! Subcontainers of package code, through the socket of its package: what it can do, and what it tries.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::isolated;
use tests::rpc::{Rpc, RpcError, bytes};

use super::broker::{World, line};
use super::packages::wait_for;

/// A package with an image and no entries: all that runs of it, its code makes. The test speaks in its place.
fn maker(id: &str) -> Value {
    json!({ "manifest": 1, "id": id, "name": id, "version": "1.0.0",
        "images": { "main": { "file": "images/main.tar" }, "spare": { "file": "images/main.tar" } },
        "volumes": { "data": {} },
        "limits": { "pids": 200 },
        "capabilities": {
            "subcontainers": { "reason": "Runs its service", "names": ["main"] },
            "kv:read": { "reason": "Settings", "groups": ["settings"] }
        } })
}

/// A subcontainer over the package's image.
#[track_caller]
fn make(rpc: &mut Rpc) -> String {
    let made = rpc.call("subcontainer.createFs", json!({ "imageId": "main" }));
    made["guid"].as_str().unwrap().to_owned()
}

fn mounted(source: Value) -> Value {
    json!({ "source": source, "mountpoint": "/data" })
}

fn in_guid(guid: &str, more: &Value) -> Value {
    let mut params = json!({ "guid": guid });
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    params
}

/// The first and only request of a connection, and its answer.
fn opens(world: &World, id: &str, method: &str, params: Value) -> (UnixStream, Value) {
    let mut stream = UnixStream::connect(world.socket(id)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    writeln!(stream, "{request}").unwrap();
    let mut answer = Vec::new();
    let mut one = [0];
    while stream.read(&mut one).unwrap() == 1 && one[0] != b'\n' {
        answer.push(one[0]);
    }
    (stream, serde_json::from_slice(&answer).unwrap())
}

fn guids_of_the_machine(world: &World) -> Vec<String> {
    let list = world.host.cli().run(["--json", "subcontainer", "ls"]).ok().json();
    list.as_array().unwrap().iter().map(|one| one["guid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn b3_package_code_makes_subcontainers_runs_in_them_and_leaves_none() {
    isolated(|| {
        let world = World::new();
        world.activate(&maker("notes"));
        let mut notes = world.connect("notes");
        let made = notes.call("subcontainer.createFs", json!({ "imageId": "main", "name": "db" }));
        let guid = made["guid"].as_str().unwrap().to_owned();
        assert_eq!(made["rootfs"], format!("/media/startos/subcontainers/{guid}"), "it tells a local path");
        let volume =
            json!({ "type": "volume", "volumeId": "data", "subpath": "deep/er", "filetype": "directory" });
        notes.call("subcontainer.mount", in_guid(&guid, &json!({ "mount": mounted(volume) })));
        let launched = notes.call(
            "subcontainer.launch",
            in_guid(
                &guid,
                &json!({ "command": ["sh", "-c", "echo kept > /data/file; echo said; sleep 1000"],
                "streams": { "stdout": "log" } }),
            ),
        );
        wait_for("what the leader writes", || world.volume("notes").join("deep/er/file").exists());
        let process = launched["process"].as_str().unwrap().to_owned();
        assert_eq!(notes.output(&guid, &["cat", "/data/file"]), "kept\n");
        assert_eq!(notes.output(&guid, &["hostname"]), "notes-db\n");
        // It is in the package's sandbox: its ids, and no network but a loopback.
        assert_eq!(notes.output(&guid, &["sh", "-c", "ls /sys/class/net; id -u"]), "lo\n0\n");
        let ids = notes.output(&guid, &["cat", "/proc/self/uid_map"]);
        assert_ne!(ids.split_whitespace().nth(1), Some("0"), "{ids}");

        let file = json!({ "path": "/etc/of-it", "data": { "text": "hello" } });
        notes.call("file.write", in_guid(&guid, &file));
        let read = notes.call("file.read", in_guid(&guid, &json!({ "path": "/etc/of-it" })));
        assert_eq!(bytes(&read["data"]), b"hello");

        let spawned = notes.call(
            "subcontainer.spawn",
            in_guid(&guid, &json!({ "command": ["cat"], "streams": { "stdin": "pipe", "stdout": "pipe" } })),
        );
        let cat = json!({ "process": spawned["process"], "stream": "stdout" });
        let (mut output, answer) = opens(&world, "notes", "stream.attach", cat);
        assert_eq!(answer["result"], json!({}));
        let stdin = json!({ "process": spawned["process"], "stream": "stdin" });
        let (mut input, _) = opens(&world, "notes", "stream.attach", stdin);
        input.write_all(b"through a pipe").unwrap();
        drop(input);
        let mut heard = String::new();
        output.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "through a pipe");
        let ended = notes.call("subcontainer.wait", json!({ "process": spawned["process"] }));
        assert_eq!(ended["outcome"], json!({ "kind": "exit", "code": 0 }));

        let (mut log, answer) = opens(&world, "notes", "logs.read", json!({ "guid": guid }));
        assert_eq!(answer["result"], json!({}));
        let mut frames = Vec::new();
        log.read_to_end(&mut frames).unwrap();
        assert!(frames.ends_with(b"said\n"), "{frames:?}");

        let list = notes.call("subcontainer.list", json!({}));
        assert_eq!(list["subcontainers"].as_array().map(Vec::len), Some(1), "{list}");
        let shown = &list["subcontainers"][0];
        assert_eq!((&shown["imageId"], &shown["name"]), (&json!("main"), &json!("db")));
        assert!(
            !list.to_string().contains(world.host.data().to_str().unwrap()),
            "it tells a local path: {list}"
        );
        assert!(notes.call("subcontainer.stats", json!({ "guid": guid }))["processes"].as_u64().unwrap() > 0);
        notes.call("subcontainer.kill", json!({ "process": process, "signal": "SIGKILL" }));
        notes.call("subcontainer.wait", json!({ "process": process }));
        notes.call("subcontainer.destroyFs", json!({ "guid": guid }));
        assert_eq!(guids_of_the_machine(&world), Vec::<String>::new());
        assert_eq!(notes.call("subcontainer.list", json!({})), json!({ "subcontainers": [] }));

        // What is left when a connection ends, ends with it; what is detached, with the package.
        let owned = make(&mut notes);
        let kept = make(&mut notes);
        notes.call("subcontainer.detach", json!({ "guid": kept }));
        notes.exec(&owned, &["true"]);
        notes.exec(&kept, &["true"]);
        drop(notes);
        wait_for("the end of what the connection owned", || guids_of_the_machine(&world) == [kept.as_str()]);
        let mut again = world.connect("notes");
        assert_eq!(again.call("subcontainer.attach", json!({ "guid": kept }))["guid"], kept);
        assert_eq!(again.output(&kept, &["echo", "still"]), "still\n");
        world.host.cli().run(["package", "disable", "notes"]).ok();
        assert_eq!(guids_of_the_machine(&world), Vec::<String>::new());
        assert_eq!(world.host.cli().run(["--json", "sandbox", "ls"]).ok().json(), json!([]));

        let audit = world.audit();
        for method in ["createFs", "mount", "launch", "exec", "spawn", "destroyFs"] {
            let method = format!("subcontainer.{method}");
            assert!(audit.contains(&line("notes", &method, "done")), "{method}");
        }
    });
}

#[test]
fn b3_what_would_loosen_a_subcontainer_is_refused_by_its_name() {
    isolated(|| {
        let world = World::new();
        world.activate(&maker("notes"));
        let mut notes = world.connect("notes");
        let guid = make(&mut notes);
        let image = json!({ "imageId": "main" });
        let more = |more: Value| {
            let mut params = image.clone();
            params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            params
        };
        let launch = |more: Value| in_guid(&guid, &more);
        let mount = |source: Value| in_guid(&guid, &json!({ "mount": mounted(source) }));
        let attempts = [
            ("subcontainer.createFs", json!({ "imageId": "spare" }), "subcontainers spare"),
            ("subcontainer.createFs", json!({ "imageId": "busybox" }), "subcontainers busybox"),
            ("subcontainer.createFs", more(json!({ "userns": true })), "userns"),
            ("subcontainer.createFs", more(json!({ "sandbox": guid })), "sandbox"),
            ("subcontainer.launch", launch(json!({ "privileges": { "capAdd": ["SYS_ADMIN"] } })), "capAdd"),
            ("subcontainer.launch", launch(json!({ "privileges": { "seccomp": "unconfined" } })), "seccomp"),
            ("subcontainer.launch", launch(json!({ "network": { "mode": "host" } })), "network"),
            ("subcontainer.launch", launch(json!({ "limits": { "memoryBytes": 1_u64 << 40 } })), "limits"),
            ("subcontainer.launch", launch(json!({ "options": { "oomScoreAdj": -1000 } })), "oomScoreAdj"),
            (
                "subcontainer.exec",
                launch(
                    json!({ "command": ["true"], "options": { "ulimits": { "rtprio": { "soft": 99 } } } }),
                ),
                "ulimits.rtprio",
            ),
            (
                "subcontainer.spawn",
                launch(
                    json!({ "command": ["true"], "streams": { "stdout": "log", "logDriver": "journald" } }),
                ),
                "logDriver",
            ),
            ("subcontainer.mount", mount(json!({ "type": "volume", "volumeId": "other" })), "volumeId"),
            ("subcontainer.mount", mount(json!({ "type": "backup" })), "backups"),
            ("subcontainer.mount", mount(json!({ "type": "rpc", "packageId": "other" })), "rpc"),
            (
                "subcontainer.mount",
                mount(json!({ "type": "pointer", "packageId": "notes", "volumeId": "data" })),
                "pointer",
            ),
        ];
        for (method, params, named) in attempts {
            let error = notes.call_fails(method, params.clone());
            assert_eq!(error.kind(), "denied", "{method} {params}: {error:?}");
            assert!(error.message.contains(named), "{method} {params}: {error:?}");
            wait_for("the line of it", || world.audit().contains(&line("notes", method, "denied")));
        }
        // What this version does not know, it does not ignore.
        let unknown = notes.call_fails("subcontainer.launch", launch(json!({ "privileged": true })));
        assert_eq!(unknown.code, -32602, "{unknown:?}");
        for method in ["subcontainer.update", "sandbox.create", "image.pull", "host.replace", "package.grant"]
        {
            assert_eq!(notes.call_fails(method, json!({})).code, -32601, "{method}");
        }
        // Out of a volume, by a path or by a link that root inside has put there.
        for subpath in ["../..", "a/../../..", "/../.."] {
            let up = mount(json!({ "type": "volume", "volumeId": "data", "subpath": subpath }));
            notes.call_fails("subcontainer.mount", up);
        }
        std::os::unix::fs::symlink("/etc", world.volume("notes").join("link")).unwrap();
        let link = mount(json!({ "type": "volume", "volumeId": "data", "subpath": "link" }));
        assert_eq!(notes.call_fails("subcontainer.mount", link).kind(), "escape");
        // Nothing of that has come true, and the package still works.
        assert_eq!(
            notes.output(&guid, &["sh", "-c", "ls /data 2>&1 || echo nothing there"]).lines().last(),
            Some("nothing there")
        );
    });
}

#[test]
fn b1_what_another_package_has_made_is_not_there() {
    isolated(|| {
        let world = World::new();
        world.activate(&maker("notes"));
        world.activate(&maker("other"));
        let (mut notes, mut other) = (world.connect("notes"), world.connect("other"));
        let guid = make(&mut notes);
        let sleep = json!({ "command": ["sleep", "1000"], "streams": { "stdout": "pipe" } });
        let process = notes.call("subcontainer.spawn", in_guid(&guid, &sleep))["process"].clone();
        let none = "01234567-89ab-4def-8123-456789abcdef";
        let no_process = "process-of-nobody";
        let methods = [
            ("subcontainer.exec", json!({ "command": ["true"] })),
            ("subcontainer.spawn", json!({ "command": ["true"] })),
            ("subcontainer.launch", json!({})),
            ("subcontainer.mount", json!({ "mount": mounted(json!({ "type": "tmpfs" })) })),
            ("subcontainer.inspect", json!({})),
            ("subcontainer.stats", json!({})),
            ("subcontainer.attach", json!({})),
            ("subcontainer.detach", json!({})),
            ("subcontainer.destroyFs", json!({})),
            ("subcontainer.stop", json!({})),
            ("subcontainer.signal", json!({ "signal": "SIGKILL" })),
            ("events.health", json!({ "name": "a", "status": "healthy" })),
            ("file.read", json!({ "path": "/etc/passwd" })),
            ("file.write", json!({ "path": "/etc/passwd", "data": { "text": "" } })),
            ("file.remove", json!({ "path": "/etc", "recursive": true })),
        ];
        // Word for word as of what does not exist, but for the name.
        let same = |foreign: &RpcError, missing: &RpcError, what: &str| {
            let message = missing.message.replace(none, &guid).replace(no_process, process.as_str().unwrap());
            assert_eq!(
                (foreign.kind(), foreign.code, &foreign.message),
                ("notFound", missing.code, &message),
                "{what}"
            );
        };
        for (method, params) in &methods {
            let foreign = other.call_fails(method, in_guid(&guid, params));
            same(&foreign, &other.call_fails(method, in_guid(none, params)), method);
        }
        for method in ["subcontainer.kill", "subcontainer.wait"] {
            let foreign = other.call_fails(method, json!({ "process": process }));
            same(&foreign, &other.call_fails(method, json!({ "process": no_process })), method);
        }
        for (method, params) in [
            ("stream.attach", json!({ "process": process, "stream": "stdout" })),
            ("stream.connect", json!({ "guid": guid, "port": 1 })),
            ("logs.read", json!({ "guid": guid })),
        ] {
            let (_, answer) = opens(&world, "other", method, params);
            assert_eq!(answer["error"]["data"]["kind"], "notFound", "{method}: {answer}");
        }
        assert_eq!(other.call("subcontainer.list", json!({})), json!({ "subcontainers": [] }));
        // Names, and locks, are each package's own.
        other.call("lock.acquire", json!({ "name": "one" }));
        notes.call("lock.acquire", json!({ "name": "one" }));
        assert_eq!(
            world.connect("notes").call_fails("lock.acquire", json!({ "name": "one" })).kind(),
            "busy"
        );
        // The sandbox itself, and what the operator has made, are nobody's.
        let sandbox = world.host.cli().run(["--json", "sandbox", "ls"]).ok().json();
        for one in sandbox.as_array().unwrap() {
            let params = in_guid(one["guid"].as_str().unwrap(), &json!({ "command": ["true"] }));
            assert_eq!(notes.call_fails("subcontainer.exec", params).kind(), "notFound");
        }
        assert_eq!(notes.output(&guid, &["echo", "untouched"]), "untouched\n");
        // Without the capability, not even that is told.
        world.activate(&json!({ "manifest": 1, "id": "bare", "name": "Bare", "version": "1.0.0", "volumes": { "data": {} } }));
        let mut bare = world.connect("bare");
        let error = bare.call_fails("subcontainer.inspect", json!({ "guid": guid }));
        assert_eq!((error.kind(), &error.data["missing"]), ("denied", &json!({ "subcontainers": {} })));
        let error = bare.call_fails("subcontainer.createFs", json!({ "imageId": "main" }));
        assert_eq!(error.data["missing"], json!({ "subcontainers": { "names": ["main"] } }));
    });
}

#[test]
fn b1_a_port_inside_is_the_sandboxes_own() {
    isolated(|| {
        let world = World::new();
        world.activate(&maker("notes"));
        let mut notes = world.connect("notes");
        let guid = make(&mut notes);
        let serve = json!({ "command": ["nc", "-l", "-p", "7000", "-e", "echo", "from inside"] });
        notes.call("subcontainer.spawn", in_guid(&guid, &serve));
        let mut heard = String::new();
        wait_for("who listens inside", || {
            let (mut stream, answer) =
                opens(&world, "notes", "stream.connect", json!({ "guid": guid, "port": 7000 }));
            answer["result"] == json!({}) && stream.read_to_string(&mut heard).is_ok()
        });
        assert_eq!(heard, "from inside\n");
        // Somebody on the machine's own loopback is not reached.
        let outside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = outside.local_addr().unwrap().port();
        let (_, answer) = opens(&world, "notes", "stream.connect", json!({ "guid": guid, "port": port }));
        assert_eq!(answer["error"]["data"]["errno"], "ECONNREFUSED", "{answer}");
    });
}

#[test]
fn b11_neither_a_flood_nor_what_stands_still_is_in_anybody_elses_way() {
    isolated(|| {
        let world = World::new();
        world.activate(&maker("notes"));
        world.activate(&maker("other"));
        let mut notes = world.connect("notes");
        let guid = make(&mut notes);
        notes.exec(&guid, &["true"]);
        // Commands that do not end, until no more may begin; a cancellation is still heard.
        let hang = in_guid(&guid, &json!({ "command": ["sleep", "1000"] }));
        let ids: Vec<u64> = (0..64).map(|_| notes.send("subcontainer.exec", hang.clone())).collect();
        std::thread::sleep(Duration::from_millis(500));
        for id in &ids {
            notes.notify("$/cancelRequest", json!({ "id": id }));
        }
        let errors: Vec<RpcError> = ids.iter().map(|id| notes.answer(*id).unwrap_err()).collect();
        let cancelled = errors.iter().filter(|error| error.code == -32800).count();
        let exhausted = errors.iter().filter(|error| error.kind() == "exhausted").count();
        assert!(
            cancelled > 8 && exhausted > 8 && cancelled + exhausted == 64,
            "{cancelled} {exhausted}: {errors:?}"
        );
        assert_eq!(notes.output(&guid, &["echo", "again"]), "again\n");
        // Locks, processes, and subcontainers, are counted.
        let locks =
            (0..9).map(|number| notes.try_call("lock.acquire", json!({ "name": format!("l{number}") })));
        let refused: Vec<RpcError> = locks.filter_map(Result::err).collect();
        assert!(refused.len() == 1 && refused[0].kind() == "exhausted", "{refused:?}");
        let sleep = in_guid(&guid, &json!({ "command": ["true"] }));
        let exhausted = (0..300).find_map(|_| notes.try_call("subcontainer.spawn", sleep.clone()).err());
        assert_eq!(exhausted.unwrap().kind(), "exhausted");
        let mut many = 1;
        let error = loop {
            match notes.try_call("subcontainer.createFs", json!({ "imageId": "main" })) {
                Ok(_) => many += 1,
                Err(error) => break error,
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!((error.kind(), many), ("exhausted", 64), "{error:?}");
        // Connections that say nothing, and one that does not read.
        let silent: Vec<_> =
            (0..300).filter_map(|_| UnixStream::connect(world.socket("notes")).ok()).collect();
        let start = Instant::now();
        let mut other = world.connect("other");
        let one = make(&mut other);
        assert_eq!(other.output(&one, &["echo", "not in the way"]), "not in the way\n");
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        drop(silent);
        let start = Instant::now();
        world.host.cli().run(["package", "disable", "notes"]).ok();
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        assert_eq!(guids_of_the_machine(&world), [one]);
    });
}

#[test]
fn b3_after_disable_and_after_a_kill_nothing_is_left_of_what_package_code_made() {
    isolated(|| {
        let mut world = World::new();
        world.activate(&maker("notes"));
        let mut notes = world.connect("notes");
        let guid = make(&mut notes);
        let sleep = in_guid(&guid, &json!({ "command": ["sleep", "4321"], "streams": { "stdout": "pipe" } }));
        let process = notes.call("subcontainer.spawn", sleep)["process"].clone();
        let (mut stream, _) =
            opens(&world, "notes", "stream.attach", json!({ "process": process, "stream": "stdout" }));
        let hanging = notes.send("subcontainer.wait", json!({ "process": process }));
        let start = Instant::now();
        world.host.cli().run(["package", "disable", "notes"]).ok();
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "somebody who waits held it up: {:?}",
            start.elapsed()
        );
        assert!(
            notes.try_send_line("{}").is_err() || notes.receive().is_none_or(|last| last["id"] == hanging)
        );
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "its stream goes on");
        assert_eq!(guids_of_the_machine(&world), Vec::<String>::new());

        world.host.cli().run(["package", "activate", "notes"]).ok();
        let mut notes = world.connect("notes");
        let error = notes.call_fails("subcontainer.exec", in_guid(&guid, &json!({ "command": ["true"] })));
        assert_eq!(error.kind(), "notFound");
        let (owned, kept) = (make(&mut notes), make(&mut notes));
        notes.call("subcontainer.detach", json!({ "guid": kept }));
        for guid in [&owned, &kept] {
            notes.call("subcontainer.launch", in_guid(guid, &json!({ "command": ["sleep", "4321"] })));
        }
        world.host.kill();
        world.host.start_again();
        wait_for("the door, after a kill", || UnixStream::connect(world.socket("notes")).is_ok());
        wait_for("the end of all that the package had", || guids_of_the_machine(&world).is_empty());
        let mut notes = world.connect("notes");
        assert_eq!(notes.call("subcontainer.list", json!({})), json!({ "subcontainers": [] }));
        let guid = make(&mut notes);
        assert_eq!(notes.output(&guid, &["echo", "anew"]), "anew\n");
        let running = fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|process| {
            fs::read(process.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x004321\0")
        });
        assert!(!running, "a process of before still runs");
    });
}

/// A package with jobs, one of which its service requires.
fn working(id: &str) -> Value {
    let program = |command: &str| {
        json!({ "image": "main", "command": ["sh", "-c", command],
            "mounts": [{ "path": "/data", "from": { "volume": "data" } }] })
    };
    let mut manifest = maker(id);
    manifest["entries"] = json!({
        "migrate": { "job": { "program": program("echo migrated >> /data/state") } },
        "nightly": { "job": { "program": program("cat /data/state; echo of night >&2; sleep 0.3; exit 7") } },
        "hang": { "job": { "program": program("sleep 9876 & sleep 9876"), "timeoutSeconds": 1 } },
        "web": { "service": { "program": program("cat /data/state > /data/seen; sleep 1000"), "requires": ["migrate"],
            "graceSeconds": 0 } }
    });
    let asked = json!({
        "task:run": { "reason": "Its night", "names": ["nightly", "hang", "none"] }, "task:read": { "reason": "Its night" },
        "volumes": { "reason": "Its room", "names": ["data"] }, "node:read": { "reason": "How many to run" },
        "static:read": { "reason": "Its pages", "paths": ["/media/startos/ui"] },
        "backups": { "reason": "Its dumps", "names": ["data"] }
    });
    manifest["capabilities"].as_object_mut().unwrap().extend(asked.as_object().unwrap().clone());
    manifest
}

#[test]
fn b3_jobs_of_the_manifest_run_to_their_end_for_the_package_and_for_the_operator() {
    isolated(|| {
        let world = World::new();
        world.activate(&working("notes"));
        let state = || fs::read_to_string(world.volume("notes").join("seen")).unwrap_or_default();
        wait_for("the service, after the job that it requires", || state() == "migrated\n");
        let mut notes = world.connect("notes");
        assert_eq!(notes.call("task.run", json!({ "task": "nightly" }))["running"], true);
        assert_eq!(notes.call_fails("task.run", json!({ "task": "nightly" })).kind(), "busy");
        let read = |notes: &mut Rpc, task: &str| {
            notes.call("task.read", json!({ "task": task }))["tasks"][0].clone()
        };
        wait_for("the end of the job", || read(&mut notes, "nightly")["running"] == false);
        let ran = read(&mut notes, "nightly");
        assert_eq!(ran["outcome"], json!({ "kind": "exit", "code": 7 }), "{ran}");
        assert_eq!(
            (bytes(&ran["stdout"]), bytes(&ran["stderr"])),
            (b"migrated\n".to_vec(), b"of night\n".to_vec())
        );
        assert_eq!(notes.call_fails("task.run", json!({ "task": "migrate" })).kind(), "denied");
        assert_eq!(notes.call_fails("task.run", json!({ "task": "none" })).kind(), "notFound");
        assert_eq!(notes.call("task.read", json!({}))["tasks"].as_array().map(Vec::len), Some(3));
        notes.call("task.run", json!({ "task": "hang" }));
        wait_for("its time limit", || read(&mut notes, "hang")["outcome"]["kind"] == "timeout");
        let services = guids_of_the_machine(&world);
        assert_eq!(services.len(), 1, "what jobs ran in is left: {services:?}");

        let cli = world.host.cli();
        let ran = cli.run(["package", "run", "notes", "nightly"]);
        assert_eq!(ran.out(), "migrated");
        assert_eq!(ran.failed(7), "of night");
        cli.run(["package", "run", "notes", "migrate"]).ok();
        assert!(cli.run(["package", "run", "notes", "web"]).failed(125).contains("find job web"));
        // A job that runs ends with its package.
        notes.call("task.run", json!({ "task": "nightly" }));
        cli.run(["package", "disable", "notes"]).ok();
        assert!(cli.run(["package", "run", "notes", "nightly"]).failed(125).contains("not active"));
        assert_eq!(guids_of_the_machine(&world), Vec::<String>::new());
        let audit = world.audit();
        assert!(
            audit.contains(&line("notes", "task.run", "done"))
                && audit.contains(&line("notes", "task.run", "denied"))
        );
    });
}

#[test]
fn b3_a_job_that_a_service_requires_and_that_fails_keeps_its_package_from_starting() {
    isolated(|| {
        let world = World::new();
        let mut manifest = working("notes");
        manifest["entries"]["migrate"]["job"]["program"]["command"] = json!(["sh", "-c", "exit 3"]);
        let cli = world.host.cli();
        cli.run(["package", "install", &world.author.bundle(cli, &manifest)]).ok();
        cli.run(["package", "grant", "notes", "--all"]).ok();
        let said = cli.run(["package", "activate", "notes"]).failed(125);
        assert!(said.contains("run job migrate"), "{said}");
        assert_eq!(guids_of_the_machine(&world), Vec::<String>::new());
        assert_eq!(cli.run(["--json", "sandbox", "ls"]).ok().json(), json!([]));
    });
}

#[test]
fn b3_volumes_pages_the_machine_and_the_backup_target_are_seen_as_far_as_they_were_granted() {
    isolated(|| {
        let world = World::new();
        let pages = world.author.dir.path().join("notes-1.0.0/ui");
        fs::create_dir_all(&pages).unwrap();
        fs::write(pages.join("index.html"), "<html>").unwrap();
        world.activate(&working("notes"));
        let mut notes = world.connect("notes");
        let volumes = notes.call("volumes.list", json!({}));
        assert_eq!(volumes["volumes"][0]["volumeId"], "data");
        assert!(volumes["volumes"][0]["availableBytes"].as_u64().unwrap() > 0, "{volumes}");
        assert!(notes.call("node.read", json!({}))["cpus"].as_u64().unwrap() > 0);
        let page = notes.call("static.read", json!({ "path": "/media/startos/ui/index.html" }));
        assert_eq!(bytes(&page["data"]), b"<html>");
        for path in ["/media/startos/ui/../images/main.tar", "/media/startos/volumes/data/state"] {
            notes.call_fails("static.read", json!({ "path": path }));
        }
        // There is no target before the operator has made one; then each package has its own part of it.
        let guid = make(&mut notes);
        let backup = json!({ "source": { "type": "backup" }, "mountpoint": "/backup" });
        let mount = in_guid(&guid, &json!({ "mount": backup }));
        assert_eq!(notes.call_fails("subcontainer.mount", mount.clone()).kind(), "notFound");
        let target = world.host.data().join("backup");
        fs::create_dir_all(target.join("other")).unwrap();
        notes.call("subcontainer.mount", mount);
        assert_eq!(notes.output(&guid, &["sh", "-c", "ls /backup; echo dump > /backup/it"]), "");
        assert_eq!(fs::read_to_string(target.join("notes/it")).unwrap(), "dump\n");
        let out = json!({ "source": { "type": "backup", "subpath": "../other" }, "mountpoint": "/out" });
        notes.call_fails("subcontainer.mount", in_guid(&guid, &json!({ "mount": out })));
    });
}
