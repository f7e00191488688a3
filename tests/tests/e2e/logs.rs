//! Streams that are kept: nothing lost, nothing doubled, within bounds, whoever is killed.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tests::cli::Finished;
use tests::rpc::Rpc;
use tests::{Host, eventually, isolated};

/// A detached subcontainer whose leader's output is kept.
fn keep(rpc: &mut Rpc, script: &str, streams: Value) -> (String, Value) {
    let made = json!({"imageId": "busybox", "throwaway": true, "detached": true});
    let guid = rpc.call("subcontainer.createFs", made)["guid"].as_str().unwrap().to_owned();
    let launched = launch(rpc, &guid, script, streams);
    (guid, launched)
}

fn launch(rpc: &mut Rpc, guid: &str, script: &str, streams: Value) -> Value {
    let command = ["sh", "-c", script];
    rpc.call("subcontainer.launch", json!({"guid": guid, "command": command, "streams": streams}))
}

fn both() -> Value {
    json!({"stdout": "log", "stderr": "log"})
}

fn wait(rpc: &mut Rpc, launched: &Value) {
    rpc.call("subcontainer.wait", json!({"process": launched["process"]}));
}

fn logs(host: &Host, guid: &str, flags: &[&str]) -> Finished {
    host.cli().run(["logs"].iter().chain(flags).copied().chain([guid])).ok()
}

fn destroy(rpc: &mut Rpc, guid: &str) {
    rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
}

#[test]
fn s28_what_is_kept_is_read_whole_by_stream_time_and_line() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        // Bytes that are no text, a line without an end, and /dev/stdout opened anew.
        let script = r"echo one; sleep 0.05; echo oops >&2; sleep 0.05; printf '\377\000two\n'; sleep 0.05
            echo three >/dev/stdout; printf end";
        let (guid, launched) = keep(&mut rpc, script, both());
        wait(&mut rpc, &launched);
        let whole = logs(&host, &guid, &[]);
        assert_eq!(whole.stdout, b"one\n\xff\x00two\nthree\nend");
        assert_eq!(whole.stderr, b"oops\n");
        assert_eq!(logs(&host, &guid, &["--stream", "stderr"]).stdout, b"");
        assert_eq!(logs(&host, &guid, &["--tail", "2"]).stdout, b"three\nend");
        assert_eq!(logs(&host, &guid, &["--tail", "0"]).stdout, b"");
        assert_eq!(logs(&host, &guid, &["--tail", "99"]).stdout, whole.stdout);
        let timed = logs(&host, &guid, &["-t"]).out();
        let (time, text) = timed.split_once(' ').unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z') && text.starts_with("one\n"), "{timed}");
        let lines: Vec<Value> = logs(&host, &guid, &["--json"])
            .out()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!((&lines[0]["text"], &lines[0]["stream"]), (&json!("one"), &json!("stdout")));
        assert_eq!((&lines[1]["text"], &lines[1]["stream"]), (&json!("oops"), &json!("stderr")));
        assert_eq!((&lines[2]["base64"], &lines[0]["pid"]), (&json!("/wB0d28="), &launched["pid"]));
        assert_eq!((&lines[4]["text"], &lines[4]["partial"]), (&json!("end"), &json!(true)));
        let since = lines[3]["time"].as_str().unwrap();
        let millis = |time: &str| format!("{}Z", &time[..23]);
        assert_eq!(logs(&host, &guid, &["--since", &millis(since)]).out(), "three\nend");
        assert_eq!(logs(&host, &guid, &["--until", &millis(since)]).stdout, b"one\n\xff\x00two\n");
        // A second life goes on in the same log, which is there without a host, too; following needs one.
        let again = launch(&mut rpc, &guid, "echo; echo again", both());
        wait(&mut rpc, &again);
        drop(rpc);
        eventually("all is written", || logs(&host, &guid, &[]).stdout.ends_with(b"again\n"));
        host.stop();
        assert_eq!(logs(&host, &guid, &[]).stdout, b"one\n\xff\x00two\nthree\nend\nagain\n");
        assert!(host.cli().run(["logs", "-f", &guid]).failed(125).contains("host.sock"));
        assert!(host.data().join("logs").join(&guid).exists());
        host.cli().run(["subcontainer", "destroy-fs", &guid]).ok();
        assert!(!host.data().join("logs").join(&guid).exists(), "they go with their subcontainer");
        host.cli().run(["logs", &guid]).failed(125);
    });
}

#[test]
fn s28_a_log_is_followed_until_nothing_runs() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let (guid, launched) = keep(&mut rpc, "echo first; sleep 0.5; echo last >&2", both());
        let mut follow = host.cli().command(["logs", "--follow", "--tail", "1", &guid]);
        let mut follow = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 6];
        follow.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        assert_eq!(&first, b"first\n");
        assert!(follow.try_wait().unwrap().is_none());
        wait(&mut rpc, &launched);
        let output = follow.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr == b"last\n", "{output:?}");
        // A command beside the leader is kept, too.
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        let command = ["sh", "-c", "while sleep 0.01; do echo tick; done"];
        let spawn = json!({"guid": guid, "command": command, "streams": {"stdout": "log"}});
        let spawned = rpc.call("subcontainer.spawn", spawn);
        let mut follow = host.cli().command(["logs", "-f", "-n0", &guid]);
        let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
        let mut ticks = [0; 50];
        follow.stdout.as_mut().unwrap().read_exact(&mut ticks).unwrap();
        assert_eq!(ticks, *b"tick\n".repeat(10));
        let kill = json!({"process": spawned["process"], "signal": "SIGKILL", "tree": true});
        rpc.call("subcontainer.kill", kill);
        assert!(follow.wait().unwrap().success());
        // A reader that goes away, and one that never reads, hold nobody up.
        let mut silent = host.connect_raw();
        silent.call("logs.read", json!({"guid": guid, "follow": true}));
        destroy(&mut rpc, &guid);
        let left = fs::read_dir(host.data().join("logs")).unwrap().count();
        assert_eq!(left, 0);
    });
}

/// Checks that every line from 1 on is there once, in order. How many.
fn counted(bytes: &[u8]) -> usize {
    let text = std::str::from_utf8(bytes).unwrap();
    for (number, line) in text.lines().enumerate() {
        assert_eq!(line, (number + 1).to_string(), "a line is lost or doubled");
    }
    text.lines().count()
}

#[test]
fn s26_s28_the_host_is_killed_again_and_again_and_no_byte_is_lost_or_doubled() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        // As fast as it can, to both streams.
        let script =
            "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); echo $i; [ $((i%7)) = 0 ] && echo $((i/7)) >&2; done
            sleep 1000";
        let mut streams = both();
        streams["log"] = json!({"size": 200_000, "files": 100});
        let (guid, _) = keep(&mut rpc, script, streams);
        drop(rpc);
        for round in 0..12_u64 {
            std::thread::sleep(Duration::from_millis(10 + round * 5));
            host.kill();
            // Nobody reads: it writes as much as a pipe holds, and waits.
            std::thread::sleep(Duration::from_millis(20));
            let some = logs(&host, &guid, &[]);
            counted(&some.stdout);
            host.start_again();
        }
        eventually("all is written", || counted(&logs(&host, &guid, &[]).stdout) == 60_000);
        let whole = logs(&host, &guid, &[]);
        assert_eq!(counted(&whole.stderr), 60_000 / 7);
        let files = fs::read_dir(host.data().join("logs").join(&guid)).unwrap();
        assert!(files.count() >= 4, "it was read over several files");
        let tail = logs(&host, &guid, &["--stream", "stdout", "-n", "30000"]).out();
        assert!(tail.starts_with("30001\n") && tail.ends_with("\n60000"));
        // What runs has its output kept by the host that is there now.
        let mut rpc = host.connect();
        destroy(&mut rpc, &guid);
    });
}

/// What is on the disk for a log. A file that goes meanwhile is nothing.
fn on_disk(host: &Host, guid: &str) -> u64 {
    let files = fs::read_dir(host.data().join("logs").join(guid)).unwrap();
    files.filter_map(|file| file.unwrap().metadata().ok()).map(|it| it.len().max(it.blocks() * 512)).sum()
}

#[test]
fn s28_who_writes_without_end_fills_neither_disk_nor_memory() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let streams = json!({"stdout": "log", "stderr": "log", "log": {"size": 1_000_000, "files": 2}});
        let scripts = [
            "yes",
            "head -c 100000000 /dev/zero | tee /dev/stderr; sleep 1000",
            // Byte by byte.
            "while true; do printf x; printf y >&2; done",
        ];
        let before = host.own_kib();
        let guids: Vec<String> =
            scripts.iter().map(|script| keep(&mut rpc, script, streams.clone()).0).collect();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(100));
            for guid in &guids {
                let used = on_disk(&host, guid);
                // A file is made before the oldest goes.
                assert!(used <= 3_100_000, "{used} bytes for {guid}");
            }
            // Others are served meanwhile.
            rpc.call("subcontainer.list", json!({}));
        }
        let tail = logs(&host, &guids[0], &["--tail", "1000"]).stdout;
        assert!(tail.starts_with(b"y\n") && tail.len() >= 2000, "{} bytes", tail.len());
        assert!(host.own_kib() < before + 8192, "{} KiB, before {before}", host.own_kib());
        let error = rpc.call_fails(
            "subcontainer.launch",
            json!({"guid": guids[0], "streams": {"stdout": "log", "log": {"size": 1}}}),
        );
        assert_eq!(error.kind(), "invalid");
        guids.iter().for_each(|guid| destroy(&mut rpc, guid));
    });
}

/// The processes that frames are of.
fn processes_in(mut frames: &[u8]) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    while let Some((head, rest)) = frames.split_first_chunk::<16>() {
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        found.insert(u64::from(number(12) >> 2));
        frames = &rest[number(8) as usize..];
    }
    found
}

#[test]
fn s28_two_hundred_who_write_at_once_all_have_their_turn() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let made = json!({"imageId": "busybox", "throwaway": true, "detached": true});
        let guid = rpc.call("subcontainer.createFs", made)["guid"].as_str().unwrap().to_owned();
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        let before = host.own_kib();
        let streams = json!({"stdout": "log", "log": {"size": 10_000_000, "files": 10}});
        let spawn = |command: Value| json!({"guid": guid, "command": command, "streams": streams});
        let ids: Vec<u64> =
            (0..200).map(|_| rpc.send("subcontainer.spawn", spawn(json!(["yes", "loud"])))).collect();
        let loud: Vec<Value> = ids.into_iter().map(|id| rpc.answer(id).unwrap()).collect();
        // One that says little, in a subcontainer of its own, is heard among them.
        let (quiet, _) = keep(&mut rpc, "while true; do echo here; sleep 0.1; done", both());
        let follow = host.cli().command(["logs", "-f", &quiet]).stdout(Stdio::piped()).spawn();
        let mut follow = follow.unwrap();
        let mut heard = [0; 25];
        follow.stdout.as_mut().unwrap().read_exact(&mut heard).unwrap();
        assert_eq!(heard, *b"here\n".repeat(5));
        // What is kept is some turns of each; what is oldest goes while it is read.
        let mut silent: BTreeSet<u64> = loud.iter().map(|it| it["pid"].as_u64().unwrap()).collect();
        eventually("every process has its turn", || {
            let mut raw = host.connect_raw();
            raw.call("logs.read", json!({"guid": guid}));
            silent = &silent - &processes_in(&raw.rest());
            silent.is_empty()
        });
        assert!(host.own_kib() < before + 16_384, "{} KiB, before {before}", host.own_kib());
        destroy(&mut rpc, &quiet);
        follow.wait().unwrap();
        destroy(&mut rpc, &guid);
    });
}

#[test]
fn s28_what_cannot_be_kept_is_refused_and_leaves_nothing() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let size = json!({"rows": 24, "cols": 80});
        for streams in [
            json!({"stdin": "log"}),
            json!({"stdout": "log", "terminal": size}),
            json!({"stdout": "log", "log": {"files": 0}}),
            json!({"stdout": "log", "log": {"files": 101}}),
            json!({"stdout": "log", "log": {"size": 1_u64 << 50}}),
        ] {
            let error = rpc.call_fails("subcontainer.launch", json!({"guid": guid, "streams": streams}));
            assert_eq!(error.kind(), "invalid", "{streams}");
        }
        let failing = json!({"guid": guid, "command": ["/no/such"], "streams": both()});
        assert_eq!(rpc.call_fails("subcontainer.launch", failing.clone()).kind(), "commandNotFound");
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        assert_eq!(rpc.call_fails("subcontainer.spawn", failing).kind(), "commandNotFound");
        let fifos = format!("/run/start-container/{guid}/log");
        eventually("no FIFO is left", || fs::read_dir(&fifos).map_or(0, Iterator::count) == 0);
        let mut raw = host.connect_raw();
        assert_eq!(raw.call_fails("logs.read", json!({"guid": "../../etc"})).kind(), "invalid");
        let error = raw.call_fails("logs.read", json!({"guid": "00000000-0000-4000-8000-000000000000"}));
        assert_eq!(error.kind(), "notFound");
        // Nothing was kept: nothing is there, and following it ends.
        assert_eq!(logs(&host, &guid, &["-f"]).stdout, b"");
        destroy(&mut rpc, &guid);
    });
}

#[test]
fn s26_s28_the_last_words_of_who_ends_while_no_host_runs_are_kept() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        // More than a few pages, and less than a pipe holds without CAP_SYS_RESOURCE.
        let words = "while [ ! -e /go ]; do sleep 0.02; done; i=0
            while [ $i -lt 9000 ]; do i=$((i+1)); echo $i; done; echo oops >&2";
        let all: Vec<_> = (0..3).map(|_| keep(&mut rpc, words, both()).0).collect();
        let root = |guid: &str| host.data().join("subcontainers").join(guid);
        let go: Vec<_> = all.iter().map(|guid| root(guid).join("go")).collect();
        for (round, guid) in all.iter().enumerate() {
            // One host is killed, another ends in order, and the last is gone for longer than one life.
            if round == 1 {
                host.stop()
            } else {
                host.kill()
            }
            fs::write(&go[round], "").unwrap();
            eventually("it has ended", || {
                let told = host.cli().run(["--json", "subcontainer", "inspect", guid]).ok().json();
                told["state"]["status"] != "running"
            });
            if round == 2 {
                host.start_again();
                host.kill();
            }
            host.start_again();
            eventually("all is kept", || counted(&logs(&host, guid, &[]).stdout) == 9000);
            assert_eq!(logs(&host, guid, &[]).stderr, b"oops\n");
        }
        let mut rpc = host.connect();
        all.iter().for_each(|guid| destroy(&mut rpc, guid));
        drop(rpc);
        // Destroyed while no host runs: what was left in the FIFOs goes, and the keeper with it.
        let (guid, _) = keep(&mut host.connect(), "echo unheard; sleep 1000", both());
        host.stop();
        host.cli().run(["subcontainer", "destroy-fs", &guid]).ok();
    });
}

/// A host whose data directory is so small, and a detached subcontainer in it that counts into its log.
fn on_small_disk(size: &str, body: impl FnOnce(Host)) {
    isolated(|| {
        fs::create_dir("/tmp/small").unwrap();
        let run = |words: &[&str]| {
            let mut command = std::process::Command::new(words[0]);
            command.args(&words[1..]);
            tests::cli::finish(command, b"").ok();
        };
        run(&["mount", "-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", "/tmp/small"]);
        let cli = tests::Cli::at(&tests::cli::binary(), std::path::Path::new("/tmp/small"));
        cli.import(&tests::image::busybox(), "busybox");
        body(Host::on(cli));
        run(&["umount", "/tmp/small"]);
        fs::remove_dir("/tmp/small").unwrap();
    });
}

#[test]
fn s28_a_service_on_a_full_disk_goes_on_and_what_is_lost_of_its_log_is_told() {
    on_small_disk("12m", |mut host| {
        let mut rpc = host.connect();
        // It says how far it is where the disk has no part in it.
        let script = "i=0; while :; do i=$((i+1)); echo $i; echo $i >/dev/shm/far; done";
        let mut streams = both();
        streams["log"] = json!({"size": 200_000, "files": 3});
        let (guid, launched) = keep(&mut rpc, script, streams.clone());
        // And one that says little: it fits into its FIFO, and nothing is lost.
        let (quiet, _) = keep(&mut rpc, "i=0; while sleep 0.1; do i=$((i+1)); echo $i; done", streams);
        eventually("both are kept", || logs(&host, &quiet, &[]).stdout.len() > 2);
        let full = fs::write("/tmp/small/full", vec![1; 32 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        let far = |rpc: &mut Rpc| -> u64 {
            // It is empty for a moment whenever it is written.
            std::iter::repeat_with(|| rpc.output(&guid, &["cat", "/dev/shm/far"]))
                .find_map(|said| said.trim().parse().ok())
                .unwrap()
        };
        let lost = |guid: &str, rpc: &mut Rpc| -> u64 {
            let events = rpc.call("events.list", json!({"guid": guid}));
            let events = events["events"].as_array().unwrap().clone();
            events.iter().filter_map(|event| event["bytes"].as_u64()).sum()
        };
        let mut listening = host.connect();
        listening.call("events.subscribe", json!({}));
        let event = loop {
            let message = listening.receive().unwrap();
            if message["params"]["event"] == "logLost" {
                break message["params"].clone();
            }
        };
        assert_eq!(event["guid"], json!(guid), "{event}");
        assert!(event["message"].as_str().unwrap().contains("No space left"), "{event}");
        // As fast as ever: many times what a FIFO holds in a few seconds, and never still.
        for _ in 0..8 {
            let before = far(&mut rpc);
            std::thread::sleep(Duration::from_millis(300));
            assert!(far(&mut rpc) > before, "it waits");
        }
        // Who operates it can do so.
        host.cli().run(["logs", "--tail", "5", &guid]).ok();
        host.cli().run(["ls"]).ok();
        fs::remove_file("/tmp/small/full").unwrap();
        let then = far(&mut rpc);
        eventually("it is kept again", || {
            let tail = logs(&host, &guid, &["--stream", "stdout", "--tail", "2"]).out();
            tail.lines().next().and_then(|line| line.parse::<u64>().ok()).is_some_and(|line| line > then)
        });
        eventually("the rest of what was lost is told", || lost(&guid, &mut rpc) > 0);
        let kill = json!({"process": launched["process"], "signal": "SIGKILL"});
        rpc.call("subcontainer.kill", kill);
        // What says little has lost nothing.
        let whole = || logs(&host, &quiet, &[]).stdout;
        eventually("it is kept again", || counted(&whole()) > 20);
        assert_eq!(lost(&quiet, &mut rpc), 0);
        destroy(&mut rpc, &guid);
        destroy(&mut rpc, &quiet);
        drop((rpc, listening));
        host.cli().run(["image", "rm", "busybox"]).ok();
        host.stop();
    });
}

/// A systemd-journald of the test's own, in its own `/run`.
struct Journald(std::process::Child);

const JOURNALD: &str = "/lib/systemd/systemd-journald";

impl Journald {
    fn start() -> Self {
        // No word to the machine's kernel, and nothing on the machine's disk.
        let config =
            "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitBurst=0\nRateLimitIntervalSec=0\n";
        let begin = format!(
            "mount -t tmpfs none /etc/systemd && printf '{}' >/etc/systemd/journald.conf && exec {JOURNALD}",
            config.replace('\n', "\\n")
        );
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "sh", "-c", &begin]).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("journald listens", || {
            std::os::unix::net::UnixDatagram::unbound()
                .and_then(|socket| socket.connect("/run/systemd/journal/socket"))
                .is_ok()
        });
        Self(child)
    }

    /// In order: it takes what was sent to it. What it has taken and not written, a killed one loses.
    fn end(mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.0.wait().unwrap();
        eventually("it has gone", || {
            std::os::unix::net::UnixDatagram::unbound()
                .and_then(|socket| socket.connect("/run/systemd/journal/socket"))
                .is_err()
        });
    }

    /// What it has of a container, oldest first.
    fn entries(guid: &str) -> Vec<Value> {
        let mut ask = std::process::Command::new("journalctl");
        ask.args(["-D", "/run/log/journal", "-o", "json", "--all", "--no-pager", "-q"]);
        let said = ask.arg(format!("CONTAINER_ID_FULL={guid}")).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn o2_what_is_kept_goes_to_the_machines_journal_when_that_is_asked_for() {
    if !std::path::Path::new(JOURNALD).exists() {
        tests::skip!("{JOURNALD} is not installed");
    }
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let mut streams = both();
        streams["logDriver"] = json!("journald");
        let made = json!({"imageId": "busybox", "throwaway": true, "detached": true, "name": "web"});
        let guid = rpc.call("subcontainer.createFs", made)["guid"].as_str().unwrap().to_owned();
        // Where there is none, it is refused by name before anything runs.
        let params = json!({"guid": guid, "command": ["true"], "streams": streams});
        let refused = rpc.call_fails("subcontainer.launch", params);
        assert!(refused.message.contains("journald at /run/systemd/journal/socket"), "{}", refused.message);
        assert_eq!(rpc.call("subcontainer.inspect", json!({"guid": guid}))["state"]["status"], "created");
        let said = tests::Cli::new().run(["daemon", "--log-driver", "journald"]).failed(125);
        assert!(said.contains("journald at"), "{said}");
        let journald = Journald::start();
        let script =
            "echo one; echo oops >&2; printf 'half '; sleep 0.1; echo whole; printf '\\377PRIORITY=0\\n'
            head -c 100000 /dev/zero | tr '\\0' x; echo; printf end";
        let launched = launch(&mut rpc, &guid, script, streams.clone());
        wait(&mut rpc, &launched);
        eventually("all of it is there", || Journald::entries(&guid).len() == 8);
        let mut entries = Journald::entries(&guid);
        let (errors, others): (Vec<Value>, Vec<Value>) =
            entries.drain(..).partition(|entry| entry["PRIORITY"] == "3");
        assert_eq!((errors.len(), &errors[0]["MESSAGE"]), (1, &json!("oops")));
        let messages: Vec<&Value> = others.iter().map(|entry| &entry["MESSAGE"]).collect();
        assert_eq!((messages[0], messages[1]), (&json!("one"), &json!("half whole")));
        // Bytes that are no text are an array, and no field of their own.
        assert_eq!(messages[2].as_array().unwrap().len(), 11);
        let parts: Vec<usize> = others[3..6].iter().map(|it| it["MESSAGE"].as_str().unwrap().len()).collect();
        assert_eq!(parts, [49_152, 49_152, 100_000 - 2 * 49_152]);
        assert_eq!((&others[3]["CONTAINER_PARTIAL_MESSAGE"], messages[6]), (&json!("true"), &json!("end")));
        let of = |name: &str| others[0][name].clone();
        assert_eq!((of("PRIORITY"), of("CONTAINER_NAME")), (json!("6"), json!("web")));
        assert_eq!((of("CONTAINER_ID"), of("SYSLOG_IDENTIFIER")), (json!(guid[..12]), json!("web")));
        assert_eq!(of("SYSLOG_PID"), json!(launched["pid"].to_string()));
        // The files are there as well.
        assert!(logs(&host, &guid, &[]).stdout.starts_with(b"one\nhalf whole\n"));
        // Neither the end of journald nor that of the host loses any of it.
        let count = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; sleep 0.01; done";
        launch(&mut rpc, &guid, count, json!({"stdout": "log"}));
        let lines = |guid: &str| -> BTreeSet<String> {
            let all = Journald::entries(guid).into_iter();
            all.filter_map(|it| it["MESSAGE"].as_str().map(str::to_owned))
                .filter(|it| it.starts_with("line "))
                .collect()
        };
        // That launch said nothing of a journal, so the host's choice holds: none.
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(lines(&guid).len(), 0);
        rpc.call("subcontainer.stop", json!({"guid": guid, "timeout": 0}));
        launch(&mut rpc, &guid, count, streams);
        eventually("some of it is there", || lines(&guid).len() > 20);
        journald.end();
        std::thread::sleep(Duration::from_millis(200));
        host.kill();
        let journald = Journald::start();
        host.start_with(&["--session-grace", "0", "--log-driver", "journald"]);
        eventually("all of it is there", || lines(&guid).len() == 300);
        let mut rpc = host.connect();
        // By the host's choice.
        let (second, _) = keep(&mut rpc, "echo second", both());
        eventually("it is there", || Journald::entries(&second).len() == 1);
        destroy(&mut rpc, &second);
        destroy(&mut rpc, &guid);
        drop(rpc);
        host.stop();
        journald.end();
    });
}
