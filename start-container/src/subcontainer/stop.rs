//! Ending what runs in a subcontainer, which stays.

use std::time::{Duration, Instant};

use linux::signal::Signal;
use protocol::ErrorKind;
use protocol::process::Outcome;

use super::leader::caller_lives;
use super::{Leader, Machine, check_guid};
use crate::engine::process;
use crate::error::{Failure, Result};

/// Milliseconds between the signal and the end by force, as Docker has it.
pub(crate) const STOP_PATIENCE: u64 = 10_000;

/// How long whoever launched it has to write down how it ended.
const LAUNCHERS_PATIENCE: Duration = Duration::from_secs(5);

/// How long the machine's init has to reap it.
const REAPERS_PATIENCE: Duration = Duration::from_millis(500);

/// The signal that asks a leader to end: that which is named, else its image's, else SIGTERM.
pub(crate) fn stop_signal(leader: &Leader, named: Option<&str>) -> Result<Signal> {
    let name = named.or(leader.record.image.stop_signal.as_deref()).unwrap_or("SIGTERM");
    name.parse().map_err(|error| Failure::new(ErrorKind::Invalid, "read signal", name).because(error))
}

impl Machine {
    /// The leader of a subcontainer, which must exist, if one runs.
    pub(crate) fn leader_of(&self, guid: &str) -> Result<Option<Leader>> {
        check_guid(guid)?;
        self.rootfs(guid)?;
        self.leader(guid)
    }

    /// Asks a leader to end, and ends everything inside if it has not after a time. Whether it had to.
    ///
    /// `forced` is called before that.
    pub(crate) fn stop(
        &self,
        leader: &Leader,
        signal: Signal,
        timeout: Duration,
        forced: impl FnOnce(),
    ) -> Result<bool> {
        let fail = |errno| Failure::kernel("stop", &leader.guid, errno);
        leader.process.signal(signal).map_err(fail)?;
        if linux::pidfd::ends_within(&leader.process.pidfd, timeout) {
            return Ok(false);
        }
        forced();
        // Everything inside, whatever it has done to be spared. With it goes the leader.
        leader.group.kill().map_err(fail)?;
        leader.process.signal(Signal::KILL).map_err(fail)?;
        if !linux::pidfd::ends_within(&leader.process.pidfd, LAUNCHERS_PATIENCE) {
            return Err(Failure::new(ErrorKind::Busy, "stop", &leader.guid)
                .because(std::io::Error::other("it was killed, and the kernel has not ended it yet")));
        }
        Ok(true)
    }

    /// How a leader that has ended by now has ended, when whoever watches it has written that down.
    pub(crate) fn ended_leader(&self, guid: &str) -> Result<Outcome> {
        let begun = Instant::now();
        loop {
            let _is_there = self.rootfs(guid)?;
            let state = super::state::read(&self.run_dir, guid)?;
            if let (None, Some(outcome)) = (state.leader, state.exited) {
                return Ok(outcome);
            }
            if begun.elapsed() > LAUNCHERS_PATIENCE {
                return Ok(Outcome::Unknown);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// As [`Machine::ended_leader`], where no host watches it: if who has launched it is gone, this writes it down.
    pub(crate) fn settle_end(&self, leader: &Leader) -> Result<Outcome> {
        if caller_lives(&leader.record.group) {
            return self.ended_leader(&leader.guid);
        }
        // The kernel tells when the machine's init has reaped it, which may take a moment.
        let begun = Instant::now();
        let mut status = linux::pidfd::exit_info(&leader.process.pidfd);
        while status.is_none() && begun.elapsed() < REAPERS_PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
            status = linux::pidfd::exit_info(&leader.process.pidfd);
        }
        let outcome = status.map_or(Outcome::Unknown, process::outcome);
        self.leader_ended(&leader.guid, leader.process.pid, outcome)?;
        self.ended_leader(&leader.guid)
    }
}
