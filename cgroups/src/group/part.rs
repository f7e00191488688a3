//! The directory of a group in one hierarchy.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{remove_all, remove_dir};
use crate::controller::{Controller, Version};
use crate::dir;
use crate::error::{Error, Result};
use crate::machine::{BASE, Hierarchy};
use crate::plan::Plan;

/// One directory, and the one above it.
#[derive(Debug)]
pub(crate) struct Part {
    hierarchy: Hierarchy,
    base: OwnedFd,
    pub(crate) dir: OwnedFd,
    name: String,
    /// By us, so that undoing removes it.
    made: bool,
}

/// Controllers of one hierarchy that a plan has use for.
pub(super) struct Wanted {
    version: Version,
    /// A limit needs them.
    required: BTreeSet<Controller>,
    /// They only count.
    counting: BTreeSet<Controller>,
}

impl Wanted {
    pub(super) fn of(hierarchy: &Hierarchy, plan: &Plan) -> Self {
        let here = plan.parts.iter().filter(|(controller, _)| hierarchy.controllers.contains(controller));
        let (required, counting): (Vec<_>, Vec<_>) = here.partition(|(_, part)| !part.settings.is_empty());
        let names =
            |list: Vec<(&Controller, _)>| list.into_iter().map(|(controller, _)| *controller).collect();
        Self { version: hierarchy.version, required: names(required), counting: names(counting) }
    }

    /// Whether a group does without this hierarchy. Never without v2: processes start there.
    pub(super) fn optional(&self) -> bool {
        self.version == Version::V1 && self.required.is_empty()
    }
}

impl Part {
    /// Makes the directory, or nothing where the hierarchy is of no use.
    pub(super) fn make(hierarchy: &Hierarchy, name: &str, wanted: &Wanted) -> Result<Option<Self>> {
        if wanted.optional() && wanted.counting.is_empty() {
            return Ok(None);
        }
        // Whoever removes the last group beside ours removes the base too, between any two steps.
        for _ in 0..100 {
            match Self::try_make(hierarchy, name, wanted) {
                Ok(None) => {}
                Ok(Some(part)) => return Ok(Some(part)),
                Err(error) => {
                    // Ours, if nobody else is in it.
                    remove_dir(hierarchy.top.as_fd(), BASE).ok();
                    return Err(error);
                }
            }
        }
        Err(Error::Create { group: label(hierarchy, name), source: Errno::BUSY })
    }

    /// Nothing when the base was removed meanwhile.
    fn try_make(hierarchy: &Hierarchy, name: &str, wanted: &Wanted) -> Result<Option<Self>> {
        let group = || label(hierarchy, name);
        let fail = |source| Error::Create { group: group(), source };
        let top = hierarchy.top.as_fd();
        // Mostly it is there.
        let base = match dir::open_dir(top, BASE) {
            Err(Errno::NOENT | Errno::NODEV) => {
                dir::make(top, BASE).map_err(fail)?;
                dir::open_dir(top, BASE)
            }
            other => other,
        };
        let base = match base {
            Err(Errno::NOENT | Errno::NODEV) => return Ok(None),
            other => other.map_err(fail)?,
        };
        if hierarchy.version == Version::V2 && !make_available(hierarchy, &base, wanted)? {
            return Ok(None);
        }
        let cpuset = hierarchy.version == Version::V1 && hierarchy.controllers.contains(&Controller::Cpuset);
        let mut replaced = false;
        let made = loop {
            match rustix::fs::mkdirat(&base, name, Mode::from(0o755)) {
                Ok(()) => break true,
                Err(Errno::NOENT | Errno::NODEV) => return Ok(None),
                Err(Errno::EXIST) if hierarchy.version == Version::V2 => break false,
                Err(Errno::EXIST) if !replaced => match remove_dir(base.as_fd(), name) {
                    Ok(()) | Err(Errno::NOENT) => replaced = true,
                    Err(Errno::BUSY) => return Err(Error::InUse { group: group() }),
                    Err(errno) => return Err(fail(errno)),
                },
                Err(errno) => return Err(fail(errno)),
            }
        };
        let open = || {
            let dir = dir::open_dir(base.as_fd(), name)?;
            if cpuset {
                fill_cpuset(top, base.as_fd())?;
                fill_cpuset(base.as_fd(), dir.as_fd())?;
            }
            Ok(dir)
        };
        match open() {
            Ok(dir) => {
                let (hierarchy, name) = (hierarchy.clone(), name.to_owned());
                Ok(Some(Self { hierarchy, base, dir, name, made }))
            }
            Err(errno) => {
                if made {
                    // The first failure is the one to tell.
                    remove_dir(base.as_fd(), name).ok();
                }
                Err(fail(errno))
            }
        }
    }

    /// The directory, if it is there.
    pub(super) fn open(hierarchy: &Hierarchy, name: &str) -> Result<Option<Self>> {
        let open = || {
            let base = dir::open_dir(hierarchy.top.as_fd(), BASE)?;
            let dir = dir::open_dir(base.as_fd(), name)?;
            Ok((base, dir))
        };
        match open() {
            Ok((base, dir)) => {
                let (hierarchy, name) = (hierarchy.clone(), name.to_owned());
                Ok(Some(Self { hierarchy, base, dir, name, made: false }))
            }
            Err(Errno::NOENT | Errno::NODEV) => Ok(None),
            Err(source) => Err(Error::Read { file: ".".into(), group: label(hierarchy, name), source }),
        }
    }

    /// For a group that is there: controllers of v2 that a new limit needs.
    pub(super) fn make_available(&self, wanted: &Wanted) -> Result<()> {
        if self.version() == Version::V2 {
            make_available(&self.hierarchy, &self.base, wanted)?;
        }
        Ok(())
    }

    pub(crate) fn version(&self) -> Version {
        self.hierarchy.version
    }

    pub(super) fn is_in(&self, hierarchy: &Hierarchy) -> bool {
        self.version() == hierarchy.version && self.hierarchy.controllers == hierarchy.controllers
    }

    pub(super) fn has(&self, controller: Controller) -> bool {
        let file = match (controller, self.version()) {
            _ if !self.hierarchy.controllers.contains(&controller) => return false,
            (_, Version::V1) => return true,
            (Controller::Memory, _) => "memory.max",
            (Controller::Cpu, _) => "cpu.max",
            (Controller::Cpuset, _) => "cpuset.cpus",
            (Controller::Pids, _) => "pids.max",
            (Controller::Io, _) => "io.stat",
            (Controller::Hugetlb, _) => return true,
        };
        dir::open(self.dir.as_fd(), file, OFlags::PATH).is_ok()
    }

    /// What errors call it.
    pub(crate) fn label(&self) -> String {
        label(&self.hierarchy, &self.name)
    }

    pub(crate) fn open_file(&self, file: &str, flags: OFlags) -> Result<OwnedFd> {
        dir::open(self.dir.as_fd(), file, flags).map_err(|source| self.unreadable(file, source))
    }

    pub(crate) fn read(&self, file: &str) -> Result<String> {
        dir::read(self.dir.as_fd(), file).map_err(|source| self.unreadable(file, source))
    }

    /// The text of a file that not every kernel has.
    pub(crate) fn read_if_there(&self, file: &str) -> Result<Option<String>> {
        match dir::read(self.dir.as_fd(), file) {
            Ok(text) => Ok(Some(text)),
            // OPNOTSUPP: pressure that was switched off at boot.
            Err(Errno::NOENT | Errno::OPNOTSUPP) => Ok(None),
            Err(source) => Err(self.unreadable(file, source)),
        }
    }

    pub(crate) fn unreadable(&self, file: &str, source: Errno) -> Error {
        Error::Read { file: file.to_owned(), group: self.label(), source }
    }

    /// A file that holds one number; nothing for `max` and absent ones.
    pub(crate) fn number(&self, file: &str) -> Option<u64> {
        dir::read(self.dir.as_fd(), file).ok()?.trim().parse().ok()
    }

    pub(super) fn remove(&self, name: &str, deadline: Instant) -> Result<()> {
        remove_from(&self.base, name, deadline)
            .map_err(|source| Error::Remove { group: label(&self.hierarchy, name), source })
    }

    /// Removes the directory of that name, if it is there, without a look at it.
    pub(super) fn remove_named(hierarchy: &Hierarchy, name: &str, deadline: Instant) -> Result<()> {
        remove_from(&hierarchy.top, &format!("{BASE}/{name}"), deadline)
            .map_err(|source| Error::Remove { group: label(hierarchy, name), source })
    }

    /// Removes what [`Part::make`] made.
    pub(super) fn discard(&self, name: &str) {
        if self.made {
            // It is empty. An error has been met already, and is the one to tell.
            remove_dir(self.base.as_fd(), name).ok();
        }
        self.tidy();
    }

    /// Removes the base when nothing is in it any more.
    pub(super) fn tidy(&self) {
        if !self.hierarchy.kept {
            self.hierarchy.tidy();
        }
    }
}

/// With all beneath. Waits for what is dying.
fn remove_from(above: &OwnedFd, name: &str, deadline: Instant) -> Result<(), Errno> {
    let mut pause = Duration::from_micros(50);
    loop {
        match remove_all(above.as_fd(), name) {
            Err(Errno::BUSY) if Instant::now() < deadline => {}
            other => return other,
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn label(hierarchy: &Hierarchy, name: &str) -> String {
    format!("{}:{BASE}/{name}", hierarchy.name())
}

/// Makes controllers available to the groups beneath the base: first at the top, then in the base. Whether the base
/// is still there.
fn make_available(hierarchy: &Hierarchy, base: &OwnedFd, wanted: &Wanted) -> Result<bool> {
    let all: BTreeSet<Controller> = wanted.required.union(&wanted.counting).copied().collect();
    if all.is_empty() {
        return Ok(true);
    }
    for (dir, group) in [(&*hierarchy.top, "/"), (base, BASE)] {
        let tried = enable(dir, &all).or_else(|failed| {
            // Without those that nobody asked for.
            if all == wanted.required { Err(failed) } else { enable(dir, &wanted.required) }
        });
        match tried {
            Ok(()) => {}
            Err((Errno::NOENT | Errno::NODEV, _)) if group == BASE => return Ok(false),
            Err((source, controllers)) => {
                return Err(Error::Enable { controllers, group: format!("cgroup2:{group}"), source });
            }
        }
    }
    Ok(true)
}

/// `cgroup.subtree_control`, written only for what is not in it yet.
fn enable(dir: &OwnedFd, controllers: &BTreeSet<Controller>) -> Result<(), (Errno, String)> {
    let text = dir::read(dir.as_fd(), "cgroup.subtree_control").map_err(|errno| (errno, String::new()))?;
    let there: Vec<&str> = text.split_ascii_whitespace().collect();
    let names = controllers.iter().map(|controller| controller.name(Version::V2));
    let missing: Vec<String> =
        names.filter(|name| !there.contains(name)).map(|name| format!("+{name}")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let value = missing.join(" ");
    dir::write(dir.as_fd(), "cgroup.subtree_control", &value).map_err(|errno| (errno, value))
}

/// A v1 cpuset begins empty, and takes no process before it has processors and memory nodes: those above.
fn fill_cpuset(above: BorrowedFd<'_>, dir: BorrowedFd<'_>) -> Result<(), Errno> {
    for what in ["cpus", "mems"] {
        let file = format!("cpuset.{what}");
        if dir::read(dir, &file)?.trim().is_empty() {
            let set = match dir::read(above, &format!("cpuset.effective_{what}")) {
                Err(Errno::NOENT) => dir::read(above, &file)?,
                other => other?,
            };
            dir::write(dir, &file, set.trim())?;
        }
    }
    Ok(())
}
