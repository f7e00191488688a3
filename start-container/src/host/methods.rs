//! The table of methods: each line a name, its parameters, and who does the work.

use std::sync::Arc;

use jsonrpsee_core::RpcResult;
use jsonrpsee_core::server::{Extensions, Methods, RpcModule};
use jsonrpsee_types::{ErrorObject, Params};
use protocol::image::{ImageListResult, ImageParams, ImportParams, PullParams};
use protocol::sandbox::ListSandboxesResult;
use protocol::session::{
    EventKind, EventsParams, EventsResult, HealthParams, LockParams, ProgressParams, SubscribeParams,
};
use protocol::subcontainer::{
    CreateFsParams, CreateFsResult, Empty, GuidParams, ListResult, MountParams, SubcontainerInfo,
    UnmountParams, UpdateParams, UpdateResult,
};
use protocol::{ErrorKind, file, process};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::broadcast::error::RecvError;

use super::backup;
use super::connection::{Answer, Call, answer, cancelled, invalid_params, object};
use super::files;
use super::jobs;
use super::locks;
use super::once;
use super::packages;
use super::replace;
use super::sandbox;
use super::state::{Host, blocking};
use super::{exec, run};
use crate::engine::lock;
use crate::error::{Failure, Result};
use crate::events;
use crate::subcontainer::Machine;

/// Everything the host answers, but `hello` and what makes a connection carry bytes, which belong to the connection.
pub(super) fn methods(host: &Arc<Host>) -> Result<Methods> {
    let mut table = Table { module: RpcModule::from_arc(Arc::clone(host)), failed: None };
    table.add("host.replace", replace::replace);
    table.add("image.import", import);
    table.add("image.pull", pull);
    table.blocking("image.list", |host, _: Empty| {
        Ok(ImageListResult { images: host.machine.store()?.list().map_err(Failure::from)? })
    });
    table.blocking("image.inspect", |host, p: ImageParams| {
        host.machine.store()?.get(&p.image_id).map_err(Failure::from)
    });
    table.blocking("image.remove", |host, p: ImageParams| {
        let removed = host.machine.store()?.remove(&p.image_id).map_err(Failure::from)?;
        host.emit("", EventKind::Removed { image_id: p.image_id });
        Ok(removed)
    });
    table.blocking("image.gc", |host, _: Empty| {
        host.machine.store()?.gc(&images::Silent).map_err(Failure::from)
    });
    table.add("subcontainer.createFs", create_fs);
    table.add("subcontainer.destroyFs", |host, _, p: GuidParams| async move {
        answer(host.destroy(&p.guid).await.map(|()| Empty {}))
    });
    table.blocking("subcontainer.mount", |host, p: MountParams| {
        host.machine.mount(&p.guid, &p.mount)?;
        host.emit(&p.guid, EventKind::Mounted { mountpoint: p.mount.mountpoint });
        Ok(Empty {})
    });
    table.blocking("subcontainer.unmount", |host, p: UnmountParams| {
        host.machine.unmount(&p.guid, &p.mountpoint)?;
        host.emit(&p.guid, EventKind::Unmounted { mountpoint: p.mountpoint });
        Ok(Empty {})
    });
    table.add("subcontainer.launch", run::launch);
    table.add("subcontainer.exec", exec::exec);
    table.add("subcontainer.run", once::run);
    table.add("subcontainer.spawn", run::spawn);
    table.add("subcontainer.wait", run::wait);
    table.blocking("subcontainer.kill", |host, p: process::KillParams| run::kill(host, &p));
    table.blocking("subcontainer.signal", |host, p: process::SignalParams| run::signal(host, &p));
    table.add("subcontainer.stop", run::stop);
    table.blocking("subcontainer.resize", |host, p: process::ResizeParams| run::resize(host, &p));
    table.blocking("subcontainer.list", |host, _: Empty| {
        Ok(ListResult {
            subcontainers: host.machine.list()?.into_iter().map(|info| host.complete(info)).collect(),
        })
    });
    table.blocking("subcontainer.inspect", |host, p: GuidParams| {
        Ok(host.complete(host.machine.inspect(&host.machine.rootfs(&p.guid)?)?))
    });
    table.blocking("subcontainer.stats", |host, p: GuidParams| host.machine.stats(&p.guid));
    table.blocking("subcontainer.update", |host, p: UpdateParams| {
        let limits = host.machine.update(&p.guid, &p.limits)?;
        host.emit(&p.guid, EventKind::Updated { limits: limits.clone() });
        Ok(UpdateResult { limits })
    });
    table.add("subcontainer.detach", |host, _, p: GuidParams| async move { answer(detach(&host, p).await) });
    table.add("subcontainer.attach", attach);
    table.add("sandbox.create", sandbox::create);
    table.add("sandbox.start", sandbox::start);
    table.blocking("sandbox.list", |host, _: Empty| {
        Ok(ListSandboxesResult { sandboxes: host.machine.sandboxes()? })
    });
    table.blocking("sandbox.inspect", |host, p: GuidParams| {
        host.machine.sandbox_info(&host.machine.sandbox(&p.guid)?)
    });
    table.add("sandbox.destroy", sandbox::destroy);
    table.add("sandbox.detach", sandbox::give_away);
    table.add("sandbox.attach", sandbox::attach);
    table.blocking("file.read", |host, p: file::ReadParams| files::read(&host.machine, p));
    table.blocking("file.write", |host, p: file::WriteParams| files::write(&host.machine, p));
    table.blocking("file.stat", |host, p: file::PathParams| files::stat(&host.machine, &p));
    table.blocking("file.readdir", |host, p: file::PathParams| files::readdir(&host.machine, &p));
    table.blocking("file.readlink", |host, p: file::PathParams| files::readlink(&host.machine, &p));
    table.blocking("file.mkdir", |host, p: file::MkdirParams| files::mkdir(&host.machine, &p));
    table.blocking("file.remove", |host, p: file::RemoveParams| files::remove(&host.machine, &p));
    table.blocking("file.rename", |host, p: file::RenameParams| files::rename(&host.machine, &p));
    table.blocking("file.symlink", |host, p: file::SymlinkParams| files::symlink(&host.machine, &p));
    table.blocking("file.chmod", |host, p: file::ChmodParams| files::chmod(&host.machine, &p));
    table.blocking("file.chown", |host, p: file::ChownParams| files::chown(&host.machine, &p));
    table.package("package.list", packages::list);
    table.package("package.inspect", packages::inspect);
    table.package("package.install", packages::install);
    table.package("package.grant", packages::grant);
    table.package("package.activate", packages::activate);
    table.add("package.run", jobs::run);
    table.package("package.disable", packages::disable);
    table.package("package.update", packages::update);
    table.package("package.rollback", packages::rollback);
    table.package("package.remove", packages::remove);
    table.add("package.backup", backup::backup);
    table.add("package.restore", backup::restore);
    table.add("package.reload", packages::reload);
    table.add("package.call", packages::call);
    table.add("package.fetch", packages::send_request);
    table.package("package.lift", packages::lift);
    table.package("package.rekey", packages::rekey);
    table.package("package.audit", packages::read_audit);
    table.add("lock.acquire", locks::acquire);
    table.add(
        "lock.release",
        |host, call, p: LockParams| async move { answer(locks::release(&host, &call, &p)) },
    );
    table.add("events.subscribe", subscribe);
    table.blocking("events.list", |host, p: EventsParams| {
        Ok(EventsResult { events: events::list(host.machine.data_dir(), &p)? })
    });
    table.add("events.health", health);
    table.finish()
}

struct Table {
    module: RpcModule<Host>,
    failed: Option<&'static str>,
}

impl Table {
    fn add<P, R, F, Fut>(&mut self, name: &'static str, method: F)
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(Arc<Host>, Call, P) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Answer<R>> + Send + 'static,
    {
        let added = self.module.register_async_method(
            name,
            move |params: Params<'static>, host: Arc<Host>, extensions: Extensions| async move {
                let text = params.as_str().unwrap_or("{}");
                let parsed: P = serde_json::from_str(text).map_err(|error| invalid_params(&error))?;
                let Some(call) = extensions.get::<Call>().cloned() else {
                    return Err(object(&Failure::new(ErrorKind::Internal, "find connection", "")));
                };
                let result: RpcResult<Box<RawValue>> = method(host, call, parsed).await.and_then(|result| {
                    // At once: the module's writer looks at the limit for each of the pieces that serde makes.
                    to_raw_value(&result)
                        .map_err(|error| ErrorObject::owned(-32603, error.to_string(), None::<()>))
                });
                result
            },
        );
        if added.is_err() {
            self.failed = Some(name);
        }
    }

    /// A method that waits for the kernel and nothing else.
    fn blocking<P, R>(&mut self, name: &'static str, method: fn(&Host, P) -> Result<R>)
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
    {
        self.add(name, move |host: Arc<Host>, _: Call, params: P| async move {
            answer(blocking(move || method(&host, params)).await)
        });
    }

    /// As [`Table::blocking`], for what starts and stops others.
    fn package<P, R>(&mut self, name: &'static str, method: fn(&Arc<Host>, P) -> Result<R>)
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
    {
        self.add(name, move |host: Arc<Host>, _: Call, params: P| async move {
            answer(blocking(move || method(&host, params)).await)
        });
    }

    fn finish(self) -> Result<Methods> {
        match self.failed {
            None => Ok(self.module.into()),
            Some(name) => Err(Failure::new(ErrorKind::Internal, "register method", name)),
        }
    }
}

async fn import(host: Arc<Host>, call: Call, p: ImportParams) -> Answer<protocol::image::ImageInfo> {
    with_progress(host, call, move |host, progress, cancel| {
        let store = host.machine.store()?;
        let image =
            store.import(p.path.as_ref(), p.name.as_deref(), progress, cancel).map_err(Failure::from)?;
        host.emit("", EventKind::Imported { image_id: image.digest.clone() });
        Ok(image)
    })
    .await
}

async fn pull(host: Arc<Host>, call: Call, p: PullParams) -> Answer<protocol::image::ImageInfo> {
    with_progress(host, call, move |host, progress, cancel| {
        let what = images::Pull {
            reference: &p.reference,
            name: p.name.as_deref(),
            platform: p.platform.as_deref(),
            insecure: p.insecure,
            credentials: images::Credentials::Configured,
        };
        let image = host.machine.store()?.pull(&what, progress, cancel).map_err(Failure::from)?;
        host.emit("", EventKind::Pulled { image_id: image.digest.clone(), reference: p.reference });
        Ok(image)
    })
    .await
}

/// Long work on a thread of its own: told to the client, and stopped when the client does not want it any more.
pub(super) async fn with_progress<R: Send + 'static>(
    host: Arc<Host>,
    call: Call,
    work: impl FnOnce(&Host, &Steps, &images::Cancel) -> Result<R> + Send + 'static,
) -> Answer<R> {
    let (sender, mut steps) = tokio::sync::mpsc::unbounded_channel();
    let cancel = images::Cancel::new();
    let switch = cancel.clone();
    let steps_of_work = Steps { sender, last: std::sync::Mutex::default() };
    let mut work = std::pin::pin!(blocking(move || work(&host, &steps_of_work, &switch)));
    loop {
        tokio::select! {
            result = &mut work => {
                return if cancel.is_cancelled() { Err(cancelled()) } else { answer(result) };
            }
            () = call.cancelled(), if !cancel.is_cancelled() => cancel.cancel(),
            Some((stage, done, total)) = steps.recv() => if let Some(id) = call.id {
                call.connection.progress(&ProgressParams { id, stage, done, total }).await;
            },
        }
    }
}

/// Progress to a client: at most ten messages a second for each stage, and its last.
pub(super) struct Steps {
    sender: tokio::sync::mpsc::UnboundedSender<(String, u64, Option<u64>)>,
    last: std::sync::Mutex<std::collections::HashMap<String, std::time::Instant>>,
}

impl images::Progress for Steps {
    fn update(&self, stage: &str, done: u64, total: Option<u64>) {
        let mut last = lock(&self.last);
        let now = std::time::Instant::now();
        let soon = last.get(stage).is_some_and(|at| now.duration_since(*at).as_millis() < 100);
        if soon && total != Some(done) {
            return;
        }
        last.insert(stage.to_owned(), now);
        // The request may have been answered already.
        let _unheard = self.sender.send((stage.to_owned(), done, total));
    }
}

pub(super) async fn create_fs(host: Arc<Host>, call: Call, p: CreateFsParams) -> Answer<CreateFsResult> {
    let worker = Arc::clone(&host);
    let detached = p.detached;
    let owner = (!detached).then(|| call.connection.owner());
    let created = blocking(move || {
        let rootfs = {
            let CreateFsParams {
                name, throwaway, userns: own_ids, sandbox: within, rootfs_size: size, ..
            } = p;
            let options =
                images::rootfs::Options { name, throwaway, own_ids, within, size, ..Default::default() };
            worker.machine.make_fs(Some(&p.image_id), options, owner.as_ref())?
        };
        Ok(CreateFsResult {
            guid: rootfs.guid().to_owned(),
            rootfs: rootfs.path().display().to_string(),
            image_id: rootfs.image().map(|image| image.to_string()).unwrap_or_default(),
        })
    });
    let created = answer(created.await)?;
    if !detached {
        give(&host, &call, &created.guid).await?;
    }
    host.emit(&created.guid, EventKind::Created { image_id: created.image_id.clone() });
    Ok(created)
}

pub(super) async fn detach(host: &Arc<Host>, p: GuidParams) -> Result<Empty> {
    let worker = Arc::clone(host);
    let guid = p.guid.clone();
    blocking(move || worker.machine.set_owner(&guid, None)).await?;
    host.await_no_more(&p.guid);
    if let Some(owner) = host.owner(&p.guid) {
        owner.disown(&p.guid);
    }
    Ok(Empty {})
}

async fn attach(host: Arc<Host>, call: Call, p: GuidParams) -> Answer<SubcontainerInfo> {
    take_over(host, call, p, |machine, guid| machine.info(&machine.rootfs(guid)?)).await
}

/// What is detached becomes the connection's own. Answers with a look at it.
pub(super) async fn take_over<T: Send + 'static>(
    host: Arc<Host>,
    call: Call,
    p: GuidParams,
    look: impl FnOnce(&Machine, &str) -> Result<T> + Send + 'static,
) -> Answer<T> {
    if host.owner(&p.guid).is_some_and(|owner| owner.id != call.connection.id) {
        let failure = Failure::new(ErrorKind::Busy, "attach to", &p.guid)
            .because(std::io::Error::other("another connection owns it"));
        return answer(Err(failure));
    }
    if host.is_awaited(&p.guid) {
        let failure = Failure::new(ErrorKind::Busy, "attach to", &p.guid)
            .because(std::io::Error::other("its owner lost the host before this one, and may come back"));
        return answer(Err(failure));
    }
    let (worker, guid, owner) = (Arc::clone(&host), p.guid.clone(), call.connection.owner());
    let info = blocking(move || {
        let info = look(&worker.machine, &guid)?;
        worker.machine.set_owner(&guid, Some(owner))?;
        Ok(info)
    });
    let info = answer(info.await)?;
    give(&host, &call, &p.guid).await?;
    Ok(info)
}

/// A connection gets what was made or found for it. If the client went meanwhile, that is destroyed.
pub(super) async fn give(host: &Arc<Host>, call: &Call, guid: &str) -> Answer<()> {
    if call.connection.own(guid) {
        return Ok(());
    }
    answer(host.destroy(guid).await)?;
    Err(cancelled())
}

async fn subscribe(host: Arc<Host>, call: Call, p: SubscribeParams) -> Answer<Empty> {
    let which = EventsParams { guid: p.guid.clone(), since: p.since };
    let (past, mut events) = answer(blocking(move || host.listen(&which)).await)?;
    let connection = Arc::downgrade(&call.connection);
    tokio::spawn(async move {
        for event in past {
            let Some(connection) = connection.upgrade() else { return };
            connection.notify("event", &event).await;
        }
        loop {
            let event = match events.recv().await {
                Ok(event) if p.guid.as_ref().is_none_or(|guid| *guid == event.guid) => event,
                Ok(_) => continue,
                Err(RecvError::Lagged(dropped)) => protocol::session::Event {
                    id: 0,
                    time: crate::subcontainer::now(),
                    guid: p.guid.clone().unwrap_or_default(),
                    what: EventKind::Lagged { dropped: u32::try_from(dropped).unwrap_or(u32::MAX) },
                },
                Err(RecvError::Closed) => return,
            };
            let Some(connection) = connection.upgrade() else { return };
            connection.notify("event", &event).await;
        }
    });
    Ok(Empty {})
}

/// The longest name of what is looked after, and the longest reason, in bytes.
const LONGEST_NAME: usize = 200;
const LONGEST_MESSAGE: usize = 1000;

/// `events.health`
pub(super) async fn health(host: Arc<Host>, call: Call, p: HealthParams) -> Answer<Empty> {
    let HealthParams { guid, name, status, mut message } = p;
    let refuse = |kind, why: &'static str| {
        let failure = Failure::new(kind, "tell of the health of", &guid);
        answer(Err(failure.because(std::io::Error::other(why))))
    };
    if !(1..=LONGEST_NAME).contains(&name.len()) {
        return refuse(ErrorKind::Invalid, "its name is not 1 to 200 bytes");
    }
    if host.owner(&guid).is_some_and(|owner| owner.id != call.connection.id) {
        return refuse(ErrorKind::Busy, "another connection owns it");
    }
    let (worker, id) = (Arc::clone(&host), guid.clone());
    answer(blocking(move || worker.machine.rootfs(&id).map(drop)).await)?;
    if let Some(message) = &mut message {
        let whole = (0..=LONGEST_MESSAGE.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
        message.truncate(whole.unwrap_or_default());
    }
    host.emit(&guid, EventKind::Health { name, status, message });
    Ok(Empty {})
}
