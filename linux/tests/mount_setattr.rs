//! `mount_setattr` and `open_tree_attr`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::os::fd::AsFd;

use linux::kernel::Features;
use linux::mount::{MountAttr, clone_tree, identify, mount_setattr};
use linux::userns::{Extent, idmap_namespace};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use common::{directory, kernel_is_at_least, mkdir, owner, private_mounts, tmpfs, write};

fn both() -> [Features; 2] {
    [Features::floor(), *Features::get()]
}

fn create(at: impl AsFd, name: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::from_raw_mode(0o644)).map(drop)
}

#[test]
fn readonly_clone_of_a_writable_mount_refuses_writes() {
    private_mounts();
    for features in both() {
        let scratch = tempfile::tempdir().unwrap();
        let source = tmpfs();
        // Before 6.15 only what is attached in the caller's namespace can be cloned.
        linux::mount::attach(&source, directory(scratch.path())).unwrap();
        let attr = MountAttr { set: MountAttrFlags::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        let clone = clone_tree(&source, false, &attr, &features).unwrap();
        assert_eq!(create(&clone, "a"), Err(Errno::ROFS), "{features:?}");
        assert_eq!(create(&source, "a"), Ok(()));
        linux::mount::detach(&source).unwrap();
    }
}

#[test]
fn attributes_are_set_and_cleared_again() {
    let mount = tmpfs();
    let readonly = MountAttrFlags::MOUNT_ATTR_RDONLY;
    mount_setattr(&mount, false, &MountAttr { set: readonly, ..MountAttr::default() }).unwrap();
    assert_eq!(create(&mount, "a"), Err(Errno::ROFS));
    mount_setattr(&mount, false, &MountAttr { clear: readonly, ..MountAttr::default() }).unwrap();
    assert_eq!(create(&mount, "a"), Ok(()));
}

#[test]
fn a_directory_that_is_no_mount_is_refused() {
    let mount = tmpfs();
    mkdir(&mount, "inner");
    let inner = rustix::fs::openat(&mount, "inner", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let attr = MountAttr { set: MountAttrFlags::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    assert_eq!(mount_setattr(inner, false, &attr), Err(Errno::INVAL));
}

#[test]
fn recursive_reaches_the_mounts_beneath() {
    private_mounts();
    for features in both() {
        let outer = tmpfs();
        mkdir(&outer, "inner");
        let scratch = tempfile::tempdir().unwrap();
        linux::mount::attach(&outer, directory(scratch.path())).unwrap();
        let inner = tmpfs();
        linux::mount::attach(&inner, directory(&scratch.path().join("inner"))).unwrap();

        let attr = MountAttr { set: MountAttrFlags::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        let deep = clone_tree(directory(scratch.path()), true, &attr, &features).unwrap();
        assert_eq!(create(&deep, "a"), Err(Errno::ROFS));
        assert_eq!(create(&deep, "inner/a"), Err(Errno::ROFS));
        let shallow = clone_tree(directory(scratch.path()), false, &attr, &features).unwrap();
        write(&inner, "only-in-the-inner-mount", "");
        assert!(
            rustix::fs::accessat(
                &deep,
                "inner/only-in-the-inner-mount",
                rustix::fs::Access::EXISTS,
                rustix::fs::AtFlags::empty()
            )
            .is_ok()
        );
        assert!(
            rustix::fs::accessat(
                &shallow,
                "inner/only-in-the-inner-mount",
                rustix::fs::Access::EXISTS,
                rustix::fs::AtFlags::empty()
            )
            .is_err()
        );
        rustix::mount::unmount(scratch.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
#[allow(clippy::print_stderr, reason = "what a test skips is counted by what it says")]
fn id_map_shows_inside_ids_as_outside_ids() {
    let map = [Extent { inside: 1000, outside: 70, count: 2 }];
    let namespace = idmap_namespace(&map, &map).unwrap();
    let attr = MountAttr { userns: Some(namespace.as_fd()), ..MountAttr::default() };
    private_mounts();
    let on_disk = tempfile::tempdir().unwrap();
    let in_memory = tempfile::tempdir().unwrap();
    let mut sources = vec![directory(on_disk.path())];
    let has_tmpfs = kernel_is_at_least(6, 3);
    if has_tmpfs {
        linux::mount::attach(tmpfs(), directory(in_memory.path())).unwrap();
        sources.push(directory(in_memory.path()));
    } else {
        eprintln!("skipped: an id-mapped tmpfs needs Linux 6.3");
    }
    for features in both() {
        for source in &sources {
            write(source, "mapped", "");
            write(source, "unmapped", "");
            rustix::fs::chownat(
                source,
                "mapped",
                Some(rustix::fs::Uid::from_raw(1000)),
                Some(rustix::fs::Gid::from_raw(1001)),
                rustix::fs::AtFlags::empty(),
            )
            .unwrap();
            let clone = clone_tree(source, false, &attr, &features).unwrap();
            assert_eq!(owner(&clone, "mapped"), (70, 71), "{features:?}");
            assert_eq!(owner(&clone, "unmapped"), (65534, 65534));
        }
    }
    if has_tmpfs {
        linux::mount::detach(directory(in_memory.path())).unwrap();
    }
}

#[test]
fn a_mount_that_is_seen_already_gets_no_id_map() {
    private_mounts();
    let map = [Extent { inside: 0, outside: 1000, count: 1 }];
    let namespace = idmap_namespace(&map, &map).unwrap();
    let attr = MountAttr { userns: Some(namespace.as_fd()), ..MountAttr::default() };
    let scratch = tempfile::tempdir().unwrap();
    // Of the disk: a tmpfs would be refused by Linux 6.1 in any case. Its twin that nobody sees gets the map.
    let clone = || {
        let from = directory(scratch.path());
        clone_tree(from, false, &MountAttr::default(), Features::get()).unwrap()
    };
    let (unseen, mount) = (clone(), clone());
    assert_eq!(mount_setattr(&unseen, false, &attr), Ok(()));
    linux::mount::attach(&mount, directory(scratch.path())).unwrap();
    assert_eq!(mount_setattr(&mount, false, &attr), Err(Errno::INVAL));
    rustix::mount::unmount(scratch.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[test]
fn identify_tells_roots_of_mounts() {
    let mount = tmpfs();
    mkdir(&mount, "inner");
    write(&mount, "file", "");
    let at = |name| rustix::fs::openat(&mount, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let root = identify(&mount).unwrap();
    assert!(root.is_root && root.is_directory);
    let inner = identify(at("inner")).unwrap();
    assert!(!inner.is_root && inner.is_directory && inner.mount == root.mount);
    assert!(!identify(at("file")).unwrap().is_directory);
}

#[test]
fn detach_takes_the_uppermost_away_and_what_is_beneath_it() {
    private_mounts();
    let scratch = tempfile::tempdir().unwrap();
    let plain = directory(scratch.path());
    let (below, above, inner) = (tmpfs(), tmpfs(), tmpfs());
    linux::mount::attach(&below, &plain).unwrap();
    linux::mount::attach(&above, directory(scratch.path())).unwrap();
    mkdir(&above, "inner");
    linux::mount::attach(&inner, directory(&scratch.path().join("inner"))).unwrap();
    let there = || identify(directory(scratch.path())).unwrap().mount;
    assert_eq!(there(), identify(&above).unwrap().mount);
    linux::mount::detach(&below).unwrap();
    assert_eq!(there(), identify(&below).unwrap().mount);
    linux::mount::detach(&below).unwrap();
    assert_eq!(there(), identify(&plain).unwrap().mount);
    assert_eq!(linux::mount::detach(&below), Err(Errno::INVAL), "not attached");
    assert_eq!(linux::mount::detach(&inner), Err(Errno::INVAL), "gone with its parent");
    assert_eq!(linux::mount::detach(&plain), Err(Errno::INVAL), "no mount");
}
