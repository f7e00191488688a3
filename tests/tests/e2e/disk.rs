//! A rootfs with a size: what is written inside takes no more of the machine's disk. (row S23)

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use tests::{Cli, Host, isolated};

/// Writes until it is refused, and says how much that was.
const FILL: [&str; 3] = ["sh", "-c", "cat /dev/zero > /full; stat -c %s /full"];
const MIB: u64 = 1 << 20;

fn disk(data: &Path, guid: &str) -> PathBuf {
    data.join("rootfs").join(guid).join("disk.ext4")
}

/// Loop devices whose file lies in this data directory.
fn devices(data: &Path) -> Vec<String> {
    let named = |entry: std::fs::DirEntry| {
        let file = std::fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        file.starts_with(data.to_str()?).then_some(file)
    };
    std::fs::read_dir("/sys/block").unwrap().filter_map(|entry| named(entry.unwrap())).collect()
}

fn create(cli: &Cli, flags: &[&str]) -> tests::cli::Rootfs {
    let made = cli.run([&["--json", "subcontainer", "create-fs", "busybox"], flags].concat()).ok().json();
    tests::cli::Rootfs {
        path: made["rootfs"].as_str().unwrap().to_owned(),
        guid: made["guid"].as_str().unwrap().to_owned(),
    }
}

#[test]
fn s23_a_rootfs_takes_no_more_of_the_disk_than_its_size() {
    isolated(|| {
        let cli = Cli::with_busybox();
        for flags in [&["--rootfs-size", "32m"][..], &["--rootfs-size", "32m", "--throwaway", "--userns"]] {
            let rootfs = create(&cli, flags);
            let running = cli.launch_idle(&rootfs);
            let full = cli.exec(&rootfs, &[], &FILL);
            assert!(full.err().contains("No space left on device"), "{}", full.err());
            let written: u64 = full.out().parse().unwrap();
            assert!((20 * MIB..32 * MIB).contains(&written), "{written}");
            let image = || std::fs::metadata(disk(cli.data(), &rootfs.guid)).unwrap();
            assert!(image().len() == 32 * MIB && image().blocks() * 512 <= 32 * MIB, "{:?}", image());
            // Files of other containers, and the machine's, are written as before.
            std::fs::write(cli.data().join("beside"), [7; 4096]).unwrap();
            let stats = cli.run(["--json", "subcontainer", "stats", &rootfs.path]).ok().json();
            let used = stats["rootfs"]["usedBytes"].as_u64().unwrap();
            assert!(used >= written && stats["rootfs"]["sizeBytes"] == 32 * MIB, "{stats}");
            let said = cli.run(["subcontainer", "inspect", &rootfs.path]).ok().out();
            assert!(said.contains("size     33.6 MB at most"), "{said}");
            // What is deleted gives its place back: inside, and to the machine.
            cli.exec(&rootfs, &[], &["sh", "-c", "rm /full; sync; echo room > /file; cat /file"]).ok();
            tests::eventually("the file is smaller", || image().blocks() * 512 < 12 * MIB);
            drop(running);
            cli.destroy_fs(&rootfs);
            tests::eventually("the device is gone", || devices(cli.data()).is_empty());
        }
    });
}

#[test]
fn s23_as_many_files_as_there_is_room_for() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = create(&cli, &["--rootfs-size", "16m", "--throwaway"]);
        let running = cli.launch_idle(&rootfs);
        let many = "i=0; while [ $i -lt 4000 ]; do true > /f$i || break; i=$((i+1)); done; echo $i";
        let made = cli.exec(&rootfs, &[], &["sh", "-c", many]);
        assert!(
            made.err().contains("No space left") && made.out().parse::<u32>().unwrap() > 1000,
            "{made:?}"
        );
        drop(running);
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s23_what_was_written_is_there_after_it_was_mounted_again() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = create(&cli, &["--rootfs-size", "64m"]);
        cli.run(["subcontainer", "launch", &rootfs.path, "sh", "-c", "echo kept > /kept"]).ok();
        // As after the machine was restarted: nothing is mounted.
        rustix::mount::unmount(&rootfs.path, rustix::mount::UnmountFlags::empty()).unwrap();
        assert!(
            devices(cli.data()).is_empty(),
            "the mount goes with the overlay, and the device with the mount"
        );
        let stats = cli.run(["--json", "subcontainer", "stats", &rootfs.path]).ok().json();
        assert!(stats.get("rootfs").is_none(), "what cannot be known is absent: {stats}");
        let again = cli.run(["subcontainer", "launch", &rootfs.path, "cat", "/kept"]).ok();
        assert_eq!(again.out(), "kept");
        // Killed before there was a disk, and while it was made.
        rustix::mount::unmount(&rootfs.path, rustix::mount::UnmountFlags::empty()).unwrap();
        let file = disk(cli.data(), &rootfs.guid);
        std::fs::rename(&file, file.with_file_name("disk.new")).unwrap();
        let again = cli.run(["subcontainer", "launch", &rootfs.path, "ls", "/"]).ok();
        assert!(again.out().contains("bin") && !again.out().contains("kept"), "{}", again.out());
        cli.destroy_fs(&rootfs);
        assert!(devices(cli.data()).is_empty());
    });
}

#[test]
fn s23_a_disk_is_never_mounted_twice() {
    isolated(|| {
        let cli = Cli::with_busybox();
        let rootfs = create(&cli, &["--rootfs-size", "16m"]);
        // Somebody holds it, and it is not mounted where we look.
        let held = std::fs::File::open(Path::new(&rootfs.path).join("bin")).unwrap();
        rustix::mount::unmount(&rootfs.path, rustix::mount::UnmountFlags::DETACH).unwrap();
        let said = cli.run(["subcontainer", "launch", &rootfs.path, "true"]).failed(125);
        assert!(said.contains("it is mounted in another namespace, or not yet gone"), "{said}");
        drop(held);
        tests::eventually("it can be launched", || {
            cli.run(["subcontainer", "launch", &rootfs.path, "true"]).code == 0
        });
        cli.destroy_fs(&rootfs);
    });
}

#[test]
fn s23_a_size_that_cannot_be_is_refused_before_anything_is_made() {
    isolated(|| {
        let host = Host::with_busybox();
        let mut rpc = host.connect();
        for size in [0, 16 * MIB - 1, 1 << 45] {
            let error =
                rpc.call_fails("subcontainer.createFs", json!({"imageId": "busybox", "rootfsSize": size}));
            assert_eq!(error.kind(), "invalid");
        }
        let cli = Cli::at(&tests::cli::binary(), host.data());
        let said = cli.run(["subcontainer", "create-fs", "busybox", "--rootfs-size", "1m"]).failed(125);
        assert!(said.contains("1048576 bytes is not from 16777216"), "{said}");
        let left = std::fs::read_dir(host.data().join("rootfs"))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name() != "lock");
        assert_eq!(left.count(), 0);
    });
}

#[test]
fn s23_a_client_that_goes_takes_its_disk_along() {
    isolated(|| {
        let mut host = Host::with_busybox();
        let mut rpc = host.connect();
        let params = json!({"imageId": "busybox", "throwaway": true, "rootfsSize": 32 * MIB});
        let guid = rpc.call("subcontainer.createFs", params.clone())["guid"].as_str().unwrap().to_owned();
        assert!(rpc.exec(&guid, &FILL)["stderr"].is_object());
        let info = rpc.call("subcontainer.inspect", json!({"guid": guid}));
        assert_eq!(info["rootfsSize"], 32 * MIB);
        assert_eq!(devices(host.data()).len(), 1);
        drop(rpc);
        tests::eventually("it is gone", || {
            devices(host.data()).is_empty() && !disk(host.data(), &guid).exists()
        });
        // And the host that was killed, what its clients had.
        let mut rpc = host.connect();
        let guid = rpc.call("subcontainer.createFs", params)["guid"].as_str().unwrap().to_owned();
        host.kill();
        host.start_again();
        tests::eventually("it is gone", || {
            devices(host.data()).is_empty() && !disk(host.data(), &guid).exists()
        });
    });
}

#[test]
fn s23_where_the_machines_disk_is_full_the_container_is_told_and_destroyed_as_ever() {
    isolated(|| {
        let place = tempfile::tempdir().unwrap();
        let tmpfs = ["-t", "tmpfs", "-o", "size=24m", "tmpfs", place.path().to_str().unwrap()];
        assert!(std::process::Command::new("mount").args(tmpfs).status().unwrap().success());
        let data = place.path().join("data");
        let cli = Cli::at(&tests::cli::binary(), &data);
        cli.import(&tests::image::busybox(), "busybox");
        for flags in [&["--rootfs-size", "64m"][..], &["--rootfs-size", "64m", "--throwaway"]] {
            let rootfs = create(&cli, flags);
            let script = "cat /dev/zero > /full; sync; echo more > /more && sync /more";
            let ended = cli.run(["subcontainer", "launch", &rootfs.path, "sh", "-c", script]);
            assert_ne!(ended.code, 0, "it was told nothing: {ended:?}");
            cli.destroy_fs(&rootfs);
            tests::eventually("the device is gone", || devices(&data).is_empty());
            std::fs::write(data.join("room"), vec![7; 8 << 20]).unwrap();
            std::fs::remove_file(data.join("room")).unwrap();
        }
        drop(cli);
        rustix::mount::unmount(place.path(), rustix::mount::UnmountFlags::empty()).unwrap();
    });
}

#[test]
fn s23_whoever_is_killed_while_a_disk_is_made_leaves_nothing_that_cannot_be_removed() {
    isolated(|| {
        let cli = Cli::with_busybox();
        for round in 0..30_u64 {
            let mut create = cli.command(["subcontainer", "create-fs", "busybox", "--rootfs-size", "64m"]);
            let mut child = create.stdout(std::process::Stdio::null()).spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_micros(round * 500));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let all =
            || std::fs::read_dir(cli.data().join("rootfs")).unwrap().map(|entry| entry.unwrap().file_name());
        let mut whole = 0;
        for guid in all().filter(|name| name != "lock") {
            let guid = guid.to_str().unwrap();
            // Half made, it is finished at its first use, or removed.
            if whole < 3 && cli.run(["subcontainer", "launch", guid, "true"]).code == 0 {
                whole += 1;
            }
            cli.run(["subcontainer", "destroy-fs", guid]).ok();
        }
        assert_eq!(all().filter(|name| name != "lock").count(), 0);
        tests::eventually("no device is left", || devices(cli.data()).is_empty());
    });
}
