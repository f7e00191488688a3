//! What surrounds the clone in the parent: signals, namespaces, the stack.

use std::cell::RefCell;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::process::Pid;

use super::bare::child::{self, Report};
use super::bare::script::{CONTAINERS, Flat};
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

/// The signals that this process ignores, bit 0 for signal 1: those that it was started with, and Rust's SIGPIPE. Whoever
/// ignores another one does so before the first child.
pub(super) fn ignored_signals() -> u64 {
    static IGNORED: OnceLock<u64> = OnceLock::new();
    *IGNORED.get_or_init(|| {
        (1..=64_usize).filter(|signal| is_ignored(*signal)).fold(0, |all, signal| all | 1 << (signal - 1))
    })
}

fn is_ignored(signal: usize) -> bool {
    // `struct sigaction` of the kernel: what is done comes first.
    let mut now = [0_usize; 4];
    let args = [signal, 0, now.as_mut_ptr() as usize, 8];
    // SAFETY: the last but one points to 32 bytes, the size of the kernel's `struct sigaction`.
    let asked = unsafe { raw::call(nr::RT_SIGACTION, args) };
    asked.is_ok() && now[0] == libc::SIG_IGN
}

/// What is entered of a container.
pub(super) const CONTAINER: usize = CONTAINERS;
/// A mount namespace alone.
pub(super) const MOUNTS: usize = super::new::MOUNT as usize;

/// This thread is in other namespaces, and its next children belong there, until this is dropped.
pub(super) struct Abroad {
    namespaces: usize,
}

/// This process, whose namespaces are those of all its threads.
fn home() -> Result<&'static OwnedFd, Errno> {
    static HOME: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(home) = HOME.get() {
        return Ok(home);
    }
    let home = crate::pidfd::open(rustix::process::getpid())?;
    Ok(HOME.get_or_init(|| home))
}

impl Abroad {
    pub(super) fn enter(target: BorrowedFd<'_>, namespaces: usize) -> Result<Self, Errno> {
        home()?;
        // A thread that shares root and working directory with others cannot change its mount namespace. Once it has
        // its own, this costs nothing.
        crate::process::unshare(rustix::thread::UnshareFlags::FS)?;
        setns(target.as_raw_fd(), namespaces)?;
        Ok(Self { namespaces })
    }
}

impl Drop for Abroad {
    fn drop(&mut self) {
        // One's own namespaces can always be returned to. A thread that could not must not serve anybody else.
        let back = home().and_then(|home| setns(home.as_raw_fd(), self.namespaces));
        if back.is_err() {
            std::process::abort();
        }
    }
}

fn setns(fd: i32, flags: usize) -> Result<(), Errno> {
    // SAFETY: no pointers.
    errno(unsafe { raw::call(nr::SETNS, [fd as usize, flags]) }).map(drop)
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
/// The largest page that an architecture has.
const GUARD: usize = 64 * 1024;

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
