//! Functions that run at certain times.
//!
//! ```text
//! next time ──▶ wait ──▶ due ──▶ runs still, or its process does not ──▶ left out, counted
//!     ▲                   ├──▶ more than a minute ago (the machine slept) ──▶ left out, counted
//!     └───────────────────┴──▶ run ──▶ what came of it: status, event
//! ```
//! A function does not run twice at a time, and a time that has gone by, with the host or without, does not come back. The wait
//! is cut into pieces: the clock may be set, and a machine may sleep.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use packages::manifest::Name;
use packages::manifest::schedule::Schedule;
use protocol::ErrorKind;
use protocol::broker::TaskInfo;
use protocol::function::{RunFunctionParams, ScheduledInfo};
use protocol::process::Outcome;
use protocol::session::EventKind;
use tokio::task::JoinHandle;

use super::super::state::Host;
use super::Light;
use crate::engine::lock;
use crate::error::{Failure, Result};
use crate::subcontainer::now;

/// The longest that is slept without a look at the clock.
const NAP: Duration = Duration::from_secs(20);
/// What is later than that is left out, in milliseconds.
const LATE: u64 = 60_000;
/// How long a run is waited for: longer than it may take in its process.
const PATIENCE: Duration = Duration::from_secs(65);

/// A function that runs at certain times.
pub(super) struct Scheduled {
    name: Name,
    schedule: Schedule,
    info: Mutex<ScheduledInfo>,
}

impl Scheduled {
    pub(super) fn new(name: &Name, text: &str) -> Option<Self> {
        // A manifest with a schedule that is none was not read.
        let schedule = Schedule::parse(text).ok()?;
        let last = TaskInfo { task: name.to_string(), ..TaskInfo::default() };
        let info = ScheduledInfo { schedule: text.to_owned(), next: None, skipped: 0, last };
        Some(Self { name: name.clone(), schedule, info: Mutex::new(info) })
    }

    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    pub(super) fn info(&self) -> ScheduledInfo {
        lock(&self.info).clone()
    }

    /// It runs from now on.
    fn begin(&self) -> Result<()> {
        let mut info = lock(&self.info);
        if info.last.running {
            return Err(Failure::new(ErrorKind::Busy, "run function", &self.name)
                .because(std::io::Error::other("it runs already")));
        }
        let (task, runs) = (self.name.to_string(), info.last.runs + 1);
        info.last = TaskInfo { task, running: true, runs, started: Some(now()), ..TaskInfo::default() };
        Ok(())
    }
}

/// Runs a function now, to its end, and tells of that. `due`: since when, in milliseconds since the Unix epoch.
pub(super) async fn run(
    light: &Light,
    host: &Weak<Host>,
    scheduled: &Scheduled,
    due: u64,
) -> Result<TaskInfo> {
    scheduled.begin()?;
    let params = RunFunctionParams { scheduled: due };
    let done = light.call::<()>(&scheduled.name, "run", &params, PATIENCE).await;
    let error = done.err().map(|failure| failure.sentence());
    let last = {
        let mut info = lock(&scheduled.info);
        info.last.running = false;
        info.last.ended = Some(now());
        info.last.outcome = error.is_none().then_some(Outcome::Exit { code: 0 });
        info.last.error.clone_from(&error);
        info.last.clone()
    };
    if let Some(host) = host.upgrade() {
        let (package_id, entry) = (light.id.to_string(), scheduled.name.to_string());
        host.emit("", EventKind::FunctionRan { package_id, entry, error });
    }
    Ok(last)
}

/// Runs it whenever it is due, for as long as this task is there.
pub(super) fn keep(light: &Arc<Light>, host: Weak<Host>, scheduled: Arc<Scheduled>) -> JoinHandle<()> {
    let light = Arc::downgrade(light);
    tokio::spawn(async move {
        let mut after = now();
        while let Some(due) = scheduled.schedule.next(after) {
            lock(&scheduled.info).next = Some(due);
            let mut at = now();
            while at < due {
                tokio::time::sleep(NAP.min(Duration::from_millis(due - at))).await;
                at = now();
            }
            after = at;
            let Some(light) = light.upgrade() else { return };
            if at - due > LATE || lock(&scheduled.info).last.running || !light.runs() {
                lock(&scheduled.info).skipped += 1;
                continue;
            }
            let (host, scheduled) = (host.clone(), Arc::clone(&scheduled));
            // By itself: the next time is looked for meanwhile.
            tokio::spawn(async move { run(&light, &host, &scheduled, due).await });
        }
    })
}
