//! Workers, for the operator: what they do, why they ended, what can be called of them.

use protocol::ErrorKind;
use protocol::function::ScheduledInfo;
use protocol::package::{CallParams, PackageInfo, PackageParams};
use protocol::worker::{
    CallModuleResult, HealthResult, InterfaceKind, ModuleState, ModuleTold, TaskSeverity, WorkerInfo,
    WorkerState,
};

use super::decide::{connect, show};
use super::{Context, distance, output};
use crate::error::{Failure, Result};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
What can be called is for the package to say: its actions, in packages that are written with the SDK.
  start-container package call notes action:set-title --input '{\"title\":\"Mine\"}'")]
pub(in crate::cli) struct Call {
    /// The package
    id: String,
    /// What is called, by a name that its code knows
    function: String,
    /// What it is given, as JSON
    #[arg(long, value_name = "JSON", default_value = "null")]
    input: String,
    /// Which of its worker entries [default: the only one]
    #[arg(long, value_name = "ENTRY")]
    module: Option<String>,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u32,
}

impl Call {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let input = serde_json::from_str(&self.input)
            .map_err(|error| Failure::new(ErrorKind::Invalid, "read --input", "").because(error))?;
        let params = CallParams {
            package_id: self.id,
            module: self.module,
            function: self.function,
            input,
            timeout: Some(u64::from(self.timeout) * 1000),
        };
        let result: CallModuleResult = connect(context)?.call("package.call", &params)?;
        output::json(&result.output)
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each worker entry is unloaded and loaded again, in the same process. A worker that waits to be started again is started now.")]
pub(in crate::cli) struct Reload {
    /// The package
    id: String,
}

impl Reload {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        show(context, &connect(context)?.call("package.reload", &PackageParams { package_id: self.id })?)
    }
}

/// What is said of a worker, or of what is looked after as one: a line of what it does, and how it ended last.
fn lines(called: &str, worker: &WorkerInfo) -> Vec<String> {
    let state = match worker.state {
        WorkerState::Starting => "starting",
        WorkerState::Running => "running",
        WorkerState::Waiting => "waits to be started again",
        WorkerState::CrashLoop => "in a crash loop, tried again in some minutes",
        WorkerState::Stopping => "stopping",
        WorkerState::Stopped => "stopped",
    };
    let modules: Vec<String> = worker
        .modules
        .iter()
        .map(|module| match module.state {
            ModuleState::Loaded => module.module.clone(),
            ModuleState::Loading => format!("{} (loading)", module.module),
            ModuleState::Unloading => format!("{} (unloading)", module.module),
        })
        .collect();
    let modules = if modules.is_empty() { String::new() } else { format!(": {}", modules.join(", ")) };
    let restarts = match worker.restarts {
        0 => String::new(),
        1 => ", started again once".to_owned(),
        many => format!(", started again {many} times"),
    };
    let mut lines = vec![
        format!("{called:<10} {state}{modules}, since {}{restarts}", distance(worker.since)),
        format!("logs       start-container logs {}", worker.guid),
    ];
    lines.extend(worker.told.iter().flat_map(told));
    if let Some(end) = &worker.ended {
        lines.push(format!("ended      {}: {}", distance(end.time), output::plain(&end.reason)));
        let stack = end.stack.as_deref().unwrap_or_default();
        lines.extend(stack.lines().skip(1).map(|line| format!("           {}", output::plain(line))));
    }
    lines
}

/// What a module tells of itself: what is to be done first.
fn told(told: &ModuleTold) -> Vec<String> {
    let tasks = told.tasks.iter().map(|task| {
        let severity = match task.severity {
            TaskSeverity::Optional => "optional",
            TaskSeverity::Important => "important",
            TaskSeverity::Critical => "critical",
        };
        let reason =
            task.reason.as_deref().map_or(String::new(), |reason| format!(": {}", output::plain(reason)));
        format!("task       {severity}: action:{}{reason}", output::plain(&task.action))
    });
    let health = told.health.iter().map(|one| {
        let result = match one.result {
            HealthResult::Success => "success",
            HealthResult::Loading => "loading",
            HealthResult::Disabled => "disabled",
            HealthResult::Starting => "starting",
            HealthResult::Waiting => "waiting",
            HealthResult::Failure => "failure",
        };
        let why = one.message.as_deref().map_or(String::new(), |why| format!(": {}", output::plain(why)));
        format!("health     {}: {result}{why}", output::plain(&one.name))
    });
    let interfaces = told.interfaces.iter().map(|one| {
        let kind = match one.kind {
            InterfaceKind::Ui => "ui",
            InterfaceKind::Api => "api",
            InterfaceKind::P2p => "p2p",
        };
        let (id, name, address) =
            (output::plain(&one.id), output::plain(&one.name), output::plain(&one.address));
        format!("interface  {id} ({kind}): {name}, {address}")
    });
    tasks.chain(health).chain(interfaces).collect()
}

/// The same, in a few words; nothing where all is well.
pub(super) fn note(info: &PackageInfo) -> Option<String> {
    let functions = info.functions.as_ref().map(|functions| ("functions", &functions.process));
    let all = info.worker.as_ref().map(|worker| ("worker", worker)).into_iter().chain(functions);
    all.filter_map(|(called, worker)| {
        let end = worker.ended.as_ref()?;
        matches!(worker.state, WorkerState::Starting | WorkerState::Waiting | WorkerState::CrashLoop)
            .then(|| format!("{called}: {}", output::plain(&end.reason)))
    })
    .next()
}

/// All that is said of code that the host runs for a package.
pub(super) fn all_lines(info: &PackageInfo) -> Vec<String> {
    let mut all: Vec<String> = info.worker.iter().flat_map(|worker| lines("worker", worker)).collect();
    if let Some(functions) = &info.functions {
        all.extend(lines("functions", &functions.process));
        all.extend(functions.scheduled.iter().map(scheduled));
    }
    all
}

/// What is said of a function that runs at certain times.
fn scheduled(one: &ScheduledInfo) -> String {
    let last = match (&one.last.error, one.last.ended) {
        _ if one.last.running => "runs now".to_owned(),
        (Some(error), Some(ended)) => format!("failed {}: {}", distance(ended), output::plain(error)),
        (None, Some(ended)) => format!("done {}", distance(ended)),
        (_, None) => "has not run yet".to_owned(),
    };
    let next = one.next.map_or_else(String::new, |next| format!(", next {}", distance(next)));
    let skipped = match one.skipped {
        0 => String::new(),
        many => format!(", {many} left out"),
    };
    format!("scheduled  {} ({}): {last}{next}{skipped}", one.last.task, output::plain(&one.schedule))
}
