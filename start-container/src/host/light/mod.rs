//! The functions and templates of a package: one process that runs all of them, an isolate for each call.
//!
//! ```text
//! activate ──▶ process, in the package's sandbox ──▶ each entry compiled, and looked at ──▶ active
//! due      ──▶ run, if it does not run still ([`schedule`])
//! fetch    ──▶ the entry whose path it is ──▶ head and first part of a response ──▶ further parts, as they are asked for
//! ```
//! Owns which entry a path belongs to, and what a request and a response may be. The process is started, watched and started
//! again as a worker is ([`super::worker`]): what comes from it is a stranger's. It is started when the package is, not with the
//! first call: so an entry that cannot be compiled keeps its package from being active, and nobody's first call is slow.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use packages::Manifest;
use packages::manifest::entry::Entry;
use packages::manifest::{Name, PackageId};
use protocol::ErrorKind;
use protocol::broker::TaskInfo;
use protocol::function::{
    FetchParams, FetchResult, FunctionResponse, FunctionsInfo, Header, NextPartParams, NextPartResult,
    ScheduledInfo,
};
use protocol::worker::{CallModuleParams, WorkerInfo, WorkerState};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::state::Host;
use super::worker::{Plan, Worker};
use crate::engine::lock;
use crate::error::{Failure, Result};
use crate::subcontainer::now;

mod check;
mod place;
mod schedule;

pub(super) use place::{make, modules};
use schedule::Scheduled;

/// How long a response of the process is waited for, all of it: longer than a call may take there.
const PATIENCE: Duration = Duration::from_secs(10);

/// The functions and templates of a package that is active, or was.
pub(super) struct Light {
    id: PackageId,
    routes: Vec<(String, Name)>,
    process: OnceLock<watch::Receiver<WorkerInfo>>,
    worker: OnceLock<Worker>,
    scheduled: Vec<Arc<Scheduled>>,
    clocks: Mutex<Vec<JoinHandle<()>>>,
}

impl Light {
    pub(super) fn new(manifest: &Manifest) -> Arc<Self> {
        let routes = manifest.entries.iter().filter_map(|(name, entry)| match entry {
            Entry::UrlFunction(function) => Some((function.path.to_string(), name.clone())),
            Entry::Template(template) => Some((template.path.to_string(), name.clone())),
            _ => None,
        });
        let scheduled = manifest.entries.iter().filter_map(|(name, entry)| match entry {
            Entry::ScheduledFunction(function) => Scheduled::new(name, function.schedule.as_str()),
            _ => None,
        });
        Arc::new(Self {
            id: manifest.id.clone(),
            routes: routes.collect(),
            process: OnceLock::new(),
            worker: OnceLock::new(),
            scheduled: scheduled.map(Arc::new).collect(),
            clocks: Mutex::default(),
        })
    }

    /// Starts the process, and waits until all of them are loaded. From then on they run when they are due.
    pub(super) async fn start(self: &Arc<Self>, host: &Arc<Host>, plan: Plan) -> Result<()> {
        let worker = Worker::start(host, plan, |process| _ = self.process.set(process)).await?;
        // It is started once.
        _ = self.worker.set(worker);
        let keep = |scheduled| schedule::keep(self, Arc::downgrade(host), Arc::clone(scheduled));
        lock(&self.clocks).extend(self.scheduled.iter().map(keep));
        Ok(())
    }

    /// Ends the process. What runs then is told that it has ended.
    pub(super) async fn stop(&self) {
        lock(&self.clocks).drain(..).for_each(|clock| clock.abort());
        if let Some(worker) = self.worker.get() {
            worker.stop(None).await;
        }
    }

    /// Loads all of them anew.
    pub(super) async fn reload(&self) -> Result<()> {
        match self.worker.get() {
            Some(worker) => worker.reload(&self.id).await,
            None => Ok(()),
        }
    }

    /// What can be said of them.
    pub(super) fn info(&self) -> Option<FunctionsInfo> {
        let process = self.process.get()?.borrow().clone();
        let runs = process.state != WorkerState::Stopped;
        let scheduled = self.scheduled.iter().map(|scheduled| {
            let info = scheduled.info();
            ScheduledInfo { next: info.next.filter(|_| runs), ..info }
        });
        let scheduled = scheduled.collect();
        Some(FunctionsInfo { process, scheduled })
    }

    fn runs(&self) -> bool {
        self.process.get().is_some_and(|process| process.borrow().state == WorkerState::Running)
    }

    /// Sends a request to the entry whose path it is. The body of the response is taken part by part, within the time of the
    /// call.
    pub(super) async fn fetch(self: &Arc<Self>, request: FetchParams) -> Result<Response> {
        let request = check::request(request)?;
        let entry =
            self.routes.iter().find(|(path, _)| *path == request.path).map(|(_, entry)| entry.clone());
        let entry = entry.ok_or_else(|| {
            let shown: String = request.path.chars().filter(|c| !c.is_control()).take(200).collect();
            Failure::new(ErrorKind::NotFound, "find entry for", format!("{shown} of {}", self.id))
                .because(std::io::Error::other("no urlFunction and no template has this path"))
        })?;
        let until = Instant::now() + PATIENCE;
        let response: FunctionResponse = self.call(&entry, "fetch", &request, PATIENCE).await?;
        let FunctionResponse { status, headers, body, more } = response;
        check::head(status, &headers).map_err(|why| self.bad(&entry, &why))?;
        let mut response =
            Response { light: Arc::clone(self), entry, status, headers, first: None, more, bytes: 0, until };
        response.first = Some(response.part(body)?);
        Ok(response)
    }

    async fn call<R: DeserializeOwned>(
        &self,
        entry: &Name,
        function: &str,
        input: &impl Serialize,
        patience: Duration,
    ) -> Result<R> {
        let worker = self.worker.get().ok_or_else(|| {
            Failure::new(ErrorKind::NotRunning, "call", &self.id)
                .because(std::io::Error::other("its functions are being started"))
        })?;
        let input = serde_json::to_value(input).map_err(|error| self.bad(entry, &error.to_string()))?;
        let call = CallModuleParams { module: entry.to_string(), function: function.to_owned(), input };
        let called = worker.call(&self.id, call, patience).await?;
        serde_json::from_value(called.output)
            .map_err(|error| self.bad(entry, &format!("its answer is none: {error}")))
    }

    fn bad(&self, entry: &Name, why: &str) -> Failure {
        Failure::new(ErrorKind::Thrown, format!("call {entry} of"), &self.id)
            .because(std::io::Error::other(why.to_owned()))
    }
}

/// A response, whose body is taken part by part.
pub(super) struct Response {
    light: Arc<Light>,
    pub(super) entry: Name,
    pub(super) status: u16,
    pub(super) headers: Vec<Header>,
    first: Option<Vec<u8>>,
    more: Option<u64>,
    bytes: usize,
    /// All of it comes until then.
    until: Instant,
}

impl Response {
    /// The next part of the body; none behind the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some(more) = self.more.take() else { return Ok(None) };
        // A process that sends parts without anything in them has no end.
        let left = self.until.saturating_duration_since(Instant::now());
        let part: NextPartResult =
            self.light.call(&self.entry, "next", &NextPartParams { more }, left).await?;
        if !part.last {
            self.more = Some(more);
        }
        self.part(part.body).map(Some)
    }

    /// What a stranger has sent as a part.
    fn part(&mut self, body: protocol::Data) -> Result<Vec<u8>> {
        let part = check::part(body, &mut self.bytes);
        part.map_err(|why| self.light.bad(&self.entry, &why))
    }
}

/// A request, and all of the response at once.
pub(super) async fn fetch(light: &Arc<Light>, request: FetchParams) -> Result<FetchResult> {
    let mut response = light.fetch(request).await?;
    let mut body = Vec::new();
    while let Some(part) = response.next().await? {
        body.extend_from_slice(&part);
    }
    let Response { entry, status, headers, .. } = response;
    Ok(FetchResult { entry: entry.to_string(), status, headers, body: body.into() })
}

/// Runs the function of this name that runs at certain times, now and to its end: also when nobody waits for that any more. None
/// where there is no such function.
pub(super) async fn run(light: &Arc<Light>, host: &Arc<Host>, name: &str) -> Option<Result<TaskInfo>> {
    let scheduled = light.scheduled.iter().find(|scheduled| scheduled.name().as_str() == name)?;
    let (light, host, scheduled) = (Arc::clone(light), Arc::downgrade(host), Arc::clone(scheduled));
    let lost = Failure::new(ErrorKind::Internal, "run function", name);
    let run = tokio::spawn(async move { schedule::run(&light, &host, &scheduled, now()).await });
    Some(run.await.unwrap_or_else(|error| Err(lost.because(error))))
}
