//! A child of its own memory, which may wait: for points that its maker and it pass together, and to be started.
//!
//! The small program that carries out the script ([`super::Through`]) takes the first steps itself, clones a child that
//! is a copy of it, and is gone. Nothing of this process is ever in the namespaces of the child, and the child does
//! not need this process: what it waits for can come from any other, through a socket.
//!
//! ```text
//! this process            the small program             the child
//!   start ----------------> steps before
//!                           clone (CLONE_PARENT) ------> ops …
//!   <- cloned, its id ------ (ends)                        |
//!   <- sync, point --------------------------------------  |
//!   -- answer ------------------------------------------>  |
//!                                                        descriptors, closed ops …
//!   <- ready --------------------------------------------  | waits for a connection, or for an answer
//!                                                        execve: the conversation ends
//! ```
//! A child that waits for an answer ends when this process does.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::Pid;

use super::bare;
use super::bare::child::{Report, stage};
use super::flat::{self, Descriptors};
use super::{FailedStep, Op, Script, SpawnError, Spawned, carrier, file_of, reap, spawn};

/// How a child is started apart.
#[derive(Clone, Debug)]
pub struct Start {
    /// The small program.
    pub program: Arc<OwnedFd>,
    /// What `/dev/null` is open as.
    pub null: Arc<OwnedFd>,
    /// Steps that the small program takes before it clones: what it joins, the child is born in.
    pub before: Vec<Op>,
    /// A listening `SOCK_SEQPACKET` socket on which the child waits at [`Op::WaitForStart`]; without one, it waits for
    /// [`Child::answer`].
    pub listener: Option<Arc<OwnedFd>>,
}

/// A child on its way. Dropping it ends a child that waits for an answer, or comes to.
#[derive(Debug)]
pub struct Child<'a> {
    script: &'a Script,
    before: Vec<Op>,
    talk: OwnedFd,
    /// The process.
    pub process: Spawned,
    /// What it said before the small program said its id.
    early: Vec<Report>,
}

/// What a child says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Word {
    /// It waits at a point ([`Op::Sync`]) for an answer.
    At(u64),
    /// It waits for an answer with a filter of system calls on, whose listener is for an agent: this descriptor of it.
    Listener(i32),
    /// It waits to be started.
    Ready,
    /// It has become its program, or has been killed.
    Silence,
}

/// Starts what `script` says, as a child of this process. Returns when it has been cloned.
///
/// # Errors
/// The first step that failed.
pub fn start<'a>(script: &'a Script, start: &Start) -> Result<Child<'a>, SpawnError> {
    let (talk, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(SpawnError::descriptors)?;
    let theirs = Arc::new(theirs);
    // Above all that the child moves its own to.
    let first = flat::lowest_free(script).max(5);
    let mut descriptors = Descriptors::From(first, Vec::new());
    let apart = flat::Apart { before: &start.before, report: &theirs, listener: start.listener.as_ref() };
    let words = flat::encode(script, Some(&apart), &mut descriptors).map_err(SpawnError::descriptors)?;
    let mut keep = vec![Arc::clone(&theirs), file_of(&words)?];
    keep.resize_with(first as usize - 3, || Arc::clone(&start.null));
    let args = [c"start-container-starter".to_owned()];
    let starter = carrier(&start.program, &start.null, &args, &words, keep, descriptors);
    let starter = spawn(&starter)?;
    drop(theirs);
    let mut early = Vec::new();
    let cloned = loop {
        match hear(&talk) {
            Some(report) if report.stage == stage::CLONED => break Ok(report.step),
            Some(report) if report.stage == stage::BEFORE || report.stage == stage::CLONE => {
                break Err(failure(script, &start.before, &report));
            }
            Some(report) => early.push(report),
            None => break Err(SpawnError { step: FailedStep::Clone, errno: Errno::CHILD }),
        }
    };
    reap(&starter.pidfd);
    let clone = |errno| SpawnError { step: FailedStep::Clone, errno };
    let pid = Pid::from_raw(cloned? as i32).ok_or(clone(Errno::CHILD))?;
    let pidfd = crate::pidfd::open(pid).map_err(clone)?;
    let process = Spawned { pid, pidfd };
    Ok(Child { script, before: start.before.clone(), talk, process, early })
}

impl Child<'_> {
    /// Waits for what it says next.
    ///
    /// # Errors
    /// The step that failed; the child has been waited for by then.
    pub fn listen(&mut self) -> Result<Word, SpawnError> {
        let report = if self.early.is_empty() { hear(&self.talk) } else { Some(self.early.remove(0)) };
        let Some(report) = report else { return Ok(Word::Silence) };
        match report.stage {
            stage::SYNC => Ok(point(report.step)),
            stage::READY => Ok(Word::Ready),
            _ => {
                reap(&self.process.pidfd);
                Err(failure(self.script, &self.before, &report))
            }
        }
    }

    /// Tells it to go on.
    ///
    /// # Errors
    /// EPIPE when it has ended.
    pub fn answer(&self) -> Result<(), Errno> {
        answer(&self.talk)
    }

    /// The process, left to itself: it waits for a connection, or runs.
    #[must_use]
    pub fn into_process(self) -> Spawned {
        self.process
    }

    /// Ends it, wherever it is, and waits for it.
    pub fn kill(&self) {
        // It may have ended by itself.
        let _ = crate::pidfd::send_signal(&self.process.pidfd, crate::signal::Signal::KILL);
        reap(&self.process.pidfd);
    }
}

/// Tells a child that waits behind a socket, which this process has connected to, to go on.
///
/// # Errors
/// The kernel's.
pub fn answer(socket: impl AsFd) -> Result<(), Errno> {
    let word = 1_u64.to_ne_bytes();
    rustix::net::send(socket, &word, SendFlags::NOSIGNAL).map(drop)
}

/// Waits for what a child that was told to go on through `socket` says next; silence, when it runs its program.
///
/// # Errors
/// The step that failed.
pub fn hear_started(socket: &OwnedFd) -> Result<Word, (FailedStart, Errno)> {
    let Some(report) = hear(socket) else { return Ok(Word::Silence) };
    let step = match report.stage {
        stage::SYNC => return Ok(point(report.step)),
        stage::EXEC => FailedStart::Exec,
        _ => FailedStart::Step(report.step),
    };
    Err((step, Errno::from_raw_os_error(report.errno as i32)))
}

fn point(step: u64) -> Word {
    if step & 0xff == bare::talk::LISTENER { Word::Listener((step >> 8) as i32) } else { Word::At(step) }
}

/// A copy of a descriptor of another process. `pidfd_getfd(2)`, Linux 5.6.
///
/// # Errors
/// `EPERM` without `CAP_SYS_PTRACE` over it, `EBADF`, `ESRCH`.
pub fn copy_descriptor(process: impl AsFd, number: i32) -> Result<OwnedFd, Errno> {
    rustix::process::pidfd_getfd(process, number, rustix::process::PidfdGetfdFlags::empty())
}

/// What failed after a child was told to go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FailedStart {
    /// A step, by its number among the closed ones.
    Step(u64),
    /// `execve`.
    Exec,
}

fn failure(script: &Script, before: &[Op], report: &Report) -> SpawnError {
    let errno = Errno::from_raw_os_error(report.errno as i32);
    if report.stage == stage::BEFORE {
        let step = before.get(report.step as usize).map_or_else(String::new, ToString::to_string);
        return SpawnError { step: FailedStep::Op(step), errno };
    }
    script.failure(report).unwrap_or(SpawnError { step: FailedStep::Clone, errno })
}

/// One message; none when there will be no more.
fn hear(socket: &OwnedFd) -> Option<Report> {
    let mut bytes = [0; 24];
    let (count, _) =
        rustix::io::retry_on_intr(|| rustix::net::recv(socket, &mut bytes[..], RecvFlags::empty())).ok()?;
    if count != bytes.len() {
        return None;
    }
    let (words, _) = bytes.as_chunks::<8>();
    let [stage, step, errno] = [0, 1, 2].map(|i| u64::from_ne_bytes(words[i]));
    Some(Report { stage, step, errno })
}
