//! Which network a container has: the machine's, none, or a private one.
//!
//! A private one is checked before anything is made, attached before the container's first process, which joins it,
//! and released with that one's end. What it leaves to others (bridges and rules that nobody uses) is tidied up by
//! whoever ends last: a command line at its end, a daemon at its own.

mod pool;

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use linux::kernel::Features;
use linux::mount::MountAttr;
use network::{Attachment, Config, Dns, Namespace, Networks, Request, Warm};
use protocol::ErrorKind;
use protocol::network::{Network, NetworkInfo};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags};

use crate::engine::lock;
use crate::error::{Failure, Result};
use pool::Pool;

/// The private networks of this machine, opened on first use.
#[derive(Debug)]
pub(crate) struct Networking {
    dir: PathBuf,
    networks: OnceLock<Arc<Networks>>,
    /// What a daemon keeps once it has used them. None for a command line.
    kept: Option<Mutex<Option<Kept>>>,
}

/// What a daemon keeps.
#[derive(Debug)]
struct Kept {
    pool: Arc<Pool>,
    _warm: Warm,
}

/// A network that is ready to be joined.
#[derive(Debug)]
pub(crate) struct Joined {
    /// For `setns(2)`.
    pub(crate) namespace: Arc<OwnedFd>,
    /// Files to mount, and where.
    pub(crate) files: Vec<(OwnedFd, &'static str)>,
}

impl Networking {
    /// `keep_warm`: what nobody uses stays for the next container, until [`Networking::close`].
    pub(crate) fn new(run_dir: &Path, keep_warm: bool) -> Self {
        let dir = run_dir.join("networks");
        Self { dir, networks: OnceLock::new(), kept: keep_warm.then(Mutex::default) }
    }

    fn networks(&self) -> Result<&Arc<Networks>> {
        if let Some(networks) = self.networks.get() {
            return Ok(networks);
        }
        let fail = |errno| Failure::kernel("open", self.dir.display(), errno);
        for dir in self.dir.parent().into_iter().chain([self.dir.as_path()]) {
            match rustix::fs::mkdir(dir, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&self.dir, flags, Mode::empty()).map_err(fail)?;
        let networks = Arc::new(Networks::open(dir, Config::default())?);
        Ok(self.networks.get_or_init(|| networks))
    }

    /// Those of a daemon, whose keeping begins with the first container.
    fn pool(&self) -> Result<Option<Arc<Pool>>> {
        let Some(kept) = &self.kept else { return Ok(None) };
        let mut kept = lock(kept);
        if kept.is_none() {
            let networks = self.networks()?;
            *kept =
                Some(Kept { _warm: networks.keep_warm()?, pool: Arc::new(Pool::new(Arc::clone(networks))?) });
        }
        Ok(kept.as_ref().map(|kept| Arc::clone(&kept.pool)))
    }

    /// The same, if it has begun.
    fn pool_in_use(&self) -> Option<Arc<Pool>> {
        let kept = lock(self.kept.as_ref()?);
        kept.as_ref().map(|kept| Arc::clone(&kept.pool))
    }

    /// Those that were used since the machine was started, if any were.
    fn used(&self) -> Result<Option<&Arc<Networks>>> {
        if self.networks.get().is_none() && !self.dir.exists() {
            return Ok(None);
        }
        self.networks().map(Some)
    }

    /// Refuses what cannot be had, and makes nothing.
    pub(crate) fn check(&self, guid: &str, network: &Network) -> Result<()> {
        if let Some(request) = request(network)? {
            self.networks()?.check(guid, &request)?;
        }
        Ok(())
    }

    /// None: the machine's own. `alone`: nobody in it has a privilege beyond the default, and it shares no directory
    /// with anybody. Until [`Networking::meets_others`] says that it does.
    pub(crate) fn join(&self, guid: &str, network: &Network, alone: bool) -> Result<Option<Joined>> {
        match request(network)? {
            None if *network == Network::Host => Ok(None),
            None => {
                let namespace = Arc::new(Namespace::create()?.into_fd());
                Ok(Some(Joined { namespace, files: Vec::new() }))
            }
            Some(request) => {
                let attached = self.attach(guid, &request, alone)?;
                if attached.dns == Dns::Nobody {
                    tracing::warn!("{guid}: no name server of the machine can be reached from its network");
                }
                Ok(Some(Joined {
                    namespace: attached.netns,
                    files: vec![(attached.hosts, "etc/hosts"), (attached.resolv_conf, "etc/resolv.conf")],
                }))
            }
        }
    }

    /// As [`Networking::join`], for a container in the sandbox of this guid, whose leader this is: it is where that one is.
    pub(crate) fn join_sandbox(
        &self,
        guid: &str,
        leader: &Arc<OwnedFd>,
        network: &Network,
    ) -> Result<Joined> {
        let mut files = Vec::new();
        if let Network::Private { .. } = network
            && let Some((hosts, resolv_conf)) = self.networks()?.files(guid)?
        {
            files.extend([(hosts, "etc/hosts"), (resolv_conf, "etc/resolv.conf")]);
        }
        Ok(Joined { namespace: Arc::clone(leader), files })
    }

    fn attach(&self, guid: &str, request: &Request, alone: bool) -> Result<Attachment> {
        let networks = self.networks()?;
        let Some(pool) = self.pool()? else { return Ok(networks.private(guid, request)?) };
        if pool.rests(guid) {
            // Its own, from an earlier run. Its address is, too.
            pool.let_go(guid);
            networks.release(guid)?;
        }
        let attached = match pool.take(guid, request)? {
            Some(attached) => attached,
            None => networks.private(guid, request)?,
        };
        if alone && request.publish.is_empty() {
            pool.hold(guid, &attached);
        }
        Ok(attached)
    }

    /// Something is mounted in it that others have, too: its namespace is not used again.
    pub(crate) fn meets_others(&self, guid: &str) {
        if let Some(pool) = self.pool_in_use() {
            pool.let_go(guid);
        }
    }

    /// Its container has ended, or was never started.
    pub(crate) fn release(&self, guid: &str) -> Result<()> {
        if let Some(pool) = self.pool_in_use()
            && pool.rest(guid)
        {
            return Ok(());
        }
        if let Some(networks) = self.used()? {
            networks.release(guid)?;
        }
        Ok(())
    }

    /// Its address may be somebody else's from now on.
    pub(crate) fn forget(&self, guid: &str) -> Result<()> {
        if let Some(pool) = self.pool_in_use()
            && pool.retire(guid)
        {
            return Ok(());
        }
        if let Some(networks) = self.used()? {
            networks.forget(guid)?;
        }
        Ok(())
    }

    /// Takes away what nobody uses, unless a daemon keeps it.
    pub(crate) fn tidy(&self) -> Result<()> {
        if let Some(networks) = self.used()? {
            networks.tidy()?;
        }
        Ok(())
    }

    /// Takes away what belongs to containers that are gone: after somebody was killed.
    pub(crate) fn recover(&self, alive: impl Fn(&str) -> bool) -> Result<()> {
        if let Some(networks) = self.used()? {
            networks.recover(alive)?;
        }
        Ok(())
    }

    /// For a daemon that ends.
    pub(crate) fn close(&self) -> Result<()> {
        let kept = self.kept.as_ref().and_then(|kept| lock(kept).take());
        if let Some(kept) = kept {
            kept.pool.close()?;
        }
        self.tidy()
    }

    /// Where a container is.
    pub(crate) fn info(&self, guid: &str) -> Result<Option<NetworkInfo>> {
        let Some(networks) = self.used()? else { return Ok(None) };
        let found = networks.list()?.into_iter().find(|endpoint| endpoint.guid == guid);
        Ok(found.map(|endpoint| NetworkInfo {
            name: endpoint.network,
            addresses: endpoint.addresses.iter().map(ToString::to_string).collect(),
            names: endpoint.names,
            published: endpoint.published.iter().map(ToString::to_string).collect(),
        }))
    }
}

fn request(network: &Network) -> Result<Option<Request>> {
    let Network::Private { name, aliases, publish } = network else { return Ok(None) };
    let publish =
        publish.iter().map(|text| text.parse()).collect::<std::result::Result<_, network::Error>>()?;
    let request = Request { network: name.clone(), aliases: aliases.clone(), publish };
    request.check()?;
    Ok(Some(request))
}

impl Joined {
    /// The files as detached mounts that nobody inside can write to, with their places in the rootfs: paths without
    /// links, made where they are missing.
    pub(crate) fn mounts(&self, root: &OwnedFd, root_path: &Path) -> Result<Vec<(Arc<OwnedFd>, PathBuf)>> {
        self.files.iter().map(|(file, place)| mount(file, place, root, root_path)).collect()
    }
}

fn mount(file: &OwnedFd, place: &str, root: &OwnedFd, root_path: &Path) -> Result<(Arc<OwnedFd>, PathBuf)> {
    let fail = |errno| Failure::kernel("mount on", format!("/{place}"), errno);
    let attributes = MountAttr {
        set: MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NOEXEC,
        propagation: Some(MountPropagationFlags::PRIVATE),
        ..MountAttr::default()
    };
    let tree = linux::mount::clone_tree(file, false, &attributes, Features::get()).map_err(fail)?;
    // An image may have a link there, into /run for one. What it leads to inside is where programs look.
    if let Some(parent) = Path::new(place).parent() {
        linux::resolve::mkdir_in_root(root, parent, Mode::from(0o755)).map_err(fail)?;
    }
    let target =
        linux::resolve::create_file_in_root(root, Path::new(place), Mode::from(0o644)).map_err(fail)?;
    let link = Path::new("/proc/self/fd").join(target.as_raw_fd().to_string());
    let found = rustix::fs::readlink(link, Vec::new()).map_err(fail)?;
    let found = PathBuf::from(OsString::from_vec(found.into_bytes()));
    let inside = found
        .strip_prefix(root_path)
        .map_err(|_error| Failure::new(ErrorKind::Escape, "mount on", format!("/{place}")))?;
    Ok((Arc::new(tree), inside.to_owned()))
}
