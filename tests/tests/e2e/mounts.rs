//! Mounts: every source, confined, read-only when asked, with its ids mapped, while it runs and before.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use serde_json::{Value, json};
use tests::cli::finish;
use tests::{Cli, Host, Rpc, isolated};

fn mount(rpc: &mut Rpc, guid: &str, mount: Value) {
    rpc.call("subcontainer.mount", json!({"guid": guid, "mount": mount}));
}

fn mount_fails(rpc: &mut Rpc, guid: &str, mount: Value) -> tests::RpcError {
    rpc.call_fails("subcontainer.mount", json!({"guid": guid, "mount": mount}))
}

fn with_container(body: impl FnOnce(&Host, &mut Rpc, &str)) {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        body(&host, &mut rpc, &guid);
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}

#[test]
fn s14_a_volume_is_created_kept_and_shared() {
    with_container(|host, rpc, guid| {
        mount(rpc, guid, json!({"source": {"type": "volume", "volumeId": "main"}, "mountpoint": "/data"}));
        rpc.output(guid, &["sh", "-c", "echo hello > /data/file"]);
        assert_eq!(fs::read_to_string(host.data().join("volumes/main/file")).unwrap(), "hello\n");
        let other = rpc.create_fs("busybox");
        mount(rpc, &other, json!({"source": {"type": "volume", "volumeId": "main"}, "mountpoint": "/same"}));
        assert_eq!(rpc.output(&other, &["cat", "/same/file"]), "hello\n");
        rpc.call("subcontainer.destroyFs", json!({"guid": other}));
    });
}

#[test]
fn s14_every_kind_is_readonly_when_asked() {
    with_container(|host, rpc, guid| {
        for directory in ["volumes/v", "assets", "backup", "packages/dep/volumes/v"] {
            fs::create_dir_all(host.data().join(directory)).unwrap();
            fs::write(host.data().join(directory).join("file"), directory).unwrap();
        }
        for (name, source) in [
            ("volume", json!({"type": "volume", "volumeId": "v"})),
            ("assets", json!({"type": "assets"})),
            ("backup", json!({"type": "backup"})),
            ("pointer", json!({"type": "pointer", "packageId": "dep", "volumeId": "v"})),
            ("tmpfs", json!({"type": "tmpfs"})),
        ] {
            mount(rpc, guid, json!({"source": source, "mountpoint": format!("/{name}"), "readonly": true}));
            for script in [
                format!("echo x > /{name}/new"),
                format!("mkdir /{name}/dir"),
                format!("rm /{name}/file"),
                format!("mount -o remount,rw /{name} && echo x > /{name}/new"),
            ] {
                let result = rpc.exec(guid, &["sh", "-c", &script]);
                assert_ne!(result["outcome"], json!({"kind": "exit", "code": 0}), "{script}: {result}");
            }
        }
        for directory in ["volumes/v", "assets", "backup", "packages/dep/volumes/v"] {
            assert_eq!(fs::read_dir(host.data().join(directory)).unwrap().count(), 1, "{directory}");
        }
    });
}

#[test]
fn s14_writable_kinds_are_writable_and_assets_never() {
    with_container(|host, rpc, guid| {
        for directory in ["assets", "backup", "packages/dep/volumes/v"] {
            fs::create_dir_all(host.data().join(directory)).unwrap();
        }
        for (name, source, writable) in [
            ("volume", json!({"type": "volume", "volumeId": "v"}), true),
            ("assets", json!({"type": "assets"}), false),
            ("backup", json!({"type": "backup"}), true),
            ("pointer", json!({"type": "pointer", "packageId": "dep", "volumeId": "v"}), true),
            ("tmpfs", json!({"type": "tmpfs", "size": 1_048_576, "mode": 0o700}), true),
        ] {
            mount(rpc, guid, json!({"source": source, "mountpoint": format!("/{name}")}));
            let result = rpc.exec(guid, &["sh", "-c", &format!("echo x > /{name}/new")]);
            assert_eq!(result["outcome"]["code"] == 0, writable, "{name}: {result}");
        }
        let result = rpc.exec(guid, &["dd", "if=/dev/zero", "of=/tmpfs/big", "bs=1M", "count=2"]);
        assert_ne!(result["outcome"]["code"], 0, "the tmpfs has a size: {result}");
        assert_eq!(rpc.output(guid, &["stat", "-c", "%a", "/tmpfs"]), "700\n");
    });
}

#[test]
fn s14_id_maps_give_files_the_ids_that_the_container_expects() {
    with_container(|host, rpc, guid| {
        let volume = host.data().join("volumes/main");
        fs::create_dir_all(&volume).unwrap();
        fs::write(volume.join("file"), "").unwrap();
        chown(volume.join("file"), Some(1000), Some(1000)).unwrap();
        fs::write(volume.join("root"), "").unwrap();
        let source = json!({"type": "volume", "volumeId": "main"});
        let idmap = json!([{"fromId": 1000, "toId": 70, "range": 2}, {"fromId": 0, "toId": 5, "range": 1}]);
        mount(rpc, guid, json!({"source": source, "mountpoint": "/data", "idmap": idmap}));
        assert_eq!(rpc.output(guid, &["stat", "-c", "%u:%g", "/data/file"]), "70:70\n");
        assert_eq!(rpc.output(guid, &["stat", "-c", "%u:%g", "/data/root"]), "5:5\n");
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
        let options = json!({"user": "71:71"});
        let params = json!({"guid": guid, "command": ["touch", "/data/new"], "options": options});
        assert_eq!(rpc.call("subcontainer.exec", params)["outcome"]["code"], 0);
        let new = fs::metadata(volume.join("new")).unwrap();
        assert_eq!((new.uid(), new.gid()), (1001, 1001), "and what it writes is stored under the source's");
    });
}

#[test]
fn s14_id_maps_work_on_every_kind() {
    with_container(|host, rpc, guid| {
        for directory in ["assets", "backup", "packages/dep/volumes/v"] {
            fs::create_dir_all(host.data().join(directory)).unwrap();
            fs::write(host.data().join(directory).join("file"), "").unwrap();
        }
        for (name, source) in [
            ("assets", json!({"type": "assets"})),
            ("backup", json!({"type": "backup"})),
            ("pointer", json!({"type": "pointer", "packageId": "dep", "volumeId": "v"})),
        ] {
            let idmap = json!([{"fromId": 0, "toId": 26, "range": 1}]);
            mount(rpc, guid, json!({"source": source, "mountpoint": format!("/{name}"), "idmap": idmap}));
            assert_eq!(rpc.output(guid, &["stat", "-c", "%u", &format!("/{name}/file")]), "26\n", "{name}");
        }
    });
}

#[test]
fn s14_bad_id_maps_are_errors() {
    with_container(|_, rpc, guid| {
        for idmap in [
            json!([{"fromId": 0, "toId": 0, "range": 0}]),
            json!([{"fromId": 0, "toId": 10, "range": 5}, {"fromId": 3, "toId": 100, "range": 5}]),
            json!([{"fromId": 0, "toId": 10, "range": 5}, {"fromId": 100, "toId": 12, "range": 1}]),
            json!([{"fromId": 4_294_967_295_u32, "toId": 0, "range": 2}]),
            json!([{"fromId": -1, "toId": 0, "range": 1}]),
        ] {
            let source = json!({"type": "volume", "volumeId": "main"});
            let wanted = json!({"source": source, "mountpoint": "/data", "idmap": idmap});
            let error = mount_fails(rpc, guid, wanted);
            assert!(error.kind() == "invalid" || error.code == -32602, "{idmap}: {error:?}");
        }
        let mounts = rpc.call("subcontainer.inspect", json!({"guid": guid}))["mounts"].clone();
        assert_eq!(mounts, json!([]), "nothing was mounted");
    });
}

#[test]
fn s14_mounts_come_and_go_while_it_runs() {
    with_container(|host, rpc, guid| {
        rpc.call("subcontainer.launch", json!({"guid": guid}));
        let source = json!({"type": "volume", "volumeId": "late"});
        mount(rpc, guid, json!({"source": source, "mountpoint": "/late/deep"}));
        rpc.output(guid, &["touch", "/late/deep/file"]);
        assert!(host.data().join("volumes/late/file").exists());
        rpc.call("subcontainer.unmount", json!({"guid": guid, "mountpoint": "/late/deep"}));
        assert_eq!(rpc.output(guid, &["ls", "/late/deep"]), "");
        let error = rpc.call_fails("subcontainer.unmount", json!({"guid": guid, "mountpoint": "/late/deep"}));
        assert_eq!(error.kind(), "notFound");
    });
}

#[test]
fn s14_a_second_mount_on_the_same_mountpoint_is_an_error() {
    with_container(|_, rpc, guid| {
        let source = json!({"type": "volume", "volumeId": "one"});
        mount(rpc, guid, json!({"source": source, "mountpoint": "/data"}));
        for same in ["/data", "/data/", "//data", "/etc/../data", "/./data"] {
            let other = json!({"type": "volume", "volumeId": "two"});
            let error = mount_fails(rpc, guid, json!({"source": other, "mountpoint": same}));
            assert!(["exists", "invalid"].contains(&error.kind()), "{same}: {error:?}");
        }
    });
}

#[test]
fn s14_files_directories_and_whatever_is_there() {
    with_container(|host, rpc, guid| {
        let volume = host.data().join("volumes/main");
        fs::create_dir_all(volume.join("dir")).unwrap();
        fs::write(volume.join("config"), "content").unwrap();
        let source = |subpath: &str, filetype: &str| json!({"type": "volume", "volumeId": "main", "subpath": subpath, "filetype": filetype});
        mount(rpc, guid, json!({"source": source("config", "infer"), "mountpoint": "/etc/app/config"}));
        assert_eq!(rpc.output(guid, &["cat", "/etc/app/config"]), "content");
        mount(rpc, guid, json!({"source": source("dir", "directory"), "mountpoint": "/dir"}));
        mount(rpc, guid, json!({"source": source("made/file", "file"), "mountpoint": "/file"}));
        rpc.output(guid, &["sh", "-c", "echo written > /file"]);
        assert_eq!(fs::read_to_string(volume.join("made/file")).unwrap(), "written\n");
        let error = mount_fails(rpc, guid, json!({"source": source("dir", "file"), "mountpoint": "/wrong"}));
        assert!(!error.message.is_empty() && error.subject().contains("dir"), "{error:?}");
        let error = mount_fails(rpc, guid, json!({"source": source("none", "infer"), "mountpoint": "/none"}));
        assert_eq!(error.kind(), "notFound", "{error:?}");
    });
}

#[test]
fn s14_a_source_cannot_escape_its_root() {
    with_container(|host, rpc, guid| {
        fs::create_dir_all(host.data().join("volumes/main")).unwrap();
        fs::create_dir_all(host.data().join("assets")).unwrap();
        symlink("/etc", host.data().join("volumes/main/absolute")).unwrap();
        symlink("../../../..", host.data().join("volumes/main/up")).unwrap();
        symlink("/proc/1/root", host.data().join("assets/magic")).unwrap();
        for source in [
            json!({"type": "volume", "volumeId": ".."}),
            json!({"type": "volume", "volumeId": "../assets"}),
            json!({"type": "volume", "volumeId": "main/../.."}),
            json!({"type": "volume", "volumeId": ""}),
            json!({"type": "volume", "volumeId": "main", "subpath": ".."}),
            json!({"type": "volume", "volumeId": "main", "subpath": "a/../../.."}),
            json!({"type": "volume", "volumeId": "main", "subpath": "absolute"}),
            json!({"type": "volume", "volumeId": "main", "subpath": "up/etc"}),
            json!({"type": "assets", "subpath": "magic/etc"}),
            json!({"type": "pointer", "packageId": "..", "volumeId": "x"}),
            json!({"type": "pointer", "packageId": "no-such-package", "volumeId": "x"}),
        ] {
            let error = mount_fails(rpc, guid, json!({"source": source, "mountpoint": "/stolen"}));
            assert!(["escape", "invalid", "notFound"].contains(&error.kind()), "{source}: {error:?}");
        }
        let mounts = rpc.call("subcontainer.inspect", json!({"guid": guid}))["mounts"].clone();
        assert_eq!(mounts, json!([]));
    });
}

#[test]
fn s11_a_mountpoint_is_found_inside_whatever_links_say() {
    with_container(|_, rpc, guid| {
        let info = rpc.call("subcontainer.inspect", json!({"guid": guid}));
        let rootfs = Path::new(info["rootfs"].as_str().unwrap());
        fs::create_dir("/tmp/target").unwrap();
        symlink("/tmp/target", rootfs.join("absolute")).unwrap();
        symlink("../../../../../../../tmp/target", rootfs.join("relative")).unwrap();
        let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
        for mountpoint in ["/absolute", "/relative", "/absolute/x", "relative", "", "/", "/.."] {
            let source = json!({"type": "tmpfs"});
            let request = json!({"guid": guid, "mount": {"source": source, "mountpoint": mountpoint}});
            // Inside, the links lead to a path in the rootfs, or nowhere: both are safe.
            let _ = rpc.try_call("subcontainer.mount", request);
        }
        let after = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let outside: Vec<&str> = after
            .lines()
            .filter(|line| !before.contains(*line) && !line.contains(rootfs.to_str().unwrap()))
            .collect();
        assert_eq!(outside, Vec::<&str>::new(), "mounted outside of the rootfs");
        assert_eq!(fs::read_dir("/tmp/target").unwrap().count(), 0);
        fs::remove_dir("/tmp/target").unwrap();
    });
}

#[test]
fn s3_bind_mount_by_command_line() {
    isolated(|| {
        let cli = Cli::new();
        let (source, target) = (cli.data().join("source"), cli.data().join("target"));
        fs::create_dir_all(source.join("deep")).unwrap();
        fs::create_dir(&target).unwrap();
        fs::write(source.join("file"), "content").unwrap();
        chown(source.join("file"), Some(1000), Some(1001)).unwrap();
        let (source, target) = (source.to_str().unwrap(), target.to_str().unwrap());
        let words = ["bind-mount", "--source", source, "--target", target];
        let umount = || {
            let mut umount = std::process::Command::new("umount");
            umount.arg(target);
            finish(umount, b"").ok();
        };

        cli.run(words).ok();
        fs::write(Path::new(target).join("new"), "").unwrap();
        umount();

        cli.run(words.iter().chain(&["--readonly"])).ok();
        assert!(fs::write(Path::new(target).join("other"), "").is_err());
        umount();

        cli.run(words.iter().chain(&["--idmap", "1000:5:2"])).ok();
        let mapped = fs::metadata(Path::new(target).join("file")).unwrap();
        assert_eq!((mapped.uid(), mapped.gid()), (5, 6));
        umount();

        for bad in [&["--idmap", "1:2:0"][..], &["--idmap", "x"], &["--file"]] {
            cli.run(words.iter().chain(bad)).failed(125);
        }
        cli.run(["bind-mount", "--source", "/no/such/place", "--target", target]).failed(125);
    });
}
