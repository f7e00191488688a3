//! One task for each worker: starts its process, loads its modules, looks after it, ends it, and starts it again.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use linux::signal::Signal;
use packages::manifest::PackageId;
use protocol::ErrorKind;
use protocol::process::{CommandOptions, LaunchParams, Outcome, Stdio, Streams};
use protocol::session::StreamKind;
use protocol::subcontainer::Empty;
use protocol::worker::{
    LoadModuleParams, ModuleKind, ModuleState, ModuleStatusResult, ModuleTold, UnloadModuleParams, WorkerEnd,
    WorkerState,
};
use tokio::sync::{mpsc, watch};

use super::super::run;
use super::super::state::{Host, Running};
use super::end::{End, last_words, seconds};
use super::link::{Heard, Link, NoResult};
use super::{Asked, Command, Module, Plan, Shared, Stop, place, refused};
use crate::engine::lock;
use crate::error::{Failure, Result};
use crate::subcontainer::now;

/// How long a process may take until it says that it is ready.
const TO_BE_READY: Duration = Duration::from_secs(30);
/// How often it is asked whether it still turns, and how long it may take to say so.
const PULSE: Duration = Duration::from_secs(10);
/// How long the kernel may take to end a process.
const TO_END: Duration = Duration::from_secs(10);
/// How long what it wrote last may be on its way into its log.
const TO_BE_KEPT: Duration = Duration::from_millis(100);

/// The wait after the first end; it doubles with each further one. As the SDK's daemons.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A run that took longer was a good one: the count of ends begins anew.
const STABLE: Duration = Duration::from_secs(60);
/// So many ends without a good run between them are a crash loop.
const CRASH_LOOP: u32 = 5;
const CRASH_LOOP_WAIT: Duration = Duration::from_secs(300);
/// How long a module may take to make what it needs of a backup: it reads a whole database, perhaps.
const RESTORE: Duration = Duration::from_secs(6 * 3600);

pub(super) struct Supervisor {
    host: Weak<Host>,
    plan: Plan,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    /// How often modules were loaded into the process that runs.
    generation: u32,
    /// Who waits for the modules to be loaded.
    asked: Option<Asked>,
}

/// A process that runs.
struct Life {
    running: Arc<Running>,
    link: Arc<Link>,
    hears: mpsc::Receiver<Heard>,
    outcome: watch::Receiver<Option<Outcome>>,
    /// When it was started, in milliseconds since the Unix epoch.
    began: u64,
}

/// What comes in between.
enum Interrupt {
    End(End),
    Stop(Stop),
    Reload(Asked),
}

impl Supervisor {
    pub(super) fn new(
        host: Weak<Host>,
        plan: Plan,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self { host, plan, shared, commands, generation: 0, asked: None }
    }

    /// Until it is asked to stop, or does not come up the first time; `first` hears of that.
    pub(super) async fn run(mut self, first: Asked) {
        self.asked = Some(first);
        let (mut is_first, mut failures) = (true, 0);
        // What was told of it as an error, and holds.
        let mut told: Option<String> = None;
        loop {
            let began = Instant::now();
            let Lived { loaded, end, stop } = self.live(&mut told).await;
            self.shared.change(|info| {
                info.modules.clear();
                info.told.clear();
                if end.is_some() {
                    info.ended.clone_from(&end);
                }
            });
            let why = end.as_ref().map_or_else(|| "it was stopped".to_owned(), sentence);
            if let Some(asked) = self.asked.take() {
                // Nobody may wait for it any more.
                _ = asked.send(Err(why.clone()));
            }
            if stop.is_some() || (is_first && !loaded) {
                return self.is_over(stop);
            }
            is_first = false;
            failures = if loaded && began.elapsed() > STABLE { 1 } else { failures + 1 };
            let looping = failures >= CRASH_LOOP;
            if looping && told.is_none() {
                let reason = format!("its {} has ended {failures} times in a row: {why}", self.plan.called);
                self.tell(|host, id| host.package_failed(id, &reason));
                told = Some(reason);
            }
            self.shared.set(if looping { WorkerState::CrashLoop } else { WorkerState::Waiting });
            let wait = if looping { CRASH_LOOP_WAIT } else { backoff(failures) };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                command = self.commands.recv() => match command {
                    Some(Command::Reload(asked)) => self.asked = Some(asked),
                    Some(Command::Stop(stop)) => return self.is_over(Some(stop)),
                    None => return self.is_over(None),
                },
            }
            self.shared.change(|info| info.restarts += 1);
        }
    }

    fn is_over(&self, stop: Option<Stop>) {
        self.shared.set(WorkerState::Stopped);
        if let Some(stop) = stop {
            _ = stop.done.send(());
        }
    }

    fn tell(&self, tell: impl FnOnce(&Host, &PackageId)) {
        if let Some(host) = self.host.upgrade() {
            tell(&host, &self.plan.package);
        }
    }

    /// One process, from its start to its end.
    async fn live(&mut self, told: &mut Option<String>) -> Lived {
        self.shared.set(WorkerState::Starting);
        self.generation = 0;
        let mut life = match self.launch().await {
            Ok(life) => life,
            Err(failure) => {
                let end = End::NotStarted(failure.sentence()).tell(&Outcome::Unknown, "", 0);
                return Lived { loaded: false, end, stop: None };
            }
        };
        let mut loaded = false;
        let interrupt = match self.begin(&mut life).await {
            Err(interrupt) => interrupt,
            Ok(()) => {
                loaded = true;
                if let Some(reason) = told.take() {
                    self.tell(|host, id| host.package_recovered(id, &reason));
                }
                self.look_after(&mut life).await
            }
        };
        *lock(&self.shared.link) = None;
        let (end, stop) = match interrupt {
            Interrupt::End(end) => (end, None),
            Interrupt::Stop(stop) => (End::Asked, Some(stop)),
            // Only what runs is reloaded, and that is looked after.
            Interrupt::Reload(_) => (End::Asked, None),
        };
        let next = stop.as_ref().and_then(|stop| stop.next.clone());
        Lived { loaded, end: self.finish(life, end, next).await, stop }
    }

    /// Starts the process.
    async fn launch(&self) -> Result<Life> {
        let (id, called) = (&self.plan.package, self.plan.called);
        let host = self.host.upgrade().ok_or_else(|| {
            refused(ErrorKind::Internal, format!("start {called} of"), id, "the host is ending")
        })?;
        let streams =
            Streams { stdin: Stdio::Pipe, stdout: Stdio::Pipe, stderr: Stdio::Log, ..Streams::default() };
        let params = LaunchParams {
            guid: self.plan.guid.clone(),
            command: Some(self.plan.command.clone()),
            // Signals that a process sends to itself do not reach one that is the first of its namespace.
            init: true,
            options: CommandOptions {
                user: Some(place::USER.to_owned()),
                cwd: Some("/".to_owned()),
                env: self.plan.env.clone(),
                // The data of a package's services is dearer.
                oom_score_adj: Some(500),
                ..CommandOptions::default()
            },
            streams,
            ..LaunchParams::default()
        };
        let began = now();
        let (running, outcome, mut ends) = run::launch_piped(&host, params).await?;
        let mut end = |kind| ends.remove(&kind).and_then(Arc::into_inner);
        let (Some(stdin), Some(stdout)) = (end(StreamKind::Stdin), end(StreamKind::Stdout)) else {
            return Err(refused(ErrorKind::Internal, format!("start {called} of"), id, "it has no streams"));
        };
        let shared = Arc::clone(&self.shared);
        let known: Vec<String> = self.plan.modules.iter().map(|module| module.name.to_string()).collect();
        let tells = move |told: ModuleTold| {
            let is_known = known.contains(&told.module);
            if is_known {
                shared.tells(told);
            }
            is_known
        };
        let (link, hears) = Link::new(stdin, stdout, tells).map_err(|error| {
            Failure::new(ErrorKind::Exhausted, format!("talk to {called} of"), id).because(error)
        })?;
        Ok(Life { running, link, hears, outcome, began })
    }

    /// Waits for it to be ready, and loads its modules.
    async fn begin(&mut self, life: &mut Life) -> std::result::Result<(), Interrupt> {
        let mut late = std::pin::pin!(tokio::time::sleep(TO_BE_READY));
        loop {
            tokio::select! {
                heard = life.hears.recv() => match heard {
                    Some(Heard::Ready(runtime)) => {
                        tracing::debug!("{} of {} is ready: {runtime}", self.plan.called, self.plan.package);
                        return self.load(life).await;
                    }
                    heard => return Err(heard_instead(heard)),
                },
                command = self.commands.recv() => self.commanded(command)?,
                () = &mut late => return Err(Interrupt::End(End::Late("its start".to_owned(), TO_BE_READY))),
            }
        }
    }

    /// Loads its modules, and says so.
    async fn load(&mut self, life: &mut Life) -> std::result::Result<(), Interrupt> {
        for Module { name, script, kind } in self.plan.modules.clone() {
            let params = LoadModuleParams {
                module: name.to_string(),
                script,
                package_id: self.plan.package.to_string(),
                generation: self.generation,
                restored: self.plan.restored,
                kind,
            };
            self.shared.set_module(&name, Some(ModuleState::Loading));
            let deadline =
                if self.plan.restored { RESTORE.max(self.plan.deadline) } else { self.plan.deadline };
            let link = Arc::clone(&life.link);
            let call = async move { link.call::<Empty>("module.load", params, deadline).await };
            let what = match kind {
                ModuleKind::Worker => format!("init of {name}"),
                ModuleKind::Function | ModuleKind::Template => format!("loading {name}"),
            };
            self.answered(life, call, what, deadline).await?;
            self.shared.set_module(&name, Some(ModuleState::Loaded));
        }
        // It was told once.
        self.plan.restored = false;
        *lock(&self.shared.link) = Some(Arc::clone(&life.link));
        self.shared.set(WorkerState::Running);
        if let Some(asked) = self.asked.take() {
            _ = asked.send(Ok(()));
        }
        Ok(())
    }

    /// Asks from time to time whether it still turns. Ends when that is over.
    async fn look_after(&mut self, life: &mut Life) -> Interrupt {
        loop {
            let link = Arc::clone(&life.link);
            let pulse = async move {
                tokio::time::sleep(PULSE).await;
                link.call::<ModuleStatusResult>("module.status", Empty {}, PULSE).await
            };
            match self.answered(life, pulse, "what it does".to_owned(), PULSE).await {
                Ok(_alive) => {}
                Err(Interrupt::Reload(asked)) => {
                    self.asked = Some(asked);
                    if let Err(interrupt) = self.reload(life).await {
                        // What is left of its modules is not known: it ends.
                        return interrupt;
                    }
                }
                Err(interrupt) => return interrupt,
            }
        }
    }

    async fn reload(&mut self, life: &mut Life) -> std::result::Result<(), Interrupt> {
        *lock(&self.shared.link) = None;
        self.shared.set(WorkerState::Starting);
        for Module { name, .. } in self.plan.modules.clone().into_iter().rev() {
            let params = UnloadModuleParams { module: name.to_string(), target: None };
            self.shared.set_module(&name, Some(ModuleState::Unloading));
            let (link, deadline) = (Arc::clone(&life.link), self.plan.deadline);
            let call = async move { link.call::<Empty>("module.unload", params, deadline).await };
            self.answered(life, call, format!("uninit of {name}"), deadline).await?;
            self.shared.set_module(&name, None);
        }
        self.generation += 1;
        self.load(life).await
    }

    /// Waits for an answer, and for what may come in between.
    async fn answered<T>(
        &mut self,
        life: &mut Life,
        call: impl Future<Output = std::result::Result<T, NoResult>>,
        what: String,
        patience: Duration,
    ) -> std::result::Result<T, Interrupt> {
        let mut call = std::pin::pin!(call);
        let answer = loop {
            tokio::select! {
                biased;
                heard = life.hears.recv() => return Err(heard_instead(heard)),
                answer = &mut call => break answer,
                command = self.commands.recv() => self.commanded(command)?,
            }
        };
        match answer {
            Ok(result) => Ok(result),
            Err(NoResult::Thrown(fault)) => Err(Interrupt::End(End::Thrown(what, fault))),
            Err(NoResult::Late | NoResult::TooMany) => Err(Interrupt::End(End::Late(what, patience))),
            // It may have said why.
            Err(NoResult::Gone) => {
                let heard = life.hears.recv().await;
                Err(heard_instead(heard))
            }
        }
    }

    /// What a command interrupts.
    fn commanded(&self, command: Option<Command>) -> std::result::Result<(), Interrupt> {
        match command {
            Some(Command::Stop(stop)) => Err(Interrupt::Stop(stop)),
            Some(Command::Reload(asked)) if self.shared.info.borrow().state == WorkerState::Running => {
                Err(Interrupt::Reload(asked))
            }
            Some(Command::Reload(asked)) => {
                _ = asked.send(Err("its modules are being loaded".to_owned()));
                Ok(())
            }
            None => Err(Interrupt::End(End::Asked)),
        }
    }

    /// Ends the process, if it has not ended, and says how that was.
    async fn finish(&self, mut life: Life, end: End, next: Option<String>) -> Option<WorkerEnd> {
        let mut ended = life.outcome.clone();
        let mut forced = None;
        if matches!(end, End::Asked) {
            self.shared.set(WorkerState::Stopping);
            let kindly = async {
                for Module { name, .. } in self.plan.modules.iter().rev() {
                    let params = UnloadModuleParams { module: name.to_string(), target: next.clone() };
                    self.shared.set_module(name, Some(ModuleState::Unloading));
                    // What it throws now is in its log. What it does not do in time, it does not do.
                    _ = life.link.call::<Empty>("module.unload", params, self.plan.grace).await;
                    self.shared.set_module(name, None);
                }
                life.link.hang_up().await;
                _ = ended.wait_for(Option::is_some).await;
            };
            let deaf = async {
                while life.hears.recv().await.is_some() {}
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = kindly => {}
                () = deaf => {}
                () = tokio::time::sleep(self.plan.grace) => {
                    let grace = seconds(self.plan.grace);
                    forced = Some(format!("it did not end within {grace} of being asked to, and was killed"));
                }
            }
        } else if matches!(end, End::Gone) {
            // Its output has ended; what is left of it should not take long.
            let _still_there = tokio::time::timeout(PULSE, ended.wait_for(Option::is_some)).await;
        }
        let outcome = self.kill(&life).await;
        if let Some(reason) = forced {
            return Some(WorkerEnd { time: now(), reason, stack: None });
        }
        let words = match (&end, self.host.upgrade()) {
            (End::Gone, Some(host)) => {
                tokio::time::sleep(TO_BE_KEPT).await;
                let (guid, began) = (self.plan.guid.clone(), life.began);
                let read = move || last_words(host.machine.data_dir(), &guid, began);
                tokio::task::spawn_blocking(read).await.unwrap_or_default()
            }
            _ => String::new(),
        };
        end.tell(&outcome, &words, self.plan.memory)
    }

    /// Kills it where it lives still, with all that it has started.
    async fn kill(&self, life: &Life) -> Outcome {
        let mut ended = life.outcome.clone();
        if ended.borrow().is_none() {
            // It may have ended just now. It is an init: all beneath it ends with it.
            let _gone = life.running.leader.process.signal(Signal::KILL);
        }
        let outcome = tokio::time::timeout(TO_END, ended.wait_for(Option::is_some)).await;
        outcome.ok().and_then(|outcome| outcome.ok()?.clone()).unwrap_or(Outcome::Unknown)
    }
}

/// What became of one process.
struct Lived {
    loaded: bool,
    end: Option<WorkerEnd>,
    /// Who asked for the end.
    stop: Option<Stop>,
}

/// What was heard where an answer was waited for.
fn heard_instead(heard: Option<Heard>) -> Interrupt {
    Interrupt::End(match heard {
        Some(Heard::Failed(fault)) => End::Uncaught(fault),
        Some(Heard::Nonsense(why)) => End::Nonsense(why),
        Some(Heard::Ready(_)) => End::Nonsense("it is ready a second time".to_owned()),
        None => End::Gone,
    })
}

/// With the place in the package's code, where that is known.
fn sentence(end: &WorkerEnd) -> String {
    let place = end
        .stack
        .as_deref()
        .and_then(|stack| stack.lines().map(str::trim).find(|line| line.starts_with("at ")));
    match place {
        Some(place) => format!("{} ({place})", end.reason),
        None => end.reason.clone(),
    }
}

/// How long to wait after so many ends in a row. Half of it is chance: many that end together do not start together.
fn backoff(failures: u32) -> Duration {
    let doubled = 1_u32 << failures.saturating_sub(1).min(16);
    let whole = FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT);
    let mut random = [0];
    // Without chance it is the whole time.
    _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    whole - whole.mul_f64(f64::from(random[0]) / 512.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j1_the_wait_doubles_has_chance_in_it_and_an_end() {
        for (failures, whole) in [(1, 500), (2, 1000), (3, 2000), (7, 30_000), (4_000_000, 30_000)] {
            let whole = Duration::from_millis(whole);
            for _ in 0..50 {
                let wait = backoff(failures);
                assert!(wait <= whole && wait >= whole / 2, "{failures}: {wait:?}");
            }
        }
    }
}
