//! Sandboxes: what the subcontainers of one package share, and what bounds them. (rows S9, S13, S14, S23)

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::cli::Rootfs;
use tests::{Cli, Host, Machine, Rpc, isolated, machine::Processes};

const FIRST: u32 = 0x7000_0000;

/// A sandbox by the command line, and its id.
fn create(cli: &Cli, flags: &[&str]) -> String {
    cli.run([&["sandbox", "create"], flags].concat()).ok().out()
}

fn member(cli: &Cli, sandbox: &str) -> Rootfs {
    let create = ["--json", "subcontainer", "create-fs", "--throwaway", "--sandbox", sandbox, "busybox"];
    let made = cli.run(create).ok().json();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    Rootfs { guid: text("guid"), path: text("rootfs") }
}

fn inspect(cli: &Cli, sandbox: &str) -> Value {
    cli.run(["--json", "sandbox", "inspect", sandbox]).ok().json()
}

fn leader(cli: &Cli, rootfs: &Rootfs) -> u64 {
    let info = cli.run(["--json", "subcontainer", "inspect", &rootfs.guid]).ok().json();
    info["state"]["pid"].as_u64().unwrap()
}

fn namespace(pid: u64, name: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display().to_string()
}

#[test]
fn s13_members_share_network_ipc_dev_and_sys_and_the_rest_is_their_own() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let sandbox = create(&cli, &["--name", "notes", "--image", "busybox"]);
        let (one, two) = (member(&cli, &sandbox), member(&cli, &sandbox));
        let (a, b) = (cli.launch(&one, &["--shared-run"], &[]), cli.launch_idle(&two));
        let info = inspect(&cli, &sandbox);
        let init = info["state"]["pid"].as_u64().unwrap();
        let (first, second) = (leader(&cli, &one), leader(&cli, &two));
        for shared in ["user", "net", "ipc"] {
            assert_eq!(namespace(first, shared), namespace(init, shared), "{shared}");
            assert_eq!(namespace(second, shared), namespace(init, shared), "{shared}");
            assert_ne!(namespace(init, shared), namespace(1, shared), "{shared} is not the machine's");
        }
        for own in ["pid", "mnt", "uts", "cgroup"] {
            assert_ne!(namespace(first, own), namespace(init, own), "{own}");
            assert_ne!(namespace(first, own), namespace(second, own), "{own}");
            assert_ne!(namespace(first, own), namespace(1, own), "{own}");
        }
        assert_eq!(fs::metadata(format!("/proc/{first}")).unwrap().uid(), FIRST);
        // What one puts into /dev/shm, the other finds; /run only who asked for it.
        cli.exec(&one, &[], &["sh", "-c", "echo shared >/dev/shm/it; echo shared >/run/it"]).ok();
        assert_eq!(cli.exec(&two, &[], &["cat", "/dev/shm/it"]).ok().out(), "shared");
        assert_ne!(cli.exec(&two, &[], &["cat", "/run/it"]).code, 0);
        let own = |command: &[&str]| cli.run([&["sandbox", "exec", &sandbox], command].concat()).ok().out();
        assert_eq!(own(&["cat", "/dev/shm/it", "/run/it"]), "shared\nshared");
        // Terminals are the sandbox's; /sys is read-only, and masked as in any container.
        let tty = cli.exec(&one, &["--force-tty"], &["sh", "-c", "test -w $(tty) && tty"]).ok().out();
        assert!(tty.contains("/dev/pts/"), "{tty}");
        assert_ne!(cli.exec(&one, &[], &["sh", "-c", "echo 1 >/sys/kernel/profiling"]).code, 0);
        assert_eq!(
            cli.exec(&one, &[], &["sh", "-c", "ls /sys/firmware | wc -l; ls /sys/class/net"]).ok().out(),
            "0\nlo"
        );
        assert!(
            cli.exec(&one, &[], &["sh", "-c", "test ! -e /dev/sda && test ! -e /dev/kmsg && ls /dev"])
                .ok()
                .out()
                .contains("null")
        );
        // The sandbox sees its members' processes, and they nobody else's.
        let seen = cli.exec(&one, &[], &["sh", "-c", "ls -d /proc/[0-9]* | wc -l"]).ok().out();
        assert!(seen.parse::<u32>().unwrap() <= 4, "its init, and itself: {seen}");
        let inits = "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -cx 'start-container-[i]nit'";
        assert_eq!(own(&["sh", "-c", inits]), "3");
        // In plain words.
        let said = cli.run(["sandbox", "inspect", &sandbox]).ok().out();
        for words in [
            "name     notes",
            "network  none",
            "limits   none",
            &one.guid,
            &two.guid,
            "ids      0 to 65535 inside are 1879048192 to 1879113727 of the machine, in its subcontainers too",
        ] {
            assert!(said.contains(words), "{words:?} in {said}");
        }
        let said = cli.run(["subcontainer", "inspect", &one.guid]).ok().out();
        assert!(said.contains(&format!("sandbox  {sandbox}")), "{said}");
        assert!(said.contains("/dev, /sys and /run of its sandbox, nothing of the host's"), "{said}");
        let list = cli.run(["sandbox", "ls"]).ok().out();
        assert!(list.contains("notes") && list.contains("running"), "{list}");
        assert!(!cli.run(["subcontainer", "ls"]).ok().out().contains(&sandbox), "it is no subcontainer");
        cli.run(["sandbox", "destroy", &sandbox]).ok();
        assert_eq!((a.end().code, b.end().code), (137, 137), "and its members with it");
        assert_eq!(cli.run(["--json", "subcontainer", "ls"]).ok().json(), json!([]));
        assert_eq!(fs::read_dir(cli.data().join("ids")).unwrap().count(), 0, "its ids are free again");
        cli.run(["sandbox", "destroy", &sandbox]).ok();
    });
}

#[test]
fn s9_who_is_launched_when_the_init_of_its_sandbox_has_ended_is_told_so() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let sandbox = create(&cli, &["--image", "busybox", "--throwaway"]);
        let rootfs = member(&cli, &sandbox);
        let running = cli.launch(&rootfs, &[], &["sh", "-c", "setsid sleep 1000 & sleep 1000"]);
        let init = inspect(&cli, &sandbox)["state"]["pid"].as_i64().unwrap() as i32;
        let before = leader(&cli, &rootfs);
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(init).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        assert_eq!(running.end().code, 137, "the kernel ends what is beneath");
        assert!(!Path::new(&format!("/proc/{before}")).exists());
        assert_eq!(inspect(&cli, &sandbox)["state"]["status"], "exited");
        let refused = cli.run(["subcontainer", "launch", &rootfs.path, "true"]).failed(125);
        assert!(refused.contains(&format!("launch in sandbox {sandbox}: its init has ended")), "{refused}");
        assert!(refused.contains("sandbox start"), "{refused}");
        let refused = cli.run(["sandbox", "exec", &sandbox, "true"]).failed(125);
        assert!(refused.contains("it is not running"), "{refused}");
        // Again, with what it was made with, and the files of its members.
        cli.run(["sandbox", "start", &sandbox]).ok();
        let again = cli.run(["sandbox", "start", &sandbox]).failed(125);
        assert!(again.contains("its leader"), "{again}");
        let running = cli.launch_idle(&rootfs);
        cli.exec(&rootfs, &[], &["true"]).ok();
        drop(running);
        cli.run(["sandbox", "destroy", &sandbox]).ok();
    });
}

#[test]
fn s13_what_makes_no_sense_in_a_sandbox_is_refused_before_anything_is_made() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let before = Machine::look(Processes::All, &[]).unwrap();
        let refused = |arguments: &[&str], why: &str| {
            let said = cli.run(arguments).failed(125);
            assert!(said.contains(why), "{arguments:?}: {said}");
        };
        let nobody = "00000000-0000-4000-8000-000000000000";
        refused(&["sandbox", "create", "--network", "host"], "a sandbox has a network of its own");
        refused(&["sandbox", "create", "--publish", "80:80"], "ports and names need a private one");
        refused(&["sandbox", "create", "--image", "nothing"], "nothing");
        refused(&["sandbox", "create", "-m", "1k"], "memoryBytes");
        refused(&["subcontainer", "create-fs", "--sandbox", nobody, "busybox"], "find sandbox");
        refused(&["subcontainer", "create-fs", "--sandbox", "../..", "busybox"], "read subcontainer id");
        refused(&["sandbox", "inspect", nobody], "find sandbox");
        assert_eq!(before.left_after(&[], Duration::ZERO).unwrap(), [""; 0]);
        let (sandbox, rootfs) = (create(&cli, &[]), cli.create_fs("busybox"));
        refused(&["subcontainer", "create-fs", "--sandbox", &rootfs.guid, "busybox"], "find sandbox");
        refused(&["sandbox", "destroy", &rootfs.guid], "find sandbox");
        refused(&["sandbox", "exec", &rootfs.guid, "true"], "find sandbox");
        refused(&["subcontainer", "launch", &sandbox, "true"], "a sandbox is led by our init");
        let inside = member(&cli, &sandbox);
        refused(&["subcontainer", "create-fs", "--sandbox", &inside.guid, "busybox"], "find sandbox");
        for network in ["host", "none", "private"] {
            let launch = ["subcontainer", "launch", "--network", network, &inside.path, "true"];
            refused(&launch, "its network is that of its sandbox");
        }
        refused(
            &["subcontainer", "launch", "-m", "32m", &inside.path, "true"],
            "it is limited with its sandbox",
        );
        assert_eq!(cli.state(&inside), "created");
        cli.run(["sandbox", "destroy", &sandbox]).ok();
        cli.destroy_fs(&rootfs);
    });
}

/// A sandbox of this connection.
fn create_rpc(rpc: &mut Rpc, more: Value) -> String {
    let mut params = json!({"imageId": "busybox", "throwaway": true});
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    rpc.call("sandbox.create", params)["guid"].as_str().unwrap().to_owned()
}

/// A rootfs in it.
fn member_rpc(rpc: &mut Rpc, sandbox: &str) -> String {
    let params = json!({"imageId": "busybox", "throwaway": true, "sandbox": sandbox});
    rpc.call("subcontainer.createFs", params)["guid"].as_str().unwrap().to_owned()
}

/// The machine with a host that has what it keeps for containers to come.
fn warm(rpc: &mut Rpc) -> Machine {
    let sandbox = create_rpc(rpc, json!({}));
    rpc.call("sandbox.destroy", json!({"guid": sandbox}));
    Machine::look(Processes::All, &[]).unwrap()
}

fn groups(guid: &str) -> Vec<String> {
    let found = std::process::Command::new("find").args(["/sys/fs/cgroup", "-name", guid]).output().unwrap();
    String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn s14_two_members_share_a_volume_under_the_same_ids_and_so_does_the_sandbox() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let sandbox = create_rpc(&mut rpc, json!({"name": "notes"}));
        let (one, two) = (member_rpc(&mut rpc, &sandbox), member_rpc(&mut rpc, &sandbox));
        let alone = rpc.call("subcontainer.createFs", json!({"imageId": "busybox", "userns": true}));
        for guid in [&sandbox, &one, &two] {
            let source = json!({"type": "volume", "volumeId": "main"});
            let params = json!({"guid": guid, "mount": {"source": source, "mountpoint": "/data"}});
            rpc.call("subcontainer.mount", params);
        }
        // The first command in a member launches its idle init, beneath the sandbox.
        rpc.output(&one, &["sh", "-c", "umask 77; echo hello >/data/file; chown 70:71 /data/file"]);
        let as_70 = json!({"guid": two, "command": ["cat", "/data/file"], "options": {"user": "70:71"}});
        assert_eq!(rpc.call("subcontainer.exec", as_70)["outcome"]["code"], 0);
        assert_eq!(rpc.output(&two, &["stat", "-c", "%u:%g", "/data/file"]), "70:71\n");
        assert_eq!(rpc.output(&sandbox, &["sh", "-c", "cat /data/file; hostname"]), "hello\nnotes\n");
        assert_eq!(fs::metadata(host.data().join("volumes/main/file")).unwrap().uid(), 70);
        let spawned = rpc.call("subcontainer.spawn", json!({"guid": sandbox, "command": ["sleep", "1000"]}));
        assert!(spawned["pid"].as_u64().is_some());
        let info = rpc.call("sandbox.inspect", json!({"guid": sandbox}));
        assert_eq!(info["subcontainers"], json!([one, two]));
        let first = info["firstId"].as_u64().unwrap();
        let of = |rpc: &mut Rpc, guid: &str| rpc.call("subcontainer.inspect", json!({"guid": guid}));
        let inside = of(&mut rpc, &one);
        assert_eq!((&inside["firstId"], &inside["sandbox"]), (&json!(first), &json!(sandbox)));
        assert_ne!(of(&mut rpc, alone["guid"].as_str().unwrap())["firstId"], json!(first));
        let listed = rpc.call("subcontainer.list", json!({}));
        assert_eq!(listed["subcontainers"].as_array().unwrap().len(), 3);
        assert_eq!(rpc.call("sandbox.list", json!({}))["sandboxes"].as_array().unwrap().len(), 1);
        assert!(rpc.call("subcontainer.stats", json!({"guid": sandbox}))["processes"].as_u64().unwrap() >= 4);
        // Its group is in the sandbox's, with all beneath.
        assert!(groups(&one).iter().all(|path| path.contains(&sandbox)), "{:?}", groups(&one));
        let refused = rpc.call_fails("subcontainer.launch", json!({"guid": sandbox}));
        assert!(refused.message.contains("a sandbox is led by our init"), "{refused:?}");
        rpc.call("events.subscribe", json!({}));
        rpc.call("sandbox.destroy", json!({"guid": sandbox}));
        let mut gone: Vec<String> = Vec::new();
        tests::eventually("all are told", || {
            rpc.call("image.list", json!({}));
            gone = rpc
                .notifications
                .iter()
                .filter(|n| n["params"]["event"] == "destroyed")
                .map(|n| n["params"]["guid"].as_str().unwrap().to_owned())
                .collect();
            gone.len() == 3
        });
        assert!([&one, &two, &sandbox].iter().all(|guid| gone.contains(guid)), "{gone:?}");
        assert_eq!(groups(&one), [""; 0]);
        assert_eq!(
            rpc.call_fails("subcontainer.exec", json!({"guid": one, "command": ["true"]})).kind(),
            "notFound"
        );
        rpc.call("subcontainer.destroyFs", json!({"guid": alone["guid"]}));
    });
}

#[test]
fn s22_two_sandboxes_do_not_see_each_other_and_members_of_one_share_its_network() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let network = |name: &str| json!({"settings": {"network": {"mode": "private", "name": name, "aliases": [name]}}});
        let (a, b) = (create_rpc(&mut rpc, network("one")), create_rpc(&mut rpc, network("two")));
        let (one, two, other) =
            (member_rpc(&mut rpc, &a), member_rpc(&mut rpc, &a), member_rpc(&mut rpc, &b));
        // A server in one member is on the other's loopback, and has a name.
        let serve = ["sh", "-c", "echo hello >/index.html; httpd -p 8080 -h /"];
        rpc.output(&one, &serve);
        assert_eq!(rpc.output(&two, &["wget", "-qO-", "http://127.0.0.1:8080/"]), "hello\n");
        assert_eq!(rpc.output(&a, &["wget", "-qO-", "http://127.0.0.1:8080/"]), "hello\n");
        assert_eq!(rpc.output(&two, &["wget", "-qO-", "http://one:8080/"]), "hello\n");
        let info = rpc.call("subcontainer.inspect", json!({"guid": two}));
        let place = rpc.call("sandbox.inspect", json!({"guid": a}))["state"]["network"].clone();
        assert_eq!(info["state"]["network"], place);
        let address = place["addresses"][0].as_str().unwrap().split('/').next().unwrap().to_owned();
        let url = format!("http://{address}:8080/");
        assert_eq!(rpc.output(&two, &["wget", "-qO-", &url]), "hello\n");
        let params = json!({"guid": other, "command": ["timeout", "2", "wget", "-qO-", &url]});
        assert_ne!(rpc.call("subcontainer.exec", params)["outcome"]["code"], 0);
        let seen = rpc.output(&other, &["sh", "-c", "cat /etc/hosts; ls /dev/shm"]);
        assert!(!seen.contains("one"), "{seen}");
        rpc.call("sandbox.destroy", json!({"guid": a}));
        rpc.call("sandbox.destroy", json!({"guid": b}));
    });
}

#[test]
fn s9_a_sandbox_ends_with_its_connection_unless_it_is_given_away() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut other = host.connect();
        let mut rpc = host.connect();
        let before = warm(&mut rpc);
        let sandbox = create_rpc(&mut rpc, json!({}));
        // Owned by somebody else, or by nobody, it ends with its sandbox all the same.
        let theirs = member_rpc(&mut other, &sandbox);
        let params = json!({"imageId": "busybox", "sandbox": sandbox, "detached": true});
        let nobodys = rpc.call("subcontainer.createFs", params)["guid"].as_str().unwrap().to_owned();
        for guid in [&theirs, &nobodys, &sandbox] {
            other.call("subcontainer.spawn", json!({"guid": guid, "command": ["sleep", "1000"]}));
        }
        drop(rpc);
        tests::eventually("it is destroyed", || {
            other.call("sandbox.list", json!({}))["sandboxes"] == json!([])
        });
        assert_eq!(other.call("subcontainer.list", json!({}))["subcontainers"], json!([]));
        assert_eq!(before.left_after(&[], Duration::from_secs(5)).unwrap(), [""; 0]);

        let mut rpc = host.connect();
        let sandbox = create_rpc(&mut rpc, json!({"detached": true, "throwaway": false}));
        let params = json!({"imageId": "busybox", "sandbox": sandbox, "detached": true});
        let kept = rpc.call("subcontainer.createFs", params)["guid"].as_str().unwrap().to_owned();
        let owned = member_rpc(&mut rpc, &sandbox);
        for guid in [&kept, &owned] {
            rpc.call("subcontainer.spawn", json!({"guid": guid, "command": ["sleep", "1000"]}));
        }
        host.kill();
        host.start_again();
        let mut rpc = host.connect();
        tests::eventually("what was owned is destroyed", || {
            rpc.call("sandbox.inspect", json!({"guid": sandbox}))["subcontainers"] == json!([kept])
        });
        assert_eq!(rpc.output(&kept, &["echo", "adopted"]), "adopted\n");
        let info = rpc.call("sandbox.attach", json!({"guid": sandbox}));
        assert_eq!(info["state"]["status"], "running");
        let busy = host.connect().call_fails("sandbox.attach", json!({"guid": sandbox}));
        assert_eq!(busy.kind(), "busy");
        rpc.call("sandbox.detach", json!({"guid": sandbox}));
        rpc.call("sandbox.attach", json!({"guid": sandbox}));
        // The init's end is that of all, and is told.
        rpc.call("events.subscribe", json!({}));
        let pid = info["state"]["pid"].as_i64().unwrap() as i32;
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        tests::eventually("both ends are told", || {
            rpc.call("image.list", json!({}));
            rpc.notifications.iter().filter(|n| n["params"]["event"] == "exited").count() == 2
        });
        let refused = rpc.call_fails("subcontainer.exec", json!({"guid": kept, "command": ["true"]}));
        assert_eq!((refused.kind(), refused.step()), ("notRunning", "launch in sandbox"));
        rpc.call("sandbox.start", json!({"guid": sandbox}));
        assert_eq!(rpc.output(&kept, &["echo", "again"]), "again\n");
        drop(rpc);
        let mut rpc = host.connect();
        tests::eventually("it is destroyed", || {
            rpc.call("sandbox.list", json!({}))["sandboxes"] == json!([])
        });
    });
}

#[test]
fn s9_a_sandbox_that_ends_while_somebody_is_on_his_way_in_is_gone_all_the_same() {
    isolated(|| {
        let host = Host::with_busybox();
        let (mut rpc, mut another) = (host.connect(), host.connect());
        let before = warm(&mut rpc);
        for round in 0..40 {
            let sandbox = create_rpc(&mut rpc, json!({}));
            let guid = member_rpc(&mut rpc, &sandbox);
            let info = rpc.call("sandbox.inspect", json!({"guid": sandbox}));
            let pid = info["state"]["pid"].as_i64().unwrap() as i32;
            let id = another.send("subcontainer.launch", json!({"guid": guid, "command": ["sleep", "1000"]}));
            // A launch takes some milliseconds.
            std::thread::sleep(Duration::from_micros(round * 250));
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            if let Err(refused) = another.answer(id) {
                assert_eq!(refused.kind(), "notRunning", "round {round}: {refused:?}");
            }
            rpc.call("sandbox.destroy", json!({"guid": sandbox}));
            let left = before.left_after(&[], Duration::from_secs(5)).unwrap();
            assert!(left.is_empty(), "round {round}: {left:?}");
        }
    });
}

#[test]
fn s23_limits_of_a_sandbox_bound_its_members_and_change_while_they_run() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let sandbox = create_rpc(&mut rpc, json!({}));
        let guid = member_rpc(&mut rpc, &sandbox);
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        let fork = ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; echo all; kill $(jobs -p)"];
        assert_eq!(rpc.output(&guid, &fork), "all\n");
        rpc.call("subcontainer.update", json!({"guid": sandbox, "limits": {"pids": 8}}));
        let result = rpc.exec(&guid, &fork);
        assert!(!tests::rpc::bytes(&result["stdout"]).starts_with(b"all"), "{result}");
        let info = rpc.call("subcontainer.inspect", json!({"guid": guid}));
        assert_eq!(info["state"]["allowed"]["limits"], json!({"pids": 8}));
        let refused = rpc.call_fails("subcontainer.update", json!({"guid": guid, "limits": {"pids": 100}}));
        assert!(refused.message.contains("it is limited with its sandbox"), "{refused:?}");
        rpc.call("sandbox.destroy", json!({"guid": sandbox}));
    });
}
