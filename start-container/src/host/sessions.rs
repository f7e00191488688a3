//! Clients whose host went away: what is theirs is kept for a while.
//!
//! ```text
//! host killed ──▶ next host: awaited ──hello with the session, from the same process──▶ owned again
//!                               ├── that process has ended ──▶ destroyed
//!                               └── the grace is over ───────▶ destroyed
//! ```
//! What is theirs: subcontainers, processes of a host that was replaced, and locks.
//!
//! A session is a random token of the connection that it was given on. Only its digest is written down, with the process
//! that it was given to: another process, though it knew the token, gets nothing by it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use images::Digest;
use protocol::ErrorKind;
use rustix::rand::GetRandomFlags;
use tokio::io::Interest;

use super::state::{Host, watched};
use crate::engine::lock;
use crate::error::{Failure, Result};
use crate::subcontainer::Owner;

/// Those that are awaited.
pub(super) struct Sessions {
    grace: Duration,
    /// By the digest of the token: whoever asks learns nothing of a token by how long the search takes.
    awaited: Mutex<HashMap<String, (Owner, Theirs)>>,
}

/// Guids and processes of one client.
pub(super) type Theirs = (Vec<String>, Vec<String>);

impl Sessions {
    pub(super) fn new(grace: Duration) -> Self {
        Self { grace, awaited: Mutex::default() }
    }
}

/// A new token: 256 bits that nobody can guess.
pub(super) fn token() -> Result<String> {
    let mut bytes = [0_u8; 32];
    match rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(32) => Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        Ok(_) => Err(Failure::new(ErrorKind::Internal, "make session", "")),
        Err(errno) => Err(Failure::kernel("make session", "", errno)),
    }
}

/// What a token is known by.
pub(super) fn digest(token: &str) -> String {
    Digest::of(token.as_bytes()).hex()
}

impl Host {
    pub(super) fn grace(&self) -> Duration {
        self.sessions.grace
    }

    /// Keeps these for their owners, and who has locks in mind. Called before anybody can ask for them.
    pub(super) fn remember_owners(&self, all: Vec<(String, Owner)>, with_locks: Vec<Owner>) {
        let mut awaited = lock(&self.sessions.awaited);
        for owner in with_locks {
            awaited.entry(owner.digest.clone()).or_insert((owner, Theirs::default()));
        }
        for (guid, owner) in all {
            awaited.entry(owner.digest.clone()).or_insert((owner, Theirs::default())).1.0.push(guid);
        }
    }

    /// As [`Host::remember_owners`], for a process that goes on.
    pub(super) fn await_owner_of_process(&self, owner: Owner, id: String) {
        let mut awaited = lock(&self.sessions.awaited);
        awaited.entry(owner.digest.clone()).or_insert((owner, Theirs::default())).1.1.push(id);
    }

    /// From now on, for as long as the grace is, or their owner lives.
    pub(super) fn await_owners(self: &Arc<Self>) {
        for owner in lock(&self.sessions.awaited).values().map(|(owner, _)| owner.clone()) {
            tokio::spawn(await_owner(Arc::clone(self), owner));
        }
    }

    /// What is this peer's again, if it is who it was.
    pub(super) fn resume(&self, peer: &Owner, digest: &str) -> Option<Theirs> {
        let mut awaited = lock(&self.sessions.awaited);
        let (owner, _) = awaited.get(digest)?;
        let same = (owner.uid, owner.pid, owner.start_time) == (peer.uid, peer.pid, peer.start_time);
        if !same || peer.pid == 0 {
            return None;
        }
        awaited.remove(digest).map(|(_, theirs)| theirs)
    }

    pub(super) fn is_awaited(&self, guid: &str) -> bool {
        lock(&self.sessions.awaited).values().any(|(_, (guids, _))| guids.iter().any(|it| it == guid))
    }

    /// It is gone, or nobody's.
    pub(super) fn await_no_more(&self, guid: &str) {
        for (_, (guids, _)) in lock(&self.sessions.awaited).values_mut() {
            guids.retain(|it| it != guid);
        }
    }
}

async fn await_owner(host: Arc<Host>, owner: Owner) {
    let ends = async {
        let handle = owner.handle().and_then(|handle| watched(Arc::new(handle), Interest::READABLE).ok());
        if let Some(handle) = handle {
            // Readable when it has ended.
            let _ended = handle.readable().await;
        }
    };
    tokio::select! {
        () = ends => {}
        () = tokio::time::sleep(host.sessions.grace) => {}
    }
    let left = lock(&host.sessions.awaited).remove(&owner.digest);
    let (guids, processes) = left.map(|(_, theirs)| theirs).unwrap_or_default();
    for id in processes {
        host.end_process(&id);
    }
    for guid in guids {
        tracing::info!("destroying {guid}: its owner, process {}, did not come back", owner.pid);
        if let Err(failure) = host.destroy(&guid).await {
            tracing::error!("{}", failure.sentence());
        }
    }
    // Not before: whoever gets one finds nothing of what was done under it.
    host.locks.give_up(&owner.digest);
}
