//! Runs the services of packages, before them the jobs that they require, and after them the workers: a sandbox for each package, a
//! subcontainer in it for each service, one for the process that runs its workers, and one for that of its functions. In each of
//! them is the package's door, at `/media/startos/rpc/host.sock`.
//!
//! Entries of other kinds have no runner in this release, and are refused before anything of a package starts.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use broker::files::Root;
use broker::hands::Hands;
use linux::signal::Signal;
use packages::Manifest;
use packages::manifest::entry::Service;
use packages::manifest::{Entry, Image, Name, PackageId};
use packages::runner::{Failed, Startable, Version};
use protocol::function::FunctionsInfo;
use protocol::process::{LaunchParams, Outcome, Stdio, Streams};
use protocol::sandbox::SandboxSettings;
use protocol::worker::{CallModuleParams, CallModuleResult, WorkerInfo};
use rustix::io::Errno;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::doors::Made;
use super::hands::PackageHands;
use super::jobs::Jobs;
use super::light::{self, Light};
use super::program::{Bundle, Images, Ready, import, make_program, make_volume, own};
use super::run;
use super::state::Host;
use super::worker::{Worker, place};
use crate::engine::lock;
use crate::error::{Failure, Result};
use crate::subcontainer::{Launched, Owner};

/// Between SIGTERM and the end of the sandbox, where the manifest says nothing.
const GRACE: Duration = Duration::from_secs(10);

/// How long a job may take that a service requires.
const REQUIRED: Duration = Duration::from_secs(600);

/// What runs of each package.
pub(super) struct Runner {
    host: Weak<Host>,
    runtime: Handle,
    running: Mutex<HashMap<PackageId, Running>>,
    /// What can be said of workers: of those that run, and of the last one of each package that does not.
    workers: Mutex<HashMap<PackageId, watch::Receiver<WorkerInfo>>>,
    /// The same of functions.
    lights: Mutex<HashMap<PackageId, Arc<Light>>>,
}

/// A package that runs.
struct Running {
    /// None for a package that has nothing to run.
    sandbox: Option<String>,
    /// In the order in which they were started.
    services: Vec<Started>,
    jobs: Option<Arc<Jobs>>,
    /// Started last, and stopped first.
    worker: Option<Arc<Worker>>,
    /// As the worker.
    light: Option<Arc<Light>>,
    /// What ends from now on was asked to.
    stopping: Arc<AtomicBool>,
}

struct Started {
    guid: String,
    grace: Duration,
    ended: watch::Receiver<Option<Outcome>>,
}

impl Runner {
    pub(super) fn new(host: Weak<Host>, runtime: Handle) -> Self {
        Self { host, runtime, running: Mutex::default(), workers: Mutex::default(), lights: Mutex::default() }
    }

    fn host(&self) -> Result<Arc<Host>> {
        self.host
            .upgrade()
            .ok_or_else(|| Failure::new(protocol::ErrorKind::Internal, "find host", "(it is ending)"))
    }

    /// Opens the package's door, behind which its calls reach what is its own.
    fn open_door(
        &self,
        host: &Arc<Host>,
        package: &Startable<'_>,
        sandbox: Option<&str>,
        images: &Images,
    ) -> Result<Arc<PackageHands>> {
        let id = &package.manifest.id;
        let first_id = match sandbox {
            Some(guid) => host.machine.sandbox(guid)?.ids(),
            None => None,
        };
        let mut roots = Vec::new();
        for volume in package.manifest.volumes.keys() {
            let dir = make_volume(host, id, volume)?;
            roots.push(Root { at: format!("/media/startos/volumes/{volume}"), dir, writable: true });
        }
        for part in ["assets", "ui"] {
            match linux::tree::open_dir_at(package.files, part) {
                Ok(dir) => {
                    roots.push(Root { at: format!("/media/startos/{part}"), dir, writable: false });
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(Failure::kernel(format!("open {part} of"), id, errno)),
            }
        }
        let of_hands = sandbox.map(str::to_owned);
        let hands = PackageHands::new(self.host.clone(), self.runtime.clone(), id.clone(), of_hands);
        let hands = Arc::new(hands);
        let shared: Arc<dyn Hands> = Arc::<PackageHands>::clone(&hands);
        let caller = host.broker()?.admit(id.as_str(), package.granted.clone(), roots, shared);
        let files = package.files.try_clone_to_owned().map_err(|error| {
            Failure::new(protocol::ErrorKind::Exhausted, "keep bundle of", id).because(error)
        })?;
        let made = Made::new(self.host.clone(), own(package.manifest, sandbox, images), files);
        host.doors.open(host.machine.data_dir(), (caller, made), id, first_id)?;
        Ok(hands)
    }

    fn start_all(&self, host: &Arc<Host>, package: &Startable<'_>, running: &mut Running) -> Result<()> {
        let manifest = package.manifest;
        let Some(guid) = &running.sandbox else {
            return self.open_door(host, package, None, &HashMap::new()).map(drop);
        };
        let images = import(host, package)?;
        let sandbox = host.machine.sandbox(guid)?;
        let Launched { leader, .. } = host.machine.start_sandbox(&sandbox)?;
        let leader = host.remember_leader(guid, leader);
        let _runtime = self.runtime.enter();
        let _outcome = run::watch_new(host, guid, &leader);
        let hands = self.open_door(host, package, Some(guid), &images)?;
        let bundle = Bundle::of(package, guid, images)?;
        let jobs = Jobs::new(self.host.clone(), self.runtime.clone(), bundle);
        hands.has_jobs(&jobs);
        running.jobs = Some(Arc::clone(&jobs));
        let bundle = jobs.bundle();
        for name in manifest.start_order() {
            let service = match manifest.entries.get(name) {
                Some(Entry::Service(service)) => service,
                Some(Entry::Job(_)) if manifest.is_required(name) => {
                    self.run_required(&jobs, name)?;
                    continue;
                }
                _ => continue,
            };
            let started = self.start_service(host, bundle, name, service);
            let started = started
                .map_err(|failure| Failure::new(failure.kind, "start service", name).because(failure))?;
            self.watch(host, manifest.id.clone(), name.clone(), &started, &running.stopping);
            hands.knows(name.as_str(), &started.guid);
            running.services.push(started);
        }
        if let Some(plan) = place::make(host, bundle)? {
            let seen = |info| _ = lock(&self.workers).insert(manifest.id.clone(), info);
            let worker = self.runtime.block_on(Worker::start(host, plan, seen))?;
            running.worker = Some(Arc::new(worker));
        }
        if let Some(plan) = light::make(host, bundle)? {
            let light = Light::new(manifest);
            lock(&self.lights).insert(manifest.id.clone(), Arc::clone(&light));
            running.light = Some(Arc::clone(&light));
            self.runtime.block_on(light.start(host, plan))?;
        }
        Ok(())
    }

    /// What can be said of the functions of a package.
    pub(super) fn functions_info(&self, id: &str) -> Option<FunctionsInfo> {
        lock(&self.lights).get(id).and_then(|light| light.info())
    }

    /// The functions of a package that runs.
    pub(super) fn light(&self, id: &PackageId) -> Result<Arc<Light>> {
        let light = lock(&self.running).get(id).and_then(|running| running.light.clone());
        light.ok_or_else(|| {
            Failure::new(protocol::ErrorKind::NotRunning, "call functions of", id)
                .because(std::io::Error::other("it is not active, or has none"))
        })
    }

    /// What can be said of the worker of a package.
    pub(super) fn worker_info(&self, id: &str) -> Option<WorkerInfo> {
        lock(&self.workers).get(id).map(|info| info.borrow().clone())
    }

    fn worker(&self, id: &PackageId, step: &str) -> Result<Arc<Worker>> {
        let worker = lock(&self.running).get(id).and_then(|running| running.worker.clone());
        worker.ok_or_else(|| {
            Failure::new(protocol::ErrorKind::NotRunning, step, id)
                .because(std::io::Error::other("it has no worker that runs"))
        })
    }

    /// Has a package's worker find the entries of this directory in the place of its bundle's, as long as the package runs.
    pub(super) fn develop(&self, id: &PackageId, files: &Path) -> Result<()> {
        let host = self.host()?;
        let guid = self.worker(id, "develop")?.guid();
        place::exchange_entries(&host, id, &guid, files)
    }

    /// Unloads what a package's worker and its functions have loaded, and loads it anew.
    pub(super) async fn reload(&self, id: &PackageId) -> Result<()> {
        let light = self.light(id).ok();
        if let Some(light) = &light {
            light.reload().await?;
        }
        match self.worker(id, "reload") {
            Ok(worker) => worker.reload(id).await,
            Err(_) if light.is_some() => Ok(()),
            Err(none) => Err(none),
        }
    }

    /// Calls code of a package.
    pub(super) async fn call(
        &self,
        id: &PackageId,
        module: Option<String>,
        function: String,
        input: serde_json::Value,
        patience: Duration,
    ) -> Result<CallModuleResult> {
        let worker = self.worker(id, "call")?;
        let module = match module {
            Some(module) => module,
            None => worker.only_module(id)?,
        };
        worker.call(id, CallModuleParams { module, function, input }, patience).await
    }

    fn start_service(
        &self,
        host: &Arc<Host>,
        bundle: &Bundle,
        name: &Name,
        service: &Service,
    ) -> Result<Started> {
        let Ready { guid, command, options } = make_program(host, bundle, name, &service.program)?;
        let streams = Streams { stdout: Stdio::Log, stderr: Stdio::Log, ..Streams::default() };
        let params = LaunchParams {
            guid: guid.clone(),
            command: Some(command),
            options,
            streams,
            ..LaunchParams::default()
        };
        let ended = self.runtime.block_on(run::launch_unheard(host, params))?;
        let grace = service.grace_seconds.map_or(GRACE, |seconds| Duration::from_secs(seconds.into()));
        Ok(Started { guid, grace, ended })
    }

    /// Runs a job that a service requires. One that does not end well is a failure.
    fn run_required(&self, jobs: &Arc<Jobs>, name: &Name) -> Result<()> {
        // Who starts a package waits for it.
        let late = async { tokio::time::sleep(REQUIRED).await };
        let ran = self.runtime.block_on(jobs.run(name.as_str(), late))?;
        if ran.outcome == Some(Outcome::Exit { code: 0 }) {
            return Ok(());
        }
        let why = ran.error.unwrap_or_else(|| format!("it has ended: {:?}", ran.outcome));
        Err(Failure::new(protocol::ErrorKind::Internal, "run job", name).because(std::io::Error::other(why)))
    }

    /// The jobs of a package that runs.
    pub(super) fn jobs(&self, id: &PackageId) -> Result<Arc<Jobs>> {
        let jobs = lock(&self.running).get(id).and_then(|running| running.jobs.clone());
        jobs.ok_or_else(|| {
            Failure::new(protocol::ErrorKind::NotRunning, "run job of", id)
                .because(std::io::Error::other("it is not active, or has nothing to run"))
        })
    }

    /// Tells of a service that ends while its package should run.
    fn watch(
        &self,
        host: &Arc<Host>,
        id: PackageId,
        name: Name,
        service: &Started,
        stopping: &Arc<AtomicBool>,
    ) {
        let (host, mut ended, stopping) = (Arc::downgrade(host), service.ended.clone(), Arc::clone(stopping));
        self.runtime.spawn(async move {
            let outcome = match ended.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone(),
                Err(_) => None,
            };
            if let (Some(host), Some(outcome)) = (host.upgrade(), outcome)
                && !stopping.load(Ordering::Acquire)
            {
                host.package_failed(&id, &format!("service {name} has ended: {outcome:?}"));
            }
        });
    }

    /// Asks the worker to end, then the services, the last one first, and then ends everything. Until they have, they may
    /// still call.
    fn end(&self, host: &Arc<Host>, id: &PackageId, running: &Running, next: Option<&Version>) -> Result<()> {
        running.stopping.store(true, Ordering::Release);
        if let Some(light) = &running.light {
            self.runtime.block_on(light.stop());
        }
        if let Some(worker) = &running.worker {
            self.runtime.block_on(worker.stop(next.map(Version::to_string)));
        }
        for service in running.services.iter().rev() {
            if let Some(leader) = host.known_leader(&service.guid) {
                // It may have ended just now.
                let _gone = leader.leader.process.signal(Signal::TERM);
            }
            let mut ended = service.ended.clone();
            self.runtime.block_on(async {
                // What does not end in time ends with the sandbox.
                let _late = tokio::time::timeout(service.grace, ended.wait_for(Option::is_some)).await;
            });
        }
        host.doors.close(id);
        match &running.sandbox {
            Some(sandbox) => self.runtime.block_on(host.destroy(sandbox)),
            None => Ok(()),
        }
    }
}

impl packages::runner::Runner for Runner {
    fn can_run(&self, manifest: &Manifest, entry: &Entry) -> std::result::Result<(), String> {
        let program = match entry {
            Entry::Service(service) => &service.program,
            Entry::Job(job) => &job.program,
            Entry::Worker(_) => {
                let found = self.host().and_then(|host| place::runtime(&host).map(drop));
                return found.map_err(|failure| failure.sentence());
            }
            Entry::UrlFunction(_) | Entry::ScheduledFunction(_) | Entry::Template(_) => return Ok(()),
            _ => return Err("nothing runs entries of this kind in this release".to_owned()),
        };
        if matches!(manifest.images.get(&program.image), Some(Image::Reference(_))) {
            return Err(
                "its image is in a registry; this release runs images that are in the bundle".to_owned()
            );
        }
        Ok(())
    }

    fn start(&self, package: &Startable<'_>) -> std::result::Result<(), Failed> {
        let host = self.host()?;
        let id = &package.manifest.id;
        if lock(&self.running).contains_key(id) {
            return Err(Failure::new(protocol::ErrorKind::Exists, "start package", id)
                .because(std::io::Error::other("it runs already"))
                .into());
        }
        let sandbox = if package.manifest.entries.is_empty() && package.manifest.images.is_empty() {
            None
        } else {
            let settings = SandboxSettings { limits: place::limits(package.manifest), ..Default::default() };
            // Of nobody who comes back: a host that starts after this one was killed destroys it, and starts it anew.
            let name = Some(format!("package-{id}"));
            let made = host.machine.create_sandbox(None, name, true, settings, Some(&Owner::default()))?;
            Some(made.guid().to_owned())
        };
        let mut running = Running {
            sandbox,
            services: Vec::new(),
            jobs: None,
            worker: None,
            light: None,
            stopping: Arc::default(),
        };
        match self.start_all(&host, package, &mut running) {
            Ok(()) => {
                lock(&self.running).insert(id.clone(), running);
                Ok(())
            }
            Err(failure) => {
                // Why it did not start is what the operator must hear of.
                let _left = self.end(&host, id, &running, None);
                Err(failure.into())
            }
        }
    }

    fn stop(&self, id: &PackageId, next: Option<&Version>) -> std::result::Result<(), Failed> {
        let Some(running) = lock(&self.running).remove(id) else { return Ok(()) };
        let host = self.host()?;
        let ended = self.end(&host, id, &running, next);
        if ended.is_err() {
            lock(&self.running).insert(id.clone(), running);
        }
        Ok(ended?)
    }
}
