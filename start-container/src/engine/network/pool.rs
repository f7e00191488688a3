//! Attachments made ahead, by a daemon, for containers to come.
//!
//! ```text
//! launch <-- ready <--------- looked over by the keeper <------+
//!   |          ^------------- made by the keeper               |
//!   +--> held by a container ---(ends, is forgotten)-----------+--> or taken apart
//! ```
//! The keeper is a thread that waits for work and does what nobody should wait for. There is none before the first
//! private network is used. Nothing of this outlives the daemon: what it held is let go with its handles, and what is
//! written down bears its process id.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use network::{Attachment, Networks, Ready, Request, Traces};

use crate::engine::lock;
use crate::error::{Failure, Result};

/// How many are made ahead. One may be taken while another is made.
const AHEAD: usize = 2;
/// How long the names of a container stay that has ended, and is not gone.
const MOMENT: Duration = Duration::from_millis(3);
/// How many are kept, of those that come back: as many as containers may come and go at once without waiting.
const MOST: usize = 8;

#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
    keeper: Mutex<Option<(Sender<Job>, JoinHandle<()>)>>,
}

#[derive(Debug)]
struct Shared {
    networks: Arc<Networks>,
    ready: Mutex<Vec<Ready>>,
    /// By guid: what may be used again after its container.
    held: Mutex<HashMap<String, Held>>,
}

/// The namespace of a container that could not hand a descriptor to anybody.
#[derive(Debug)]
struct Held {
    netns: Arc<OwnedFd>,
    traces: Traces,
}

#[derive(Debug)]
enum Job {
    /// One was taken.
    Refill,
    /// A container has ended that had this namespace.
    Rest(String, Arc<OwnedFd>),
    /// A container is gone.
    Retire(String, Held),
}

impl Pool {
    pub(super) fn new(networks: Arc<Networks>) -> Result<Self> {
        let shared = Arc::new(Shared { networks, ready: Mutex::default(), held: Mutex::default() });
        let (sender, jobs) = channel();
        let keeper = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("networks".to_owned()).spawn(move || keeper.keep(&jobs));
        let thread = thread.map_err(|error| {
            Failure::new(protocol::ErrorKind::Kernel, "start thread", "networks").because(error)
        })?;
        Ok(Self { shared, keeper: Mutex::new(Some((sender, thread))) })
    }

    /// An attachment that is there, for a container that asks for nothing else.
    pub(super) fn take(&self, guid: &str, request: &Request) -> Result<Option<Attachment>> {
        // One that is made ahead has no port to itself.
        if request.network.is_some() || !request.publish.is_empty() {
            return Ok(None);
        }
        let (ready, few) = {
            let mut all = lock(&self.shared.ready);
            (all.pop(), all.len() < AHEAD)
        };
        if few {
            self.tell(Job::Refill);
        }
        let Some(ready) = ready else { return Ok(None) };
        Ok(match self.shared.networks.take(guid, request, ready)? {
            Ok(attachment) => Some(attachment),
            Err(ready) => {
                // Rules or settings of the machine have changed: the others are as good as this one.
                self.shared.networks.discard(ready)?;
                None
            }
        })
    }

    /// The container cannot hand a descriptor to anybody: what it is attached by may be used again.
    pub(super) fn hold(&self, guid: &str, attachment: &Attachment) {
        let held = Held { netns: Arc::clone(&attachment.netns), traces: attachment.traces };
        lock(&self.shared.held).insert(guid.to_owned(), held);
    }

    /// Not any more: it has met others.
    pub(super) fn let_go(&self, guid: &str) {
        lock(&self.shared.held).remove(guid);
    }

    /// Whether something of an earlier run of it is held.
    pub(super) fn rests(&self, guid: &str) -> bool {
        lock(&self.shared.held).contains_key(guid)
    }

    /// It has ended. Whether the keeper does what is to be done: its names go in a moment.
    pub(super) fn rest(&self, guid: &str) -> bool {
        let held = lock(&self.shared.held).get(guid).map(|held| Arc::clone(&held.netns));
        held.is_some_and(|netns| self.tell(Job::Rest(guid.to_owned(), netns)))
    }

    /// It is forgotten, and nobody of its name comes again. Whether the keeper does what is to be done.
    pub(super) fn retire(&self, guid: &str) -> bool {
        let held = lock(&self.shared.held).remove(guid);
        held.is_some_and(|held| self.tell(Job::Retire(guid.to_owned(), held)))
    }

    /// Whether there is a keeper still. It does all that it was told before it ends.
    fn tell(&self, job: Job) -> bool {
        lock(&self.keeper).as_ref().is_some_and(|(sender, _)| sender.send(job).is_ok())
    }

    /// Ends the keeper and lets go of everything.
    pub(super) fn close(&self) -> Result<()> {
        let keeper = lock(&self.keeper).take();
        if let Some((sender, thread)) = keeper {
            drop(sender);
            // It only fails when it panics.
            let _panicked = thread.join();
        }
        lock(&self.shared.held).clear();
        let ready = std::mem::take(&mut *lock(&self.shared.ready));
        ready.into_iter().try_for_each(|ready| self.shared.networks.discard(ready)).map_err(Failure::from)
    }
}

impl Shared {
    fn keep(&self, jobs: &Receiver<Job>) {
        // Most that end are gone in the next moment: then there is one thing to do, not two.
        let mut resting: Vec<(Instant, String, Arc<OwnedFd>)> = Vec::new();
        loop {
            let due = resting
                .first()
                .map(|(ended, ..)| (*ended + MOMENT).saturating_duration_since(Instant::now()));
            let job = match due {
                None => jobs.recv().map_err(|_ended| RecvTimeoutError::Disconnected),
                Some(due) => jobs.recv_timeout(due),
            };
            let done = match job {
                Ok(Job::Refill) => self.refill(),
                Ok(Job::Rest(guid, netns)) => {
                    resting.push((Instant::now(), guid, netns));
                    Ok(())
                }
                Ok(Job::Retire(guid, held)) => {
                    resting.retain(|(_, resting, _)| *resting != guid);
                    self.retire(&guid, held)
                }
                Err(_) if resting.is_empty() => return,
                Err(_) => {
                    let (_, guid, netns) = resting.remove(0);
                    self.rest(&guid, &netns)
                }
            };
            if let Err(error) = done {
                // Nobody waits for it: whoever needs one makes one, and hears why that cannot be.
                tracing::warn!("{}", Failure::from(error).sentence());
            }
        }
    }

    fn refill(&self) -> network::Result<()> {
        if lock(&self.ready).len() < AHEAD {
            let made = self.networks.make_ready(None)?;
            lock(&self.ready).push(made);
        }
        Ok(())
    }

    fn rest(&self, guid: &str, netns: &Arc<OwnedFd>) -> network::Result<()> {
        // Held meanwhile: whoever launches it anew lets go of it first, and waits.
        let held = lock(&self.held);
        if held.get(guid).is_some_and(|held| Arc::ptr_eq(&held.netns, netns)) {
            self.networks.rest(guid)?;
        }
        Ok(())
    }

    fn retire(&self, guid: &str, Held { netns, traces }: Held) -> network::Result<()> {
        let Some(retired) = self.networks.retire(guid, netns, traces)? else {
            return self.networks.forget(guid);
        };
        if lock(&self.ready).len() >= MOST {
            return self.networks.discard(retired);
        }
        if let Some(unused) = self.networks.look_over(retired)? {
            lock(&self.ready).push(unused);
        }
        Ok(())
    }
}
