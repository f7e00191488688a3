//! What a process in a container gets for our standard streams, of which it gets none.
//!
//! A file could be opened again with more rights, a socket connected anew in our network, a pipe read by those who were
//! given it to write, and any of them made non-blocking for everybody else who has it
//! (`docs/decisions/0015-defaults.md`, "Standard streams"). So it gets pipes, which are relayed; terminals of its own
//! in the place of ours; and its own `/dev/null`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use protocol::process::TerminalSize;
use rustix::fs::{Mode, OFlags};
use rustix::termios::{OptionalActions, OutputModes};

use super::relay::{Ends, Resize};
use crate::engine::terminal::{self, Terminal};
use crate::engine::{dev_null, device, pipe};
use crate::error::{Failure, Result};
use crate::subcontainer::Io;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// A terminal, even if ours are none.
    pub(super) terminal: bool,
    /// One for standard error alone.
    pub(super) stderr_terminal: bool,
    pub(super) size: TerminalSize,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Null,
    Terminal,
    Other,
}

fn kind(fd: BorrowedFd<'_>) -> Kind {
    if device::is_null(fd) {
        Kind::Null
    } else if rustix::termios::isatty(fd) {
        Kind::Terminal
    } else {
        Kind::Other
    }
}

/// Whether what is written to one is, in its order, among what is written to the other.
fn are_one(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> bool {
    match (rustix::fs::fstat(a), rustix::fs::fstat(b)) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}

/// What the process gets, and our ends of that. The master of its terminal, if [`Io::terminal`] asks for one, is added
/// to those when there is one.
pub(super) fn open(wanted: &Wanted) -> Result<(Io, Ends)> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let own = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let mut kinds = own.map(kind);
    // By default exactly when ours are terminals.
    let terminal = wanted.terminal || (kinds[0] == Kind::Terminal && kinds[1] == Kind::Terminal);
    let stderr_apart = wanted.stderr_terminal || kinds[2] != Kind::Terminal;
    if wanted.stderr_terminal {
        kinds[2] = Kind::Terminal;
    }
    let null = dev_null()?;
    let mut stdio = [Arc::clone(&null), Arc::clone(&null), null];
    let mut ends = Ends::default();
    if !terminal {
        if kinds[0] != Kind::Null {
            let (read, write) = pipe()?;
            (stdio[0], ends.stdin) = (Arc::new(read), Some(Arc::new(write)));
        }
        (stdio[1], ends.stdout) = output(kinds[1], wanted.size, &stdio[1])?;
        if kinds[1] == Kind::Terminal {
            ends.resize = ends.stdout.clone().map(resize_by);
        }
    }
    let is_one = !terminal && kinds[1] == kinds[2] && are_one(own[1], own[2]);
    if is_one {
        stdio[2] = Arc::clone(&stdio[1]);
    } else if !terminal || stderr_apart {
        (stdio[2], ends.stderr) = output(kinds[2], wanted.size, &stdio[2])?;
        if kinds[2] == Kind::Terminal && ends.resize.is_none() && !terminal {
            ends.resize = ends.stderr.clone().map(resize_by);
        }
    }
    let terminal = terminal.then_some(wanted.size);
    Ok((Io { stdio, terminal, stderr_apart, own: true }, ends))
}

/// What stands for one of our streams that are written to, and our end of that.
fn output(
    kind: Kind,
    size: TerminalSize,
    null: &Arc<OwnedFd>,
) -> Result<(Arc<OwnedFd>, Option<Arc<OwnedFd>>)> {
    let (ours, theirs) = match kind {
        Kind::Null => return Ok((Arc::clone(null), None)),
        // Where there is none to be had, it does without.
        Kind::Terminal => match output_terminal(size) {
            Ok(Terminal { master, slave }) => (master, slave),
            Err(_) => output_pipe()?,
        },
        Kind::Other => output_pipe()?,
    };
    Ok((Arc::new(theirs), Some(Arc::new(ours))))
}

fn output_pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe()?;
    // Fewer changes between writer and reader. The kernel may say no.
    let _small = rustix::pipe::fcntl_setpipe_size(&read, 1 << 20);
    Ok((read, write))
}

/// A terminal that is only written to: what ours does with lines is not done twice.
fn output_terminal(size: TerminalSize) -> Result<Terminal> {
    let fail = |errno| Failure::kernel("open", "/dev/pts", errno);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let devpts = rustix::fs::open("/dev/pts", flags, Mode::empty()).map_err(fail)?;
    let terminal = Terminal::open(devpts.as_fd(), size, 0)?;
    let mut modes = rustix::termios::tcgetattr(&terminal.slave).map_err(fail)?;
    modes.output_modes.remove(OutputModes::OPOST);
    rustix::termios::tcsetattr(&terminal.slave, OptionalActions::Now, &modes).map_err(fail)?;
    Ok(terminal)
}

/// Adds the terminal of a process that has started.
pub(super) fn add_terminal(ends: &mut Ends, master: Option<OwnedFd>) {
    let Some(master) = master.map(Arc::new) else { return };
    ends.resize = Some(resize_by(Arc::clone(&master)));
    ends.raw = true;
    ends.linger = Duration::ZERO;
    (ends.stdin, ends.stdout) = (Some(Arc::clone(&master)), Some(master));
}

fn resize_by(master: Arc<OwnedFd>) -> Resize {
    Box::new(move |size| {
        terminal::resize(master.as_fd(), size).map_err(|errno| Failure::kernel("resize terminal", "", errno))
    })
}
