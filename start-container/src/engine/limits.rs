//! What a container may use of the machine: its control groups with controllers, if limits were asked for.
//!
//! Planned before anything is made. Every process of the container joins the groups before it does anything else.

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use cgroups::{Group, Machine, Plan};
use protocol::limits::Limits;
use protocol::process::Outcome;

use crate::error::{Failure, Result};

/// The machine's controllers, looked at on first use.
#[derive(Debug, Default)]
pub(crate) struct Controllers {
    machine: OnceLock<Machine>,
    keep: bool,
}

impl Controllers {
    /// `keep`: what is above the groups stays when the last of them goes, until [`Controllers::tidy`].
    pub(crate) fn new(keep: bool) -> Self {
        Self { machine: OnceLock::new(), keep }
    }

    /// Takes away what was kept, if there is no group.
    pub(crate) fn tidy(&self) {
        // Also what an earlier one kept, or was about to make or to remove, who was killed.
        if (self.keep || self.machine.get().is_some())
            && let Ok(machine) = self.machine()
        {
            machine.tidy();
        }
    }

    fn machine(&self) -> Result<&Machine> {
        if let Some(machine) = self.machine.get() {
            return Ok(machine);
        }
        let machine = Machine::probe().map_err(Failure::from)?;
        let machine = if self.keep { machine.kept() } else { machine };
        Ok(self.machine.get_or_init(|| machine))
    }

    /// How limits are kept on this machine; none, when none are asked for.
    ///
    /// # Errors
    /// `Invalid`: a limit that makes no sense, or whose controller this machine lacks.
    pub(crate) fn plan(&self, limits: &Limits) -> Result<Option<Plan>> {
        if *limits == Limits::default() {
            return Ok(None);
        }
        self.machine()?.plan(limits).map(Some).map_err(Failure::from)
    }

    /// Makes the groups.
    pub(crate) fn create(&self, guid: &str, plan: &Plan) -> Result<Limited> {
        Group::create(self.machine()?, guid, plan)
            .map(|group| Limited(Arc::new(group)))
            .map_err(Failure::from)
    }

    /// The groups that an earlier launch made.
    pub(crate) fn existing(&self, guid: &str) -> Result<Option<Limited>> {
        let group = Group::open(self.machine()?, guid).map_err(Failure::from)?;
        Ok(group.map(|group| Limited(Arc::new(group))))
    }
}

/// The groups of one container.
#[derive(Clone, Debug)]
pub(crate) struct Limited(Arc<Group>);

impl Limited {
    /// The files through which a child joins those that it is not cloned into.
    pub(crate) fn joins(&self) -> Result<Vec<Arc<OwnedFd>>> {
        let files = self.0.join_files().map_err(Failure::from)?;
        Ok(files.into_iter().map(Arc::new).collect())
    }

    /// Takes the groups away. Whatever ran in them has ended.
    pub(crate) fn remove(&self) -> Result<()> {
        self.0.remove().map_err(Failure::from)
    }

    /// To tell later whether memory ran out.
    pub(crate) fn count_kills(&self) -> Kills {
        Kills { group: self.clone(), before: self.kills() }
    }

    fn kills(&self) -> u64 {
        // Without the controller, none are counted.
        self.0.oom_kills().ok().flatten().unwrap_or(0)
    }
}

/// The kernel's out-of-memory kills in a container when a process began.
#[derive(Clone, Debug)]
pub(crate) struct Kills {
    group: Limited,
    before: u64,
}

impl Kills {
    /// A process that was killed after the kernel had killed in its container, for want of memory, was it.
    pub(crate) fn explain(&self, outcome: Outcome) -> Outcome {
        let killed = matches!(outcome, Outcome::Signal { number, .. } if number == linux::signal::Signal::KILL.as_raw());
        if killed && self.group.kills() > self.before { Outcome::OutOfMemory } else { outcome }
    }
}

/// In words, with the controller's version: `memoryBytes 16777216 (cgroup v1)`.
pub(crate) fn describe(limits: &Limits) -> Result<Vec<String>> {
    let controllers = Controllers::default();
    let Some(plan) = controllers.plan(limits)? else { return Ok(Vec::new()) };
    let values = serde_json::to_value(limits).unwrap_or_default();
    let mut said: Vec<String> = Vec::new();
    for (_, version, setting) in plan.settings() {
        let Some(value) = values.get(setting.limit) else { continue };
        let line = format!("{} {value} ({version})", setting.limit);
        if !said.contains(&line) {
            said.push(line);
        }
    }
    Ok(said)
}
