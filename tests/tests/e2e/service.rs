//! The host as a service: what it tells its manager, what it tells Prometheus; completions for shells.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::cli::finish;
use tests::{Cli, Host, isolated};

#[test]
fn o2_the_service_manager_hears_that_it_is_ready_lives_and_stops() {
    isolated(|| {
        let manager = UnixDatagram::bind("/tmp/notify").unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut host = Host::on(Cli::new());
        host.stop();
        // As systemd does it: the watchdog is for the process of that number.
        let start = "NOTIFY_SOCKET=/tmp/notify WATCHDOG_USEC=200000 WATCHDOG_PID=$$ exec \"$@\"";
        host.start_beneath(&["sh", "-c", start, "sh"]);
        let hear = || {
            let mut word = [0; 256];
            let length = manager.recv(&mut word).unwrap();
            String::from_utf8_lossy(&word[..length]).trim().to_owned()
        };
        assert_eq!(hear(), "READY=1");
        let begun = Instant::now();
        for _ in 0..4 {
            assert_eq!(hear(), "WATCHDOG=1");
        }
        assert!(begun.elapsed() > Duration::from_millis(250), "no more often than twice in its time");
        host.stop();
        let last = std::iter::repeat_with(hear).find(|word| word != "WATCHDOG=1").unwrap();
        assert_eq!(last, "STOPPING=1");
        std::fs::remove_file("/tmp/notify").unwrap();
    });
}

/// Every line of the text format: a comment, or a name, labels, a number.
fn check(text: &str) {
    for line in text.lines() {
        if line.starts_with("# HELP ") || line.starts_with("# TYPE ") {
            continue;
        }
        let (what, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = what.split('{').next().unwrap();
        assert!(name.starts_with("start_container_"), "{line}");
        assert!(text.contains(&format!("# TYPE {name} ")), "{line}");
        assert!(!what.contains('{') || what.ends_with("\"}"), "{line}");
    }
}

#[test]
fn o2_metrics_are_told_on_the_socket_whatever_names_hold_and_clients_do() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let name = "a \"quoted\\\" name";
        let made = json!({"imageId": "busybox", "throwaway": true, "name": name});
        let guid = rpc.call("subcontainer.createFs", made)["guid"].clone();
        rpc.call("subcontainer.launch", json!({"guid": guid, "limits": {"memoryBytes": 64 << 20}}));
        let text = host.cli().run(["metrics"]).ok().out();
        check(&text);
        let labels = format!("{{guid=\"{}\",name=\"a \\\"quoted\\\\\\\" name\"}}", guid.as_str().unwrap());
        for line in [
            format!("start_container_memory_limit_bytes{labels} {}", 64 << 20),
            format!("start_container_processes{labels} 1"),
            "start_container_subcontainers{state=\"running\"} 1".into(),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
        let ask = |request: &[u8]| {
            let mut stream = UnixStream::connect(host.socket()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            // It may be closed before all of it is written.
            let _closed = stream.write_all(request);
            let mut answer = String::new();
            let _reset = stream.read_to_string(&mut answer);
            answer
        };
        assert!(ask(b"GET /metrics HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(ask(b"GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 404 "));
        // Too long a head is cut, and one that never ends has five seconds.
        ask(&[b"GET /metrics HTTP/1.1\r\n".as_slice(), &b"x: y\r\n".repeat(100_000)].concat());
        let begun = Instant::now();
        assert_eq!(ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n"), "");
        assert!(begun.elapsed() < Duration::from_secs(15));
        rpc.call("image.list", json!({}));
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

#[test]
fn o2_completions_are_loaded_by_their_shells() {
    let cli = Cli::new();
    let loads = |shell: &str, arguments: &[&str]| {
        let script = cli.run(["completions", shell]).ok();
        let mut command = Command::new(shell);
        // Of nobody's start-up files.
        command.args(arguments).env_remove("BASH_ENV").stdin(std::process::Stdio::piped());
        let finished = finish(command, &script.stdout);
        assert_eq!((finished.code, finished.err()), (0, String::new()), "{shell}");
        finished.out()
    };
    let asked = "eval \"$(cat)\"; COMP_WORDS=(start-container sto); COMP_CWORD=1;
        _start__container start-container sto start-container; echo ${COMPREPLY[@]}";
    assert_eq!(loads("bash", &["-c", asked]), "stop");
    // Loaded by the completion system; `compdef` says whether anything is registered.
    let asked = "autoload -U compinit; compinit -u -D; eval \"$(cat)\"; echo $_comps[start-container]";
    assert_eq!(loads("zsh", &["-f", "-c", asked]), "_start-container");
    let asked = "source -; complete -C 'start-container sto'";
    assert!(loads("fish", &["--no-config", "-c", asked]).starts_with("stop"));
}

#[test]
fn o2_the_unit_is_one_and_the_host_works_without_the_capabilities_that_it_takes() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/start-container.service");
    let text = std::fs::read_to_string(unit).unwrap();
    let dropped = text.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=~")).unwrap();
    let dropped =
        dropped.split(' ').map(|name| format!("-{}", name.trim_start_matches("CAP_").to_lowercase()));
    let dropped: Vec<String> = dropped.collect();
    isolated(|| {
        let mut host = Host::with_busybox();
        host.stop();
        host.start_beneath(&["setpriv", "--bounding-set", &dropped.join(",")]);
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let network = json!({"guid": guid, "network": {"mode": "private"}, "limits": {"pids": 50}});
        rpc.call("subcontainer.launch", network);
        assert_eq!(rpc.output(&guid, &["echo", "works"]), "works\n");
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
    // The path of the program is a package's; everything else is looked at.
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("start-container.service");
    let here = tests::cli::binary();
    std::fs::write(&copy, text.replace("/usr/bin/start-container", here.to_str().unwrap())).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&copy);
    let verified = finish(verify, b"");
    assert_eq!((verified.code, verified.err()), (0, String::new()));
}
