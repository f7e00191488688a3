//! `subcontainer.exec`: a command from its start to its end, with what it read and wrote, in one answer.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use protocol::process::{ExecParams, ExecResult, Outcome, Stdio, Streams};
use protocol::session::StreamKind;
use protocol::{Data, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::connection::{Answer, Call, answer, cancelled};
use super::run::{Streamed, end_tree, ended, leader, start, started_or_stopped, streams};
use super::starters::starting;
use super::state::Host;
use crate::error::{Failure, Result};
use crate::subcontainer::Started;

/// Bytes that `exec` keeps of each stream: two of them, in base64, fit into one line of the protocol.
const MAX_BUFFER: u64 = 8 * 1024 * 1024;

/// Ends when the time is over; never, where there is no limit.
pub(super) async fn late(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// How many bytes of each stream are kept.
pub(super) fn kept_at_most(asked: Option<u64>) -> usize {
    asked.unwrap_or(MAX_BUFFER).min(MAX_BUFFER) as usize
}

/// What a command is to read.
pub(super) fn input(given: Option<Data>) -> Result<Option<Vec<u8>>> {
    let failed = |error| Failure::new(ErrorKind::Invalid, "read input", "").because(error);
    given.map(Data::into_bytes).transpose().map_err(failed)
}

/// `subcontainer.exec`
pub(super) async fn exec(host: Arc<Host>, call: Call, p: ExecParams) -> Answer<ExecResult> {
    exec_until(host, call.cancelled(), p).await
}

/// The same, until it is cancelled by something else than a request.
pub(super) async fn exec_until(
    host: Arc<Host>,
    cancel: impl Future<Output = ()>,
    p: ExecParams,
) -> Answer<ExecResult> {
    let limit = kept_at_most(p.max_buffer);
    let grace = Duration::from_millis(p.grace.unwrap_or(0));
    let time_limit = p.timeout.map(Duration::from_millis);
    let input = answer(input(p.input))?;
    let running = answer(leader(&host, &p.guid, true).await)?;
    let has_input = input.is_some();
    let stop = async {
        let cancel = cancel;
        tokio::select! {
            () = cancel => None,
            () = late(time_limit) => Some(Outcome::Timeout),
        }
    };
    let mut stop = std::pin::pin!(stop);
    let lent = answer(running.lend_group(&host.machine))?;
    let (worker, beside, command, options, own) =
        (Arc::clone(&host), Arc::clone(&running), p.command, p.options, lent.group.clone());
    let start = starting(running.leader.is_plain(), move || {
        let wanted = |yes| if yes { Stdio::Pipe } else { Stdio::Null };
        let stdin = wanted(has_input);
        let wanted = Streams { stdin, stdout: Stdio::Pipe, stderr: Stdio::Pipe, ..Streams::default() };
        let Streamed { io, ends, .. } = streams(&worker, &p.guid, &wanted)?;
        let Started { process, .. } = start(&worker, &beside, &command, &options, &io, own)?;
        Ok((process, ends))
    });
    let (started, stopped_early) = started_or_stopped(start, &lent.group, &mut stop).await;
    let (process, mut ends) = answer(started)?;
    let mut end = |kind| ends.remove(&kind).and_then(Arc::into_inner);
    let (stdin, stdout, stderr) = (end(StreamKind::Stdin), end(StreamKind::Stdout), end(StreamKind::Stderr));
    let its = process.clone();
    let work = async {
        let ((stdout, stdout_truncated), (stderr, stderr_truncated), (), outcome) =
            tokio::join!(collect(stdout, limit), collect(stderr, limit), feed(stdin, input), ended(&its));
        ExecResult {
            outcome,
            stdout: Data::from(stdout),
            stderr: Data::from(stderr),
            stdout_truncated,
            stderr_truncated,
        }
    };
    let mut work = std::pin::pin!(work);
    let stopped = match stopped_early {
        Some(stopped) => stopped,
        None => tokio::select! {
            biased;
            result = &mut work => {
                running.return_group(lent);
                return Ok(result);
            }
            stopped = &mut stop => stopped,
        },
    };
    let terminator = tokio::spawn(end_tree(process.clone(), grace));
    // Everything that could write is ended, so the output ends; unless a descriptor was handed to another command,
    // which is not waited for.
    let patience = grace + Duration::from_secs(5);
    let result = tokio::time::timeout(patience, &mut work).await;
    // It only fails when it panics.
    let _panicked = terminator.await;
    process.group.retire();
    match (stopped, result) {
        (None, _) => Err(cancelled()),
        (Some(outcome), Ok(result)) => Ok(ExecResult { outcome, ..result }),
        (Some(outcome), Err(_)) => Ok(ExecResult {
            outcome,
            stdout: Data::default(),
            stderr: Data::default(),
            stdout_truncated: true,
            stderr_truncated: true,
        }),
    }
}

/// Reads to the end, keeps the first `limit` bytes, and says whether there were more.
pub(super) async fn collect(from: Option<OwnedFd>, limit: usize) -> (Vec<u8>, bool) {
    let Some(Ok(mut from)) = from.map(pipe::Receiver::from_owned_fd) else { return (Vec::new(), false) };
    let mut kept = Vec::new();
    let mut truncated = false;
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return (kept, truncated),
            Ok(n) => {
                let room = (limit - kept.len()).min(n);
                kept.extend_from_slice(&buffer[..room]);
                truncated |= room < n;
            }
        }
    }
}

/// Writes all, or until nobody reads, and closes.
pub(super) async fn feed(to: Option<OwnedFd>, input: Option<Vec<u8>>) {
    let (Some(to), Some(input)) = (to, input) else { return };
    let Ok(mut to) = pipe::Sender::from_owned_fd(to) else { return };
    // A command may end without reading its input.
    let _unread = to.write_all(&input).await;
}
