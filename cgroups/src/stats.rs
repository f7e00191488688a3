//! What a group uses, from whichever version counts it.
//!
//! Processor time and pressure are counted in every v2 group, without a controller, so they come from there even
//! where all controllers are bound to v1.

pub use protocol::stats::{CpuStats, IoStats, MemoryStats, PidsStats, Pressure, PressureStats, Stall};

use crate::controller::{Controller, Version};
use crate::dir::field;
use crate::error::Result;
use crate::group::{Group, GroupPart};
use crate::limits::Limits;
use crate::oom;

/// What is used. A part that is not counted here is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Processes and threads.
    pub pids: Option<PidsStats>,
    /// Block devices.
    pub io: Option<IoStats>,
    /// Time lost by waiting. Kernel: built with PSI and not booted with `psi=0`.
    pub pressure: PressureStats,
}

impl Stats {
    pub(crate) fn read(group: &Group) -> Result<Self> {
        let part = |controller| group.part(controller);
        Ok(Self {
            memory: part(Controller::Memory).map(memory).transpose()?,
            cpu: cpu(group)?,
            pids: part(Controller::Pids).map(pids).transpose()?,
            io: part(Controller::Io).map(io).transpose()?,
            pressure: group.unified().map(pressure).transpose()?.unwrap_or_default(),
        })
    }
}

/// A limit as the kernel shows it. v1 shows none as the largest number of pages.
fn limit(part: &GroupPart, file: &str) -> Option<u64> {
    part.number(file).filter(|&limit| limit < Limits::UNLIMITED)
}

fn memory(part: &GroupPart) -> Result<MemoryStats> {
    let text = part.read("memory.stat")?;
    let number = |text: &str| text.trim().parse().unwrap_or(0);
    Ok(match part.version() {
        Version::V1 => MemoryStats {
            current_bytes: number(&part.read("memory.usage_in_bytes")?),
            peak_bytes: part.number("memory.max_usage_in_bytes"),
            limit_bytes: limit(part, "memory.limit_in_bytes"),
            anonymous_bytes: field(&text, "total_rss").unwrap_or(0),
            file_bytes: field(&text, "total_cache").unwrap_or(0),
            swap_bytes: field(&text, "total_swap"),
            oom_kills: oom::kills(part)?,
        },
        Version::V2 => MemoryStats {
            current_bytes: number(&part.read("memory.current")?),
            peak_bytes: part.number("memory.peak"),
            limit_bytes: limit(part, "memory.max"),
            anonymous_bytes: field(&text, "anon").unwrap_or(0),
            file_bytes: field(&text, "file").unwrap_or(0),
            swap_bytes: part.number("memory.swap.current"),
            oom_kills: oom::kills(part)?,
        },
    })
}

fn cpu(group: &Group) -> Result<Option<CpuStats>> {
    let Some(unified) = group.unified() else { return Ok(None) };
    let text = unified.read("cpu.stat")?;
    let number = |name| field(&text, name).unwrap_or(0);
    let mut stats = CpuStats {
        usage_micros: number("usage_usec"),
        user_micros: number("user_usec"),
        system_micros: number("system_usec"),
        periods: field(&text, "nr_periods"),
        throttled_periods: field(&text, "nr_throttled"),
        throttled_micros: field(&text, "throttled_usec"),
    };
    if let Some(part) = group.part(Controller::Cpu).filter(|part| part.version() == Version::V1) {
        let text = part.read("cpu.stat")?;
        stats.periods = field(&text, "nr_periods");
        stats.throttled_periods = field(&text, "nr_throttled");
        // Nanoseconds here.
        stats.throttled_micros = field(&text, "throttled_time").map(|time| time / 1000);
    }
    Ok(Some(stats))
}

fn pids(part: &GroupPart) -> Result<PidsStats> {
    let current = part.read("pids.current")?.trim().parse().unwrap_or(0);
    let refused = field(&part.read("pids.events")?, "max").unwrap_or(0);
    Ok(PidsStats { current, limit: limit(part, "pids.max"), refused })
}

fn io(part: &GroupPart) -> Result<IoStats> {
    if part.version() == Version::V2 {
        return Ok(sum_v2(&part.read("io.stat")?));
    }
    let read = |file| part.read_if_there(file);
    let bytes = read("blkio.throttle.io_service_bytes_recursive")?.unwrap_or_default();
    let count = read("blkio.throttle.io_serviced_recursive")?.unwrap_or_default();
    Ok(IoStats {
        read_bytes: sum_v1(&bytes, "Read"),
        write_bytes: sum_v1(&bytes, "Write"),
        reads: sum_v1(&count, "Read"),
        writes: sum_v1(&count, "Write"),
    })
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn sum_v2(text: &str) -> IoStats {
    let mut sum = IoStats::default();
    for (key, value) in text.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
        let value = value.parse().unwrap_or(0);
        match key {
            "rbytes" => sum.read_bytes += value,
            "wbytes" => sum.write_bytes += value,
            "rios" => sum.reads += value,
            "wios" => sum.writes += value,
            _ => {}
        }
    }
    sum
}

/// `8:0 Read 4096`.
fn sum_v1(text: &str, what: &str) -> u64 {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        (words.next()? == what).then(|| words.next()?.parse::<u64>().ok())?
    };
    text.lines().filter_map(line).sum()
}

fn pressure(part: &GroupPart) -> Result<PressureStats> {
    let read = |file| Ok(part.read_if_there(file)?.as_deref().and_then(parse_pressure));
    Ok(PressureStats {
        cpu: read("cpu.pressure")?,
        memory: read("memory.pressure")?,
        io: read("io.pressure")?,
    })
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`.
fn parse_pressure(text: &str) -> Option<Pressure> {
    let stall = |kind: &str| {
        let words = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let value = |key: &str| {
            words.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        Some(Stall {
            avg10: value("avg10")?.parse().ok()?,
            avg60: value("avg60")?.parse().ok()?,
            avg300: value("avg300")?.parse().ok()?,
            total_micros: value("total")?.parse().ok()?,
        })
    };
    Some(Pressure { some: stall("some")?, full: stall("full").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_is_summed_over_devices() {
        let v2 =
            "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=7 dios=1\n8:16 rbytes=1 wbytes=2 rios=3 wios=4\n";
        assert_eq!(sum_v2(v2), IoStats { read_bytes: 11, write_bytes: 22, reads: 4, writes: 6 });
        let v1 = "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n8:16 Read 1\nTotal 31\n";
        assert_eq!((sum_v1(v1, "Read"), sum_v1(v1, "Write")), (11, 20));
    }

    #[test]
    fn pressure_is_parsed() {
        let text = "some avg10=1.50 avg60=0.20 avg300=0.00 total=77\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=7\n";
        let parsed = parse_pressure(text).unwrap();
        assert_eq!((parsed.some.avg10, parsed.some.total_micros, parsed.full.total_micros), (1.5, 77, 7));
        assert_eq!(parse_pressure("nonsense"), None);
    }
}
