//! Clients that live while their host is killed, and those who would like to be one of them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Host, Rpc, eventually, isolated};

/// A connection of this process, and its session.
fn session(host: &Host, known: Option<&str>) -> (Rpc, Value) {
    let mut rpc = host.connect_raw();
    let mut params = json!({"protocol": 1, "client": "tests"});
    if let Some(token) = known {
        params["session"] = json!(token);
    }
    let hello = rpc.call("hello", params);
    (rpc, hello)
}

fn token(hello: &Value) -> String {
    hello["session"].as_str().unwrap().to_owned()
}

fn guids(rpc: &mut Rpc) -> Vec<String> {
    let list = rpc.call("subcontainer.list", json!({}));
    list["subcontainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["guid"].as_str().unwrap().to_owned())
        .collect()
}

/// A client in a process of its own: requests in, answers out.
struct Client {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

const CLIENT: &str = r#"
import json, socket, sys
def connect():
    global s, f
    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f = s.makefile('rw')
connect()
for line in sys.stdin:
    if line.strip() == 'connect': connect(); continue
    f.write(line); f.flush()
    print(f.readline().strip(), flush=True)
"#;

impl Client {
    fn start(host: &Host) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", CLIENT])
            .arg(host.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from }
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        let line = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        writeln!(self.to, "{line}").unwrap();
        let mut answer = String::new();
        self.from.read_line(&mut answer).unwrap();
        serde_json::from_str::<Value>(&answer).unwrap()["result"].clone()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn s26_a_client_that_lives_keeps_its_containers_when_the_host_is_killed() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let (mut rpc, hello) = session(&host, None);
        assert_eq!(hello["resumed"], json!([]));
        let guid = rpc.create_fs("busybox");
        let pid = rpc.call("subcontainer.launch", json!({"guid": guid}))["pid"].clone();
        let sandbox = rpc.call("sandbox.create", json!({"imageId": "busybox"}))["guid"].clone();
        // Twice: the session goes on with the next host, too.
        let mut token = token(&hello);
        for _ in 0..2 {
            host.kill();
            host.start_with(&[]);
            let (again, hello) = session(&host, Some(&token));
            let mut resumed: Vec<Value> = hello["resumed"].as_array().unwrap().clone();
            resumed.sort_by_key(ToString::to_string);
            let mut expected = vec![json!(guid), sandbox.clone()];
            expected.sort_by_key(ToString::to_string);
            assert_eq!((resumed, &hello["grace"]), (expected, &json!(10_000)));
            token = hello["session"].as_str().unwrap().to_owned();
            rpc = again;
        }
        let info = rpc.call("subcontainer.inspect", json!({"guid": guid}));
        assert_eq!((&info["state"]["status"], &info["state"]["pid"]), (&json!("running"), &pid), "{info}");
        assert_eq!(rpc.output(&guid, &["echo", "mine"]), "mine\n");
        // Its own again: it ends with the connection.
        drop(rpc);
        let mut other = host.connect();
        eventually("they end with their owner", || guids(&mut other).is_empty());
    });
}

#[test]
fn s26_what_belongs_to_who_does_not_come_back_is_destroyed() {
    isolated(|| {
        let mut host = Host::with_busybox();
        host.stop();
        host.start_with(&["--session-grace", "1"]);
        let (mut rpc, hello) = session(&host, None);
        assert_eq!(hello["grace"], 1000);
        let guid = rpc.create_fs("busybox");
        host.kill();
        host.start_with(&["--session-grace", "1"]);
        let mut other = host.connect();
        // Kept for as long as the grace is, and for nobody else.
        assert_eq!(guids(&mut other), [guid.as_str()]);
        let refused = other.call_fails("subcontainer.attach", json!({"guid": guid}));
        assert_eq!(refused.kind(), "busy", "{refused:?}");
        eventually("it goes after the grace", || guids(&mut other).is_empty());
        // Too late.
        let (_late, hello) = session(&host, Some(&token(&hello)));
        assert_eq!(hello["resumed"], json!([]));
    });
}

#[test]
fn s26_what_belongs_to_a_process_that_has_ended_is_destroyed_at_once() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut clients = [Client::start(&host), Client::start(&host)];
        let mut made = Vec::new();
        for client in &mut clients {
            client.call("hello", json!({"protocol": 1, "client": "victim"}));
            let guid = client.call("subcontainer.createFs", json!({"imageId": "busybox", "throwaway": true}));
            made.push(guid["guid"].as_str().unwrap().to_owned());
        }
        let [early, late] = clients;
        host.kill();
        // One ends before the next host starts, one while that waits.
        early.kill();
        host.start_with(&[]);
        let mut rpc = host.connect();
        eventually("the first is gone", || !guids(&mut rpc).contains(&made[0]));
        assert_eq!(guids(&mut rpc), [made[1].as_str()]);
        let began = std::time::Instant::now();
        late.kill();
        eventually("the second is gone", || guids(&mut rpc).is_empty());
        assert!(began.elapsed() < Duration::from_secs(5), "the grace was not waited for");
    });
}

#[test]
fn s26_a_session_is_of_no_use_to_another_process() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut client = Client::start(&host);
        let hello = client.call("hello", json!({"protocol": 1, "client": "victim"}));
        let token = hello["session"].as_str().unwrap().to_owned();
        assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
        let made = client.call("subcontainer.createFs", json!({"imageId": "busybox", "throwaway": true}));
        let guid = made["guid"].as_str().unwrap().to_owned();
        // The token itself is written down nowhere.
        let state = std::fs::read_to_string(format!("/run/start-container/{guid}/state.json")).unwrap();
        assert!(state.contains("digest") && !state.contains(&token), "{state}");
        host.kill();
        host.start_with(&[]);
        // We know it, are root as they are, and have another process id.
        let (mut thief, hello) = session(&host, Some(&token));
        assert_eq!(hello["resumed"], json!([]));
        assert_ne!(hello["session"], json!(token));
        assert_eq!(thief.call_fails("subcontainer.attach", json!({"guid": guid})).kind(), "busy");
        for wrong in ["", "x", &token[..63], &"0".repeat(1_000_000)] {
            let (_, hello) = session(&host, Some(wrong));
            assert_eq!(hello["resumed"], json!([]));
        }
        // Theirs still.
        writeln!(client.to, "connect").unwrap();
        let hello = client.call("hello", json!({"protocol": 1, "client": "victim", "session": token}));
        assert_eq!(hello["resumed"], json!([guid]));
        // And once only.
        let (_, hello) = session(&host, Some(&token));
        assert_eq!(hello["resumed"], json!([]));
        drop(thief);
        assert_eq!(guids(&mut host.connect()), [guid.as_str()]);
        client.kill();
        let mut rpc = host.connect();
        eventually("it ends with its owner", || guids(&mut rpc).is_empty());
    });
}

#[test]
fn s26_commands_of_a_host_that_was_killed_end_with_the_next_one() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let (mut rpc, hello) = session(&host, None);
        let guid = rpc.create_fs("busybox");
        let spawned = rpc.call("subcontainer.spawn", json!({"guid": guid, "command": ["sleep", "1000"]}));
        host.kill();
        host.start_with(&[]);
        let (mut rpc, hello) = session(&host, Some(&token(&hello)));
        assert_eq!(hello["resumed"], json!([guid]));
        let failed = rpc.call_fails("subcontainer.wait", json!({"process": spawned["process"]}));
        assert_eq!(failed.kind(), "notFound");
        let pid = spawned["pid"].as_u64().unwrap();
        eventually("it has ended", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
        assert_eq!(rpc.output(&guid, &["echo", "goes on"]), "goes on\n");
    });
}

#[test]
fn s25_s26_a_lock_is_kept_for_who_held_it_when_the_host_was_killed() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let (mut rpc, hello) = session(&host, None);
        let mut token = token(&hello);
        let target = json!({"name": "backup:people", "purpose": "nightly"});
        rpc.call("lock.acquire", target.clone());
        rpc.call("lock.acquire", json!({"name": "given back"}));
        rpc.call("lock.release", json!({"name": "given back"}));
        for _ in 0..2 {
            host.kill();
            host.start_with(&[]);
            let mut other = host.connect();
            // Nobody else gets it meanwhile, nor gives it back, and what was given back is free.
            let busy = other.call_fails("lock.acquire", target.clone());
            assert_eq!(busy.kind(), "busy");
            assert!(
                busy.message.contains("held by tests (process ")
                    && busy.message.contains("): nightly, for ")
                    && busy.message.contains("who may come back"),
                "{}",
                busy.message
            );
            assert_eq!(other.call_fails("lock.release", json!({"name": "backup:people"})).kind(), "notFound");
            other.call("lock.acquire", json!({"name": "given back"}));
            other.call("lock.release", json!({"name": "given back"}));
            let (again, hello) = session(&host, Some(&token));
            assert_eq!(hello["locks"], json!(["backup:people"]));
            (rpc, token) = (again, hello["session"].as_str().unwrap().to_owned());
            assert_eq!(other.call_fails("lock.acquire", target.clone()).kind(), "busy");
        }
        let mut other = host.connect();
        let waiting = other.send("lock.acquire", json!({"name": "backup:people", "wait": true}));
        other.call("subcontainer.list", json!({}));
        rpc.call("lock.release", json!({"name": "backup:people"}));
        other.answer(waiting).unwrap();
        // What nobody holds is written down nowhere.
        drop(other);
        eventually("it is free", || rpc.try_call("lock.acquire", target.clone()).is_ok());
        rpc.call("lock.release", json!({"name": "backup:people"}));
        let left = std::fs::read_dir("/run/start-container").unwrap().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("locks")), "{left:?}");
    });
}

#[test]
fn s25_s26_a_lock_of_who_does_not_come_back_is_free_once_what_was_done_under_it_is_gone() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut dead = Client::start(&host);
        dead.call("hello", json!({"protocol": 1, "client": "victim"}));
        dead.call("lock.acquire", json!({"name": "dead"}));
        let (mut late, hello) = session(&host, None);
        late.call("lock.acquire", json!({"name": "late"}));
        let guid = late.create_fs("busybox");
        host.kill();
        dead.kill();
        host.start_with(&["--session-grace", "1"]);
        let mut rpc = host.connect();
        // Its holder has ended.
        rpc.call("lock.acquire", json!({"name": "dead"}));
        assert_eq!(rpc.call_fails("lock.acquire", json!({"name": "late"})).kind(), "busy");
        rpc.call("lock.acquire", json!({"name": "late", "wait": true}));
        assert!(!guids(&mut rpc).contains(&guid), "what was done under it was there when it was given away");
        let (_late, hello) = session(&host, Some(&token(&hello)));
        assert_eq!((&hello["locks"], &hello["resumed"]), (&json!([]), &json!([])));
        // Half a file, as a failed machine leaves it, is no lock and no harm.
        host.kill();
        let dir = std::fs::read_dir("/run/start-container").unwrap().flatten();
        let file = dir.map(|it| it.path()).find(|it| it.to_string_lossy().contains("locks-")).unwrap();
        std::fs::write(&file, b"{\"late\": {\"own").unwrap();
        host.start_with(&["--session-grace", "1"]);
        host.connect().call("lock.acquire", json!({"name": "late"}));
    });
}
