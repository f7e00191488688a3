//! PID 1 inside a subcontainer, when no command was launched as PID 1.
//!
//! Owns four duties: it reaps every orphan, it forwards signals to the command it runs (if any), it ends on SIGTERM when
//! it runs none, and it writes down how it ends where nobody may be there to see it. It never allocates, opens or reads
//! anything: a static program of a few kilobytes, without a standard library, so that a thousand idle containers cost
//! little more than their page tables.
//!
//! ```text
//! start-container-init                          idle: ends with 143 on SIGTERM, 130 on SIGINT
//! start-container-init N CANDIDATE{N} ARG...    runs the first CANDIDATE that exists with ARG... as its arguments,
//!                                               forwards signals to it, ends as it ends (128 + signal)
//! start-container-guard NAME WORDS              starts a process and outlives its caller: see `guard`
//! start-container-starter WORDS                 starts a process that waits: see `starter`
//! start-container-keeper kept for DATA_DIR      keeps handles while no daemon runs: see `keeper`
//! ```
//!
//! With a command, descriptor 3 is a pipe: the errno of a failed `execve` is written to it as one byte, and its
//! closing without a byte says that the command runs. The descriptor after it (3 without a command), where there is one, is
//! a file of one word: it is mapped and closed before anything else, and gets the exit code at the end, whether anybody
//! waits for that or not. The mapping is this process's only, not its children's.
//!
//! Compiled by `start-container/build.rs` and carried inside the `start-container` binary; it reaches the
//! container as a sealed file in memory, never through the rootfs.

#![no_std]
#![no_main]

use core::arch::global_asm;

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {main}", main = sym main);

#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x0, sp", "bl {main}", main = sym main);

#[path = "../../linux/src/spawn/bare/mod.rs"]
#[allow(dead_code, reason = "the other program that this is compiled into uses the rest")]
mod bare;
mod guard;
mod keeper;
mod starter;

use bare::{nr, raw};

/// A system call, its error as a negative number.
///
/// SAFETY: the caller upholds what the system call asks of its pointers.
unsafe fn sys<const N: usize>(number: usize, args: [usize; N]) -> isize {
    match unsafe { raw::call(number, args) } {
        Ok(value) => value as isize,
        Err(errno) => -(errno as isize),
    }
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
    unsafe { sys(nr::RT_SIGPROCMASK, [SIG_SETMASK, &raw const all as usize, 0, 8]) };
    let argc = unsafe { *stack };
    let argv = unsafe { stack.add(1) };
    let envp = unsafe { argv.add(argc + 1) };
    let first = unsafe { sys(nr::GETPID, []) } == 1;
    match argc {
        _ if first => {}
        2 => unsafe { starter::main(decimal(*argv.add(1) as *const u8)) },
        3 => unsafe { guard::main(*argv.add(1), decimal(*argv.add(2) as *const u8)) },
        4 => keeper::main(),
        // Somebody's `/proc/self/exe` on the way into a container.
        _ => exit(127),
    }
    unsafe { map_record(if argc > 2 { REPORT + 1 } else { REPORT }) };
    let child = if argc > 2 { unsafe { start(argv, envp) } } else { 0 };
    loop {
        let signal = unsafe { sys(nr::RT_SIGTIMEDWAIT, [&raw const all as usize, 0, 0, 8]) };
        match signal {
            SIGCHLD => unsafe { reap(child) },
            SIGTERM | SIGINT if child == 0 => end(128 + signal as usize),
            // The command may have ended in this moment; SIGCHLD follows.
            1.. if child != 0 => drop(unsafe { sys(nr::KILL, [child as usize, signal as usize]) }),
            _ => {}
        }
    }
}

/// Waits for every child that has ended. Ends itself when the command has.
unsafe fn reap(command: isize) {
    loop {
        let mut status = 0_i32;
        let pid = unsafe { sys(nr::WAIT4, [usize::MAX, &raw mut status as usize, WNOHANG, 0]) };
        if pid <= 0 {
            return;
        }
        if pid == command {
            let signal = status & 0x7f;
            end(if signal == 0 { (status >> 8 & 0xff) as usize } else { 128 + signal as usize });
        }
    }
}

/// Where the exit code is written, if anywhere.
static mut RECORD: *mut u32 = core::ptr::null_mut();

/// What the word is without the code in its lowest byte. Whoever reads it takes nothing else for an end.
const ENDED: u32 = 0x656e_6400;

/// Maps the file of one word that is open as `fd`, if it is, and closes it. What runs in here can reach the word by this
/// process's memory, as it can reach the rest of it: it may lie about its own end. It cannot reach the file.
unsafe fn map_record(fd: usize) {
    const READ_WRITE: usize = 3;
    const MAP_SHARED: usize = 1;
    const MADV_DONTFORK: usize = 10;
    const PAGE: usize = 4096;
    let mapped = unsafe { sys(nr::MMAP, [0, PAGE, READ_WRITE, MAP_SHARED, fd, 0]) };
    if mapped > 0 {
        unsafe { sys(nr::MADVISE, [mapped as usize, PAGE, MADV_DONTFORK]) };
        unsafe { RECORD = mapped as *mut u32 };
    }
    unsafe { sys(nr::CLOSE, [fd]) };
}

/// Ends, and leaves the code where it can be found.
fn end(code: usize) -> ! {
    let record = unsafe { RECORD };
    if !record.is_null() {
        unsafe { record.write_volatile(ENDED | (code & 0xff) as u32) };
    }
    exit(code)
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
        unsafe { sys(nr::RT_SIGPROCMASK, [SIG_SETMASK, &raw const none as usize, 0, 8]) };
        // FD_CLOEXEC was not kept by the exec of init: the write end is closed by hand once the command runs, by
        // marking it here, in the child that is about to become the command.
        unsafe { close_on_exec(REPORT) };
        let mut found = ENOENT;
        for i in 0..count {
            match unsafe { sys(nr::EXECVE, [*candidates.add(i), args as usize, envp as usize]) } {
                ENOENT | ENOTDIR => {}
                EACCES => found = EACCES,
                other => {
                    found = other;
                    break;
                }
            }
        }
        let errno = -found as u8;
        unsafe { sys(nr::WRITE, [REPORT, &raw const errno as usize, 1]) };
        exit(127);
    }
    if pid < 0 {
        let errno = -pid as u8;
        unsafe { sys(nr::WRITE, [REPORT, &raw const errno as usize, 1]) };
        end(126);
    }
    unsafe { sys(nr::CLOSE, [REPORT]) };
    pid
}

unsafe fn close_on_exec(fd: usize) {
    const F_SETFD: usize = 2;
    const FD_CLOEXEC: usize = 1;
    unsafe { sys(nr::FCNTL, [fd, F_SETFD, FD_CLOEXEC]) };
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
        unsafe { sys(nr::EXIT_GROUP, [code]) };
    }
}

/// The compiler takes it for granted, as the next.
///
/// SAFETY: `to` is writable for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    for i in 0..length {
        // Volatile, or the compiler makes a call of `memset` out of this loop.
        unsafe { to.add(i).write_volatile(byte as u8) };
    }
    to
}

/// SAFETY: `from` is readable and `to` writable for `length` bytes, and they do not overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    for i in 0..length {
        unsafe { to.add(i).write_volatile(*from.add(i)) };
    }
    to
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(70)
}
