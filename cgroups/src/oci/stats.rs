//! What a container's groups have used, in the words of `events`, which engines read.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Groups;
use crate::controller::Version;
use crate::dir;

/// All of it. A part is absent where no hierarchy counts it.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct OciStats {
    /// Processor time.
    pub cpu: Cpu,
    /// Memory, in bytes.
    pub memory: Memory,
    /// Processes.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages, by size.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    #[serde(skip)]
    oom_kills: u64,
}

/// Processor time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cpu {
    /// Used, in nanoseconds.
    pub usage: CpuUse,
    /// Held back.
    pub throttling: Throttling,
}

/// Processor time used, in nanoseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CpuUse {
    /// Together.
    pub total: u64,
    /// By processor.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// Outside.
    pub user: u64,
}

/// How often and long a quota has held processes back.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods that have passed.
    pub periods: u64,
    /// Of those, with processes held back.
    pub throttled_periods: u64,
    /// For how long, in nanoseconds.
    pub throttled_time: u64,
}

/// Memory.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Memory {
    /// Page cache.
    pub cache: u64,
    /// All of it.
    pub usage: MemoryUse,
    /// With swap.
    pub swap: MemoryUse,
    /// Of the kernel.
    pub kernel: MemoryUse,
    /// `memory.stat`.
    pub raw: BTreeMap<String, u64>,
}

/// One sort of memory, in bytes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MemoryUse {
    /// At most.
    pub limit: u64,
    /// Now.
    pub usage: u64,
    /// So far.
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// Processes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pids {
    /// Now.
    pub current: u64,
    /// At most; 0 is no limit.
    pub limit: u64,
}

/// Block devices.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blkio {
    /// Bytes.
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Requests.
    pub io_serviced_recursive: Vec<BlkioEntry>,
}

/// What was done with one device.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BlkioEntry {
    /// Its number.
    pub major: u64,
    /// Its number.
    pub minor: u64,
    /// `Read`, `Write`, …
    pub op: String,
    /// How much.
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Hugetlb {
    /// Now.
    pub usage: u64,
    /// So far.
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

impl OciStats {
    /// How many processes the kernel has killed for want of memory.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        self.oom_kills
    }
}

impl Groups {
    /// What was used. What cannot be read counts as nothing.
    #[must_use]
    pub fn stats(&self) -> OciStats {
        let mut stats = OciStats::default();
        if self.is_v2() {
            self.v2(&mut stats)
        } else {
            self.v1(&mut stats)
        }
        stats
    }

    fn text(&self, controller: &str, file: &str) -> String {
        let part = self.parts.iter().find(|part| part.has(controller));
        part.and_then(|part| part.read(file).ok()).unwrap_or_default()
    }

    fn number(&self, controller: &str, file: &str) -> u64 {
        number(&self.text(controller, file))
    }

    fn v1(&self, stats: &mut OciStats) {
        let usage = self.text("cpuacct", "cpuacct.usage_percpu");
        let times = self.text("cpuacct", "cpuacct.stat");
        // Clock ticks of a hundredth of a second.
        let ticks = |name| dir::field(&times, name).unwrap_or(0) * 10_000_000;
        stats.cpu.usage = CpuUse {
            total: self.number("cpuacct", "cpuacct.usage"),
            percpu: usage.split_ascii_whitespace().map(number).collect(),
            kernel: ticks("system"),
            user: ticks("user"),
        };
        let held = self.text("cpu", "cpu.stat");
        stats.cpu.throttling = Throttling {
            periods: dir::field(&held, "nr_periods").unwrap_or(0),
            throttled_periods: dir::field(&held, "nr_throttled").unwrap_or(0),
            throttled_time: dir::field(&held, "throttled_time").unwrap_or(0),
        };
        let memory = |kind: &str| MemoryUse {
            limit: self.number("memory", &format!("memory.{kind}limit_in_bytes")),
            usage: self.number("memory", &format!("memory.{kind}usage_in_bytes")),
            max: self.number("memory", &format!("memory.{kind}max_usage_in_bytes")),
            failcnt: self.number("memory", &format!("memory.{kind}failcnt")),
        };
        stats.oom_kills = dir::field(&self.text("memory", "memory.oom_control"), "oom_kill").unwrap_or(0);
        let raw = fields(&self.text("memory", "memory.stat"));
        stats.memory = Memory {
            cache: raw.get("total_cache").copied().unwrap_or(0),
            usage: memory(""),
            swap: memory("memsw."),
            kernel: memory("kmem."),
            raw,
        };
        stats.pids =
            Pids { current: self.number("pids", "pids.current"), limit: self.number("pids", "pids.max") };
        stats.blkio = Blkio {
            io_service_bytes_recursive: table(
                &self.text("blkio", "blkio.throttle.io_service_bytes_recursive"),
            ),
            io_serviced_recursive: table(&self.text("blkio", "blkio.throttle.io_serviced_recursive")),
        };
    }

    fn v2(&self, stats: &mut OciStats) {
        let times = self.text("cgroup", "cpu.stat");
        let nanoseconds = |name| dir::field(&times, name).unwrap_or(0) * 1000;
        stats.cpu.usage = CpuUse {
            total: nanoseconds("usage_usec"),
            percpu: Vec::new(),
            kernel: nanoseconds("system_usec"),
            user: nanoseconds("user_usec"),
        };
        stats.cpu.throttling = Throttling {
            periods: dir::field(&times, "nr_periods").unwrap_or(0),
            throttled_periods: dir::field(&times, "nr_throttled").unwrap_or(0),
            throttled_time: nanoseconds("throttled_usec"),
        };
        let raw = fields(&self.text("memory", "memory.stat"));
        let events = self.text("memory", "memory.events");
        stats.oom_kills = dir::field(&events, "oom_kill").unwrap_or(0);
        stats.memory = Memory {
            cache: raw.get("file").copied().unwrap_or(0),
            usage: MemoryUse {
                limit: limit(&self.text("memory", "memory.max")),
                usage: self.number("memory", "memory.current"),
                max: self.number("memory", "memory.peak"),
                failcnt: dir::field(&events, "max").unwrap_or(0),
            },
            swap: MemoryUse {
                limit: limit(&self.text("memory", "memory.swap.max")),
                usage: self.number("memory", "memory.swap.current"),
                max: self.number("memory", "memory.swap.peak"),
                failcnt: 0,
            },
            kernel: MemoryUse::default(),
            raw,
        };
        stats.pids =
            Pids { current: self.number("pids", "pids.current"), limit: self.number("pids", "pids.max") };
        for line in self.text("io", "io.stat").lines() {
            let mut words = line.split_ascii_whitespace();
            let Some((major, minor)) = words.next().and_then(parse_device) else { continue };
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                let (list, op) = match key {
                    "rbytes" => (&mut stats.blkio.io_service_bytes_recursive, "Read"),
                    "wbytes" => (&mut stats.blkio.io_service_bytes_recursive, "Write"),
                    "rios" => (&mut stats.blkio.io_serviced_recursive, "Read"),
                    "wios" => (&mut stats.blkio.io_serviced_recursive, "Write"),
                    _ => continue,
                };
                list.push(BlkioEntry { major, minor, op: op.to_owned(), value: number(value) });
            }
        }
    }

    /// Whether the groups are cgroup v2's alone.
    #[must_use]
    pub fn version(&self) -> Version {
        if self.is_v2() { Version::V2 } else { Version::V1 }
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

fn limit(text: &str) -> u64 {
    if text.trim() == "max" { u64::MAX } else { number(text) }
}

fn fields(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| line.split_once(' ').map(|(name, value)| (name.to_owned(), number(value)));
    text.lines().filter_map(line).collect()
}

fn parse_device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn table(text: &str) -> Vec<BlkioEntry> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (major, minor) = words.next().and_then(parse_device)?;
        Some(BlkioEntry { major, minor, op: words.next()?.to_owned(), value: number(words.next()?) })
    };
    text.lines().filter_map(line).collect()
}
