//! What the broker has decided, done by the host, for one package: commands in its sandbox, what it uses, what it says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use broker::hands::{Failed, Hands};
use packages::manifest::PackageId;
use protocol::ErrorKind;
use protocol::broker::{DependencyInfo, LogLevel, ProcessStatusResult, TaskInfo};
use protocol::process::{CommandOptions, Outcome, SpawnParams, Stdio, Streams};
use protocol::session::EventKind;
use protocol::stats::StatsResult;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::jobs::Jobs;
use super::run;
use super::state::Host;
use crate::engine::lock;
use crate::engine::process::Process;
use crate::error::{Failure, Result};

/// Commands of one package that run at once.
const RUNNING: usize = 32;
/// Commands that have ended and whose end is remembered.
const ENDED: usize = 64;
/// Between SIGTERM and the end of all that a command has started.
const GRACE: Duration = Duration::from_secs(2);

/// The host's hands for one package that is active.
pub(super) struct PackageHands {
    host: Weak<Host>,
    runtime: Handle,
    id: PackageId,
    sandbox: Option<String>,
    /// By name: the subcontainers that run.
    services: Mutex<BTreeMap<String, String>>,
    commands: Mutex<Commands>,
    /// The package starts after its door is open.
    jobs: OnceLock<Arc<Jobs>>,
}

#[derive(Default)]
struct Commands {
    count: u64,
    starting: usize,
    known: BTreeMap<u64, (Process, watch::Receiver<Option<Outcome>>)>,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { kind: failure.kind, message: failure.sentence() }
    }
}

fn failed(kind: ErrorKind, message: impl Into<String>) -> Failed {
    Failed { kind, message: message.into() }
}

impl PackageHands {
    pub(super) fn new(host: Weak<Host>, runtime: Handle, id: PackageId, sandbox: Option<String>) -> Self {
        let (services, commands) = (Mutex::default(), Mutex::default());
        Self { host, runtime, id, sandbox, services, commands, jobs: OnceLock::new() }
    }

    /// A service has been started.
    pub(super) fn knows(&self, service: &str, guid: &str) {
        lock(&self.services).insert(service.to_owned(), guid.to_owned());
    }

    /// What it can run to its end.
    pub(super) fn has_jobs(&self, jobs: &Arc<Jobs>) {
        // It is set once, here.
        _ = self.jobs.set(Arc::clone(jobs));
    }

    fn jobs(&self) -> std::result::Result<&Arc<Jobs>, Failed> {
        self.jobs.get().ok_or_else(|| failed(ErrorKind::NotRunning, "it does not run yet"))
    }

    fn host(&self) -> std::result::Result<Arc<Host>, Failed> {
        self.host.upgrade().ok_or_else(|| failed(ErrorKind::NotRunning, "the host is stopping"))
    }

    fn guid(&self, service: Option<&str>) -> std::result::Result<String, Failed> {
        let services = lock(&self.services);
        let found = match service {
            Some(name) => services.get(name),
            None if services.len() == 1 => services.values().next(),
            None if services.is_empty() => None,
            None => return Err(failed(ErrorKind::Invalid, "there is more than one service: say in which")),
        };
        found.cloned().ok_or_else(|| failed(ErrorKind::NotFound, "no such service runs"))
    }

    fn command(
        &self,
        name: &str,
    ) -> std::result::Result<(Process, watch::Receiver<Option<Outcome>>), Failed> {
        let number = name.strip_prefix('c').and_then(|number| number.parse().ok());
        let commands = lock(&self.commands);
        let known = number.and_then(|number: u64| commands.known.get(&number));
        known.cloned().ok_or_else(|| failed(ErrorKind::NotFound, "no such process"))
    }

    fn start(
        &self,
        host: &Arc<Host>,
        guid: String,
        command: &[String],
    ) -> Result<(Process, watch::Receiver<Option<Outcome>>)> {
        let streams = Streams { stdout: Stdio::Log, stderr: Stdio::Log, ..Streams::default() };
        let params = SpawnParams {
            guid,
            command: command.to_vec(),
            options: CommandOptions::default(),
            streams,
            tree: true,
        };
        self.runtime.block_on(run::spawn_unheard(host, params))
    }
}

impl Hands for PackageHands {
    fn run(&self, command: &[String], service: Option<&str>) -> std::result::Result<String, Failed> {
        let (host, guid) = (self.host()?, self.guid(service)?);
        {
            let mut commands = lock(&self.commands);
            let ended: Vec<u64> = commands
                .known
                .iter()
                .filter(|(_, (_, outcome))| outcome.borrow().is_some())
                .map(|(number, _)| *number)
                .collect();
            if commands.known.len() - ended.len() + commands.starting >= RUNNING {
                return Err(failed(ErrorKind::Exhausted, format!("{RUNNING} commands of this package run")));
            }
            for number in ended.iter().take(ended.len().saturating_sub(ENDED)) {
                commands.known.remove(number);
            }
            commands.starting += 1;
        }
        // Not under the lock: those in the sandbox can hold a start up, and who asks for a status must not wait for it.
        let started = self.start(&host, guid, command);
        let mut commands = lock(&self.commands);
        commands.starting -= 1;
        commands.count += 1;
        let number = commands.count;
        commands.known.insert(number, started?);
        Ok(format!("c{number}"))
    }

    fn status(&self, process: &str) -> std::result::Result<ProcessStatusResult, Failed> {
        let (_, outcome) = self.command(process)?;
        let outcome = outcome.borrow().clone();
        Ok(ProcessStatusResult { outcome })
    }

    fn stop(&self, process: &str) -> std::result::Result<(), Failed> {
        let (process, outcome) = self.command(process)?;
        if outcome.borrow().is_none() {
            self.runtime.block_on(run::end_tree(process, GRACE));
        }
        Ok(())
    }

    fn run_task(&self, task: &str) -> std::result::Result<TaskInfo, Failed> {
        Ok(self.jobs()?.start(task)?)
    }

    fn tasks(&self, task: Option<&str>) -> std::result::Result<Vec<TaskInfo>, Failed> {
        Ok(self.jobs()?.last(task)?)
    }

    fn dependency(&self, package: &str) -> std::result::Result<DependencyInfo, Failed> {
        Ok(self.host()?.dependency(package)?)
    }

    fn usage(&self) -> std::result::Result<StatsResult, Failed> {
        let sandbox =
            self.sandbox.as_ref().ok_or_else(|| failed(ErrorKind::NotRunning, "it has no sandbox"))?;
        Ok(self.host()?.machine.stats(sandbox)?)
    }

    fn log(&self, level: LogLevel, message: &str) {
        let id = &self.id;
        match level {
            LogLevel::Debug => tracing::debug!("package {id}: {message}"),
            LogLevel::Info => tracing::info!("package {id}: {message}"),
            LogLevel::Warn => tracing::warn!("package {id}: {message}"),
            LogLevel::Error => tracing::error!("package {id}: {message}"),
        }
    }

    fn notify(&self, channel: &str, title: &str, message: &str) {
        if let Some(host) = self.host.upgrade() {
            let (package_id, channel) = (self.id.to_string(), channel.to_owned());
            let (title, message) = (title.to_owned(), message.to_owned());
            host.emit("", EventKind::Notice { package_id, channel, title, message });
        }
    }
}
