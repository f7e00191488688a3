//! What surrounds the clone in the parent: signals, the pid namespace, the stack.

use std::cell::RefCell;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::Pid;

use super::bare::child::{self, Report};
use super::bare::script::Flat;
use super::bare::{self, nr, raw};
use super::owned;

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
                nr::RT_SIGPROCMASK,
                [libc::SIG_SETMASK as usize, &raw const all as usize, &raw mut before as usize, 8],
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
            raw::call(nr::RT_SIGPROCMASK, [libc::SIG_SETMASK as usize, &raw const self.before as usize, 0, 8])
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
    errno(unsafe { raw::call(nr::SETNS, [fd as usize, flags as usize]) }).map(drop)
}

fn errno<T>(result: bare::Result<T>) -> Result<T, Errno> {
    result.map_err(Errno::from_raw_os_error)
}

/// The child's stack: the deepest step uses well under a page of it. One per thread, kept; below it a page that
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

/// Clones a child that carries out `script`, and waits until it runs its program or has written to `report`.
pub(super) fn vfork(script: Flat, report: &mut Report) -> Result<(Pid, OwnedFd), Errno> {
    CHILD_STACK.with_borrow_mut(|slot| {
        let stack = match slot {
            Some(stack) => stack,
            None => slot.insert(Stack::new()?),
        };
        let mut pidfd: i32 = -1;
        let args = raw::CloneArgs {
            flags: libc::CLONE_PIDFD as u64,
            pidfd: &raw mut pidfd as u64,
            exit_signal: libc::SIGCHLD as u64,
            stack: stack.base as u64 + GUARD as u64,
            stack_size: STACK as u64,
            ..raw::CloneArgs::default()
        };
        // SAFETY: the stack is this thread's own, unused while it is suspended; the caller blocks signals.
        let pid = errno(unsafe { child::vfork(script, args, report) })?;
        // SAFETY: clone3 has stored a new descriptor there.
        let pidfd = unsafe { owned(pidfd) };
        let pid = Pid::from_raw(pid as i32).ok_or(Errno::CHILD)?;
        Ok((pid, pidfd))
    })
}
