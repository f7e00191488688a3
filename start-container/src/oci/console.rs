//! Terminals: whose devpts, who gets the master, what standard streams belong to.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use oci_spec::runtime::{Process, Spec};
use protocol::ErrorKind;
use protocol::process::TerminalSize;
use rustix::fs::{Mode, OFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::config::invalid;
use crate::engine::compile::options::extents;
use crate::engine::compile::{self, bundle};
use crate::engine::terminal::Terminal;
use crate::error::{Failure, Result};

/// Standard streams of a process to be, and our end of its terminal.
pub(super) struct Streams {
    pub(super) stdio: [Arc<OwnedFd>; 3],
    pub(super) master: Option<OwnedFd>,
    /// For the container's console.
    pub(super) terminal: Option<bundle::Terminal>,
}

/// Whether a process can have a terminal, as it was asked for.
pub(super) fn check(process: &Process, socket: Option<&Path>, detached: bool) -> Result<()> {
    match (process.terminal() == Some(true), socket, detached) {
        (true, None, true) => {
            Err(invalid("process.terminal", "needs --console-socket when nobody stays with the container"))
        }
        (false, Some(_), _) => Err(invalid("process.terminal", "is false, but there is a --console-socket")),
        _ => Ok(()),
    }
}

/// The streams of a container's first process.
pub(super) fn of_container(spec: &Spec, process: &Process) -> Result<Streams> {
    if process.terminal() != Some(true) {
        return Ok(Streams { stdio: own(process, spec)?, master: None, terminal: None });
    }
    let devpts = match bundle_devpts(spec) {
        true => compile::devpts(spec, false)?,
        false => None,
    };
    let owner = owner(process, spec);
    let (opened, devpts) = match devpts {
        Some(devpts) => {
            // Opened through the mount that the container gets.
            let terminal = Terminal::open(devpts.as_fd(), size(process), owner)?;
            (terminal, Some(Arc::new(devpts)))
        }
        None => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let devpts = rustix::fs::open("/dev/pts", flags, Mode::empty())
                .map_err(|errno| Failure::kernel("open", "/dev/pts", errno))?;
            (Terminal::open(devpts.as_fd(), size(process), owner)?, None)
        }
    };
    let number = number(opened.slave.as_fd())?;
    let slave = Arc::new(opened.slave);
    let stdio = [Arc::clone(&slave), Arc::clone(&slave), slave];
    Ok(Streams { stdio, master: Some(opened.master), terminal: Some(bundle::Terminal { devpts, number }) })
}

/// The streams of a further process, in the container whose root this is.
pub(super) fn of_command(root: BorrowedFd<'_>, spec: &Spec, process: &Process) -> Result<Streams> {
    if process.terminal() != Some(true) {
        return Ok(Streams { stdio: own(process, spec)?, master: None, terminal: None });
    }
    let Terminal { master, slave } = Terminal::open_in(root, size(process), owner(process, spec))?;
    let slave = Arc::new(slave);
    let stdio = [Arc::clone(&slave), Arc::clone(&slave), slave];
    Ok(Streams { stdio, master: Some(master), terminal: None })
}

fn bundle_devpts(spec: &Spec) -> bool {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let last = mounts.iter().rfind(|mount| mount.destination() == Path::new("/dev/pts"));
    last.is_some_and(|mount| mount.typ().as_deref() == Some("devpts"))
}

fn size(process: &Process) -> TerminalSize {
    let asked = process.console_size();
    let cells = |count: u64| u16::try_from(count).unwrap_or(u16::MAX);
    match asked {
        Some(size) => TerminalSize { rows: cells(size.height()), cols: cells(size.width()) },
        None => TerminalSize { rows: 0, cols: 0 },
    }
}

/// The machine's id of the process's user.
fn owner(process: &Process, spec: &Spec) -> u32 {
    let mappings = spec.linux().as_ref().and_then(|linux| linux.uid_mappings().as_deref());
    compile::outside(&extents(mappings), process.user().uid())
}

/// The number of a terminal in its devpts.
fn number(slave: BorrowedFd<'_>) -> Result<u32> {
    let stat = rustix::fs::fstat(slave).map_err(|errno| Failure::kernel("open terminal", "", errno))?;
    Ok(rustix::fs::minor(stat.st_rdev))
}

/// Our own, given to the process's user, so that `/dev/stdout` can be opened.
pub(super) fn own(process: &Process, spec: &Spec) -> Result<[Arc<OwnedFd>; 3]> {
    let owner = owner(process, spec);
    let null = rustix::fs::stat("/dev/null").map(|stat| stat.st_rdev).unwrap_or(0);
    let copy = |fd: BorrowedFd<'_>| -> Result<Arc<OwnedFd>> {
        let copy = match rustix::io::fcntl_dupfd_cloexec(fd, 3) {
            // An engine may have closed it.
            Err(rustix::io::Errno::BADF) => return crate::engine::dev_null(),
            other => other.map_err(|errno| Failure::kernel("copy standard stream", "", errno))?,
        };
        let stat = rustix::fs::fstat(&copy)
            .map_err(|errno| Failure::kernel("look at standard stream", "", errno))?;
        if stat.st_rdev != null && stat.st_uid != owner {
            // Not every kind can be given, and the process may do without.
            let _kept = rustix::fs::fchown(&copy, Some(rustix::fs::Uid::from_raw(owner)), None);
        }
        Ok(Arc::new(copy))
    };
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    Ok([copy(stdin.as_fd())?, copy(stdout.as_fd())?, copy(stderr.as_fd())?])
}

/// Sends a descriptor to whoever listens at a path.
pub(super) fn send(path: &Path, fd: BorrowedFd<'_>, what: &str) -> Result<()> {
    let fail = |error: std::io::Error| {
        Failure::new(ErrorKind::Kernel, format!("send {what} to"), path.display()).because(error)
    };
    let socket = UnixStream::connect(path).map_err(fail)?;
    pass(&socket, fd, what.as_bytes()).map_err(|errno| fail(errno.into()))
}

/// Sends a descriptor with a message.
pub(super) fn pass(
    socket: &impl AsFd,
    fd: BorrowedFd<'_>,
    message: &[u8],
) -> std::result::Result<(), rustix::io::Errno> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let message = [std::io::IoSlice::new(message)];
    rustix::net::sendmsg(socket, &message, &mut control, SendFlags::NOSIGNAL).map(drop)
}
