//! What the host knows: leaders, processes, owners, and who listens.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use protocol::ErrorKind;
use protocol::process::Outcome;
use protocol::session::{Event, EventKind, StreamKind};
use protocol::subcontainer::{RunState, SubcontainerInfo};
use rustix::event::{PollFd, PollFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::{broadcast, watch};

use super::connection::Connection;
use crate::engine::process::Process;
use crate::error::{Failure, Result};
use crate::subcontainer::{Leader, Machine, now};

/// The host.
pub(super) struct Host {
    pub(super) machine: Machine,
    leaders: Mutex<HashMap<String, Arc<Running>>>,
    launching: [tokio::sync::Mutex<()>; 64],
    processes: Mutex<HashMap<String, Arc<Entry>>>,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    next: AtomicU64,
    events: broadcast::Sender<Event>,
}

/// A running leader.
pub(super) struct Running {
    pub(super) leader: Leader,
    /// Its name as a process, when this host launched it.
    pub(super) process: OnceLock<String>,
    /// When it is an idle init that came with a first command: what tells of its end.
    pub(super) implicit: OnceLock<watch::Receiver<Option<Outcome>>>,
}

impl Running {
    pub(super) fn new(leader: Leader) -> Self {
        Self { leader, process: OnceLock::new(), implicit: OnceLock::new() }
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
    waited: Mutex<bool>,
}

/// A lock of ours is never held across a panic that matters: the data behind it is whole after each statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    pub(super) fn new(machine: Machine) -> Arc<Self> {
        Arc::new(Self {
            machine,
            leaders: Mutex::default(),
            launching: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            processes: Mutex::default(),
            connections: Mutex::default(),
            next: AtomicU64::new(1),
            events: broadcast::channel(1024).0,
        })
    }

    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn emit(&self, guid: &str, what: EventKind) {
        // Nobody may listen.
        let _unheard = self.events.send(Event { time: now(), guid: guid.to_owned(), what });
    }

    pub(super) fn listen(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    // -- leaders

    pub(super) fn remember_leader(&self, guid: &str, leader: Leader) -> Arc<Running> {
        let running = Arc::new(Running::new(leader));
        lock(&self.leaders).insert(guid.to_owned(), Arc::clone(&running));
        running
    }

    /// The leader of a subcontainer. Not one that has ended, though nobody has been told of it yet.
    pub(super) fn known_leader(&self, guid: &str) -> Option<Arc<Running>> {
        lock(&self.leaders).get(guid).filter(|running| !running.leader.has_ended()).map(Arc::clone)
    }

    /// Adds to what the machine knows what only the host does: the leader's name.
    pub(super) fn complete(&self, mut info: SubcontainerInfo) -> SubcontainerInfo {
        if let RunState::Running { process, .. } = &mut info.state
            && let Some(running) = self.known_leader(&info.guid)
        {
            *process = running.process.get().cloned();
        }
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
        });
        lock(&self.processes).insert(entry.id.clone(), Arc::clone(&entry));
        // Looked at when it is known: a destroy that ended before did not know of it, one that ends later does.
        if self.machine.rootfs(guid).is_err() {
            self.forget_process(&entry.id);
        }
        entry
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
            if let Ok(entry) = self.process(&id) {
                // Nothing can be done about a group that cannot be ended; destroying its subcontainer says so.
                let _gone = entry.process.group.kill();
                self.forget_process(&id);
            }
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
        lock(&self.connections).remove(&connection.id);
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
        let (host, id) = (Arc::clone(self), guid.to_owned());
        let inside = blocking(move || host.machine.destroy(&id)).await?;
        for guid in inside.iter().map(String::as_str).chain([guid]) {
            self.forget_processes_of(guid);
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
