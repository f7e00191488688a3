//! Starting a process by script.
//!
//! A [`Script`] is a list of kernel calls, prepared to the last byte by the parent, that a child applies between
//! `clone3` and `execve`. The child shares the parent's memory (`CLONE_VM | CLONE_VFORK`, as `posix_spawn`
//! does): there is no page table to copy, and a failing step is reported by writing its number and errno to the
//! parent's memory, so no pipe is needed and success means that `execve` has happened.
//!
//! ```text
//! parent thread                           child (own descriptor table, own fs, own credentials)
//!   block signals
//!   setns(pid namespace)?                   (a thread's own children only)
//!   clone3 ------------------------------>  ops[0] … ops[n]
//!   (suspended)                             close_range(3..)
//!        <------------------------------    execve, or {step, errno} written and _exit
//!   restore pid namespace and signals
//! ```
//!
//! The child allocates nothing, takes no lock and calls nothing of libc: only the system calls of `ops`.
//! It never decides: what to do on an absent path is said in the script.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::Pid;

mod clone;
mod ops;
mod raw;

pub use ops::{Capabilities, Credentials, Mounted, Op};

/// Namespaces that the child gets anew, as `clone(2)` numbers them.
pub mod new {
    /// Mount namespace.
    pub const MOUNT: u64 = 0x0002_0000;
    /// Cgroup namespace.
    pub const CGROUP: u64 = 0x0200_0000;
    /// Host and domain name.
    pub const UTS: u64 = 0x0400_0000;
    /// System V IPC and POSIX message queues.
    pub const IPC: u64 = 0x0800_0000;
    /// Process ids: the child is PID 1 in it.
    pub const PID: u64 = 0x2000_0000;
    /// Network.
    pub const NET: u64 = 0x4000_0000;
}

/// The program that a script ends in.
#[derive(Clone, Debug)]
pub enum Program {
    /// The first of these paths that can be executed, as a shell tries the directories of `PATH`.
    Candidates(Vec<CString>),
    /// An open file, by `execveat(2)` with `AT_EMPTY_PATH`. It must be close-on-exec.
    File(Arc<OwnedFd>),
}

/// What a child does between `clone3` and `execve`. Built by the parent; used once or often.
#[derive(Clone, Debug)]
pub struct Script {
    /// Namespaces made for the child: a union of [`new`].
    pub namespaces: u64,
    /// Become a child of the pid namespace of this process (a pidfd).
    pub pid_namespace: Option<Arc<OwnedFd>>,
    /// The cgroup (v2 directory) that the child starts in.
    pub cgroup: Option<Arc<OwnedFd>>,
    /// The steps, in order.
    pub ops: Vec<Op>,
    /// Standard input, output and error. Each becomes the child's own copy.
    pub stdio: [Arc<OwnedFd>; 3],
    /// Descriptors that the program keeps, as 3, 4, …
    pub keep: Vec<Arc<OwnedFd>>,
    /// Steps after every inherited descriptor beyond `stdio` and `keep` is closed.
    pub closed_ops: Vec<Op>,
    /// The program.
    pub program: Program,
    /// Its arguments, its own name first.
    pub argv: Vec<CString>,
    /// Its whole environment.
    pub envp: Vec<CString>,
}

/// A process that [`spawn`] started. The caller reaps it through the pidfd.
#[derive(Debug)]
pub struct Spawned {
    /// Its id in the caller's pid namespace.
    pub pid: Pid,
    /// The handle to wait on and send signals through.
    pub pidfd: OwnedFd,
}

/// Which step of a script failed, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SpawnError {
    /// The step.
    pub step: FailedStep,
    /// The kernel's reason.
    pub errno: Errno,
}

/// The step that failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FailedStep {
    /// Joining the pid namespace, in the parent.
    PidNamespace,
    /// `clone3` itself.
    Clone,
    /// An [`Op`], as it describes itself.
    Op(String),
    /// Setting up standard streams and closing inherited descriptors.
    Descriptors,
    /// `execve`: the program.
    Exec(String),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.step {
            FailedStep::PidNamespace => write!(f, "join pid namespace")?,
            FailedStep::Clone => write!(f, "clone process")?,
            FailedStep::Op(op) => write!(f, "{op}")?,
            FailedStep::Descriptors => write!(f, "set up descriptors")?,
            FailedStep::Exec(program) => write!(f, "execute {program}")?,
        }
        write!(f, ": {}", self.errno)
    }
}

impl std::error::Error for SpawnError {}

/// Applies `script` in a new process and returns once that process runs its program.
///
/// Safe to call from any thread of a multi-threaded program; only the calling thread waits. The new process is a
/// child of this process (any thread may reap it) and is not sent a signal when the calling thread ends, unless
/// the script holds [`Op::DeathSignal`].
///
/// Kernel: 5.7 (`CLONE_INTO_CGROUP`), `setns(2)` on a pidfd 5.8, `close_range(2)` 5.9.
///
/// # Errors
/// The first step that failed; the child is gone by then.
pub fn spawn(script: &Script) -> Result<Spawned, SpawnError> {
    let prepared = match Prepared::new(script) {
        Ok(prepared) => prepared,
        Err(errno) => return Err(SpawnError { step: FailedStep::Descriptors, errno }),
    };
    let signals = clone::BlockedSignals::new();
    let own = match &script.pid_namespace {
        Some(target) => Some(
            clone::ForeignPidNamespace::enter(target.as_fd())
                .map_err(|errno| SpawnError { step: FailedStep::PidNamespace, errno })?,
        ),
        None => None,
    };
    let mut report = clone::Report::default();
    let cloned = clone::vfork(script, &prepared, &mut report);
    drop(own);
    drop(signals);
    let (pid, pidfd) = cloned.map_err(|errno| SpawnError { step: FailedStep::Clone, errno })?;
    let Some((stage, errno)) = report.failure() else {
        return Ok(Spawned { pid, pidfd });
    };
    // The child has ended; an error here would only mean that somebody else reaped it.
    let _ = rustix::process::waitid(
        rustix::process::WaitId::PidFd(pidfd.as_fd()),
        rustix::process::WaitIdOptions::EXITED,
    );
    let step = match stage {
        clone::Stage::Op(i) => FailedStep::Op(script.ops[i].to_string()),
        clone::Stage::ClosedOp(i) => FailedStep::Op(script.closed_ops[i].to_string()),
        clone::Stage::Descriptors => FailedStep::Descriptors,
        clone::Stage::Exec => FailedStep::Exec(
            script.argv.first().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        ),
    };
    Err(SpawnError { step, errno })
}

/// What the child needs in the form that the kernel takes it: arrays of pointers, descriptors out of the way of
/// the numbers they will get.
struct Prepared {
    argv: Vec<*const u8>,
    envp: Vec<*const u8>,
    candidates: Vec<*const u8>,
    program: Option<i32>,
    stdio: [i32; 3],
    keep: Vec<i32>,
    /// Owns copies made to move descriptors out of the way.
    _moved: Vec<OwnedFd>,
}

impl Prepared {
    fn new(script: &Script) -> Result<Self, Errno> {
        let lowest_free = 3 + script.keep.len() as i32 + 1;
        let mut moved = Vec::new();
        let mut out_of_the_way = |fd: &Arc<OwnedFd>, own_number: Option<i32>| -> Result<i32, Errno> {
            let raw = fd.as_raw_fd();
            if raw >= lowest_free || Some(raw) == own_number {
                return Ok(raw);
            }
            let copy = rustix::io::fcntl_dupfd_cloexec(fd, lowest_free)?;
            let raw = copy.as_raw_fd();
            moved.push(copy);
            Ok(raw)
        };
        let mut stdio = [0; 3];
        for (number, fd) in script.stdio.iter().enumerate() {
            stdio[number] = out_of_the_way(fd, Some(number as i32))?;
        }
        let keep = script.keep.iter().map(|fd| out_of_the_way(fd, None)).collect::<Result<_, _>>()?;
        let (candidates, program) = match &script.program {
            Program::Candidates(paths) => (paths.iter().map(|path| path.as_ptr().cast()).collect(), None),
            Program::File(file) => (Vec::new(), Some(out_of_the_way(file, None)?)),
        };
        let pointers = |strings: &[CString]| {
            strings.iter().map(|s| s.as_ptr().cast()).chain([std::ptr::null()]).collect::<Vec<*const u8>>()
        };
        Ok(Self {
            argv: pointers(&script.argv),
            envp: pointers(&script.envp),
            candidates,
            program,
            stdio,
            keep,
            _moved: moved,
        })
    }
}

/// Takes a raw descriptor that a system call has just returned.
///
/// # Safety
/// `raw` is open and nobody else owns it.
unsafe fn owned(raw: i32) -> OwnedFd {
    // SAFETY: by this function's own contract.
    unsafe { OwnedFd::from_raw_fd(raw) }
}
