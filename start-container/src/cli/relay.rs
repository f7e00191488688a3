//! A process in the foreground: signals passed on, streams relayed, its end awaited.
//!
//! A process in a container never has our own standard streams (see [`super::streams`]): [`output`] and [`input`] stand
//! between. What it wrote before its end is passed on after it, as slowly as it is taken.

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
use crate::error::{Failure, Result};

mod input;
mod kept;
mod output;

use input::Input;
use output::Output;

/// Blocks every signal that is passed on, to be read as they come.
pub(super) fn block_signals() -> Result<SignalFd> {
    let signals: Vec<i32> = Signal::forwardable().map(Signal::as_raw).collect();
    SignalFd::new(&signals).map_err(|errno| Failure::kernel("block signals", "", errno))
}

/// The size of our terminal, if one of our streams is one.
pub(super) fn own_size() -> Option<TerminalSize> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let sizes = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()].map(rustix::termios::tcgetwinsize);
    let size = sizes.into_iter().find_map(std::result::Result::ok)?;
    Some(TerminalSize { rows: size.ws_row, cols: size.ws_col })
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
    /// Its terminal does the line editing and the echo, for its input is ours.
    pub(super) raw: bool,
    /// How long to wait for what it wrote last, after its end. A terminal has it at once; whoever relays may not.
    pub(super) linger: Duration,
}

/// Tells a terminal its size.
pub(super) type Resize = Box<dyn Fn(TerminalSize) -> Result<()>>;

/// How a process ended, and whether all that it wrote got where it should.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    pub(super) lost: Option<Failure>,
}

/// How long the last words of a process may be held up when it was told to end.
const IN_A_HURRY: Duration = Duration::from_secs(1);

/// How long until a terminal is asked again whose turn it is.
const TURN: Duration = Duration::from_millis(200);

impl Foreground<'_> {
    /// Until the process ends and what it wrote is passed on.
    pub(super) fn run(self) -> Result<Ended> {
        let Self {
            process,
            signals,
            ends: Ends { stdout: out, stderr: err, stdin: into, resize, raw: is_raw, linger },
        } = self;
        let raw = if is_raw { RawMode::enter() } else { None };
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let mut outputs =
            [Output::new(out.clone(), stdout.as_fd()), Output::new(err.clone(), stderr.as_fd())];
        for end in [&out, &err, &into].into_iter().flatten() {
            // It is our own end, nobody else's: a side that takes nothing must not keep us from the other.
            rustix::io::ioctl_fionbio(end, true)
                .map_err(|errno| Failure::kernel("relay streams", "", errno))?;
        }
        let mut input = Input::new(stdin.as_fd(), into, is_raw);
        // Whoever is at the other end must hear that we are there no more.
        drop((out, err));
        let (mut outcome, mut told_to_end) = (None, false);
        loop {
            let mut fds = vec![PollFd::new(&signals, PollFlags::IN)];
            if outcome.is_none() {
                fds.push(PollFd::new(&process.pidfd, PollFlags::IN));
            }
            let [first, second] = outputs.each_ref().map(|output| {
                output.wait(&mut fds);
                fds.len()
            });
            if outcome.is_none() {
                input.wait(&mut fds);
            }
            let patience = match &outcome {
                None => input.is_in_background().then_some(TURN),
                // Who takes its last words takes the time that he needs.
                Some(_) if outputs.iter().any(Output::is_held_up) => told_to_end.then_some(IN_A_HURRY),
                // Something that it left behind may keep a stream open: that is not waited for.
                Some(_) => Some(linger),
            };
            let woken = match rustix::event::poll(&mut fds, patience.map(timespec).as_ref()) {
                Err(Errno::INTR) => continue,
                other => other.map_err(|errno| Failure::kernel("wait for process", process.pid, errno))?,
            };
            let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            drop(fds);
            let own = if outcome.is_none() { 2 } else { 1 };
            let (signal, ended) = (!ready[0].is_empty(), own == 2 && !ready[1].is_empty());
            outputs[0].go_on(&ready[own..first]);
            outputs[1].go_on(&ready[first..second]);
            input.go_on(&ready[second..]);
            match &outcome {
                None if signal => told_to_end |= forward(&signals, process, resize.as_ref(), is_raw)?,
                // It has ended, and whoever signals does not want to wait for its last words.
                Some(_) if signal => break,
                Some(_) if woken == 0 || outputs.iter().all(Output::is_over) => break,
                _ => {}
            }
            if ended {
                outcome = process_ended(process)?;
                if outcome.is_some() {
                    input.settle();
                    outputs.iter_mut().for_each(Output::process_ended);
                }
            }
        }
        drop(raw);
        await_reader();
        let lost = outputs.iter().find_map(|output| output.lost);
        let lost = lost.map(|errno| Failure::kernel("pass on output", "", errno));
        Ok(Ended { outcome: outcome.unwrap_or(Outcome::Unknown), lost })
    }
}

fn process_ended(process: &Process) -> Result<Option<Outcome>> {
    match process.try_wait() {
        Ok(outcome) => Ok(outcome),
        // Somebody else's child: only a kernel from 6.15 on tells us.
        Err(Errno::CHILD) => {
            Ok(Some(linux::pidfd::exit_info(&process.pidfd).map_or(Outcome::Unknown, process::outcome)))
        }
        Err(errno) => Err(Failure::kernel("wait for process", process.pid, errno)),
    }
}

/// Passes signals on. Says whether one of them was to end the process.
fn forward(signals: &SignalFd, process: &Process, resize: Option<&Resize>, raw: bool) -> Result<bool> {
    let mut to_end = false;
    while let Some(number) = signals.next().map_err(|errno| Failure::kernel("read signals", "", errno))? {
        let Some(signal) = Signal::from_raw(number) else { continue };
        if signal == Signal::WINCH
            && let (Some(resize), Some(size)) = (resize, own_size())
        {
            resize(size)?;
            if raw {
                // The kernel sends it to whoever is in the foreground of its terminal.
                continue;
            }
        }
        process.signal(signal).map_err(|errno| Failure::kernel("pass on", signal, errno))?;
        to_end |= matches!(signal, Signal::HUP | Signal::INT | Signal::QUIT | Signal::TERM);
    }
    Ok(to_end)
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
