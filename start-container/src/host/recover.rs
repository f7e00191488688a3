//! After a start: what an earlier host left, adopted or undone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::sync::watch;

use super::journal;
use super::logs;
use super::run;
use super::state::{Host, blocking, watched};
use crate::error::Failure;
use crate::subcontainer::{Leader, LeftBehind};

/// Destroys what belonged to a connection of a host that was killed; watches the leaders that still run.
///
/// Clients are served meanwhile. A failure is logged and does not keep the others from their turn.
pub(super) async fn recover(host: Arc<Host>, mut left: LeftBehind) {
    let (worker, streams) = (Arc::clone(&host), std::mem::take(&mut left.streams));
    // First: whoever has written as much as a pipe holds waits for it.
    if let Err(failure) = blocking(move || logs::resume(&worker, streams)).await {
        log(&failure);
    }
    if let Err(failure) = journal::resume(&host) {
        log(&failure);
    }
    for failure in left.failures {
        log(&failure);
    }
    for (guid, outcome) in left.ended {
        tracing::info!("{guid} has ended meanwhile: {outcome:?}");
        host.emit_end(&guid, outcome);
    }
    host.await_owners();
    for guid in left.owned {
        tracing::info!("destroying {guid}: its owner is gone");
        if let Err(failure) = host.destroy(&guid).await {
            log(&failure);
        }
    }
    for guid in left.still {
        let worker = Arc::clone(&host);
        if let Err(failure) = blocking(move || worker.machine.end_what_is_unknown(&guid)).await {
            log(&failure);
        }
    }
    if let Err(failure) = blocking(move || host.machine.recover_networks()).await {
        log(&failure);
    }
}

/// Watches the leaders that run, before anybody is served. Those of these ids have names already.
pub(super) fn adopt(host: &Arc<Host>, running: Vec<(String, Leader)>, named: &HashSet<i32>) {
    for (guid, leader) in running {
        tracing::info!("adopting {guid}: its leader {} runs", leader.process.pid);
        let (process, implicit) = (leader.process.clone(), leader.is_implicit());
        let running = host.remember_leader(&guid, leader);
        let (sender, outcome) = watch::channel(None);
        // Both are set once, here.
        let _first = running.ended.set(outcome.clone());
        if implicit {
            let _first = running.implicit.set(outcome);
        } else if !named.contains(&process.pid) {
            // It has a name, as if this host had launched it: its owner waits for it, and ends it, by that.
            let entry = host.add_process(&guid, process.clone(), outcome, None, HashMap::new());
            let _first = running.process.set(entry.id.clone());
        }
        tokio::spawn(run::watch_leader(Arc::clone(host), guid, process, sender));
    }
}

/// Starts another keeper when the one that runs is killed: what that knows is known to us, too, until we are.
pub(super) async fn look_after_keeper(host: Arc<Host>) {
    while let Some(end) = host.machine.keepers_end() {
        let Ok(end) = watched(end, Interest::READABLE) else { return };
        if end.readable().await.is_err() {
            return;
        }
        tracing::warn!("the keeper was killed: another one takes its place");
        let worker = Arc::clone(&host);
        if let Err(failure) = blocking(move || worker.machine.another_keeper()).await {
            log(&failure);
        }
        // Somebody may kill them all.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn log(failure: &Failure) {
    tracing::error!("{}", failure.sentence());
}
