//! `subcontainer stats`: what containers use, once or again and again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clap::Args;
use protocol::ErrorKind;
use protocol::stats::{Pressure, StatsResult};
use protocol::subcontainer::RunState;
use serde::Serialize;

use super::subcontainer::find;
use super::{Context, output};
use crate::error::{Failure, Result};
use crate::subcontainer::{Machine, now};

#[derive(Debug, Args)]
pub(super) struct Stats {
    /// Paths of rootfs, ids, beginnings of ids, or names [default: every container that runs, in a table]
    #[arg(value_name = "ROOTFS|ID|NAME")]
    rootfs: Vec<String>,
    /// Show it again and again, until interrupted or until none of those named runs any more
    #[arg(short, long)]
    watch: bool,
    /// How long to wait between two times
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, requires = "watch")]
    interval: f64,
}

/// A container that is looked at.
#[derive(Debug)]
struct Which {
    guid: String,
    name: Option<String>,
}

/// One look at one container; in JSON a line of its own.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Look<'a> {
    /// Milliseconds since the Unix epoch.
    time: u64,
    guid: &'a str,
    #[serde(flatten)]
    stats: StatsResult,
}

impl Stats {
    pub(super) fn run(&self, context: &Context, machine: &Machine) -> Result<()> {
        let interval = Duration::try_from_secs_f64(self.interval)
            .ok()
            .filter(|interval| (Duration::from_millis(10)..=Duration::from_secs(86400)).contains(interval))
            .ok_or_else(|| {
                Failure::new(ErrorKind::Invalid, "read interval", self.interval)
                    .because(std::io::Error::other("not from 0.01 to 86400 seconds"))
            })?;
        let named = self.rootfs.iter().map(|text| {
            let rootfs = find(machine, text)?;
            Ok(Which { guid: rootfs.guid().to_owned(), name: rootfs.name().map(str::to_owned) })
        });
        let named = named.collect::<Result<Vec<_>>>()?;
        let mut before = HashMap::new();
        loop {
            let all = if self.rootfs.is_empty() { running(machine)? } else { Vec::new() };
            let mut looks = Vec::new();
            for which in named.iter().chain(&all) {
                match machine.stats(&which.guid) {
                    Ok(stats) => looks.push((which, stats)),
                    // Destroyed since.
                    Err(failure)
                        if failure.kind == ErrorKind::NotFound && (self.watch || named.is_empty()) => {}
                    Err(failure) => return Err(failure),
                }
            }
            if self.watch {
                // Nothing runs in what has ended.
                looks.retain(|(_, stats)| stats.processes > 0);
                if looks.is_empty() && !named.is_empty() {
                    return Ok(());
                }
            }
            self.show(context, looks, &mut before)?;
            if !self.watch {
                return Ok(());
            }
            std::thread::sleep(interval);
        }
    }

    fn show(
        &self,
        context: &Context,
        looks: Vec<(&Which, StatsResult)>,
        before: &mut HashMap<String, (Instant, u64)>,
    ) -> Result<()> {
        if context.json {
            for (which, stats) in looks {
                // One that was named is the object that the SDK gets, too.
                if self.watch || self.rootfs.len() != 1 {
                    output::json(&Look { time: now(), guid: &which.guid, stats })?;
                } else {
                    output::json(&stats)?;
                }
            }
            return Ok(());
        }
        if let ([(_, stats)], 1, false) = (&looks[..], self.rootfs.len(), self.watch) {
            output::line(&describe(stats).join("\n"));
            return Ok(());
        }
        if self.watch {
            output::clear();
        }
        let rows: Vec<Vec<String>> = looks.iter().map(|(which, stats)| row(which, stats, before)).collect();
        output::table(
            &["ID", "NAME", "CPU", "MEMORY", "LIMIT", "PROCESSES", "READ", "WRITTEN", "OOM KILLS"],
            &rows,
        );
        Ok(())
    }
}

fn running(machine: &Machine) -> Result<Vec<Which>> {
    let list = machine.list()?.into_iter().filter(|info| matches!(info.state, RunState::Running { .. }));
    Ok(list.map(|info| Which { guid: info.guid, name: info.name }).collect())
}

/// Where something is not counted, a dash.
fn or_dash<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".into(), text)
}

fn row(which: &Which, stats: &StatsResult, before: &mut HashMap<String, (Instant, u64)>) -> Vec<String> {
    let moment = Instant::now();
    let last = before.insert(which.guid.clone(), (moment, stats.cpu_micros));
    // Between two looks; at the first one, all since the launch.
    let cpu = match last {
        Some((then, used)) => {
            let passed = moment.duration_since(then).as_secs_f64().max(f64::EPSILON);
            format!("{:.1}%", stats.cpu_micros.saturating_sub(used) as f64 / 1e4 / passed)
        }
        None => format!("{:.3} s", stats.cpu_micros as f64 / 1e6),
    };
    let memory = stats.memory.as_ref();
    vec![
        which.guid.clone(),
        which.name.clone().unwrap_or_default(),
        cpu,
        output::bytes(stats.memory_bytes),
        or_dash(memory.and_then(|memory| memory.limit_bytes), output::bytes),
        stats.processes.to_string(),
        or_dash(stats.io.as_ref(), |io| output::bytes(io.read_bytes)),
        or_dash(stats.io.as_ref(), |io| output::bytes(io.write_bytes)),
        or_dash(memory, |memory| memory.oom_kills.to_string()),
    ]
}

/// Everything about one container. What is not counted is not there.
fn describe(stats: &StatsResult) -> Vec<String> {
    let seconds = |micros: u64| format!("{:.3} s", micros as f64 / 1e6);
    let mut lines = vec![format!("processes  {}", stats.processes)];
    if let Some(pids) = &stats.pids {
        let limit = pids.limit.map(|limit| format!(", {limit} at most")).unwrap_or_default();
        lines.push(format!("           {} with threads{limit}; {} refused", pids.current, pids.refused));
    }
    lines.push(format!("cpu        {}", seconds(stats.cpu_micros)));
    if let Some(cpu) = &stats.cpu {
        let (user, system) = (seconds(cpu.user_micros), seconds(cpu.system_micros));
        lines.push(format!("           {user} for itself, {system} in the kernel"));
        if let (Some(periods), Some(throttled)) = (cpu.periods, cpu.throttled_periods)
            && periods > 0
        {
            let time = seconds(cpu.throttled_micros.unwrap_or(0));
            lines.push(format!("           held back in {throttled} of {periods} periods, {time}"));
        }
    }
    lines.push(format!("memory     {}", output::bytes(stats.memory_bytes)));
    if let Some(memory) = &stats.memory {
        let parts = [
            memory.limit_bytes.map(|limit| format!("{} at most", output::bytes(limit))),
            memory.peak_bytes.map(|peak| format!("peak {}", output::bytes(peak))),
            Some(format!("anonymous {}", output::bytes(memory.anonymous_bytes))),
            Some(format!("files {}", output::bytes(memory.file_bytes))),
            memory.swap_bytes.map(|swap| format!("swap {}", output::bytes(swap))),
        ];
        lines.push(format!("           {}", parts.into_iter().flatten().collect::<Vec<_>>().join(", ")));
        lines.push(format!("           {} processes killed for want of it", memory.oom_kills));
    }
    if let Some(io) = &stats.io {
        let (read, written) = (output::bytes(io.read_bytes), output::bytes(io.write_bytes));
        lines.push(format!("disks      {read} read in {}, {written} written in {}", io.reads, io.writes));
    }
    if let Some(rootfs) = &stats.rootfs {
        let (used, size) = (output::bytes(rootfs.used_bytes), output::bytes(rootfs.size_bytes));
        lines.push(format!("rootfs     {used} of {size}"));
    }
    let pressure = &stats.pressure;
    let waits = [("cpu", &pressure.cpu), ("memory", &pressure.memory), ("disks", &pressure.io)];
    for (what, Pressure { some, full }) in
        waits.into_iter().filter_map(|(what, it)| Some((what, it.as_ref()?)))
    {
        let total = seconds(some.total_micros);
        let line = format!(
            "{what}: some {:.2}%, all {:.2}% of the last 10 s; {total} in all",
            some.avg10, full.avg10
        );
        let begin = if what == "cpu" { "waiting" } else { "" };
        lines.push(format!("{begin:9}  for {line}"));
    }
    lines
}
