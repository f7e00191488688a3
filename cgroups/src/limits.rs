//! What is asked for, in the words of the wire, and whether it makes sense.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::list;
use crate::machine::Facts;

mod oci;

/// Limits of one group. What is absent is not limited, and left as it is by an update.
///
/// An unknown name is refused when it is read: a misspelt limit would be none.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Limits {
    /// Memory in bytes, page cache and kernel memory included; at least 6 MiB, as Docker has it. What goes beyond it
    /// is reclaimed, then swapped out, then a process of the group is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Memory in bytes that is reclaimed last when the machine runs short; at most `memoryBytes`. A wish to the
    /// kernel: `memory.low`, and in v1 the soft limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reservation_bytes: Option<u64>,
    /// Swap space in bytes, beside the memory. Needs `memoryBytes`. Absent beside `memoryBytes`: as much again, as in
    /// Docker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_bytes: Option<u64>,
    /// Processors' worth of time: 0.5 is half of one. From 0.01 to as many as are online.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// The period in which `cpus` is measured out, in microseconds, 1,000 to 1,000,000. Absent: 100,000. Needs
    /// `cpus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_period_micros: Option<u64>,
    /// Share of processor time when there is not enough for all, 1 to 10,000. The kernel's default is 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u64>,
    /// Processors that may be used, as the list `0-3,5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used, as a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_mems: Option<String>,
    /// Processes and threads together, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Share of block devices' time, 10 to 1,000, as Docker's `--blkio-weight`. Has an effect where the device's
    /// scheduler knows weights (bfq), or by the kernel's cost model in v2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u16>,
    /// Limits for block devices, each device once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io: Vec<IoLimit>,
    /// Limits for huge pages, each size once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hugetlb: Vec<HugePageLimit>,
}

/// Rates for one block device.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IoLimit {
    /// A whole disk, as `8:0` or `/dev/sda`. The kernel refuses partitions.
    pub device: String,
    /// Bytes read in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bps: Option<u64>,
    /// Bytes written in a second. Through v1 only what is written directly or synchronously is held back: the
    /// kernel's own writing of the page cache belongs to nobody there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_bps: Option<u64>,
    /// Reads in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_iops: Option<u64>,
    /// Writes in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_iops: Option<u64>,
}

/// Bytes for one size of huge pages.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HugePageLimit {
    /// As the kernel writes it: `2MB`, `1GB`.
    pub page_size: String,
    /// Bytes; none at all is a limit too.
    pub limit_bytes: u64,
}

impl Limits {
    /// No limit, where a number is asked for: the largest whole number that JSON carries everywhere. By
    /// an update it takes a limit away.
    pub const UNLIMITED: u64 = (1 << 53) - 1;

    /// The smallest memory limit, Docker's: a runtime and a shell hardly start in less.
    pub const LEAST_MEMORY: u64 = 6 << 20;

    /// The period that the kernel and all runtimes start from, in microseconds.
    pub const DEFAULT_PERIOD: u64 = 100_000;

    /// The quota that the kernel takes at least, in microseconds.
    const LEAST_QUOTA: u64 = 1000;

    /// Time in a period, both in microseconds.
    pub(crate) fn quota(&self) -> Option<(u64, u64)> {
        let period = self.cpu_period_micros.unwrap_or(Self::DEFAULT_PERIOD);
        // In range: `check` has bounded both.
        self.cpus.map(|cpus| ((cpus * period as f64).round() as u64, period))
    }

    /// Whether each value makes sense by itself and on this machine. Touches nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`], which names the limit.
    pub fn check(&self, facts: &Facts) -> Result<()> {
        self.check_memory()?;
        self.check_cpu(facts)?;
        within("pids", self.pids, 1, Self::UNLIMITED)?;
        within("ioWeight", self.io_weight.map(u64::from), 10, 1000)?;
        self.check_io()?;
        self.check_hugetlb(facts)
    }

    fn check_memory(&self) -> Result<()> {
        if let Some(bytes) = self.memory_bytes.filter(|&bytes| bytes < Self::LEAST_MEMORY) {
            return Err(Error::invalid("memoryBytes", format!("{bytes} is less than 6 MiB")));
        }
        within("memoryBytes", self.memory_bytes, 0, Self::UNLIMITED)?;
        within("swapBytes", self.swap_bytes, 0, Self::UNLIMITED)?;
        let most = self.memory_bytes.unwrap_or(Self::UNLIMITED);
        within("memoryReservationBytes", self.memory_reservation_bytes, 0, most)?;
        if self.swap_bytes.is_some() && self.memory_bytes.is_none() {
            return Err(Error::invalid("swapBytes", "needs memoryBytes"));
        }
        Ok(())
    }

    fn check_cpu(&self, facts: &Facts) -> Result<()> {
        within("cpuPeriodMicros", self.cpu_period_micros, 1000, 1_000_000)?;
        within("cpuWeight", self.cpu_weight, 1, 10_000)?;
        if let Some(cpus) = self.cpus {
            let online = facts.online_cpus;
            // Not a number is in no range.
            if !(0.01..=f64::from(online)).contains(&cpus) {
                let why = format!("{cpus} is not from 0.01 to {online}, the processors online");
                return Err(Error::invalid("cpus", why));
            }
            if let Some((quota, period)) = self.quota().filter(|(quota, _)| *quota < Self::LEAST_QUOTA) {
                let why = format!("{cpus} in a period of {period} µs is {quota} µs, less than 1,000 µs");
                return Err(Error::invalid("cpus", why));
            }
        } else if self.cpu_period_micros.is_some() {
            return Err(Error::invalid("cpuPeriodMicros", "needs cpus"));
        }
        check_set("cpusetCpus", self.cpuset_cpus.as_deref(), &facts.cpus)?;
        check_set("cpusetMems", self.cpuset_mems.as_deref(), &facts.mems)
    }

    fn check_io(&self) -> Result<()> {
        for limit in &self.io {
            let name = |field: &str| format!("io[{}].{field}", limit.device);
            for (field, value) in limit.rates() {
                within(&name(field), value, 1, Self::UNLIMITED)?;
            }
            if limit.rates().iter().all(|(_, value)| value.is_none()) {
                return Err(Error::invalid(format!("io[{}]", limit.device), "limits nothing"));
            }
        }
        Ok(())
    }

    fn check_hugetlb(&self, facts: &Facts) -> Result<()> {
        let mut seen = BTreeSet::new();
        for HugePageLimit { page_size, limit_bytes } in &self.hugetlb {
            let name = format!("hugetlb[{page_size}]");
            if !facts.huge_page_sizes.contains(page_size) {
                let sizes = facts.huge_page_sizes.iter().map(String::as_str).collect::<Vec<_>>();
                let why = format!("this machine has huge pages of {}", sizes.join(", "));
                return Err(Error::invalid(
                    name,
                    if sizes.is_empty() { "there are none here".into() } else { why },
                ));
            }
            within(&name, Some(*limit_bytes), 0, Self::UNLIMITED)?;
            if !seen.insert(page_size) {
                return Err(Error::invalid(name, "is there twice"));
            }
        }
        Ok(())
    }
}

impl IoLimit {
    /// Its fields, by their names on the wire.
    pub(crate) fn rates(&self) -> [(&'static str, Option<u64>); 4] {
        [
            ("readBps", self.read_bps),
            ("writeBps", self.write_bps),
            ("readIops", self.read_iops),
            ("writeIops", self.write_iops),
        ]
    }
}

fn within(limit: &str, value: Option<u64>, least: u64, most: u64) -> Result<()> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err(Error::invalid(limit, format!("{value} is not from {least} to {most}")))
        }
        _ => Ok(()),
    }
}

fn check_set(limit: &str, text: Option<&str>, allowed: &BTreeSet<u32>) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    let set = list::parse(text).map_err(|why| Error::invalid(limit, why))?;
    if set.is_empty() {
        return Err(Error::invalid(limit, "names none"));
    }
    let absent: BTreeSet<u32> = set.difference(allowed).copied().collect();
    if !absent.is_empty() {
        let why = format!("{} is not among {}", list::format(&absent), list::format(allowed));
        return Err(Error::invalid(limit, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
