//! What a container uses.
//!
//! What the kernel does not count where the container runs is absent, not zero.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Result of `subcontainer.stats`: what everything inside uses together.
///
/// Time and pressure are counted wherever a container runs. `memory`, `pids` and `io` are counted where the container
/// has limits of any kind, and where the machine's controllers are on cgroup v2 and in use for another container.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct StatsResult {
    /// Processes alive.
    pub processes: u32,
    /// Processor time used since the launch, in microseconds, by those that have ended too.
    #[ts(type = "number")]
    pub cpu_micros: u64,
    /// Memory in use, in bytes: what is charged to the container where that is counted (`memory.currentBytes`), else
    /// the proportional set size of the processes alive, in which page cache that nobody has mapped is missing.
    #[ts(type = "number")]
    pub memory_bytes: u64,
    /// Memory, where it is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub memory: Option<MemoryStats>,
    /// Processor time in parts; absent while nothing runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub cpu: Option<CpuStats>,
    /// Processes and threads, where they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub pids: Option<PidsStats>,
    /// Block devices, where they are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub io: Option<IoStats>,
    /// Time lost by waiting. In it is what this kernel measures: none where it was built without PSI or booted with
    /// `psi=0`.
    #[serde(default, skip_serializing_if = "PressureStats::is_empty")]
    #[ts(optional, as = "Option<_>")]
    pub pressure: PressureStats,
    /// The rootfs, if it has a size of its own and is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub rootfs: Option<RootfsStats>,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStats {
    /// In use: of processes, page cache and kernel.
    #[ts(type = "number")]
    pub current_bytes: u64,
    /// The most that was in use. Kernel: v2 since 5.19.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub peak_bytes: Option<u64>,
    /// The limit, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub limit_bytes: Option<u64>,
    /// Memory of processes that no file is behind.
    #[ts(type = "number")]
    pub anonymous_bytes: u64,
    /// Page cache.
    #[ts(type = "number")]
    pub file_bytes: u64,
    /// Swap space in use, where it is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub swap_bytes: Option<u64>,
    /// Processes that the kernel has killed for want of memory.
    #[ts(type = "number")]
    pub oom_kills: u64,
}

/// Processor time, in microseconds.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct CpuStats {
    /// All.
    #[ts(type = "number")]
    pub usage_micros: u64,
    /// In user mode.
    #[ts(type = "number")]
    pub user_micros: u64,
    /// In the kernel.
    #[ts(type = "number")]
    pub system_micros: u64,
    /// How many periods passed while something wanted to run, where time is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub periods: Option<u64>,
    /// In how many of them the quota was used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub throttled_periods: Option<u64>,
    /// For how long it had to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub throttled_micros: Option<u64>,
}

/// Processes and threads.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct PidsStats {
    /// Alive.
    #[ts(type = "number")]
    pub current: u64,
    /// The limit, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub limit: Option<u64>,
    /// How often the limit has refused a new one.
    #[ts(type = "number")]
    pub refused: u64,
}

/// Block devices, all together.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct IoStats {
    /// Bytes read.
    #[ts(type = "number")]
    pub read_bytes: u64,
    /// Bytes written.
    #[ts(type = "number")]
    pub write_bytes: u64,
    /// Reads.
    #[ts(type = "number")]
    pub reads: u64,
    /// Writes.
    #[ts(type = "number")]
    pub writes: u64,
}

/// Time lost, by what was waited for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct PressureStats {
    /// For a processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub cpu: Option<Pressure>,
    /// For memory to be reclaimed or read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub memory: Option<Pressure>,
    /// For block devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub io: Option<Pressure>,
}

impl PressureStats {
    /// Nothing is measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `psi.rst`: time in which some or all of the processes that wanted to work could not.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Pressure {
    /// Some waited.
    pub some: Stall,
    /// All waited.
    pub full: Stall,
}

/// Time lost.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Stall {
    /// Percent of the last ten seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// Microseconds since the launch.
    #[ts(type = "number")]
    pub total_micros: u64,
}

/// What was written to a rootfs that has a size.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct RootfsStats {
    /// Bytes in use, those that the file system needs for itself included.
    #[ts(type = "number")]
    pub used_bytes: u64,
    /// Bytes at most.
    #[ts(type = "number")]
    pub size_bytes: u64,
}
