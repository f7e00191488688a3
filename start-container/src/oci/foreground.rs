//! A process in the foreground: signals passed on, its terminal relayed, its end awaited.

use std::os::fd::{AsFd, OwnedFd};

use linux::signal::Signal;
use linux::signalfd::SignalFd;
use linux::spawn::Spawned;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, OutputModes, Termios};

use crate::error::{Failure, Result};

/// Blocks every signal that is passed on, to be read as they come.
pub(super) fn block_signals() -> Result<SignalFd> {
    let signals: Vec<i32> = Signal::forwardable().map(Signal::as_raw).collect();
    SignalFd::new(&signals).map_err(|errno| Failure::kernel("block signals", "", errno))
}

/// Waits for the end of a child and reaps it. Returns its exit code, 128+N for signal N.
pub(super) fn wait(process: Spawned, master: Option<OwnedFd>, signals: &SignalFd) -> Result<u8> {
    let fail = |errno| Failure::kernel("wait for", "container process", errno);
    let _raw = master.as_ref().and_then(|_| RawMode::enter());
    let mut relay = Relay { master, typing: true };
    relay.resize();
    loop {
        let stdin = std::io::stdin();
        let mut fds = vec![PollFd::new(signals, PollFlags::IN), PollFd::new(&process.pidfd, PollFlags::IN)];
        if let Some(master) = &relay.master {
            fds.push(PollFd::new(master, PollFlags::IN));
            if relay.typing {
                fds.push(PollFd::new(&stdin, PollFlags::IN));
            }
        }
        match rustix::event::poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            other => other.map_err(fail)?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        while let Some(number) = signals.next().map_err(fail)? {
            match Signal::from_raw(number) {
                Some(signal) if signal == Signal::WINCH => relay.resize(),
                // It may have ended in this moment.
                Some(signal) => drop(linux::pidfd::send_signal(&process.pidfd, signal)),
                None => {}
            }
        }
        if ready.get(2) == Some(&true) {
            relay.show();
        }
        if ready.get(3) == Some(&true) {
            relay.type_in();
        }
        if ready[1] {
            let status = linux::pidfd::wait(&process.pidfd).map_err(fail)?;
            relay.drain();
            return Ok(status.shell_code());
        }
    }
}

/// A terminal whose output is shown here says the ends of lines as they were written: what is not shown on a terminal has
/// no carriage returns, and a terminal adds its own.
pub(super) fn plain_lines(master: &OwnedFd) -> Result<()> {
    let change = || {
        let mut modes = rustix::termios::tcgetattr(master)?;
        modes.output_modes.remove(OutputModes::ONLCR);
        rustix::termios::tcsetattr(master, OptionalActions::Now, &modes)
    };
    change().map_err(|errno| Failure::kernel("set up", "terminal", errno))
}

struct Relay {
    master: Option<OwnedFd>,
    typing: bool,
}

impl Relay {
    /// Shows what was written. False when there is no more.
    fn show(&mut self) -> bool {
        let Some(master) = &self.master else { return false };
        let mut buffer = [0; 16 * 1024];
        match rustix::io::read(master, &mut buffer) {
            Ok(count @ 1..) => {
                write_all(std::io::stdout(), &buffer[..count]);
                true
            }
            Err(Errno::INTR | Errno::AGAIN) => true,
            // EIO: nobody has the other end open any more.
            _ => {
                self.master = None;
                false
            }
        }
    }

    fn type_in(&mut self) {
        let Some(master) = &self.master else { return };
        let mut buffer = [0; 4096];
        match rustix::io::read(std::io::stdin(), &mut buffer) {
            Ok(count @ 1..) => write_all(master, &buffer[..count]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            _ => {
                self.typing = false;
                // What a terminal takes for the end of the input.
                write_all(master, &[4]);
            }
        }
    }

    /// The last of what was written: it is in the terminal by now.
    fn drain(&mut self) {
        if let Some(master) = &self.master
            && rustix::io::ioctl_fionbio(master, true).is_err()
        {
            return;
        }
        let mut buffer = [0; 16 * 1024];
        while let Some(master) = &self.master {
            match rustix::io::read(master, &mut buffer) {
                Ok(count @ 1..) => write_all(std::io::stdout(), &buffer[..count]),
                Err(Errno::INTR) => {}
                _ => return,
            }
        }
    }

    fn resize(&self) {
        if let Some(master) = &self.master
            && let Ok(size) = rustix::termios::tcgetwinsize(std::io::stdin())
        {
            let _none = rustix::termios::tcsetwinsize(master, size);
        }
    }
}

/// A reader that has gone takes nothing.
fn write_all(to: impl AsFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(&to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Our terminal passes on every key, until this is dropped.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> Option<Self> {
        let before = rustix::termios::tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        // The terminal inside leaves the ends of lines to this one.
        raw.output_modes |= OutputModes::OPOST;
        rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Flush, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _gone = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
    }
}
