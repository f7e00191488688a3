//! Limits on this machine: which file gets which value. Pure; touches nothing.

use std::collections::BTreeMap;

use crate::controller::{Controller, Version};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::machine::{Device, Facts};

mod v1;
mod v2;

/// What is written where. Made by [`crate::Machine::plan`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// The controllers whose groups are made: those of the limits, and those that only count.
    pub(crate) parts: BTreeMap<Controller, Part>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Part {
    pub(crate) version: Version,
    pub(crate) settings: Vec<Setting>,
}

/// A value for a file of a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting {
    /// The limit that it is for, by its name on the wire.
    pub limit: &'static str,
    /// The files that may take it; the first that is there does.
    pub files: Vec<String>,
    /// For each file, what is written.
    pub values: Vec<String>,
    /// Nobody asked for it in words: where no file is there, it is left out.
    pub(crate) implied: bool,
}

/// Controllers that count what is used, limits or not, wherever they are. What processor time was used is counted
/// in every v2 group without a controller. Disks on v1 are not among them: what is written later from memory, which is most,
/// v1 counts as nobody's, and a group there costs more than what it tells is worth.
const COUNTING: [Controller; 3] = [Controller::Memory, Controller::Pids, Controller::Io];

impl Plan {
    pub(crate) fn new(facts: &Facts, limits: &Limits, devices: &[Device]) -> Result<Self> {
        crate::limits::check(limits, facts)?;
        for (index, device) in devices.iter().enumerate() {
            if devices[..index].contains(device) {
                let limit = format!("io[{}]", limits.io[index].device);
                return Err(Error::invalid(limit, "is there twice"));
            }
        }
        if limits.swap_bytes.is_some() && !facts.swap && facts.controllers[&Controller::Memory].is_ok() {
            return Err(Error::invalid("swapBytes", "this kernel does not account for swap"));
        }
        let mut parts = BTreeMap::new();
        for (controller, limit) in needed(limits) {
            let version = facts.controllers[&controller].map_err(|absence| Error::NoController {
                limit,
                controller,
                absence,
            })?;
            let settings = match version {
                Version::V1 => v1::settings(controller, limits, devices, facts)?,
                Version::V2 => v2::settings(controller, limits, devices, facts),
            };
            parts.insert(controller, Part { version, settings });
        }
        for controller in COUNTING {
            if let Ok(version) = facts.controllers[&controller]
                && (controller, version) != (Controller::Io, Version::V1)
            {
                parts.entry(controller).or_insert(Part { version, settings: Vec::new() });
            }
        }
        Ok(Self { parts })
    }

    /// Each limit, the controller's version, and what is written: what `inspect` shows.
    pub fn settings(&self) -> impl Iterator<Item = (Controller, Version, &Setting)> {
        self.parts.iter().flat_map(|(controller, part)| {
            part.settings.iter().map(move |setting| (*controller, part.version, setting))
        })
    }
}

/// The files that are called the same in both versions.
fn cpuset(limits: &Limits, settings: &mut Vec<Setting>) {
    settings.extend(limits.cpuset_cpus.as_ref().map(|cpus| Setting::new("cpusetCpus", "cpuset.cpus", cpus)));
    settings.extend(limits.cpuset_mems.as_ref().map(|mems| Setting::new("cpusetMems", "cpuset.mems", mems)));
}

/// As [`cpuset`].
fn pids(limits: &Limits, settings: &mut Vec<Setting>) {
    settings.extend(limits.pids.map(|pids| Setting::new("pids", "pids.max", number(pids, "max"))));
}

/// `file` is how the names of files end, `unlimited` what takes a limit away.
fn hugetlb(limits: &Limits, file: &str, unlimited: &str, settings: &mut Vec<Setting>) {
    for limit in &limits.hugetlb {
        let file = |kind: &str| format!("hugetlb.{}.{kind}{file}", limit.page_size);
        let value = number(limit.limit_bytes, unlimited);
        settings.push(Setting::new("hugetlb", file(""), &value));
        // What is promised to mmap(2); without it the fault fails, with SIGBUS. Since 5.7.
        settings.push(Setting::new("hugetlb", file("rsvd."), value).implied(true));
    }
}

impl Setting {
    fn new(limit: &'static str, file: impl Into<String>, value: impl Into<String>) -> Self {
        Self { limit, files: vec![file.into()], values: vec![value.into()], implied: false }
    }

    /// Another file that may take it, where those before are absent.
    fn or(mut self, file: impl Into<String>, value: impl Into<String>) -> Self {
        self.files.push(file.into());
        self.values.push(value.into());
        self
    }

    fn implied(mut self, implied: bool) -> Self {
        self.implied = implied;
        self
    }
}

/// The controllers that the limits need, each with a limit that needs it.
fn needed(limits: &Limits) -> BTreeMap<Controller, &'static str> {
    let mut needed = BTreeMap::new();
    let mut need = |present: bool, controller, limit| {
        if present {
            needed.entry(controller).or_insert(limit);
        }
    };
    need(limits.memory_bytes.is_some(), Controller::Memory, "memoryBytes");
    need(limits.memory_reservation_bytes.is_some(), Controller::Memory, "memoryReservationBytes");
    need(limits.cpus.is_some(), Controller::Cpu, "cpus");
    need(limits.cpu_weight.is_some(), Controller::Cpu, "cpuWeight");
    need(limits.cpuset_cpus.is_some(), Controller::Cpuset, "cpusetCpus");
    need(limits.cpuset_mems.is_some(), Controller::Cpuset, "cpusetMems");
    need(limits.pids.is_some(), Controller::Pids, "pids");
    need(limits.io_weight.is_some(), Controller::Io, "ioWeight");
    need(!limits.io.is_empty(), Controller::Io, "io");
    need(!limits.hugetlb.is_empty(), Controller::Hugetlb, "hugetlb");
    needed
}

/// Swap beside the memory, Docker's rule: as much again where nothing is said.
fn swap(limits: &Limits) -> Option<u64> {
    let memory = limits.memory_bytes?;
    Some(limits.swap_bytes.unwrap_or(memory).min(Limits::UNLIMITED))
}

/// A number, or the version's word for none.
fn number(value: u64, unlimited: &str) -> String {
    if value >= Limits::UNLIMITED { unlimited.to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests;
