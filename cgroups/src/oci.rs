//! Control groups of an OCI container: at the path that its Spec names, in every hierarchy of the machine, with all that
//! `linux.resources` may say.
//!
//! ```text
//! <top of each v1 hierarchy>/<cgroupsPath>/     limits, devices, freezer; the process joins it by itself
//! <top of v2>/<cgroupsPath>/                    where v2 is mounted: clone3's target, cgroup.kill, cgroup.freeze
//! ```
//! Unlike [`crate::Group`], which belongs to this program alone, directories above may be others', and so may other
//! directories beneath: only those that were made are removed, and only when nothing is in them. Never kills but by
//! [`Groups::kill`].
//!
//! Source: OCI runtime spec, config-linux.md, "Control groups"; the kernel's `admin-guide/cgroup-v1/` and
//! `admin-guide/cgroup-v2.rst`.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::controller::Version;
use crate::error::{Error, Result};
use crate::machine::parse;
use crate::{dir, group};

mod bpf;
mod devices;
mod part;
mod processes;
mod stats;
mod v1;
mod v2;

use part::{Part, Setting};
pub use stats::{Blkio, BlkioEntry, Cpu, Hugetlb, Memory, MemoryUse, OciStats, Pids, Throttling};
pub use v2::weight;

/// A hierarchy as it is mounted.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    version: Version,
    /// Where.
    pub point: PathBuf,
    /// The last part of that: what a container sees as the name of the directory.
    pub name: String,
    /// Controllers of v1, and `name=…`.
    pub options: Vec<String>,
}

/// The hierarchies of this machine.
#[derive(Clone, Debug)]
pub struct Hierarchies(Vec<Hierarchy>);

const V1_OPTIONS: [&str; 14] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

impl Hierarchies {
    /// Looks.
    ///
    /// # Errors
    /// [`Error::ReadMachine`].
    pub fn probe() -> Result<Self> {
        let path = "/proc/self/mountinfo";
        let text = dir::read(rustix::fs::CWD, path)
            .map_err(|source| Error::ReadMachine { path: path.to_owned(), source })?;
        let mut all: Vec<Hierarchy> = Vec::new();
        for mount in parse::mounts(&text) {
            let options: Vec<String> = mount
                .options
                .into_iter()
                .filter(|option| V1_OPTIONS.contains(&option.as_str()) || option.starts_with("name="))
                .collect();
            let point = PathBuf::from(mount.point);
            let name = point.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let options = if mount.version == Version::V1 { options } else { Vec::new() };
            // Mounted twice: the first one is the machine's own place.
            let known = all.iter().any(|other| other.version == mount.version && other.options == options);
            if !known && (mount.version == Version::V2 || !options.is_empty()) {
                all.push(Hierarchy { version: mount.version, point, name, options });
            }
        }
        all.sort_by_key(|hierarchy| hierarchy.version == Version::V1);
        Ok(Self(all))
    }

    /// None: for a container that stays in the groups of whoever starts it.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Whether a directory is in a hierarchy that systemd keeps for itself.
    #[must_use]
    pub fn is_systemds(&self, dir: &Path) -> bool {
        let own = |hierarchy: &&Hierarchy| {
            hierarchy.version == Version::V2
                || hierarchy.options.iter().any(|option| option == "name=systemd")
        };
        self.0.iter().filter(own).any(|hierarchy| dir.starts_with(&hierarchy.point))
    }

    /// All of them, v2 first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Hierarchy> {
        self.0.iter()
    }

    /// Those of cgroup v1.
    pub fn v1(&self) -> impl Iterator<Item = &Hierarchy> {
        self.0.iter().filter(|hierarchy| hierarchy.version == Version::V1)
    }

    /// Whether v2 is the machine's way: no controller is bound to v1.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        self.v1().next().is_none() && !self.0.is_empty()
    }

    /// The top of v2, where it is mounted.
    #[must_use]
    pub fn v2(&self) -> Option<&Hierarchy> {
        self.0.iter().find(|hierarchy| hierarchy.version == Version::V2)
    }

    /// The directories that making groups at `path` would make, deepest first: for a record that is written before.
    #[must_use]
    pub fn would_make(&self, path: &Path) -> Vec<PathBuf> {
        let mut absent = Vec::new();
        for hierarchy in &self.0 {
            // Where one is absent, so is all beneath.
            let there = |above: &&Path| rustix::fs::stat(hierarchy.point.join(above)).is_ok();
            let above: Vec<&Path> = path.ancestors().filter(|above| !above.as_os_str().is_empty()).collect();
            let there = above.iter().copied().rev().take_while(there).count();
            absent.extend(above[..above.len() - there].iter().map(|above| hierarchy.point.join(above)));
        }
        absent
    }

    /// Whether groups at `path` lie in none that were there before. `absent`: what [`Hierarchies::would_make`] says.
    #[must_use]
    pub fn all_new(&self, path: &Path, absent: &[PathBuf]) -> bool {
        absent.len() == self.0.len() * path.components().count()
    }

    /// Refuses groups that somebody is in: limits would hold for those, and the container's end would be theirs.
    /// `absent`: what [`Hierarchies::would_make`] says.
    ///
    /// # Errors
    /// [`Error::InUse`].
    pub fn check_empty(&self, path: &Path, absent: &[PathBuf]) -> Result<()> {
        for hierarchy in &self.0 {
            let group = hierarchy.point.join(path);
            if absent.contains(&group) {
                continue;
            }
            // Gone meanwhile.
            let Ok(dir) = open_dir(&group) else { continue };
            if !dir::processes(dir.as_fd()).unwrap_or_default().is_empty() {
                return Err(Error::InUse { group: label(hierarchy, path) });
            }
        }
        Ok(())
    }
}

/// The groups of one container.
#[derive(Debug)]
pub struct Groups {
    parts: Vec<Part>,
}

/// `a/b/c` beneath a top, without anything that leads elsewhere.
///
/// # Errors
/// [`Error::Name`].
pub fn relative(path: &str) -> Result<PathBuf> {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    let plain: PathBuf = parts.clone().collect();
    if parts.clone().any(|part| part == ".." || part.contains('\0')) || plain.as_os_str().is_empty() {
        return Err(Error::Name { name: path.to_owned() });
    }
    Ok(plain)
}

impl Groups {
    /// Makes the groups, or takes over those that are there.
    ///
    /// # Errors
    /// [`Error::Create`]; what was made is the caller's to remove by [`remove`].
    pub fn create(hierarchies: &Hierarchies, path: &Path) -> Result<Self> {
        let mut parts = Vec::new();
        for hierarchy in &hierarchies.0 {
            let fail = |source| Error::Create { group: label(hierarchy, path), source };
            let cpuset = hierarchy.options.iter().any(|option| option == "cpuset");
            if !hierarchies.is_v2() && !cpuset {
                let dir = make_all(&hierarchy.point.join(path), path.components().count()).map_err(fail)?;
                parts.push(Part { hierarchy: hierarchy.clone(), path: path.to_owned(), dir });
                continue;
            }
            let mut dir = open_top(hierarchy).map_err(fail)?;
            for part in path.components() {
                let name = part.as_os_str().to_string_lossy();
                // Where controllers are bound to v1, others take none that v2 gives out for a machine that is neither.
                if hierarchies.is_v2() {
                    make_available(dir.as_fd());
                }
                dir::make(dir.as_fd(), &name).map_err(fail)?;
                let next = dir::open_dir(dir.as_fd(), &name).map_err(fail)?;
                if cpuset {
                    fill_cpuset(dir.as_fd(), next.as_fd()).map_err(fail)?;
                }
                dir = next;
            }
            parts.push(Part { hierarchy: hierarchy.clone(), path: path.to_owned(), dir });
        }
        Ok(Self { parts })
    }

    /// Finds the groups that another process made.
    #[must_use]
    pub fn open(hierarchies: &Hierarchies, path: &Path) -> Self {
        let open = |hierarchy: &Hierarchy| {
            // A record without one is none of ours: the top of a hierarchy is nobody's group.
            let path = Some(path).filter(|path| !path.as_os_str().is_empty())?;
            let dir = open_dir(&hierarchy.point.join(path)).ok()?;
            Some(Part { hierarchy: hierarchy.clone(), path: path.to_owned(), dir })
        };
        Self { parts: hierarchies.0.iter().filter_map(open).collect() }
    }

    /// Groups beneath these: where `exec --cgroup` puts a process. In a hierarchy that has none of that name, it stays in
    /// the group above.
    ///
    /// # Errors
    /// [`Error::Read`] for one that is nowhere.
    pub fn beneath(&self, path: &Path) -> Result<Self> {
        let mut found = false;
        let mut missing = None;
        let mut parts = Vec::new();
        for part in &self.parts {
            let fail = |source| Error::Read { file: path.display().to_string(), group: part.label(), source };
            let (path, dir) = match dir::open_dir(part.dir.as_fd(), &path.to_string_lossy()) {
                Ok(dir) => {
                    found = true;
                    (part.path.join(path), dir)
                }
                Err(Errno::NOENT) => {
                    missing.get_or_insert_with(|| fail(Errno::NOENT));
                    (part.path.clone(), dir::open_dir(part.dir.as_fd(), ".").map_err(fail)?)
                }
                Err(errno) => return Err(fail(errno)),
            };
            parts.push(Part { hierarchy: part.hierarchy.clone(), path, dir });
        }
        match missing {
            Some(error) if !found => Err(error),
            _ => Ok(Self { parts }),
        }
    }

    /// Writes what `resources` says. `live`: of a container that runs, whose devices are left alone where nothing is
    /// said of them.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what no hierarchy of this machine has, [`Error::Write`].
    pub fn apply(&self, resources: &LinuxResources, live: bool) -> Result<()> {
        if self.parts.is_empty() {
            return Ok(());
        }
        let v2 = self.is_v2();
        if !v2 && resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
            return Err(Error::Unsupported { field: "unified (on cgroup v1)" });
        }
        if !live || resources.devices().is_some() {
            self.apply_devices(resources)?;
        }
        let settings = if v2 { v2::settings(resources) } else { v1::settings(resources) };
        for setting in settings {
            self.write(&setting)?;
        }
        Ok(())
    }

    fn apply_devices(&self, resources: &LinuxResources) -> Result<()> {
        let rules = devices::rules(resources.devices().as_deref().unwrap_or_default())?;
        if let Some(part) = self.parts.iter().find(|part| part.has("devices")) {
            let rules: Vec<(&str, String)> = rules.iter().map(devices::Rule::v1).collect();
            for rules in rules.chunk_by(|(one, _), (other, _)| one == other) {
                part.write_each(rules[0].0, rules.iter().map(|(_, value)| value.as_str()))?;
            }
        } else if let Some(part) = self.parts.iter().find(|part| part.hierarchy.version == Version::V2) {
            let program = bpf::program(&rules);
            let fail = |source| Error::Write {
                file: "devices".into(),
                value: "program".into(),
                group: part.label(),
                source,
            };
            linux::bpf::replace_device_filter(part.dir.as_fd(), &program).map_err(fail)?;
        }
        Ok(())
    }

    fn write(&self, setting: &Setting) -> Result<()> {
        let part = self.parts.iter().find(|part| part.has(setting.controller));
        let Some(part) = part else {
            if setting.optional {
                return Ok(());
            }
            return Err(Error::Unsupported { field: setting.field });
        };
        match part.write(&setting.file, &setting.value) {
            Err(Error::Write { source: Errno::NOENT, .. }) if setting.optional => Ok(()),
            Err(error) => match &setting.or {
                Some(other) => self.write(other),
                None => Err(error),
            },
            Ok(()) => Ok(()),
        }
    }

    fn is_v2(&self) -> bool {
        self.parts.iter().all(|part| part.hierarchy.version == Version::V2)
    }

    /// The v2 directory, for `clone3(CLONE_INTO_CGROUP)`.
    #[must_use]
    pub fn cgroup2(&self) -> Option<BorrowedFd<'_>> {
        self.unified().map(|part| part.dir.as_fd())
    }

    /// The files through which a process of one thread joins: `tasks` of v1, and `cgroup.procs` of v2 if `unified`.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn join_files(&self, unified: bool) -> Result<Vec<OwnedFd>> {
        let wanted = |part: &&Part| unified || part.hierarchy.version == Version::V1;
        self.parts.iter().filter(wanted).map(Part::join_file).collect()
    }

    /// The directory in each hierarchy.
    pub fn directories(&self) -> impl Iterator<Item = (&Hierarchy, PathBuf)> {
        self.parts.iter().map(|part| (&part.hierarchy, part.hierarchy.point.join(&part.path)))
    }

    fn unified(&self) -> Option<&Part> {
        self.parts.iter().find(|part| part.hierarchy.version == Version::V2)
    }
}

/// Removes the groups at `path` with all beneath, and those of `made` that are empty then. What is dying is waited for.
///
/// # Errors
/// [`Error::Remove`] for the first that stays. All are tried; can be called again.
pub fn remove(hierarchies: &Hierarchies, path: &Path, made: &[PathBuf]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut result = Ok(());
    for hierarchy in &hierarchies.0 {
        // Mostly nothing is in it any more.
        match rustix::fs::rmdir(hierarchy.point.join(path)) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(_) => {}
        }
        let Ok(top) = open_top(hierarchy) else { continue };
        let (above, name) = match (path.parent(), path.file_name()) {
            (Some(above), Some(name)) => (above, name.to_string_lossy()),
            _ => continue,
        };
        let above = if above.as_os_str().is_empty() {
            top
        } else {
            match dir::open_dir(top.as_fd(), &above.to_string_lossy()) {
                Ok(above) => above,
                Err(_gone) => continue,
            }
        };
        let mut pause = Duration::from_micros(50);
        let removed = loop {
            match group::remove_all(above.as_fd(), &name) {
                Err(Errno::BUSY) if Instant::now() < deadline => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
                other => break other,
            }
        };
        let fail = |source| Error::Remove { group: label(hierarchy, path), source };
        result = result.and(removed.map_err(fail));
    }
    let own: Vec<PathBuf> = hierarchies.0.iter().map(|hierarchy| hierarchy.point.join(path)).collect();
    for dir in made.iter().filter(|dir| !own.contains(dir)) {
        // Somebody else's groups may be in it by now: then it stays.
        rustix::fs::rmdir(dir).ok();
    }
    result
}

fn label(hierarchy: &Hierarchy, path: &Path) -> String {
    hierarchy.point.join(path).display().to_string()
}

fn open_top(hierarchy: &Hierarchy) -> Result<OwnedFd, Errno> {
    open_dir(&hierarchy.point)
}

fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty())
}

/// Makes a directory, or finds it, and the `depth` last parts of its path that are missing.
fn make_all(path: &Path, depth: usize) -> Result<OwnedFd, Errno> {
    let make = |path: &Path| match rustix::fs::mkdir(path, rustix::fs::Mode::from(0o755)) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    };
    match make(path) {
        Err(Errno::NOENT) => {
            let parts: Vec<&Path> = path.ancestors().take(depth).collect();
            parts.into_iter().rev().try_for_each(make)?;
        }
        // Mostly the one above is there.
        made => made?,
    }
    open_dir(path)
}

/// Every controller that a directory of v2 has, for those beneath. A group with processes of its own refuses: then what
/// needs the controller says so.
fn make_available(dir: BorrowedFd<'_>) {
    let (Ok(has), Ok(gives)) =
        (dir::read(dir, "cgroup.controllers"), dir::read(dir, "cgroup.subtree_control"))
    else {
        return;
    };
    for controller in has.split_ascii_whitespace() {
        if !gives.split_ascii_whitespace().any(|given| given == controller) {
            dir::write(dir, "cgroup.subtree_control", &format!("+{controller}")).ok();
        }
    }
}

/// A new directory of cpuset v1 has neither processors nor memory, and takes no process.
fn fill_cpuset(above: BorrowedFd<'_>, new: BorrowedFd<'_>) -> Result<(), Errno> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if dir::read(new, file)?.trim().is_empty() {
            dir::write(new, file, dir::read(above, file)?.trim())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o1_a_path_of_groups_leads_nowhere_else() {
        assert_eq!(relative("/a//b/./c").unwrap(), PathBuf::from("a/b/c"));
        for bad in ["", "/", "../a", "a/../../b", "."] {
            assert!(matches!(relative(bad), Err(Error::Name { .. })), "{bad}");
        }
    }
}
