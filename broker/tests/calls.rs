//! Calls of packages, from the request to the line in the audit log.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::capability::Capability;
use broker::chain::{Chain, ChainError};
use broker::files::Root;
use broker::hands::{Failed, Hands};
use broker::{Broker, Called, Caller, Databases, Error, Rates};
use protocol::ErrorKind;
use protocol::broker::{DependencyInfo, LogLevel, ProcessStatusResult, TaskInfo};
use protocol::package::{AuditEntry, AuditLine, AuditOutcome};
use protocol::stats::StatsResult;
use rusqlite::Connection;
use serde_json::{Value, json};

/// A log without a chain, which can fail.
#[derive(Default)]
struct Log {
    fails: AtomicBool,
}

impl Chain for Log {
    fn append(
        &self,
        database: &rusqlite::Transaction<'_>,
        entries: &[AuditLine<'_>],
    ) -> Result<(), ChainError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err("the disk is full".into());
        }
        for entry in entries {
            let outcome = serde_json::to_string(&entry.outcome)?;
            database.execute(
                "INSERT INTO log VALUES (?, ?, ?, ?, ?)",
                [entry.actor, entry.package, entry.action, outcome.trim_matches('"'), entry.detail],
            )?;
        }
        Ok(())
    }

    fn last(&self, _: &Connection, _: &str, _: u32) -> Result<Vec<AuditEntry>, ChainError> {
        Ok(Vec::new())
    }
}

#[derive(Default)]
struct Pretend(Mutex<Vec<String>>);

impl Hands for Pretend {
    fn run(&self, command: &[String], _: Option<&str>) -> Result<String, Failed> {
        self.0.lock().unwrap().push(command.join(" "));
        Ok("c1".to_owned())
    }

    fn status(&self, process: &str) -> Result<ProcessStatusResult, Failed> {
        match process {
            "c1" => Ok(ProcessStatusResult { outcome: None }),
            _ => Err(Failed { kind: ErrorKind::NotFound, message: "no such process".to_owned() }),
        }
    }

    fn stop(&self, _: &str) -> Result<(), Failed> {
        Ok(())
    }

    fn run_task(&self, task: &str) -> Result<TaskInfo, Failed> {
        self.0.lock().unwrap().push(format!("task {task}"));
        Ok(TaskInfo { task: task.to_owned(), running: true, runs: 1, ..TaskInfo::default() })
    }

    fn tasks(&self, _: Option<&str>) -> Result<Vec<TaskInfo>, Failed> {
        Ok(Vec::new())
    }

    fn dependency(&self, package: &str) -> Result<DependencyInfo, Failed> {
        Ok(DependencyInfo { package_id: package.to_owned(), ..DependencyInfo::default() })
    }

    fn usage(&self) -> Result<StatsResult, Failed> {
        Err(Failed { kind: ErrorKind::NotRunning, message: "it does not run".to_owned() })
    }

    fn log(&self, _: LogLevel, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }

    fn notify(&self, channel: &str, title: &str, _: &str) {
        self.0.lock().unwrap().push(format!("{channel}: {title}"));
    }
}

struct World {
    dir: tempfile::TempDir,
    log: Arc<Log>,
    hands: Arc<Pretend>,
    broker: Arc<Broker>,
    runtime: tokio::runtime::Runtime,
}

fn connect(dir: &Path) -> Connection {
    let database = Connection::open(dir.join("state.db")).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    database.execute("CREATE TABLE IF NOT EXISTS log (actor, package, action, outcome, detail)", []).unwrap();
    database
}

/// A way to the outside that knows one name, and may reach loopback where that is granted by it.
struct Names;

impl broker::egress::Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> broker::egress::Addresses<'a> {
        let address: std::net::IpAddr = if name == "metadata.example" {
            std::net::Ipv4Addr::new(169, 254, 169, 254).into()
        } else {
            std::net::Ipv4Addr::LOCALHOST.into()
        };
        Box::pin(async move { Ok(vec![address]) })
    }
}

fn guard() -> broker::egress::Guard {
    let private = vec!["127.0.0.0/8".parse().unwrap()];
    broker::egress::Guard::with_resolver(Arc::new(Names)).with_private(private)
}

fn open(dir: &Path, log: &Arc<Log>) -> Arc<Broker> {
    let databases = Databases { write: connect(dir), read: connect(dir) };
    let chain: Arc<dyn Chain> = Arc::<Log>::clone(log);
    Broker::open(databases, chain, dir, guard(), Rates::default(), || 1).unwrap()
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("volume")).unwrap();
        let log = Arc::<Log>::default();
        let broker = open(dir.path(), &log);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { dir, log, hands: Arc::default(), broker, runtime }
    }

    fn caller(&self, package: &str, granted: Value) -> Arc<Caller> {
        let dir = linux::tree::open_dir(&self.dir.path().join("volume")).unwrap();
        let root = Root { at: "/v".to_owned(), dir, writable: true };
        let hands: Arc<dyn Hands> = Arc::<Pretend>::clone(&self.hands);
        self.broker.admit(package, serde_json::from_value(granted).unwrap(), vec![root], hands)
    }

    fn call(&self, caller: &Arc<Caller>, method: &str, params: Value) -> Result<Value, Error> {
        let result = match caller.call(method, &params.to_string()) {
            Called::Now(result) => result,
            Called::Later(_, result) => self.runtime.block_on(result),
        };
        result.map(|text| serde_json::from_str(&text).unwrap())
    }

    /// What another process reads of the log, by now.
    fn lines(&self) -> Vec<(String, String, Value)> {
        let database = connect(self.dir.path());
        let mut statement =
            database.prepare("SELECT action, outcome, detail FROM log ORDER BY rowid").unwrap();
        let rows = statement.query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, serde_json::from_str(&row.get::<_, String>(2)?).unwrap()))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    /// The same, when everything is written.
    fn all_lines(&self) -> Vec<(String, String, Value)> {
        std::thread::sleep(broker::ledger::LATE * 8);
        self.lines()
    }
}

fn kv() -> Value {
    json!({ "kv:read": { "groups": ["g"] }, "kv:write": { "groups": ["g"] } })
}

#[test]
fn b2_a_denial_is_written_down_before_it_is_answered_and_names_what_is_missing() {
    let world = World::new();
    let caller = world.caller("notes", kv());
    let error = world.call(&caller, "kv.get", json!({ "group": "other", "key": "k" })).unwrap_err();
    let lines = world.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((lines[0].0.as_str(), lines[0].1.as_str()), ("kv.get", "denied"));
    assert_eq!(lines[0].2["item"], "other");
    let data = serde_json::to_value(error.data("kv.get")).unwrap();
    assert_eq!(data["missing"], json!({ "kv:read": { "groups": ["other"] } }), "{data}");
    assert_eq!(data["kind"], "denied");
}

#[test]
fn b2_a_change_and_its_line_are_there_when_it_is_answered() {
    let world = World::new();
    let caller = world.caller("notes", kv());
    let set = |value: Value, revision: u64| {
        world.call(
            &caller,
            "kv.set",
            json!({ "group": "g", "key": "k", "value": value, "ifRevision": revision }),
        )
    };
    assert_eq!(set(json!({ "a": [1, null] }), 0).unwrap()["revision"], 1);
    assert_eq!(world.lines().len(), 1);
    let got = world.call(&caller, "kv.get", json!({ "group": "g", "key": "k" })).unwrap();
    assert_eq!(got, json!({ "value": { "a": [1, null] }, "revision": 1 }));
    let error = set(json!(2), 0).unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error}");
    let outcomes: Vec<String> = world.all_lines().into_iter().map(|line| line.1).collect();
    assert_eq!(
        outcomes.iter().filter(|outcome| *outcome == "failed").count(),
        1,
        "the final outcome: {outcomes:?}"
    );
}

#[test]
fn b2_what_cannot_be_written_down_is_not_done() {
    let world = World::new();
    let caller = world.caller("notes", kv());
    let set = || world.call(&caller, "kv.set", json!({ "group": "g", "key": "k", "value": 1 }));
    world.log.fails.store(true, Ordering::Relaxed);
    assert!(matches!(set(), Err(Error::Audit(_))));
    let refused = world.call(&caller, "kv.get", json!({ "group": "g", "key": "k" })).unwrap_err();
    assert!(matches!(refused, Error::Audit(_)), "{refused}");
    world.log.fails.store(false, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(world.call(&caller, "kv.get", json!({ "group": "g", "key": "k" })).unwrap()["revision"], 0);
    assert_eq!(set().unwrap()["revision"], 1);
}

#[test]
fn b5_groups_of_the_host_are_refused_even_where_they_were_granted() {
    let world = World::new();
    let caller = world
        .caller("notes", json!({ "kv:read": { "groups": ["_host"] }, "kv:write": { "groups": ["_host"] } }));
    for (method, params) in [
        ("kv.get", json!({ "group": "_host", "key": "k" })),
        ("kv.set", json!({ "group": "_host", "key": "k", "value": 1 })),
        ("kv.list", json!({ "group": "_host" })),
        ("kv.delete", json!({ "group": "_host", "key": "k" })),
    ] {
        let error = world.call(&caller, method, params).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Denied, AuditOutcome::Denied), "{method}");
    }
}

#[test]
fn b5_no_package_reads_what_is_anothers_and_secrets_are_not_listed() {
    let world = World::new();
    let granted = json!({ "kv:read": { "groups": ["g"] }, "kv:write": { "groups": ["g"] }, "secrets": { "names": ["token"] } });
    let (notes, other) = (world.caller("notes", granted.clone()), world.caller("other", granted));
    world.call(&notes, "kv.set", json!({ "group": "g", "key": "k", "value": "mine" })).unwrap();
    world.call(&notes, "secrets.set", json!({ "name": "token", "value": { "text": "hunter2" } })).unwrap();
    let token = json!({ "name": "token" });
    assert_eq!(
        world.call(&notes, "secrets.get", token.clone()).unwrap(),
        json!({ "value": { "text": "hunter2" } })
    );
    assert_eq!(world.call(&other, "secrets.get", token.clone()).unwrap(), json!({}));
    assert_eq!(world.call(&other, "kv.get", json!({ "group": "g", "key": "k" })).unwrap()["revision"], 0);
    assert_eq!(world.call(&other, "kv.list", json!({ "group": "g" })).unwrap()["keys"], json!([]));
    assert!(matches!(world.call(&notes, "secrets.list", json!({})), Err(Error::UnknownMethod(_))));
    assert_eq!(world.runtime.block_on(world.broker.rekey()).unwrap(), 1);
    assert_eq!(world.call(&notes, "secrets.get", token).unwrap(), json!({ "value": { "text": "hunter2" } }));
    let bytes = std::fs::read(world.dir.path().join("state.db")).unwrap();
    let log = std::fs::read(world.dir.path().join("state.db-wal")).unwrap();
    for bytes in [bytes, log] {
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "it lies on the disk as it is");
    }
}

#[test]
fn b6_a_command_is_granted_word_for_word() {
    let world = World::new();
    let granted = json!({ "process:run": { "commands": [r#"["pg_dump","notes"]"#] } });
    let caller = world.caller("notes", granted);
    let run = |command: Value| world.call(&caller, "process.run", json!({ "command": command }));
    assert_eq!(run(json!(["pg_dump", "notes"])).unwrap()["process"], "c1");
    for other in
        [json!(["pg_dump"]), json!(["pg_dump notes"]), json!(["pg_dump", "notes", "-f/etc/x"]), json!([])]
    {
        assert!(matches!(run(other.clone()), Err(Error::Missing(_))), "{other}");
    }
    let with_options = json!({ "command": ["pg_dump", "notes"], "env": { "LD_PRELOAD": "/x" } });
    assert!(matches!(world.call(&caller, "process.run", with_options), Err(Error::Params(_))));
    assert_eq!(*world.hands.0.lock().unwrap(), ["pg_dump notes"]);
}

#[test]
fn b3_what_is_only_known_by_name_is_checked_first_and_then_refused_by_type() {
    let world = World::new();
    let caller = world.caller("notes", json!({ "monitor:admin": {} }));
    assert_eq!(world.call(&caller, "monitor.admin", json!({})).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(world.call(&caller, "tunnel.admin", json!({})).unwrap_err().kind(), ErrorKind::Denied);
    let outcomes: Vec<_> = world.all_lines().into_iter().map(|line| (line.0, line.1)).collect();
    assert!(outcomes.contains(&("monitor.admin".to_owned(), "failed".to_owned())), "{outcomes:?}");
    assert!(outcomes.contains(&("tunnel.admin".to_owned(), "denied".to_owned())), "{outcomes:?}");
}

#[test]
fn b3_a_task_is_granted_by_its_name_and_volumes_and_shown_files_are_its_own() {
    let world = World::new();
    let granted = json!({ "task:run": { "names": ["nightly"] }, "volumes": { "names": ["data", "none"] },
        "static:read": { "paths": ["/media/startos", "/v"] }, "node:read": {} });
    let caller = world.caller("notes", granted);
    assert_eq!(world.call(&caller, "task.run", json!({ "task": "nightly" })).unwrap()["running"], true);
    let error = world.call(&caller, "task.run", json!({ "task": "other" })).unwrap_err();
    assert!(matches!(error, Error::Missing(_)), "{error}");
    assert!(matches!(world.call(&caller, "task.read", json!({})).unwrap_err(), Error::Missing(_)));
    assert_eq!(world.call(&caller, "volumes.list", json!({})).unwrap(), json!({ "volumes": [] }));
    // Not a volume, whatever paths were granted.
    for path in ["/v/a", "/media/startos/volumes/data/a", "/media/startos/assets"] {
        let error = world.call(&caller, "static.read", json!({ "path": path })).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{path}: {error}");
    }
    let node = world.call(&caller, "node.read", json!({})).unwrap();
    assert!(node["cpus"].as_u64().unwrap() > 0 && node["memoryBytes"].as_u64().unwrap() > 1 << 20, "{node}");
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert!(!node.to_string().contains(&format!("\"{name}\"")), "it tells which machine it is: {node}");
}

#[test]
fn b3_a_dependency_is_read_by_its_own_name_and_no_other_package_is() {
    let world = World::new();
    let caller = world.caller("notes", json!({ "dependencies:read": { "packages": ["db"] } }));
    let read = |package: &str| world.call(&caller, "dependencies.read", json!({ "packageId": package }));
    assert_eq!(
        read("db").unwrap(),
        json!({ "packageId": "db", "running": false, "tasks": [], "health": [] })
    );
    for other in ["notes", "d", "db2", "*", "", "../db", "DB"] {
        assert!(matches!(read(other).unwrap_err(), Error::Missing(_)), "{other}");
    }
}

#[test]
fn b3_every_capability_has_a_method_and_every_method_is_in_the_schema() {
    for capability in broker::capability::Capability::ALL {
        let shared = matches!(capability, Capability::Subcontainers | Capability::Net);
        assert!(shared || broker::METHODS.iter().any(|(_, one)| one == capability), "{}", capability.name());
    }
    let known: BTreeSet<&str> = broker::METHODS.iter().map(|(name, _)| *name).collect();
    let named = protocol::schema::PACKAGE_METHODS.iter().map(|method| method.name);
    let of_the_door = ["hello", "ping", "files.stream", "net.connect"];
    assert_eq!(named.filter(|name| !of_the_door.contains(name)).collect::<BTreeSet<_>>(), known);
    let confined: BTreeSet<&str> = broker::confine::METHODS.iter().map(|(name, _)| *name).collect();
    assert_eq!(confined, protocol::schema::SHARED_METHODS.iter().copied().collect::<BTreeSet<_>>());
    for name in confined {
        assert!(protocol::schema::METHODS.iter().any(|method| method.name == name), "{name}");
    }
}

#[test]
fn b4_a_link_out_of_what_is_granted_is_written_down_as_a_denial() {
    let world = World::new();
    std::os::unix::fs::symlink("/etc/passwd", world.dir.path().join("volume/link")).unwrap();
    let caller = world.caller("notes", json!({ "files:read": { "paths": ["/v"] } }));
    let error = world.call(&caller, "files.read", json!({ "path": "/v/link" })).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Escape);
    let lines = world.lines();
    assert_eq!((lines[0].0.as_str(), lines[0].1.as_str()), ("files.read", "denied"));
    let error =
        world.call(&caller, "files.write", json!({ "path": "/v/a", "data": { "text": "x" } })).unwrap_err();
    assert!(matches!(error, Error::Missing(_)), "reading is not writing: {error}");
}

#[test]
fn b11_who_is_denied_again_and_again_is_put_in_quarantine_until_the_operator_lifts_it() {
    let world = World::new();
    let caller = world.caller("notes", kv());
    let get = |group: &str| world.call(&caller, "kv.get", json!({ "group": group, "key": "k" }));
    for _ in 0..100 {
        assert_eq!(get("other").unwrap_err().kind(), ErrorKind::Denied);
    }
    assert_eq!(get("g").unwrap_err().kind(), ErrorKind::Quarantined, "what is granted, too");
    assert!(world.lines().iter().any(|line| line.0 == "package.quarantine"));
    let written = world.lines().len();
    for _ in 0..1000 {
        get("other").unwrap_err();
    }
    assert_eq!(world.all_lines().len(), written, "nobody fills the log from there");

    // It outlives the host.
    world.broker.close();
    let broker = open(world.dir.path(), &world.log);
    assert!(broker.info("notes").unwrap().quarantined.is_some());
    world.runtime.block_on(broker.lift("notes")).unwrap();
    assert_eq!(broker.info("notes"), None);
    assert!(matches!(world.runtime.block_on(broker.lift("notes")), Err(Error::NotFound(_))));
    drop(broker);
    assert_eq!(open(world.dir.path(), &world.log).info("notes"), None);
}

#[test]
fn b11_a_flood_of_reads_becomes_few_lines_that_count_all_of_them() {
    let world = World::new();
    let caller = world.caller("notes", kv());
    for number in 0..30_000_u32 {
        world
            .call(&caller, "kv.get", json!({ "group": "g", "key": format!("{}", number % 15_000) }))
            .unwrap();
    }
    std::thread::sleep(Duration::from_millis(1500));
    let lines = world.lines();
    let calls: u64 = lines.iter().map(|line| line.2["calls"].as_u64().unwrap_or(1)).sum();
    assert_eq!(calls, 30_000);
    assert!(lines.len() < 15_000, "{}", lines.len());
}

#[test]
fn b11_a_flood_of_files_that_are_not_there_or_of_changes_fills_no_log() {
    let world = World::new();
    let granted = json!({ "files:read": { "paths": ["/v"] }, "kv:write": { "groups": ["g"] } });
    let caller = world.caller("notes", granted);
    for number in 0..14_000_u32 {
        world.call(&caller, "files.read", json!({ "path": format!("/v/{number}") })).unwrap_err();
    }
    for number in 0..50_u32 {
        world
            .call(&caller, "kv.set", json!({ "group": "g", "key": number.to_string(), "value": 1 }))
            .unwrap();
    }
    std::thread::sleep(Duration::from_millis(1500));
    let lines = world.lines();
    let calls: u64 = lines.iter().map(|line| line.2["calls"].as_u64().unwrap_or(1)).sum();
    assert_eq!(calls, 14_050);
    assert!(lines.len() < 10_500, "{}", lines.len());
    let folded = lines.iter().find(|line| line.2["calls"].as_u64() > Some(100)).unwrap();
    assert_eq!((&folded.2["item"], &folded.2["subject"]), (&json!("/v"), &Value::Null), "{folded:?}");
}

#[test]
fn b11_rates_hold_and_are_denials_that_lead_to_no_quarantine() {
    let world = World::new();
    let caller = world.caller("notes", json!({ "log:write": {} }));
    let mut limited = 0;
    for _ in 0..400 {
        match world.call(&caller, "log.write", json!({ "message": "x\u{1b}[2J\ny" })) {
            Ok(_) => {}
            Err(Error::Limited(_)) => limited += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(limited > 100, "{limited}");
    let info = world.broker.info("notes").unwrap();
    assert_eq!((info.limited, info.quarantined), (limited, None));
    assert_eq!(world.hands.0.lock().unwrap()[0], "x[2J y", "nothing in it moves a cursor");
}

#[test]
fn b2_nonsense_reaches_nothing_and_is_refused_by_type() {
    let world = World::new();
    let caller = world.caller("notes", kv());
    for (method, params) in [
        ("kv.get", "[]"),
        ("kv.get", "{"),
        ("kv.get", r#"{"group":"g","key":"k","package":"other"}"#),
        ("kv.set", r#"{"group":"g","key":"k"}"#),
    ] {
        let Called::Now(Err(error)) = caller.call(method, params) else { panic!("{method} {params}") };
        assert!(matches!(error, Error::Params(_)), "{error}");
    }
    let long = "k".repeat(513);
    for key in ["", &long] {
        let error = world.call(&caller, "kv.get", json!({ "group": "g", "key": key })).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    let large = json!({ "group": "g", "key": "k", "value": "x".repeat(256 << 10) });
    assert_eq!(world.call(&caller, "kv.set", large).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn b5_what_a_package_kept_is_forgotten_with_its_data() {
    let world = World::new();
    let caller = world.caller("notes", kv());
    world.call(&caller, "kv.set", json!({ "group": "g", "key": "k", "value": 1 })).unwrap();
    world.runtime.block_on(world.broker.forget("notes")).unwrap();
    assert_eq!(world.call(&caller, "kv.get", json!({ "group": "g", "key": "k" })).unwrap()["revision"], 0);
}

/// Answers each connection with this.
fn server(answer: String) -> u16 {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let heard = stream.read(&mut [0; 4096]).unwrap_or(0);
            assert!(heard > 0, "a request has something in it");
            stream.write_all(answer.as_bytes()).ok();
        }
    });
    port
}

#[test]
fn b7_a_request_goes_to_whom_was_granted_and_a_denial_by_the_guard_is_written_down_as_one() {
    let world = World::new();
    let hello = server("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-a: b\r\n\r\nhello".to_owned());
    let astray = server(format!(
        "HTTP/1.1 302 Found\r\nlocation: http://c.example:{hello}/\r\ncontent-length: 0\r\n\r\n"
    ));
    let hosts = json!([format!("a.example:{hello}"), format!("b.example:{astray}"), "metadata.example:80"]);
    let caller = world.caller("notes", json!({ "http:egress": { "hosts": hosts } }));
    let fetch = |url: String| world.call(&caller, "http.fetch", json!({ "url": url }));
    let answer = fetch(format!("http://a.example:{hello}/news?token=hunter2")).unwrap();
    assert_eq!((&answer["status"], &answer["body"]["text"]), (&json!(200), &json!("hello")), "{answer}");
    assert!(
        answer["headers"].as_array().unwrap().contains(&json!({ "name": "x-a", "value": "b" })),
        "{answer}"
    );

    let refused = fetch("http://metadata.example/latest".to_owned()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    assert!(refused.to_string().contains("169.254.0.0/16"), "{refused}");
    let refused = fetch(format!("http://b.example:{astray}/")).unwrap_err();
    let data = serde_json::to_value(refused.data("http.fetch")).unwrap();
    assert_eq!(
        data["missing"],
        json!({ "http:egress": { "hosts": [format!("c.example:{hello}")] } }),
        "{data}"
    );
    assert!(matches!(fetch("http://c.example/".to_owned()), Err(Error::Missing(_))));
    assert!(matches!(fetch("file:///etc/passwd".to_owned()), Err(Error::Invalid(_))));

    let lines: Vec<_> = world.all_lines().into_iter().filter(|line| line.0 == "http.fetch").collect();
    let outcomes: Vec<&str> = lines.iter().map(|line| line.1.as_str()).collect();
    assert_eq!(outcomes.iter().filter(|one| **one == "done").count(), 1, "{lines:?}");
    assert_eq!(outcomes.iter().filter(|one| **one == "denied").count(), 3, "{lines:?}");
    assert!(lines.iter().all(|line| !line.2.to_string().contains("hunter2")), "{lines:?}");
}

#[test]
fn b7_a_connection_goes_to_whom_was_granted_and_is_written_down() {
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let echo = listener.local_addr().unwrap().port();
    let hosts = json!([format!("a.example:{echo}"), "metadata.example:80", "1.2.3.4:0"]);
    let caller = world.caller("notes", json!({ "net": { "hosts": hosts } }));
    let dial =
        |to: String| world.runtime.block_on(caller.dial(&json!({ "to": to, "timeout": 2000 }).to_string()));
    let stream = dial(format!("a.example:{echo}")).unwrap();
    assert_eq!(stream.peer_addr().unwrap().port(), echo);
    let refused = dial("metadata.example:80".to_owned()).unwrap_err();
    assert!(
        refused.kind() == ErrorKind::Denied && refused.to_string().contains("169.254.0.0/16"),
        "{refused}"
    );
    for other in [format!("b.example:{echo}"), "a.example:1".to_owned(), format!("A.example:{echo}")] {
        let refused = dial(other.clone()).unwrap_err();
        assert!(matches!(refused, Error::Missing(_) | Error::Invalid(_)), "{other}: {refused}");
    }
    for nothing in ["", "a.example", "1.2.3.4:0", "127.1:80"] {
        assert!(matches!(dial(nothing.to_owned()), Err(Error::Invalid(_))), "{nothing}");
    }
    let outcomes: Vec<_> =
        world.all_lines().into_iter().filter(|line| line.0 == "net.connect").map(|line| line.1).collect();
    assert_eq!(outcomes.iter().filter(|one| *one == "done").count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|one| *one == "denied").count(), 3, "{outcomes:?}");
}

#[test]
fn b5_what_is_kept_goes_into_a_backup_without_a_secret_and_comes_back_where_the_key_is() {
    let world = World::new();
    let granted = json!({ "kv:read": { "groups": ["g"] }, "kv:write": { "groups": ["g"] }, "secrets": { "names": ["token"] } });
    let caller = world.caller("notes", granted.clone());
    let set = |key: &str, value: Value| {
        world.call(&caller, "kv.set", json!({ "group": "g", "key": key, "value": value })).unwrap()
    };
    set("k", json!({ "a": 1 }));
    world.call(&caller, "secrets.set", json!({ "name": "token", "value": { "text": "hunter2" } })).unwrap();
    let kept = world.broker.kept("notes").unwrap();
    assert!(!serde_json::to_string(&kept).unwrap().contains("hunter2"));
    let restore = |kept: &broker::Kept, world: &World| {
        world.runtime.block_on(world.broker.replace_kept("notes", kept.clone(), ("package.restore", "t")))
    };
    set("k", json!(2));
    set("later", json!(3));
    restore(&kept, &world).unwrap();
    let get = |key: &str| world.call(&caller, "kv.get", json!({ "group": "g", "key": key })).unwrap();
    assert_eq!(get("k")["value"], json!({ "a": 1 }));
    assert_eq!(get("k")["revision"], 4, "no revision comes twice");
    assert_eq!(get("later")["revision"], 0);
    let token = world.call(&caller, "secrets.get", json!({ "name": "token" })).unwrap();
    assert_eq!(token, json!({ "value": { "text": "hunter2" } }));

    // What no package may keep changes nothing, and nobody else hears of it.
    for (group, value) in [("_host", "1"), ("g", "no json"), ("g", &format!("\"{}\"", "x".repeat(300_000)))] {
        let mut hostile = kept.clone();
        hostile.keys.push(broker::KeptKey { group: group.into(), key: "x".into(), value: value.into() });
        assert!(restore(&hostile, &world).is_err(), "{group}");
        assert_eq!(get("k")["value"], json!({ "a": 1 }));
    }
    set("k", json!(5));

    // Another host has another key; so has another package's place.
    let other = World::new();
    let there = other.caller("notes", granted);
    other.call(&there, "secrets.set", json!({ "name": "token", "value": { "text": "own" } })).unwrap();
    assert_eq!(other.broker.closed_secrets("notes", &kept).unwrap(), ["token"]);
    assert_eq!(world.broker.closed_secrets("else", &kept).unwrap(), ["token"]);
    restore(&kept, &other).unwrap();
    assert_eq!(other.call(&there, "secrets.get", json!({ "name": "token" })).unwrap(), json!({}));

    assert!(!world.broker.is_restored("notes", "r1").unwrap());
    world.runtime.block_on(world.broker.complete_restore("notes", "r1", "t")).unwrap();
    assert!(world.broker.is_restored("notes", "r1").unwrap());
    assert_eq!(world.broker.kept("notes").unwrap().keys.len(), 1, "the host's own keys are in no backup");
}
