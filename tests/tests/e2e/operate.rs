//! Looking after what runs: names, lists, stopping, events with their causes, what nobody uses.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::rpc::Rpc;
use tests::{Cli, Host, eventually, isolated};

/// A detached subcontainer with a name.
fn made(rpc: &mut Rpc, name: &str) -> String {
    let made = json!({"imageId": "busybox", "throwaway": true, "detached": true, "name": name});
    rpc.call("subcontainer.createFs", made)["guid"].as_str().unwrap().to_owned()
}

fn launch(rpc: &mut Rpc, guid: &str, script: &str) -> Value {
    rpc.call("subcontainer.launch", json!({"guid": guid, "command": ["sh", "-c", script]}))
}

/// Ends on SIGTERM with 7; says when it listens.
const GOOD: &str = "trap 'exit 7' TERM; touch /ready; while :; do sleep 0.01; done";
const STUBBORN: &str = "trap '' TERM; touch /ready; while :; do sleep 0.01; done";

fn ready(host: &Host, guid: &str) {
    let path = host.data().join("subcontainers").join(guid).join("ready");
    eventually("it listens to signals", || path.exists());
}

fn events(cli: &Cli, flags: &[&str]) -> Vec<Value> {
    let all = cli.run(["--json", "events"].iter().chain(flags)).ok();
    all.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn o2_subcontainers_go_by_name_by_id_and_by_the_beginning_of_an_id() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guids = [made(&mut rpc, "web"), made(&mut rpc, "twin"), made(&mut rpc, "twin")];
        let cli = host.cli();
        let inspect = |which: &str| cli.run(["--json", "inspect", which]);
        for which in ["web", &guids[0], &guids[0][..13]] {
            assert_eq!(inspect(which).ok().json()["guid"], json!(guids[0]), "{which}");
        }
        let said = inspect("twin").failed(125);
        assert!(said.contains(&guids[1]) && said.contains(&guids[2]), "{said}");
        for wrong in ["nobody", "", "../rootfs", "we"] {
            inspect(wrong).failed(125);
        }
        let table = cli.run(["ls"]).ok().out();
        let head = table.lines().next().unwrap();
        assert_eq!(head.split_whitespace().collect::<Vec<_>>()[..3], ["ID", "NAME", "IMAGE"], "{table}");
        // Columns begin where their names do.
        let (at, row) = (head.find("NAME").unwrap(), table.lines().nth(1).unwrap());
        assert_eq!((&row[..12], &row[at..at + 3]), (&guids[0][..12], "web"), "{table}");
        assert!(row.contains("busybox") && row.contains("created"), "{table}");
        let quiet = cli.run(["ls", "-q"]).ok().out();
        assert_eq!(quiet.lines().count(), 3);
        launch(&mut rpc, &guids[0], "sleep 1000");
        assert_eq!(cli.run(["ls", "--running", "-q"]).ok().out(), guids[0]);
        let top = cli.run(["--json", "top", "web"]).ok().json();
        assert_eq!((&top[0]["inside"], &top[0]["command"]), (&json!(1), &json!("sleep 1000")), "{top}");
        assert!(cli.run(["top", "web"]).ok().out().contains("sleep 1000"));
        assert!(cli.run(["stats", "web"]).ok().out().contains("processes  1"));
        cli.run(["top", "twin"]).failed(125);
        // One that runs is not removed unless it is said twice; a list goes on after a failure.
        let said = cli.run(["rm", "web", &guids[1]]).failed(125);
        assert!(said.contains("it runs"), "{said}");
        assert_eq!(cli.run(["ls", "-q"]).ok().out().lines().count(), 2);
        cli.run(["rm", "-f", "web", "twin"]).ok();
        assert_eq!(cli.run(["--json", "ls"]).ok().json(), json!([]));
    });
}

#[test]
fn o2_stop_asks_first_and_force_comes_after_its_time() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let (good, stubborn) = (made(&mut rpc, "good"), made(&mut rpc, "stubborn"));
        for with_host in [true, false] {
            if !with_host {
                host.start_again();
                rpc = host.connect();
            }
            launch(&mut rpc, &good, GOOD);
            launch(&mut rpc, &stubborn, STUBBORN);
            ready(&host, &good);
            ready(&host, &stubborn);
            if !with_host {
                host.kill();
            }
            let cli = host.cli();
            let stopped = cli.run(["--json", "stop", "good"]).ok().json();
            assert_eq!(stopped["outcome"], json!({"kind": "exit", "code": 7}), "{stopped}");
            assert_eq!(stopped["killed"], false);
            let begun = Instant::now();
            let stopped = cli.run(["--json", "stop", "-t", "0.3", "stubborn"]).ok().json();
            assert_eq!(
                (&stopped["killed"], &stopped["outcome"]["signal"]),
                (&json!(true), &json!("SIGKILL"))
            );
            assert!((300..5000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
            // What is stopped is stopped; what does not run cannot be killed.
            cli.run(["stop", "good", "stubborn"]).ok();
            assert!(cli.run(["kill", "good"]).failed(125).contains("it is not running"));
            cli.run(["stop", "-s", "NOSUCH", "good"]).ok();
            for guid in [&good, &stubborn] {
                let info = cli.run(["--json", "inspect", guid]).ok().json();
                assert_eq!(info["state"]["status"], "exited", "{info}");
                fs::remove_file(host.data().join("subcontainers").join(guid).join("ready")).unwrap();
            }
            if with_host {
                host.stop();
            }
        }
        host.cli().run(["rm", "good", "stubborn"]).ok();
        // What holds things for the next host ends with that one.
        host.start_again();
    });
}

#[test]
fn s28_events_say_what_happened_and_why() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = made(&mut rpc, "eventful");
        let mut follow = host.cli().command(["--json", "events", "-f", "--since", "1h"]);
        let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
        let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
        assert_eq!(next()["event"], "created");
        let limits = json!({"memoryBytes": 32 << 20});
        let command = ["sh", "-c", GOOD];
        rpc.call("subcontainer.launch", json!({"guid": guid, "command": command, "limits": limits}));
        assert_eq!(next()["event"], "launched");
        ready(&host, &guid);
        rpc.call("subcontainer.update", json!({"guid": guid, "limits": {"memoryBytes": 48 << 20}}));
        assert_eq!(next()["limits"]["memoryBytes"], json!(48 << 20));
        let health = json!({"guid": guid, "name": "web", "status": "unhealthy", "message": "x".repeat(2000)});
        rpc.call("events.health", health);
        let told = next();
        assert_eq!((&told["event"], &told["name"]), (&json!("health"), &json!("web")));
        assert_eq!(told["message"].as_str().unwrap().len(), 1000);
        rpc.call("events.health", json!({"guid": guid, "name": "db", "status": "healthy"}));
        next();
        // Whoever looks sees it: by the host, without one, and by the next one; until its leader has ended.
        let told = |host: &Host| host.cli().run(["inspect", "eventful"]).ok().out();
        let of = |rpc: &mut Rpc| rpc.call("subcontainer.inspect", json!({"guid": guid}))["health"].clone();
        let health = of(&mut rpc);
        assert_eq!((&health[0]["name"], &health[0]["status"]), (&json!("db"), &json!("healthy")), "{health}");
        assert_eq!((&health[1]["name"], &health[1]["status"]), (&json!("web"), &json!("unhealthy")));
        assert!(told(&host).contains("health   web: unhealthy, said ") && told(&host).contains(": xxx"));
        assert!(host.cli().run(["ls"]).ok().out().contains("(unhealthy)"));
        let mut second = host.connect();
        assert_eq!(second.call("subcontainer.list", json!({}))["subcontainers"][0]["health"], health);
        host.cli().run(["stop", "eventful"]).ok();
        assert_eq!(of(&mut rpc), Value::Null);
        assert!(!told(&host).contains("health"));
        let told = next();
        assert_eq!((&told["by"], &told["outcome"]["code"]), (&json!("stop"), &json!(7)), "{told}");
        // Killed by an operator; for want of memory; by itself, after a signal that it took otherwise.
        launch(&mut rpc, &guid, "sleep 1000");
        next();
        host.cli().run(["kill", "eventful"]).ok();
        let told = next();
        assert_eq!((&told["by"], &told["outcome"]["number"]), (&json!("kill"), &json!(9)), "{told}");
        let hog = ["sh", "-c", "x=x; while :; do x=$x$x; done"];
        rpc.call("subcontainer.launch", json!({"guid": guid, "command": hog, "limits": limits}));
        next();
        let told = next();
        assert_eq!((&told["outcome"]["kind"], &told["by"]), (&json!("outOfMemory"), &Value::Null), "{told}");
        launch(&mut rpc, &guid, "trap 'exit 3' HUP; touch /listens; while :; do sleep 0.01; done");
        next();
        let path = host.data().join("subcontainers").join(&guid).join("listens");
        eventually("it listens", || path.exists());
        host.cli().run(["kill", "-s", "HUP", "eventful"]).ok();
        let told = next();
        assert_eq!((&told["by"], &told["outcome"]["code"]), (&Value::Null, &json!(3)), "{told}");
        let busybox = tests::image::busybox();
        rpc.call("image.import", json!({"path": busybox, "name": "second"}));
        assert_eq!(next()["event"], "imported");
        launch(&mut rpc, &guid, "sleep 1000");
        next();
        host.cli().run(["rm", "-f", "eventful"]).ok();
        let (one, two) = (next(), next());
        let ended = if one["event"] == "exited" { &one } else { &two };
        assert_eq!(ended["by"], "destroy", "{one} {two}");
        follow.kill().unwrap();
        follow.wait().unwrap();
        // All of it is there after the host's end, numbered, also without a host; and it goes on after that.
        let before = events(host.cli(), &[]);
        host.kill();
        assert_eq!(events(host.cli(), &[]), before);
        let ids: Vec<u64> = before.iter().map(|event| event["id"].as_u64().unwrap()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{ids:?}");
        assert!(events(host.cli(), &[&guid]).iter().all(|event| event["guid"] == guid));
        assert!(host.cli().run(["events"]).ok().out().contains("ended by SIGKILL, somebody sent it"));
        host.start_again();
        let mut rpc = host.connect();
        let other = made(&mut rpc, "later");
        assert_eq!(events(host.cli(), &[]).last().unwrap()["id"], ids.last().unwrap() + 1);
        assert_eq!(rpc.call("events.list", json!({"guid": other}))["events"][0]["event"], "created");
        // Whose it is not has nothing to say of its health.
        let owned = rpc.create_fs("busybox");
        let health = |guid: &str, name: &str| json!({"guid": guid, "name": name, "status": "healthy"});
        let mut stranger = host.connect();
        assert_eq!(stranger.call_fails("events.health", health(&owned, "web")).kind(), "busy");
        assert_eq!(rpc.call_fails("events.health", health(&owned, "")).kind(), "invalid");
        let nobody = "00000000-0000-4000-8000-000000000000";
        assert_eq!(rpc.call_fails("events.health", health(nobody, "web")).kind(), "notFound");
        drop(rpc);
        host.cli().run(["rm", "later"]).ok();
    });
}

#[test]
fn o2_gc_removes_what_nobody_uses_and_says_so() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = made(&mut rpc, "kept");
        let launched = rpc.call(
            "subcontainer.launch",
            json!({"guid": guid, "command": ["echo", "hello"], "streams": {"stdout": "log"}}),
        );
        rpc.call("subcontainer.wait", json!({"process": launched["process"]}));
        // As somebody who was killed has left it.
        let stray = "00000000-0000-4000-8000-000000000000";
        let dir = host.data().join("logs").join(stray);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("0.log"), "x").unwrap();
        let found = host.cli().run(["--json", "gc", "--dry-run"]).ok().json();
        assert_eq!((&found["logs"], dir.exists()), (&json!([stray]), true), "{found}");
        assert!(host.cli().run(["gc"]).ok().out().contains(stray));
        assert!(!dir.exists());
        assert_eq!(host.cli().run(["logs", "kept"]).ok().out(), "hello");
        let nothing = host.cli().run(["--json", "gc"]).ok().json();
        assert_eq!(nothing["logs"], json!([]), "{nothing}");
        std::thread::sleep(Duration::from_millis(10));
        host.cli().run(["rm", "kept"]).ok();
    });
}

/// The commands of a block of shell in a section of the README, without what is said beside them.
fn readme(section: &str) -> Vec<Vec<String>> {
    let text = include_str!("../../../README.md");
    let (_, section) = text.split_once(section).unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let lines = block.lines().map(|line| line.split(" # ").next().unwrap().trim());
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn s28_the_readme_says_what_operators_do() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = made(&mut rpc, "NAME");
        let command = ["sh", "-c", GOOD];
        let launch = json!({"guid": guid, "command": command, "streams": {"stdout": "log"}});
        rpc.call("subcontainer.launch", launch);
        ready(&host, &guid);
        let mut following = Vec::new();
        let commands = readme("## Services that stay up");
        assert!(commands.len() >= 5);
        for command in commands {
            assert_eq!(command[0], "start-container");
            if command.iter().any(|word| word == "--follow") {
                following.push(host.cli().command(&command[1..]).stdout(Stdio::null()).spawn().unwrap());
                continue;
            }
            let done = host.cli().run(&command[1..]);
            // What a machine lacks is for its operator to judge.
            assert!(done.code == 0 || command[1] == "doctor", "{command:?}: {}", done.err());
        }
        for mut child in following {
            assert!(child.wait().unwrap().success());
        }
        let mut rpc = host.connect();
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}
