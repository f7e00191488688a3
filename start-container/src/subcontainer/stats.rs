//! What processes use, read from proc. (Limits and the cgroup's own counts come with the controllers.)

use protocol::subcontainer::StatsResult;

/// The sum over processes; one that ends meanwhile counts nothing.
pub(super) fn of(pids: &[i32]) -> StatsResult {
    let ticks = rustix::param::clock_ticks_per_second();
    let mut total = StatsResult { processes: 0, cpu_micros: 0, memory_bytes: 0 };
    for pid in pids {
        let Some(used) = cpu_ticks(*pid) else { continue };
        total.processes += 1;
        total.cpu_micros += used * 1_000_000 / ticks;
        total.memory_bytes += pss(*pid).unwrap_or(0);
    }
    total
}

/// User and system time, `/proc/<pid>/stat` fields 14 and 15.
fn cpu_ticks(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn pss(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}
