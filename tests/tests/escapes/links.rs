//! Links in an image, and links and names that change while somebody works with them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Rpc, attacks, eventually, isolated};

use super::rig::{Arena, Attempt, DOORS, Door, GUARDED, KINDS, Said, bare, mountpoints, naive, outside};

/// A directory outside with a secret in it, which must stay as it is.
fn make_outside() -> Vec<String> {
    fs::create_dir_all("/tmp/outside").unwrap();
    fs::write("/tmp/outside/file", "a secret outside").unwrap();
    fs::create_dir_all("/tmp/outside/tree/deep").unwrap();
    describe_outside()
}

fn describe_outside() -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![Path::new("/tmp/outside").to_path_buf()];
    while let Some(path) = todo.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        let content = if found.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
        lines.push(format!("{} {:o} {} {content}", path.display(), found.mode(), found.uid()));
        if found.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort();
    lines
}

/// A command inside that does not end; it ends with the container.
fn in_background(arena: &Arena, rpc: &mut Rpc, door: Door, guid: &str, words: &[&str]) -> Option<Child> {
    let path = arena.path(guid);
    let cli = arena.host.cli();
    match door {
        Door::Launch => panic!("the leader comes first"),
        Door::Exec => {
            let mut command =
                cli.command([&["subcontainer", "exec", path.to_str().unwrap()], words].concat());
            Some(command.spawn().unwrap())
        }
        Door::Host => {
            rpc.call("subcontainer.spawn", json!({"guid": guid, "command": words}));
            None
        }
    }
}

#[test]
fn s11_cve_2021_30465_no_mount_lands_outside_while_its_target_is_exchanged_with_a_link() {
    isolated(|| {
        let arena = Arena::new();
        let before = make_outside();
        for kind in KINDS {
            for door in DOORS {
                let mut rpc = arena.host.connect();
                let guid = arena.rootfs(&mut rpc, kind);
                let path = arena.path(&guid);
                fs::create_dir_all(path.join("tmp/outside")).unwrap();
                let volume = json!({"source": {"type": "volume", "volumeId": "main"}, "mountpoint": "/data"});
                rpc.call("subcontainer.mount", json!({"guid": guid, "mount": volume}));
                for (name, target) in
                    [("a", "/tmp/outside"), ("b", "../../../../../../../../../../tmp/outside")]
                {
                    let (directory, link) = (format!("dir-{name}"), format!("link-{name}"));
                    let on_volume = |name: String| arena.host.data().join("volumes/main").join(name);
                    let (directory, link) = (on_volume(directory), on_volume(link));
                    // Of the round before, and each may have the other's name.
                    outside(&["rm", "-rf", directory.to_str().unwrap(), link.to_str().unwrap()]);
                    fs::create_dir(directory).unwrap();
                    symlink(target, link).unwrap();
                }
                let a = ["/attacks", "exchange", "/data/dir-a", "/data/link-a", "/ready-a"];
                let b = ["/attacks", "exchange", "/data/dir-b", "/data/link-b", "/ready-b"];
                let mut params = GUARDED.launch(&guid, kind);
                let mut children = Vec::new();
                if door == Door::Launch {
                    params["command"] = json!(a);
                    rpc.call("subcontainer.launch", params);
                } else {
                    rpc.call("subcontainer.launch", params);
                    children.extend(in_background(&arena, &mut rpc, door, &guid, &a));
                }
                children.extend(in_background(&arena, &mut rpc, Door::Host, &guid, &b));
                eventually("they exchange", || {
                    path.join("ready-a").exists() && path.join("ready-b").exists()
                });
                let mut mounted = 0;
                for number in 0..24 {
                    for name in ["a", "b"] {
                        let source = json!({"type": "volume", "volumeId": "other"});
                        let mount =
                            json!({"source": source, "mountpoint": format!("/data/dir-{name}/{number}")});
                        mounted += u32::from(
                            rpc.try_call("subcontainer.mount", json!({"guid": guid, "mount": mount})).is_ok(),
                        );
                    }
                }
                let below = path.to_str().unwrap().to_owned();
                let host = fs::read_to_string(format!("/proc/{}/mountinfo", arena.host.pid())).unwrap();
                let of_host = host.lines().filter_map(|line| line.split(' ').nth(4).map(str::to_owned));
                for place in mountpoints().into_iter().chain(of_host) {
                    let strange = place.starts_with("/tmp/outside")
                        || (place.contains("/dir-") && !place.starts_with(&below));
                    assert!(!strange, "AN ESCAPE, {door:?}: a mount on {place}");
                }
                assert!(mounted > 0, "{door:?}: nothing was ever mounted");
                assert_eq!(describe_outside(), before, "{door:?}");
                rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
                for mut child in children {
                    child.wait().unwrap();
                }
            }
        }
        // By a path: it is looked up when the link is there.
        let prepare = |root: &Path| {
            fs::create_dir_all(root.join("data/dir/tree")).unwrap();
            symlink("/tmp/outside", root.join("data/link")).unwrap();
        };
        let script = "$R/attacks exchange $R/data/dir $R/data/link $R/ready & until test -e $R/ready; do :; done; \
            for i in $(seq 300); do mount --bind $R/tmp $R/data/dir/tree 2>/dev/null || :; \
            if grep -q ' /tmp/outside/tree ' /proc/self/mountinfo; then echo worked: mounted outside; exit; fi; done; \
            echo refused: not once";
        naive(prepare, script).all_worked();
        fs::remove_dir_all("/tmp/outside").unwrap();
    });
}

/// Every call that takes a path, on paths whose parents change.
fn file_calls(rpc: &mut Rpc, guid: &str, directory: &str) -> (u32, Vec<Value>) {
    let at = |name: &str| format!("{directory}/{name}");
    let text = json!({"text": "written by the host"});
    let calls = [
        ("file.write", json!({"path": at("file"), "data": text})),
        ("file.read", json!({"path": at("file")})),
        ("file.chmod", json!({"path": at("file"), "mode": 0o777})),
        ("file.chown", json!({"path": at("file"), "uid": 7, "gid": 7})),
        ("file.mkdir", json!({"path": at("new/deep"), "recursive": true})),
        ("file.symlink", json!({"path": at("new/link"), "target": "x"})),
        ("file.rename", json!({"from": at("new/link"), "to": at("new/other")})),
        ("file.readdir", json!({"path": directory})),
        ("file.readlink", json!({"path": at("new/other")})),
        ("file.remove", json!({"path": at("new"), "recursive": true})),
        ("file.remove", json!({"path": at("tree"), "recursive": true, "force": true})),
        ("file.mkdir", json!({"path": at("tree/deep"), "recursive": true})),
    ];
    let (mut done, mut results) = (0, Vec::new());
    for (method, mut params) in calls {
        params["guid"] = json!(guid);
        if let Ok(result) = rpc.try_call(method, params) {
            done += 1;
            results.push(result);
        }
    }
    (done, results)
}

#[test]
fn s11_cve_2018_15664_no_file_call_leaves_the_rootfs_while_names_change() {
    isolated(|| {
        let arena = Arena::new();
        let before = make_outside();
        let mut rpc = arena.host.connect();
        for kind in KINDS {
            let guid = arena.rootfs(&mut rpc, kind);
            let path = arena.path(&guid);
            for (name, target) in [("a", "/tmp/outside"), ("b", "../../../../../../../../../../tmp/outside")]
            {
                fs::create_dir_all(path.join(format!("{name}/dir"))).unwrap();
                symlink(target, path.join(format!("{name}/link"))).unwrap();
            }
            fs::create_dir_all(path.join("c/in/deep")).unwrap();
            for name in ["a", "b", "c"] {
                arena.give(&guid, name);
            }
            rpc.call("subcontainer.launch", GUARDED.launch(&guid, kind));
            let attacks: [&[&str]; 3] = [
                &["/attacks", "exchange", "/a/dir", "/a/link", "/ready-a"],
                &["/attacks", "exchange", "/b/dir", "/b/link", "/ready-b"],
                // Somebody who resolves `..` in it is elsewhere by then.
                &["/attacks", "wander", "/c/in/deep", "/out", "/ready-c"],
            ];
            let mut children = Vec::new();
            for (words, door) in attacks.into_iter().zip([Door::Exec, Door::Host, Door::Host]) {
                children.extend(in_background(&arena, &mut rpc, door, &guid, words));
            }
            eventually("names change", || {
                ["a", "b", "c"].iter().all(|name| path.join(format!("ready-{name}")).exists())
            });
            let (start, mut done, mut rounds) = (Instant::now(), 0, 0);
            while start.elapsed() < Duration::from_secs(2) {
                for directory in ["/a/dir", "/b/dir", "/c/in/deep/../../../../../../tmp/outside"] {
                    let (count, results) = file_calls(&mut rpc, &guid, directory);
                    let told = results.iter().any(|result| result.to_string().contains("secret"));
                    assert!(!told, "AN ESCAPE: {directory}: {results:?}");
                    done += count;
                    rounds += 1;
                }
            }
            assert!(done > rounds, "the calls do nothing: {done} of {rounds} rounds");
            assert_eq!(describe_outside(), before, "AN ESCAPE");
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
            for mut child in children {
                child.wait().unwrap();
            }
        }
        // The same by paths, as `docker cp` did.
        let tree = super::rig::naive_tree();
        let at = |name: &str| tree.path().join(name);
        fs::create_dir(at("dir")).unwrap();
        symlink("/tmp/outside", at("link")).unwrap();
        let mut swapper = Command::new(attacks::program());
        let mut swapper = swapper.arg("exchange").args([at("dir"), at("link"), at("ready")]).spawn().unwrap();
        eventually("names change", || at("ready").exists());
        let written = (0..10_000).any(|_| {
            fs::write(at("dir/file"), "written by the host").ok();
            fs::read_to_string("/tmp/outside/file").unwrap() != "a secret outside"
        });
        swapper.kill().unwrap();
        swapper.wait().unwrap();
        assert!(written, "the control fails: nothing was written outside");
        fs::remove_dir_all("/tmp/outside").unwrap();
    });
}

#[test]
fn s11_a_link_for_etc_or_a_file_in_it_reads_and_writes_nothing_outside() {
    isolated(|| {
        let arena = Arena::new();
        make_outside();
        let line = "spy:x:0:0:found-outside:/:/bin/sh\n";
        for name in ["passwd", "group", "hosts", "hostname", "resolv.conf", "environment"] {
            fs::write(format!("/tmp/outside/{name}"), line).unwrap();
        }
        let before = describe_outside();
        let of_directory = |root: &Path| super::rig::plant_link(&root.join("etc"), "/tmp/outside");
        let of_files = |root: &Path| {
            for name in ["passwd", "group", "hosts", "hostname", "resolv.conf", "mtab", "localtime"] {
                super::rig::plant_link(&root.join("etc").join(name), Path::new("/tmp/outside").join(name));
            }
        };
        let prepares: [&dyn Fn(&Path); 2] = [&of_directory, &of_files];
        for (prepare, kind) in
            prepares.into_iter().flat_map(|prepare| KINDS.iter().map(move |kind| (prepare, kind)))
        {
            let mut rpc = arena.host.connect();
            let guid = arena.rootfs(&mut rpc, kind);
            let path = arena.path(&guid);
            prepare(&path);
            let root = path.to_str().unwrap();
            let cli = arena.host.cli();
            let words = [&["subcontainer", "launch", "-u", "spy"], kind.flags, &[root, "id"]].concat();
            let said = cli.run(words).failed(125);
            assert!(!said.contains("found-outside"), "{said}");
            rpc.call("subcontainer.launch", GUARDED.launch(&guid, kind));
            cli.run(["subcontainer", "exec", "-u", "spy", root, "id"]).failed(125);
            let params = json!({"guid": guid, "command": ["id"], "options": {"user": "spy"}});
            rpc.call_fails("subcontainer.exec", params);
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
            assert_eq!(describe_outside(), before);
            let script = "grep -q found-outside $R/etc/passwd && echo worked: read || echo refused: not";
            naive(prepare, script).all_worked();
        }
        fs::remove_dir_all("/tmp/outside").unwrap();
    });
}

#[test]
fn s14_no_hard_link_leads_from_one_mount_into_another() {
    isolated(|| {
        let arena = Arena::new();
        let data = arena.host.data();
        for name in ["assets", "volumes/main"] {
            fs::create_dir_all(data.join(name)).unwrap();
        }
        fs::write(data.join("assets/file"), "read-only").unwrap();
        let assets = json!({"source": {"type": "assets"}, "mountpoint": "/assets"});
        let volume = json!({"source": {"type": "volume", "volumeId": "main"}, "mountpoint": "/data"});
        let attempt =
            Attempt::new(&["hard-link", "/assets/file", "/data/file"]).mounted(assets).mounted(volume);
        attempt.is_refused(&arena);
        let (from, to) = (data.join("assets/file"), data.join("volumes/main/file"));
        bare(&["hard-link", from.to_str().unwrap(), to.to_str().unwrap()]).all_worked();
    });
}

#[test]
fn s17_a_tree_that_is_removed_while_its_directories_become_links_takes_nothing_outside_along() {
    isolated(|| {
        let arena = Arena::new();
        let before = make_outside();
        for kind in KINDS.iter().cycle().take(6) {
            let mut rpc = arena.host.connect();
            let guid = arena.rootfs(&mut rpc, kind);
            let path = arena.path(&guid);
            fs::create_dir_all(path.join("a/dir/tree/deep")).unwrap();
            symlink("/tmp/outside", path.join("a/link")).unwrap();
            arena.give(&guid, "a");
            rpc.call("subcontainer.launch", json!({"guid": guid}));
            in_background(
                &arena,
                &mut rpc,
                Door::Host,
                &guid,
                &["/attacks", "exchange", "/a/dir", "/a/link", "/ready"],
            );
            eventually("names change", || path.join("ready").exists());
            rpc.try_call("file.remove", json!({"guid": guid, "path": "/a", "recursive": true})).ok();
            rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
            assert_eq!(describe_outside(), before);
        }
        // By paths: what a link leads to is emptied.
        let prepare = |root: &Path| symlink("/tmp/outside", root.join("data/link")).unwrap();
        let script = "for f in $R/data/link/*; do rm -r $f; done; \
            test -e /tmp/outside/file && echo refused: not || echo worked: removed";
        naive(prepare, script).all_worked();
        fs::remove_dir_all("/tmp/outside").unwrap();
    });
}

#[test]
fn s6_what_the_harness_calls_a_verdict_is_one() {
    let worked = Said::read("here", "worked: it\nother\n", "");
    worked.all_worked();
    assert!(std::panic::catch_unwind(|| worked.all_refused()).is_err());
    assert!(std::panic::catch_unwind(|| Said::read("here", "other\n", "")).is_err());
    let mode = fs::metadata(attacks::program()).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
}
