//! PID 1 inside a subcontainer, when no command was launched as PID 1.
//!
//! Owns three duties: it reaps every orphan, it forwards signals to the command it runs (if any), and it ends on
//! SIGTERM when it runs none. It never allocates, opens or reads anything: a static program of a few kilobytes,
//! without a standard library, so that a thousand idle containers cost little more than their page tables.
//!
//! ```text
//! start-container-init                          idle: ends with 143 on SIGTERM, 130 on SIGINT
//! start-container-init N CANDIDATE{N} ARG...    runs the first CANDIDATE that exists with ARG... as its arguments,
//!                                               forwards signals to it, ends as it ends (128 + signal)
//! start-container-guard NAME                    outlives the caller of a command: descriptor 3 is a pipe from the
//!                                               caller, 4 the `cgroup.kill` of the command's group, 5 the group's
//!                                               parent, NAME the group in it. A pipe that ends without a byte
//!                                               means that the caller was killed: then all in the group is.
//! ```
//!
//! With a command, descriptor 3 is a pipe: the errno of a failed `execve` is written to it as one byte, and its
//! closing without a byte says that the command runs.
//!
//! Compiled by `start-container/build.rs` and carried inside the `start-container` binary; it reaches the
//! container as a sealed file in memory, never through the rootfs.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {main}", main = sym main);

#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x0, sp", "bl {main}", main = sym main);

#[cfg(target_arch = "x86_64")]
mod nr {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const SIGPROCMASK: usize = 14;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const SIGTIMEDWAIT: usize = 128;
    pub const FCNTL: usize = 72;
    pub const NANOSLEEP: usize = 35;
    pub const EXIT_GROUP: usize = 231;
    pub const UNLINKAT: usize = 263;
}

#[cfg(target_arch = "aarch64")]
mod nr {
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const CLOSE: usize = 57;
    pub const SIGPROCMASK: usize = 135;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
    pub const KILL: usize = 129;
    pub const SIGTIMEDWAIT: usize = 137;
    pub const FCNTL: usize = 25;
    pub const NANOSLEEP: usize = 101;
    pub const EXIT_GROUP: usize = 94;
    pub const UNLINKAT: usize = 35;
}

/// SAFETY: the caller upholds what the system call asks of its pointers.
unsafe fn sys(number: usize, args: [usize; 5]) -> isize {
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") args[0], in("rsi") args[1],
            in("rdx") args[2], in("r10") args[3], in("r8") args[4], lateout("rcx") _, lateout("r11") _,
            options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") args[0] as isize => result, in("x1") args[1],
            in("x2") args[2], in("x3") args[3], in("x4") args[4], options(nostack));
    }
    result
}

const ENOENT: isize = -2;
const EACCES: isize = -13;
const ENOTDIR: isize = -20;
const SIGINT: isize = 2;
const SIGTERM: isize = 15;
const SIGCHLD: isize = 17;
const SIG_SETMASK: usize = 2;
const WNOHANG: usize = 1;
const REPORT: usize = 3;

/// SAFETY: `stack` is the initial stack pointer: argc, argv…, 0, envp…, 0 (System V ABI).
unsafe extern "C" fn main(stack: *const usize) -> ! {
    let all = u64::MAX;
    // Signals are taken one by one with sigtimedwait; PID 1 ignores those without a handler anyway, SIGKILL from
    // outside excepted.
    unsafe { sys(nr::SIGPROCMASK, [SIG_SETMASK, &raw const all as usize, 0, 8, 0]) };
    let argc = unsafe { *stack };
    let argv = unsafe { stack.add(1) };
    let envp = unsafe { argv.add(argc + 1) };
    // One argument: the guard. Init has none, or more.
    if argc == 2 {
        unsafe { guard(*argv.add(1)) }
    }
    let child = if argc > 2 { unsafe { start(argv, envp) } } else { 0 };
    loop {
        let signal = unsafe { sys(nr::SIGTIMEDWAIT, [&raw const all as usize, 0, 0, 8, 0]) };
        match signal {
            SIGCHLD => unsafe { reap(child) },
            SIGTERM | SIGINT if child == 0 => exit(128 + signal as usize),
            // The command may have ended in this moment; SIGCHLD follows.
            1.. if child != 0 => drop(unsafe { sys(nr::KILL, [child as usize, signal as usize, 0, 0, 0]) }),
            _ => {}
        }
    }
}

/// Waits for every child that has ended. Ends itself when the command has.
unsafe fn reap(command: isize) {
    loop {
        let mut status = 0_i32;
        let pid = unsafe { sys(nr::WAIT4, [usize::MAX, &raw mut status as usize, WNOHANG, 0, 0]) };
        if pid <= 0 {
            return;
        }
        if pid == command {
            let signal = status & 0x7f;
            exit(if signal == 0 { (status >> 8 & 0xff) as usize } else { 128 + signal as usize });
        }
    }
}

/// Starts the command as a child and returns its pid.
///
/// SAFETY: as `main`.
unsafe fn start(argv: *const usize, envp: *const usize) -> isize {
    let count = unsafe { decimal(*argv.add(1) as *const u8) };
    let candidates = unsafe { argv.add(2) };
    let args = unsafe { candidates.add(count) };
    const CLONE_VFORK: usize = 0x4000;
    let pid = unsafe { sys(nr::CLONE, [SIGCHLD as usize | CLONE_VFORK, 0, 0, 0, 0]) };
    if pid == 0 {
        let none = 0_u64;
        unsafe { sys(nr::SIGPROCMASK, [SIG_SETMASK, &raw const none as usize, 0, 8, 0]) };
        // FD_CLOEXEC was not kept by the exec of init: the write end is closed by hand once the command runs, by
        // marking it here, in the child that is about to become the command.
        unsafe { close_on_exec(REPORT) };
        let mut found = ENOENT;
        for i in 0..count {
            match unsafe { sys(nr::EXECVE, [*candidates.add(i), args as usize, envp as usize, 0, 0]) } {
                ENOENT | ENOTDIR => {}
                EACCES => found = EACCES,
                other => {
                    found = other;
                    break;
                }
            }
        }
        let errno = -found as u8;
        unsafe { sys(nr::WRITE, [REPORT, &raw const errno as usize, 1, 0, 0]) };
        exit(127);
    }
    if pid < 0 {
        let errno = -pid as u8;
        unsafe { sys(nr::WRITE, [REPORT, &raw const errno as usize, 1, 0, 0]) };
        exit(126);
    }
    unsafe { sys(nr::CLOSE, [REPORT, 0, 0, 0, 0]) };
    pid
}

unsafe fn close_on_exec(fd: usize) {
    const F_SETFD: usize = 2;
    const FD_CLOEXEC: usize = 1;
    unsafe { sys(nr::FCNTL, [fd, F_SETFD, FD_CLOEXEC, 0, 0]) };
}

/// Waits for the caller's last word, or its end.
///
/// SAFETY: `name` ends in a zero byte.
unsafe fn guard(name: usize) -> ! {
    const EINTR: isize = -4;
    const EBUSY: isize = -16;
    const AT_REMOVEDIR: usize = 0x200;
    let mut byte = 0_u8;
    loop {
        match unsafe { sys(nr::READ, [3, &raw mut byte as usize, 1, 0, 0]) } {
            EINTR => {}
            1 => exit(0),
            _ => break,
        }
    }
    // Five seconds are enough for anything that SIGKILL can end; the group's owner removes what is left.
    for _ in 0..5000 {
        unsafe { sys(nr::WRITE, [4, b"1".as_ptr() as usize, 1, 0, 0]) };
        if unsafe { sys(nr::UNLINKAT, [5, name, AT_REMOVEDIR, 0, 0]) } != EBUSY {
            break;
        }
        let millisecond = [0_usize, 1_000_000];
        unsafe { sys(nr::NANOSLEEP, [millisecond.as_ptr() as usize, 0, 0, 0, 0]) };
    }
    exit(0)
}

/// SAFETY: `text` ends in a zero byte.
unsafe fn decimal(mut text: *const u8) -> usize {
    let mut value = 0;
    while let digit @ b'0'..=b'9' = unsafe { *text } {
        value = value * 10 + usize::from(digit - b'0');
        text = unsafe { text.add(1) };
    }
    value
}

fn exit(code: usize) -> ! {
    loop {
        unsafe { sys(nr::EXIT_GROUP, [code, 0, 0, 0, 0]) };
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(70)
}
