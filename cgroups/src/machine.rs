//! Which controller is where on this machine.
//!
//! Owns open handles on the tops of the hierarchies. Changes nothing.
//!
//! A controller is bound to one hierarchy at a time, for the whole machine: to a v1 hierarchy once somebody has
//! mounted one for it, otherwise to v2. So a machine may have both, each with its own controllers ("hybrid").
//! Groups are made at the *top of the hierarchy as it is mounted here*, not beneath this process's own group: v2 takes
//! no controllers in a group that has processes of its own, service managers remove a service's group with what is
//! beneath it, and another process of ours must find the same place later. In a cgroup namespace, or where a part of
//! a hierarchy is mounted, that top is our part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::controller::{Absence, Controller, Version};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::plan::Plan;
use crate::{dir, list};

pub(crate) mod parse;

/// What this machine has.
#[derive(Debug)]
pub struct Machine {
    facts: Facts,
    /// v2 first.
    hierarchies: Vec<Hierarchy>,
}

/// What limits are checked against.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Where each controller is.
    pub controllers: BTreeMap<Controller, Result<Version, Absence>>,
    /// How many processors are online.
    pub online_cpus: u32,
    /// Processors that our part of the cpuset hierarchy has.
    pub cpus: BTreeSet<u32>,
    /// Memory nodes that it has.
    pub mems: BTreeSet<u32>,
    /// The sizes of huge pages, as the hugetlb controller writes them.
    pub huge_page_sizes: BTreeSet<String>,
    /// Whether swap can be limited: v2 can on every kernel with swap; v1 where `swapaccount` is on.
    pub swap: bool,
    /// Whether block devices can be given weights through v1, and by which file.
    pub v1_io_weight: Option<&'static str>,
}

/// The directory beneath which all groups of this program are.
pub(crate) const BASE: &str = "start-container";

/// A mounted hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct Hierarchy {
    pub(crate) version: Version,
    /// Those of ours that it has.
    pub(crate) controllers: BTreeSet<Controller>,
    pub(crate) top: Arc<OwnedFd>,
    /// The directory for all groups stays when the last group goes.
    pub(crate) kept: bool,
}

impl Machine {
    /// Looks. Where no v2 hierarchy is mounted, one is, detached, for this process alone.
    ///
    /// # Errors
    /// When `/proc` or a hierarchy cannot be read.
    pub fn probe() -> Result<Self> {
        let mounts = parse::mounts(&read_file("/proc/self/mountinfo")?);
        let known = parse::controllers(&read_file("/proc/cgroups")?);
        let mut hierarchies = vec![unified(&mounts)?];
        for mount in mounts.iter().filter(|mount| mount.version == Version::V1) {
            let controllers: BTreeSet<Controller> = Controller::ALL
                .into_iter()
                .filter(|controller| mount.options.contains(controller.name(Version::V1)))
                .collect();
            let new = hierarchies.iter().all(|seen| seen.controllers.is_disjoint(&controllers));
            if controllers.is_empty() || !new {
                continue;
            }
            // Covered by another mount: then it is not the one that we read of.
            if let Some(top) = open_top(mount) {
                hierarchies.push(Hierarchy {
                    version: Version::V1,
                    controllers,
                    top: Arc::new(top),
                    kept: false,
                });
            }
        }
        let controllers = Controller::ALL.into_iter().map(|controller| {
            let place = hierarchies.iter().find(|hierarchy| hierarchy.controllers.contains(&controller));
            (controller, place.map(|hierarchy| hierarchy.version).ok_or_else(|| absence(controller, &known)))
        });
        let facts = facts(controllers.collect(), &hierarchies)?;
        Ok(Self { facts, hierarchies })
    }

    /// For a daemon, whose groups come and go: the directories above them stay until [`Machine::tidy`]. To make and
    /// remove one takes as long as for a group itself.
    #[must_use]
    pub fn kept(mut self) -> Self {
        for hierarchy in &mut self.hierarchies {
            hierarchy.kept = true;
        }
        self
    }

    /// Removes the directories above groups in which there is none.
    pub fn tidy(&self) {
        self.hierarchies.iter().for_each(Hierarchy::tidy);
    }

    /// Where things are, for `inspect` and for checking limits early.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What would be written for these limits. Touches nothing.
    ///
    /// # Errors
    /// A limit that makes no sense, or whose controller is absent. [`Error::is_refusal`] holds.
    pub fn plan(&self, limits: &Limits) -> Result<Plan> {
        let devices = limits.io.iter().map(|limit| device(&limit.device)).collect::<Result<Vec<_>>>()?;
        Plan::new(&self.facts, limits, &devices)
    }

    pub(crate) fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }
}

impl Hierarchy {
    pub(crate) fn tidy(&self) {
        // Busy: another group is in it, and its removal does this again.
        crate::group::remove_dir(self.top.as_fd(), BASE).ok();
    }

    /// What errors call it.
    pub(crate) fn name(&self) -> String {
        match self.version {
            Version::V2 => "cgroup2".to_owned(),
            Version::V1 => {
                let names = self.controllers.iter().map(|controller| controller.name(Version::V1));
                names.collect::<Vec<_>>().join(",")
            }
        }
    }
}

/// Block devices as the controllers name them.
pub(crate) type Device = (u32, u32);

/// A whole disk, by number or by path.
pub(crate) fn device(text: &str) -> Result<Device> {
    let limit = || format!("io[{text}]");
    let number = match parse::device(text) {
        Some(number) => number,
        None if text.starts_with('/') => {
            let stat = rustix::fs::stat(text)
                .map_err(|errno| Error::invalid(limit(), format!("cannot be looked at: {errno}")))?;
            if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_block_device() {
                return Err(Error::invalid(limit(), "is no block device"));
            }
            (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
        }
        None => return Err(Error::invalid(limit(), "is neither major:minor nor a path")),
    };
    let (major, minor) = number;
    let exists = |file: &str| rustix::fs::stat(format!("/sys/dev/block/{major}:{minor}{file}")).is_ok();
    if !exists("") {
        return Err(Error::invalid(limit(), "is no block device of this machine"));
    }
    if exists("/partition") {
        return Err(Error::invalid(limit(), "is a partition: the kernel limits whole disks"));
    }
    Ok(number)
}

fn read_file(path: &str) -> Result<String> {
    dir::read(CWD, path).map_err(|source| Error::ReadMachine { path: path.to_owned(), source })
}

const CGROUP2_MAGIC: u64 = 0x6367_7270;
const CGROUP_MAGIC: u64 = 0x0027_e0eb;

/// Opens a mount point and makes sure that it is what mountinfo told of: something else may lie over it.
fn open_top(mount: &parse::Mount) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(&mount.point, flags, Mode::empty()).ok()?;
    let magic = rustix::fs::fstatfs(&top).ok()?.f_type as u64;
    let device = rustix::fs::fstat(&top).ok()?.st_dev;
    let expected = match mount.version {
        Version::V1 => CGROUP_MAGIC,
        Version::V2 => CGROUP2_MAGIC,
    };
    let same = (rustix::fs::major(device), rustix::fs::minor(device)) == mount.device;
    (magic == expected && same).then_some(top)
}

fn unified(mounts: &[parse::Mount]) -> Result<Hierarchy> {
    let mounted = mounts.iter().filter(|mount| mount.version == Version::V2).find_map(open_top);
    let top = match mounted {
        Some(top) => top,
        None => mount_unified().map_err(|source| Error::MountV2 { source })?,
    };
    let text = dir::read(top.as_fd(), "cgroup.controllers")
        .map_err(|source| Error::ReadMachine { path: "cgroup.controllers".to_owned(), source })?;
    let offered: BTreeSet<&str> = text.split_ascii_whitespace().collect();
    let controllers = Controller::ALL.into_iter().filter(|one| offered.contains(one.name(Version::V2)));
    Ok(Hierarchy {
        version: Version::V2,
        controllers: controllers.collect(),
        top: Arc::new(top),
        kept: false,
    })
}

fn mount_unified() -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

fn absence(controller: Controller, known: &BTreeMap<String, parse::Known>) -> Absence {
    match known.get(controller.name(Version::V1)) {
        None => Absence::NotInKernel,
        Some(parse::Known { enabled: false, .. }) => Absence::DisabledAtBoot,
        Some(parse::Known { on_v1: true, .. }) => Absence::NotMounted,
        Some(_) => Absence::NotDelegated,
    }
}

fn facts(
    controllers: BTreeMap<Controller, Result<Version, Absence>>,
    hierarchies: &[Hierarchy],
) -> Result<Facts> {
    let top = |controller| {
        let hierarchy = hierarchies.iter().find(|hierarchy| hierarchy.controllers.contains(&controller));
        hierarchy.map(|hierarchy| (hierarchy.version, hierarchy.top.as_fd()))
    };
    let has = |controller, file: &str| {
        top(controller).is_some_and(|(_, top)| dir::open(top, file, OFlags::PATH).is_ok())
    };
    let online = system_list("/sys/devices/system/cpu/online")?;
    let cpus = effective(top(Controller::Cpuset), "cpus");
    let mems = effective(top(Controller::Cpuset), "mems");
    let swap = match controllers.get(&Controller::Memory) {
        Some(Ok(Version::V1)) => has(Controller::Memory, "memory.memsw.limit_in_bytes"),
        // memory.swap.max is not in the root group; a kernel without swap has no such file either.
        _ => rustix::fs::stat("/proc/swaps").is_ok(),
    };
    let v1_io_weight = match controllers.get(&Controller::Io) {
        // The weights themselves are not in the root group; what bfq counts is.
        Some(Ok(Version::V1)) if has(Controller::Io, "blkio.bfq.io_serviced") => Some("blkio.bfq.weight"),
        Some(Ok(Version::V1)) if has(Controller::Io, "blkio.weight") => Some("blkio.weight"),
        _ => None,
    };
    Ok(Facts {
        controllers,
        online_cpus: online.len() as u32,
        cpus: cpus.unwrap_or(online),
        mems: mems.unwrap_or_else(|| {
            // Absent on a kernel without NUMA, which has one node.
            system_list("/sys/devices/system/node/has_memory").unwrap_or_else(|_| BTreeSet::from([0]))
        }),
        huge_page_sizes: huge_page_sizes(),
        swap,
        v1_io_weight,
    })
}

/// What the top of the cpuset hierarchy may use at present.
fn effective(cpuset: Option<(Version, BorrowedFd<'_>)>, what: &str) -> Option<BTreeSet<u32>> {
    let (version, top) = cpuset?;
    let file = match version {
        Version::V1 => format!("cpuset.effective_{what}"),
        Version::V2 => format!("cpuset.{what}.effective"),
    };
    list::parse(&dir::read(top, &file).ok()?).ok().filter(|set| !set.is_empty())
}

fn system_list(path: &str) -> Result<BTreeSet<u32>> {
    let text = read_file(path)?;
    list::parse(&text).map_err(|_unlikely| Error::ReadMachine { path: path.to_owned(), source: Errno::INVAL })
}

fn huge_page_sizes() -> BTreeSet<String> {
    let Ok(sizes) = dir::open_dir(CWD, "/sys/kernel/mm/hugepages") else { return BTreeSet::new() };
    let names = dir::children(sizes.as_fd()).unwrap_or_default();
    names.iter().filter_map(|name| parse::huge_page_size(name)).collect()
}
