//! One group: its directories in all hierarchies that it needs.
//!
//! Owns the directories `start-container/<name>` from [`Group::create`] until [`Group::remove`]; whoever creates one
//! removes it, or leaves that to another process by [`Group::open`]. Dropping a `Group` closes handles only. The
//! directory `start-container` above goes with the last group in it. Never kills.
//!
//! ```text
//! create: [make directory (fill a v1 cpuset, make v2 controllers available)]* -> write limits -> Group
//!              | a step fails: what was made is removed, in the opposite order
//! ```

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;

use crate::controller::{Controller, Version};
use crate::dir;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::machine::Machine;
use crate::oom::{self, OomWatch};
use crate::plan::Plan;
use crate::stats::Stats;

mod apply;
mod part;

use part::{Part, Wanted};

/// How long [`Group::remove`] waits for what is dying.
const PATIENCE: Duration = Duration::from_secs(5);

/// The directories of one group.
#[derive(Debug)]
pub struct Group {
    name: String,
    /// v2 first, where it is.
    parts: Vec<Part>,
}

impl Group {
    /// Makes the group and sets its limits. A directory of that name in v2 is taken over, with what is in it: ending
    /// processes needs one in any case, and may have made it. An empty one in v1 was left behind by somebody who was
    /// killed, and is replaced.
    ///
    /// # Errors
    /// A step that failed; what was made is gone then.
    pub fn create(machine: &Machine, name: &str, plan: &Plan) -> Result<Self> {
        check_name(name)?;
        let mut group = Self { name: name.to_owned(), parts: Vec::new() };
        match group.build(machine, plan) {
            Ok(()) => Ok(group),
            Err(error) => {
                group.undo();
                Err(error)
            }
        }
    }

    fn build(&mut self, machine: &Machine, plan: &Plan) -> Result<()> {
        for hierarchy in machine.hierarchies() {
            let wanted = Wanted::of(hierarchy, plan);
            match Part::make(hierarchy, &self.name, &wanted) {
                Ok(Some(part)) => self.parts.push(part),
                Ok(None) => {}
                // Nobody asked for it: what it would have counted is not counted.
                Err(_) if wanted.optional() => {}
                Err(error) => return Err(error),
            }
        }
        self.apply(plan)
    }

    /// Finds the group that another process made, wherever it has a directory.
    ///
    /// # Errors
    /// [`Error::Name`], or a directory that cannot be opened.
    pub fn open(machine: &Machine, name: &str) -> Result<Option<Self>> {
        check_name(name)?;
        let mut parts = Vec::new();
        for hierarchy in machine.hierarchies() {
            parts.extend(Part::open(hierarchy, name)?);
        }
        Ok((!parts.is_empty()).then(|| Self { name: name.to_owned(), parts }))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The v2 directory, for `clone3(CLONE_INTO_CGROUP)` (5.7), `cgroup.kill` (5.14) and groups beneath. Always there
    /// after [`Group::create`].
    #[must_use]
    pub fn cgroup2(&self) -> Option<BorrowedFd<'_>> {
        self.unified().map(|part| part.dir.as_fd())
    }

    pub(crate) fn unified(&self) -> Option<&Part> {
        self.parts.iter().find(|part| part.version() == Version::V2)
    }

    /// The files through which a child joins the v1 hierarchies: it writes `0` to each, while it is one thread and
    /// before it executes what is limited. Whether it may is decided by who opened the file, so it does not matter
    /// which user and namespaces the child has by then. A new cgroup namespace has to come after.
    ///
    /// They are `tasks` and not `cgroup.procs`: a thread that moves itself needs not wait for all forks of the
    /// machine (kernel 5.18; 5 ms seen otherwise).
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn join_files(&self) -> Result<Vec<OwnedFd>> {
        let old = self.parts.iter().filter(|part| part.version() == Version::V1);
        old.map(|part| part.open_file("tasks", OFlags::WRONLY)).collect()
    }

    /// Sets limits while processes run. What `limits` does not name stays as it is. A controller that the group did
    /// not need before is added, and its processes are moved there.
    ///
    /// # Errors
    /// A refused limit, before anything is changed; [`Error::MemoryInUse`], with no other limit changed; or a write
    /// that the kernel refuses: then those before it, in the order of [`Plan::settings`], hold already.
    pub fn update(&mut self, machine: &Machine, limits: &Limits) -> Result<()> {
        let plan = machine.plan(limits)?;
        self.make_room(limits)?;
        let mut added = Vec::new();
        for hierarchy in machine.hierarchies() {
            let wanted = Wanted::of(hierarchy, &plan);
            match self.parts.iter().find(|part| part.is_in(hierarchy)) {
                Some(part) => part.make_available(&wanted)?,
                None if wanted.optional() => {}
                None => {
                    if let Some(part) = Part::make(hierarchy, &self.name, &wanted)? {
                        added.push(self.parts.len());
                        self.parts.push(part);
                    }
                }
            }
        }
        // Limits first: what is moved in is limited from then on.
        self.apply(&plan)?;
        added.into_iter().try_for_each(|at| self.move_into(at))
    }

    /// v2 kills when a limit is set below what is in use, v1 refuses. This refuses in both, after the kernel has
    /// been asked to give back what it can (`memory.reclaim`, 5.19).
    fn make_room(&self, limits: &Limits) -> Result<()> {
        let memory = self.part(Controller::Memory).filter(|part| part.version() == Version::V2);
        let (Some(part), Some(limit)) = (memory, limits.memory_bytes) else { return Ok(()) };
        for attempt in 0..2 {
            let current = part.number("memory.current").unwrap_or(0);
            if current <= limit {
                break;
            }
            if attempt == 1 {
                return Err(Error::MemoryInUse { limit, current });
            }
            // It may give back less than that; then the second look tells.
            dir::write(part.dir.as_fd(), "memory.reclaim", &(current - limit).to_string()).ok();
        }
        Ok(())
    }

    /// Moves what runs in the v2 directory into all other directories of the group: for what was started by somebody who
    /// did not know of all of them yet. What is there already stays as it is.
    ///
    /// # Errors
    /// [`Error::Move`].
    pub fn gather(&self) -> Result<()> {
        let old = self.parts.iter().enumerate().filter(|(_, part)| part.version() == Version::V1);
        old.map(|(at, _)| at).try_for_each(|at| self.move_into(at))
    }

    /// Moves what runs in the v2 directory into another hierarchy. What is forked by a process already moved is
    /// there from the start, so this comes to an end.
    fn move_into(&self, to: usize) -> Result<()> {
        let Some(running) = self.cgroup2() else { return Ok(()) };
        let part = &self.parts[to];
        let read = |source| Error::Read { file: "cgroup.procs".into(), group: part.label(), source };
        loop {
            let there = dir::processes(part.dir.as_fd()).map_err(read)?;
            let mut left = dir::processes(running).map_err(read)?;
            left.retain(|pid| !there.contains(pid));
            if left.is_empty() {
                return Ok(());
            }
            for pid in left {
                match dir::write(part.dir.as_fd(), "cgroup.procs", &pid.to_string()) {
                    // Ended meanwhile.
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(source) => return Err(Error::Move { pid, group: part.label(), source }),
                }
            }
        }
    }

    /// What is used.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        Stats::read(self)
    }

    /// How many processes the kernel has killed because the memory of the group was at its limit or the machine had
    /// none left. Nothing where memory is not counted. The kernel counts before it kills, so a process that was seen
    /// to end by SIGKILL is in it.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn oom_kills(&self) -> Result<Option<u64>> {
        self.part(Controller::Memory).map(oom::kills).transpose()
    }

    /// Something to wait on for out-of-memory kills. Nothing where memory is not counted.
    ///
    /// # Errors
    /// [`Error::Watch`].
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        self.part(Controller::Memory).map(OomWatch::new).transpose()
    }

    /// Removes every directory of the group with all beneath, waiting up to five seconds for what is dying. One that is gone already
    /// counts as removed. All are tried; can be called again.
    ///
    /// # Errors
    /// [`Error::Remove`] for the first that stays: with EBUSY, something runs in it, or beneath.
    pub fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut result = Ok(());
        for part in self.parts.iter().rev() {
            result = result.and(part.remove(&self.name, deadline));
        }
        for part in &self.parts {
            part.tidy();
        }
        result
    }

    /// As [`Group::open`] and [`Group::remove`], for whoever wants nothing else of it.
    ///
    /// # Errors
    /// As [`Group::remove`].
    pub fn remove_named(machine: &Machine, name: &str) -> Result<()> {
        check_name(name)?;
        let deadline = Instant::now() + PATIENCE;
        let mut result = Ok(());
        for hierarchy in machine.hierarchies().iter().rev() {
            result = result.and(Part::remove_named(hierarchy, name, deadline));
        }
        for hierarchy in machine.hierarchies().iter().filter(|hierarchy| !hierarchy.kept) {
            hierarchy.tidy();
        }
        result
    }

    /// After a failed step. What was made is empty: nobody was told of it.
    fn undo(&self) {
        for part in self.parts.iter().rev() {
            part.discard(&self.name);
        }
    }

    /// The directory that a controller's files are in.
    pub(crate) fn part(&self, controller: Controller) -> Option<&Part> {
        // A controller of v2 has files only where it was made available.
        self.parts.iter().find(|part| part.has(controller))
    }
}

/// Names become names of directories.
fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    // The kernel's own files are `<controller>.<what>`: a dot is fine inside, as names are never files of it there.
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(Error::Name { name: name.to_owned() });
    }
    Ok(())
}

/// Removes an empty directory.
pub(crate) fn remove_dir(parent: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Removes a directory and those beneath, which somebody inside may have made.
pub(crate) fn remove_all(parent: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    match remove_dir(parent, name) {
        Err(Errno::BUSY) => {}
        Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
        other => return other,
    }
    let dir = dir::open_dir(parent, name)?;
    for child in dir::children(dir.as_fd())? {
        remove_all(dir.as_fd(), &child)?;
    }
    match remove_dir(parent, name) {
        Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        other => other,
    }
}

pub(crate) use part::Part as GroupPart;

#[cfg(test)]
mod tests;
