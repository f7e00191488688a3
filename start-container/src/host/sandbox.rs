//! Sandboxes for clients: made, started, looked at, given away.
//!
//! A connection owns the sandboxes that it has created, as it does subcontainers, until they are detached. What is in one
//! ends with it, whoever owns that.

use std::sync::Arc;

use protocol::sandbox::{CreateSandboxParams, SandboxInfo};
use protocol::session::EventKind;
use protocol::subcontainer::{Empty, GuidParams};

use super::connection::{Answer, Call, answer};
use super::methods::{detach, give, take_over};
use super::run::watch_new;
use super::state::{Host, blocking};
use crate::error::Result;
use crate::subcontainer::Launched;

/// `sandbox.create`
pub(super) async fn create(host: Arc<Host>, call: Call, p: CreateSandboxParams) -> Answer<SandboxInfo> {
    let (worker, detached) = (Arc::clone(&host), p.detached);
    let owner = (!detached).then(|| call.connection.owner());
    let created = blocking(move || {
        let CreateSandboxParams { image_id, name, throwaway, settings, .. } = p;
        let machine = &worker.machine;
        let rootfs =
            machine.create_sandbox(image_id.as_deref(), name, throwaway, settings, owner.as_ref())?;
        Ok((rootfs.guid().to_owned(), rootfs.image().map(|image| image.to_string())))
    });
    let (guid, image_id) = answer(created.await)?;
    if !detached {
        give(&host, &call, &guid).await?;
    }
    host.emit(&guid, EventKind::Created { image_id: image_id.unwrap_or_default() });
    let started = begin(&host, &guid).await;
    if started.is_err() {
        // Why it could not be started is what the client must hear of.
        let _left = host.destroy(&guid).await;
    }
    answer(started)
}

/// `sandbox.start`
pub(super) async fn start(host: Arc<Host>, _: Call, p: GuidParams) -> Answer<SandboxInfo> {
    answer(begin(&host, &p.guid).await)
}

async fn begin(host: &Arc<Host>, guid: &str) -> Result<SandboxInfo> {
    let _one_at_a_time = host.launch_lock(guid).lock().await;
    let (worker, id) = (Arc::clone(host), guid.to_owned());
    let (running, info) = blocking(move || {
        let rootfs = worker.machine.sandbox(&id)?;
        let Launched { leader, .. } = worker.machine.start_sandbox(&rootfs)?;
        let running = worker.remember_leader(&id, leader);
        Ok((running, worker.machine.sandbox_info(&rootfs)))
    })
    .await?;
    // Nobody waits for it by name: its end is an event.
    let _outcome = watch_new(host, guid, &running);
    info
}

async fn must_be_one(host: &Arc<Host>, guid: &str) -> Result<()> {
    let (worker, id) = (Arc::clone(host), guid.to_owned());
    blocking(move || worker.machine.sandbox(&id).map(drop)).await
}

/// `sandbox.destroy`
pub(super) async fn destroy(host: Arc<Host>, _: Call, p: GuidParams) -> Answer<Empty> {
    answer(must_be_one(&host, &p.guid).await)?;
    answer(host.destroy(&p.guid).await.map(|()| Empty {}))
}

/// `sandbox.detach`
pub(super) async fn give_away(host: Arc<Host>, _: Call, p: GuidParams) -> Answer<Empty> {
    answer(must_be_one(&host, &p.guid).await)?;
    answer(detach(&host, p).await)
}

/// `sandbox.attach`
pub(super) async fn attach(host: Arc<Host>, call: Call, p: GuidParams) -> Answer<SandboxInfo> {
    take_over(host, call, p, |machine, guid| machine.sandbox_info(&machine.sandbox(guid)?)).await
}
