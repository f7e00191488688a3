//! After a start: what an earlier host left, adopted or undone.

use std::sync::Arc;

use tokio::sync::watch;

use super::run;
use super::state::{Host, blocking};
use crate::error::Failure;

/// Destroys what belonged to a connection of a host that was killed; watches the leaders that still run.
///
/// Clients are served meanwhile: whoever asks for a leader that is not adopted yet finds it as any other process would.
/// A failure is logged and does not keep the others from their turn.
pub(super) async fn recover(host: Arc<Host>) {
    let worker = Arc::clone(&host);
    let left = match blocking(move || worker.machine.left_behind()).await {
        Ok(left) => left,
        Err(failure) => return log(&failure),
    };
    for guid in left.owned {
        tracing::info!("destroying {guid}: its owner is gone");
        if let Err(failure) = host.destroy(&guid).await {
            log(&failure);
        }
    }
    for failure in left.failures {
        log(&failure);
    }
    for (guid, leader) in left.running {
        tracing::info!("adopting {guid}: its leader {} runs", leader.process.pid);
        let process = leader.process.clone();
        if host.known_leader(&guid).is_some() {
            // A client has launched it anew meanwhile.
            continue;
        }
        host.remember_leader(&guid, leader);
        tokio::spawn(run::watch_leader(Arc::clone(&host), guid, process, watch::channel(None).0));
    }
}

fn log(failure: &Failure) {
    tracing::error!("{}", failure.sentence());
}
