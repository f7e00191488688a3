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
use crate::bare::raw::CloneArgs;
use crate::bare::script::{self, Flat, NONE, relocate};
use crate::bare::nr;
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
    let pid = match unsafe { start(words, &mut report) } {
        Ok(pid) => pid as u64,
        Err(failure) => {
            report = failure;
            0
        }
    };
    // The container's streams must end with the container's processes.
    unsafe { sys(nr::CLOSE_RANGE, [SCRIPT, u32::MAX as usize, 0]) };
    unsafe { sys(nr::CLOSE, [HOME]) };
    let said = [pid, report.stage, report.step, report.errno];
    unsafe { sys(nr::WRITE, [REPORT, said.as_ptr() as usize, size_of_val(&said)]) };
    unsafe { sys(nr::CLOSE, [REPORT]) };
    if report.stage != 0 {
        exit(126);
    }
    unsafe { watch(name) }
}

/// Carries out the script. The child is one of our caller's.
unsafe fn start(words: usize, report: &mut Report) -> Result<usize, Report> {
    const READ_WRITE: usize = 3;
    const MAP_PRIVATE: usize = 2;
    const CLONE_PARENT: u64 = 0x8000;
    let failed = |stage| move |errno: i32| Report { stage, step: 0, errno: errno as u64 };
    let map = [0, words * 8, READ_WRITE, MAP_PRIVATE, SCRIPT, 0];
    let base = unsafe { crate::raw::call(nr::MMAP, map) }.map_err(failed(stage::DESCRIPTORS))? as *mut u64;
    unsafe { relocate(base) };
    let script = unsafe { Flat::new(base) };
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
