//! A started process: its handle, its group, how it ended.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use linux::pidfd::ExitStatus;
use linux::signal::Signal;
use linux::spawn::{FailedStep, Script, SpawnError, Spawned};
use protocol::ErrorKind;
use protocol::process::Outcome;
use rustix::io::Errno;

use super::cgroup::Group;
use super::limits::Kills;
use crate::error::{Failure, Result, kind_of};
use crate::sealed::Sealed;

/// A process that this one started, with everything that it starts in turn.
///
/// Whoever waits for it reaps it. Dropping it neither ends nor reaps it.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) pidfd: Arc<OwnedFd>,
    pub(crate) group: Group,
    /// To tell whether memory ran out, if that is limited.
    pub(crate) kills: Option<Kills>,
}

impl Process {
    /// Starts what `script` says, in `group`, from this process's own memory: hence the proof.
    pub(crate) fn start(_proof: &Sealed, mut script: Script, group: Group) -> Result<Self> {
        script.cgroup = Some(group.handle());
        let Spawned { pid, pidfd } = linux::spawn::spawn(&script).map_err(failure)?;
        Ok(Self { pid: pid.as_raw_nonzero().get(), pidfd: Arc::new(pidfd), group, kills: None })
    }

    /// Sends a signal to this process only. False when it has ended.
    pub(crate) fn signal(&self, signal: Signal) -> std::result::Result<bool, Errno> {
        match linux::pidfd::send_signal(&self.pidfd, signal) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Ends a child that nobody will hear of, and reaps it.
    pub(crate) fn end(&self) {
        // It may have ended by itself.
        let _gone = self.signal(Signal::KILL);
        let _gone = linux::pidfd::wait(&self.pidfd);
    }

    /// How it ended, where it is no child of this process.
    pub(crate) fn foreign_end(&self) -> Outcome {
        let pid = rustix::process::Pid::from_raw(self.pid);
        let outcome = pid.and_then(|pid| linux::pidfd::foreign_end(&self.pidfd, pid)).map(outcome);
        match (&self.kills, outcome) {
            (Some(kills), Some(outcome)) => kills.explain(outcome),
            (_, outcome) => outcome.unwrap_or(Outcome::Unknown),
        }
    }

    /// Reaps it if it has ended.
    pub(crate) fn try_wait(&self) -> std::result::Result<Option<Outcome>, Errno> {
        let outcome = linux::pidfd::try_wait(&self.pidfd)?.map(outcome);
        Ok(match (&self.kills, outcome) {
            (Some(kills), Some(outcome)) => Some(kills.explain(outcome)),
            (_, outcome) => outcome,
        })
    }
}

/// As the wire has it.
pub(crate) fn outcome(status: ExitStatus) -> Outcome {
    match status {
        ExitStatus::Exited(code) => Outcome::Exit { code: i32::from(code) },
        ExitStatus::Signaled { signal, .. } => {
            Outcome::Signal { signal: signal.to_string(), number: signal.as_raw() }
        }
    }
}

/// The exit code that a shell gives an outcome.
pub(crate) fn exit_code(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Exit { code } => *code as u8,
        Outcome::Signal { number, .. } => 128_u8.wrapping_add(*number as u8),
        Outcome::Timeout => 124,
        Outcome::Abort => 130,
        Outcome::OutOfMemory => 137,
        Outcome::Unknown => 125,
    }
}

/// A failed script as the error it means to the one who asked.
pub(crate) fn failure(error: SpawnError) -> Failure {
    match (&error.step, error.errno) {
        (FailedStep::Exec(program), errno) => exec_failure(program, errno),
        (FailedStep::Container, Errno::SRCH | Errno::INVAL) => {
            Failure::new(ErrorKind::NotRunning, "join namespaces", "of a leader that has ended")
                .because(error)
        }
        (FailedStep::Op(step), errno) => Failure::new(kind_of(errno), step.clone(), "").because(errno),
        (FailedStep::Clone | FailedStep::Container, errno) => {
            Failure::new(kind_of(errno), "start process", "").because(error)
        }
        (FailedStep::Descriptors, errno) => {
            Failure::new(kind_of(errno), "set up descriptors", "").because(errno)
        }
    }
}

/// A program that could not be executed: a shell's 127 or 126.
pub(crate) fn exec_failure(program: &str, errno: Errno) -> Failure {
    let kind = match errno {
        Errno::NOENT | Errno::NOTDIR => ErrorKind::CommandNotFound,
        Errno::ACCESS | Errno::NOEXEC | Errno::ISDIR | Errno::PERM | Errno::LOOP | Errno::NAMETOOLONG => {
            ErrorKind::CommandNotExecutable
        }
        errno => kind_of(errno),
    };
    Failure::new(kind, "execute", program).because(errno)
}
