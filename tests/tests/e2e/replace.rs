//! A newer program in the place of the host that runs: nothing ends by it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tests::{Host, Rpc, isolated};

fn hello(host: &Host, session: Option<&Value>) -> (Rpc, Value) {
    let mut rpc = host.connect_raw();
    let mut params = json!({"protocol": 1, "client": "tests"});
    if let Some(token) = session {
        params["session"] = token.clone();
    }
    let hello = rpc.call("hello", params);
    (rpc, hello)
}

/// A connection that carries a stream.
fn attach(host: &Host, process: &Value, stream: &str) -> BufReader<UnixStream> {
    let mut rpc = BufReader::new(UnixStream::connect(host.socket()).unwrap());
    let params = json!({"process": process, "stream": stream});
    let line = json!({"jsonrpc": "2.0", "id": 1, "method": "stream.attach", "params": params});
    writeln!(rpc.get_mut(), "{line}").unwrap();
    let mut answer = String::new();
    rpc.read_line(&mut answer).unwrap();
    assert!(answer.contains("result"), "{answer}");
    rpc
}

#[test]
fn s26_the_host_is_replaced_and_nothing_ends() {
    isolated(|| {
        let mut host = Host::with_busybox();
        host.stop();
        host.start_with(&[]);
        let (mut rpc, first) = hello(&host, None);
        let guid = rpc.create_fs("busybox");
        let shown = json!({"stdin": "null", "stdout": "pipe", "stderr": "null"});
        let leader = json!({"guid": guid, "command": ["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.02; done"]});
        let leader = rpc.call("subcontainer.launch", leader);
        // Numbers without a gap, from before to after.
        let count =
            "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done; read line; echo said $line; exit 7";
        let streams = json!({"stdin": "pipe", "stdout": "pipe", "stderr": "null"});
        let counting = json!({"guid": guid, "command": ["sh", "-c", count], "streams": streams});
        let counting = rpc.call("subcontainer.spawn", counting)["process"].clone();
        let out = attach(&host, &counting, "stdout");
        let mut into = attach(&host, &counting, "stdin");
        let unread =
            json!({"guid": guid, "command": ["sh", "-c", "echo kept; sleep 1000"], "streams": shown});
        let unread = rpc.call("subcontainer.spawn", unread)["process"].clone();
        let typed = json!({"guid": guid, "command": ["cat"],
            "streams": {"stdin": "null", "stdout": "null", "stderr": "null", "terminal": {"rows": 20, "cols": 80}}});
        let typed = rpc.call("subcontainer.spawn", typed)["process"].clone();
        let mut terminal = attach(&host, &typed, "terminal");
        let pid = host.pid();
        let mut session = first["session"].clone();
        for round in 0..3 {
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                // Whoever connects meanwhile is served.
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        UnixStream::connect(host.socket()).expect("the socket is never gone");
                        std::thread::sleep(std::time::Duration::from_millis(1));
                    }
                });
                host.cli().run(["daemon", "--replace"]).ok();
                stop.store(true, Ordering::Relaxed);
            });
            assert_eq!(rpc.receive(), None, "round {round}");
            let (again, hello) = hello(&host, Some(&session));
            assert_eq!(hello["resumed"], json!([guid]), "round {round}");
            session = hello["session"].clone();
            rpc = again;
            writeln!(terminal.get_mut(), "round {round}").unwrap();
            let mut line = String::new();
            while !line.ends_with(&format!("round {round}\r\n")) {
                terminal.read_line(&mut line).unwrap();
            }
        }
        assert_eq!(host.pid(), pid);
        writeln!(into.get_mut(), "hello").unwrap();
        let lines: Vec<String> = out.lines().map(Result::unwrap).collect();
        let expected: Vec<String> =
            (0..3000).map(|i| i.to_string()).chain(["said hello".to_owned()]).collect();
        assert!(lines == expected, "{} lines, the last {:?}", lines.len(), lines.last());
        // Its children are its children: how they end is known on every kernel.
        let ended = rpc.call("subcontainer.wait", json!({"process": counting}));
        assert_eq!(ended["outcome"], json!({"kind": "exit", "code": 7}));
        let mut kept = String::new();
        attach(&host, &unread, "stdout").read_line(&mut kept).unwrap();
        assert_eq!(kept, "kept\n");
        rpc.call("subcontainer.kill", json!({"process": leader["process"], "signal": "SIGTERM"}));
        let ended = rpc.call("subcontainer.wait", json!({"process": leader["process"]}));
        assert_eq!(ended["outcome"], json!({"kind": "exit", "code": 3}));
        drop(rpc);
        let mut other = host.connect();
        tests::eventually("it ends with its owner", || {
            other.call("subcontainer.list", json!({}))["subcontainers"] == json!([])
        });
    });
}

#[test]
fn s26_a_host_that_cannot_be_replaced_goes_on() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let echo = json!({"guid": guid, "command": ["cat"],
            "streams": {"stdin": "pipe", "stdout": "pipe", "stderr": "null"}});
        let echo = rpc.call("subcontainer.spawn", echo)["process"].clone();
        let (mut into, mut out) = (attach(&host, &echo, "stdin"), attach(&host, &echo, "stdout"));
        // We are no host; with a word that is none, we are not even asked.
        let failed = rpc.call_fails("host.replace", json!({"args": ["start-container", "with\0nul"]}));
        assert_eq!(failed.kind(), "kernel", "{failed:?}");
        writeln!(into.get_mut(), "still").unwrap();
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "still\n");
        assert_eq!(rpc.output(&guid, &["echo", "here"]), "here\n");
        drop((rpc, into, out));
        host.stop();
        let none = host.cli().run(["daemon", "--replace"]);
        assert!(none.code != 0 && none.err().contains("replace the host"), "{none:?}");
        host.start_again();
    });
}
