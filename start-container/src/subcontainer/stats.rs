//! What a container uses: from its control groups, and from proc what they do not count.

use cgroups::Stats;
use protocol::stats::{RootfsStats, StatsResult};

/// `counted` is absent while nothing runs; `pids` are those alive.
pub(super) fn of(counted: Option<Stats>, pids: &[i32], rootfs: Option<RootfsStats>) -> StatsResult {
    let Stats { memory, cpu, pids: processes, io, pressure } = counted.unwrap_or_default();
    let alive = pids.iter().filter(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists()).count();
    StatsResult {
        processes: u32::try_from(alive).unwrap_or(u32::MAX),
        cpu_micros: cpu.as_ref().map_or(0, |cpu| cpu.usage_micros),
        memory_bytes: match &memory {
            Some(memory) => memory.current_bytes,
            // Walks their page tables, which takes the longer the more they have.
            None => pids.iter().filter_map(|pid| pss(*pid)).sum(),
        },
        memory,
        cpu,
        pids: processes,
        io,
        pressure,
        rootfs,
    }
}

/// The proportional set size of a process. One that has ended meanwhile has none.
fn pss(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}
