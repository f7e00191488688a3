//! Locks by name, for clients: two jobs on one target exclude each other, in whichever programs they are.
//!
//! ```text
//! free ── acquire ──▶ held by a connection ── release, or the connection ends ──▶ the first one that waits, else free
//!                          ▲
//!   acquire, wait ─────────┘   in the order in which they came
//! ```
//! What a name stands for is the clients' business. Who holds one is written down before anybody is told, by the session
//! (`sessions`): when the host is killed, the next one keeps a lock for its holder as it keeps what was made under it, and
//! gives it to nobody else before that is gone. Who waits asks again.
//!
//! ```text
//! /run/start-container/locks-<device>-<inode>.json   of the data directory: those that are held; absent: none
//! ```

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use linux::step::{Step, during};
use protocol::ErrorKind;
use protocol::session::{AcquireParams, LockParams};
use protocol::subcontainer::Empty;
use rustix::fs::Mode;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::connection::{Answer, Call, answer, cancelled};
use super::state::Host;
use crate::engine::lock;
use crate::error::{Failure, Result};
use crate::subcontainer::{Owner, now};

/// The longest name, in bytes.
const LONGEST: usize = 255;
/// Locks that one connection may hold or wait for.
const MOST: usize = 256;
/// The same, of a package's: it has many connections, and each change is written down with all locks that are held.
pub(super) const MOST_OF_PACKAGE: usize = 8;

/// All locks that are held.
#[derive(Debug)]
pub(super) struct Locks {
    held: Mutex<HashMap<String, Held>>,
    file: PathBuf,
}

#[derive(Debug)]
struct Held {
    by: Holder,
    waiting: VecDeque<(Holder, oneshot::Sender<()>)>,
}

/// Who holds a lock, or waits for it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Holder {
    /// None: it was one of the host's before this one, and may come back.
    #[serde(skip)]
    connection: Option<u64>,
    owner: Owner,
    /// For people: the client as it names itself, its process, and what for.
    who: String,
    since: u64,
}

impl Locks {
    /// With those of an earlier host whose holders live.
    pub(super) fn open(file: PathBuf) -> Self {
        let held = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice::<HashMap<String, Holder>>(&text).unwrap_or_else(|error| {
                tracing::error!("read {}: {error}: its locks are free", file.display());
                HashMap::new()
            }),
            Err(_) => HashMap::new(),
        };
        let held = held.into_iter().filter(|(_, by)| by.owner.handle().is_some());
        let held = held.map(|(name, by)| (name, Held { by, waiting: VecDeque::new() })).collect();
        // Of one that was killed while it wrote.
        let _none = rustix::fs::unlink(file.with_extension("new"));
        let locks = Self { held: Mutex::default(), file };
        // Those of the others are not written down any more.
        if let Err(failure) = locks.save(&held) {
            tracing::error!("{}", failure.sentence());
        }
        *lock(&locks.held) = held;
        locks
    }

    /// Whose they are that no connection has.
    pub(super) fn owners_away(&self) -> Vec<Owner> {
        let all = lock(&self.held);
        all.values().filter(|held| held.by.connection.is_none()).map(|held| held.by.owner.clone()).collect()
    }

    /// The owner is back. Which are its own.
    pub(super) fn resume(&self, digest: &str, connection: u64) -> Vec<String> {
        let mut names = Vec::new();
        for (name, held) in lock(&self.held).iter_mut() {
            if held.by.connection.is_none() && held.by.owner.digest == digest {
                held.by.connection = Some(connection);
                names.push(name.clone());
            }
        }
        names
    }

    /// The owner does not come back, and what was done under them is gone.
    pub(super) fn give_up(&self, digest: &str) {
        self.release_those(|by| by.connection.is_none() && by.owner.digest == digest);
    }

    /// Writes down who holds what. Replaced by rename.
    fn save(&self, all: &HashMap<String, Held>) -> Result<()> {
        let fail = |errno| Failure::kernel("write", self.file.display(), errno);
        let replace = || {
            if all.is_empty() {
                return match rustix::fs::unlink(&self.file) {
                    Ok(()) | Err(Errno::NOENT) => Ok(()),
                    Err(errno) => Err(fail(errno)),
                };
            }
            let holders: HashMap<&String, &Holder> =
                all.iter().map(|(name, held)| (name, &held.by)).collect();
            let unwritten = |error: std::io::Error| {
                Failure::new(ErrorKind::Kernel, "write", self.file.display()).because(error)
            };
            let text = serde_json::to_vec(&holders).map_err(|error| unwritten(error.into()))?;
            let new = self.file.with_extension("new");
            if let Some(dir) = self.file.parent() {
                match rustix::fs::mkdir(dir, Mode::from(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(fail(errno)),
                }
            }
            std::fs::write(&new, text).map_err(unwritten)?;
            rustix::fs::rename(&new, &self.file).map_err(fail)
        };
        during(Step::WriteLocks, replace)
    }

    /// Takes a lock; or says what tells when it is there; or, without `wait`, who holds it.
    fn take(
        &self,
        name: &str,
        by: Holder,
        (wait, most): (bool, usize),
    ) -> Result<Option<oneshot::Receiver<()>>> {
        let mut all = lock(&self.held);
        let mine = |holder: &Holder| usize::from(holder.connection == by.connection);
        let count: usize = all
            .values()
            .map(|held| mine(&held.by) + held.waiting.iter().map(|(one, _)| mine(one)).sum::<usize>())
            .sum();
        if count >= most {
            return Err(Failure::new(ErrorKind::Exhausted, "acquire lock", name)
                .because(std::io::Error::other(format!("this connection has {most}"))));
        }
        match all.get_mut(name) {
            None => {
                all.insert(name.to_owned(), Held { by, waiting: VecDeque::new() });
                self.save(&all).inspect_err(|_| drop(all.remove(name)))?;
                Ok(None)
            }
            Some(held) if wait => {
                let (sender, receiver) = oneshot::channel();
                held.waiting.push_back((by, sender));
                Ok(Some(receiver))
            }
            Some(held) => {
                let seconds = now().saturating_sub(held.by.since) / 1000;
                let away = if held.by.connection.is_none() {
                    ", whose host was killed and who may come back"
                } else {
                    ""
                };
                let cause = format!("held by {}, for {seconds} s{away}", held.by.who);
                Err(Failure::new(ErrorKind::Busy, "acquire lock", name).because(std::io::Error::other(cause)))
            }
        }
    }

    /// Gives a lock to the next one, if this connection holds it.
    fn release(&self, name: &str, connection: u64) -> bool {
        let mut all = lock(&self.held);
        let held = all.get(name).is_some_and(|held| held.by.connection == Some(connection));
        if held {
            self.pass_on(&mut all, name);
        }
        held
    }

    fn pass_on(&self, all: &mut HashMap<String, Held>, name: &str) {
        let save = |all: &HashMap<String, Held>| {
            if let Err(failure) = self.save(all) {
                // The next host gives it to who had it, should this one be killed before the next word on it.
                tracing::error!("{}", failure.sentence());
            }
        };
        while let Some(held) = all.get_mut(name) {
            let Some((next, sender)) = held.waiting.pop_front() else { break };
            // Whoever has given up has dropped the other end.
            if sender.is_closed() {
                continue;
            }
            held.by = Holder { since: now(), ..next };
            save(all);
            if sender.send(()).is_ok() {
                return;
            }
        }
        all.remove(name);
        save(all);
    }

    /// Everything of a connection that has ended.
    pub(super) fn release_all(&self, connection: u64) {
        for held in lock(&self.held).values_mut() {
            held.waiting.retain(|(holder, _)| holder.connection != Some(connection));
        }
        self.release_those(|by| by.connection == Some(connection));
    }

    fn release_those(&self, which: impl Fn(&Holder) -> bool) {
        let mut all = lock(&self.held);
        let names: Vec<String> =
            all.iter().filter(|(_, held)| which(&held.by)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.pass_on(&mut all, &name);
        }
    }
}

/// `lock.acquire`
pub(super) async fn acquire(host: Arc<Host>, call: Call, p: AcquireParams) -> Answer<Empty> {
    acquire_of(host, call, p, MOST).await
}

/// The same, for a connection that may have so many.
pub(super) async fn acquire_of(host: Arc<Host>, call: Call, p: AcquireParams, most: usize) -> Answer<Empty> {
    answer(check(&p.name))?;
    if let Some(purpose) = &p.purpose {
        answer(check(purpose))?;
    }
    let connection = Arc::clone(&call.connection);
    let mut who = connection.who();
    if let Some(purpose) = p.purpose {
        who = format!("{who}: {purpose}");
    }
    let by = Holder { connection: Some(connection.id), owner: connection.owner(), who, since: now() };
    if let Some(mut mine) = answer(host.locks.take(&p.name, by, (p.wait, most)))? {
        tokio::select! {
            biased;
            () = call.cancelled() => {
                // It may have become ours at this very moment.
                mine.close();
                if mine.try_recv().is_ok() {
                    host.locks.release(&p.name, connection.id);
                }
                return Err(cancelled());
            }
            // An error: the connection has ended, and nobody waits for the answer.
            given = &mut mine => given.map_err(|_ended| cancelled())?,
        }
    }
    if !connection.is_open() {
        // It ended meanwhile, and may have released everything before this was there.
        host.locks.release_all(connection.id);
        return Err(cancelled());
    }
    Ok(Empty {})
}

/// `lock.release`
pub(super) fn release(host: &Host, call: &Call, p: &LockParams) -> Result<Empty> {
    if host.locks.release(&p.name, call.connection.id) {
        return Ok(Empty {});
    }
    Err(Failure::new(ErrorKind::NotFound, "release lock", &p.name)
        .because(std::io::Error::other("this connection does not hold it")))
}

/// What is shown to others: no line breaks, nothing that a terminal obeys.
fn check(text: &str) -> Result<()> {
    let why = if text.is_empty() {
        "it is empty"
    } else if text.len() > LONGEST {
        "it is longer than 255 bytes"
    } else if text.chars().any(char::is_control) {
        "it holds a control character"
    } else {
        return Ok(());
    };
    let shown: String = text.chars().take(64).flat_map(char::escape_default).collect();
    Err(Failure::new(ErrorKind::Invalid, "read name of lock", shown).because(std::io::Error::other(why)))
}
