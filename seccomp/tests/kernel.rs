//! The default profile on the kernel: a program of raw system calls runs with and without it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![cfg(target_arch = "x86_64")]

mod probe;

use std::collections::HashSet;

use oci_spec::runtime::Capability;
use probe::{Abi, Call, Filter, run};
use seccomp::For;

const EPERM: i64 = -1;
const EBADF: i64 = -9;
const EINVAL: i64 = -22;
const ENOSYS: i64 = -38;
const EAFNOSUPPORT: i64 = -97;

const SIGCHLD: u64 = 17;
const NEW_USER: u64 = 0x1000_0000;
/// A bit that the kernel drops from a 32-bit argument.
const UPPER: u64 = 1 << 32;

fn call(name: &str, args: &[u64]) -> Call {
    Call::new(Abi::X86_64, seccomp::Abi::X86_64.number(name).unwrap(), args)
}

fn call_32(name: &str, args: &[u64]) -> Call {
    Call::new(Abi::X86, seccomp::Abi::X86.number(name).unwrap(), args)
}

/// Under the default profile of a process without capabilities.
fn filtered(calls: &[Call]) -> Vec<i64> {
    run(calls, Filter::Default(For::default()))
}

fn bare(calls: &[Call]) -> Vec<i64> {
    run(calls, Filter::None)
}

#[test]
fn ordinary_calls_are_allowed() {
    let calls = [
        call("getpid", &[]),
        call("clone", &[SIGCHLD]),
        call("vfork", &[]),
        call("socket", &[1, 1, 0]),
        call("socket", &[2, 1, 0]),
        call("socket", &[16, 3, 0]),
        call("personality", &[0xffff_ffff]),
        call("unshare", &[0x200]),
        call("mmap", &[0, 4096, 3, 0x22, u64::MAX, 0]),
        call_32("getpid", &[]),
    ];
    for (result, call) in filtered(&calls).into_iter().zip(calls) {
        assert!(result >= 0, "{call:?}: {result}");
    }
}

#[test]
fn typing_into_a_terminal_is_refused() {
    // Descriptor -1: the kernel says EBADF, when asked.
    let none = u64::from(u32::MAX);
    for request in [0x5412, 0x541c] {
        let calls = [
            call("ioctl", &[none, request, 0]),
            call("ioctl", &[none, UPPER | request, 0]),
            call_32("ioctl", &[none, request, 0]),
            // 64-bit code makes a 32-bit call, and leaves something in the upper half of the register.
            call_32("ioctl", &[none, UPPER | request, 0]),
            call("ioctl", &[none, 0x5413, 0]),
        ];
        assert_eq!(bare(&calls), [EBADF; 5]);
        assert_eq!(filtered(&calls), [EPERM, EPERM, EPERM, EPERM, EBADF]);
    }
}

#[test]
fn a_user_namespace_is_refused() {
    let calls = [
        call("clone", &[NEW_USER | SIGCHLD]),
        call("clone", &[UPPER | NEW_USER | SIGCHLD]),
        call_32("clone", &[NEW_USER | SIGCHLD]),
        call("unshare", &[NEW_USER]),
    ];
    let without = bare(&calls);
    assert!(without.iter().all(|result| *result >= 0), "this kernel gives no user namespaces: {without:?}");
    assert_eq!(filtered(&calls), [EPERM; 4]);
    let with = run(&calls, Filter::Default(HashSet::from([Capability::SysAdmin]).into()));
    assert!(with.iter().all(|result| *result >= 0), "{with:?}");
}

#[test]
fn clone3_is_not_there_so_that_libc_uses_clone() {
    let calls = [call("clone3", &[0, 0]), call_32("clone3", &[0, 0])];
    assert_eq!(bare(&calls), [EINVAL; 2]);
    assert_eq!(filtered(&calls), [ENOSYS; 2]);
}

#[test]
fn libc_starts_threads_and_processes_under_it() {
    let program = seccomp::default_program(&For::default()).unwrap();
    let under_it = std::thread::spawn(move || {
        linux::seccomp::install(program.instructions(), program.flags(), true).unwrap();
        let pid = std::thread::spawn(std::process::id).join().unwrap();
        (pid, std::process::Command::new("/bin/sh").args(["-c", "exit 3"]).status().unwrap().code())
    });
    assert_eq!(under_it.join().unwrap(), (std::process::id(), Some(3)));
}

#[test]
fn sockets_outside_every_network_namespace_are_refused() {
    let calls = [
        call("socket", &[40, 1, 0]),
        call("socket", &[UPPER | 40, 1, 0]),
        call("socket", &[38, 5, 0]),
        call_32("socket", &[40, 1, 0]),
    ];
    assert_eq!(filtered(&calls), [EAFNOSUPPORT; 4]);
    // The kernel of the test may have neither: then the type, which is wrong, is not asked for either.
    let wrong = [call("socket", &[1, 0xf, 0]), call("socket", &[UPPER | 1, 0xf, 0])];
    assert_eq!(filtered(&wrong), [EINVAL; 2], "the kernel does not look at the upper half");
}

#[test]
fn sockets_whose_family_is_in_memory_are_refused_unless_asked_for() {
    // Subcall 1 is socket(2), with its arguments at address 1. Also from 64-bit code, with something in the upper half.
    let calls = [call_32("socketcall", &[1, 1]), call_32("socketcall", &[UPPER | 1, 1])];
    let efault = vec![-14; 2];
    assert_eq!(bare(&calls), efault);
    assert_eq!(filtered(&calls), [ENOSYS; 2]);
    let asked = For { socketcall: true, ..For::default() };
    assert_eq!(run(&calls, Filter::Default(asked)), efault);
    // What libraries of our time use instead.
    let direct = [call_32("socket", &[1, 1, 0]), call_32("socket", &[2, 1, 0])];
    assert!(filtered(&direct).iter().all(|result| *result >= 0));
}

#[test]
fn calls_that_reach_the_machine_are_refused() {
    // Arguments that do nothing: root is told what is wrong with them, or that this kernel has no such call.
    let wrong = u64::from(u32::MAX);
    let calls = [
        call("mount", &[0, 1, 0, 0]),
        call("umount2", &[1, 0]),
        call("pivot_root", &[1, 1]),
        call("open_tree", &[wrong, 1, 0]),
        call("move_mount", &[wrong, 1, wrong, 1, 0]),
        call("fsopen", &[1, 0]),
        call("fsconfig", &[wrong, 0, 1, 0, 0]),
        call("fsmount", &[wrong, 0]),
        call("fspick", &[wrong, 1, 0]),
        call("mount_setattr", &[wrong, 1, 0, 0, 0]),
        call("setns", &[wrong, 0]),
        call("bpf", &[wrong, 0, 0]),
        call("perf_event_open", &[1, 0, 0, wrong, 0]),
        call("userfaultfd", &[wrong]),
        call("keyctl", &[wrong]),
        call("process_vm_readv", &[0, 0, 0, 0, 0, 1]),
        call("io_uring_setup", &[0, 0]),
        call("quotactl", &[wrong, 0, 0, 0]),
        call("open_by_handle_at", &[wrong, 1, 0]),
        call("finit_module", &[wrong, 1, 0]),
        call("settimeofday", &[1, 0]),
        call("reboot", &[0, 0, 0]),
        call("personality", &[0x0040_0000]),
    ];
    assert_eq!(filtered(&calls), vec![EPERM; calls.len()]);
    for (call, said) in calls.iter().zip(bare(&calls)) {
        assert_ne!(said, EPERM, "{call:?} is refused without a filter too, and shows nothing");
    }
}

#[test]
fn a_call_newer_than_the_profile_is_not_there() {
    let calls = [
        Call::new(Abi::X86_64, 600, &[]),
        Call::new(Abi::X86, 600, &[]),
        // x32: getpid.
        Call::new(Abi::X86_64, 0x4000_0000 | 39, &[]),
        Call::new(Abi::X86_64, u32::MAX, &[]),
    ];
    assert_eq!(filtered(&calls), [ENOSYS; 4]);
}

#[test]
fn a_filter_of_the_user_holds() {
    let filter = Filter::Json(
        r#"{"defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77},
                         {"names": ["dup"], "action": "SCMP_ACT_ERRNO", "errnoRet": 78,
                          "args": [{"index": 0, "value": 4294967296, "op": "SCMP_CMP_GE"}]},
                         {"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 79,
                          "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]}"#,
    );
    let calls = [
        call("getppid", &[]),
        call_32("getppid", &[]),
        call("dup", &[UPPER]),
        // The upper half is no part of a 32-bit argument, and no way around a comparison.
        call_32("getpgid", &[UPPER | 1]),
        call("dup", &[0]),
        call("getpid", &[]),
    ];
    let said = run(&calls, filter);
    assert_eq!(said[..4], [-77, -77, -78, -79]);
    assert!(said[4] >= 0 && said[5] > 0, "{said:?}");
}
