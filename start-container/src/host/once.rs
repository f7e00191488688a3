//! `subcontainer.run`: a subcontainer for one command, which is gone with the answer.
//!
//! ```text
//! made, mounted in, launched: one thread's work ──▶ it runs, its output is collected ──▶ destroyed ──▶ answered
//!      │ a failure                                      │ a timeout, a cancellation         ▲
//!      └──▶ destroyed                                   └──▶ asked to end, ended ───────────┘
//! ```
//! Owns nothing beyond the request: what it makes is its connection's from the beginning, as with `createFs`, and goes with
//! that, or with the next host if this one is killed half-way.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use images::rootfs::Options;
use linux::signal::Signal;
use protocol::Data;
use protocol::process::{ExecResult, LaunchParams, Outcome, RunParams, Stdio, Streams};
use protocol::session::{EventKind, StreamKind};

use super::connection::{Answer, Call, answer, cancelled};
use super::exec;
use super::run::{self, Ends, Led};
use super::state::{Host, blocking};
use crate::engine::process::Process;
use crate::error::Result;
use crate::subcontainer::Owner;

/// How long output may take to end when everything that could write to it has ended: a descriptor may have been handed to
/// somebody elsewhere.
const LATE_OUTPUT: Duration = Duration::from_secs(5);

/// `subcontainer.run`
pub(super) async fn run(host: Arc<Host>, call: Call, mut p: RunParams) -> Answer<ExecResult> {
    let bounds = Bounds {
        kept: exec::kept_at_most(p.max_buffer),
        timeout: p.timeout.map(Duration::from_millis),
        grace: Duration::from_millis(p.grace.unwrap_or(0)),
    };
    let input = answer(exec::input(p.input.take()))?;
    let (worker, owner, has_input) = (Arc::clone(&host), call.connection.owner(), input.is_some());
    let (guid, Led { running, ends, .. }) =
        answer(blocking(move || begin(&worker, p, &owner, has_input)).await)?;
    let process = running.leader.process.clone();
    host.emit(&guid, EventKind::Launched { pid: process.pid as u32 });
    if !call.connection.own(&guid) {
        // The client went meanwhile. It may have ended just now, here as below.
        let _gone = process.signal(Signal::KILL);
    }
    let (outcome, result) = attend(&process, ends, input, &bounds, call.cancelled()).await;
    host.forget_leader(&guid, process.pid);
    host.emit_end(&guid, outcome);
    answer(host.destroy(&guid).await)?;
    result.ok_or_else(cancelled)
}

struct Bounds {
    /// Bytes of each stream.
    kept: usize,
    timeout: Option<Duration>,
    grace: Duration,
}

/// Makes it, mounts, and launches. Nothing is left of what fails. Blocks.
fn begin(host: &Arc<Host>, p: RunParams, owner: &Owner, has_input: bool) -> Result<(String, Led)> {
    let options = Options {
        name: p.name,
        throwaway: true,
        own_ids: p.userns,
        within: p.sandbox,
        size: p.rootfs_size,
        ..Options::default()
    };
    let rootfs = host.machine.make_fs(Some(&p.image_id), options, Some(owner))?;
    let guid = rootfs.guid().to_owned();
    let image_id = rootfs.image().map(|image| image.to_string()).unwrap_or_default();
    host.emit(&guid, EventKind::Created { image_id });
    let piped = |yes| if yes { Stdio::Pipe } else { Stdio::Null };
    let streams =
        Streams { stdin: piped(has_input), stdout: Stdio::Pipe, stderr: Stdio::Pipe, ..Streams::default() };
    let launch = LaunchParams {
        guid: guid.clone(),
        command: Some(p.command),
        init: p.init,
        shared_dev_sys: p.shared_dev_sys,
        shared_run: p.shared_run,
        privileges: p.privileges,
        limits: p.limits,
        network: p.network,
        options: p.options,
        streams,
    };
    let begun = p.mounts.into_iter().try_for_each(|mount| {
        host.machine.mount(&guid, &mount)?;
        host.emit(&guid, EventKind::Mounted { mountpoint: mount.mountpoint });
        Ok(())
    });
    match begun.and_then(|()| run::lead(host, &rootfs, launch, false)) {
        Ok(led) => Ok((guid, led)),
        Err(failure) => {
            // Why it did not begin is what the caller must hear of. What stays is its connection's, and goes with that.
            if host.machine.destroy(&guid).is_ok() {
                host.emit(&guid, EventKind::Destroyed);
            }
            Err(failure)
        }
    }
}

/// Until it has ended, by itself or not: how, and what there is to answer, unless it was cancelled.
async fn attend(
    process: &Process,
    mut ends: Ends,
    input: Option<Vec<u8>>,
    bounds: &Bounds,
    cancelled: impl Future<Output = ()>,
) -> (Outcome, Option<ExecResult>) {
    let mut end = |kind| ends.remove(&kind).and_then(Arc::into_inner);
    let (stdin, stdout, stderr) = (end(StreamKind::Stdin), end(StreamKind::Stdout), end(StreamKind::Stderr));
    let all = async {
        let streams = async {
            let (stdout, stderr) = (exec::collect(stdout, bounds.kept), exec::collect(stderr, bounds.kept));
            let (stdout, stderr, ()) = tokio::join!(stdout, stderr, exec::feed(stdin, input));
            (stdout, stderr)
        };
        let (mut streams, mut ended) = (std::pin::pin!(streams), std::pin::pin!(run::ended(process)));
        let mut collected = None;
        let outcome = loop {
            tokio::select! {
                both = &mut streams, if collected.is_none() => collected = Some(both),
                outcome = &mut ended => break outcome,
            }
        };
        if collected.is_none() {
            collected = tokio::time::timeout(LATE_OUTPUT, streams).await.ok();
        }
        (outcome, collected.unwrap_or(((Vec::new(), true), (Vec::new(), true))))
    };
    // By whom it was stopped, if it was: by nobody who wants an answer, or by the time limit.
    let stopped = OnceLock::new();
    let stop = async {
        let by = tokio::select! {
            () = cancelled => None,
            () = exec::late(bounds.timeout) => Some(Outcome::Timeout),
        };
        // It is set once, here.
        let _first = stopped.set(by);
        if !bounds.grace.is_zero() {
            let _gone = process.signal(Signal::TERM);
            tokio::time::sleep(bounds.grace).await;
        }
        let _gone = process.signal(Signal::KILL);
        std::future::pending::<Infallible>().await
    };
    let (ended, ((stdout, stdout_truncated), (stderr, stderr_truncated))) = tokio::select! {
        biased;
        all = all => all,
        never = stop => match never {},
    };
    let told = stopped.into_inner().unwrap_or_else(|| Some(ended.clone()));
    let result = told.map(|outcome| ExecResult {
        outcome,
        stdout: Data::from(stdout),
        stderr: Data::from(stderr),
        stdout_truncated,
        stderr_truncated,
    });
    (ended, result)
}
