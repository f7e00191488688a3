//! Rootfs: made, written to, found again, destroyed; and confined.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use tests::{Cli, Host, isolated};

#[test]
fn s12_a_rootfs_is_writable_and_its_image_is_not_touched() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let (first, second) = (cli.create_fs("busybox"), cli.create_fs("busybox"));
        assert_ne!(first.guid, second.guid);
        fs::write(Path::new(&first.path).join("etc/hostname"), "first").unwrap();
        fs::remove_file(Path::new(&first.path).join("etc/group")).unwrap();
        assert_eq!(fs::read_to_string(Path::new(&second.path).join("etc/hostname")).unwrap(), "");
        assert!(Path::new(&second.path).join("etc/group").exists());
        cli.destroy_fs(&first);
        assert!(!Path::new(&first.path).exists());
        cli.destroy_fs(&second);
    });
}

#[test]
fn s12_destroy_fs_is_idempotent_and_takes_a_path_or_a_guid() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        cli.run(["subcontainer", "destroy-fs", &rootfs.guid]).ok();
        cli.run(["subcontainer", "destroy-fs", &rootfs.guid]).ok();
        cli.run(["subcontainer", "destroy-fs", &rootfs.path]).ok();
    });
}

#[test]
fn s12_destroy_fs_ends_what_still_runs_inside() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = cli.create_fs("busybox");
        let running = cli.launch(&rootfs, &[], &["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]);
        cli.destroy_fs(&rootfs);
        assert_eq!(running.end().code, 137);
    });
}

#[test]
fn s12_a_name_is_shown() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let made = cli.run(["--json", "subcontainer", "create-fs", "busybox", "--name", "web"]).ok().json();
        let guid = made["guid"].as_str().unwrap();
        let info = cli.run(["--json", "subcontainer", "inspect", guid]).ok().json();
        assert_eq!(info["name"], "web");
        assert_eq!(info["throwaway"], false);
        cli.run(["subcontainer", "destroy-fs", guid]).ok();
    });
}

#[test]
fn s11_a_planted_link_leads_no_file_call_out() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let info = rpc.call("subcontainer.inspect", json!({"guid": guid}));
        let rootfs = Path::new(info["rootfs"].as_str().unwrap());
        fs::create_dir("/tmp/outside").unwrap();
        fs::write("/tmp/outside/secret", "secret").unwrap();
        symlink("/tmp/outside", rootfs.join("absolute")).unwrap();
        symlink("../../../../../../../../tmp/outside", rootfs.join("relative")).unwrap();
        symlink("/proc/1/root/tmp/outside", rootfs.join("magic")).unwrap();
        for link in ["/absolute", "/relative", "/magic", "/../../../../tmp/outside"] {
            let path = format!("{link}/secret");
            let error = rpc.call_fails("file.read", json!({"guid": guid, "path": path}));
            assert!(["notFound", "escape", "kernel"].contains(&error.kind()), "{link}: {error:?}");
            let new = format!("{link}/new");
            let write = json!({"guid": guid, "path": new, "data": {"text": "x"}});
            let _ = rpc.try_call("file.write", write);
            let _ = rpc.try_call("file.mkdir", json!({"guid": guid, "path": format!("{link}/dir")}));
            let _ = rpc.try_call("file.remove", json!({"guid": guid, "path": path}));
            let _ = rpc.try_call("file.chmod", json!({"guid": guid, "path": path, "mode": 0}));
            let _ = rpc.try_call("file.rename", json!({"guid": guid, "from": path, "to": "/stolen"}));
        }
        let names: Vec<_> =
            fs::read_dir("/tmp/outside").unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(fs::read_to_string("/tmp/outside/secret").unwrap(), "secret");
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
        fs::remove_dir_all("/tmp/outside").unwrap();
    });
}

#[test]
fn s11_file_calls_do_what_they_say_inside() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        let guid = rpc.create_fs("busybox");
        let mut call = |method: &str, params: serde_json::Value| {
            let mut params = params;
            params["guid"] = json!(guid);
            rpc.call(method, params)
        };
        call("file.mkdir", json!({"path": "/a/b", "recursive": true}));
        call("file.write", json!({"path": "/a/b/file", "data": {"text": "one"}, "mode": 0o600}));
        call("file.write", json!({"path": "/a/b/file", "data": {"base64": "/wD+"}, "append": true}));
        let read = call("file.read", json!({"path": "/a/b/file"}));
        assert_eq!(read, json!({"data": {"base64": "b25l/wD+"}, "eof": true}));
        let part = call("file.read", json!({"path": "/a/b/file", "offset": 1, "length": 2}));
        assert_eq!(part, json!({"data": {"text": "ne"}, "eof": false}));
        call("file.symlink", json!({"path": "/a/link", "target": "b/file"}));
        assert_eq!(call("file.readlink", json!({"path": "/a/link"}))["target"], "b/file");
        assert_eq!(call("file.stat", json!({"path": "/a/link"}))["size"], 6);
        assert_eq!(call("file.stat", json!({"path": "/a/link", "noFollow": true}))["kind"], "symlink");
        call("file.chmod", json!({"path": "/a/b/file", "mode": 0o640}));
        call("file.chown", json!({"path": "/a/b/file", "uid": 12, "gid": 34}));
        let stat = call("file.stat", json!({"path": "/a/b/file"}));
        assert_eq!((&stat["mode"], &stat["uid"], &stat["gid"]), (&json!(0o640), &json!(12), &json!(34)));
        call("file.rename", json!({"from": "/a/b/file", "to": "/a/moved"}));
        let names = call("file.readdir", json!({"path": "/a"}));
        let names: Vec<_> = names["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            {
                let mut names = names;
                names.sort();
                names
            },
            ["b", "link", "moved"]
        );
        call("file.remove", json!({"path": "/a", "recursive": true}));
        let error = rpc.call_fails("file.stat", json!({"guid": guid, "path": "/a"}));
        assert_eq!(error.kind(), "notFound");
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    });
}
