//! What a container may use of the machine: its control groups with controllers, if limits were asked for.
//!
//! Planned before anything is made. Every process of the container joins the groups before it does anything else.

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use cgroups::{Group, Machine, Plan, Stats};
use linux::step::{Step, during};
use protocol::limits::{IoLimit, Limits};
use protocol::process::Outcome;
use rustix::io::Errno;

use crate::error::{Failure, Result};

/// The machine's controllers, looked at on first use.
#[derive(Debug, Default)]
pub(crate) struct Controllers {
    machine: OnceLock<Machine>,
    keep: bool,
}

impl Controllers {
    /// `keep`: what is above the groups stays when the last of them goes, until [`Controllers::tidy`].
    pub(crate) fn new(keep: bool) -> Self {
        Self { machine: OnceLock::new(), keep }
    }

    /// Takes away what was kept, if there is no group.
    pub(crate) fn tidy(&self) {
        // Also what an earlier one kept, or was about to make or to remove, who was killed.
        if (self.keep || self.machine.get().is_some())
            && let Ok(machine) = self.machine()
        {
            machine.tidy();
        }
    }

    fn machine(&self) -> Result<&Machine> {
        if let Some(machine) = self.machine.get() {
            return Ok(machine);
        }
        let machine = Machine::probe().map_err(Failure::from)?;
        let machine = if self.keep { machine.kept() } else { machine };
        Ok(self.machine.get_or_init(|| machine))
    }

    /// How limits are kept on this machine; none, when none are asked for.
    ///
    /// # Errors
    /// `Invalid`: a limit that makes no sense, or whose controller this machine lacks.
    pub(crate) fn plan(&self, limits: &Limits) -> Result<Option<Plan>> {
        if *limits == Limits::default() {
            return Ok(None);
        }
        self.machine()?.plan(limits).map(Some).map_err(Failure::from)
    }

    /// Makes the groups.
    pub(crate) fn create(&self, guid: &str, plan: &Plan) -> Result<Limited> {
        let machine = self.machine()?;
        during(Step::MakeLimits, || Group::create(machine, guid, plan))
            .map(|group| Limited(Arc::new(group)))
            .map_err(Failure::from)
    }

    /// What a container uses, as far as its groups count it: with limits or without.
    pub(crate) fn stats(&self, guid: &str) -> Result<Option<Stats>> {
        let stats =
            Group::open(self.machine()?, guid).and_then(|group| group.map(|group| group.stats()).transpose());
        stats.map_err(Failure::from).or_else(|failure| match failure.errno() {
            // Removed meanwhile.
            Some(Errno::NOENT | Errno::NODEV) => Ok(None),
            _ => Err(failure),
        })
    }

    /// Changes limits while processes run.
    pub(crate) fn update(&self, guid: &str, change: &Limits) -> Result<()> {
        let machine = self.machine()?;
        let gone = || Failure::kernel("open control group of", guid, Errno::NOENT);
        let mut group = Group::open(machine, guid).map_err(Failure::from)?.ok_or_else(gone)?;
        during(Step::ChangeLimits, || group.update(machine, change)).map_err(Failure::from)
    }

    /// Takes the groups of a container away, if there are any. Whatever ran in them has ended.
    pub(crate) fn remove(&self, guid: &str) -> Result<()> {
        let machine = self.machine()?;
        during(Step::RemoveLimits, || Group::remove_named(machine, guid)).map_err(Failure::from)
    }

    /// The groups that an earlier launch made.
    pub(crate) fn existing(&self, guid: &str) -> Result<Option<Limited>> {
        let group = Group::open(self.machine()?, guid).map_err(Failure::from)?;
        Ok(group.map(|group| Limited(Arc::new(group))))
    }
}

/// The groups of one container.
#[derive(Clone, Debug)]
pub(crate) struct Limited(Arc<Group>);

impl Limited {
    /// The files through which a child joins those that it is not cloned into.
    pub(crate) fn joins(&self) -> Result<Vec<Arc<OwnedFd>>> {
        let files = self.0.join_files().map_err(Failure::from)?;
        Ok(files.into_iter().map(Arc::new).collect())
    }

    /// Moves what runs in the container into all of them.
    pub(crate) fn gather(&self) -> Result<()> {
        self.0.gather().map_err(Failure::from)
    }

    /// To tell later whether memory ran out.
    pub(crate) fn count_kills(&self) -> Kills {
        Kills { group: self.clone(), before: self.kills() }
    }

    /// As [`Limited::count_kills`], for one that ran from when the groups were made.
    pub(crate) fn count_kills_since_made(&self) -> Kills {
        Kills { group: self.clone(), before: 0 }
    }

    fn kills(&self) -> u64 {
        // Without the controller, none are counted.
        self.0.oom_kills().ok().flatten().unwrap_or(0)
    }
}

/// The kernel's out-of-memory kills in a container when a process began.
#[derive(Clone, Debug)]
pub(crate) struct Kills {
    group: Limited,
    before: u64,
}

impl Kills {
    /// A process that was killed after the kernel had killed in its container, for want of memory, was it; or one that
    /// says so of its child, as our init and shells do.
    pub(crate) fn explain(&self, outcome: Outcome) -> Outcome {
        let kill = linux::signal::Signal::KILL.as_raw();
        let killed = match outcome {
            Outcome::Signal { number, .. } => number == kill,
            Outcome::Exit { code } => code == 128 + kill,
            _ => false,
        };
        if killed && self.group.kills() > self.before { Outcome::OutOfMemory } else { outcome }
    }
}

/// What holds after a change: what it does not name stays, what it takes away is gone.
pub(crate) fn merge(old: &Limits, change: &Limits) -> Limits {
    let number = |new: Option<u64>, old: Option<u64>| new.or(old).filter(|value| *value < Limits::UNLIMITED);
    let mut limits = Limits {
        memory_bytes: number(change.memory_bytes, old.memory_bytes),
        memory_reservation_bytes: number(change.memory_reservation_bytes, old.memory_reservation_bytes),
        // Absent beside a new limit of memory, it goes with that.
        swap_bytes: match change.memory_bytes {
            Some(_) => change.swap_bytes,
            None => old.swap_bytes,
        },
        cpus: change.cpus.or(old.cpus),
        cpu_period_micros: match change.cpus {
            Some(_) => change.cpu_period_micros,
            None => old.cpu_period_micros,
        },
        cpu_weight: change.cpu_weight.or(old.cpu_weight),
        cpuset_cpus: change.cpuset_cpus.clone().or_else(|| old.cpuset_cpus.clone()),
        cpuset_mems: change.cpuset_mems.clone().or_else(|| old.cpuset_mems.clone()),
        pids: number(change.pids, old.pids),
        io_weight: change.io_weight.or(old.io_weight),
        io: old.io.clone(),
        hugetlb: old.hugetlb.clone(),
    };
    if limits.memory_bytes.is_none() {
        limits.swap_bytes = None;
    }
    for new in &change.io {
        let device = device(&new.device);
        let old = limits.io.iter().position(|limit| self::device(&limit.device) == device);
        let old = old.map(|at| limits.io.remove(at)).unwrap_or_default();
        let limit = IoLimit {
            device: new.device.clone(),
            read_bps: number(new.read_bps, old.read_bps),
            write_bps: number(new.write_bps, old.write_bps),
            read_iops: number(new.read_iops, old.read_iops),
            write_iops: number(new.write_iops, old.write_iops),
        };
        if limit.rates().iter().any(|(_, rate)| rate.is_some()) {
            limits.io.push(limit);
        }
    }
    for new in &change.hugetlb {
        limits.hugetlb.retain(|limit| limit.page_size != new.page_size);
        limits.hugetlb.push(new.clone());
    }
    limits
}

/// A device by its number, however it is named.
fn device(name: &str) -> String {
    use std::os::linux::fs::MetadataExt as _;
    match std::fs::metadata(name) {
        Ok(file) if name.starts_with('/') => {
            let number = file.st_rdev();
            format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number))
        }
        _ => name.to_owned(),
    }
}

/// The change that takes a change back, as far as the words for limits go.
pub(crate) fn undo(old: &Limits, change: &Limits) -> Limits {
    let number = |new: Option<u64>, old: Option<u64>| new.map(|_| old.unwrap_or(Limits::UNLIMITED));
    let online = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    let io = |new: &IoLimit| {
        let before = old.io.iter().find(|limit| device(&limit.device) == device(&new.device));
        let before = before.cloned().unwrap_or_default();
        IoLimit {
            device: new.device.clone(),
            read_bps: number(new.read_bps, before.read_bps),
            write_bps: number(new.write_bps, before.write_bps),
            read_iops: number(new.read_iops, before.read_iops),
            write_iops: number(new.write_iops, before.write_iops),
        }
    };
    Limits {
        memory_bytes: number(change.memory_bytes, old.memory_bytes),
        memory_reservation_bytes: number(change.memory_reservation_bytes, old.memory_reservation_bytes),
        swap_bytes: change.memory_bytes.and(old.swap_bytes),
        cpus: change.cpus.map(|_| old.cpus.unwrap_or(online)),
        cpu_period_micros: change.cpus.and(old.cpu_period_micros),
        cpu_weight: change.cpu_weight.map(|_| old.cpu_weight.unwrap_or(100)),
        cpuset_cpus: change.cpuset_cpus.as_ref().and(old.cpuset_cpus.clone()),
        cpuset_mems: change.cpuset_mems.as_ref().and(old.cpuset_mems.clone()),
        pids: number(change.pids, old.pids),
        io_weight: change.io_weight.and(old.io_weight),
        io: change.io.iter().map(io).collect(),
        hugetlb: old.hugetlb.clone(),
    }
}

/// In words, with the controller's version: `memoryBytes 16777216 (cgroup v1)`.
pub(crate) fn describe(limits: &Limits) -> Result<Vec<String>> {
    let controllers = Controllers::default();
    let Some(plan) = controllers.plan(limits)? else { return Ok(Vec::new()) };
    let values = serde_json::to_value(limits).unwrap_or_default();
    let mut said: Vec<String> = Vec::new();
    for (_, version, setting) in plan.settings() {
        let Some(value) = values.get(setting.limit) else { continue };
        let line = format!("{} {value} ({version})", setting.limit);
        if !said.contains(&line) {
            said.push(line);
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(json: &str) -> Limits {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn s23_what_a_change_does_not_name_stays() {
        let old = limits(
            r#"{"memoryBytes":8000000,"swapBytes":0,"cpus":0.5,"cpuPeriodMicros":5000,"pids":7,
            "io":[{"device":"8:0","readBps":1,"writeBps":2}]}"#,
        );
        assert_eq!(merge(&old, &limits(r#"{"pids":9}"#)), Limits { pids: Some(9), ..old.clone() });
        // What goes with a limit is that limit's.
        let change = limits(r#"{"memoryBytes":9000000,"cpus":1}"#);
        let merged = merge(&old, &change);
        assert_eq!((merged.memory_bytes, merged.swap_bytes), (Some(9_000_000), None));
        assert_eq!((merged.cpus, merged.cpu_period_micros), (Some(1.0), None));
        assert_eq!(merge(&merged, &undo(&old, &change)), old);
        let none = Limits::UNLIMITED;
        let change = limits(&format!(
            r#"{{"memoryBytes":{none},"pids":{none},"io":[{{"device":"8:0","readBps":{none}}}]}}"#
        ));
        let merged = merge(&old, &change);
        assert_eq!((merged.memory_bytes, merged.swap_bytes, merged.pids), (None, None, None));
        assert_eq!(merged.io, limits(r#"{"io":[{"device":"8:0","writeBps":2}]}"#).io);
        assert_eq!(merge(&merged, &undo(&old, &change)), old);
    }
}
