//! System call filters, on the kernel. A filter stays for ever, so each test runs in a process of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::process::Command;

use linux::seccomp::{Instruction, MOST_INSTRUCTIONS, flag, install};
use rustix::io::Errno;

const fn instruction(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

const ALLOW: Instruction = instruction(0x06, 0x7fff_0000, 0, 0);

/// Refuses `getpriority(2)` with ENOTNAM, and nothing else.
fn no_getpriority() -> [Instruction; 4] {
    [
        instruction(0x20, 0, 0, 0),
        instruction(0x15, u32::try_from(libc::SYS_getpriority).unwrap(), 0, 1),
        instruction(0x06, 0x0005_0000 | libc::ENOTNAM as u32, 0, 0),
        ALLOW,
    ]
}

/// Runs the rest of the test in a process of its own: `true` there.
fn in_child(test: &str) -> bool {
    const NAME: &str = "SECCOMP_TEST_CHILD";
    if std::env::var_os(NAME).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--test-threads=1", "--nocapture"])
        .env(NAME, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

#[test]
fn a_filter_decides_on_calls() {
    if in_child("a_filter_decides_on_calls") {
        rustix::process::getpriority_process(None).unwrap();
        install(&no_getpriority(), 0, true).unwrap();
        assert_eq!(
            rustix::process::getpriority_process(None).unwrap_err(),
            Errno::from_raw_os_error(libc::ENOTNAM)
        );
        assert!(rustix::thread::no_new_privs().unwrap());
    }
}

#[test]
fn a_filter_is_for_this_thread_unless_it_is_for_all() {
    if in_child("a_filter_is_for_this_thread_unless_it_is_for_all") {
        let (ask, asked) = std::sync::mpsc::channel();
        let (answer, answered) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for () in asked {
                answer.send(rustix::process::getpriority_process(None).is_ok()).unwrap();
            }
        });
        install(&no_getpriority(), 0, true).unwrap();
        ask.send(()).unwrap();
        assert!(answered.recv().unwrap());
        install(&no_getpriority(), flag::TSYNC | flag::LOG | flag::SPEC_ALLOW, true).unwrap();
        ask.send(()).unwrap();
        assert!(!answered.recv().unwrap());
    }
}

#[test]
fn a_program_the_kernel_does_not_take_is_refused() {
    if in_child("a_program_the_kernel_does_not_take_is_refused") {
        // A jump out of the program; nothing; one too many; a length that would wrap around to 1.
        assert_eq!(install(&[instruction(0x05, 7, 0, 0), ALLOW], 0, true), Err(Errno::INVAL));
        assert_eq!(install(&[], 0, true), Err(Errno::INVAL));
        assert_eq!(install(&[ALLOW; MOST_INSTRUCTIONS + 1], 0, true), Err(Errno::INVAL));
        assert_eq!(install(&vec![ALLOW; 65_537], 0, true), Err(Errno::INVAL));
        assert_eq!(install(&[ALLOW], 1 << 30, true), Err(Errno::INVAL));
        install(&[ALLOW; MOST_INSTRUCTIONS], 0, true).unwrap();
    }
}

#[test]
fn a_filter_needs_no_new_privs_or_the_capability() {
    if in_child("a_filter_needs_no_new_privs_or_the_capability") {
        let mut sets = rustix::thread::capabilities(None).unwrap();
        sets.effective.remove(rustix::thread::CapabilitySet::SYS_ADMIN);
        rustix::thread::set_capabilities(None, sets).unwrap();
        assert_eq!(install(&[ALLOW], 0, false), Err(Errno::ACCESS));
        install(&[ALLOW], 0, true).unwrap();
    }
}
