//! Sources: where they are, what is made, what leads out.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;

use common::*;
use protocol::error::ErrorKind;
use protocol::subcontainer::{FileType, MountSource};

#[test]
fn s14_every_kind_shows_its_own_directory() {
    for on in EVERYWHERE {
        let world = World::new(on);
        fs::create_dir_all(world.stored("volumes/main")).unwrap();
        for (source, directory) in [
            (volume("main"), "volumes/main"),
            (assets(), "assets"),
            (pointer("dep", "main"), "packages/dep/volumes/main"),
            (backup(), "backup"),
        ] {
            fs::write(world.stored(directory).join("which"), directory).unwrap();
            world.mount(&at(source, "/mnt")).unwrap();
            assert_eq!(fs::read_to_string(world.inside("mnt/which")).unwrap(), directory);
            world.unmount("/mnt").unwrap();
            assert!(!world.inside("mnt/which").exists());
        }
        world.mount(&at(tmpfs(), "/mnt")).unwrap();
        assert_eq!(fs::read_dir(world.inside("mnt")).unwrap().count(), 0);
    }
}

#[test]
fn s14_a_volume_is_made_on_first_use_and_kept() {
    let world = World::new(On::Disk);
    world.mount(&at(volume("new"), "/data")).unwrap();
    fs::write(world.inside("data/kept"), "kept").unwrap();
    world.unmount("/data").unwrap();
    assert_eq!(fs::read_to_string(world.stored("volumes/new/kept")).unwrap(), "kept");
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(world.stored("volumes/new")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn s14_what_is_not_ours_to_make_is_missing() {
    let world = World::new(On::Tmpfs);
    fs::remove_dir(world.stored("assets")).unwrap();
    fs::remove_dir(world.stored("backup")).unwrap();
    for (mount, message) in [
        (readonly(at(volume("none"), "/a")), "open volume none"),
        (at(assets(), "/a"), "open assets"),
        (at(pointer("dep", "none"), "/a"), "open volume none of package dep"),
        (at(pointer("none", "main"), "/a"), "open volume main of package none"),
        (at(backup(), "/a"), "open backup"),
        (at(volume_at("main", "none", FileType::Infer), "/a"), "open none of volume main"),
        (readonly(at(volume_at("main", "none", FileType::File), "/a")), "open none of volume main"),
    ] {
        let error = world.mount(&mount).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.kind(), ErrorKind::NotFound, "{message}");
        assert_eq!(error.errno(), Some(rustix::io::Errno::NOENT));
        assert!(!world.inside("a").exists(), "the mountpoint is not made for nothing");
    }
    assert!(!world.stored("volumes/none").exists());
    assert!(!world.stored("packages/none").exists());
}

#[test]
fn s14_subpaths_and_file_types() {
    let world = World::new(On::Disk);
    world.mount(&at(volume_at("main", "conf/app.toml", FileType::File), "/etc/app.toml")).unwrap();
    fs::write(world.inside("etc/app.toml"), "a = 1").unwrap();
    assert_eq!(fs::read_to_string(world.stored("volumes/main/conf/app.toml")).unwrap(), "a = 1");

    world.mount(&at(volume_at("main", "/deep/er", FileType::Directory), "/deep")).unwrap();
    fs::write(world.inside("deep/file"), "").unwrap();
    assert!(world.stored("volumes/main/deep/er/file").exists());

    world.mount(&at(volume_at("main", "conf/app.toml", FileType::Infer), "/inferred")).unwrap();
    assert_eq!(fs::read_to_string(world.inside("inferred")).unwrap(), "a = 1");
    world.mount(&at(volume_at("main", "conf", FileType::Infer), "/inferred-too")).unwrap();
    assert!(world.inside("inferred-too/app.toml").exists());

    for (subpath, filetype, message) in [
        ("conf", FileType::File, "conf of volume main is not a file"),
        ("conf/app.toml", FileType::Directory, "conf/app.toml of volume main is not a directory"),
    ] {
        let error = world.mount(&at(volume_at("main", subpath, filetype), "/x")).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.kind()), (message, ErrorKind::Invalid));
    }
    let root = MountSource::Volume { volume_id: "main".to_owned(), subpath: None, filetype: FileType::File };
    assert_eq!(world.mount(&at(root, "/x")).unwrap_err().to_string(), "volume main is not a file");
}

#[test]
fn s14_sources_that_escape_are_refused() {
    let world = World::new(On::Disk);
    fs::write(world.stored("secret"), "").unwrap();
    let volume_path = world.stored("volumes/main");
    fs::create_dir_all(&volume_path).unwrap();
    symlink("/etc", volume_path.join("absolute")).unwrap();
    symlink("../../secret", volume_path.join("up")).unwrap();
    symlink("/proc/self/root", volume_path.join("magic")).unwrap();
    symlink("inner", volume_path.join("stays")).unwrap();
    fs::create_dir(volume_path.join("inner")).unwrap();
    symlink("../volumes/main", world.stored("assets/up")).unwrap();

    for filetype in [FileType::File, FileType::Directory, FileType::Infer] {
        for subpath in ["absolute", "absolute/passwd", "up", "magic/etc", "up/x"] {
            for mount in [
                at(volume_at("main", subpath, filetype), "/a"),
                readonly(at(volume_at("main", subpath, filetype), "/a")),
            ] {
                let error = world.mount(&mount).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Escape, "{subpath} {filetype:?}: {error:?}");
            }
        }
        for subpath in ["..", "../..", "inner/../..", "/../secret", "a\0b"] {
            let error = world.mount(&at(volume_at("main", subpath, filetype), "/a")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Escape, "{subpath}");
            assert!(error.to_string().ends_with("of volume main is not a path beneath it"), "{error}");
        }
    }
    world.mount(&at(volume_at("main", "stays", FileType::Directory), "/a")).unwrap();

    for id in ["..", "../volumes/main", "a/b", "", ".hidden"] {
        for source in [volume(id), pointer(id, "main"), pointer("dep", id)] {
            let error = world.mount(&at(source, "/b")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Escape, "{id:?}");
            assert!(error.to_string().ends_with("is not a plain name"), "{error}");
        }
    }
    // Not even the directory of a volume may be a link.
    symlink("main", world.stored("volumes/linked")).unwrap();
    assert_eq!(world.mount(&at(volume("linked"), "/b")).unwrap_err().kind(), ErrorKind::Escape);
}

#[test]
fn s14_tmpfs_has_its_size_and_mode() {
    let world = World::new(On::Tmpfs);
    let source = MountSource::Tmpfs { size: Some(1 << 20), mode: Some(0o1777) };
    world.mount(&at(source, "/tmp")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(world.inside("tmp")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o1777);
    fs::write(world.inside("tmp/small"), vec![0; 1 << 19]).unwrap();
    let error = fs::write(world.inside("tmp/large"), vec![0; 1 << 20]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(28), "ENOSPC");

    for (size, mode, message) in [
        (None, Some(0o10_000), "mode 10000 of a tmpfs is no permission bits"),
        // To the kernel, this means no limit at all.
        (Some(0), None, "a tmpfs of no bytes"),
    ] {
        let error = world.mount(&at(MountSource::Tmpfs { size, mode }, "/x")).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.kind()), (message, ErrorKind::Invalid));
    }
}

#[test]
fn s14_what_is_prepared_and_dropped_was_never_there() {
    let world = World::new(On::Disk);
    let before = linux::mounts::list(None, linux::kernel::Features::get()).unwrap();
    for source in every_kind() {
        drop(world.sources.prepare(&at(source, "/mnt"), None).unwrap());
    }
    assert_eq!(linux::mounts::list(None, linux::kernel::Features::get()).unwrap(), before);
    assert_eq!(fs::read_dir(&world.rootfs_path).unwrap().count(), 0);
}

#[test]
fn a_data_directory_that_is_none_is_named() {
    let error = volumes::Sources::open(std::path::Path::new("/no/such/place")).unwrap_err();
    assert_eq!(error.to_string(), "open data directory \"/no/such/place\"");
}
