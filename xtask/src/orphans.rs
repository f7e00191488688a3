//! Orphans of what is started from here: they become our children, where the look at the machine finds them, and are collected
//! when they have ended.
//!
//! ```text
//! xtask test ──┬── xtask test ─── cargo nextest, vitest …       the work, which waits for whom it has started
//!              └── orphans of these                             collected by the one at the top, which does nothing else
//! ```
//! Who gets orphans has to collect them: the first process of a pid namespace does not end before everything in there is
//! collected (`zap_pid_ns_processes` in the kernel), so commands of a host that was killed would keep their container's
//! leader from ending, for as long as these commands run. Nobody who waits for children of his own can tell those from
//! orphans; therefore two processes.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, set_child_subreaper, set_parent_process_death_signal, wait,
};

/// Tells the second process who the first is.
const COLLECTOR: &str = "START_CONTAINER_XTASK_COLLECTOR";

/// Which of the two this is.
pub(crate) enum Role {
    /// The first. The second has ended like this.
    Collector(ExitCode),
    /// The second. The process beneath which all orphans are.
    Worker(u32),
}

/// In the first process: runs this program once more, until that has ended. In the second: goes on.
pub(crate) fn role() -> Result<Role> {
    let parent = getppid().map(number);
    let told = std::env::var(COLLECTOR).ok().and_then(|text| text.parse().ok());
    if let Some(collector) = parent.filter(|parent| told == Some(*parent)) {
        set_parent_process_death_signal(Some(Signal::TERM)).context("end with our parent")?;
        return Ok(Role::Worker(collector));
    }
    // The second gets Ctrl-C by itself, from the terminal, and may have to clean up.
    ctrlc::set_handler(|| {}).context("catch Ctrl-C")?;
    set_child_subreaper(Some(getpid())).context("become a subreaper")?;
    let mut again = Command::new(std::env::current_exe().context("find this program")?);
    again.args(std::env::args_os().skip(1)).env(COLLECTOR, number(getpid()).to_string());
    let worker = again.spawn().context("start this program once more")?.id();
    loop {
        // Any child. (`waitpid` without a number means those of our process group.)
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if number(pid) == worker => {
                let code = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
                let code = code.and_then(|code| u8::try_from(code).ok());
                return Ok(Role::Collector(code.map_or(ExitCode::FAILURE, ExitCode::from)));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context("wait for children"),
        }
    }
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}
