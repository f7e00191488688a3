//! Processes by handle: a pidfd names one process for ever, a number only until it is used again.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::io::{Errno, Result};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

use crate::signal::Signal;
use crate::sys::{check, uninterrupted};

/// How a process ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ExitStatus {
    /// It called `exit` with this code.
    Exited(u8),
    /// A signal ended it.
    Signaled {
        /// Which.
        signal: Signal,
        /// A core was dumped.
        core: bool,
    },
}

impl ExitStatus {
    /// The number that a shell shows for it: the code, or 128 and the signal.
    #[must_use]
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            // Signals end at 64.
            Self::Signaled { signal, .. } => 128 + u8::try_from(signal.as_raw()).unwrap_or(127),
        }
    }

    /// From the word that `wait(2)` gives.
    #[must_use]
    pub fn from_wait_status(status: i32) -> Option<Self> {
        match status & 0x7f {
            0 => u8::try_from((status >> 8) & 0xff).ok().map(Self::Exited),
            0x7f => None,
            signal => {
                Signal::from_raw(signal).map(|signal| Self::Signaled { signal, core: status & 0x80 != 0 })
            }
        }
    }
}

/// A handle of the process `pid`, close-on-exec.
///
/// `int pidfd_open(pid_t pid, unsigned flags)`, Linux 5.3,
/// <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>.
///
/// # Errors
/// `ESRCH` if there is none; `EINVAL` if it is a thread.
pub fn open(pid: Pid) -> Result<OwnedFd> {
    rustix::process::pidfd_open(pid, PidfdFlags::empty())
}

/// Sends a signal. Unlike rustix's, it takes real-time signals too.
///
/// `int pidfd_send_signal(int pidfd, int sig, siginfo_t *info, unsigned flags)`, Linux 5.1,
/// <https://man7.org/linux/man-pages/man2/pidfd_send_signal.2.html>.
///
/// # Errors
/// `ESRCH` if it has been reaped (a zombie takes any signal), `EPERM`.
pub fn send_signal(pidfd: impl AsFd, signal: Signal) -> Result<()> {
    // SAFETY: a null siginfo is as in kill(2); the descriptor is borrowed through the call.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal.as_raw(),
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(returned).map(drop)
}

/// Waits until a child ends, and reaps it.
///
/// `int waitid(P_PIDFD, id_t pidfd, siginfo_t *infop, int options)` with `WEXITED | __WALL`, Linux 5.4,
/// <https://man7.org/linux/man-pages/man2/waitid.2.html>.
///
/// # Errors
/// `ECHILD` if it is no child of ours, or reaped already.
pub fn wait(pidfd: impl AsFd) -> Result<ExitStatus> {
    match wait_id(pidfd, WaitIdOptions::EXITED)? {
        Some(status) => Ok(status),
        // Without WNOHANG the kernel returns an ended child or an error.
        None => Err(Errno::CHILD),
    }
}

/// Reaps a child if it has ended; none while it runs.
///
/// # Errors
/// As [`wait`].
pub fn try_wait(pidfd: impl AsFd) -> Result<Option<ExitStatus>> {
    wait_id(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

/// Whether a process, child or not, has ended or does so within this time. An interrupted wait says no.
#[must_use]
pub fn ends_within(pidfd: impl AsFd, limit: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let pidfd = pidfd.as_fd();
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: limit.subsec_nanos().into() };
    poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0)
}

/// How a child ended, if it has; it stays to be reaped.
///
/// # Errors
/// As [`wait`].
pub fn peek(pidfd: impl AsFd) -> Result<Option<ExitStatus>> {
    wait_id(pidfd, WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)
}

fn wait_id(pidfd: impl AsFd, options: WaitIdOptions) -> Result<Option<ExitStatus>> {
    // __WALL: a child whose exit signal is not SIGCHLD (ours send none) is not found without it.
    let options = options | WaitIdOptions::from_bits_retain(0x4000_0000);
    let status = uninterrupted(|| rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options))?;
    let Some(status) = status else { return Ok(None) };
    if let Some(code) = status.exit_status() {
        // The kernel keeps eight bits of it.
        return Ok(Some(ExitStatus::Exited(u8::try_from(code & 0xff).unwrap_or(u8::MAX))));
    }
    let signal = status.terminating_signal().and_then(Signal::from_raw).ok_or(Errno::INVAL)?;
    Ok(Some(ExitStatus::Signaled { signal, core: status.dumped() }))
}

/// `struct pidfd_info` of `linux/pidfd.h`, version 0.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

const _: () = assert!(size_of::<PidfdInfo>() == 64, "PIDFD_INFO_SIZE_VER0");

const PIDFD_INFO_PID: u64 = 1;
const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xff, 11, struct pidfd_info)`, with the size of version 0.
const PIDFD_GET_INFO: u64 = (3 << 30) | (64 << 16) | (0xff << 8) | 11;

fn get_info(pidfd: impl AsFd, mask: u64) -> Result<PidfdInfo> {
    let mut info = PidfdInfo { mask, ..PidfdInfo::default() };
    // SAFETY: the request's number carries the size of `info`, and the kernel reads and writes no more than that.
    let returned =
        unsafe { libc::syscall(libc::SYS_ioctl, pidfd.as_fd().as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    check(returned)?;
    Ok(info)
}

/// How a process ended that somebody else has reaped; it need not be a child. None while it runs or is a zombie,
/// and where the kernel cannot tell.
///
/// `ioctl(pidfd, PIDFD_GET_INFO, struct pidfd_info *)` with `PIDFD_INFO_EXIT`, Linux 6.15. The handle must have
/// been opened before the process ended.
#[must_use]
pub fn exit_info(pidfd: impl AsFd) -> Option<ExitStatus> {
    let info = get_info(pidfd, PIDFD_INFO_EXIT).ok()?;
    (info.mask & PIDFD_INFO_EXIT != 0).then(|| ExitStatus::from_wait_status(info.exit_code)).flatten()
}

/// How a process that is no child of ours has ended, or `None` when nothing tells. `pidfd` is its handle from before, and
/// `pid` its number then.
///
/// From the handle itself once it is reaped ([`exit_info`], Linux 6.15); until then, on every kernel, from what proc says of
/// a zombie, the last field of `/proc/<pid>/stat`. Between the two there is nothing for a moment, hence the patience.
#[must_use]
pub fn foreign_end(pidfd: impl AsFd, pid: Pid) -> Option<ExitStatus> {
    let pidfd = pidfd.as_fd();
    for _ in 0..100 {
        if let Some(status) = exit_info(pidfd) {
            return Some(status);
        }
        // While the handle can still be signalled, the number is that process's, and a zombie's stays so.
        let is_there = || {
            let returned =
                // SAFETY: signal 0 is none, and the siginfo is null.
                unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), 0, std::ptr::null::<libc::siginfo_t>(), 0) };
            returned == 0
        };
        let code = zombie_code(pid);
        if is_there()
            && let Some(status) = code
        {
            return Some(status);
        }
        if !is_there() && !crate::kernel::Features::get().pidfd_exit_info {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

/// The exit code in `/proc/<pid>/stat`, if that is a zombie's.
fn zombie_code(pid: Pid) -> Option<ExitStatus> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name, in parentheses, may hold anything. The state is field 3, the exit code field 52.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if fields.next()? != "Z" {
        return None;
    }
    ExitStatus::from_wait_status(fields.nth(48)?.parse().ok()?)
}

/// The process's id in our pid namespace; none when it is gone, or not in ours.
///
/// `PIDFD_GET_INFO`, Linux 6.13; before, the `Pid:` line of `/proc/self/fdinfo`.
#[must_use]
pub fn pid(pidfd: impl AsFd) -> Option<Pid> {
    let pidfd = pidfd.as_fd();
    match get_info(pidfd, PIDFD_INFO_PID) {
        Ok(info) => i32::try_from(info.pid).ok().and_then(Pid::from_raw),
        Err(Errno::NOTTY | Errno::INVAL) => {
            let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
            line.trim().parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw)
        }
        Err(_) => None,
    }
}

/// A live process asked for its exit says nothing; a kernel that has never heard of it returns the bit unset in a
/// way that looks the same. `PIDFD_INFO_COREDUMP` and the rest came later, so the bit is looked for where it shows:
/// on a child that is reaped.
pub(crate) fn probe_exit_info() -> bool {
    let Ok((child, _)) = crate::userns::zombie(0) else { return false };
    if wait(&child).is_err() {
        return false;
    }
    exit_info(&child).is_some()
}
