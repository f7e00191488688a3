//! `top`: the processes in a container.

use clap::Args;
use protocol::ErrorKind;
use serde::Serialize;

use super::{Context, output, subcontainer};
use crate::error::{Failure, Result};

#[derive(Debug, Args)]
pub(super) struct Top {
    #[command(flatten)]
    which: subcontainer::Which,
}

/// A process, as the machine sees it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    /// Its id on the machine.
    pid: i32,
    /// Its id inside.
    inside: i32,
    /// Its parent's, on the machine.
    parent: i32,
    /// Its user, on the machine.
    uid: u32,
    /// `R`, `S`, `D`, `Z`, … as in proc(5).
    state: char,
    threads: u32,
    cpu_micros: u64,
    memory_bytes: u64,
    command: String,
}

impl Top {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let machine = context.machine_of(self.which.text())?;
        let rootfs = self.which.find(&machine)?;
        let leader = machine.leader_of(rootfs.guid())?.ok_or_else(|| {
            Failure::new(ErrorKind::NotRunning, "look into", rootfs.guid())
                .because(std::io::Error::other("it is not running"))
        })?;
        let pids = leader.processes()?;
        let mut all: Vec<Seen> = pids.into_iter().filter_map(look).collect();
        all.sort_by_key(|seen| seen.pid);
        if context.json {
            return output::json(&all);
        }
        let rows: Vec<Vec<String>> = all
            .iter()
            .map(|seen| {
                vec![
                    seen.pid.to_string(),
                    seen.inside.to_string(),
                    seen.uid.to_string(),
                    seen.state.to_string(),
                    format!("{:.2} s", seen.cpu_micros as f64 / 1e6),
                    output::bytes(seen.memory_bytes),
                    seen.threads.to_string(),
                    output::plain(&seen.command),
                ]
            })
            .collect();
        output::table(&["PID", "INSIDE", "UID", "S", "CPU", "MEMORY", "THREADS", "COMMAND"], &rows);
        Ok(())
    }
}

/// A process that has ended meanwhile is none.
fn look(pid: i32) -> Option<Seen> {
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).ok();
    let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
    // The name, in parentheses, may hold anything.
    let (before, after) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = String::from_utf8_lossy(&read("status")?).into_owned();
    let of = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let command = read("cmdline")?;
    let command = match command.as_slice() {
        // A zombie has none; nor has who has cleared it.
        [] => format!("[{}]", before.split_once('(')?.1),
        bytes => String::from_utf8_lossy(bytes).replace('\0', " ").trim_end().to_owned(),
    };
    Some(Seen {
        pid,
        inside: of("NSpid:").and_then(|ids| ids.split_ascii_whitespace().last()?.parse().ok()).unwrap_or(pid),
        parent: fields.get(1)?.parse().ok()?,
        uid: of("Uid:").and_then(|ids| ids.split_ascii_whitespace().next()?.parse().ok())?,
        state: fields.first()?.chars().next()?,
        threads: of("Threads:").and_then(|count| count.parse().ok()).unwrap_or(1),
        cpu_micros: ticks * 1_000_000 / rustix::param::clock_ticks_per_second().max(1),
        memory_bytes: of("VmRSS:")
            .and_then(|size| size.split_ascii_whitespace().next()?.parse::<u64>().ok())
            .map_or(0, |kib| kib * 1024),
        command,
    })
}
