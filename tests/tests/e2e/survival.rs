//! SIGKILL at random moments: of the command line, of a client, of the host. Afterwards nothing is left, or it is
//! adopted.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Cli, Host, Machine, isolated, machine::Processes};

/// Some number below `limit`; the seed is printed, for a failure's sake.
fn random(limit: u64) -> u64 {
    RandomState::new().hash_one(0_u8) % limit
}

fn rounds(full: usize, usual: usize) -> usize {
    if std::env::var_os("START_CONTAINER_SOAK").is_some() { full } else { usual }
}

#[test]
fn killing_the_command_line_at_any_moment_leaves_nothing() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let before = Machine::look(Processes::All, &[]).unwrap();
        for round in 0..rounds(500, 60) {
            let mut create = cli.command(["subcontainer", "create-fs", "busybox", "--throwaway"]);
            kill_after(create.stdout(Stdio::null()), random(12_000));
            let rootfs = cli.create_fs("busybox");
            let launch =
                ["subcontainer", "launch", &rootfs.path, "sh", "-c", "setsid sleep 1000 & sleep 1000"];
            kill_after(cli.command(launch).stdout(Stdio::null()), random(30_000));
            let running = cli.launch_idle(&rootfs);
            let exec = ["subcontainer", "exec", &rootfs.path, "sh", "-c", "setsid sleep 1000 & sleep 1000"];
            kill_after(cli.command(exec).stdout(Stdio::null()), random(30_000));
            kill_after(&mut cli.command(["subcontainer", "destroy-fs", &rootfs.path]), random(12_000));
            drop(running);
            let list = cli.run(["--json", "subcontainer", "ls"]).ok().json();
            for made in list.as_array().unwrap() {
                cli.run(["subcontainer", "destroy-fs", made["guid"].as_str().unwrap()]).ok();
            }
            cli.run(["subcontainer", "destroy-fs", &rootfs.guid]).ok();
            let left = before.left_after(&[], Duration::from_secs(5)).unwrap();
            assert!(left.is_empty(), "round {round}: {left:?}");
        }
    });
}

fn kill_after(command: &mut std::process::Command, micros: u64) {
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_micros(micros));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn s9_killing_the_command_line_at_any_moment_leaves_no_sandbox_half_made() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let before = Machine::look(Processes::All, &[]).unwrap();
        for round in 0..rounds(300, 30) {
            let create = ["sandbox", "create", "--image", "busybox", "--throwaway", "-m", "64m"];
            kill_after(cli.command(create).stdout(Stdio::null()), random(25_000));
            let sandbox = cli.run(["sandbox", "create", "--throwaway"]).ok().out();
            let inside = ["subcontainer", "create-fs", "--sandbox", &sandbox, "busybox", "--throwaway"];
            kill_after(cli.command(inside).stdout(Stdio::null()), random(12_000));
            let member = cli.run(inside).ok().out();
            let launch = ["subcontainer", "launch", &member, "sh", "-c", "setsid sleep 1000 & sleep 1000"];
            kill_after(cli.command(launch).stdout(Stdio::null()), random(30_000));
            kill_after(&mut cli.command(["sandbox", "destroy", &sandbox]), random(12_000));
            // Whatever is left says so itself, and goes.
            for made in cli.run(["--json", "sandbox", "ls"]).ok().json().as_array().unwrap() {
                cli.run(["sandbox", "destroy", made["guid"].as_str().unwrap()]).ok();
            }
            cli.run(["sandbox", "destroy", &sandbox]).ok();
            // Who was cut off between a member's files and its state has left that, as with any subcontainer.
            cli.run(["subcontainer", "destroy-fs", &member]).ok();
            let list = cli.run(["--json", "subcontainer", "ls"]).ok().json();
            assert_eq!(list, json!([]), "round {round}: a member without a sandbox");
            // One whose name nobody was told, cut off in the same place, is found by this alone.
            cli.run(["gc"]).ok();
            let left = before.left_after(&[], Duration::from_secs(5)).unwrap();
            assert!(left.is_empty(), "round {round}: {left:?}");
        }
    });
}

/// What a client does before it vanishes.
const WORK: &str = r#"
import json, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f = s.makefile('rw')
n = 0
def call(method, **params):
    global n; n += 1
    f.write(json.dumps({'jsonrpc': '2.0', 'id': n, 'method': method, 'params': params}) + '\n'); f.flush()
    while True:
        m = json.loads(f.readline())
        if m.get('id') == n: return m.get('result')
call('hello', protocol=1, client='victim')
while True:
    g = call('subcontainer.createFs', imageId='busybox', throwaway=True)['guid']
    call('subcontainer.mount', guid=g, mount={'source': {'type': 'volume', 'volumeId': 'main'}, 'mountpoint': '/data'})
    call('subcontainer.launch', guid=g)
    call('subcontainer.spawn', guid=g, command=['sh', '-c', 'setsid sleep 1000 & sleep 1000'])
    call('subcontainer.exec', guid=g, command=['true'])
    call('subcontainer.destroyFs', guid=g)
"#;

/// The same, with sandboxes.
const SANDBOXED_WORK: &str = r#"
while True:
    s = call('sandbox.create', imageId='busybox', throwaway=True, settings={'limits': {'pids': 100}})['guid']
    g, h = [call('subcontainer.createFs', imageId='busybox', throwaway=True, sandbox=s)['guid'] for _ in 'gh']
    call('subcontainer.mount', guid=g, mount={'source': {'type': 'volume', 'volumeId': 'main'}, 'mountpoint': '/data'})
    call('subcontainer.spawn', guid=g, command=['sh', '-c', 'setsid sleep 1000 & sleep 1000'])
    call('subcontainer.launch', guid=h, command=['sleep', '1000'])
    call('subcontainer.spawn', guid=s, command=['sh', '-c', 'setsid sleep 1000 & sleep 1000'])
    call('sandbox.destroy', guid=s)
"#;

/// A client that vanishes when it is killed.
fn worker(host: &Host, sandboxed: bool) -> std::process::Command {
    let (before, _) = WORK.split_once("while True:").unwrap();
    let work = if sandboxed { format!("{before}{SANDBOXED_WORK}") } else { WORK.to_owned() };
    let mut client = std::process::Command::new("python3");
    client.args(["-c", &work, host.socket().to_str().unwrap()]);
    client
}

#[test]
fn s9_killing_a_client_at_any_moment_leaves_nothing() {
    isolated(|| {
        let host = Host::after_one_life();
        let before = Machine::look(Processes::All, &[]).unwrap();
        for round in 0..rounds(500, 40) {
            kill_after(&mut worker(&host, round % 2 == 1), 60_000 + random(60_000));
            let left = before.left_after(&[], Duration::from_secs(5)).unwrap();
            assert!(left.is_empty(), "round {round}: {left:?}");
        }
    });
}

#[test]
fn s26_killing_the_host_at_any_moment_leaves_nothing_after_it_started_again() {
    isolated(|| {
        let mut host = Host::with_busybox();
        drop(host.connect().create_fs("busybox"));
        host.stop();
        let before = Machine::look(Processes::All, &[]).unwrap();
        for round in 0..rounds(200, 25) {
            host.start_again();
            let mut client = worker(&host, round % 2 == 1);
            let mut client = client.stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_micros(60_000 + random(60_000)));
            host.kill();
            client.kill().unwrap();
            client.wait().unwrap();
            host.start_again();
            wait_for_none(&host, round);
            host.stop();
            let left = before.left_after(&[], Duration::from_secs(5)).unwrap();
            assert!(left.is_empty(), "round {round}: {left:?}");
        }
    });
}

fn wait_for_none(host: &Host, round: usize) {
    let start = Instant::now();
    loop {
        let mut rpc = host.connect();
        let list = json!([
            rpc.call("subcontainer.list", json!({}))["subcontainers"],
            rpc.call("sandbox.list", json!({}))["sandboxes"],
        ]);
        if list == json!([[], []]) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "round {round}: {list}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn s26_a_detached_container_survives_the_host_and_is_adopted() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let params = json!({"imageId": "busybox", "detached": true, "name": "survivor"});
        let guid = rpc.call("subcontainer.createFs", params)["guid"].clone();
        let volume = json!({"source": {"type": "volume", "volumeId": "main"}, "mountpoint": "/data"});
        rpc.call("subcontainer.mount", json!({"guid": guid, "mount": volume}));
        let pid = rpc.call("subcontainer.launch", json!({"guid": guid}))["pid"].clone();
        host.kill();
        host.start_again();
        let mut rpc = host.connect();
        let info: Value = rpc.call("subcontainer.inspect", json!({"guid": guid}));
        assert_eq!((&info["state"]["status"], &info["state"]["pid"]), (&json!("running"), &pid), "{info}");
        assert_eq!((&info["name"], &info["mounts"][0]["mountpoint"]), (&json!("survivor"), &json!("/data")));
        assert_eq!(rpc.output(guid.as_str().unwrap(), &["echo", "adopted"]), "adopted\n");
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}
