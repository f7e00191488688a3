//! Processes for clients: launch, spawn, exec, and what can be done to them.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use linux::signal::Signal;
use protocol::process::{
    ExecParams, ExecResult, KillParams, KillResult, LaunchParams, Outcome, ResizeParams, SpawnParams,
    SpawnResult, Stdio, Streams, WaitParams, WaitResult,
};
use protocol::session::{EventKind, StreamKind};
use protocol::subcontainer::Empty;
use protocol::{Data, ErrorKind};
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::connection::{Answer, Call, answer, cancelled, object};
use super::state::{Host, Running, blocking, lock, watched};
use crate::engine::cgroup::Group;
use crate::engine::privileges::Privileges;
use crate::engine::process::{self, Process};
use crate::engine::terminal;
use crate::engine::{dev_null, pipe};
use crate::error::{Failure, Result};
use crate::subcontainer::{Io, Launch, Launched, Started, check_guid};

/// Bytes that `exec` keeps of each stream: two of them, in base64, fit into one line of the protocol.
const MAX_BUFFER: u64 = 8 * 1024 * 1024;

/// How long the streams of a process that was waited for stay where a client can attach to them, when nothing is in
/// them any more.
const LATE_ATTACH: Duration = Duration::from_secs(1);

/// The ends of a process's streams that the host keeps.
type Ends = HashMap<StreamKind, Arc<OwnedFd>>;

/// `subcontainer.launch`
pub(super) async fn launch(host: Arc<Host>, _: Call, p: LaunchParams) -> Answer<SpawnResult> {
    answer(check_guid(&p.guid))?;
    let _one_at_a_time = host.launch_lock(&p.guid).lock().await;
    if let Some(running) = host.known_leader(&p.guid)
        && let Some(ended) = running.implicit.get()
    {
        // It came with a first command, and its place belongs to whoever asks for one.
        let fail = |errno| Failure::kernel("end idle init of", &p.guid, errno);
        answer(running.leader.process.signal(Signal::KILL).map_err(fail))?;
        // Told after the end is written down. Its watcher cannot fail to tell.
        let mut ended = ended.clone();
        let _told = ended.wait_for(Option::is_some).await;
    }
    let launched = answer(launch_leader(&host, p).await)?;
    let process = &launched.running.leader.process;
    let entry =
        host.add_process(&launched.guid, process.clone(), launched.outcome, launched.terminal, launched.ends);
    // It is set once, here.
    let _first = launched.running.process.set(entry.id.clone());
    Ok(SpawnResult { process: entry.id.clone(), pid: process.pid as u32 })
}

/// A leader that runs, before a client has a name for it.
struct NewLeader {
    guid: String,
    running: Arc<Running>,
    outcome: watch::Receiver<Option<Outcome>>,
    terminal: Option<Arc<OwnedFd>>,
    ends: Ends,
}

async fn launch_leader(host: &Arc<Host>, p: LaunchParams) -> Result<NewLeader> {
    let guid = p.guid.clone();
    let worker = Arc::clone(host);
    let (running, ends, terminal) = blocking(move || {
        let rootfs = worker.machine.rootfs(&p.guid)?;
        let (io, mut ends) = streams(&p.streams)?;
        let launch = Launch {
            command: p.command.as_deref(),
            init: p.init,
            options: &p.options,
            privileges: Privileges::plan(&p.privileges, p.shared_dev_sys, p.shared_run)?,
            limits: p.limits,
            network: p.network,
            publish_proc: false,
            stays: true,
            io,
        };
        let Launched { leader, terminal, .. } = worker.machine.launch(&rootfs, &launch)?;
        let terminal = keep_terminal(&mut ends, terminal);
        Ok((worker.remember_leader(&p.guid, leader), ends, terminal))
    })
    .await?;
    let outcome = watch_new(host, &guid, &running);
    Ok(NewLeader { guid, running, outcome, terminal, ends })
}

/// Tells of a leader that was launched, and will tell of its end.
pub(super) fn watch_new(host: &Arc<Host>, guid: &str, running: &Running) -> watch::Receiver<Option<Outcome>> {
    let process = running.leader.process.clone();
    host.emit(guid, EventKind::Launched { pid: process.pid as u32 });
    let (sender, outcome) = watch::channel(None);
    tokio::spawn(watch_leader(Arc::clone(host), guid.to_owned(), process, sender));
    outcome
}

/// Waits for a leader's end and writes it down. Also for one that an earlier host launched.
pub(super) async fn watch_leader(
    host: Arc<Host>,
    guid: String,
    process: Process,
    sender: watch::Sender<Option<Outcome>>,
) {
    let outcome = ended(&process).await;
    host.forget_leader(&guid, process.pid);
    let (worker, id, end) = (Arc::clone(&host), guid.clone(), outcome.clone());
    if let Err(failure) = blocking(move || worker.machine.leader_ended(&id, process.pid, &end)).await {
        tracing::error!("{}", failure.sentence());
    }
    host.emit(&guid, EventKind::Exited { outcome: outcome.clone() });
    sender.send_replace(Some(outcome));
}

/// The running leader; an idle init is launched when there is none and `launch` says so.
async fn leader(host: &Arc<Host>, guid: &str, launch: bool) -> Result<Arc<Running>> {
    if let Some(running) = host.known_leader(guid) {
        return Ok(running);
    }
    check_guid(guid)?;
    let _one_at_a_time = host.launch_lock(guid).lock().await;
    if let Some(running) = host.known_leader(guid) {
        return Ok(running);
    }
    // Somebody may have launched it by the command line: used, but not kept, since nobody would tell of its end.
    let (worker, id) = (Arc::clone(host), guid.to_owned());
    let found = blocking(move || {
        worker.machine.rootfs(&id)?;
        let Some(leader) = worker.machine.leader(&id)? else { return Ok(None) };
        Ok(Some(Arc::new(Running::new(leader))))
    })
    .await?;
    if let Some(running) = found {
        return Ok(running);
    }
    if !launch {
        return Err(Failure::new(ErrorKind::NotRunning, "run a command in", guid)
            .because(std::io::Error::other("it is not running")));
    }
    let idle = LaunchParams { guid: guid.to_owned(), ..Default::default() };
    let launched = launch_leader(host, idle).await?;
    // It is set once, here.
    let _first = launched.running.implicit.set(launched.outcome);
    Ok(launched.running)
}

/// `subcontainer.spawn`
pub(super) async fn spawn(host: Arc<Host>, call: Call, p: SpawnParams) -> Answer<SpawnResult> {
    let started = async {
        let running = leader(&host, &p.guid, true).await?;
        let worker = Arc::clone(&host);
        let guid = p.guid.clone();
        let group = host.machine.command_group(&running.leader)?;
        let own = group.clone();
        let start = blocking(move || {
            let (io, mut ends) = streams(&p.streams)?;
            let Started { process, terminal, .. } =
                start(&worker, &running, &p.command, &p.options, &io, own)?;
            let terminal = keep_terminal(&mut ends, terminal);
            Ok((process, ends, terminal))
        });
        let (started, _) = started_or_stopped(start, &group, call.cancelled()).await;
        let (process, ends, terminal) = started?;
        let (sender, outcome) = watch::channel(None);
        let entry = host.add_process(&guid, process.clone(), outcome, terminal, ends);
        let started = process.clone();
        tokio::spawn(async move {
            let outcome = ended(&started).await;
            started.group.retire();
            sender.send_replace(Some(outcome));
        });
        Ok((entry.id.clone(), process))
    };
    let (id, process): (String, Process) = answer(started.await)?;
    if !call.connection.own_process(&id) {
        // The client went meanwhile. A group that cannot be ended ends with its subcontainer.
        let _gone = process.group.kill();
        host.forget_process(&id);
        return Err(cancelled());
    }
    Ok(SpawnResult { process: id, pid: process.pid as u32 })
}

/// `subcontainer.exec`
pub(super) async fn exec(host: Arc<Host>, call: Call, p: ExecParams) -> Answer<ExecResult> {
    let limit = p.max_buffer.unwrap_or(MAX_BUFFER).min(MAX_BUFFER) as usize;
    let grace = Duration::from_millis(p.grace.unwrap_or(0));
    let time_limit = p.timeout.map(Duration::from_millis);
    let input = match p.input.map(Data::into_bytes).transpose() {
        Ok(input) => input,
        Err(error) => {
            return Err(object(&Failure::new(ErrorKind::Invalid, "read input", "").because(error)));
        }
    };
    let running = answer(leader(&host, &p.guid, true).await)?;
    let has_input = input.is_some();
    let stop = async {
        let limit = async {
            match time_limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = call.cancelled() => None,
            () = limit => Some(Outcome::Timeout),
        }
    };
    let mut stop = std::pin::pin!(stop);
    let group = answer(host.machine.command_group(&running.leader))?;
    let (worker, command, options, own) = (Arc::clone(&host), p.command, p.options, group.clone());
    let start = blocking(move || {
        let wanted = |yes| if yes { Stdio::Pipe } else { Stdio::Null };
        let wanted =
            Streams { stdin: wanted(has_input), stdout: Stdio::Pipe, stderr: Stdio::Pipe, terminal: None };
        let (io, ends) = streams(&wanted)?;
        let Started { process, .. } = start(&worker, &running, &command, &options, &io, own)?;
        Ok((process, ends))
    });
    let (started, stopped_early) = started_or_stopped(start, &group, &mut stop).await;
    let (process, mut ends) = answer(started)?;
    let mut end = |kind| ends.remove(&kind).and_then(Arc::into_inner);
    let (stdin, stdout, stderr) = (end(StreamKind::Stdin), end(StreamKind::Stdout), end(StreamKind::Stderr));
    let running = process.clone();
    let work = async {
        let ((stdout, stdout_truncated), (stderr, stderr_truncated), (), outcome) =
            tokio::join!(collect(stdout, limit), collect(stderr, limit), feed(stdin, input), ended(&running));
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
                process.group.retire();
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

/// `subcontainer.wait`
pub(super) async fn wait(host: Arc<Host>, call: Call, p: WaitParams) -> Answer<WaitResult> {
    let entry = answer(host.process(&p.process))?;
    let mut outcome = entry.outcome.clone();
    let outcome = tokio::select! {
        () = call.cancelled() => return Err(cancelled()),
        outcome = outcome.wait_for(Option::is_some) => outcome.ok().and_then(|outcome| outcome.clone()),
    };
    tokio::spawn(async move {
        // A client that has not attached to a stream by now may be about to, on another connection.
        if !lock(&entry.streams).is_empty() {
            tokio::time::sleep(LATE_ATTACH).await;
        }
        if host.settle(&entry, true) {
            call.connection.disown_process(&entry.id);
        }
    });
    Ok(WaitResult { outcome: outcome.unwrap_or(Outcome::Unknown) })
}

/// `subcontainer.kill`
pub(super) fn kill(host: &Host, p: &KillParams) -> Result<KillResult> {
    let name = p.signal.as_deref().unwrap_or("SIGTERM");
    let signal: Signal =
        name.parse().map_err(|error| Failure::new(ErrorKind::Invalid, "read signal", name).because(error))?;
    let entry = host.process(&p.process)?;
    let fail = |errno| Failure::kernel(format!("send {signal} to process"), &p.process, errno);
    if !p.tree {
        // After its end is known the number could be another's, but the handle is not.
        return Ok(KillResult { delivered: entry.process.signal(signal).map_err(fail)? });
    }
    let group = &entry.process.group;
    let delivered = if signal == Signal::KILL {
        let any = !group.processes().unwrap_or_default().is_empty();
        match group.kill() {
            Ok(()) => any,
            Err(Errno::NOENT | Errno::NODEV) => false,
            Err(errno) => return Err(fail(errno)),
        }
    } else {
        signal_tree(&entry.process, signal)
    };
    Ok(KillResult { delivered })
}

/// `subcontainer.resize`
pub(super) fn resize(host: &Host, p: &ResizeParams) -> Result<Empty> {
    let entry = host.process(&p.process)?;
    let terminal = entry.terminal.as_ref().ok_or_else(|| {
        Failure::new(ErrorKind::Invalid, "resize terminal of process", &p.process)
            .because(std::io::Error::other("it has no terminal"))
    })?;
    terminal::resize(std::os::fd::AsFd::as_fd(terminal), p.size)
        .map_err(|errno| Failure::kernel("resize terminal of process", &p.process, errno))?;
    Ok(Empty {})
}

/// Starts a command in a group made for it.
fn start(
    host: &Host,
    running: &Running,
    command: &[String],
    options: &protocol::process::CommandOptions,
    io: &Io,
    group: Group,
) -> Result<Started> {
    let started = host.machine.exec(&running.leader, command, options, io, group.clone());
    started.inspect_err(|_| {
        // Nothing of it may go on. The failure is what the caller must hear of.
        let _left = group.destroy();
    })
}

/// Awaits a start; when `stop` comes first, ends what is being started. A process is in its container's pid namespace
/// before it runs its program, and something in there may have stopped it with SIGSTOP, which nobody can block: then
/// the thread that starts it waits until it is ended.
async fn started_or_stopped<T, S>(
    start: impl Future<Output = Result<T>>,
    group: &Group,
    stop: impl Future<Output = S>,
) -> (Result<T>, Option<S>) {
    let mut start = std::pin::pin!(start);
    let stopped = tokio::select! {
        biased;
        started = &mut start => return (started, None),
        stopped = stop => stopped,
    };
    loop {
        // It may not be in there yet, or out again.
        let _gone = group.kill();
        tokio::select! {
            started = &mut start => return (started, Some(stopped)),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
}

/// What the process gets, and what we keep.
fn streams(wanted: &Streams) -> Result<(Io, Ends)> {
    let mut ends = Ends::new();
    let null = Arc::new(dev_null()?);
    let mut stdio = [Arc::clone(&null), Arc::clone(&null), Arc::clone(&null)];
    if wanted.terminal.is_none() {
        if wanted.stdin == Stdio::Pipe {
            let (read, write) = pipe()?;
            stdio[0] = Arc::new(read);
            ends.insert(StreamKind::Stdin, Arc::new(write));
        }
        if wanted.stdout == Stdio::Pipe {
            let (read, write) = pipe()?;
            stdio[1] = Arc::new(write);
            ends.insert(StreamKind::Stdout, Arc::new(read));
        }
    }
    if wanted.stderr == Stdio::Pipe {
        let (read, write) = pipe()?;
        stdio[2] = Arc::new(write);
        ends.insert(StreamKind::Stderr, Arc::new(read));
    }
    let stderr_apart = wanted.stderr == Stdio::Pipe;
    Ok((Io { stdio, terminal: wanted.terminal, stderr_apart, own: true }, ends))
}

fn keep_terminal(ends: &mut Ends, terminal: Option<OwnedFd>) -> Option<Arc<OwnedFd>> {
    let terminal = Arc::new(terminal?);
    ends.insert(StreamKind::Terminal, Arc::clone(&terminal));
    Some(terminal)
}

/// Waits for a process and reaps it. One that is not our child is only watched.
async fn ended(process: &Process) -> Outcome {
    let Ok(pidfd) = watched(Arc::clone(&process.pidfd), tokio::io::Interest::READABLE) else {
        return Outcome::Unknown;
    };
    loop {
        match process.try_wait() {
            Ok(Some(outcome)) => return outcome,
            Ok(None) => {}
            Err(Errno::CHILD) => {
                if let Ok(guard) = pidfd.readable().await {
                    drop(guard);
                }
                return linux::pidfd::exit_info(&process.pidfd).map_or(Outcome::Unknown, process::outcome);
            }
            Err(_) => return Outcome::Unknown,
        }
        match pidfd.readable().await {
            Ok(mut guard) => guard.clear_ready(),
            Err(_) => return Outcome::Unknown,
        }
    }
}

/// Ends a command and all it started: kindly first, if there is time.
async fn end_tree(process: Process, grace: Duration) {
    if !grace.is_zero() && signal_tree(&process, Signal::TERM) {
        let deadline = tokio::time::Instant::now() + grace;
        while tokio::time::Instant::now() < deadline {
            if process.group.processes().is_ok_and(|pids| pids.is_empty()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    // A group that is gone has nothing in it.
    let _gone = process.group.kill();
}

/// A signal to each process of a tree. Whether any got it.
fn signal_tree(process: &Process, signal: Signal) -> bool {
    let mut delivered = false;
    for pid in process.group.processes().unwrap_or_default() {
        let Some(pid) = rustix::process::Pid::from_raw(pid) else { continue };
        if let Ok(pidfd) = linux::pidfd::open(pid) {
            delivered |= linux::pidfd::send_signal(&pidfd, signal).is_ok();
        }
    }
    delivered
}

/// Reads to the end, keeps the first `limit` bytes, and says whether there were more.
async fn collect(from: Option<OwnedFd>, limit: usize) -> (Vec<u8>, bool) {
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
async fn feed(to: Option<OwnedFd>, input: Option<Vec<u8>>) {
    let (Some(to), Some(input)) = (to, input) else { return };
    let Ok(mut to) = pipe::Sender::from_owned_fd(to) else { return };
    // A command may end without reading its input.
    let _unread = to.write_all(&input).await;
}
