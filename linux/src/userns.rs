//! User namespaces that nobody lives in: they exist to carry an id map.
//!
//! ```text
//! us                                 child
//!   clone3(NEWUSER|VM|VFORK|PIDFD) --> exit(0), in the very next instruction
//!   write uid_map, gid_map             a zombie: its credentials, and so its namespace, stay
//!   open ns/user
//!   wait ----------------------------> gone
//! ```
//!
//! The zombie is all that is needed, so there is nothing to wait for and nothing to kill; and because the child
//! shares our memory until it is gone, there is no page table to copy. The namespace lives as long as the
//! descriptor (and any mount that uses it).

use std::fmt::Write as _;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::process::Pid;

use crate::proc::Procfs;
use crate::spawn::bare::raw::CloneArgs;

/// One line of `uid_map` or `gid_map`: `count` ids from `inside` on are those from `outside` on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Extent {
    /// First id inside the namespace. For an id-mapped mount: as stored in the file system.
    pub inside: u32,
    /// First id outside. For an id-mapped mount: as seen through it.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Lines that the kernel takes in one map (`UID_GID_MAP_MAX_EXTENTS`, Linux 4.15). The text must also be shorter
/// than a page, see [`fits`].
pub const MAX_EXTENTS: usize = 340;

/// A user namespace with these maps, for `mount_setattr`'s `MOUNT_ATTR_IDMAP` or for `setns`.
///
/// It costs about as much as a `vfork`; a caller who needs the same maps again keeps the descriptor.
///
/// # Errors
/// `EINVAL` for maps that the kernel refuses (overlaps, more than fits), `EPERM` without `CAP_SETUID` and
/// `CAP_SETGID`, `ENOSPC` at `user.max_user_namespaces`.
pub fn idmap_namespace(uid: &[Extent], gid: &[Extent]) -> Result<OwnedFd> {
    let (uid, gid) = (text(uid), text(gid));
    let (child, pid) = zombie(CLONE_NEWUSER)?;
    let namespace = set_up(pid, uid.as_bytes(), gid.as_bytes());
    // Whatever came of it, the zombie goes. It is ours alone to reap: its exit signal is none, so that neither a
    // SIGCHLD handler nor a plain wait() elsewhere in the process sees it.
    crate::pidfd::wait(&child)?;
    namespace
}

/// As [`idmap_namespace`], for processes to live in: it belongs to the user `owner`, who is charged for what they use of
/// the kernel's per-user limits (inotify instances for one), rather than root.
///
/// # Errors
/// As [`idmap_namespace`].
pub fn owned_namespace(uid: &[Extent], gid: &[Extent], owner: u32) -> Result<OwnedFd> {
    let (uid, gid) = (text(uid), text(gid));
    let (child, pid) = {
        let _user = Effective::new(owner)?;
        zombie(CLONE_NEWUSER)?
    };
    let namespace = set_up(pid, uid.as_bytes(), gid.as_bytes());
    crate::pidfd::wait(&child)?;
    namespace
}

/// The calling thread's effective user is another until this is dropped.
///
/// `setresuid(2)` as the kernel has it, for one thread; libc's changes all. Real and saved id stay root's, so the way
/// back is open, and with it the capabilities come back.
struct Effective(());

impl Effective {
    fn new(id: u32) -> Result<Self> {
        Self::set(id).map(|()| Self(()))
    }

    fn set(id: u32) -> Result<()> {
        const KEEP: libc::c_long = -1;
        // SAFETY: no pointers; only this thread's credentials change.
        let returned = unsafe { libc::syscall(libc::SYS_setresuid, KEEP, libc::c_long::from(id), KEEP) };
        crate::sys::check(returned).map(drop)
    }
}

impl Drop for Effective {
    fn drop(&mut self) {
        // Always allowed. A thread that could not go back must not serve anybody else.
        if Self::set(0).is_err() {
            std::process::abort();
        }
    }
}

/// Whether a map's text is short enough for the kernel, which takes it in one write of less than a page.
#[must_use]
pub fn fits(map: &[Extent]) -> bool {
    map.len() <= MAX_EXTENTS && text(map).len() < rustix::param::page_size()
}

fn text(map: &[Extent]) -> String {
    let mut text = String::with_capacity(map.len() * 32);
    for Extent { inside, outside, count } in map {
        // Writing to a String cannot fail.
        _ = writeln!(text, "{inside} {outside} {count}");
    }
    text
}

fn set_up(pid: Pid, uid: &[u8], gid: &[u8]) -> Result<OwnedFd> {
    let proc = Procfs::shared()?;
    let directory = proc.process(pid)?;
    for (name, map) in [("uid_map", uid), ("gid_map", gid)] {
        let file = crate::resolve::beneath_no_links(
            &directory,
            name,
            OFlags::WRONLY | OFlags::NOCTTY,
            Mode::empty(),
        )?;
        // The kernel takes a map in one write or not at all.
        if rustix::io::write(&file, map)? != map.len() {
            return Err(Errno::INVAL);
        }
    }
    proc.open_magic(directory.as_fd(), "ns", "user", OFlags::RDONLY)
}

const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_VM: u64 = 0x100;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// A child that has already exited with 0 and waits to be reaped through its pidfd, which is the only way to.
///
/// `long clone3(struct clone_args *cl_args, size_t size)`, Linux 5.3; `CLONE_CLEAR_SIGHAND` since 5.5,
/// <https://man7.org/linux/man-pages/man2/clone3.2.html>.
pub(crate) fn zombie(flags: u64) -> Result<(OwnedFd, Pid)> {
    let mut pidfd: i32 = -1;
    let args = CloneArgs {
        flags: flags | CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd) as u64,
        ..CloneArgs::default()
    };
    let returned = clone3_and_exit(&args);
    let number = i32::try_from(returned).map_err(|_| Errno::INVAL)?;
    if number < 0 {
        return Err(Errno::from_raw_os_error(-number));
    }
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so the kernel stored a new descriptor, which is ours alone.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = Pid::from_raw(number).ok_or(Errno::CHILD)?;
    Ok((pidfd, pid))
}

#[cfg(target_arch = "x86_64")]
fn clone3_and_exit(args: &CloneArgs) -> i64 {
    let returned: i64;
    // SAFETY: `args` is a clone_args of the size passed, and asks for no new stack. The child runs on our stack
    // while we are suspended (CLONE_VFORK), but only in these instructions, which touch neither stack nor memory
    // and end in exit; signal handlers are reset (CLONE_CLEAR_SIGHAND), so none runs there either. The registers
    // that the child changes are its own. The kernel writes the pidfd through `args.pidfd`: hence no `readonly`.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor edi, edi",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "2:",
            exit = const libc::SYS_exit,
            inlateout("rax") libc::SYS_clone3 => returned,
            in("rdi") std::ptr::from_ref(args),
            in("rsi") size_of::<CloneArgs>(),
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    returned
}

#[cfg(target_arch = "aarch64")]
fn clone3_and_exit(args: &CloneArgs) -> i64 {
    let returned: i64;
    // SAFETY: as for x86-64.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x8, {exit}",
            "svc 0",
            "brk 1",
            "2:",
            exit = const libc::SYS_exit,
            inlateout("x0") std::ptr::from_ref(args) => returned,
            in("x1") size_of::<CloneArgs>(),
            inlateout("x8") libc::SYS_clone3 => _,
            options(nostack),
        );
    }
    returned
}
