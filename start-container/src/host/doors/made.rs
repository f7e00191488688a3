//! What a package has made through its door: its subcontainers, by name of the image, and what is done in them for it.
//!
//! Owns which guid is a package's: only what it has made here, not what its manifest's services run in, nor anybody else's.
//! What it knows not is not there, whoever has it.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, Weak};

use broker::confine::Own;
use protocol::ErrorKind;
use protocol::process::{LaunchParams, SpawnParams, SpawnResult};
use protocol::session::EventKind;
use protocol::subcontainer::{
    CreateFsParams, CreateFsResult, Empty, GuidParams, ListResult, MountParams, SubcontainerInfo,
};
use tokio::sync::Semaphore;

use super::super::connection::{Answer, Call, answer};
use super::super::state::{Host, blocking};
use super::super::{methods, run};
use crate::engine::lock;
use crate::error::{Failure, Result};

/// Subcontainers of one package at once, but for those of its manifest's services.
const SUBCONTAINERS: usize = 64;
/// Processes of one package that have a name: that run, or whose end nobody has heard of.
const PROCESSES: usize = 256;
/// Calls of one package that wait for the kernel at once: each takes a thread.
const WORKING: usize = 16;
/// What calls of one package in its subcontainers keep in memory, with their answers, in KiB.
const MEMORY: u32 = 64 << 10;

/// What is behind one package's door.
pub(in super::super) struct Made {
    host: Weak<Host>,
    pub(super) own: Own,
    /// Its bundle.
    files: OwnedFd,
    made: Mutex<Guids>,
    working: Semaphore,
    pub(super) memory: Arc<Semaphore>,
}

#[derive(Default)]
struct Guids {
    /// Each with the manifest's name of its image.
    images: HashMap<String, String>,
    /// So many more are being made.
    coming: usize,
}

/// One call, as it is carried out.
pub(super) struct Doing {
    pub(super) made: Arc<Made>,
    pub(super) host: Arc<Host>,
    pub(super) call: Call,
    /// The manifest's name of the image that it is about.
    pub(super) image: String,
}

impl Made {
    pub(in super::super) fn new(host: Weak<Host>, own: Own, files: OwnedFd) -> Self {
        let (working, memory) = (Semaphore::new(WORKING), Arc::new(Semaphore::new(MEMORY as usize)));
        Self { host, own, files, made: Mutex::default(), working, memory }
    }

    pub(super) fn host(&self) -> Option<Arc<Host>> {
        self.host.upgrade()
    }

    /// The image of a subcontainer of its own.
    pub(super) fn image_of(&self, guid: &str) -> Option<String> {
        lock(&self.made).images.get(guid).cloned()
    }

    /// That of the subcontainer in which a process of its own is.
    pub(super) fn image_around(&self, process: &str) -> Option<String> {
        self.image_of(&self.host()?.process(process).ok()?.guid)
    }

    /// Room for one more.
    fn reserve(&self, host: &Host) -> Result<()> {
        let mut made = lock(&self.made);
        if made.images.len() + made.coming >= SUBCONTAINERS {
            // Some may have ended with their connection. One that cannot be looked at counts.
            made.images.retain(|guid, _| host.machine.exists(guid).unwrap_or(true));
        }
        if made.images.len() + made.coming >= SUBCONTAINERS {
            return Err(Failure::new(ErrorKind::Exhausted, "create subcontainer", "")
                .because(std::io::Error::other(format!("this package has {SUBCONTAINERS}"))));
        }
        made.coming += 1;
        Ok(())
    }

    /// What package code is shown of a subcontainer: nothing of the machine.
    fn view(&self, mut info: SubcontainerInfo, image: String) -> SubcontainerInfo {
        let own = format!("{}-", self.own.package);
        info.name = info.name.map(|name| name.strip_prefix(&own).map_or(String::new(), str::to_owned));
        info.name = info.name.filter(|name| !name.is_empty());
        info.rootfs = place(&info.guid);
        info.image_id = image;
        info.first_id = None;
        info.sandbox = None;
        info
    }
}

/// Where a rootfs is, in the words of the layout that package code knows (S27).
fn place(guid: &str) -> String {
    format!("/media/startos/subcontainers/{guid}")
}

impl Doing {
    /// Does what waits for the kernel, when it is its turn.
    pub(super) async fn blocking<T: Send + 'static>(
        self,
        work: impl FnOnce(&Host) -> Result<T> + Send + 'static,
    ) -> Answer<T> {
        // Never closed.
        let _turn = self.made.working.acquire().await;
        let host = Arc::clone(&self.host);
        answer(blocking(move || work(&host)).await)
    }

    pub(super) async fn create_fs(self, mut p: CreateFsParams) -> Answer<CreateFsResult> {
        answer(self.made.reserve(&self.host))?;
        // The host's successor destroys it in any case: it is started anew with its package.
        let detached = std::mem::take(&mut p.detached);
        let created = {
            let _turn = self.made.working.acquire().await;
            methods::create_fs(Arc::clone(&self.host), self.call.clone(), p).await
        };
        let mut made = lock(&self.made.made);
        made.coming -= 1;
        let created = created?;
        made.images.insert(created.guid.clone(), self.image.clone());
        if detached {
            self.call.connection.disown(&created.guid);
        }
        Ok(CreateFsResult { rootfs: place(&created.guid), image_id: self.image, guid: created.guid })
    }

    pub(super) async fn destroy_fs(self, p: GuidParams) -> Answer<Empty> {
        answer(self.host.destroy(&p.guid).await)?;
        lock(&self.made.made).images.remove(&p.guid);
        Ok(Empty {})
    }

    pub(super) async fn mount(self, p: MountParams) -> Answer<Empty> {
        let made = Arc::clone(&self.made);
        self.blocking(move |host| {
            let MountParams { guid, mount } = p;
            let package =
                volumes::Package { id: &made.own.package, files: made.files.as_fd(), part: "assets" };
            host.machine.mount_with(&guid, &mount, Some(package))?;
            host.emit(&guid, EventKind::Mounted { mountpoint: mount.mountpoint });
            Ok(Empty {})
        })
        .await
    }

    /// Whether one more process may have a name.
    fn room_for_a_process(&self) -> Result<()> {
        let made = lock(&self.made.made);
        let all = self.host.all_processes();
        if all.iter().filter(|entry| made.images.contains_key(&entry.guid)).count() < PROCESSES {
            return Ok(());
        }
        Err(Failure::new(ErrorKind::Exhausted, "start process", "")
            .because(std::io::Error::other(format!("this package has {PROCESSES}"))))
    }

    pub(super) async fn launch(self, p: LaunchParams) -> Answer<SpawnResult> {
        answer(self.room_for_a_process())?;
        let _turn = self.made.working.acquire().await;
        run::launch(Arc::clone(&self.host), self.call.clone(), p).await
    }

    pub(super) async fn spawn(self, p: SpawnParams) -> Answer<SpawnResult> {
        answer(self.room_for_a_process())?;
        let _turn = self.made.working.acquire().await;
        run::spawn(Arc::clone(&self.host), self.call.clone(), p).await
    }

    pub(super) async fn list(self, _: Empty) -> Answer<ListResult> {
        let made = Arc::clone(&self.made);
        self.blocking(move |host| {
            let all = lock(&made.made).images.clone();
            let mut subcontainers = Vec::new();
            for (guid, image) in all {
                match host.machine.rootfs(&guid).and_then(|rootfs| host.machine.info(&rootfs)) {
                    Ok(info) => subcontainers.push(made.view(host.complete(info), image)),
                    // Destroyed meanwhile, or with its connection.
                    Err(failure) if failure.kind == ErrorKind::NotFound => {}
                    Err(failure) => return Err(failure),
                }
            }
            subcontainers.sort_by(|a, b| (a.created, &a.guid).cmp(&(b.created, &b.guid)));
            Ok(ListResult { subcontainers })
        })
        .await
    }

    pub(super) async fn inspect(self, p: GuidParams) -> Answer<SubcontainerInfo> {
        let (made, image) = (Arc::clone(&self.made), self.image.clone());
        self.blocking(move |host| {
            let info = host.machine.inspect(&host.machine.rootfs(&p.guid)?)?;
            Ok(made.view(host.complete(info), image))
        })
        .await
    }

    /// It outlives the connection, not the package.
    pub(super) async fn detach(self, p: GuidParams) -> Answer<Empty> {
        if let Some(owner) = self.host.owner(&p.guid) {
            owner.disown(&p.guid);
        }
        Ok(Empty {})
    }

    pub(super) async fn attach(self, p: GuidParams) -> Answer<SubcontainerInfo> {
        let connection = Arc::clone(&self.call.connection);
        if self.host.owner(&p.guid).is_some_and(|owner| owner.id != connection.id) {
            return answer(Err(Failure::new(ErrorKind::Busy, "attach to", &p.guid)
                .because(std::io::Error::other("another connection owns it"))));
        }
        methods::give(&self.host, &self.call, &p.guid).await?;
        let guid = p.guid.clone();
        let info = self.inspect(p).await;
        if info.is_err() {
            connection.disown(&guid);
        }
        info
    }
}
