//! What the tests of this room share: they run on the real kernel, as root, whichever version its controllers are
//! bound to. Every process that is to be limited starts in a group that the test made.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails loudly")]

use std::ffi::CString;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cgroups::{Group, Limits, Machine};
use linux::pidfd::ExitStatus;
use linux::spawn::{Op, Program, Script, Spawned, spawn};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A group with limits, and what was started in it. Dropping it ends all of that and removes the group.
pub(crate) struct Scene {
    pub(crate) machine: Machine,
    pub(crate) group: Group,
    started: Vec<OwnedFd>,
}

/// A name that no other test has.
pub(crate) fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("limits-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn limits(json: &str) -> Limits {
    serde_json::from_str(json).unwrap()
}

impl Scene {
    pub(crate) fn new(json: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this needs root");
        let machine = Machine::probe().unwrap();
        let plan = machine.plan(&limits(json)).unwrap();
        let group = Group::create(&machine, &fresh_name(), &plan).unwrap();
        let scene = Self { machine, group, started: Vec::new() };
        scene.sweep();
        scene
    }

    /// Takes away what those tests left that were killed before they could.
    fn sweep(&self) {
        let beside = rustix::fs::openat(
            self.group.cgroup2().unwrap(),
            "..",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        for entry in rustix::fs::Dir::read_from(beside.unwrap()).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let maker = name.strip_prefix("limits-test-").and_then(|rest| rest.split('-').next());
            if maker.is_some_and(|pid| !std::path::Path::new("/proc").join(pid).exists())
                && let Ok(Some(group)) = Group::open(&self.machine, &name)
            {
                kill(&group);
                // Another test may sweep at the same time.
                group.remove().ok();
            }
        }
    }

    /// Starts a shell in the group.
    pub(crate) fn start(&mut self, text: &str) -> Spawned {
        self.start_with(text, Vec::new(), null())
    }

    pub(crate) fn start_with(&mut self, text: &str, ops: Vec<Op>, stdout: Arc<OwnedFd>) -> Spawned {
        let mut keep: Vec<Arc<OwnedFd>> =
            self.group.join_files().unwrap().into_iter().map(Arc::new).collect();
        let (joined, joining) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        // The shell joins by itself, before anything else, and lets go of the files.
        let mut line = String::new();
        for number in 3..3 + keep.len() {
            // Never runs on outside: a bomb that did would meet no limit.
            line += &format!("echo 0 >&{number} || exit 99; exec {number}>&-; ");
        }
        line += &format!("exec {}>&-; {text}", 3 + keep.len());
        keep.push(Arc::new(joining));
        let argv = vec![c"sh".to_owned(), c"-c".to_owned(), CString::new(line).unwrap()];
        let script = Script {
            cgroup: Some(Arc::new(self.group.cgroup2().unwrap().try_clone_to_owned().unwrap())),
            keep,
            closed_ops: ops,
            envp: vec![c"PATH=/bin:/usr/bin".to_owned()],
            ..Script::of(
                Program::Candidates(vec![c"/bin/sh".to_owned()]),
                argv,
                [null(), stdout, inherited_stderr()],
            )
        };
        let process = spawn(&script).unwrap();
        drop(script);
        assert!(readable(&joined, PATIENCE), "it does not join the group");
        self.started.push(process.pidfd.try_clone().unwrap());
        process
    }

    /// What a shell in the group prints.
    pub(crate) fn output(&mut self, text: &str, ops: Vec<Op>) -> String {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let process = self.start_with(text, ops, Arc::new(write));
        let mut output = String::new();
        std::fs::File::from(read).read_to_string(&mut output).unwrap();
        assert_eq!(wait(&process), ExitStatus::Exited(0), "{text}: {output}");
        output
    }

    /// Ends everything in the group.
    pub(crate) fn kill(&mut self) {
        kill(&self.group);
        for pidfd in self.started.drain(..) {
            // Some were waited for already.
            linux::pidfd::wait(&pidfd).ok();
        }
    }

    /// Ends everything, removes the group, and makes sure that nothing of it is left anywhere.
    pub(crate) fn end(mut self) {
        self.kill();
        self.group.remove().unwrap();
        assert_gone(&self.machine, self.group.name());
    }

    /// The text of a v2 file of the group.
    pub(crate) fn cgroup2_file(&self, name: &str) -> String {
        let dir = self.group.cgroup2().unwrap();
        let file = rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        std::io::read_to_string(std::fs::File::from(file)).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.kill();
            self.group.remove().ok();
        }
    }
}

/// The v2 controller `hugetlb`, made available at the top for one test at a time and as it was after that: other
/// engines refuse a machine with controllers of v2 beside those of v1. Made before the groups that need it, so that it
/// is dropped after them.
pub(crate) struct Hugetlb {
    top: OwnedFd,
    was_there: bool,
}

impl Hugetlb {
    const FILE: &str = "cgroup.subtree_control";

    pub(crate) fn borrowed() -> Self {
        let top = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::open(unified(), top, Mode::empty()).unwrap();
        // Nobody else knows when to take it away. The lock ends with the test.
        rustix::fs::flock(&top, FlockOperation::LockExclusive).unwrap();
        let file = rustix::fs::openat(&top, Self::FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let there = std::io::read_to_string(std::fs::File::from(file.unwrap())).unwrap();
        Self { was_there: there.split_ascii_whitespace().any(|name| name == "hugetlb"), top }
    }
}

impl Drop for Hugetlb {
    fn drop(&mut self) {
        if self.was_there {
            return;
        }
        // Groups of other tests may keep the one above ours; it must let go first.
        for file in [&format!("start-container/{}", Self::FILE), Self::FILE] {
            let file = rustix::fs::openat(&self.top, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
            let given_back = file.and_then(|file| rustix::io::write(file, b"-hugetlb"));
            assert!(matches!(given_back, Ok(_) | Err(Errno::NOENT | Errno::NODEV)), "{given_back:?}");
        }
    }
}

/// Where v2 is mounted.
pub(crate) fn unified() -> String {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mountinfo.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
    line.split(' ').nth(4).unwrap().to_owned()
}

/// SIGKILL to everything in a group.
fn kill(group: &Group) {
    let Some(dir) = group.cgroup2() else { return };
    // Removed already: then nothing is in it.
    if let Ok(kill) = rustix::fs::openat(dir, "cgroup.kill", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
    {
        rustix::io::write(kill, b"1").unwrap();
    }
}

pub(crate) fn assert_gone(machine: &Machine, name: &str) {
    assert!(Group::open(machine, name).unwrap().is_none(), "a directory of {name} is left");
}

pub(crate) fn null() -> Arc<OwnedFd> {
    Arc::new(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap())
}

fn inherited_stderr() -> Arc<OwnedFd> {
    Arc::new(rustix::io::dup(rustix::stdio::stderr()).unwrap())
}

/// Waits for a process, not for ever.
pub(crate) fn wait(process: &Spawned) -> ExitStatus {
    assert!(readable(&process.pidfd, PATIENCE), "it still runs");
    linux::pidfd::wait(&process.pidfd).unwrap()
}

/// Whether a descriptor becomes readable in time.
pub(crate) fn readable(fd: impl AsFd, patience: Duration) -> bool {
    let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
    rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap() > 0
}

/// Looks until something has come true.
pub(crate) fn until(what: &str, mut come: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !come() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}
