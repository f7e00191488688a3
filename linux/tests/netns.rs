//! `unshare(CLONE_NEWNET)` and `setns` through [`linux::netns`].
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::os::fd::AsFd as _;

use linux::netns;
use rustix::io::Errno;

fn inode(file: impl std::os::fd::AsFd) -> u64 {
    rustix::fs::fstat(file).unwrap().st_ino
}

fn ours() -> u64 {
    inode(std::fs::File::open("/proc/thread-self/ns/net").unwrap())
}

#[test]
fn a_new_namespace_has_only_lo_and_leaves_this_thread_where_it_is() {
    let before = ours();
    let (made, links) =
        netns::create(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
    assert_eq!(links.lines().skip(2).count(), 1, "{links}");
    assert!(links.contains("lo:"), "{links}");
    assert_eq!(ours(), before);
    assert_ne!(inode(&made), before);
}

#[test]
fn work_within_happens_in_that_namespace_and_nowhere_else() {
    let (made, inside) = netns::create(ours).unwrap();
    assert_eq!(inode(&made), inside);
    assert_eq!(netns::within(made.as_fd(), ours).unwrap(), inside);
    assert_ne!(ours(), inside);
}

#[test]
fn another_kind_of_namespace_is_refused() {
    let mounts = std::fs::File::open("/proc/self/ns/mnt").unwrap();
    assert_eq!(netns::within(mounts.as_fd(), || ()).unwrap_err(), Errno::INVAL);
}
