//! What runs in the groups of a container: who, stopped, let go, ended.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::Groups;
use crate::dir;
use crate::error::{Error, Result};

impl Groups {
    /// Processes in the groups and beneath.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        let part = self.parts.iter().find(|part| part.has("pids")).or_else(|| self.parts.first());
        let mut pids =
            part.map(|part| dir::processes(part.dir.as_fd()).unwrap_or_default()).unwrap_or_default();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Stops everything in them, or lets it go on. Returns when it has stopped.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where there is no freezer, [`Error::Write`].
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        // The freezer of v1 is what others look at, where there is one.
        if let Some(part) = self.parts.iter().find(|part| part.has("freezer")) {
            let state = if frozen { "FROZEN" } else { "THAWED" };
            loop {
                part.write("freezer.state", state)?;
                if part.read("freezer.state").is_ok_and(|text| text.trim() == state) {
                    return Ok(());
                }
                if Instant::now() > deadline {
                    // What cannot be stopped must not stay half stopped.
                    part.write("freezer.state", "THAWED")?;
                    return Err(part.failed("freezer.state", state, Errno::TIMEDOUT));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let part = self.unified().ok_or(Error::Unsupported { field: "freezer" })?;
        part.write("cgroup.freeze", if frozen { "1" } else { "0" })?;
        let wanted = u64::from(frozen);
        while part.read("cgroup.events").is_ok_and(|text| dir::field(&text, "frozen") != Some(wanted)) {
            if Instant::now() > deadline {
                part.write("cgroup.freeze", "0")?;
                return Err(part.failed("cgroup.freeze", "1", Errno::TIMEDOUT));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether they are stopped.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        if let Some(part) = self.parts.iter().find(|part| part.has("freezer")) {
            return part.read("freezer.state").is_ok_and(|text| text.trim() != "THAWED");
        }
        self.unified().is_some_and(|part| part.read("cgroup.freeze").is_ok_and(|text| text.trim() == "1"))
    }

    /// SIGKILL to everything in them. What is stopped is let go, to die.
    pub fn kill(&self) {
        // What is not there, or gone, has nothing to be killed in.
        if let Some(part) = self.unified()
            && part.write("cgroup.kill", "1").is_ok()
            && !self.is_frozen()
        {
            return;
        }
        for pid in self.processes() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
        }
        if self.is_frozen() {
            self.freeze(false).ok();
        }
    }

    /// Ends everything in them and waits for it, ten seconds at most.
    pub fn end(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.processes().is_empty() && Instant::now() < deadline {
            self.kill();
            let last = self.processes().pop().and_then(rustix::process::Pid::from_raw);
            if let Some(handle) = last.and_then(|pid| linux::pidfd::open(pid).ok()) {
                // Whether it has or not: whoever waits looks again.
                let _ended = linux::pidfd::ends_within(&handle, Duration::from_millis(100));
            }
        }
    }
}
