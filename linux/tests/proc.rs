//! procfs handles that are procfs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::os::fd::AsFd;

use linux::kernel::Features;
use linux::mount::{MountAttr, clone_tree};
use linux::proc::Procfs;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::process::getpid;

use common::{directory, private_mounts, tmpfs};

#[test]
fn s11_something_else_at_proc_is_not_taken_for_it() {
    assert_eq!(Procfs::from_handle(tmpfs()).unwrap_err(), Errno::XDEV);
    let inside = directory(std::path::Path::new("/proc/self"));
    assert_eq!(Procfs::from_handle(inside).unwrap_err(), Errno::XDEV);
}

#[test]
fn s11_a_covered_proc_is_replaced_by_our_own() {
    private_mounts();
    linux::mount::attach(tmpfs(), directory(std::path::Path::new("/proc"))).unwrap();
    let proc = Procfs::open().unwrap();
    let status = proc.read(format!("{}/comm", getpid())).unwrap();
    assert!(!status.is_empty());
    unmount(c"/proc", UnmountFlags::DETACH).unwrap();
}

#[test]
fn s11_a_covered_file_is_refused() {
    private_mounts();
    let pid = getpid();
    let target = format!("/proc/{pid}/uid_map");
    mount_bind("/dev/null", &target).unwrap();
    // The mount is seen from this thread's namespace, so `/proc` must be opened after it was made.
    let proc = Procfs::open().unwrap();
    assert_eq!(proc.open_at(format!("{pid}/uid_map"), OFlags::RDONLY).unwrap_err(), Errno::XDEV);
    assert!(Procfs::detached().unwrap().open_at(format!("{pid}/uid_map"), OFlags::RDONLY).is_ok());
    unmount(&target, UnmountFlags::DETACH).unwrap();

    let link = format!("/proc/{pid}/ns/user");
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::open(&link, flags, Mode::empty()).unwrap();
    let false_one = rustix::fs::open(c"/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let cover = clone_tree(false_one, false, &MountAttr::default(), &Features::floor()).unwrap();
    linux::mount::attach(cover, target).unwrap();
    let process = proc.process(pid).unwrap();
    let covered = proc.open_magic(process.as_fd(), "ns", "user", OFlags::RDONLY);
    assert_eq!(covered.unwrap_err(), Errno::XDEV);
    unmount(&link, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).unwrap();
    assert!(proc.open_magic(process.as_fd(), "ns", "user", OFlags::RDONLY).is_ok());
}
