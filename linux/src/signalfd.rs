//! `signalfd(2)`: signals as something to poll.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// Signals of this process, read one at a time.
///
/// Making one blocks the signals for the calling thread and every thread it starts later; the program is expected
/// to do so first thing in `main`. They stay blocked when it is dropped.
#[derive(Debug)]
pub struct SignalFd {
    fd: OwnedFd,
}

impl SignalFd {
    /// Blocks `signals` (numbers) and opens a non-blocking, close-on-exec descriptor for them.
    ///
    /// # Errors
    /// When the kernel has no descriptor left.
    pub fn new(signals: &[i32]) -> Result<Self, Errno> {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set; the other calls read or change a set that is initialised.
        let raw = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for &signal in signals {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
            libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if raw < 0 {
            return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
        }
        // SAFETY: signalfd has just returned it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(raw) } })
    }

    /// The next signal's number, or `None` when there is none now.
    ///
    /// # Errors
    /// Never for a descriptor that [`SignalFd::new`] made, short of a fault of the kernel.
    pub fn next(&self) -> Result<Option<i32>, Errno> {
        let mut buffer = [0_u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.fd, &mut buffer) {
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno),
            // ssi_signo is the first field.
            Ok(_) => Ok(Some(i32::from_ne_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]))),
        }
    }
}

impl std::os::fd::AsFd for SignalFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for SignalFd {
    fn as_raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}
