//! What the host knows: leaders, processes, owners, and who listens.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use protocol::ErrorKind;
use protocol::logs::LogDriver;
use protocol::process::Outcome;
use protocol::session::{EndedBy, Event, EventKind, EventsParams, StreamKind};
use protocol::subcontainer::{RunState, SubcontainerInfo};
use rustix::event::{PollFd, PollFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::{broadcast, mpsc, watch};

use super::connection::Connection;
use super::doors::Doors;
use super::journal::Journalled;
use super::locks::Locks;
use super::logs::Logs;
use super::packages::Installed;
use super::replace::{self, Replacing};
use super::sessions::Sessions;
use crate::engine::cgroup::{Events, Group};
use crate::engine::lock;
use crate::engine::process::Process;
use crate::error::{Failure, Result};
use crate::events::{self, Healths, Ring};
use crate::subcontainer::{Leader, Machine, Owner};

/// The host.
pub(super) struct Host {
    pub(super) machine: Machine,
    leaders: Mutex<HashMap<String, Arc<Running>>>,
    launching: [tokio::sync::Mutex<()>; 64],
    processes: Mutex<HashMap<String, Arc<Entry>>>,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    pub(super) sessions: Sessions,
    pub(super) replacing: Replacing,
    next: AtomicU64,
    events: broadcast::Sender<Event>,
    pub(super) installed: Installed,
    pub(super) doors: Doors,
    pub(super) locks: Locks,
    /// Held while an event is told: whoever reads what is kept and then listens misses none.
    kept_events: Mutex<Ring>,
    healths: Mutex<Healths>,
    /// Why leaders are about to end, by guid.
    ending: Mutex<HashMap<String, Ending>>,
    pub(super) logs: Logs,
    pub(super) journalled: Journalled,
    /// Unless a launch says otherwise.
    pub(super) log_driver: LogDriver,
    pub(super) package_networks: Vec<ipnet::IpNet>,
}

/// What the operator has chosen.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// How long clients of an earlier host are waited for.
    pub(super) grace: Duration,
    pub(super) log_driver: LogDriver,
    /// Networks that are not public, and that packages may reach where they were granted a host in there.
    pub(super) package_networks: Vec<ipnet::IpNet>,
}

/// Why a leader is about to end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// By a signal, unless it takes that otherwise.
    Signal(i32),
    By(EndedBy),
}

impl Ending {
    fn explains(self, outcome: &Outcome) -> Option<EndedBy> {
        match (self, outcome) {
            // What the kernel did for want of memory, it would have done in any case.
            (_, Outcome::OutOfMemory) => None,
            (Self::By(by), _) => Some(by),
            (Self::Signal(sent), Outcome::Signal { number, .. }) => {
                (sent == *number).then_some(EndedBy::Kill)
            }
            (Self::Signal(_), _) => None,
        }
    }
}

/// Empty groups of commands that are kept for each leader.
const SPARE_GROUPS: usize = 4;

/// A running leader.
pub(super) struct Running {
    pub(super) leader: Leader,
    /// Its name as a process, when this host launched it.
    pub(super) process: OnceLock<String>,
    /// When it is an idle init that came with a first command: what tells of its end.
    pub(super) implicit: OnceLock<watch::Receiver<Option<Outcome>>>,
    /// What tells of its end, when it was adopted.
    pub(super) ended: OnceLock<watch::Receiver<Option<Outcome>>>,
    /// Groups of commands that have ended and that nobody else has heard of, for the next ones.
    groups: Mutex<Vec<Lent>>,
}

/// A group for a command that no client can name, and how to see whether something is in it, once that was asked.
pub(super) struct Lent {
    pub(super) group: Group,
    events: Option<Events>,
}

impl Lent {
    fn is_empty(&mut self) -> bool {
        if self.events.is_none() {
            self.events = self.group.events().ok();
        }
        self.events.as_ref().is_some_and(Events::is_empty)
    }
}

impl Running {
    pub(super) fn new(leader: Leader) -> Self {
        let (process, implicit, ended) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { leader, process, implicit, ended, groups: Mutex::default() }
    }

    /// A group for a command that no client can name.
    pub(super) fn lend_group(&self, machine: &Machine) -> Result<Lent> {
        let lent = lock(&self.groups).pop();
        lent.map_or_else(|| Ok(Lent { group: machine.command_group(&self.leader)?, events: None }), Ok)
    }

    /// Takes it back after the command's end: making and removing one is a tenth of what a short command takes. One in
    /// which something still runs is none for the next.
    pub(super) fn return_group(&self, mut lent: Lent) {
        if lent.is_empty() {
            let mut groups = lock(&self.groups);
            if groups.len() < SPARE_GROUPS {
                groups.push(lent);
                return;
            }
        }
        lent.group.retire();
    }
}

/// A process that a client can name.
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) guid: String,
    pub(super) process: Process,
    pub(super) outcome: watch::Receiver<Option<Outcome>>,
    /// The host's end of its terminal.
    pub(super) terminal: Option<Arc<OwnedFd>>,
    /// Ends that no client holds now.
    pub(super) streams: Mutex<HashMap<StreamKind, Arc<OwnedFd>>>,
    /// A wait was answered: when the streams are through too, nobody needs it any more.
    pub(super) waited: Mutex<bool>,
    /// What it leaves running is ended with it.
    pub(super) tree: AtomicBool,
}

impl Host {
    /// And who wants to be in its place.
    pub(super) fn new(
        machine: Machine,
        settings: Settings,
    ) -> Result<(Arc<Self>, mpsc::Receiver<replace::Request>)> {
        let (replacing, requests) = Replacing::new();
        let kept_events = Mutex::new(Ring::open(machine.data_dir()));
        let healths = Mutex::new(Healths::read(machine.data_dir()));
        let locks = Locks::open(machine.locks_file()?);
        let data_dir = machine.data_dir().to_owned();
        let host = Arc::new_cyclic(|host| Self {
            machine,
            replacing,
            logs: Logs::new(data_dir, Weak::clone(host)),
            sessions: Sessions::new(settings.grace),
            log_driver: settings.log_driver,
            package_networks: settings.package_networks,
            journalled: Journalled::default(),
            leaders: Mutex::default(),
            launching: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            processes: Mutex::default(),
            connections: Mutex::default(),
            next: AtomicU64::new(1),
            events: broadcast::channel(1024).0,
            installed: Installed::default(),
            doors: Doors::default(),
            locks,
            kept_events,
            healths,
            ending: Mutex::default(),
        });
        Ok((host, requests))
    }

    /// Numbers of an earlier program of this process are not given again.
    pub(super) fn count_from(&self, next: u64) {
        self.next.store(next, Ordering::Relaxed);
    }

    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn emit(&self, guid: &str, what: EventKind) {
        let mut kept = lock(&self.kept_events);
        let event = kept.add(guid, what);
        lock(&self.healths).hear(&event);
        // Nobody may listen.
        let _unheard = self.events.send(event);
    }

    /// How many events there were, also before this host.
    pub(super) fn events_so_far(&self) -> u64 {
        lock(&self.kept_events).count()
    }

    /// What is kept since a time, if one is given, and then what comes.
    pub(super) fn listen(&self, which: &EventsParams) -> Result<(Vec<Event>, broadcast::Receiver<Event>)> {
        let _told_after = lock(&self.kept_events);
        let past = match which.since {
            Some(_) => events::list(self.machine.data_dir(), which)?,
            None => Vec::new(),
        };
        Ok((past, self.events.subscribe()))
    }

    /// Notes why a leader is about to end, if its end will be told.
    pub(super) fn will_end(&self, guid: &str, ending: Ending) {
        if self.known_leader(guid).is_none() {
            return;
        }
        lock(&self.ending).insert(guid.to_owned(), ending);
    }

    /// Tells of the end of a leader.
    pub(super) fn emit_end(&self, guid: &str, outcome: Outcome) {
        let by = lock(&self.ending).remove(guid).and_then(|ending| ending.explains(&outcome));
        self.emit(guid, EventKind::Exited { outcome, by });
    }

    // -- leaders

    pub(super) fn remember_leader(&self, guid: &str, leader: Leader) -> Arc<Running> {
        let running = Arc::new(Running::new(leader));
        lock(&self.ending).remove(guid);
        lock(&self.leaders).insert(guid.to_owned(), Arc::clone(&running));
        running
    }

    /// The leader of a subcontainer. Not one that has ended, though nobody has been told of it yet.
    pub(super) fn known_leader(&self, guid: &str) -> Option<Arc<Running>> {
        lock(&self.leaders).get(guid).filter(|running| !running.leader.has_ended()).map(Arc::clone)
    }

    /// Adds to what the machine knows what only the host does: the leader's name, and how what runs is.
    pub(super) fn complete(&self, mut info: SubcontainerInfo) -> SubcontainerInfo {
        if let RunState::Running { process, .. } = &mut info.state
            && let Some(running) = self.known_leader(&info.guid)
        {
            *process = running.process.get().cloned();
        }
        info.health = lock(&self.healths).of(&info.guid);
        info
    }

    /// Forgets a leader, unless another one has taken its place.
    pub(super) fn forget_leader(&self, guid: &str, pid: i32) {
        let mut leaders = lock(&self.leaders);
        if leaders.get(guid).is_some_and(|running| running.leader.process.pid == pid) {
            leaders.remove(guid);
        }
    }

    /// One launch at a time in one subcontainer. (Some share a lock: launches are short, and names without end.)
    pub(super) fn launch_lock(&self, guid: &str) -> &tokio::sync::Mutex<()> {
        let sum = guid.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        &self.launching[sum % self.launching.len()]
    }

    // -- processes

    pub(super) fn add_process(
        &self,
        guid: &str,
        process: Process,
        outcome: watch::Receiver<Option<Outcome>>,
        terminal: Option<Arc<OwnedFd>>,
        streams: HashMap<StreamKind, Arc<OwnedFd>>,
    ) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            id: format!("{}-{}", process.pid, self.number()),
            guid: guid.to_owned(),
            process,
            outcome,
            terminal,
            streams: Mutex::new(streams),
            waited: Mutex::new(false),
            tree: AtomicBool::new(false),
        });
        lock(&self.processes).insert(entry.id.clone(), Arc::clone(&entry));
        // Looked at when it is known: a destroy that ended before did not know of it, one that ends later does.
        if !self.machine.exists(guid).unwrap_or(false) {
            self.forget_process(&entry.id);
        }
        entry
    }

    /// As it was named by an earlier program of this process.
    pub(super) fn add_named_process(&self, entry: Entry) {
        lock(&self.processes).insert(entry.id.clone(), Arc::new(entry));
    }

    pub(super) fn all_processes(&self) -> Vec<Arc<Entry>> {
        lock(&self.processes).values().map(Arc::clone).collect()
    }

    /// Which client each process belongs to that belongs to one.
    pub(super) fn owners_of_processes(&self) -> HashMap<String, Owner> {
        let connections = lock(&self.connections);
        let of = |connection: &Arc<Connection>| {
            let owner = connection.owner();
            connection.processes().into_iter().map(move |id| (id, owner.clone())).collect::<Vec<_>>()
        };
        connections.values().flat_map(of).collect()
    }

    pub(super) fn requests_under_way(&self) -> usize {
        lock(&self.connections).values().map(|connection| connection.requests_under_way()).sum()
    }

    pub(super) fn process(&self, id: &str) -> Result<Arc<Entry>> {
        lock(&self.processes)
            .get(id)
            .map(Arc::clone)
            .ok_or_else(|| Failure::new(ErrorKind::NotFound, "find process", id))
    }

    pub(super) fn forget_process(&self, id: &str) {
        lock(&self.processes).remove(id);
    }

    /// A wait was answered a while ago, or a stream has come to its end: forgets the process if nobody can want it any
    /// more, and says whether it has.
    pub(super) fn settle(&self, entry: &Entry, waited: bool) -> bool {
        let done = {
            let mut flag = lock(&entry.waited);
            *flag |= waited;
            if !*flag {
                return false;
            }
            let mut streams = lock(&entry.streams);
            // It has ended: nobody will read its input. Of its outputs that nobody has attached to, what holds bytes is
            // kept, and by now nothing else: somebody who was left behind may hold the other end for ever.
            streams.retain(|kind, end| *kind != StreamKind::Stdin && holds_bytes(end, !waited));
            streams.is_empty()
        };
        if done {
            self.forget_process(&entry.id);
        }
        done
    }

    pub(super) fn forget_processes_of(&self, guid: &str) {
        lock(&self.processes).retain(|_, entry| entry.guid != guid);
        lock(&self.leaders).remove(guid);
    }

    // -- connections and what they own

    pub(super) fn add_connection(&self, connection: &Arc<Connection>) {
        lock(&self.connections).insert(connection.id, Arc::clone(connection));
    }

    /// Whether a connection that is still there owns this subcontainer.
    pub(super) fn owner(&self, guid: &str) -> Option<Arc<Connection>> {
        lock(&self.connections).values().find(|connection| connection.owns(guid)).map(Arc::clone)
    }

    /// Ends what a connection owned.
    pub(super) async fn close(self: &Arc<Self>, connection: &Connection) {
        let _one_at_a_time = connection.closing.lock().await;
        let (owned, processes) = connection.close();
        for id in processes {
            self.end_process(&id);
        }
        let mut all = tokio::task::JoinSet::new();
        for guid in owned {
            let host = Arc::clone(self);
            all.spawn(async move {
                if let Err(failure) = host.destroy(&guid).await {
                    tracing::error!("{}", failure.sentence());
                }
            });
        }
        all.join_all().await;
        // Not before: whoever gets one finds nothing of what was done under it.
        self.locks.release_all(connection.id);
        lock(&self.connections).remove(&connection.id);
    }

    /// Ends a process whose owner is gone.
    pub(super) fn end_process(&self, id: &str) {
        if let Ok(entry) = self.process(id) {
            // Nothing can be done about a group that cannot be ended; destroying its subcontainer says so.
            let _gone = entry.process.group.kill();
            self.forget_process(id);
        }
    }

    pub(super) async fn close_all(self: &Arc<Self>) {
        let all: Vec<_> = lock(&self.connections).values().map(Arc::clone).collect();
        for connection in all {
            self.close(&connection).await;
        }
    }

    /// Destroys a subcontainer and everything the host knew of it.
    pub(super) async fn destroy(self: &Arc<Self>, guid: &str) -> Result<()> {
        // To end anything takes descriptors, and these may be the last ones.
        for entry in lock(&self.processes).values().filter(|entry| entry.guid == guid) {
            lock(&entry.streams).clear();
        }
        self.will_end(guid, Ending::By(EndedBy::Destroy));
        let (host, id) = (Arc::clone(self), guid.to_owned());
        let inside = blocking(move || host.machine.destroy(&id)).await?;
        for guid in inside.iter().map(String::as_str).chain([guid]) {
            self.forget_processes_of(guid);
            self.await_no_more(guid);
            for connection in lock(&self.connections).values() {
                connection.disown(guid);
            }
            self.emit(guid, EventKind::Destroyed);
        }
        Ok(())
    }
}

impl Entry {
    /// Takes an end for a client, or says why not.
    pub(super) fn take_stream(&self, kind: StreamKind) -> Result<Arc<OwnedFd>> {
        lock(&self.streams).remove(&kind).ok_or_else(|| {
            Failure::new(ErrorKind::NotFound, "attach to stream", format!("{kind:?} of process {}", self.id))
                .because(std::io::Error::other("it has none, it has ended, or somebody is attached"))
        })
    }

    /// Gives an end back, for somebody else to attach to.
    pub(super) fn return_stream(&self, kind: StreamKind, end: Arc<OwnedFd>) {
        lock(&self.streams).insert(kind, end);
    }
}

/// Guids and processes of a connection.
pub(super) type Owned = (HashSet<String>, HashSet<String>);

/// Does what blocks where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Failure::new(ErrorKind::Internal, "work", "").because(error)),
    }
}

/// A descriptor that tasks can wait on.
#[allow(
    deprecated,
    reason = "its successor is unsafe for types that may close the descriptor; an Arc<OwnedFd> cannot"
)]
pub(super) fn watched(
    fd: Arc<OwnedFd>,
    interest: tokio::io::Interest,
) -> std::io::Result<AsyncFd<Arc<OwnedFd>>> {
    AsyncFd::with_interest(fd, interest)
}

/// Whether there is something to read, or, with `open`, somebody who may still write.
fn holds_bytes(end: &OwnedFd, open: bool) -> bool {
    let mut fds = [PollFd::new(end, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut fds, Some(&now)) {
        Ok(1) => fds[0].revents().contains(PollFlags::IN),
        // Silent, but somebody has the other end.
        Ok(_) => open,
        Err(_) => false,
    }
}
