//! The worker of a package: one process that runs all of its worker entries. What runs its functions is looked after in the
//! same way ([`super::light`]).
//!
//! ```text
//! start ──▶ starting ──all loaded──▶ running ──asked──▶ stopping ──▶ stopped
//!              │ the first time          │ it ends, is silent, talks nonsense
//!              ▼                         ▼
//!           stopped         waiting ──▶ starting …        five times in a row: crash loop ──▶ starting …
//! ```
//! Owns the process, the connection to it, and when it is started again. It is a leader in a subcontainer of the package's
//! sandbox, started by the one engine; that one's rootfs, and what is mounted in it, are the runner's. Never trusts what the
//! process says: an answer that is late, or no answer, ends it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use packages::manifest::{Name, PackageId};
use protocol::ErrorKind;
use protocol::worker::{
    CallModuleParams, CallModuleResult, ModuleInfo, ModuleKind, ModuleState, ModuleTold, WorkerInfo,
    WorkerState,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::state::Host;
use crate::engine::lock;
use crate::error::{Failure, Result};
use crate::subcontainer::now;

mod end;
mod link;
pub(super) mod place;
mod supervise;

use end::seconds;
use link::{Link, NoResult};
use supervise::Supervisor;

/// Modules of one worker of which is kept what they tell.
const MOST_TELLING: usize = 16;

/// What is to run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) package: PackageId,
    /// The subcontainer.
    pub(super) guid: String,
    /// What the process is to the operator: `worker`.
    pub(super) called: &'static str,
    pub(super) modules: Vec<Module>,
    /// The command that waits for them.
    pub(super) command: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    /// For each call of a module's: its import with `init`, `uninit`.
    pub(super) deadline: Duration,
    /// Between being asked to end and being ended.
    pub(super) grace: Duration,
    /// The memory that the package may use, in bytes.
    pub(super) memory: u64,
    /// The package's data come from a backup: its modules are told when they are loaded first.
    pub(super) restored: bool,
}

/// An entry that is loaded into the process.
#[derive(Clone, Debug)]
pub(super) struct Module {
    pub(super) name: Name,
    /// Its file, as the process knows it.
    pub(super) script: String,
    pub(super) kind: ModuleKind,
}

/// A worker that was started.
pub(super) struct Worker {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    called: &'static str,
}

/// What others see of it.
struct Shared {
    info: watch::Sender<WorkerInfo>,
    /// While all of its modules are loaded.
    link: Mutex<Option<Arc<Link>>>,
}

#[derive(Debug)]
enum Command {
    Stop(Stop),
    Reload(Asked),
}

/// Somebody who wants it to end.
#[derive(Debug)]
struct Stop {
    done: oneshot::Sender<()>,
    /// The version of the package that comes in its place.
    next: Option<String>,
}

/// Somebody who waits for modules to be loaded. Why they are not, in words.
type Asked = oneshot::Sender<std::result::Result<(), String>>;

fn refused(kind: ErrorKind, step: impl Into<String>, id: &PackageId, why: impl Into<String>) -> Failure {
    Failure::new(kind, step, id).because(std::io::Error::other(why.into()))
}

impl Worker {
    /// Starts it, and waits until all of its modules are loaded.
    ///
    /// `seen`: gets what can be said of it from now on, also when it does not start.
    pub(super) async fn start(
        host: &Arc<Host>,
        plan: Plan,
        seen: impl FnOnce(watch::Receiver<WorkerInfo>),
    ) -> Result<Self> {
        let info = WorkerInfo {
            state: WorkerState::Starting,
            guid: plan.guid.clone(),
            since: now(),
            modules: Vec::new(),
            told: Vec::new(),
            restarts: 0,
            ended: None,
        };
        let (info, sees) = watch::channel(info);
        seen(sees);
        let shared = Arc::new(Shared { info, link: Mutex::default() });
        let (commands, commanded) = mpsc::channel(8);
        let (asked, started) = oneshot::channel();
        let (package, called) = (plan.package.clone(), plan.called);
        let supervisor = Supervisor::new(Arc::downgrade(host), plan, Arc::clone(&shared), commanded);
        tokio::spawn(supervisor.run(asked));
        match started.await {
            Ok(Ok(())) => Ok(Self { commands, shared, called }),
            Ok(Err(why)) => Err(refused(ErrorKind::Thrown, format!("start {called} of"), &package, why)),
            Err(_) => Err(refused(
                ErrorKind::Internal,
                format!("start {called} of"),
                &package,
                "nobody supervises it",
            )),
        }
    }

    /// Asks it to end, and waits until it has, by force after its grace. `next`: the version that comes in its place.
    pub(super) async fn stop(&self, next: Option<String>) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Command::Stop(Stop { done, next })).await.is_ok() {
            // Where nobody is left to say so, it has ended.
            _ = stopped.await;
        }
    }

    /// Unloads its modules and loads them anew. One that waits to be started again is started now.
    pub(super) async fn reload(&self, id: &PackageId) -> Result<()> {
        let (asked, loaded) = oneshot::channel();
        let gone =
            || refused(ErrorKind::NotRunning, "reload", id, format!("its {} does not run", self.called));
        self.commands.send(Command::Reload(asked)).await.map_err(|_stopped| gone())?;
        match loaded.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(refused(ErrorKind::Thrown, "reload", id, why)),
            Err(_) => Err(gone()),
        }
    }

    /// Its subcontainer.
    pub(super) fn guid(&self) -> String {
        self.shared.info.borrow().guid.clone()
    }

    /// The one module that it has.
    pub(super) fn only_module(&self, id: &PackageId) -> Result<String> {
        match self.shared.info.borrow().modules.as_slice() {
            [only] => Ok(only.module.clone()),
            [] => Err(refused(ErrorKind::NotRunning, "call", id, "no module of it is loaded")),
            _ => Err(refused(ErrorKind::Invalid, "call", id, "it has more than one module: say which")),
        }
    }

    /// Calls code of a module.
    pub(super) async fn call(
        &self,
        id: &PackageId,
        call: CallModuleParams,
        patience: Duration,
    ) -> Result<CallModuleResult> {
        let step = format!("call {} of", call.function);
        let gone =
            |how| refused(ErrorKind::NotRunning, step.clone(), id, format!("its {} {how}", self.called));
        let link = lock(&self.shared.link).clone().ok_or_else(|| gone("does not run"))?;
        link.call("module.call", call, patience).await.map_err(|none| match none {
            NoResult::Thrown(fault) => refused(ErrorKind::Thrown, step.clone(), id, fault.message),
            NoResult::Late => refused(
                ErrorKind::TimedOut,
                step.clone(),
                id,
                format!("no answer within {}", seconds(patience)),
            ),
            NoResult::Gone => gone("has ended during the call"),
            NoResult::TooMany => {
                refused(ErrorKind::Exhausted, step.clone(), id, "too many calls are under way")
            }
        })
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut WorkerInfo)) {
        self.info.send_modify(change);
    }

    fn set(&self, state: WorkerState) {
        self.change(|info| {
            info.state = state;
            info.since = now();
        });
    }

    /// What a module tells, in the place of what it told before. Of very many modules, the last ones are not heard.
    fn tells(&self, told: ModuleTold) {
        self.change(|info| match info.told.iter().position(|known| known.module == told.module) {
            Some(known) => info.told[known] = told,
            None if info.told.len() < MOST_TELLING => info.told.push(told),
            None => {}
        });
    }

    fn set_module(&self, name: &Name, state: Option<ModuleState>) {
        self.change(|info| {
            info.modules.retain(|module| module.module != name.as_str());
            if let Some(state) = state {
                info.modules.push(ModuleInfo { module: name.to_string(), state });
            }
        });
    }
}
