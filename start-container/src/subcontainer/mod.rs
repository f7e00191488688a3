//! Subcontainers: a rootfs plus the namespaces of its leader.
//!
//! ```text
//!            create_fs            launch                 leader ends
//!  (nothing) ---------> Created ---------> Running ------------------> Exited
//!      ^                   |                  |                          |  launch again: Running
//!      |      destroy      |                  |                          |
//!      +-------------------+------------------+--------------------------+
//! ```
//! `destroy` works from every state and from every half-made one, and again after itself.
//! Each arrow is a file here: [`launch`], [`leader`] (its end), [`end`]; [`exec`] and [`mounts`] are for what runs.
//! Changes to one subcontainer exclude each other, between processes too (see [`state`]); `exec` excludes nothing.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use images::{Rootfs, Store};
use linux::fsids::AsOwner;
use protocol::ErrorKind;
use volumes::Sources;

use crate::engine::cgroup::Hierarchy;
use crate::engine::guard::Init;
use crate::engine::hand::Hand;
use crate::engine::keeper::Keeper;
use crate::engine::limits::Controllers;
use crate::engine::network::Networking;
use crate::error::{Failure, Result};
use crate::sealed::Sealed;

mod connect;
mod end;
mod exec;
mod info;
mod kept;
mod launch;
mod leader;
mod mounts;
mod namespaces;
pub(crate) mod sandbox;
pub(crate) mod state;
mod stats;
mod stop;
mod update;

pub(crate) use end::LeftBehind;
pub(crate) use exec::{Io, Started};
pub(crate) use launch::{Launch, Launched};
pub(crate) use leader::Leader;
use namespaces::Namespaces;
use state::{Locked, State};
pub(crate) use state::{Owner, Terms};
pub(crate) use stop::{STOP_PATIENCE, stop_signal};

/// Everything on this machine that subcontainers are made of.
#[derive(Debug)]
pub(crate) struct Machine {
    data_dir: PathBuf,
    run_dir: PathBuf,
    store: OnceLock<Store>,
    sources: OnceLock<Sources>,
    hierarchy: Hierarchy,
    init: Init,
    sealed: Option<Sealed>,
    controllers: Arc<Controllers>,
    networking: Networking,
    namespaces: Namespaces,
    hand: Hand,
    /// A daemon's.
    keeper: OnceLock<Arc<Keeper>>,
    commands: AtomicU64,
    vestibule: OnceLock<Arc<OwnedFd>>,
}

impl Machine {
    /// Opens the data directory, making what is missing of it.
    ///
    /// Without `sealed`, processes are started through guards: they end when this process is killed.
    pub(crate) fn open(data_dir: &Path, run_dir: &Path, sealed: Option<Sealed>) -> Result<Self> {
        let store = OnceLock::new();
        if !data_dir.exists() {
            drop(store.set(Store::open(data_dir).map_err(Failure::from)?));
        }
        // One spelling: it is compared with what is written down.
        let data_dir = data_dir.canonicalize().map_err(|error| {
            Failure::new(ErrorKind::Kernel, "open data directory", data_dir.display()).because(error)
        })?;
        Ok(Self {
            store,
            sources: OnceLock::new(),
            hierarchy: Hierarchy::open()?,
            data_dir,
            run_dir: run_dir.to_owned(),
            // Who is sealed is a daemon.
            init: Init::new(sealed.is_some()),
            // Who is sealed is a daemon.
            networking: Networking::new(run_dir, sealed.is_some()),
            controllers: Arc::new(Controllers::new(sealed.is_some())),
            namespaces: Namespaces::new(sealed.is_some()),
            hand: Hand::new(sealed.is_some()),
            sealed,
            keeper: OnceLock::new(),
            commands: AtomicU64::new(0),
            vestibule: OnceLock::new(),
        })
    }

    /// The images. Opened on first use: a command in a container that runs needs none.
    pub(crate) fn store(&self) -> Result<&Store> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let store = Store::open(&self.data_dir).map_err(Failure::from)?;
        Ok(self.store.get_or_init(|| store))
    }

    /// Opens now what is opened on first use otherwise: for a host, whose first client should not wait or fail for it.
    pub(crate) fn open_all(&self) -> Result<()> {
        self.store()?;
        self.sources()?;
        self.init.get()?;
        match Keeper::open(&self.hierarchy, &self.init, &self.data_dir) {
            Ok(keeper) => drop(self.keeper.set(Arc::new(keeper))),
            // Everything else is as good without.
            Err(failure) => tracing::warn!("{}", failure.sentence()),
        }
        Ok(())
    }

    /// What becomes readable when the keeper has ended. None: there is none.
    pub(crate) fn keepers_end(&self) -> Option<Arc<OwnedFd>> {
        self.keeper.get().and_then(|keeper| keeper.handle())
    }

    /// Another keeper in the place of one that has ended.
    pub(crate) fn another_keeper(&self) -> Result<()> {
        self.keeper.get().map_or(Ok(()), |keeper| keeper.start_again(&self.init))
    }

    /// Where mounts come from. Opened on first use.
    fn sources(&self) -> Result<&Sources> {
        if let Some(sources) = self.sources.get() {
            return Ok(sources);
        }
        let sources = Sources::open(&self.data_dir).map_err(Failure::from)?;
        Ok(self.sources.get_or_init(|| sources))
    }

    /// Where the mount namespaces of leaders begin, in a daemon. A command line starts one, and to make this costs more
    /// than that saves.
    fn vestibule(&self) -> Result<Option<Arc<OwnedFd>>> {
        if self.sealed.is_none() {
            return Ok(None);
        }
        if let Some(vestibule) = self.vestibule.get() {
            return Ok(Some(Arc::clone(vestibule)));
        }
        let made = linux::mount::vestibule()
            .map_err(|errno| Failure::kernel("make a mount namespace to begin in", "", errno))?;
        Ok(Some(Arc::clone(self.vestibule.get_or_init(|| Arc::new(made)))))
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where a host writes down who holds which lock: not to outlive a boot, and of this data directory alone.
    pub(crate) fn locks_file(&self) -> Result<PathBuf> {
        let stat = rustix::fs::stat(&self.data_dir)
            .map_err(|errno| Failure::kernel("look at", self.data_dir.display(), errno))?;
        Ok(self.run_dir.join(format!("locks-{:x}-{:x}.json", stat.st_dev, stat.st_ino)))
    }

    /// Looks at the data directory, and at nothing in it.
    pub(crate) fn data_dir_is_there(&self) -> Result<()> {
        rustix::fs::stat(&self.data_dir)
            .map(drop)
            .map_err(|errno| Failure::kernel("look at", self.data_dir.display(), errno))
    }

    /// Makes a writable rootfs over an image and mounts it; without an image, over nothing.
    ///
    /// With an owner, for that client of the host: a host that starts after this one was killed destroys it, unless the
    /// client comes back.
    pub(crate) fn make_fs(
        &self,
        image: Option<&str>,
        options: images::rootfs::Options,
        owner: Option<&Owner>,
    ) -> Result<Rootfs> {
        // Nobody destroys the sandbox, and gives its ids to somebody else, before it is known who is in it.
        let _sandbox = match &options.within {
            Some(sandbox) => {
                self.sandbox(sandbox)?;
                Some(self.lock(sandbox)?)
            }
            None => None,
        };
        let guid = options.guid.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        if let Some(owner) = owner {
            let lock = Locked::acquire(&self.run_dir, &guid)?;
            lock.write(&State { owner: Some(owner.clone()), ..self.state() })?;
        }
        let options = images::rootfs::Options { guid: Some(guid.clone()), ..options };
        let created = Rootfs::create_over(self.store()?, image, options).map_err(Failure::from);
        if created.is_err() && owner.is_some() {
            Locked::acquire(&self.run_dir, &guid)?.remove()?;
        }
        let mut created = created?;
        if let Some(namespace) = created.namespace() {
            self.namespaces.keep(&guid, namespace);
        }
        let spent = created.spent();
        self.hand.aside(move || drop(spent));
        Ok(created)
    }

    /// Writes down whether a subcontainer ends with its owner.
    pub(crate) fn set_owner(&self, guid: &str, owner: Option<Owner>) -> Result<()> {
        let lock = self.lock(guid)?;
        let state = lock.read()?;
        lock.write(&State { owner, data_dir: Some(self.data_dir.clone()), ..state })
    }

    /// The state of a subcontainer of which nothing is known yet.
    fn state(&self) -> State {
        State { data_dir: Some(self.data_dir.clone()), ..State::default() }
    }

    /// Keeps everybody else from changing a subcontainer, which must exist.
    fn lock(&self, guid: &str) -> Result<Locked> {
        check_guid(guid)?;
        let lock = match Locked::existing(&self.run_dir, guid)? {
            Some(lock) => lock,
            None => {
                // Not there at all: then no directory is made for it.
                self.rootfs(guid)?;
                Locked::acquire(&self.run_dir, guid)?
            }
        };
        if self.exists(guid)? {
            return Ok(lock);
        }
        // Destroyed while we waited.
        let gone = self.rootfs(guid).map(drop);
        lock.remove().and(gone)?;
        self.lock(guid)
    }

    /// Whether there is a rootfs of this guid, without a look at what it is.
    pub(crate) fn exists(&self, guid: &str) -> Result<bool> {
        Rootfs::exists(&self.data_dir, guid).map_err(Failure::from)
    }

    pub(crate) fn rootfs(&self, guid: &str) -> Result<Rootfs> {
        Rootfs::open(&self.data_dir, guid).map_err(Failure::from)
    }

    /// The rootfs at a path, which must be one of ours.
    pub(crate) fn rootfs_at(&self, path: &Path) -> Result<Rootfs> {
        Rootfs::from_path(&self.data_dir, path).map_err(Failure::from)
    }
}

/// Until it is dropped, files that this thread makes belong to root inside.
pub(crate) fn as_root_of(first_id: Option<u32>) -> Result<AsOwner> {
    match first_id {
        None => Ok(AsOwner::nobody_else()),
        Some(id) => AsOwner::new(id).map_err(|errno| Failure::kernel("become root of", id, errno)),
    }
}

/// A guid is part of paths: it holds nothing but what `uuid` writes.
pub(crate) fn check_guid(guid: &str) -> Result<()> {
    if guid.len() == 36 && uuid::Uuid::try_parse(guid).is_ok() {
        return Ok(());
    }
    Err(Failure::new(ErrorKind::Invalid, "read subcontainer id", guid))
}

/// Milliseconds since the epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64)
}
