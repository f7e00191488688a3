//! Jobs of a package: programs of its manifest that run to their end, each in a subcontainer that is there for just that.
//!
//! ```text
//! asked for ──▶ subcontainer in the package's sandbox, with its mounts ──▶ command, until its end, timeout, cancellation
//!                                                                                  └▶ subcontainer destroyed ──▶ told
//! ```
//! Whoever asks: the package (`task:run`), the operator, a service that requires one. A job does not run twice at a time. What
//! became of the last run is kept for as long as the package is active. Jobs end with the package's sandbox.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use packages::manifest::entry::Job;
use packages::manifest::{Entry, Name};
use protocol::broker::TaskInfo;
use protocol::process::{ExecParams, Outcome};
use protocol::{Data, ErrorKind};
use tokio::runtime::Handle;

use super::program::{Bundle, Ready, make_program};
use super::state::{Host, blocking};
use super::{connection, exec, light};
use crate::engine::lock;
use crate::error::{Failure, Result};
use crate::subcontainer::now;

/// What is kept of each output, in bytes.
const KEPT: u64 = 64 << 10;

/// The jobs of a package that is active.
pub(super) struct Jobs {
    host: Weak<Host>,
    runtime: Handle,
    bundle: Bundle,
    last: Mutex<BTreeMap<Name, TaskInfo>>,
}

impl Jobs {
    pub(super) fn new(host: Weak<Host>, runtime: Handle, bundle: Bundle) -> Arc<Self> {
        let jobs = bundle.manifest.entries.iter().filter(|(_, entry)| matches!(entry, Entry::Job(_)));
        let idle = |name: &Name| TaskInfo { task: name.to_string(), ..TaskInfo::default() };
        let last = jobs.map(|(name, _)| (name.clone(), idle(name))).collect();
        Arc::new(Self { host, runtime, bundle, last: Mutex::new(last) })
    }

    pub(super) fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    fn find(&self, name: &str) -> Result<(&Name, &Job)> {
        match self.bundle.manifest.entries.get_key_value(name) {
            Some((name, Entry::Job(job))) => Ok((name, job)),
            _ => {
                let shown: String = name.chars().take(64).collect();
                Err(Failure::new(ErrorKind::NotFound, "find job", shown))
            }
        }
    }

    /// What became of the last run of each, or of one.
    pub(super) fn last(&self, name: Option<&str>) -> Result<Vec<TaskInfo>> {
        let Some(name) = name else { return Ok(lock(&self.last).values().cloned().collect()) };
        let (name, _) = self.find(name)?;
        Ok(lock(&self.last).get(name).cloned().into_iter().collect())
    }

    /// It runs from now on.
    fn begin(&self, name: &Name) -> Result<TaskInfo> {
        let mut last = lock(&self.last);
        let info = last.entry(name.clone()).or_default();
        if info.running {
            return Err(Failure::new(ErrorKind::Busy, "run job", name)
                .because(std::io::Error::other("it runs already")));
        }
        let (task, runs) = (name.to_string(), info.runs + 1);
        *info = TaskInfo { task, running: true, runs, started: Some(now()), ..TaskInfo::default() };
        Ok(info.clone())
    }

    /// Starts a job, and does not wait for its end.
    pub(super) fn start(self: &Arc<Self>, name: &str) -> Result<TaskInfo> {
        let (name, _) = self.find(name)?;
        let info = self.begin(name)?;
        let (own, name) = (Arc::clone(self), name.clone());
        self.runtime.spawn(async move { own.carry_out(&name, std::future::pending()).await });
        Ok(info)
    }

    /// Runs a job to its end. A cancellation ends it.
    pub(super) async fn run(
        self: &Arc<Self>,
        name: &str,
        cancel: impl Future<Output = ()>,
    ) -> Result<TaskInfo> {
        let (name, _) = self.find(name)?;
        self.begin(name)?;
        Ok(self.carry_out(name, cancel).await)
    }

    async fn carry_out(self: &Arc<Self>, name: &Name, cancel: impl Future<Output = ()>) -> TaskInfo {
        let done = self.try_carry_out(name, cancel).await;
        let mut last = lock(&self.last);
        let info = last.entry(name.clone()).or_default();
        info.running = false;
        info.ended = Some(now());
        match done {
            Ok((outcome, stdout, stderr)) => {
                info.outcome = Some(outcome);
                (info.stdout, info.stderr) = (Some(stdout), Some(stderr));
            }
            Err(why) => info.error = Some(why),
        }
        info.clone()
    }

    async fn try_carry_out(
        self: &Arc<Self>,
        name: &Name,
        cancel: impl Future<Output = ()>,
    ) -> std::result::Result<(Outcome, Data, Data), String> {
        let failed = |failure: Failure| failure.sentence();
        let host = self.host.upgrade().ok_or("the host is stopping")?;
        let (_, job) = self.find(name.as_str()).map_err(failed)?;
        let (own, worker, job_name) = (Arc::clone(self), Arc::clone(&host), name.clone());
        let made = blocking(move || {
            let (_, job) = own.find(job_name.as_str())?;
            make_program(&worker, &own.bundle, &job_name, &job.program)
        });
        let Ready { guid, command, options } = made.await.map_err(failed)?;
        let params = ExecParams {
            guid: guid.clone(),
            command,
            options,
            input: None,
            timeout: job.timeout_seconds.map(|seconds| u64::from(seconds) * 1000),
            grace: Some(2_000),
            max_buffer: Some(KEPT),
        };
        let ran = exec::exec_until(Arc::clone(&host), cancel, params).await;
        // Also what it has left running. It may have ended with the sandbox by now.
        let destroyed = host.destroy(&guid).await;
        let ran = match ran {
            Ok(ran) => ran,
            Err(problem) if problem.code() == protocol::error::REQUEST_CANCELLED => {
                return Ok((Outcome::Abort, Data::default(), Data::default()));
            }
            Err(problem) => return Err(problem.message().to_owned()),
        };
        destroyed.map_err(failed)?;
        Ok((ran.outcome, ran.stdout, ran.stderr))
    }
}

/// `package.run`
pub(super) async fn run(
    host: Arc<Host>,
    call: connection::Call,
    p: protocol::package::RunJobParams,
) -> connection::Answer<TaskInfo> {
    // What runs at certain times is run to its end, too.
    if let Some(light) = connection::answer(super::packages::light(&host, &p.package_id).await)? {
        tokio::select! {
            () = call.cancelled() => return Err(connection::cancelled()),
            ran = light::run(&light, &host, &p.job) => if let Some(ran) = ran {
                return connection::answer(ran);
            },
        }
    }
    let jobs = connection::answer(super::packages::jobs(&host, &p.package_id).await)?;
    connection::answer(jobs.run(&p.job, call.cancelled()).await)
}
