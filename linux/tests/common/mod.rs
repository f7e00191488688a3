//! What the tests of this room share: they run on the real kernel, as root.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::os::fd::{AsFd, OwnedFd};

use linux::mount::FsContext;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, mount_change};

/// A mount namespace of this thread's own, from which nothing spreads.
pub(crate) fn private_mounts() {
    linux::process::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
}

/// A tmpfs that is mounted nowhere, and is gone with its descriptor.
pub(crate) fn tmpfs() -> OwnedFd {
    let context = FsContext::open("tmpfs").unwrap();
    context.string("mode", "0755").unwrap();
    context.create().unwrap();
    context.mount(MountAttrFlags::empty()).unwrap()
}

pub(crate) fn mkdir(at: impl AsFd, name: &str) {
    rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o755)).unwrap();
}

pub(crate) fn symlink(at: impl AsFd, target: &str, name: &str) {
    rustix::fs::symlinkat(target, at, name).unwrap();
}

pub(crate) fn write(at: impl AsFd, name: &str, text: &str) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::openat(at, name, flags, Mode::from_raw_mode(0o644)).unwrap();
    assert_eq!(rustix::io::write(file, text.as_bytes()).unwrap(), text.len());
}

pub(crate) fn read(file: OwnedFd) -> String {
    std::io::read_to_string(std::fs::File::from(file)).unwrap()
}

pub(crate) fn directory(path: &std::path::Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// Owner and group of a name, not following links.
pub(crate) fn owner(at: impl AsFd, name: &str) -> (u32, u32) {
    let stat = rustix::fs::statat(at, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    (stat.st_uid, stat.st_gid)
}

/// By the version: what a test skips must not depend on the calls that it is about.
pub(crate) fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_str().unwrap();
    let mut numbers = release.split(['.', '-', '+']).map(|number| number.parse::<u32>().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (major, minor)
}
