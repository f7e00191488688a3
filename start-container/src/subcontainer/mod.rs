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

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use images::{Rootfs, Store};
use linux::fsids::AsOwner;
use protocol::ErrorKind;
use volumes::Sources;

use crate::engine::cgroup::Hierarchy;
use crate::engine::guard::Init;
use crate::engine::limits::Controllers;
use crate::engine::network::Networking;
use crate::error::{Failure, Result};
use crate::sealed::Sealed;

mod end;
mod exec;
mod info;
mod launch;
mod leader;
mod mounts;
pub(crate) mod sandbox;
pub(crate) mod state;
mod stats;
mod update;

pub(crate) use exec::{Io, Started};
pub(crate) use launch::{Launch, Launched};
pub(crate) use leader::Leader;
use state::{Locked, State};

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
    controllers: Controllers,
    networking: Networking,
    commands: AtomicU64,
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
            controllers: Controllers::new(sealed.is_some()),
            sealed,
            commands: AtomicU64::new(0),
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
        self.init.get().map(drop)
    }

    /// Where mounts come from. Opened on first use.
    fn sources(&self) -> Result<&Sources> {
        if let Some(sources) = self.sources.get() {
            return Ok(sources);
        }
        let sources = Sources::open(&self.data_dir).map_err(Failure::from)?;
        Ok(self.sources.get_or_init(|| sources))
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Makes a writable rootfs over an image and mounts it; without an image, over nothing.
    ///
    /// When `owned`, for a client of the host: a host that starts after this one was killed destroys it.
    pub(crate) fn make_fs(
        &self,
        image: Option<&str>,
        options: images::rootfs::Options,
        owned: bool,
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
        if owned {
            let lock = Locked::acquire(&self.run_dir, &guid)?;
            lock.write(&State { owned: true, ..self.state() })?;
        }
        let options = images::rootfs::Options { guid: Some(guid.clone()), ..options };
        let created = Rootfs::create_over(self.store()?, image, options).map_err(Failure::from);
        if created.is_err() && owned {
            Locked::acquire(&self.run_dir, &guid)?.remove()?;
        }
        created
    }

    /// Writes down whether a subcontainer ends with its owner.
    pub(crate) fn set_owned(&self, guid: &str, owned: bool) -> Result<()> {
        let lock = self.lock(guid)?;
        let state = lock.read()?;
        lock.write(&State { owned, data_dir: Some(self.data_dir.clone()), ..state })
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
        match self.rootfs(guid) {
            Ok(_) => Ok(lock),
            // Destroyed while we waited.
            Err(failure) if failure.kind == ErrorKind::NotFound => lock.remove().and(Err(failure)),
            Err(failure) => Err(failure),
        }
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
