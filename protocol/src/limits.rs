//! What a container may use of the machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Limits of one group. What is absent is not limited, and left as it is by an update.
///
/// An unknown name is refused when it is read: a misspelt limit would be none.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Limits {
    /// Memory in bytes, page cache and kernel memory included; at least 6 MiB, as Docker has it. What goes beyond it
    /// is reclaimed, then swapped out, then a process of the group is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub memory_bytes: Option<u64>,
    /// Memory in bytes that is reclaimed last when the machine runs short; at most `memoryBytes`. A wish to the
    /// kernel: `memory.low`, and in v1 the soft limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub memory_reservation_bytes: Option<u64>,
    /// Swap space in bytes, beside the memory. Needs `memoryBytes`. Absent beside `memoryBytes`: as much again, as in
    /// Docker.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub swap_bytes: Option<u64>,
    /// Processors' worth of time: 0.5 is half of one. From 0.01 to as many as are online.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub cpus: Option<f64>,
    /// The period in which `cpus` is measured out, in microseconds, 1,000 to 1,000,000. Absent: 100,000. Needs
    /// `cpus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub cpu_period_micros: Option<u64>,
    /// Share of processor time when there is not enough for all, 1 to 10,000. The kernel's default is 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub cpu_weight: Option<u64>,
    /// Processors that may be used, as the list `0-3,5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used, as a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub cpuset_mems: Option<String>,
    /// Processes and threads together, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub pids: Option<u64>,
    /// Share of block devices' time, 10 to 1,000, as Docker's `--blkio-weight`. Has an effect where the device's
    /// scheduler knows weights (bfq), or by the kernel's cost model in v2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub io_weight: Option<u16>,
    /// Limits for block devices, each device once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<_>")]
    pub io: Vec<IoLimit>,
    /// Limits for huge pages, each size once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<_>")]
    pub hugetlb: Vec<HugePageLimit>,
}

/// Rates for one block device.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IoLimit {
    /// A whole disk, as `8:0` or `/dev/sda`. The kernel refuses partitions.
    pub device: String,
    /// Bytes read in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub read_bps: Option<u64>,
    /// Bytes written in a second. Through v1 only what is written directly or synchronously is held back: the
    /// kernel's own writing of the page cache belongs to nobody there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub write_bps: Option<u64>,
    /// Reads in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub read_iops: Option<u64>,
    /// Writes in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub write_iops: Option<u64>,
}

/// Bytes for one size of huge pages.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HugePageLimit {
    /// As the kernel writes it: `2MB`, `1GB`.
    pub page_size: String,
    /// Bytes; none at all is a limit too.
    #[ts(type = "number")]
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
    pub const LEAST_QUOTA: u64 = 1000;

    /// Time in a period, both in microseconds.
    #[must_use]
    pub fn quota(&self) -> Option<(u64, u64)> {
        let period = self.cpu_period_micros.unwrap_or(Self::DEFAULT_PERIOD);
        // In range, once it was checked.
        self.cpus.map(|cpus| ((cpus * period as f64).round() as u64, period))
    }
}

impl IoLimit {
    /// Its fields, by their names on the wire.
    #[must_use]
    pub fn rates(&self) -> [(&'static str, Option<u64>); 4] {
        [
            ("readBps", self.read_bps),
            ("writeBps", self.write_bps),
            ("readIops", self.read_iops),
            ("writeIops", self.write_iops),
        ]
    }
}
