//! Descriptors, exec by handle, keyrings. Each in a process of its own: this file's binary, run again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::os::fd::AsRawFd;
use std::process::Command;

use rustix::fs::{Mode, OFlags};

/// Runs the named test of this binary alone, with `INNER` set.
fn again(test: &str) -> std::process::Output {
    let me = std::env::current_exe().unwrap();
    Command::new(me).args(["--exact", test, "--nocapture"]).env("INNER", "1").output().unwrap()
}

fn inner() -> bool {
    std::env::var_os("INNER").is_some()
}

#[test]
fn s9_close_range_on_exec_lets_nothing_through() {
    if !inner() {
        let output = again("s9_close_range_on_exec_lets_nothing_through");
        let text = String::from_utf8(output.stdout).unwrap();
        let descriptors = text.lines().skip_while(|line| *line != "descriptors").nth(1).unwrap_or_default();
        assert_eq!(descriptors, "0 1 2 3", "3 is the directory that ls reads: {text}");
        return;
    }
    let leak = rustix::fs::open(c"/", OFlags::RDONLY, Mode::empty()).unwrap();
    assert!(leak.as_raw_fd() > 2);
    println!("descriptors");
    linux::process::close_range_on_exec(3).unwrap();
    let shell = rustix::fs::open(c"/bin/sh", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let args = [c"sh", c"-c", c"echo $(ls /proc/self/fd)"];
    let error = linux::process::execveat(shell, &args, &[c"PATH=/usr/bin:/bin"]).unwrap_err();
    panic!("{error:?}");
}

#[test]
fn s9_joining_a_session_keyring_leaves_the_old_one() {
    if !inner() {
        let output = again("s9_joining_a_session_keyring_leaves_the_old_one");
        assert!(output.status.success(), "{output:?}");
        return;
    }
    // KEYCTL_GET_KEYRING_ID of KEY_SPEC_SESSION_KEYRING.
    // SAFETY: no pointers.
    let session = || unsafe { libc::syscall(libc::SYS_keyctl, 0, -3, 1) };
    linux::process::keyctl_join_session_keyring().unwrap();
    let first = session();
    linux::process::keyctl_join_session_keyring().unwrap();
    assert!(first > 0 && session() > 0);
    assert_ne!(first, session());
}

#[test]
fn close_range_closes_what_nobody_owns() {
    use std::os::fd::IntoRawFd;
    let number =
        rustix::fs::open(c"/", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap().into_raw_fd();
    let number = u32::try_from(number).unwrap();
    let entry = format!("/proc/self/fd/{number}");
    assert!(std::fs::symlink_metadata(&entry).is_ok());
    // SAFETY: `into_raw_fd` gave up the only owner.
    unsafe { linux::process::close_range(number, number) }.unwrap();
    assert!(std::fs::symlink_metadata(&entry).is_err());
}
