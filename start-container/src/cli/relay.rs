//! A process in the foreground: signals passed on, terminals relayed, its end awaited.
//!
//! Without a terminal nothing is relayed: the process has our own standard streams.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use linux::signal::Signal;
use linux::signalfd::SignalFd;
use protocol::process::{Outcome, TerminalSize};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios};

use crate::engine::process::{self, Process};
use crate::engine::terminal::{self, Terminal};
use crate::error::{Failure, Result};
use crate::subcontainer::Io;

/// Blocks every signal that is passed on, to be read as they come.
pub(super) fn block_signals() -> Result<SignalFd> {
    let signals: Vec<i32> = Signal::forwardable().map(Signal::as_raw).collect();
    SignalFd::new(&signals).map_err(|errno| Failure::kernel("block signals", "", errno))
}

/// The size of our terminal, if we have one.
pub(super) fn own_size() -> Option<TerminalSize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdin()).ok()?;
    Some(TerminalSize { rows: size.ws_row, cols: size.ws_col })
}

/// A terminal for standard error alone, when one is asked for.
pub(super) fn stderr_terminal(mut io: Io, wanted: bool, size: TerminalSize) -> Result<(Io, Option<OwnedFd>)> {
    if !wanted {
        return Ok((io, None));
    }
    let fail = |errno| Failure::kernel("open", "/dev/pts", errno);
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let devpts = rustix::fs::open("/dev/pts", flags, rustix::fs::Mode::empty()).map_err(fail)?;
    let Terminal { master, slave } = Terminal::open(devpts.as_fd(), size, 0)?;
    io.stdio[2] = Arc::new(slave);
    io.stderr_apart = true;
    Ok((io, Some(master)))
}

/// A process and what connects it to our terminal.
pub(super) struct Foreground<'a> {
    pub(super) process: &'a Process,
    pub(super) signals: SignalFd,
    /// Our end of its terminal.
    pub(super) terminal: Option<OwnedFd>,
    /// Our end of the terminal that is its standard error.
    pub(super) stderr: Option<OwnedFd>,
}

impl Foreground<'_> {
    /// Until the process ends and what it wrote is passed on.
    pub(super) fn run(mut self) -> Result<Outcome> {
        let raw = match &self.terminal {
            Some(_) => RawMode::enter(),
            None => None,
        };
        let mut stdin_open = self.terminal.is_some();
        let outcome = loop {
            let stdin = std::io::stdin();
            let mut fds = vec![
                PollFd::new(&self.signals, PollFlags::IN),
                PollFd::new(&self.process.pidfd, PollFlags::IN),
            ];
            let terminal_at = self.terminal.as_ref().map(|terminal| {
                fds.push(PollFd::new(terminal, PollFlags::IN));
                fds.len() - 1
            });
            let stderr_at = self.stderr.as_ref().map(|stderr| {
                fds.push(PollFd::new(stderr, PollFlags::IN));
                fds.len() - 1
            });
            let stdin_at = stdin_open.then(|| {
                fds.push(PollFd::new(&stdin, PollFlags::IN));
                fds.len() - 1
            });
            match rustix::event::poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                other => {
                    other.map_err(|errno| Failure::kernel("wait for process", self.process.pid, errno))?
                }
            };
            let ready = |at: Option<usize>| at.is_some_and(|at| !fds[at].revents().is_empty());
            let (signal, ended) = (ready(Some(0)), ready(Some(1)));
            let (from_terminal, from_stderr, from_stdin) =
                (ready(terminal_at), ready(stderr_at), ready(stdin_at));
            drop(fds);
            if signal {
                self.forward()?;
            }
            if from_terminal && !pass(self.terminal.as_ref(), std::io::stdout().as_fd()) {
                self.terminal = None;
                stdin_open = false;
            }
            if from_stderr && !pass(self.stderr.as_ref(), std::io::stderr().as_fd()) {
                self.stderr = None;
            }
            if from_stdin && let Some(terminal) = &self.terminal {
                stdin_open = type_in(terminal);
            }
            if ended && let Some(outcome) = self.ended()? {
                break outcome;
            }
        };
        // What it wrote last. Something that it left behind may keep the terminal open: that is not waited for.
        drain(self.terminal.as_ref(), std::io::stdout().as_fd());
        drain(self.stderr.as_ref(), std::io::stderr().as_fd());
        drop(raw);
        Ok(outcome)
    }

    fn ended(&self) -> Result<Option<Outcome>> {
        match self.process.try_wait() {
            Ok(outcome) => Ok(outcome),
            // Somebody else's child: only a kernel from 6.15 on tells us.
            Err(Errno::CHILD) => Ok(Some(
                linux::pidfd::exit_info(&self.process.pidfd).map_or(Outcome::Unknown, process::outcome),
            )),
            Err(errno) => Err(Failure::kernel("wait for process", self.process.pid, errno)),
        }
    }

    fn forward(&self) -> Result<()> {
        while let Some(number) =
            self.signals.next().map_err(|errno| Failure::kernel("read signals", "", errno))?
        {
            let Some(signal) = Signal::from_raw(number) else { continue };
            if signal == Signal::WINCH
                && let (Some(terminal), Some(size)) = (&self.terminal, own_size())
            {
                // The kernel sends SIGWINCH to whoever is in its foreground.
                terminal::resize(terminal.as_fd(), size)
                    .map_err(|errno| Failure::kernel("resize terminal", "", errno))?;
                continue;
            }
            self.process.signal(signal).map_err(|errno| Failure::kernel("pass on", signal, errno))?;
        }
        Ok(())
    }
}

/// Passes on what can be read now. False at the end.
fn pass(from: Option<&OwnedFd>, to: BorrowedFd<'_>) -> bool {
    let Some(from) = from else { return false };
    let mut buffer = [0; 16 * 1024];
    match rustix::io::read(from, &mut buffer) {
        Ok(0) => false,
        Ok(n) => write_all(to, &buffer[..n]),
        // EIO: nobody has the other end of the terminal open any more.
        Err(errno) => matches!(errno, Errno::INTR | Errno::AGAIN),
    }
}

fn drain(from: Option<&OwnedFd>, to: BorrowedFd<'_>) {
    let Some(from) = from else { return };
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        let mut fds = [PollFd::new(from, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&now)) {
            Ok(1) if fds[0].revents().contains(PollFlags::IN) => {}
            _ => return,
        }
        if !pass(Some(from), to) {
            return;
        }
    }
}

/// Passes on what was typed. False at the end of it, which the process sees as Ctrl-D.
fn type_in(terminal: &OwnedFd) -> bool {
    const END_OF_TRANSMISSION: u8 = 4;
    let mut buffer = [0; 4096];
    match rustix::io::read(std::io::stdin(), &mut buffer) {
        Ok(0) => {
            write_all(terminal.as_fd(), &[END_OF_TRANSMISSION]);
            false
        }
        Ok(n) => write_all(terminal.as_fd(), &buffer[..n]),
        Err(errno) => errno == Errno::INTR,
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::new(&to, PollFlags::OUT)];
                let _interrupted = rustix::event::poll(&mut fds, None);
            }
            Err(_) => return false,
        }
    }
    true
}

/// Our terminal without line editing and echo: the other one does that. Put back when dropped.
struct RawMode {
    before: Termios,
}

impl RawMode {
    fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = rustix::termios::tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may have gone.
        let _gone = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}
