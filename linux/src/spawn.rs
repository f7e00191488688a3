//! Starting a process by script.
//!
//! A [`Script`] is a list of kernel calls, prepared to the last byte by the parent, that a child applies between
//! `clone3` and `execve`. The child shares the memory of whoever clones it (`CLONE_VM | CLONE_VFORK`, as
//! `posix_spawn` does): there is no page table to copy, and a failing step is reported by writing its number and
//! errno to that memory, so no pipe is needed and success means that `execve` has happened.
//!
//! ```text
//! parent thread                           child (own descriptor table, own fs, own credentials)
//!   block signals
//!   setns(container)?                       (this thread and its next children only)
//!   clone3 ------------------------------>  ops[0] … ops[n]
//!   (suspended)                             close_range(3..)
//!        <------------------------------    execve, or {step, errno} written and _exit
//!   setns(home), restore signals
//! ```
//!
//! [`spawn`] clones the child from this process. [`start_through`] lets a small program do that, so that nothing
//! of this process, neither its memory nor its program file, is ever in the namespaces of the child; the child is
//! this process's all the same (`CLONE_PARENT`).
//!
//! The child allocates nothing, takes no lock and calls nothing of libc: only the system calls of `ops`.
//! It never decides: what to do on an absent path is said in the script.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use bare::child::{Report, stage};
use bare::script::{Flat, relocate};
use flat::Descriptors;
use rustix::io::Errno;
use rustix::process::Pid;

pub mod apart;
#[allow(dead_code, unreachable_pub, reason = "compiled into another program, too, which uses the rest")]
pub(crate) mod bare;
mod clone;
mod flat;
mod ops;

pub use ops::{Call, Capabilities, Credentials, Mounted, Op, SchedulerAttributes, TreeOp};

/// Namespaces that the child gets anew, as `clone(2)` numbers them.
pub mod new {
    /// Mount namespace.
    pub const MOUNT: u64 = 0x0002_0000;
    /// User namespace: to join, not to create.
    pub const USER: u64 = 0x1000_0000;
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
    /// Clocks: to join, or for the next children of whoever makes it.
    pub const TIME: u64 = 0x80;
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
    /// Begin in the pid, mount, uts, ipc and network namespaces of this process (a pidfd). Whoever clones the child
    /// joins them first and returns home afterwards: what is in the container already never sees a process that is in
    /// its pid namespace and elsewhere at home.
    pub container: Option<Arc<OwnedFd>>,
    /// The pid namespace that is made for the child ([`new::PID`]) lies beneath that of this process (a pidfd): it ends
    /// with that one, and is seen from there. Only [`start_through`] can do that.
    pub above: Option<Arc<OwnedFd>>,
    /// The mount namespace that the child's own ([`new::MOUNT`]) begins as a copy of; that of this process if none is named.
    /// Only [`spawn`] can do that, and not for who begins in a `container`.
    pub vestibule: Option<Arc<OwnedFd>>,
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
    /// Joining the container's namespaces, in whoever clones.
    Container,
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
            FailedStep::Container => write!(f, "join namespaces")?,
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
    if script.above.is_some() {
        // A process has to live there that makes it, and it would do so in our memory: when that pid namespace ends,
        // it is gone before what it has started is, and we would go on beside that.
        return Err(SpawnError { step: FailedStep::Clone, errno: Errno::INVAL });
    }
    let mut descriptors = Descriptors::Here(Vec::new());
    let mut words = flat::encode(script, None, &mut descriptors).map_err(SpawnError::descriptors)?;
    // SAFETY: `encode` returns a whole script, not relocated yet, and it is ours alone.
    unsafe { relocate(words.as_mut_ptr()) };
    // SAFETY: the words are there until after the child has become its program.
    let flat = unsafe { Flat::new(words.as_ptr()) };
    let signals = clone::BlockedSignals::new();
    let abroad = match (&script.container, &script.vestibule) {
        (Some(container), _) => Some(clone::Abroad::enter(container.as_fd(), clone::CONTAINER)),
        (None, Some(vestibule)) => Some(clone::Abroad::enter(vestibule.as_fd(), clone::MOUNTS)),
        (None, None) => None,
    };
    let abroad = abroad.transpose().map_err(|errno| SpawnError { step: FailedStep::Container, errno })?;
    let mut report = Report::default();
    let cloned = clone::vfork(flat, &mut report);
    drop(abroad);
    drop(signals);
    let (pid, pidfd) = cloned.map_err(|errno| SpawnError { step: FailedStep::Clone, errno })?;
    match script.failure(&report) {
        None => Ok(Spawned { pid, pidfd }),
        Some(failure) => {
            reap(&pidfd);
            Err(failure)
        }
    }
}

/// A program that clones in this one's stead, and stays for what its own business is.
///
/// It finds `keep` as its descriptors from 3 on, then the pipe to report on, then the script; its arguments are
/// `args` and the number of words of the script. It reports with five words: the child's id, a
/// `bare::child::Report`, and the id of another child of ours, which it needed for [`Script::above`], or 0.
#[derive(Clone, Debug)]
pub struct Through {
    /// The open program, a static one: it is started before it could find libraries.
    pub program: Arc<OwnedFd>,
    /// Its name, and what it is told beside the script.
    pub args: Vec<CString>,
    /// Its standard streams: what `/dev/null` is open as.
    pub null: Arc<OwnedFd>,
    /// Descriptors for its own use.
    pub keep: Vec<Arc<OwnedFd>>,
}

/// A process that another program is about to clone.
#[derive(Debug)]
pub struct Starting<'a> {
    script: &'a Script,
    report: OwnedFd,
    stays: OwnedFd,
}

/// As [`spawn`], but another program clones the child. Returns when that program runs.
///
/// The new process will be a child of this one, not of that program. Whoever ignores `SIGCHLD` cannot use this: such a
/// child may be gone before it is known.
///
/// # Errors
/// As [`spawn`], for that program.
pub fn start_through<'a>(script: &'a Script, through: &Through) -> Result<Starting<'a>, SpawnError> {
    let first = 3 + through.keep.len() as u64 + 2;
    let mut descriptors = Descriptors::From(first, Vec::new());
    let words = flat::encode(script, None, &mut descriptors).map_err(SpawnError::descriptors)?;
    let (report, writes) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(SpawnError::descriptors)?;
    let mut keep = through.keep.clone();
    keep.extend([Arc::new(writes), file_of(&words)?]);
    let starter = Script {
        // A signal for the caller's terminal is none for it.
        closed_ops: vec![Op::Session { controlling_terminal: false }],
        ..carrier(&through.program, &through.null, &through.args, &words, keep, descriptors)
    };
    let stays = spawn(&starter)?.pidfd;
    Ok(Starting { script, report, stays })
}

/// A script as a file, for a program that carries it out.
fn file_of(words: &[u64]) -> Result<Arc<OwnedFd>, SpawnError> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    crate::memfd::memfd(c"script", &bytes).map(Arc::new).map_err(SpawnError::descriptors)
}

/// What starts that program: `keep`, and then what the script's `descriptors` are, are its own from 3 on; its last argument
/// is the number of words.
fn carrier(
    program: &Arc<OwnedFd>,
    null: &Arc<OwnedFd>,
    args: &[CString],
    words: &[u64],
    mut keep: Vec<Arc<OwnedFd>>,
    descriptors: Descriptors,
) -> Script {
    if let Descriptors::From(_, inherited) = descriptors {
        keep.extend(inherited);
    }
    let count = CString::new(words.len().to_string()).unwrap_or_default();
    let argv = args.iter().cloned().chain([count]).collect();
    let stdio = [(); 3].map(|()| Arc::clone(null));
    Script { keep, ..Script::of(Program::File(Arc::clone(program)), argv, stdio) }
}

impl Starting<'_> {
    /// Waits until it is known whether the process runs, at most this long.
    #[must_use]
    pub fn is_known_within(&self, milliseconds: u16) -> bool {
        let mut fds = [rustix::event::PollFd::new(&self.report, rustix::event::PollFlags::IN)];
        let nanoseconds = i64::from(milliseconds) * 1_000_000;
        let limit = rustix::event::Timespec {
            tv_sec: nanoseconds / 1_000_000_000,
            tv_nsec: nanoseconds % 1_000_000_000,
        };
        rustix::event::poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0)
    }

    /// Waits until it is known. Returns the handle of the program that stays, too.
    ///
    /// # Errors
    /// The first step that failed; the program is gone then. So is the process, unless the program was killed before
    /// it could speak of it: whoever holds the group of the script ends what is in it.
    pub fn finish(self) -> Result<(Spawned, OwnedFd), SpawnError> {
        let Self { script, report, stays } = self;
        let clone_failed = |errno| Err(SpawnError { step: FailedStep::Clone, errno });
        let started = match read_report(&report) {
            None => clone_failed(Errno::CHILD),
            Some((pid, report, between)) => {
                // It has ended, and waits for that.
                if let Some(between) = Pid::from_raw(between as i32)
                    && let Ok(between) = crate::pidfd::open(between)
                {
                    reap(&between);
                }
                let child = Pid::from_raw(pid as i32).map(|pid| (pid, crate::pidfd::open(pid)));
                match (script.failure(&report), child) {
                    (None, Some((pid, Ok(pidfd)))) => Ok(Spawned { pid, pidfd }),
                    (None, Some((_, Err(errno)))) => clone_failed(errno),
                    (None, None) => clone_failed(Errno::CHILD),
                    (Some(failure), child) => {
                        if let Some((_, Ok(pidfd))) = child {
                            reap(&pidfd);
                        }
                        Err(failure)
                    }
                }
            }
        };
        match started {
            Ok(spawned) => Ok((spawned, stays)),
            Err(failure) => {
                // It ends by itself when it could not start the child, and may be stopped when it did not say so.
                let _ = crate::pidfd::send_signal(&stays, crate::signal::Signal::KILL);
                reap(&stays);
                Err(failure)
            }
        }
    }
}

/// What the program says; none if it ended first. It writes all in one call, less than `PIPE_BUF`.
fn read_report(pipe: &OwnedFd) -> Option<(u64, Report, u64)> {
    let mut bytes = [0; 40];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut bytes)).ok()?;
    if count != bytes.len() {
        return None;
    }
    let (words, _) = bytes.as_chunks::<8>();
    let [pid, stage, step, errno, between] = [0, 1, 2, 3, 4].map(|i| u64::from_ne_bytes(words[i]));
    Some((pid, Report { stage, step, errno }, between))
}

/// Waits for a child that is ending. An error here would only mean that somebody else reaped it.
fn reap(pidfd: &OwnedFd) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED));
}

impl Script {
    /// A program in the namespaces and the group of whoever starts it: no steps, an empty environment, no descriptors but
    /// these three. Whoever wants more says so: `Script { envp, ..Script::of(…) }`.
    #[must_use]
    pub fn of(program: Program, argv: Vec<CString>, stdio: [Arc<OwnedFd>; 3]) -> Self {
        Self {
            namespaces: 0,
            container: None,
            above: None,
            vestibule: None,
            cgroup: None,
            ops: Vec::new(),
            stdio,
            keep: Vec::new(),
            closed_ops: Vec::new(),
            program,
            argv,
            envp: Vec::new(),
        }
    }

    fn enters_user_namespace(&self) -> bool {
        let enters = |op: &Op| match op {
            Op::JoinNamespaces { namespaces, .. } | Op::NewNamespaces(namespaces) => {
                namespaces & new::USER != 0
            }
            _ => false,
        };
        self.namespaces & new::USER != 0 || self.ops.iter().chain(&self.closed_ops).any(enters)
    }

    /// What a child reported in the words of this script.
    fn failure(&self, report: &Report) -> Option<SpawnError> {
        let op = |ops: &[Op]| {
            FailedStep::Op(ops.get(report.step as usize).map_or_else(String::new, ToString::to_string))
        };
        let step = match report.stage {
            0 => return None,
            stage::CONTAINER => FailedStep::Container,
            stage::CLONE => FailedStep::Clone,
            stage::OP => op(&self.ops),
            stage::CLOSED_OP => op(&self.closed_ops),
            stage::EXEC => FailedStep::Exec(
                self.argv.first().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            ),
            _ => FailedStep::Descriptors,
        };
        Some(SpawnError { step, errno: Errno::from_raw_os_error(report.errno as i32) })
    }
}

impl SpawnError {
    fn descriptors(errno: Errno) -> Self {
        Self { step: FailedStep::Descriptors, errno }
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
