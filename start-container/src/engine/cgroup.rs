//! Cgroups as the one sure way to find and end everything that a process started.
//!
//! Each running subcontainer has a directory in the cgroup v2 hierarchy, its leader and each command one beneath that:
//!
//! ```text
//! <v2 root>/start-container/<guid>/               a running subcontainer; what commands left running
//! <v2 root>/start-container/<guid>/<pid>-<n>/     its leader, or one exec or spawn: the n-th of the process <pid>; or
//!                                                 empty, kept by a host for its next exec
//!
//! <v2 root>/start-container/<guid>/               a sandbox; never a process of its own
//! <v2 root>/start-container/<guid>/own/           as a subcontainer's: its own init and commands
//! <v2 root>/start-container/<guid>/<guid>/        a running subcontainer in it
//! ```
//! No controller is needed: `cgroup.kill` (5.14) and `cgroup.events` exist in every group. Where controllers are
//! still bound to v1, the v2 tree is there all the same, and where no v2 tree is mounted this process mounts one
//! for itself, detached.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use linux::step::{Step, during};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::error::{Failure, Result};

/// The directory beneath which all groups of this program are.
const BASE: &str = "start-container";

/// The cgroup v2 hierarchy.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    root: OwnedFd,
}

/// What the kernel tells of a group, to be asked again and again.
#[derive(Debug)]
pub(crate) struct Events(OwnedFd);

impl Events {
    /// Whether no process is in the group, or beneath it.
    pub(crate) fn is_empty(&self) -> bool {
        let mut text = [0; 256];
        let read = rustix::io::pread(&self.0, &mut text, 0).unwrap_or(0);
        text[..read].split(|byte| *byte == b'\n').any(|line| line == b"populated 0")
    }
}

/// One group. It stays until [`Group::destroy`]; dropping it closes the handle only.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    dir: Arc<OwnedFd>,
    parent: Arc<OwnedFd>,
    name: String,
}

impl Hierarchy {
    /// Finds the mounted cgroup v2 tree, or mounts one that only this process sees.
    pub(crate) fn open() -> Result<Self> {
        const CGROUP2_MAGIC: u64 = 0x6367_7270;
        for path in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            if let Ok(root) = open_dir(rustix::fs::CWD, path)
                && rustix::fs::fstatfs(&root).is_ok_and(|fs| fs.f_type as u64 == CGROUP2_MAGIC)
            {
                return Ok(Self { root });
            }
        }
        let mount = || {
            let context = rustix::mount::fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
            rustix::mount::fsconfig_create(context.as_fd())?;
            rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        };
        let root = mount().map_err(|errno| Failure::kernel("mount", "cgroup2", errno))?;
        Ok(Self { root })
    }

    /// The group of a subcontainer or a sandbox, made if it is not there.
    pub(crate) fn create(&self, guid: &str) -> Result<Group> {
        let fail = |errno| Failure::kernel("create cgroup", format!("{BASE}/{guid}"), errno);
        // Another process may remove the empty base between the two steps.
        for _ in 0..100 {
            // Mostly it is there.
            let Ok(base) = open_dir(self.root.as_fd(), BASE) else {
                make_dir(self.root.as_fd(), BASE).map_err(fail)?;
                continue;
            };
            match during(Step::MakeGroup, || make_dir(base.as_fd(), guid))
                .and_then(|()| open_dir(base.as_fd(), guid))
            {
                Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => return Err(fail(errno)),
                Ok(dir) => {
                    return Ok(Group { dir: Arc::new(dir), parent: Arc::new(base), name: guid.to_owned() });
                }
            }
        }
        Err(fail(Errno::BUSY))
    }

    /// The group of that name, if it is there; `path` leads from group to group.
    pub(crate) fn existing(&self, path: &[&str]) -> Result<Option<Group>> {
        let open = || {
            let mut parent = open_dir(self.root.as_fd(), BASE)?;
            let (name, above) = path.split_last().ok_or(Errno::INVAL)?;
            for group in above {
                parent = open_dir(parent.as_fd(), group)?;
            }
            let dir = open_dir(parent.as_fd(), name)?;
            Ok(Group { dir: Arc::new(dir), parent: Arc::new(parent), name: (*name).to_owned() })
        };
        let fail = |errno| Failure::kernel("open cgroup", format!("{BASE}/{}", path.join("/")), errno);
        if_there(open()).map_err(fail)
    }

    /// The group of a subcontainer or a sandbox, wherever it is: for one of which nothing else is known any more.
    pub(crate) fn find(&self, guid: &str) -> Result<Option<Group>> {
        if let Some(group) = self.existing(&[guid])? {
            return Ok(Some(group));
        }
        let base = if_there(open_dir(self.root.as_fd(), BASE))
            .map_err(|errno| Failure::kernel("open cgroup", BASE, errno))?;
        let Some(base) = base else { return Ok(None) };
        for sandbox in names(&base).unwrap_or_default() {
            if let Some(group) = self.existing(&[&sandbox, guid])? {
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    /// Removes the base directory when nothing is in it any more.
    pub(crate) fn tidy(&self) {
        // Somebody else's subcontainer may be in it: then it stays.
        let _busy = rustix::fs::unlinkat(&self.root, BASE, AtFlags::REMOVEDIR);
    }
}

impl Group {
    /// A new group beneath this one.
    pub(crate) fn child(&self, name: String) -> Result<Self> {
        let make = || {
            during(Step::MakeGroup, || rustix::fs::mkdirat(&self.dir, &name, Mode::from(0o755)))?;
            open_dir(self.dir.as_fd(), &name).inspect_err(|_| {
                // The failure is what the caller must hear of.
                let _left = rustix::fs::unlinkat(&self.dir, &name, AtFlags::REMOVEDIR);
            })
        };
        let dir = make().map_err(|errno| Failure::kernel("create cgroup", &name, errno))?;
        Ok(Self { dir: Arc::new(dir), parent: Arc::clone(&self.dir), name })
    }

    /// A group beneath this one, made if it is not there.
    pub(crate) fn lasting_child(&self, name: &str) -> Result<Self> {
        match self.existing_child(name)? {
            Some(group) => Ok(group),
            None => self.child(name.to_owned()),
        }
    }

    /// A group beneath this one, if it is there.
    pub(crate) fn existing_child(&self, name: &str) -> Result<Option<Self>> {
        let open = || {
            let dir = open_dir(self.dir.as_fd(), name)?;
            Ok(Self { dir: Arc::new(dir), parent: Arc::clone(&self.dir), name: name.to_owned() })
        };
        if_there(open()).map_err(|errno| Failure::kernel("open cgroup", name, errno))
    }

    /// The handle for `clone3`.
    pub(crate) fn handle(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.dir)
    }

    /// SIGKILL to everything in it and beneath it; processes that fork meanwhile included.
    pub(crate) fn kill(&self) -> std::result::Result<(), Errno> {
        let file = self.file("cgroup.kill", OFlags::WRONLY)?;
        rustix::io::write(&file, b"1").map(drop)
    }

    /// A handle whose writing of `1` ends everything in the group, for somebody who outlives this process.
    pub(crate) fn kill_handle(&self) -> std::result::Result<OwnedFd, Errno> {
        self.file("cgroup.kill", OFlags::WRONLY)
    }

    /// The directory above, and the name in it, for somebody who outlives this process.
    pub(crate) fn location(&self) -> (Arc<OwnedFd>, &str) {
        (Arc::clone(&self.parent), &self.name)
    }

    /// What tells whether a process is in it, or beneath it.
    pub(crate) fn events(&self) -> std::result::Result<Events, Errno> {
        self.file("cgroup.events", OFlags::RDONLY).map(Events)
    }

    /// Process ids in the group and beneath it.
    pub(crate) fn processes(&self) -> std::result::Result<Vec<i32>, Errno> {
        let mut pids = self.own_processes()?;
        for (_, group) in self.groups() {
            pids.extend(group.processes().unwrap_or_default());
        }
        Ok(pids)
    }

    /// The groups directly beneath, by name.
    pub(crate) fn groups(&self) -> Vec<(String, Self)> {
        let names = self.children().unwrap_or_default();
        let open = |name: String| self.existing_child(&name).ok().flatten().map(|group| (name, group));
        names.into_iter().filter_map(open).collect()
    }

    fn own_processes(&self) -> std::result::Result<Vec<i32>, Errno> {
        let text = self.read("cgroup.procs")?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Removes the group of a command that has ended. What it left running moves to the parent, as `docker exec`
    /// leaves it running.
    pub(crate) fn retire(self) {
        during(Step::RetireGroup, || self.retire_now());
    }

    fn retire_now(&self) {
        for _ in 0..1000 {
            match rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR) {
                Err(Errno::BUSY) => {}
                // Gone already, with its subcontainer; or something that destroying that will meet again.
                _ => return,
            }
            for pid in self.own_processes().unwrap_or_default() {
                if let Ok(procs) = open(self.parent.as_fd(), "cgroup.procs", OFlags::WRONLY) {
                    // It may have ended by now.
                    let _gone = rustix::io::write(&procs, pid.to_string().as_bytes());
                }
            }
        }
    }

    /// Ends everything in it and removes it with all beneath, waiting for the last process to be gone.
    pub(crate) fn destroy(self) -> Result<()> {
        during(Step::RemoveGroup, || self.destroy_now())
    }

    fn destroy_now(&self) -> Result<()> {
        let fail = |errno| Failure::kernel("remove cgroup", &self.name, errno);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match self.remove_all() {
                Ok(()) | Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
                Err(Errno::BUSY) if Instant::now() < deadline => {}
                Err(errno) => return Err(fail(errno)),
            }
            let handles = self.handles();
            match self.kill() {
                Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => return Err(fail(errno)),
            }
            wait_for_ends(&handles, Duration::from_millis(100));
        }
    }

    /// Handles on processes in it and beneath it, to wait for: a few, since there may be more of them than we may have
    /// descriptors, and whoever waits looks again.
    fn handles(&self) -> Vec<OwnedFd> {
        const FEW: usize = 16;
        let pids = self.processes().unwrap_or_default();
        let open = |pid| linux::pidfd::open(rustix::process::Pid::from_raw(pid)?).ok();
        pids.into_iter().filter_map(open).take(FEW).collect()
    }

    fn remove_all(&self) -> std::result::Result<(), Errno> {
        match rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR) {
            // Busy with processes, or with groups beneath.
            Err(Errno::BUSY) => {}
            other => return other,
        }
        for (_, group) in self.groups() {
            match group.remove_all() {
                // Its command has ended and retired it meanwhile: that says nothing about this one.
                Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => return Err(errno),
            }
        }
        rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR)
    }

    fn children(&self) -> std::result::Result<Vec<String>, Errno> {
        names(&self.dir)
    }

    fn read(&self, name: &str) -> std::result::Result<String, Errno> {
        let file = self.file(name, OFlags::RDONLY)?;
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&file, &mut buffer)? {
                0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                n => bytes.extend_from_slice(&buffer[..n]),
            }
        }
    }

    fn file(&self, name: &str, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
        open(self.dir.as_fd(), name, flags)
    }
}

/// The directories in a directory.
fn names(dir: &OwnedFd) -> std::result::Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if entry.file_type() == rustix::fs::FileType::Directory && name != "." && name != ".." {
            names.push(name.into_owned());
        }
    }
    Ok(names)
}

/// Waits until each of these has ended, or `limit` has passed.
///
/// Not by `cgroup.events`: the kernel tells of a change there at most every 10 ms.
fn wait_for_ends(handles: &[OwnedFd], limit: Duration) {
    if handles.is_empty() {
        // Ended, but not yet out of the group.
        std::thread::sleep(Duration::from_micros(100));
        return;
    }
    let deadline = Instant::now() + limit;
    for handle in handles {
        // Whether it has or not: whoever waits looks again.
        let _ended = linux::pidfd::ends_within(handle, deadline.saturating_duration_since(Instant::now()));
    }
}

fn open(dir: BorrowedFd<'_>, name: &str, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, name, flags | OFlags::CLOEXEC, Mode::empty())
}

fn open_dir(dir: BorrowedFd<'_>, name: &str) -> std::result::Result<OwnedFd, Errno> {
    open(dir, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// What is not there, or not any more, is no error; what cannot be opened is.
fn if_there<T>(opened: std::result::Result<T, Errno>) -> std::result::Result<Option<T>, Errno> {
    match opened {
        Ok(it) => Ok(Some(it)),
        Err(Errno::NOENT | Errno::NODEV) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn make_dir(dir: BorrowedFd<'_>, name: &str) -> std::result::Result<(), Errno> {
    match rustix::fs::mkdirat(dir, name, Mode::from(0o755)) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}
