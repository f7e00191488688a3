//! The process that stands between a caller on the host and what that started in a container.
//!
//! It starts it: nothing of the caller, neither its memory nor its program file, is ever in the namespaces of a
//! container, only this small program that holds nothing but the script (CVE-2019-5736, CVE-2024-21626). And it
//! outlives the caller: a pipe that ends without a byte means that the caller was killed, and then everything in the
//! group is. It stays on the host's side of every namespace itself.
//!
//! Descriptors: 3 a pipe from the caller, 4 the `cgroup.kill` of the group, 5 the group's parent, 6 the caller (a
//! pidfd), 7 a pipe to the caller for the report, 8 the script, and then those that the script names.

use core::ptr;

use crate::bare::child::{self, Report, stage};
use crate::bare::nr;
use crate::bare::raw::{self, CloneArgs};
use crate::bare::script::{self, Flat, NONE, relocate};
use crate::{exit, sys};

const CALLER: usize = 3;
const KILL: usize = 4;
const PARENT: usize = 5;
const HOME: usize = 6;
const REPORT: usize = 7;
const SCRIPT: usize = 8;

/// The child's, while this process waits for it to run its program. It uses less than a page of it.
static mut STACK: [u128; 2048] = [0; 2048];

/// SAFETY: `name` is the address of a string, `words` the length of the script.
pub(crate) unsafe fn main(name: usize, words: usize) -> ! {
    const PR_SET_DUMPABLE: usize = 4;
    // Nobody in the container may look into the child before it is a program of the container's.
    unsafe { sys(nr::PRCTL, [PR_SET_DUMPABLE, 0, 0, 0, 0]) };
    let mut report = Report::default();
    let mut between = 0;
    let pid = match unsafe { start(words, &mut report, &mut between) } {
        Ok(pid) => pid as u64,
        Err(failure) => {
            report = failure;
            0
        }
    };
    // The container's streams must end with the container's processes.
    unsafe { sys(nr::CLOSE_RANGE, [SCRIPT, u32::MAX as usize, 0]) };
    unsafe { sys(nr::CLOSE, [HOME]) };
    let said = [pid, report.stage, report.step, report.errno, between as u64];
    unsafe { sys(nr::WRITE, [REPORT, said.as_ptr() as usize, size_of_val(&said)]) };
    unsafe { sys(nr::CLOSE, [REPORT]) };
    if report.stage != 0 {
        exit(126);
    }
    unsafe { watch(name) }
}

const CLONE_PARENT: u64 = 0x8000;

/// Carries out the script. The child is one of our caller's, as is the one that `between` is set to if there is one.
unsafe fn start(words: usize, report: &mut Report, between: &mut usize) -> Result<usize, Report> {
    const READ_WRITE: usize = 3;
    const MAP_PRIVATE: usize = 2;
    let failed = |stage| move |errno: i32| Report { stage, step: 0, errno: errno as u64 };
    let map = [0, words * 8, READ_WRITE, MAP_PRIVATE, SCRIPT, 0];
    let base = unsafe { crate::raw::call(nr::MMAP, map) }.map_err(failed(stage::DESCRIPTORS))? as *mut u64;
    unsafe { relocate(base) };
    let script = unsafe { Flat::new(base) };
    if script.word(script::ABOVE) != NONE {
        return unsafe { start_beneath(script, report, between) };
    }
    let container = script.word(script::CONTAINER);
    if container != NONE {
        unsafe { crate::raw::call(nr::SETNS, [container as usize, script::CONTAINERS]) }
            .map_err(failed(stage::CONTAINER))?;
    }
    let stack = &raw mut STACK;
    let args = CloneArgs {
        flags: CLONE_PARENT,
        stack: stack as u64,
        stack_size: size_of::<[u128; 2048]>() as u64,
        ..CloneArgs::default()
    };
    // Those inside may hold it on its way, for as long as they like.
    let pid = unsafe { child::start(script, args, report, || end_if_abandoned()) };
    if container != NONE {
        // Fails when the caller has been killed: then only the group is left to end, by descriptors.
        unsafe { sys(nr::SETNS, [HOME, script::CONTAINERS]) };
    }
    let pid = pid.map_err(failed(stage::CLONE))?;
    // What the command was told is its own from here on.
    unsafe { sys(nr::MUNMAP, [base as usize, words * 8]) };
    Ok(pid)
}

/// Ends what is in the group when the caller has been killed.
fn end_if_abandoned() {
    const POLLHUP: u32 = 0x10;
    // `struct pollfd`: the descriptor; what is waited for, and what there is.
    let mut caller = [CALLER as u32, 0];
    let at_once = [0_usize, 0];
    unsafe { sys(nr::PPOLL, [caller.as_mut_ptr() as usize, 1, at_once.as_ptr() as usize, 0, 8]) };
    if caller[1] >> 16 & POLLHUP != 0 {
        unsafe { sys(nr::WRITE, [KILL, b"1".as_ptr() as usize, 1]) };
    }
}

/// The process between us and the child, and what it finds.
struct Between {
    script: Flat,
    report: *mut Report,
    /// The child's, in our descriptor table too.
    pidfd: i32,
    /// 0 as long as nothing is known, else 1 more than the error of the clone.
    done: i32,
}

static mut BETWEEN_STACK: [u128; 1024] = [0; 1024];

/// As [`start`], for a pid namespace that lies beneath another one. Only a process that lives in that one can make it
/// (`copy_pid_ns` in the kernel), so there is one for the time of the clone, with our memory and our descriptors, and
/// both are our caller's children.
unsafe fn start_beneath(script: Flat, report: &mut Report, between: &mut usize) -> Result<usize, Report> {
    const CLONE_NEWPID: usize = 0x2000_0000;
    const CLONE_VM: u64 = 0x100;
    const CLONE_FILES: u64 = 0x400;
    const CLONE_VFORK: u64 = 0x4000;
    const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    const ENOMEM: i32 = 12;
    let failed = |stage| move |errno: i32| Report { stage, step: 0, errno: errno as u64 };
    let above = script.word(script::ABOVE) as usize;
    unsafe { raw::call(nr::SETNS, [above, CLONE_NEWPID]) }.map_err(failed(stage::CONTAINER))?;
    let stack = &raw mut BETWEEN_STACK;
    let args = CloneArgs {
        flags: CLONE_PARENT | CLONE_VM | CLONE_FILES | CLONE_VFORK | CLONE_CLEAR_SIGHAND,
        stack: stack as u64,
        stack_size: size_of::<[u128; 1024]>() as u64,
        ..CloneArgs::default()
    };
    let mut state = Between { script, report, pidfd: -1, done: 0 };
    let state = &raw mut state;
    let cloned = unsafe { raw::clone3(&args, clone_child, state.cast()) };
    // Fails when the caller has been killed. Nothing else is cloned here.
    unsafe { sys(nr::SETNS, [HOME, CLONE_NEWPID]) };
    *between = cloned.map_err(failed(stage::CLONE))?;
    // Another process has written there.
    let (done, pidfd) = unsafe {
        (ptr::read_volatile(&raw const (*state).done), ptr::read_volatile(&raw const (*state).pidfd))
    };
    match done {
        // Killed with the pid namespace above, as the child is if there is one: then that has to be reaped, too.
        0 => match unsafe { pid_behind(pidfd) } {
            Ok(pid) => {
                *report = failed(stage::CLONE)(ENOMEM);
                Ok(pid)
            }
            Err(_) => Err(failed(stage::CLONE)(ENOMEM)),
        },
        // The number that the clone has returned is the one above's.
        1 => unsafe { pid_behind(pidfd) }.map_err(failed(stage::CLONE)),
        error => Err(failed(stage::CLONE)(error - 1)),
    }
}

/// The whole life of the process in between.
unsafe extern "C" fn clone_child(argument: *mut u8) -> i32 {
    const CLONE_PIDFD: u64 = 0x1000;
    let state = argument.cast::<Between>();
    let stack = &raw mut STACK;
    let args = CloneArgs {
        flags: CLONE_PARENT | CLONE_PIDFD,
        pidfd: unsafe { &raw mut (*state).pidfd } as u64,
        stack: stack as u64,
        stack_size: size_of::<[u128; 2048]>() as u64,
        ..CloneArgs::default()
    };
    let cloned = unsafe { child::vfork((*state).script, args, &mut *(*state).report) };
    unsafe { ptr::write_volatile(&raw mut (*state).done, 1 + cloned.err().unwrap_or(0)) };
    0
}

/// The id of a process that we have a handle of: the line `Pid:` of `/proc/self/fdinfo/<number>`, -1 there for one that is
/// gone.
///
/// Without slices: what panics would not link.
unsafe fn pid_behind(pidfd: i32) -> Result<usize, i32> {
    const ESRCH: i32 = 3;
    // Space for a number of three digits: this process has a few dozen descriptors.
    let mut path = *b"/proc/self/fdinfo/000\0";
    let [.., hundreds, tens, ones, _] = &mut path;
    let digit = |value: i32| b'0' + (value % 10) as u8;
    match pidfd {
        0..10 => (*hundreds, *tens, *ones) = (digit(pidfd), 0, 0),
        10..100 => (*hundreds, *tens, *ones) = (digit(pidfd / 10), digit(pidfd), 0),
        100..1000 => (*hundreds, *tens, *ones) = (digit(pidfd / 100), digit(pidfd / 10), digit(pidfd)),
        _ => return Err(ESRCH),
    }
    let how = [0_u64; 3];
    let file = unsafe { raw::call(nr::OPENAT2, [0, path.as_ptr() as usize, how.as_ptr() as usize, 24]) }?;
    let mut text = [0_u8; 256];
    let length = unsafe { raw::call(nr::READ, [file, text.as_mut_ptr() as usize, text.len()]) };
    unsafe { sys(nr::CLOSE, [file]) };
    let (mut pid, mut matched) = (0, 0);
    for byte in text.iter().take(length?) {
        match (matched, byte) {
            // The end of the line.
            (5, b'\n') => break,
            (5, b'0'..=b'9') => pid = pid * 10 + usize::from(byte - b'0'),
            (5, _) => return Err(ESRCH),
            // Lines begin after a line's end; this is not the first, and the others with these letters go on otherwise.
            _ => {
                let expected = [b'P', b'i', b'd', b':', b'\t'];
                matched = match expected.get(matched) {
                    Some(next) if next == byte => matched + 1,
                    _ => usize::from(*byte == b'P'),
                };
            }
        }
    }
    if pid > 0 { Ok(pid) } else { Err(ESRCH) }
}

/// Waits for the caller's last word, or its end.
///
/// SAFETY: `name` is the address of a string.
unsafe fn watch(name: usize) -> ! {
    const EINTR: isize = -4;
    const EBUSY: isize = -16;
    const AT_REMOVEDIR: usize = 0x200;
    let mut byte = 0_u8;
    loop {
        match unsafe { sys(nr::READ, [CALLER, ptr::from_mut(&mut byte) as usize, 1]) } {
            EINTR => {}
            1 => exit(0),
            _ => break,
        }
    }
    // Five seconds are enough for anything that SIGKILL can end; the group's owner removes what is left.
    for _ in 0..5000 {
        unsafe { sys(nr::WRITE, [KILL, b"1".as_ptr() as usize, 1]) };
        if unsafe { sys(nr::UNLINKAT, [PARENT, name, AT_REMOVEDIR]) } != EBUSY {
            break;
        }
        let millisecond = [0_usize, 1_000_000];
        unsafe { sys(nr::NANOSLEEP, [millisecond.as_ptr() as usize, 0]) };
    }
    exit(0)
}
