//! Mountpoints: made where missing, used once, and never outside the rootfs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;

use common::*;
use protocol::error::ErrorKind;
use protocol::subcontainer::FileType;

#[test]
fn s14_a_missing_mountpoint_is_made_with_its_parents() {
    let world = World::new(On::Disk);
    world.mount(&at(volume("main"), "/a/b/c")).unwrap();
    world.mount(&at(volume_at("main", "file", FileType::File), "/d/e/file")).unwrap();
    assert_eq!(
        mount_at(&world.inside("a/b/c")).root,
        mount_at(&world.inside("d/e/file")).root.strip_suffix(b"/file").unwrap()
    );
    world.unmount("/a/b/c").unwrap();
    world.unmount("/d/e/file").unwrap();
    assert!(world.inside("a/b/c").is_dir() && world.inside("d/e/file").is_file());
}

#[test]
fn s14_a_mountpoint_is_used_once() {
    let world = World::new(On::Tmpfs);
    fs::create_dir(world.inside("real")).unwrap();
    symlink("/real", world.inside("link")).unwrap();
    world.mount(&at(volume("main"), "/real")).unwrap();
    for mountpoint in ["/real", "/real/", "//real", "/./real", "/link"] {
        let error = world.mount(&at(volume("other"), mountpoint)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exists, "{mountpoint}");
        assert_eq!(error.to_string(), format!("mountpoint {mountpoint:?} is in use"));
    }
    // Inside it, and again after it is gone, is another matter.
    world.mount(&at(tmpfs(), "/real/inner")).unwrap();
    let error = world.unmount("/real").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().ends_with("rootfs/real/inner\" is mounted beneath it"), "{error}");
    world.unmount("/real/inner").unwrap();
    world.unmount("/link").unwrap();
    world.mount(&at(volume("other"), "/real")).unwrap();
}

#[test]
fn s14_bad_mountpoints_are_refused() {
    let world = World::new(On::Tmpfs);
    symlink("/", world.inside("to-root")).unwrap();
    for (mountpoint, why) in [
        ("", "is not absolute"),
        ("data", "is not absolute"),
        ("/", "is the root"),
        ("//.", "is the root"),
        ("/to-root", "is the root"),
        ("/a/../b", "has .. in it"),
        ("/..", "has .. in it"),
        ("/a\0b", "has a NUL in it"),
    ] {
        let error = world.mount(&at(tmpfs(), mountpoint)).unwrap_err();
        assert_eq!(error.to_string(), format!("mountpoint {mountpoint:?} {why}"));
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert_eq!(fs::read_dir(&world.rootfs_path).unwrap().count(), 1);
}

#[test]
fn s14_a_file_is_no_directory() {
    let world = World::new(On::Tmpfs);
    fs::write(world.inside("file"), "").unwrap();
    fs::create_dir(world.inside("directory")).unwrap();
    let error = world.mount(&at(tmpfs(), "/file")).unwrap_err();
    assert_eq!(error.to_string(), "mountpoint \"/file\" is not a directory");
    let error = world.mount(&at(tmpfs(), "/file/inner")).unwrap_err();
    assert_eq!(error.to_string(), "open mountpoint \"/file/inner\"");
    let source = volume_at("main", "f", FileType::File);
    let error = world.mount(&at(source, "/directory")).unwrap_err();
    assert_eq!(error.to_string(), "mountpoint \"/directory\" is not a file");
}

#[test]
fn s11_planted_links_lead_nowhere_outside() {
    let world = World::new(On::Disk);
    fs::create_dir(world.outside.join("victim")).unwrap();
    let victim = world.outside.join("victim");
    symlink(&victim, world.inside("absolute")).unwrap();
    symlink("../victim", world.inside("relative")).unwrap();
    symlink("../../../../../../etc", world.inside("far")).unwrap();
    symlink("loop", world.inside("loop")).unwrap();
    let before = linux::mounts::list(None, linux::kernel::Features::get()).unwrap().len();
    for (mountpoint, lands) in [
        ("/absolute", victim.strip_prefix("/").unwrap().to_owned()),
        ("/relative/deep", "victim/deep".into()),
        ("/far/x", "etc/x".into()),
    ] {
        world.mount(&at(volume("main"), mountpoint)).unwrap();
        mount_at(&world.rootfs_path.join(lands));
    }
    let error = world.mount(&at(volume("main"), "/loop/x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Escape);
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
    for mountpoint in ["/absolute", "/relative/deep", "/far/x"] {
        world.unmount(mountpoint).unwrap();
    }
    assert_eq!(linux::mounts::list(None, linux::kernel::Features::get()).unwrap().len(), before);
}

#[test]
fn s14_only_what_is_mounted_is_unmounted_and_never_the_rootfs() {
    let world = World::new(On::Tmpfs);
    fs::create_dir(world.inside("plain")).unwrap();
    symlink("/", world.inside("to-root")).unwrap();
    for mountpoint in ["/plain", "/missing", "/plain/missing", "/to-root"] {
        let error = world.unmount(mountpoint).unwrap_err();
        assert_eq!(error.to_string(), format!("nothing is mounted on {mountpoint:?}"));
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    assert_eq!(world.unmount("/").unwrap_err().kind(), ErrorKind::Invalid);
    world.mount(&at(tmpfs(), "/plain")).unwrap();
    world.unmount("/plain").unwrap();
    assert_eq!(world.unmount("/plain").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(world.inside("plain").is_dir());
}

#[test]
fn s14_unmounting_works_while_a_file_of_it_is_open() {
    let world = World::new(On::Tmpfs);
    world.mount(&at(volume("main"), "/mnt")).unwrap();
    let file = fs::File::create(world.inside("mnt/open")).unwrap();
    world.unmount("/mnt").unwrap();
    std::io::Write::write_all(&mut &file, b"still").unwrap();
    assert_eq!(fs::read_to_string(world.stored("volumes/main/open")).unwrap(), "still");
}
