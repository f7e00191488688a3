//! Subcontainers with a user namespace: root inside is nobody outside. (rows S6, S14)

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::cli::Rootfs;
use tests::rpc::bytes;
use tests::{Cli, Host, Rpc, isolated};

const FIRST: u32 = 0x7000_0000;

fn create(cli: &Cli) -> Rootfs {
    let made = cli.run(["--json", "subcontainer", "create-fs", "--userns", "busybox"]).ok().json();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    Rootfs { guid: text("guid"), path: text("rootfs") }
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

fn create_rpc(rpc: &mut Rpc) -> (String, PathBuf) {
    let made = rpc.call("subcontainer.createFs", json!({"imageId": "busybox", "userns": true}));
    (made["guid"].as_str().unwrap().to_owned(), PathBuf::from(made["rootfs"].as_str().unwrap()))
}

#[test]
fn s6_root_inside_is_nobody_outside() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = create(&cli);
        let tree = PathBuf::from(&rootfs.path);
        let running = cli.launch_idle(&rootfs);
        let info = cli.run(["--json", "subcontainer", "inspect", &rootfs.guid]).ok().json();
        let leader = info["state"]["pid"].as_u64().unwrap();
        assert_eq!(owner(format!("/proc/{leader}")).0, FIRST, "PID 1 is not root's");
        assert_ne!(
            fs::read_link(format!("/proc/{leader}/ns/user")).unwrap(),
            fs::read_link("/proc/self/ns/user").unwrap()
        );
        // It is root there, and what it makes is its own.
        assert_eq!(cli.exec(&rootfs, &[], &["id", "-u"]).ok().out(), "0");
        cli.exec(&rootfs, &[], &["sh", "-c", "mkdir /d && touch /d/f && chown 7:8 /d/f"]).ok();
        assert_eq!(
            (owner(tree.join("d")), owner(tree.join("d/f"))),
            ((FIRST, FIRST), (FIRST + 7, FIRST + 8))
        );
        // What the image has is root's inside, and was not changed on disk.
        assert_eq!(cli.exec(&rootfs, &[], &["stat", "-c", "%u:%g", "/bin/busybox"]).ok().out(), "0:0");
        cli.exec(&rootfs, &[], &["chown", "3", "/bin/busybox"]).ok();
        let layers = cli.data().join("store/layers/sha256");
        let layer = fs::read_dir(layers).unwrap().next().unwrap().unwrap().path();
        assert_eq!(owner(layer.join("fs/bin/busybox")), (0, 0));
        let refused = cli.exec(&rootfs, &[], &["sh", "-c", "echo x >/proc/sys/vm/swappiness"]);
        assert_ne!(refused.code, 0);
        // Users of its own, terminals, and every stream.
        cli.exec(&rootfs, &["--user", "5:6"], &["sh", "-c", "test $(id -u):$(id -g) = 5:6"]).ok();
        assert!(
            cli.exec(&rootfs, &["--force-tty"], &["sh", "-c", "test -w $(tty) && tty"])
                .ok()
                .out()
                .contains("/dev/pts/")
        );
        assert_eq!(
            cli.exec(&rootfs, &[], &["sh", "-c", "echo x >/dev/null; stat -c %u /dev/null /dev"]).ok().out(),
            "0\n0"
        );
        let said = cli.run(["subcontainer", "inspect", &rootfs.path]).ok().out();
        assert!(
            said.contains("ids      0 to 65535 inside are 1879048192 to 1879113727 of the machine"),
            "{said}"
        );
        drop(running);
        cli.destroy_fs(&rootfs);
        assert_eq!(fs::read_dir(cli.data().join("ids")).unwrap().count(), 0, "its ids are free again");
    });
}

#[test]
fn s14_each_has_ids_that_no_other_has_and_keeps_them() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let (one, two) = (create(&cli), create(&cli));
        let first = |rootfs: &Rootfs| {
            cli.run(["--json", "subcontainer", "inspect", &rootfs.guid]).ok().json()["firstId"].clone()
        };
        assert_eq!((first(&one), first(&two)), (json!(FIRST), json!(FIRST + 65536)));
        cli.destroy_fs(&one);
        let three = create(&cli);
        assert_eq!((first(&two), first(&three)), (json!(FIRST + 65536), json!(FIRST)));
        // What one may read, the other may not, were it to see it.
        let running = cli.launch(&two, &[], &["sleep", "1000"]);
        cli.exec(&two, &[], &["sh", "-c", "umask 77; echo secret >/secret"]).ok();
        assert_eq!(owner(Path::new(&two.path).join("secret")), (FIRST + 65536, FIRST + 65536));
        drop(running);
        cli.destroy_fs(&two);
        cli.destroy_fs(&three);
    });
}

#[test]
fn s14_id_maps_of_mounts_mean_the_ids_inside() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let (guid, tree) = create_rpc(&mut rpc);
        let mount = |at: &str, volume: &str, idmap: Value| {
            let source = json!({"type": "volume", "volumeId": volume});
            json!({"guid": guid, "mount": {"source": source, "mountpoint": at, "idmap": idmap}})
        };
        rpc.call("subcontainer.mount", mount("/plain", "plain", json!([])));
        rpc.call(
            "subcontainer.mount",
            mount("/mapped", "mapped", json!([{"fromId": 0, "toId": 70, "range": 1}])),
        );
        let tmpfs = json!({"guid": guid, "mount": {"source": {"type": "tmpfs"}, "mountpoint": "/tmpfs"}});
        rpc.call("subcontainer.mount", tmpfs);
        let too_far = mount("/far", "far", json!([{"fromId": 0, "toId": 65535, "range": 2}]));
        let refused = rpc.call_fails("subcontainer.mount", too_far);
        assert!(refused.message.contains("ends past 65535"), "{refused:?}");
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        let script = "stat -c %u /plain /mapped /tmpfs; touch /plain/root /tmpfs/root; \
            echo x >/mapped/no 2>/dev/null || echo refused; chown 9 /plain/root";
        assert_eq!(
            rpc.output(&guid, &["sh", "-c", script]),
            "0\n70\n0\nrefused\n",
            "root inside has no id on it"
        );
        assert_eq!(owner(host.data().join("volumes/plain/root")), (9, 0), "the volume keeps the ids inside");
        let as_70 = json!({"guid": guid, "command": ["touch", "/mapped/file"], "options": {"user": "70:70"}});
        assert_eq!(rpc.call("subcontainer.exec", as_70)["outcome"]["code"], 0);
        assert_eq!(owner(host.data().join("volumes/mapped/file")).0, 0);
        assert_eq!(owner(tree.join("plain")).0, FIRST);
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

#[test]
fn s17_file_calls_speak_of_the_ids_inside() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let (guid, tree) = create_rpc(&mut rpc);
        let at = |path: &str, more: Value| {
            let mut params = json!({"guid": guid, "path": path});
            params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            params
        };
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        // Into a directory that only another user inside may enter.
        rpc.output(&guid, &["sh", "-c", "mkdir -m 700 /home7 && chown 7 /home7"]);
        rpc.call("file.write", at("/home7/file", json!({"data": {"text": "hello"}})));
        rpc.call("file.mkdir", at("/made/deep", json!({"recursive": true})));
        rpc.call("file.symlink", at("/link", json!({"target": "made"})));
        for path in ["home7/file", "made", "made/deep", "link"] {
            assert_eq!(owner(tree.join(path)), (FIRST, FIRST), "{path}");
        }
        rpc.call("file.chown", at("/made", json!({"uid": 7, "gid": 9})));
        let stat = rpc.call("file.stat", at("/made", json!({})));
        assert_eq!((&stat["uid"], &stat["gid"]), (&json!(7), &json!(9)));
        assert_eq!(
            rpc.call_fails("file.chown", at("/made", json!({"uid": 65536, "gid": 0}))).kind(),
            "invalid"
        );
        let seen = rpc.exec(&guid, &["stat", "-c", "%u:%g", "/made", "/home7/file"]);
        assert_eq!(bytes(&seen["stdout"]), b"7:9\n0:0\n");
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

#[test]
fn s6_a_command_on_its_way_in_is_out_of_reach_of_one_that_may_trace() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = create(&cli);
        let flags = ["--cap-add", "SYS_PTRACE", "--seccomp", "unconfined"];
        let running = cli.launch(&rootfs, &flags, &["sleep", "1000"]);
        // Whatever is there for a moment: whose program does it run? Who may be told that may trace it.
        let spy = "while :; do kill -STOP -1; for p in /proc/[0-9]*; do \
            grep -q '^Uid:.*65534' $p/status && readlink $p/exe >>/reached; done; kill -CONT -1; touch /round; done";
        let mut hunter =
            cli.command(["subcontainer", "exec", &rootfs.path, "sh", "-c", spy]).spawn().unwrap();
        tests::eventually("it spies", || Path::new(&rootfs.path).join("round").exists());
        for _ in 0..20 {
            cli.exec(&rootfs, &[], &["true"]).ok();
        }
        // One that was not stopped may run its own by the time of the second look.
        let reached = fs::read_to_string(Path::new(&rootfs.path).join("reached")).unwrap_or_default();
        assert!(reached.lines().all(|line| line == "/bin/busybox"), "{reached}");
        hunter.kill().unwrap();
        hunter.wait().unwrap();
        drop(running);
        cli.destroy_fs(&rootfs);
    });
}
