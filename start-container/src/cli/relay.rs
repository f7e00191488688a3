//! A process in the foreground: signals passed on, terminals relayed, its end awaited.
//!
//! Without a terminal nothing is relayed: the process has our own standard streams.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

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

/// A process and what connects it to our standard streams, where those are not its own.
pub(super) struct Foreground<'a> {
    pub(super) process: &'a Process,
    pub(super) signals: SignalFd,
    pub(super) ends: Ends,
}

/// Our ends of a process's streams.
#[derive(Default)]
pub(super) struct Ends {
    /// Shown on our standard output.
    pub(super) stdout: Option<Arc<OwnedFd>>,
    /// Shown on our standard error.
    pub(super) stderr: Option<Arc<OwnedFd>>,
    /// Fed from our standard input.
    pub(super) stdin: Option<Arc<OwnedFd>>,
    /// What tells its terminal a new size, if it has one.
    pub(super) resize: Option<Resize>,
    /// How long to wait for what it wrote last, after its end. A terminal has it at once; whoever relays may not.
    pub(super) linger: Duration,
}

/// Tells a terminal its size.
pub(super) type Resize = Box<dyn Fn(TerminalSize) -> Result<()>>;

impl Ends {
    /// Those of a process with a terminal, by its master, and perhaps another for its standard error.
    pub(super) fn of_terminals(terminal: Option<OwnedFd>, stderr: Option<OwnedFd>) -> Self {
        let terminal = terminal.map(Arc::new);
        let resize = terminal.clone().map(|terminal| {
            // The kernel sends SIGWINCH to whoever is in its foreground.
            let resize = move |size| {
                terminal::resize(terminal.as_fd(), size)
                    .map_err(|errno| Failure::kernel("resize terminal", "", errno))
            };
            Box::new(resize) as Resize
        });
        Self {
            stdout: terminal.clone(),
            stderr: stderr.map(Arc::new),
            stdin: terminal,
            resize,
            linger: Duration::ZERO,
        }
    }
}

impl Foreground<'_> {
    /// Until the process ends and what it wrote is passed on.
    pub(super) fn run(mut self) -> Result<Outcome> {
        let raw = match &self.ends.resize {
            Some(_) => RawMode::enter(),
            None => None,
        };
        let outcome = loop {
            let stdin = std::io::stdin();
            let mut fds = vec![
                PollFd::new(&self.signals, PollFlags::IN),
                PollFd::new(&self.process.pidfd, PollFlags::IN),
            ];
            let stdout_at = self.ends.stdout.as_ref().map(|end| add(&mut fds, end));
            let stderr_at = self.ends.stderr.as_ref().map(|end| add(&mut fds, end));
            let stdin_at = self.ends.stdin.as_ref().map(|_| add(&mut fds, &stdin));
            match rustix::event::poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                other => {
                    other.map_err(|errno| Failure::kernel("wait for process", self.process.pid, errno))?
                }
            };
            let ready = |at: Option<usize>| at.is_some_and(|at| !fds[at].revents().is_empty());
            let (signal, ended) = (ready(Some(0)), ready(Some(1)));
            let (stdout, stderr, typed) = (ready(stdout_at), ready(stderr_at), ready(stdin_at));
            drop(fds);
            if signal {
                self.forward()?;
            }
            if stdout && !pass(self.ends.stdout.as_deref(), std::io::stdout().as_fd()) {
                self.ends.stdout = None;
            }
            if stderr && !pass(self.ends.stderr.as_deref(), std::io::stderr().as_fd()) {
                self.ends.stderr = None;
            }
            if typed
                && let Some(end) = &self.ends.stdin
                && !type_in(end, self.ends.resize.is_some())
            {
                self.ends.stdin = None;
            }
            if ended && let Some(outcome) = self.ended()? {
                break outcome;
            }
        };
        // What it wrote last. Something that it left behind may keep a terminal open: that is not waited for.
        drain(self.ends.stdout.as_deref(), std::io::stdout().as_fd(), self.ends.linger);
        drain(self.ends.stderr.as_deref(), std::io::stderr().as_fd(), self.ends.linger);
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
                && let (Some(resize), Some(size)) = (&self.ends.resize, own_size())
            {
                resize(size)?;
                continue;
            }
            self.process.signal(signal).map_err(|errno| Failure::kernel("pass on", signal, errno))?;
        }
        Ok(())
    }
}

fn add<'fd>(fds: &mut Vec<PollFd<'fd>>, fd: &'fd impl AsFd) -> usize {
    fds.push(PollFd::new(fd, PollFlags::IN));
    fds.len() - 1
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

fn drain(from: Option<&OwnedFd>, to: BorrowedFd<'_>, patience: Duration) {
    let Some(from) = from else { return };
    let now = rustix::event::Timespec {
        tv_sec: patience.as_secs().cast_signed(),
        tv_nsec: patience.subsec_nanos().into(),
    };
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

/// Passes on what was typed. False at the end of it, which a process with a terminal sees as Ctrl-D.
fn type_in(to: &OwnedFd, is_terminal: bool) -> bool {
    const END_OF_TRANSMISSION: u8 = 4;
    let mut buffer = [0; 4096];
    match rustix::io::read(std::io::stdin(), &mut buffer) {
        Ok(0) => {
            if is_terminal {
                write_all(to.as_fd(), &[END_OF_TRANSMISSION]);
            }
            false
        }
        Ok(n) => write_all(to.as_fd(), &buffer[..n]),
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
