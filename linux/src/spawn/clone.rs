//! The clone itself and what surrounds it in the parent: signals, the pid namespace, the stack, the report.

use std::cell::RefCell;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::Pid;

use super::{Prepared, Script, ops, owned, raw};

/// Where a child stopped.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    Op(usize),
    Descriptors,
    ClosedOp(usize),
    Exec,
}

/// Written by the child, read by the parent after it resumes.
#[derive(Default)]
pub(super) struct Report {
    failure: Option<(Stage, Errno)>,
}

impl Report {
    pub(super) fn failure(&self) -> Option<(Stage, Errno)> {
        // SAFETY: `self` is valid; the child that wrote it is gone or runs another program. Volatile, because the
        // compiler has not seen the write.
        unsafe { std::ptr::read_volatile(&raw const self.failure) }
    }
}

/// All signals blocked in this thread. A handler that ran in the child would run on the parent's memory.
pub(super) struct BlockedSignals {
    before: u64,
}

impl BlockedSignals {
    pub(super) fn new() -> Self {
        let mut before = 0_u64;
        let all = u64::MAX;
        // SAFETY: both point to eight bytes, the kernel's sigset size. It fails for bad arguments only.
        let done = unsafe {
            raw::call(
                libc::SYS_rt_sigprocmask,
                [libc::SIG_SETMASK as usize, &raw const all as usize, &raw mut before as usize, 8, 0],
            )
        };
        debug_assert!(done.is_ok());
        Self { before }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: as in `new`.
        let done = unsafe {
            raw::call(
                libc::SYS_rt_sigprocmask,
                [libc::SIG_SETMASK as usize, &raw const self.before as usize, 0, 8, 0],
            )
        };
        debug_assert!(done.is_ok());
    }
}

/// This thread's next children belong to another pid namespace, until this is dropped.
pub(super) struct ForeignPidNamespace {
    own: OwnedFd,
}

impl ForeignPidNamespace {
    pub(super) fn enter(target: BorrowedFd<'_>) -> Result<Self, Errno> {
        use rustix::fs::{Mode, OFlags};
        let own =
            rustix::fs::open("/proc/thread-self/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        setns(target.as_raw_fd(), super::new::PID as i32)?;
        Ok(Self { own })
    }
}

impl Drop for ForeignPidNamespace {
    fn drop(&mut self) {
        // A thread's own pid namespace can always be returned to.
        let back = setns(self.own.as_raw_fd(), super::new::PID as i32);
        debug_assert!(back.is_ok());
    }
}

fn setns(fd: i32, flags: i32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { raw::call(libc::SYS_setns, [fd as usize, flags as usize, 0, 0, 0]) }.map(drop)
}

/// The child's stack: the deepest op uses well under a page of it. One per thread, kept; below it a page that
/// faults.
struct Stack {
    base: *mut std::ffi::c_void,
}

const STACK: usize = 64 * 1024;
const GUARD: usize = 4096;

impl Stack {
    fn new() -> Result<Self, Errno> {
        use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
        // SAFETY: a new anonymous mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                STACK + GUARD,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::STACK,
            )?
        };
        // SAFETY: the first page of the mapping just made.
        unsafe { rustix::mm::mprotect(base, GUARD, MprotectFlags::empty()) }?;
        Ok(Self { base })
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no child runs on it: the thread that owns it is not suspended.
        let _ = unsafe { rustix::mm::munmap(self.base, STACK + GUARD) };
    }
}

thread_local! {
    static CHILD_STACK: RefCell<Option<Stack>> = const { RefCell::new(None) };
}

/// `struct clone_args`, linux/sched.h.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

struct Child<'a> {
    script: &'a Script,
    prepared: &'a Prepared,
    report: *mut Report,
}

pub(super) fn vfork(
    script: &Script,
    prepared: &Prepared,
    report: &mut Report,
) -> Result<(Pid, OwnedFd), Errno> {
    const CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    CHILD_STACK.with_borrow_mut(|slot| {
        let stack = match slot {
            Some(stack) => stack,
            None => slot.insert(Stack::new()?),
        };
        let mut pidfd: i32 = -1;
        let mut args = CloneArgs {
            flags: script.namespaces
                | CLEAR_SIGHAND
                | (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64,
            pidfd: &raw mut pidfd as u64,
            exit_signal: libc::SIGCHLD as u64,
            stack: stack.base as u64 + GUARD as u64,
            stack_size: STACK as u64,
            ..CloneArgs::default()
        };
        if let Some(cgroup) = &script.cgroup {
            args.flags |= INTO_CGROUP;
            args.cgroup = cgroup.as_raw_fd() as u64;
        }
        let mut child = Child { script, prepared, report };
        // SAFETY: the arguments are valid and the stack is this thread's own, unused while it is suspended.
        // `run` reads `child`, which outlives the suspension, and writes only `report`, which nobody else uses.
        let pid = unsafe {
            raw::clone3((&raw const args).cast(), size_of::<CloneArgs>(), run, (&raw mut child).cast())
        }?;
        // SAFETY: clone3 has stored a new descriptor there.
        let pidfd = unsafe { owned(pidfd) };
        let pid = Pid::from_raw(pid as i32).ok_or(Errno::CHILD)?;
        Ok((pid, pidfd))
    })
}

/// The child's whole life until `execve`.
unsafe extern "C" fn run(argument: *mut u8) -> i32 {
    // SAFETY: `vfork` passes a `Child` that lives until the parent resumes.
    let child = unsafe { &*argument.cast::<Child<'_>>() };
    let Err(failure) = apply(child.script, child.prepared);
    // SAFETY: `report` is valid and the parent is suspended.
    unsafe { std::ptr::write_volatile(&raw mut (*child.report).failure, Some(failure)) };
    1
}

fn apply(script: &Script, prepared: &Prepared) -> Result<std::convert::Infallible, (Stage, Errno)> {
    for (i, op) in script.ops.iter().enumerate() {
        ops::apply(op).map_err(|errno| (Stage::Op(i), errno))?;
    }
    let program = ops::descriptors(prepared).map_err(|errno| (Stage::Descriptors, errno))?;
    for (i, op) in script.closed_ops.iter().enumerate() {
        ops::apply(op).map_err(|errno| (Stage::ClosedOp(i), errno))?;
    }
    Err((Stage::Exec, ops::exec(prepared, program)))
}
