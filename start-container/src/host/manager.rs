//! The service manager, if one started the host: told that it is ready, that it lives, that it stops.
//!
//! `sd_notify(3)`, by `$NOTIFY_SOCKET`. Nothing happens without it; a watchdog is fed only where one was asked for
//! (`WatchdogSec=`), and only by a host that does its work: a task that has been through a thread.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

use super::state::{Host, blocking};

/// Clients can connect.
pub(super) fn ready(host: &Arc<Host>) {
    tell(&[NotifyState::Ready]);
    let mut micros = 0;
    if sd_notify::watchdog_enabled(false, &mut micros) && micros > 0 {
        // Twice in that time, as the manual asks for.
        tokio::spawn(feed(Arc::clone(host), Duration::from_micros(micros / 2)));
    }
}

/// Its end has begun.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

async fn feed(host: Arc<Host>, interval: Duration) {
    loop {
        let worker = Arc::clone(&host);
        // What is asked of the disk is little: what is looked at is whether anybody answers.
        if blocking(move || worker.machine.data_dir_is_there()).await.is_ok() {
            tell(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(interval).await;
    }
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, what) {
        tracing::warn!("tell the service manager: {error}");
    }
}
