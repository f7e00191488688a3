//! Whether anything wakes up while nothing is done.

use std::time::Duration;

use anyhow::{Result, bail};

use super::report::{Bar, Report};

/// How long it takes until threads that were needed before have ended.
const SETTLE: Duration = Duration::from_secs(12);
/// How long nothing is done.
const STILL: Duration = Duration::from_secs(5);

/// How often a host and the inits of its containers were given a processor meanwhile.
pub(super) struct Woken {
    host: f64,
    inits: f64,
}

impl Woken {
    /// Waits, and looks twice.
    pub(super) fn look(host: u32, inits: &[u32]) -> Result<Self> {
        std::thread::sleep(SETTLE);
        let so_far = || (switches(host), inits.iter().map(|pid| switches(*pid)).sum::<f64>());
        let before = so_far();
        std::thread::sleep(STILL);
        let after = so_far();
        if inits.iter().any(|pid| switches(*pid) == 0.0) {
            bail!("an init has ended while nothing was done");
        }
        Ok(Self { host: after.0 - before.0, inits: after.1 - before.1 })
    }

    /// Says it of so many.
    pub(super) fn report(&self, many: &str, report: &mut Report) {
        for (whose, count) in [("the host's threads", self.host), ("their inits", self.inits)] {
            let what = format!("{many} idle: context switches of {whose} in {} s", STILL.as_secs());
            report.bar(Bar::at_most(&what, 0.0, count));
        }
    }
}

/// How often any thread of a process was given a processor.
fn switches(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok())
        .flat_map(|status| status.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| line.contains("ctxt_switches:"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok())
        .sum()
}
