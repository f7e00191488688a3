//! Workers: what a host says to the process that runs a package's TypeScript, what it hears, and what it tells of it.
//!
//! ```text
//! worker                                            host
//!   | {"method":"ready",...}                   ->    |   first, once
//!   | <- {"method":"module.load",...}                |   for each worker entry: import it, call its init(core)
//!   | {"result":{}}                            ->    |   loaded
//!   | {"method":"told",...}                    ->    |   at any time: what the operator may want to know of a module
//!   | <- {"method":"module.status"}                  |   from time to time: does it still turn?
//!   | <- {"method":"module.call",...}                |
//!   | <- {"method":"module.unload",...}              |   its uninit(core)
//!   | {"method":"failed",...}                  ->    |   last, if an error was caught by nobody
//! ```
//! Newline-delimited JSON-RPC 2.0 over the standard input and output of the process, which nobody else has. Here the host
//! asks: what a package asks of the host goes through its own socket (see [`crate::broker`]).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ts_rs::TS;

/// The longest line, in bytes without its newline, that a host accepts from a worker.
pub const MAX_WORKER_LINE: usize = 1 << 20;

/// Parameters of `ready`: the worker waits for modules.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkerReadyParams {
    /// What runs it: `deno 2.9.6`.
    pub runtime: String,
}

/// Parameters of `failed`, and the `data` of errors that code of a package has thrown: what is known of the error.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkerFault {
    /// `TypeError: x is undefined`.
    pub message: String,
    /// Where, a line for each call; by the source map of the script, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub stack: Option<String>,
}

/// Parameters of `module.load`: imports a module, and calls the function `init` that it exports.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadModuleParams {
    /// The name of its entry.
    pub module: String,
    /// Its file, as the worker sees it.
    pub script: String,
    /// Whose it is.
    pub package_id: String,
    /// How often it was loaded before: a module that was imported once is imported anew by another number.
    pub generation: u32,
    /// The package's data have just been taken from a backup: `init` has to make of them what it needs.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub restored: bool,
    /// What it is. Default: a worker.
    #[serde(default, skip_serializing_if = "ModuleKind::is_worker")]
    #[ts(optional, as = "Option<_>")]
    pub kind: ModuleKind,
}

/// What a module is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum ModuleKind {
    /// It exports `init`, and stays.
    #[default]
    Worker,
    /// Its default export is called, each time in an isolate of its own.
    Function,
    /// A text that is filled in.
    Template,
}

impl ModuleKind {
    fn is_worker(&self) -> bool {
        *self == Self::Worker
    }
}

/// Parameters of `module.unload`, which calls the function `uninit` that the module exports, if it does.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnloadModuleParams {
    /// The name of its entry.
    pub module: String,
    /// The version of the package that comes in the place of this one; absent where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub target: Option<String>,
}

/// How many of a kind one module may tell of.
pub const MOST_TOLD: usize = 64;

/// Parameters of `told`: what the operator may want to know of a module, all of it, in the place of what it told before. At
/// most [`MOST_TOLD`] of each kind; longer texts are cut.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModuleTold {
    /// The name of its entry.
    pub module: String,
    /// Ports that are meant for others.
    #[serde(default)]
    pub interfaces: Vec<ToldInterface>,
    /// What the operator is asked to do.
    #[serde(default)]
    pub tasks: Vec<ToldTask>,
    /// How what it runs is.
    #[serde(default)]
    pub health: Vec<ToldHealth>,
}

/// A port of a package that is meant for others. Nothing publishes it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToldInterface {
    /// As the package's code calls it.
    pub id: String,
    /// For people.
    pub name: String,
    /// What is behind it.
    #[serde(rename = "type")]
    pub kind: InterfaceKind,
    /// Where, in the package's own network: `http://127.0.0.1:8080/admin`, or without a scheme.
    pub address: String,
}

/// What is behind an interface.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum InterfaceKind {
    /// Pages for a browser.
    Ui,
    /// Something for programs.
    Api,
    /// Something for others of its kind.
    P2p,
}

/// An action that a package asks its operator to run.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToldTask {
    /// The action: `package call ID action:<action>` runs it.
    pub action: String,
    /// How much it matters.
    pub severity: TaskSeverity,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub reason: Option<String>,
}

/// How much a task matters.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum TaskSeverity {
    /// It can be left.
    Optional,
    /// It should be done.
    Important,
    /// Without it the package is of no use.
    Critical,
}

/// What a health check found.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum HealthResult {
    /// It does what it should.
    Success,
    /// It does, and has still something to do before it is all there.
    Loading,
    /// It is not wanted.
    Disabled,
    /// It has not been well yet, and there is still time.
    Starting,
    /// It waits for another.
    Waiting,
    /// It does not do what it should.
    Failure,
}

/// How something that a package runs is, as its own code says.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToldHealth {
    /// As the package's code calls it.
    pub id: String,
    /// For people.
    pub name: String,
    /// What was found.
    pub result: HealthResult,
    /// In more words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub message: Option<String>,
}

/// Parameters of `module.call`: calls the function `call` that a module exports, with a name and an input.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallModuleParams {
    /// The name of its entry.
    pub module: String,
    /// What is called, by a name that the module knows.
    pub function: String,
    /// What it is given.
    #[serde(default)]
    #[ts(type = "unknown")]
    pub input: Value,
}

/// Result of `module.call` and `package.call`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallModuleResult {
    /// What it returned; null where that was nothing.
    #[serde(default)]
    #[ts(type = "unknown")]
    pub output: Value,
}

/// How a module is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum ModuleState {
    /// It is imported, or its `init` has not come to its end.
    Loading,
    /// Its `init` has.
    Loaded,
    /// Its `uninit` has not come to its end.
    Unloading,
}

/// One module of a worker.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModuleInfo {
    /// The name of its entry.
    pub module: String,
    /// How it is.
    pub state: ModuleState,
}

/// Result of `module.status`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModuleStatusResult {
    /// In the order in which they were loaded.
    pub modules: Vec<ModuleInfo>,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum WorkerState {
    /// Its process starts, or its modules are loaded.
    Starting,
    /// All of its modules are loaded.
    Running,
    /// It has ended, and is started again in a moment.
    Waiting,
    /// It has ended again and again, and is tried once more after some minutes.
    CrashLoop,
    /// It was asked to end.
    Stopping,
    /// It does not run, and will not by itself.
    Stopped,
}

/// How a worker has ended.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct WorkerEnd {
    /// When, in milliseconds since the Unix epoch.
    #[ts(type = "number")]
    pub time: u64,
    /// Why.
    pub reason: String,
    /// Where in the package's code, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub stack: Option<String>,
}

/// The process that runs a package's worker entries.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct WorkerInfo {
    /// What it does.
    pub state: WorkerState,
    /// The subcontainer that it runs in: its logs are there.
    pub guid: String,
    /// Since when it does that, in milliseconds since the Unix epoch.
    #[ts(type = "number")]
    pub since: u64,
    /// The worker entries, in the order in which they are loaded; those that are loaded, or are about to be.
    pub modules: Vec<ModuleInfo>,
    /// What those that are loaded have told of themselves; only where one package was asked about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(as = "Option<Vec<ModuleTold>>", optional)]
    pub told: Vec<ModuleTold>,
    /// How often it was started again since the package was activated.
    pub restarts: u32,
    /// How it ended last, unless it was asked to and did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub ended: Option<WorkerEnd>,
}
