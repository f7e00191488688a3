//! A process in the foreground: signals passed on, terminals relayed, its end awaited.
//!
//! Without a terminal nothing is relayed: the process has our own standard streams.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// Waits, for a tenth of a second at most, until what was written to our standard streams is read, where those are
/// sockets: Node gives its children sockets, and some of its callers take our end for the end of the output.
fn await_reader() {
    let deadline = Instant::now() + Duration::from_millis(100);
    let unread = |fd: BorrowedFd<'_>| {
        let is_socket = rustix::fs::fstat(fd).is_ok_and(|stat| {
            rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Socket
        });
        is_socket && linux::socket::unread_by_peer(fd).is_ok_and(|count| count > 0)
    };
    while (unread(std::io::stdout().as_fd()) || unread(std::io::stderr().as_fd()))
        && Instant::now() < deadline
    {
        std::thread::sleep(Duration::from_micros(200));
    }
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
    pub(super) fn run(self) -> Result<Outcome> {
        let raw = match &self.ends.resize {
            Some(_) => RawMode::enter(),
            None => None,
        };
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let mut flows = [
            Flow::new(self.ends.stdout.clone(), stdout.as_fd()),
            Flow::new(self.ends.stderr.clone(), stderr.as_fd()),
        ];
        let mut typed = Typed::new(stdin.as_fd(), self.ends.stdin.clone(), self.ends.resize.is_some());
        for end in [&self.ends.stdout, &self.ends.stderr, &self.ends.stdin].into_iter().flatten() {
            // It is our own end, nobody else's: a side that takes nothing must not keep us from the other.
            rustix::io::ioctl_fionbio(end, true)
                .map_err(|errno| Failure::kernel("relay streams", "", errno))?;
        }
        let mut outcome = None;
        loop {
            let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
            if outcome.is_none() {
                fds.push(PollFd::new(&self.process.pidfd, PollFlags::IN));
            }
            let running = fds.len();
            let flow_at = [0, 1].map(|i| flows[i].wait(&mut fds));
            let typed_at = if outcome.is_none() { typed.wait(&mut fds) } else { None };
            // Something that it left behind may keep a terminal open: that is not waited for.
            let patience = outcome.as_ref().map(|_| timespec(self.ends.linger));
            let woken = match rustix::event::poll(&mut fds, patience.as_ref()) {
                Err(Errno::INTR) => continue,
                other => {
                    other.map_err(|errno| Failure::kernel("wait for process", self.process.pid, errno))?
                }
            };
            let ready = |at: usize| !fds[at].revents().is_empty();
            let (signal, ended) = (ready(0), outcome.is_none() && ready(running - 1));
            let (flow_ready, typed_ready) =
                (flow_at.map(|at| at.is_some_and(ready)), typed_at.is_some_and(ready));
            drop(fds);
            for (flow, ready) in flows.iter_mut().zip(flow_ready) {
                if ready {
                    flow.go_on();
                }
            }
            if typed_ready {
                typed.go_on();
            }
            match &outcome {
                None if signal => self.forward()?,
                // It has ended, and whoever signals does not want to wait for its last words.
                Some(_) if signal => break,
                Some(_) if woken == 0 || flows.iter().all(Flow::is_over) => break,
                _ => {}
            }
            if ended {
                outcome = self.ended()?;
            }
        }
        drop(raw);
        await_reader();
        Ok(outcome.unwrap_or(Outcome::Unknown))
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

/// Bytes on their way from a process to us. Never waits: what cannot be passed on now is kept, and nothing more read.
struct Flow<'a> {
    from: Option<Arc<OwnedFd>>,
    to: BorrowedFd<'a>,
    kept: Kept,
}

/// Bytes read and not yet written. Few enough that a pipe which says that it takes some takes them all: our own
/// standard streams may be shared with others, so they are never made non-blocking.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    written: usize,
}

const CHUNK: usize = 4096;

impl Kept {
    fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// Reads some. False at the end, or when there will be no more.
    fn fill(&mut self, from: impl AsFd) -> bool {
        self.bytes.resize(CHUNK, 0);
        self.written = 0;
        let read = rustix::io::read(from, &mut self.bytes);
        self.bytes.truncate(*read.as_ref().unwrap_or(&0));
        // EIO: nobody has the other end of the terminal open any more.
        matches!(read, Ok(1..) | Err(Errno::INTR | Errno::AGAIN))
    }

    /// Writes some. False when nobody takes them any more.
    fn empty(&mut self, to: impl AsFd) -> bool {
        match rustix::io::write(to, &self.bytes[self.written..]) {
            Ok(n) => {
                self.written += n;
                true
            }
            Err(errno) => matches!(errno, Errno::INTR | Errno::AGAIN),
        }
    }
}

impl<'a> Flow<'a> {
    fn new(from: Option<Arc<OwnedFd>>, to: BorrowedFd<'a>) -> Self {
        Self { from, to, kept: Kept::default() }
    }

    fn is_over(&self) -> bool {
        self.from.is_none() && self.kept.is_empty()
    }

    /// Adds what it waits for; says where.
    fn wait<'fd>(&'fd self, fds: &mut Vec<PollFd<'fd>>) -> Option<usize> {
        match &self.from {
            _ if !self.kept.is_empty() => fds.push(PollFd::new(&self.to, PollFlags::OUT)),
            Some(from) => fds.push(PollFd::new(from, PollFlags::IN)),
            None => return None,
        }
        Some(fds.len() - 1)
    }

    fn go_on(&mut self) {
        if self.kept.is_empty() {
            if let Some(from) = &self.from
                && !self.kept.fill(from)
            {
                self.from = None;
            }
        } else if !self.kept.empty(self.to) {
            (self.from, self.kept) = (None, Kept::default());
        }
    }
}

/// What is typed, on its way to a process.
struct Typed<'a> {
    from: Option<BorrowedFd<'a>>,
    to: Option<Arc<OwnedFd>>,
    is_terminal: bool,
    in_line: bool,
    kept: Kept,
}

impl<'a> Typed<'a> {
    fn new(from: BorrowedFd<'a>, to: Option<Arc<OwnedFd>>, is_terminal: bool) -> Self {
        Self { from: to.as_ref().map(|_| from), to, is_terminal, in_line: false, kept: Kept::default() }
    }

    fn wait<'fd>(&'fd self, fds: &mut Vec<PollFd<'fd>>) -> Option<usize> {
        match (&self.from, &self.to) {
            (_, Some(to)) if !self.kept.is_empty() => fds.push(PollFd::new(to, PollFlags::OUT)),
            (Some(from), Some(_)) => fds.push(PollFd::new(from, PollFlags::IN)),
            _ => return None,
        }
        Some(fds.len() - 1)
    }

    fn go_on(&mut self) {
        let Some(to) = &self.to else { return };
        if !self.kept.is_empty() {
            if !self.kept.empty(to) {
                (self.from, self.to) = (None, None);
            }
        } else if let Some(from) = self.from {
            let more = self.kept.fill(from);
            self.in_line = self.kept.bytes.last().map_or(self.in_line, |last| *last != b'\n');
            if !more {
                self.from = None;
                self.end();
            }
        }
        if self.from.is_none() && self.kept.is_empty() {
            self.to = None;
        }
    }

    /// A terminal's end of file is Ctrl-D at the beginning of a line; within one it only passes on what is there.
    fn end(&mut self) {
        const END_OF_TRANSMISSION: u8 = 4;
        if self.is_terminal {
            let times = if self.in_line { 2 } else { 1 };
            self.kept = Kept { bytes: vec![END_OF_TRANSMISSION; times], written: 0 };
        }
    }
}

fn timespec(duration: Duration) -> rustix::event::Timespec {
    rustix::event::Timespec {
        tv_sec: duration.as_secs().cast_signed(),
        tv_nsec: duration.subsec_nanos().into(),
    }
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
