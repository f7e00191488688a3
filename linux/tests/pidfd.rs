//! Processes by handle.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use linux::kernel::Features;
use linux::pidfd::{self, ExitStatus};
use linux::signal::Signal;
use rustix::io::Errno;
use rustix::process::Pid;

fn start(script: &str) -> (Child, OwnedFd) {
    let child = Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    let pidfd = pidfd::open(Pid::from_child(&child)).unwrap();
    (child, pidfd)
}

#[test]
fn s5_exit_codes_come_back_unchanged() {
    for code in [0, 1, 42, 255] {
        let (_child, pidfd) = start(&format!("exit {code}"));
        let status = pidfd::wait(&pidfd).unwrap();
        assert_eq!(status, ExitStatus::Exited(code));
        assert_eq!(status.shell_code(), code);
        assert_eq!(pidfd::wait(&pidfd), Err(Errno::CHILD), "reaped once");
    }
}

#[test]
fn s5_every_deadly_signal_is_told_apart_from_an_exit() {
    for signal in [Signal::TERM, Signal::KILL, Signal::from_raw(34).unwrap(), Signal::from_raw(64).unwrap()] {
        let (_child, pidfd) = start("read line");
        assert_eq!(pidfd::try_wait(&pidfd), Ok(None));
        pidfd::send_signal(&pidfd, signal).unwrap();
        let status = pidfd::wait(&pidfd).unwrap();
        assert_eq!(status, ExitStatus::Signaled { signal, core: false });
        assert_eq!(i32::from(status.shell_code()), 128 + signal.as_raw());
        assert_eq!(pidfd::send_signal(&pidfd, signal), Err(Errno::SRCH));
    }
}

#[test]
fn peeking_leaves_the_child_to_be_reaped() {
    let (_child, pidfd) = start("exit 3");
    while pidfd::peek(&pidfd).unwrap().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(pidfd::peek(&pidfd), Ok(Some(ExitStatus::Exited(3))));
    assert_eq!(pidfd::try_wait(&pidfd), Ok(Some(ExitStatus::Exited(3))));
}

#[test]
fn exit_info_outlives_the_reaping_by_somebody_else() {
    for (script, expected) in [
        ("exit 7", ExitStatus::Exited(7)),
        ("kill -TERM $$", ExitStatus::Signaled { signal: Signal::TERM, core: false }),
    ] {
        let (mut child, pidfd) = start(script);
        child.wait().unwrap();
        let expected = Features::get().pidfd_exit_info.then_some(expected);
        assert_eq!(pidfd::exit_info(&pidfd), expected);
    }
}

#[test]
fn exit_info_of_the_living_is_none() {
    let (mut child, pidfd) = start("read line");
    assert_eq!(pidfd::exit_info(&pidfd), None);
    assert_eq!(pidfd::pid(&pidfd), Some(Pid::from_child(&child)));
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(pidfd::pid(&pidfd), None);
}
