//! Paths inside a root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use linux::resolve::{
    New, beneath, beneath_no_links, create_file_beneath, create_file_in_root, in_root, mkdir_beneath,
    mkdir_in_root, parent_in_root,
};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;

use common::{mkdir, owner, read, symlink, tmpfs, write};

const READ: OFlags = OFlags::RDONLY;
const NONE: Mode = Mode::empty();
const DIR: Mode = Mode::from_raw_mode(0o755);

/// A root with a world around it: `/secret` outside, `/root/…` inside.
fn world() -> (OwnedFd, OwnedFd) {
    let outside = tmpfs();
    write(&outside, "secret", "outside");
    mkdir(&outside, "root");
    let root = open(&outside, "root");
    mkdir(&root, "etc");
    write(&root, "etc/passwd", "inside");
    symlink(&root, "/etc", "absolute");
    symlink(&root, "../../etc", "climbs");
    symlink(&root, "../secret", "leaves");
    symlink(&root, "etc", "stays");
    symlink(&root, "/nowhere/at/all", "dangling");
    symlink(&root, "loop", "loop");
    (outside, root)
}

fn open(at: impl AsFd, name: &str) -> OwnedFd {
    rustix::fs::openat(at, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, NONE).unwrap()
}

fn same(a: impl AsFd, b: impl AsFd) -> bool {
    let (a, b) = (rustix::fs::fstat(a).unwrap(), rustix::fs::fstat(b).unwrap());
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

fn exists(at: impl AsFd, name: &str) -> bool {
    rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

#[test]
fn s11_links_and_dots_resolve_inside_the_root() {
    let (_outside, root) = world();
    for path in [
        "etc/passwd",
        "/etc/passwd",
        "/../../etc/passwd",
        "absolute/passwd",
        "climbs/passwd",
        "stays/passwd",
        "etc/../etc/./passwd",
    ] {
        assert_eq!(read(in_root(&root, path, READ, NONE).unwrap()), "inside", "{path}");
    }
    assert_eq!(in_root(&root, "leaves", READ, NONE).unwrap_err(), Errno::NOENT);
    assert_eq!(in_root(&root, "loop", READ, NONE).unwrap_err(), Errno::LOOP);
    for path in ["", "/", ".", "..", "/.."] {
        assert!(same(in_root(&root, path, OFlags::PATH, NONE).unwrap(), &root), "{path:?}");
    }
}

#[test]
fn s11_magic_links_are_refused() {
    let proc = linux::proc::Procfs::detached().unwrap();
    for path in ["self/root/etc", "self/cwd", "self/fd/0", "self/exe"] {
        assert_eq!(in_root(&proc, path, OFlags::PATH, NONE).unwrap_err(), Errno::LOOP, "{path}");
        assert_eq!(beneath(&proc, path, OFlags::PATH, NONE).unwrap_err(), Errno::LOOP, "{path}");
    }
}

#[test]
fn s14_beneath_refuses_what_would_leave() {
    let (_outside, root) = world();
    for path in ["/etc", "..", "etc/../..", "absolute", "climbs", "leaves", "dangling"] {
        assert_eq!(beneath(&root, path, OFlags::PATH, NONE).unwrap_err(), Errno::XDEV, "{path}");
    }
    assert_eq!(read(beneath(&root, "stays/passwd", READ, NONE).unwrap()), "inside");
    assert_eq!(beneath_no_links(&root, "stays/passwd", READ, NONE).unwrap_err(), Errno::LOOP);
    assert_eq!(read(beneath_no_links(&root, "etc/passwd", READ, NONE).unwrap()), "inside");
}

#[test]
fn s11_mkdir_makes_parents_inside_the_root() {
    let (outside, root) = world();
    mkdir_in_root(&root, "/a/b/c", DIR).unwrap();
    assert!(exists(&root, "a/b/c"));
    // Through every kind of link, also one to nothing.
    mkdir_in_root(&root, "absolute/one", DIR).unwrap();
    mkdir_in_root(&root, "climbs/two", DIR).unwrap();
    assert!(exists(&root, "etc/one") && exists(&root, "etc/two"));
    let made = mkdir_in_root(&root, "dangling/three", DIR).unwrap();
    assert!(same(&made, open(&root, "nowhere/at/all/three")));
    // What would have left is made inside, where `..` of the root is the root.
    mkdir_in_root(&root, "leaves/four", DIR).unwrap();
    assert!(exists(&root, "secret/four"));
    mkdir_in_root(&root, "a/b/../x/../../y", DIR).unwrap();
    assert!(exists(&root, "y") && exists(&root, "a/x"));
    // Nothing appeared outside.
    let names: Vec<_> = rustix::fs::Dir::read_from(
        rustix::fs::openat(&outside, ".", OFlags::RDONLY | OFlags::CLOEXEC, NONE).unwrap(),
    )
    .unwrap()
    .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
    .filter(|name| !name.starts_with('.'))
    .collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn s11_mkdir_errors_say_what_is_in_the_way() {
    let (_outside, root) = world();
    assert_eq!(mkdir_in_root(&root, "etc/passwd/x", DIR).unwrap_err(), Errno::NOTDIR);
    assert_eq!(mkdir_in_root(&root, "etc/passwd", DIR).unwrap_err(), Errno::NOTDIR);
    assert_eq!(mkdir_in_root(&root, "loop/x", DIR).unwrap_err(), Errno::LOOP);
    assert_eq!(mkdir_in_root(&root, "a".repeat(256), DIR).unwrap_err(), Errno::NAMETOOLONG);
}

#[test]
fn s11_files_are_created_inside_the_root() {
    let (outside, root) = world();
    let mode = Mode::from_raw_mode(0o644);
    for (path, at) in [
        ("/new/dir/file", "new/dir/file"),
        ("absolute/file", "etc/file"),
        ("dangling", "nowhere/at/all"),
        ("etc/passwd", "etc/passwd"),
    ] {
        let file = create_file_in_root(&root, path, mode).unwrap();
        assert!(same(&file, open(&root, at)), "{path}");
    }
    assert_eq!(read(in_root(&root, "etc/passwd", READ, NONE).unwrap()), "inside");
    create_file_in_root(&root, "leaves", mode).unwrap();
    assert_eq!(read(rustix::fs::openat(&outside, "secret", READ, NONE).unwrap()), "outside");
    for path in ["etc", "/", "..", "absolute"] {
        assert_eq!(create_file_in_root(&root, path, mode).unwrap_err(), Errno::ISDIR, "{path}");
    }
}

#[test]
fn s11_parent_and_name_do_not_follow_the_name() {
    let (_outside, root) = world();
    let (parent, name) = parent_in_root(&root, "absolute/passwd").unwrap();
    assert!(same(&parent, open(&root, "etc")) && name == "passwd");
    let (parent, name) = parent_in_root(&root, "leaves").unwrap();
    assert!(same(&parent, &root) && name == "leaves");
    for path in ["/", "..", "", "etc/.."] {
        assert_eq!(parent_in_root(&root, path).unwrap_err(), Errno::INVAL, "{path:?}");
    }
}

/// Somebody exchanges a directory with a link to the outside, all the time.
#[test]
fn s11_exchanged_links_lead_nowhere_outside() {
    let outside = tmpfs();
    mkdir(&outside, "root");
    let root = open(&outside, "root");
    mkdir(&root, "real");
    symlink(&root, "../..", "swap");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(&root, "real", &root, "swap", RenameFlags::EXCHANGE).unwrap();
            }
        });
        let mut made = 0;
        for round in 0..2000 {
            match mkdir_in_root(&root, format!("real/a{round}/b"), DIR) {
                Ok(_) => made += 1,
                Err(Errno::AGAIN) => {}
                Err(errno) => panic!("{errno:?}"),
            }
            match create_file_in_root(&root, format!("real/f{round}"), Mode::from_raw_mode(0o600)) {
                Ok(_) => made += 1,
                Err(Errno::AGAIN) => {}
                Err(errno) => panic!("{errno:?}"),
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(made > 1000, "{made}");
    });
    for round in 0..2000 {
        assert!(!exists(&outside, &format!("a{round}")), "made outside in round {round}");
        assert!(!exists(&outside, &format!("f{round}")), "made outside in round {round}");
    }
}

#[test]
fn s14_making_beneath_refuses_what_would_leave() {
    let (outside, root) = world();
    let new = New { mode: Mode::from_raw_mode(0o640), owner: Some((Uid::from_raw(7), Gid::from_raw(8))) };
    for path in ["/a", "../a", "absolute/a", "climbs/a", "leaves/a", "dangling/a", "dangling"] {
        assert_eq!(mkdir_beneath(&root, path, new).unwrap_err(), Errno::XDEV, "{path}");
        assert_eq!(create_file_beneath(&root, path, new).unwrap_err(), Errno::XDEV, "{path}");
    }
    mkdir(&root, "deep");
    symlink(&root, "../etc", "deep/up");
    symlink(&root, "nothing", "to-nothing");
    mkdir_beneath(&root, "deep/up/a/b", new).unwrap();
    create_file_beneath(&root, "deep/up/c/file", new).unwrap();
    assert!(exists(&root, "etc/a/b") && exists(&root, "etc/c/file"));
    assert_eq!(mkdir_beneath(&root, "to-nothing", new).unwrap_err(), Errno::NOENT);
    assert_eq!(mkdir_beneath(&root, "to-nothing/a", new).unwrap_err(), Errno::NOENT);
    assert_eq!(mkdir_beneath(&root, "etc/passwd", new).unwrap_err(), Errno::NOTDIR);
    assert!(same(mkdir_beneath(&root, "etc", new).unwrap(), open(&root, "etc")));
    assert!(!exists(&outside, "a"));
    // What was made belongs to whom it should, and nothing else changed hands.
    for (name, mode) in [("etc/a", 0o755), ("etc/a/b", 0o640), ("etc/c", 0o755), ("etc/c/file", 0o640)] {
        let stat = rustix::fs::statat(&root, name, AtFlags::empty()).unwrap();
        assert_eq!((stat.st_uid, stat.st_gid, stat.st_mode & 0o777), (7, 8, mode), "{name}");
    }
    assert_eq!(owner(&root, "etc"), (0, 0));
}
