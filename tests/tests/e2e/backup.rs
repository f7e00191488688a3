//! Backups of packages: made, kept through every kill, restored; targets that are not what they should be.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tests::{Cli, Host, image, isolated};

use crate::packages::{Author, wait_for};
use crate::workers;

/// A package whose service writes what it finds to its volume, and stays.
fn notes(version: &str) -> Value {
    let command = "echo started >> /data/starts; trap 'exit 0' TERM; while :; do sleep 0.1; done";
    json!({
        "manifest": 1, "id": "notes", "name": "Notes", "version": version,
        "images": { "main": { "file": "images/main.tar" } },
        "volumes": { "data": {}, "cache": {} },
        "entries": { "web": { "service": {
            "program": {
                "image": "main", "command": ["sh", "-c", command],
                "mounts": [{ "path": "/data", "from": { "volume": "data" } }]
            },
            "graceSeconds": 2
        } } },
        "backup": { "volumes": ["data"] }
    })
}

fn volume(cli: &Cli, name: &str) -> PathBuf {
    cli.data().join("packages/notes/volumes").join(name)
}

fn starts(cli: &Cli) -> usize {
    fs::read_to_string(volume(cli, "data").join("starts")).map_or(0, |text| text.lines().count())
}

fn state(cli: &Cli) -> (Value, Value) {
    let info = cli.run(["--json", "package", "status", "notes"]).ok().json();
    (info["status"].clone(), info["run"]["state"].clone())
}

/// Installed and active, with a first thing in its volume; and an empty target.
fn begin(cli: &Cli) -> (Author, PathBuf) {
    let author = Author::trusted(cli);
    cli.run(["package", "install", &author.bundle(cli, &notes("1.0.0"))]).ok();
    cli.run(["package", "activate", "notes"]).ok();
    wait_for("its service", || starts(cli) == 1);
    fs::write(volume(cli, "data").join("note"), "first").unwrap();
    let target = author.dir.path().join("target");
    fs::create_dir(&target).unwrap();
    (author, target)
}

fn note(cli: &Cli) -> String {
    fs::read_to_string(volume(cli, "data").join("note")).unwrap()
}

fn backup(cli: &Cli, target: &Path) -> Value {
    cli.run(["--json", "package", "backup", "notes", target.to_str().unwrap()]).ok().json()
}

fn restore(cli: &Cli, target: &Path) -> tests::cli::Finished {
    cli.run(["package", "restore", "notes", target.to_str().unwrap()])
}

fn files(target: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(target.join("notes"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn manifest(target: &Path) -> Value {
    serde_json::from_slice(&fs::read(target.join("notes/backup.json")).unwrap()).unwrap()
}

#[test]
fn s25_a_package_is_backed_up_its_data_destroyed_and_restored_as_they_were() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let (_author, target) = begin(cli);
        let data = volume(cli, "data");
        fs::create_dir(data.join("deep")).unwrap();
        let long = "ü".repeat(120);
        fs::write(data.join("deep").join(&long), vec![7; 300_000]).unwrap();
        std::os::unix::fs::chown(data.join("deep").join(&long), Some(999), Some(65_000)).unwrap();
        fs::set_permissions(data.join("deep"), fs::Permissions::from_mode(0o1750)).unwrap();
        fs::hard_link(data.join("note"), data.join("deep/same")).unwrap();
        symlink("/etc/passwd", data.join("link")).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, data.join("fifo"), fifo, 0o640.into(), 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(data.join("socket")).unwrap();
        let attribute =
            rustix::fs::setxattr(data.join("note"), "user.colour", b"red", rustix::fs::XattrFlags::empty());
        fs::write(volume(cli, "cache").with_file_name("cache").join("big"), "not in it").ok();

        let said = cli.run(["package", "backup", "notes", target.to_str().unwrap()]).ok();
        assert!(said.out().starts_with("notes 1.0.0 is backed up: 300.0 kB in "), "{}", said.out());
        assert_eq!(said.err(), "1 sockets and devices are not in it");
        wait_for("the service, again", || starts(cli) == 2);
        assert_eq!(state(cli), (json!("active"), json!("running")));
        assert_eq!(manifest(&target)["volumes"], json!(["data"]));

        fs::remove_dir_all(data.join("deep")).unwrap();
        fs::write(data.join("note"), "second").unwrap();
        fs::write(data.join("later"), "not there before").unwrap();
        let said = restore(cli, &target).ok().out();
        assert!(said.starts_with("notes is restored: version 1.0.0"), "{said}");
        wait_for("the service, after it was restored", || starts(cli) == 2);
        assert_eq!(note(cli), "first");
        let file = fs::metadata(data.join("deep").join(&long)).unwrap();
        assert_eq!((file.uid(), file.gid(), file.len()), (999, 65_000, 300_000));
        assert_eq!(fs::metadata(data.join("deep")).unwrap().mode() & 0o7777, 0o1750);
        let inode = |name: &str| fs::metadata(data.join(name)).unwrap().ino();
        assert_eq!(inode("note"), inode("deep/same"));
        assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::symlink_metadata(data.join("fifo")).unwrap().mode() & 0o777, 0o640);
        assert!(!data.join("socket").exists() && !data.join("later").exists());
        if attribute.is_ok() {
            let mut value = [0; 8];
            let length = rustix::fs::getxattr(data.join("note"), "user.colour", &mut value[..]).unwrap();
            assert_eq!(&value[..length], b"red");
        }
        assert_eq!(fs::read_dir(volume(cli, "cache")).unwrap().count(), 0, "it is in no backup, and empty");
        let names = fs::read_dir(cli.data().join("packages/notes")).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["rpc", "volumes"]);

        let audit = cli.run(["--json", "package", "audit", "notes", "--verify"]).ok().json();
        let told = |action: &str| {
            let entries = audit["entries"].as_array().unwrap();
            entries.iter().filter(|one| one["action"] == action && one["outcome"] == "done").count()
        };
        assert_eq!(
            (told("package.backup"), told("package.restore.begin"), told("package.restore")),
            (1, 1, 1)
        );
        // One that is disabled stays so, and starts for nobody.
        cli.run(["package", "disable", "notes"]).ok();
        fs::write(data.join("note"), "third").unwrap();
        restore(cli, &target).ok();
        assert_eq!((note(cli), state(cli).0, starts(cli)), ("first".into(), json!("disabled"), 1));
        assert_eq!(cli.run(["--json", "subcontainer", "ls"]).ok().json(), json!([]));
        cli.run(["package", "remove", "notes", "--data"]).ok();
    });
}

#[test]
fn s25_the_next_backup_takes_the_place_of_the_former_one_and_what_is_not_whole_does_not() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let (author, target) = begin(cli);
        let first = backup(cli, &target);
        fs::write(volume(cli, "data").join("note"), "second").unwrap();
        // What a killed one has left; and what is somebody's own.
        fs::write(target.join("notes/17-0a.partial"), "half").unwrap();
        fs::write(target.join("notes/17-0b.tar.zst"), "nobody names it").unwrap();
        fs::write(target.join("notes/photo.jpg"), "mine").unwrap();
        let second = backup(cli, &target);
        assert_ne!(first["digest"], second["digest"]);
        assert_eq!(files(&target).len(), 3, "{:?}", files(&target));
        assert!(files(&target).contains(&"photo.jpg".to_owned()));

        // A full disk.
        let small = author.dir.path().join("small");
        fs::create_dir(&small).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&small).status();
        assert!(mounted.unwrap().success());
        backup(cli, &small);
        let before = (files(&small), manifest(&small));
        let mut noise = vec![0_u8; 1 << 20];
        rustix::rand::getrandom(&mut noise[..], rustix::rand::GetRandomFlags::empty()).unwrap();
        fs::write(volume(cli, "data").join("noise"), &noise).unwrap();
        let said = cli.run(["package", "backup", "notes", small.to_str().unwrap()]).failed(125);
        assert!(said.contains("No space left on device"), "{said}");
        assert_eq!((files(&small), manifest(&small)), before);
        wait_for("the service, again", || state(cli).1 == "running");
        restore(cli, &small).ok();
        assert_eq!(note(cli), "second");
        assert!(!volume(cli, "data").join("noise").exists());
        assert!(Command::new("umount").arg(&small).status().unwrap().success());

        // Nobody else works on a target meanwhile, and it is never made.
        let lock = fs::File::options().write(true).open(target.join(".start-container-backup.lock")).unwrap();
        lock.lock().unwrap();
        for verb in ["backup", "restore"] {
            let said = cli.run(["package", verb, "notes", target.to_str().unwrap()]).failed(125);
            assert!(said.contains("somebody else works on"), "{said}");
        }
        drop(lock);
        let nowhere = author.dir.path().join("nowhere");
        let said = cli.run(["package", "backup", "notes", nowhere.to_str().unwrap()]).failed(125);
        assert!(said.contains("open backup target") && !nowhere.exists(), "{said}");
        let said = restore(cli, author.dir.path()).failed(125);
        assert!(said.contains("no backup of notes in"), "{said}");
        assert_eq!(state(cli), (json!("active"), json!("running")));
        cli.run(["package", "disable", "notes"]).ok();
        cli.run(["package", "remove", "notes", "--data"]).ok();
    });
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Writes an archive of these entries in the place of a backup's, with a manifest that fits.
fn forge(target: &Path, entries: &[(&str, tar::EntryType, &str)]) {
    let mut archive = tar::Builder::new(Vec::new());
    let (mut bytes, store) = (0, r#"{"keys":[],"secrets":[]}"#);
    let all =
        [("store.json", tar::EntryType::Regular, store), ("volumes/data", tar::EntryType::Directory, "")];
    for (path, kind, content) in all.iter().chain(entries) {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let is_file = matches!(kind, tar::EntryType::Regular | tar::EntryType::XHeader);
        if !is_file && !content.is_empty() {
            header.set_link_name_literal(content).unwrap();
        }
        let content = if is_file { content.as_bytes() } else { b"" };
        header.set_size(content.len() as u64);
        header.set_cksum();
        bytes += content.len();
        archive.append(&header, content).unwrap();
    }
    let file = zstd::encode_all(&archive.into_inner().unwrap()[..], 1).unwrap();
    let mut manifest = manifest(target);
    manifest["size"] = json!(file.len());
    manifest["bytes"] = json!(bytes);
    manifest["entries"] = json!(entries.len() + 2);
    manifest["digest"] = json!(digest(&file));
    fs::write(target.join("notes").join(manifest["file"].as_str().unwrap()), file).unwrap();
    fs::write(target.join("notes/backup.json"), manifest.to_string()).unwrap();
}

#[test]
fn s25_a_target_that_is_not_what_it_should_be_is_refused_before_anything_changes() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let (author, target) = begin(cli);
        backup(cli, &target);
        fs::write(volume(cli, "data").join("note"), "mine").unwrap();
        let outside = author.dir.path().join("outside");
        fs::write(&outside, "untouched").unwrap();
        let good = (
            manifest(&target),
            fs::read(target.join("notes").join(manifest(&target)["file"].as_str().unwrap())).unwrap(),
        );
        let file = target.join("notes").join(good.0["file"].as_str().unwrap());
        let began = starts(cli);
        let refused = |why: &str| {
            let said = restore(cli, &target).failed(125);
            assert!(said.contains(why), "{why}: {said}");
            assert_eq!((note(cli).as_str(), starts(cli)), ("mine", began), "{why}");
            assert!(!cli.data().join("packages/notes/restore").exists(), "{why}");
            fs::write(target.join("notes/backup.json"), good.0.to_string()).unwrap();
            fs::remove_file(&file).ok();
            fs::write(&file, &good.1).unwrap();
        };
        let with = |field: &str, value: Value| {
            let mut manifest = good.0.clone();
            manifest[field] = value;
            fs::write(target.join("notes/backup.json"), manifest.to_string()).unwrap();
        };
        with("form", json!(2));
        refused("a later release has made it (form 2; this one reads 1)");
        with("packageId", json!("other\u{1b}[31m"));
        refused(r"it is one of other\u{1b}[31m, not of notes");
        with("version", json!("1.0.1"));
        refused("update it first");
        with("file", json!("../../../outside"));
        refused("none of a backup");
        with("volumes", json!(["../.."]));
        refused("cannot be one");
        with("extra", json!(1));
        refused("unknown field");
        fs::write(target.join("notes/backup.json"), "{").unwrap();
        refused("cannot be read");
        fs::write(&file, &good.1[..good.1.len() - 1]).unwrap();
        refused("bytes, not");
        let mut flipped = good.1.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        fs::write(&file, flipped).unwrap();
        refused("the backup is refused");
        with("digest", json!(digest(b"else")));
        refused("its digest is");
        fs::remove_file(&file).unwrap();
        symlink(&outside, &file).unwrap();
        refused("cannot open");

        use tar::EntryType::{Block, Directory, Link, Regular, Symlink, XHeader};
        let endless = "x".repeat(3 << 20);
        let outside_text = outside.to_str().unwrap();
        for (entries, why) in [
            (&[("volumes/data/../../x", Regular, "x")][..], "no path of it"),
            (&[("/etc/x", Regular, "x")], "no path of it"),
            (&[("volumes/other/x", Regular, "x")], "none of its parts"),
            (&[("undo.json", Regular, "{}")], "none of its parts"),
            (&[("volumes/data/disk", Block, "")], "none of the things"),
            (
                &[("volumes/data/l", Symlink, "/tmp"), ("volumes/data/l/x", Regular, "x")],
                "no directory of it",
            ),
            (&[("volumes/data/l", Symlink, outside_text), ("volumes/data/l", Regular, "x")], "exists"),
            (&[("volumes/data/l", Link, outside_text)], "leaves its volume"),
            (&[("volumes/data/l", Link, "store.json")], "leaves its volume"),
            (
                &[
                    ("volumes/data/s", Symlink, outside_text),
                    ("volumes/data/l", Link, "volumes/data/s"),
                    ("volumes/data/l/x", Regular, ""),
                ],
                "no directory of it",
            ),
            (&[("own", Directory, ""), ("own", Directory, "")], "exists"),
            (&[("volumes/data/x", XHeader, endless.as_str())], "a header is too long"),
        ] {
            forge(&target, entries);
            refused(why);
        }
        assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
        restore(cli, &target).ok();
        assert_eq!(note(cli), "first");
        cli.run(["package", "disable", "notes"]).ok();
        cli.run(["package", "remove", "notes", "--data"]).ok();
    });
}

/// Kills the host before and after a step of what `work` asks for, and starts another one.
fn killed(host: &mut Host, step: &str, when: &str, verb: &str, target: &Path) {
    host.stop();
    let fault = format!("START_CONTAINER_FAULT={step}:{when}:1:KILL");
    host.start_beneath(&["env", &fault]);
    wait_for("the service of the host that is going to be killed", || state(host.cli()).1 == "running");
    let said = host.cli().run(["package", verb, "notes", target.to_str().unwrap()]).failed(125);
    assert!(said.contains("the host has gone"), "{step} {when}: {said}");
    host.kill();
    host.start_again();
    wait_for("the service, after the kill", || state(host.cli()).1 == "running");
}

#[test]
fn s25_a_host_that_is_killed_at_any_step_leaves_a_good_backup_and_whole_data() {
    isolated(|| {
        let mut host = Host::start();
        let (_author, target) = begin(host.cli());
        let data = volume(host.cli(), "data");
        backup(host.cli(), &target);
        for step in ["open-backup", "write-backup", "commit-backup", "close-backup"] {
            for when in ["before", "after"] {
                fs::write(data.join("note"), "first").unwrap();
                killed(&mut host, step, when, "backup", &target);
                assert!(!host.data().join("packages/notes/backup").exists());
                fs::write(data.join("note"), "lost").unwrap();
                restore(host.cli(), &target).ok();
                assert_eq!(note(host.cli()), "first", "{step} {when}");
            }
        }
        for step in ["unpack-backup", "begin-restore", "swap-data", "end-restore"] {
            for when in ["before", "after"] {
                fs::write(data.join("note"), "mine").unwrap();
                killed(&mut host, step, when, "restore", &target);
                let done = step == "end-restore";
                assert_eq!(note(host.cli()), if done { "first" } else { "mine" }, "{step} {when}");
                for left in ["restore", "restored", "backup"] {
                    assert!(!host.data().join("packages/notes").join(left).exists(), "{step} {when}: {left}");
                }
            }
        }
        let cli = host.cli();
        cli.run(["package", "audit", "--verify"]).ok();
        cli.run(["package", "disable", "notes"]).ok();
        cli.run(["package", "remove", "notes", "--data"]).ok();
    });
}

#[test]
fn s25_a_restore_that_does_not_start_is_undone_and_ctrl_c_ends_both() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let mut manifest = notes("1.0.0");
        let job = |command: &str| {
            json!({ "job": { "program": {
            "image": "main", "command": ["sh", "-c", command],
            "mounts": [{ "path": "/data", "from": { "volume": "data" } }]
        } } })
        };
        manifest["entries"]["dump"] =
            job("if [ -e /data/hang ]; then sleep 1000; fi; cp /data/note /data/dump");
        manifest["entries"]["load"] = job("[ ! -e /data/bad ] && cp /data/dump /data/loaded");
        manifest["backup"] = json!({ "volumes": ["data"], "before": "dump", "afterRestore": "load" });
        cli.run(["package", "install", &author.bundle(cli, &manifest)]).ok();
        cli.run(["package", "activate", "notes"]).ok();
        let (data, target) = (volume(cli, "data"), author.dir.path().join("target"));
        fs::create_dir(&target).unwrap();
        fs::write(data.join("note"), "first").unwrap();
        backup(cli, &target);
        fs::write(data.join("note"), "second").unwrap();
        restore(cli, &target).ok();
        assert_eq!(fs::read_to_string(data.join("loaded")).unwrap(), "first");

        fs::write(data.join("bad"), "").unwrap();
        backup(cli, &target);
        fs::write(data.join("note"), "third").unwrap();
        let said = restore(cli, &target).failed(125);
        assert!(said.contains("run job") && said.contains("load"), "{said}");
        assert_eq!((note(cli).as_str(), state(cli)), ("third", (json!("active"), json!("running"))));
        assert!(!cli.data().join("packages/notes/restore").exists());

        fs::write(data.join("hang"), "").unwrap();
        let before = self::manifest(&target);
        let mut child =
            cli.command(["package", "backup", "notes", target.to_str().unwrap()]).spawn().unwrap();
        wait_for("the hold", || {
            cli.run(["package", "grant", "notes", "--all"]).err().contains("is being backed up")
        });
        std::thread::sleep(std::time::Duration::from_millis(300));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert!(!child.wait().unwrap().success());
        assert_eq!((self::manifest(&target), state(cli).1), (before, json!("running")));
        // So does the end of who has asked.
        let mut child =
            cli.command(["package", "backup", "notes", target.to_str().unwrap()]).spawn().unwrap();
        wait_for("the hold", || {
            cli.run(["package", "grant", "notes", "--all"]).err().contains("is being backed up")
        });
        child.kill().unwrap();
        child.wait().unwrap();
        wait_for("the end of the hold", || cli.run(["package", "disable", "notes"]).code == 0);
        cli.run(["package", "remove", "notes", "--data"]).ok();
    });
}

#[test]
fn s25_the_example_is_backed_up_by_a_dump_its_database_destroyed_and_restored() {
    let Some(postgres) = image::postgres() else { tests::skip!("no image of PostgreSQL was made") };
    isolated(|| {
        let host = workers::host();
        let cli = host.cli();
        let author = Author::trusted(cli);
        workers::people(cli, &author, &postgres);
        let add = |name: &str| {
            let input = json!({ "name": name, "born": 1815 });
            workers::call(cli, "people", "action:add", &input)["result"]["count"].clone()
        };
        wait_for("the database", || workers::ready(cli, "people", "table"));
        assert_eq!(add("Ada"), 1);
        let target = author.dir.path().join("target");
        fs::create_dir(&target).unwrap();
        cli.run(["package", "backup", "people", target.to_str().unwrap()]).ok();
        wait_for("the database, after the backup", || workers::ready(cli, "people", "table"));
        assert_eq!(add("Grace"), 2);
        cli.run(["package", "disable", "people"]).ok();
        let data = cli.data().join("packages/people/volumes/main");
        fs::remove_dir_all(&data).unwrap();
        fs::create_dir(&data).unwrap();
        fs::write(data.join("ruins"), "").unwrap();
        cli.run(["package", "restore", "people", target.to_str().unwrap()]).ok();
        assert!(!data.join("ruins").exists() && data.join("db/PG_VERSION").exists());
        cli.run(["package", "activate", "people"]).ok();
        wait_for("the database, after it was restored", || workers::ready(cli, "people", "table"));
        assert_eq!(add("Edsger"), 2, "Ada alone was there");
        // A dump that was spoilt on its way: nothing is lost.
        cli.run(["package", "disable", "people"]).ok();
        cli.run(["package", "remove", "people", "--data"]).ok();
    });
}
