//! Processes for clients: launch, spawn, and what can be done to them.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use images::Rootfs;
use linux::signal::Signal;
use protocol::ErrorKind;
use protocol::logs::{LogBounds, LogDriver, LogStream};
use protocol::process::{
    KillParams, KillResult, LaunchParams, Outcome, ResizeParams, SignalParams, SpawnParams, SpawnResult,
    Stdio, StopParams, StopResult, Streams, WaitParams, WaitResult,
};
use protocol::session::{EndedBy, EventKind, StreamKind};
use protocol::subcontainer::Empty;
use rustix::io::Errno;
use tokio::sync::watch;

use super::connection::{Answer, Call, answer, cancelled};
use super::journal;
use super::state::{Ending, Entry, Host, Running, blocking, watched};
use crate::engine::cgroup::Group;
use crate::engine::lock;
use crate::engine::privileges::Privileges;
use crate::engine::process::Process;
use crate::engine::settings::Settings;
use crate::engine::terminal;
use crate::engine::{dev_null, pipe};
use crate::error::{Failure, Result};
use crate::logs::Reader;
use crate::logs::fifo::Fifo;
use crate::logs::journal::Journal;
use crate::subcontainer::{self as sub, Io, Launch, Launched, Started, Terms, check_guid};

/// How long the streams of a process that was waited for stay where a client can attach to them, when nothing is in
/// them any more.
const LATE_ATTACH: Duration = Duration::from_secs(1);

/// How long the start of a command that nobody can cancel may take.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// The ends of a process's streams that the host keeps.
pub(super) type Ends = HashMap<StreamKind, Arc<OwnedFd>>;

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
    let launched = answer(launch_leader(&host, p, false).await)?;
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
    pub(super) ends: Ends,
}

/// `implicit`: an idle init that nobody has asked for, with what the leader before it had.
async fn launch_leader(host: &Arc<Host>, p: LaunchParams, implicit: bool) -> Result<NewLeader> {
    let (worker, guid) = (Arc::clone(host), p.guid.clone());
    let Led { running, ends, terminal } = blocking(move || {
        let rootfs = worker.machine.rootfs(&p.guid)?;
        lead(&worker, &rootfs, p, implicit)
    })
    .await?;
    let outcome = watch_new(host, &guid, &running);
    Ok(NewLeader { guid, running, outcome, terminal, ends })
}

/// What [`lead`] has started.
pub(super) struct Led {
    pub(super) running: Arc<Running>,
    terminal: Option<Arc<OwnedFd>>,
    pub(super) ends: Ends,
}

/// Starts a leader. Blocks. Nobody waits for its end yet, or tells of it.
pub(super) fn lead(host: &Arc<Host>, rootfs: &Rootfs, p: LaunchParams, implicit: bool) -> Result<Led> {
    let Streamed { io, mut ends, kept } = streams(host, &p.guid, &p.streams)?;
    let before = if implicit { host.machine.terms_of_last(&p.guid)? } else { None };
    let (terms, options) = match before {
        Some(terms) => {
            let options = terms.settings.options();
            (terms, options)
        }
        None => {
            let terms = Terms {
                privileges: Privileges::plan(&p.privileges, p.shared_dev_sys, p.shared_run)?,
                limits: p.limits,
                network: p.network,
                settings: Settings::of(&p.options),
            };
            (terms, p.options)
        }
    };
    let launch = Launch {
        command: p.command.as_deref(),
        init: p.init,
        options: &options,
        privileges: terms.privileges,
        limits: terms.limits,
        network: terms.network,
        publish_proc: false,
        stays: true,
        implicit,
        io,
    };
    let Launched { leader, terminal, .. } = match host.machine.launch(rootfs, &launch) {
        Ok(launched) => launched,
        Err(failure) => return kept.abandon(failure),
    };
    kept.begin(host, &p.guid, leader.process.pid);
    let terminal = keep_terminal(&mut ends, terminal);
    Ok(Led { running: host.remember_leader(&p.guid, leader), ends, terminal })
}

/// Launches a leader that no client has a name for, and tells of its end.
pub(super) async fn launch_unheard(
    host: &Arc<Host>,
    p: LaunchParams,
) -> Result<watch::Receiver<Option<Outcome>>> {
    let _one_at_a_time = host.launch_lock(&p.guid).lock().await;
    Ok(launch_leader(host, p, false).await?.outcome)
}

/// As [`launch_unheard`], with the ends of its streams that are pipes.
pub(super) async fn launch_piped(
    host: &Arc<Host>,
    p: LaunchParams,
) -> Result<(Arc<Running>, watch::Receiver<Option<Outcome>>, HashMap<StreamKind, Arc<OwnedFd>>)> {
    let _one_at_a_time = host.launch_lock(&p.guid).lock().await;
    let launched = launch_leader(host, p, false).await?;
    Ok((launched.running, launched.outcome, launched.ends))
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
    let seen = ended(&process).await;
    host.forget_leader(&guid, process.pid);
    let (worker, id, end) = (Arc::clone(&host), guid.clone(), seen.clone());
    let outcome = match blocking(move || worker.machine.leader_ended(&id, process.pid, end)).await {
        Ok(outcome) => outcome,
        Err(failure) => {
            tracing::error!("{}", failure.sentence());
            seen
        }
    };
    host.emit_end(&guid, outcome.clone());
    sender.send_replace(Some(outcome));
}

/// The running leader; an idle init is launched when there is none and `launch` says so.
pub(super) async fn leader(host: &Arc<Host>, guid: &str, launch: bool) -> Result<Arc<Running>> {
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
    let launched = launch_leader(host, idle, true).await?;
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
            let Streamed { io, mut ends, kept } = streams(&worker, &p.guid, &p.streams)?;
            let started = start(&worker, &running, &p.command, &p.options, &io, own);
            let Started { process, terminal, .. } = match started {
                Ok(started) => started,
                Err(failure) => return kept.abandon(failure),
            };
            kept.begin(&worker, &p.guid, process.pid);
            let terminal = keep_terminal(&mut ends, terminal);
            Ok((process, ends, terminal))
        });
        let (started, _) = started_or_stopped(start, &group, call.cancelled()).await;
        let (process, ends, terminal) = started?;
        let outcome = watch_command(process.clone(), p.tree);
        let entry = host.add_process(&guid, process.clone(), outcome, terminal, ends);
        entry.tree.store(p.tree, Ordering::Relaxed);
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

/// Starts a command that no client has a name for, in a container that runs, and tells of its end. Its streams are nobody's to
/// attach to.
pub(super) async fn spawn_unheard(
    host: &Arc<Host>,
    p: SpawnParams,
) -> Result<(Process, watch::Receiver<Option<Outcome>>)> {
    let running = leader(host, &p.guid, false).await?;
    let group = host.machine.command_group(&running.leader)?;
    let (worker, own, tree) = (Arc::clone(host), group.clone(), p.tree);
    let start = blocking(move || {
        let Streamed { io, kept, .. } = streams(&worker, &p.guid, &p.streams)?;
        let process = match start(&worker, &running, &p.command, &p.options, &io, own) {
            Ok(started) => started.process,
            Err(failure) => return kept.abandon(failure),
        };
        kept.begin(&worker, &p.guid, process.pid);
        Ok(process)
    });
    let late = tokio::time::sleep(START_PATIENCE);
    let (started, _) = started_or_stopped(start, &group, late).await;
    let process = started?;
    Ok((process.clone(), watch_command(process, tree)))
}

/// Will tell of a command's end. With `tree`, after that of all that it left running.
fn watch_command(process: Process, tree: bool) -> watch::Receiver<Option<Outcome>> {
    let (sender, outcome) = watch::channel(None);
    tokio::spawn(async move {
        let outcome = ended(&process).await;
        if tree {
            end_rest(process.group).await;
        } else {
            process.group.retire();
        }
        sender.send_replace(Some(outcome));
    });
    outcome
}

/// A process that an earlier program of this process has started, by the name that its clients know.
pub(super) fn go_on(
    host: &Arc<Host>,
    id: String,
    guid: &str,
    (pid, pidfd, group, tree): (i32, Arc<OwnedFd>, &str, bool),
    terminal: Option<Arc<OwnedFd>>,
    streams: Ends,
) {
    let Some(running) = host.known_leader(guid) else { return };
    let (process, outcome) = if running.leader.process.pid == pid {
        // It is set once, here.
        let _first = running.process.set(id.clone());
        (running.leader.process.clone(), running.ended.get().cloned())
    } else {
        let Some(group) = running.leader.command_group(group) else { return };
        let process = Process { pid, pidfd, group, kills: None };
        (process.clone(), Some(watch_command(process, tree)))
    };
    let Some(outcome) = outcome else { return };
    let (streams, waited, tree) = (streams.into(), false.into(), tree.into());
    host.add_named_process(Entry {
        id,
        guid: guid.to_owned(),
        process,
        outcome,
        terminal,
        streams,
        waited,
        tree,
    });
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
    if host.known_leader(&entry.guid).is_some_and(|leader| leader.leader.process.pid == entry.process.pid) {
        host.will_end(&entry.guid, Ending::Signal(signal.as_raw()));
    }
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

/// `subcontainer.signal`
pub(super) fn signal(host: &Host, p: &SignalParams) -> Result<KillResult> {
    let signal: Signal = p
        .signal
        .parse()
        .map_err(|error| Failure::new(ErrorKind::Invalid, "read signal", &p.signal).because(error))?;
    let Some(leader) = host.machine.leader_of(&p.guid)? else { return Ok(KillResult { delivered: false }) };
    host.will_end(&p.guid, Ending::Signal(signal.as_raw()));
    let delivered = leader
        .process
        .signal(signal)
        .map_err(|errno| Failure::kernel(format!("send {signal} to the leader of"), &p.guid, errno))?;
    Ok(KillResult { delivered })
}

/// `subcontainer.stop`
pub(super) async fn stop(host: Arc<Host>, _: Call, p: StopParams) -> Answer<StopResult> {
    let worker = Arc::clone(&host);
    let timeout = Duration::from_millis(p.timeout.unwrap_or(sub::STOP_PATIENCE));
    let stopped = blocking(move || {
        let Some(leader) = worker.machine.leader_of(&p.guid)? else {
            return Ok(StopResult { outcome: None, killed: false });
        };
        let signal = sub::stop_signal(&leader, p.signal.as_deref())?;
        worker.will_end(&p.guid, Ending::By(EndedBy::Stop));
        let killed = worker.machine.stop(&leader, signal, timeout, || {
            worker.will_end(&p.guid, Ending::By(EndedBy::StopTimeout));
        })?;
        let outcome = Some(worker.machine.ended_leader(&p.guid)?);
        Ok(StopResult { outcome, killed })
    });
    answer(stopped.await)
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
pub(super) fn start(
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
pub(super) async fn started_or_stopped<T, S>(
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

/// The streams of a process that is about to be started.
pub(super) struct Streamed {
    /// What it gets.
    pub(super) io: Io,
    /// What clients can attach to.
    pub(super) ends: Ends,
    kept: Kept,
}

/// Those of its streams that are kept.
#[derive(Default)]
struct Kept {
    fifos: Vec<Fifo>,
    bounds: Option<LogBounds>,
}

impl Kept {
    /// The process runs.
    fn begin(self, host: &Arc<Host>, guid: &str, pid: i32) {
        let any = !self.fifos.is_empty();
        for mut fifo in self.fifos {
            fifo.is_of(pid as u32);
            host.logs.keep(guid, fifo, self.bounds);
        }
        if any {
            journal::begin(host, guid);
        }
    }

    /// The process could not be started.
    fn abandon<T>(self, failure: Failure) -> Result<T> {
        self.fifos.into_iter().for_each(Fifo::remove);
        Err(failure)
    }
}

pub(super) fn streams(host: &Host, guid: &str, wanted: &Streams) -> Result<Streamed> {
    let refuse = |why: &'static str| {
        Err(Failure::new(ErrorKind::Invalid, "open streams of a process in", guid)
            .because(std::io::Error::other(why)))
    };
    let mut ends = Ends::new();
    let null = dev_null()?;
    let mut stdio = [Arc::clone(&null), Arc::clone(&null), Arc::clone(&null)];
    let mut kept = Kept { bounds: wanted.log.map(crate::logs::check).transpose()?, ..Kept::default() };
    match (wanted.stdin, wanted.terminal) {
        (Stdio::Log, _) => return refuse("standard input cannot be kept"),
        (Stdio::Pipe, None) => {
            let (read, write) = pipe()?;
            stdio[0] = Arc::new(read);
            ends.insert(StreamKind::Stdin, Arc::new(write));
        }
        _ => {}
    }
    if wanted.stdout == Stdio::Log && wanted.terminal.is_some() {
        return refuse("what is written to a terminal cannot be kept");
    }
    if wanted.stdout == Stdio::Log || wanted.stderr == Stdio::Log {
        host.logs.ready()?;
        let driver = wanted.log_driver.unwrap_or(host.log_driver);
        let before = crate::logs::journalled(host.machine.data_dir(), guid);
        if driver == LogDriver::Journald {
            Journal::open()?;
        }
        // The newest choice is that of all.
        if (driver == LogDriver::Journald) != before.is_some() {
            let data_dir = host.machine.data_dir();
            let place = if before.is_none() { Some(Reader::end_of(data_dir, guid)?) } else { None };
            crate::logs::set_journalled(data_dir, guid, place)?;
        }
    }
    let mut outputs = vec![(2, wanted.stderr, StreamKind::Stderr, LogStream::Stderr)];
    if wanted.terminal.is_none() {
        outputs.push((1, wanted.stdout, StreamKind::Stdout, LogStream::Stdout));
    }
    for (number, what, kind, stream) in outputs {
        match what {
            Stdio::Null => {}
            Stdio::Pipe => {
                let (read, write) = pipe()?;
                stdio[number] = Arc::new(write);
                ends.insert(kind, Arc::new(read));
            }
            Stdio::Log => match host.machine.keep_stream(guid, stream) {
                Ok((fifo, end)) => {
                    stdio[number] = Arc::new(end);
                    kept.fifos.push(fifo);
                }
                Err(failure) => return kept.abandon(failure),
            },
        }
    }
    let stderr_apart = wanted.stderr != Stdio::Null;
    Ok(Streamed { io: Io { stdio, terminal: wanted.terminal, stderr_apart, own: true }, ends, kept })
}

fn keep_terminal(ends: &mut Ends, terminal: Option<OwnedFd>) -> Option<Arc<OwnedFd>> {
    let terminal = Arc::new(terminal?);
    ends.insert(StreamKind::Terminal, Arc::clone(&terminal));
    Some(terminal)
}

/// Waits for a process and reaps it. One that is not our child is only watched.
pub(super) async fn ended(process: &Process) -> Outcome {
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
                let foreign = process.clone();
                return blocking(move || Ok(foreign.foreign_end())).await.unwrap_or(Outcome::Unknown);
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
pub(super) async fn end_tree(process: Process, grace: Duration) {
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

/// Ends what a command has left running. Its end is told afterwards: whoever hears of it finds nothing of it.
async fn end_rest(group: Group) {
    if let Err(failure) = blocking(move || group.destroy()).await {
        tracing::error!("{}", failure.sentence());
    }
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
