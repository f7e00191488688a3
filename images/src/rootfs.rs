//! A writable tree over an image.
//!
//! ```text
//! D/rootfs/<guid>/            flock: exclusive while something about this rootfs changes
//! ├── rootfs.json             the record: written before anything else is there, removed last
//! ├── upper/                  what was written; its root has the mode and owner of the image's root, and where the
//! │                           rootfs has ids of its own, owners in here are those
//! ├── work/                   overlay's own
//! └── disk.ext4               where it has a size: a file system in a file, with upper and work in it
//! D/subcontainers/            while there is any: a private mount, so that no rootfs reaches other namespaces
//! └── <guid>/                 the overlay, shared: mounts made beneath reach the namespaces cloned from it
//!
//! create:   record -> upper, work -> overlay (detached) -> mount point -> attach
//! destroy:  detach what is beneath, then it -> mount point -> upper, work -> record
//! ```
//! Whatever step either was killed at, [`Rootfs::destroy`] ends it: each step is skipped where its thing is gone.

mod detach;
mod disk;
mod ids;
mod overlay;
mod point;
mod record;

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linux::kernel::Features;
use linux::step::{Step, during};
use protocol::sandbox::SandboxSettings;
use protocol::subcontainer::Mount;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use self::record::Record;
use crate::store::{Store, flock, now};
use crate::{Digest, Error, Result};
use linux::tree::{open_dir, open_dir_at, remove_all, remove_dir, replace_file_at, text_names_in};

pub use disk::DiskError;
use ids::RANGE;
pub use overlay::OverlayError;
pub(crate) use record::users;

/// How a rootfs is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A name for people.
    pub name: Option<String>,
    /// It need not survive a crash of the machine: nothing of it is ever synced to disk (overlay `volatile`).
    pub throwaway: bool,
    /// Its id. Default: a new random one.
    pub guid: Option<String>,
    /// Ids 0 to 65,535 in it are ids of the machine that nothing else has, see [`Rootfs::ids`].
    pub own_ids: bool,
    /// It is a sandbox's own, which has ids of its own in any case. What is here is only kept.
    pub sandbox: Option<SandboxSettings>,
    /// The guid of the sandbox that it is in: it has that one's ids, and whoever destroys that one destroys it before.
    pub within: Option<String>,
    /// Bytes on disk that what is written to it takes at most, 16 MiB to 16 TiB, see [`Rootfs::usage`].
    pub size: Option<u64>,
}

/// A writable tree over an image. Dropping this changes nothing on disk; [`Rootfs::destroy`] does.
#[derive(Debug)]
pub struct Rootfs {
    data_dir: PathBuf,
    dir: OwnedFd,
    record: Record,
    namespace: Option<Arc<OwnedFd>>,
    spent: Spent,
}

/// Handles of mounts that are nowhere attached, see [`Rootfs::spent`].
#[derive(Debug, Default)]
pub struct Spent(#[expect(dead_code, reason = "they are held, and closed")] Vec<OwnedFd>);

impl Rootfs {
    /// Makes a rootfs over an image (its name, digest, or the beginning of its digest) and mounts it.
    pub fn create(store: &Store, image: &str, options: Options) -> Result<Self> {
        Self::create_over(store, Some(image), options)
    }

    /// As [`Rootfs::create`]; without an image, over nothing.
    pub fn create_over(store: &Store, image: Option<&str>, options: Options) -> Result<Self> {
        let guid = options.guid.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        record::check_guid(&guid)?;
        let failed = |step| Error::kernel(step, format!("rootfs {guid}"));
        let disk = |source| Error::Disk { guid: guid.clone(), source: Box::new(source) };
        options.size.map_or(Ok(()), disk::check).map_err(disk)?;
        let dirs = &store.dirs;
        let (dir, record) = {
            // Until the record is there, nothing else would keep a gc from taking the image's layers.
            let _lock = store.lock(FlockOperation::LockShared).map_err(failed("lock the store for"))?;
            let image = image.map(|image| store.find(image)).transpose()?;
            let ids = match &options.within {
                Some(sandbox) => Self::open(&dirs.path, sandbox)?.ids(),
                None if options.own_ids || options.sandbox.is_some() => Some(
                    during(Step::TakeIds, || ids::take(&dirs.path, &guid)).map_err(failed("take ids for"))?,
                ),
                None => None,
            };
            let (image, layers, root) = match image {
                Some(image) => (Some(image.digest), image.layers, image.root),
                None => (None, Vec::new(), None),
            };
            let record = Record {
                guid: guid.clone(),
                name: options.name,
                image,
                layers,
                root,
                created: now(),
                throwaway: options.throwaway,
                ids,
                sandbox: options.sandbox,
                within: options.within,
                size: options.size,
                mounts: Vec::new(),
                met_others: false,
            };
            match during(Step::MakeRootfs, || rustix::fs::mkdirat(&dirs.rootfs, guid.as_str(), Mode::RWXU)) {
                Err(Errno::EXIST) => return Err(Error::RootfsExists(guid)),
                result => result.map_err(failed("create directory of"))?,
            }
            let dir = open_dir_at(&dirs.rootfs, guid.as_str()).map_err(failed("open directory of"))?;
            // Until it has a record: one who looks for what was cut off waits for it.
            let write = |_lock| during(Step::RecordRootfs, || record.write_new(&dir));
            let written = lock_dir(&dir).map_err(failed("lock")).and_then(write);
            if let Err(error) = written {
                // There is no record yet that would lead anybody here.
                _ = remove_all(&dirs.rootfs, guid.as_str());
                return Err(error);
            }
            (dir, record)
        };
        let made = Self::of(dirs.path.clone(), dir, record);
        match made.mount(true) {
            Ok((namespace, spent)) => Ok(Self { namespace, spent, ..made }),
            Err(error) => {
                // The first error is the one to tell; what stays has a record, and list shows it.
                _ = Self::destroy(&dirs.path, &made.record.guid);
                Err(error)
            }
        }
    }

    /// The rootfs with this guid.
    pub fn open(data_dir: &Path, guid: &str) -> Result<Self> {
        record::check_guid(guid)?;
        let opened = open_dir(&data_dir.join("rootfs")).and_then(|all| open_dir_at(all, guid));
        let dir = match opened {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Err(Error::UnknownRootfs(guid.to_owned())),
            Err(errno) => return Err(Error::kernel("open directory of", format!("rootfs {guid}"))(errno)),
        };
        let record = Record::read(&dir, guid)?;
        Ok(Self::of(data_dir.to_owned(), dir, record))
    }

    fn of(data_dir: PathBuf, dir: OwnedFd, record: Record) -> Self {
        Self { data_dir, dir, record, namespace: None, spent: Spent::default() }
    }

    /// Whether there is one with this guid, or what is left of one.
    pub fn exists(data_dir: &Path, guid: &str) -> Result<bool> {
        record::check_guid(guid)?;
        match rustix::fs::lstat(data_dir.join("rootfs").join(guid).join(record::FILE)) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(Error::kernel("look for", format!("rootfs {guid}"))(errno)),
        }
    }

    /// The rootfs that is mounted at this path; a path of any other kind is [`Error::NotARootfs`].
    pub fn from_path(data_dir: &Path, path: &Path) -> Result<Self> {
        let ours = |path: &Path, data_dir: &Path| {
            let guid = path.strip_prefix(data_dir.join("subcontainers")).ok()?.to_str()?.to_owned();
            record::check_guid(&guid).ok().map(|()| guid)
        };
        let not_ours = || Error::NotARootfs(path.display().to_string());
        let guid = ours(path, data_dir)
            .or_else(|| ours(&path.canonicalize().ok()?, &data_dir.canonicalize().ok()?))
            .ok_or_else(not_ours)?;
        Self::open(data_dir, &guid).map_err(|error| match error {
            Error::UnknownRootfs(_) => not_ours(),
            other => other,
        })
    }

    /// Every rootfs of a data directory, oldest first. One whose record cannot be read is left out: it was being
    /// made or destroyed, and [`Rootfs::remnants`] names it if it stays so.
    pub fn list(data_dir: &Path) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for guid in record::guids(data_dir)? {
            match Self::open(data_dir, &guid) {
                Ok(rootfs) => all.push(rootfs),
                Err(Error::UnknownRootfs(_) | Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        all.sort_by(|one, other| {
            (one.record.created, &one.record.guid).cmp(&(other.record.created, &other.record.guid))
        });
        Ok(all)
    }

    /// Guids of which something is on disk and no readable record: a creation or destruction was cut off, and
    /// [`Rootfs::destroy`] finishes it.
    pub fn remnants(data_dir: &Path) -> Result<Vec<String>> {
        let mut guids = record::guids(data_dir)?;
        let mounted = open_dir(&data_dir.join("subcontainers")).and_then(text_names_in);
        match mounted {
            Ok(names) => guids.extend(names),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(Error::kernel("read directory", "subcontainers")(errno)),
        }
        guids.sort();
        guids.dedup();
        let unreadable = |guid: &str| {
            matches!(Self::open(data_dir, guid), Err(Error::UnknownRootfs(_) | Error::Damaged { .. }))
        };
        guids.retain(|guid| {
            record::check_guid(guid).is_ok() && unreadable(guid) && {
                // Somebody may be at it just now.
                let _lock = open_dir(&data_dir.join("rootfs").join(guid)).and_then(|dir| lock_dir(&dir));
                unreadable(guid)
            }
        });
        Ok(guids)
    }

    /// Its id.
    pub fn guid(&self) -> &str {
        &self.record.guid
    }

    /// Its name for people.
    pub fn name(&self) -> Option<&str> {
        self.record.name.as_deref()
    }

    /// The image beneath it, if there is one.
    pub fn image(&self) -> Option<Digest> {
        self.record.image
    }

    /// The settings of the sandbox that it is, if it is one's.
    pub fn sandbox(&self) -> Option<&SandboxSettings> {
        self.record.sandbox.as_ref()
    }

    /// The guid of the sandbox that it is in.
    pub fn within(&self) -> Option<&str> {
        self.record.within.as_deref()
    }

    /// When it was made, in milliseconds since the Unix epoch.
    pub fn created(&self) -> u64 {
        self.record.created
    }

    /// Does it live without being synced to disk?
    pub fn throwaway(&self) -> bool {
        self.record.throwaway
    }

    /// The first of its ids, if it has its own: what is 0 in the image and in its container is this id of the machine,
    /// and so on for [`RANGE`] of them. They are nobody else's for as long as anything of it is there.
    pub fn ids(&self) -> Option<u32> {
        self.record.ids
    }

    /// The user namespace by which its layers are mapped, of whoever has made it: root's of [`Rootfs::ids`], and nobody has
    /// been in it. One container may have it for its own.
    pub fn namespace(&self) -> Option<&Arc<OwnedFd>> {
        self.namespace.as_ref()
    }

    /// What it took to mount it, and is of no use any more. To close it takes a while, since the kernel waits for all
    /// processors: who is in a hurry leaves that to another thread.
    pub fn spent(&mut self) -> Spent {
        std::mem::take(&mut self.spent)
    }

    /// How many bytes on disk what is written to it takes at most, if that is limited.
    pub fn size(&self) -> Option<u64> {
        self.record.size
    }

    /// How many of the bytes of its size are in use; nothing where it has none, or is not mounted.
    pub fn usage(&self) -> Result<Option<u64>> {
        let failed = Error::kernel("look at", format!("rootfs {}", self.record.guid));
        let used = || {
            if self.record.size.is_none() {
                return Ok(None);
            }
            let Some(root) = mount_at(&self.path())? else { return Ok(None) };
            // An overlay answers for the file system that it writes to.
            let fs = rustix::fs::fstatfs(&root)?;
            let used = u64::saturating_sub(fs.f_blocks, fs.f_bfree);
            Ok(Some(used.saturating_mul(u64::try_from(fs.f_bsize).unwrap_or(0))))
        };
        used().map_err(failed)
    }

    /// Where it is mounted, in the host's mount namespace.
    pub fn path(&self) -> PathBuf {
        self.data_dir.join("subcontainers").join(&self.record.guid)
    }

    /// Its mounts, in the order they were made, as recorded on disk now.
    pub fn mounts(&self) -> Result<Vec<Mount>> {
        Ok(Record::read(&self.dir, &self.record.guid)?.mounts)
    }

    /// Whether nothing was ever mounted in it until this was opened: its processes shared no directory with anybody.
    pub fn was_alone(&self) -> bool {
        !self.record.met_others
    }

    /// Changes the recorded mounts in one step. `change` sees those on disk, and nobody changes them meanwhile;
    /// where it fails, nothing is written.
    pub fn update_mounts<T, E: From<Error>>(
        &self,
        change: impl FnOnce(&mut Vec<Mount>) -> Result<T, E>,
    ) -> Result<T, E> {
        let _lock = self.lock()?;
        let mut record = Record::read(&self.dir, &self.record.guid)?;
        let result = change(&mut record.mounts)?;
        record.met_others |= !record.mounts.is_empty();
        let bytes = record.to_bytes()?;
        let sync = !record.throwaway;
        during(Step::RecordMounts, || replace_file_at(&self.dir, record::FILE, &bytes, 0o600, sync))
            .map_err(Error::kernel("write record of", format!("rootfs {}", self.record.guid)))?;
        Ok(result)
    }

    /// Mounts it where it is not: after the machine was restarted. A throw-away one is lost by then.
    pub fn ensure_mounted(&self) -> Result<()> {
        let _lock = self.lock()?;
        if is_mount(&self.path())? {
            return Ok(());
        }
        self.mount(false).map(drop)
    }

    /// A handle (`O_PATH`) on the root directory of the mounted tree. While it is open, unmounting takes a longer
    /// way: close it before [`Rootfs::destroy`].
    pub fn handle(&self) -> Result<OwnedFd> {
        // What was opened is what is looked at: unmounted meanwhile, the path is a directory of the machine.
        mount_at(&self.path())
            .and_then(|mount| mount.ok_or(Errno::NOTCONN))
            .map_err(Error::kernel("open", format!("rootfs {}", self.record.guid)))
    }

    /// Unmounts and removes a rootfs with all that was written to it. Nothing there is fine, and so is something
    /// half made or half destroyed. The caller has ended its processes.
    pub fn destroy(data_dir: &Path, guid: &str) -> Result<()> {
        record::check_guid(guid)?;
        let failed = |step| Error::kernel(step, format!("rootfs {guid}"));
        let absent = |errno| errno == Errno::NOENT;
        let all = match open_dir(&data_dir.join("rootfs")) {
            Err(errno) if absent(errno) => return Ok(()),
            result => result.map_err(failed("open directory of"))?,
        };
        let dir = match open_dir_at(&all, guid) {
            Ok(dir) => {
                flock(&dir, FlockOperation::LockExclusive).map_err(failed("lock"))?;
                Some(dir)
            }
            Err(errno) if absent(errno) => None,
            Err(errno) => return Err(failed("open directory of")(errno)),
        };
        let target = data_dir.join("subcontainers").join(guid);
        during(Step::UnmountRootfs, || detach::detach(&target)).map_err(failed("unmount"))?;
        match rustix::fs::rmdir(&target) {
            Err(errno) if !absent(errno) => return Err(failed("remove mount point of")(errno)),
            _ => {}
        }
        let have_ids = data_dir.join("ids").exists();
        let sized = dir.as_ref().is_some_and(disk::is_in);
        if sized || have_ids {
            overlay::clear(&data_dir.join("subcontainers"), guid).map_err(failed("unmount layers of"))?;
        }
        point::release(data_dir).map_err(failed("release mount point of"))?;
        let give_back = || match have_ids {
            true => during(Step::GiveBackIds, || ids::give_back(data_dir, guid))
                .map_err(failed("give back ids of")),
            false => Ok(()),
        };
        let Some(dir) = dir else { return give_back() };
        during(Step::RemoveUpper, || {
            disk::remove(&dir).map_err(failed("remove disk of"))?;
            remove_work(&dir).map_err(failed("remove work directory of"))?;
            remove_dir(&dir, "upper").map_err(failed("remove contents of"))
        })?;
        give_back()?;
        // The record goes last: while it is there, this can be found and done again.
        during(Step::RemoveRootfs, || {
            for name in [record::NEW_FILE, record::FILE] {
                match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
                    Err(errno) if !absent(errno) => return Err(failed("remove record of")(errno)),
                    _ => {}
                }
            }
            remove_dir(&all, guid).map_err(failed("remove directory of"))
        })
    }

    /// Unmounts `D/subcontainers` when no rootfs is mounted there: nothing of ours is left in the machine's mounts.
    /// It is made again when it is needed. For whoever has destroyed the last one and is about to end.
    pub fn release(data_dir: &Path) -> Result<()> {
        point::release(data_dir).map_err(Error::kernel("unmount", "subcontainers"))
    }

    /// Gives back ids that were taken for a rootfs that was never made: its maker was killed. For a daemon that starts.
    pub fn give_back_stale_ids(store: &Store) -> Result<()> {
        let dirs = &store.dirs;
        if !dirs.path.join("ids").exists() {
            return Ok(());
        }
        // Who takes ids has the lock, shared, until their rootfs has a record.
        let sweep = || store.lock(FlockOperation::LockExclusive).and_then(|_lock| ids::sweep(&dirs.path));
        sweep().map_err(Error::kernel("give back", "ids of nobody"))
    }

    /// Held until dropped; another process's destroy or mount of the same rootfs waits.
    fn lock(&self) -> Result<OwnedFd> {
        lock_dir(&self.dir).map_err(Error::kernel("lock", format!("rootfs {}", self.record.guid)))
    }

    /// Makes the overlay and attaches it. Returns what its layers' ids are mapped by.
    fn mount(&self, new: bool) -> Result<(Option<Arc<OwnedFd>>, Spent)> {
        let record = &self.record;
        let failed = |step| Error::kernel(step, format!("rootfs {}", record.guid));
        let lowers = self.open_layers()?;
        let features = Features::get();
        let point = point::attach(&self.data_dir).map_err(failed("prepare mount point of"))?;
        let disk = match record.size {
            Some(size) => Some(
                disk::Mounted::new(&self.dir, size, record.throwaway, &point, &record.guid, features)
                    .map_err(|source| Error::Disk { guid: record.guid.clone(), source: Box::new(source) })?,
            ),
            None => None,
        };
        let base = disk.as_ref().map(|disk| disk.root()).transpose().map_err(failed("open disk of"))?;
        let base = base.as_ref().unwrap_or(&self.dir);
        let (upper, work) = if new {
            let upper = during(Step::MakeUpper, || make_dir(base, "upper"));
            let upper = upper.map_err(failed("create upper directory of"))?;
            self.dress(&upper, &lowers).map_err(failed("set mode and owner of"))?;
            (upper, make_dir(base, "work").map_err(failed("create work directory of"))?)
        } else {
            // Killed before it was mounted for the first time, it may lack them.
            let parts = ["upper", "work"].map(|name| {
                let missing = open_dir_at(base, name).is_err();
                let part = if missing { make_dir(base, name) } else { open_dir_at(base, name) };
                part.map(|part| (part, missing))
            });
            let [upper, work] = parts;
            let (upper, missing) = upper.map_err(failed("open upper directory of"))?;
            if missing {
                self.dress(&upper, &lowers).map_err(failed("set mode and owner of"))?;
            }
            let (work, _) = work.map_err(failed("open work directory of"))?;
            if record.throwaway && open_dir_at(&work, "work/incompat/volatile").is_ok() {
                return Err(Error::Lost(record.guid.clone()));
            }
            (upper, work)
        };
        match during(Step::MakeMountpoint, || rustix::fs::mkdirat(&point, record.guid.as_str(), Mode::RWXU)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed("create mount point of")(errno)),
        }
        let lowers: Vec<&OwnedFd> = self.distinct().into_iter().rev().map(|index| &lowers[index]).collect();
        let seen = match record.ids {
            Some(first) => {
                let seen = || overlay::Seen::new(&lowers, first, &point, &record.guid, features);
                Some(during(Step::MapLayers, seen).map_err(failed("map ids of layers of"))?)
            }
            None => None,
        };
        let lowers = seen.as_ref().map_or(lowers, overlay::Seen::layers);
        let layers =
            overlay::Layers { lowers: &lowers, upper: &upper, work: &work, volatile: record.throwaway };
        during(Step::MountRootfs, || overlay::mount(&layers, &point, &record.guid, features))
            .map_err(|source| Error::Overlay { guid: record.guid.clone(), source: Box::new(source) })?;
        let namespace = seen.as_ref().map(overlay::Seen::namespace);
        Ok((namespace, seen.map_or_else(Spent::default, overlay::Seen::spent)))
    }

    /// Handles on the trees of all layers, lowest first; at least one.
    fn open_layers(&self) -> Result<Vec<OwnedFd>> {
        if self.record.layers.len() > overlay::MOST_LAYERS {
            return Err(Error::TooManyLayers {
                image: self.record.image.map(|image| image.to_string()).unwrap_or_default(),
                layers: self.record.layers.len(),
            });
        }
        let store = self.data_dir.join("store");
        if self.record.layers.is_empty() {
            return Ok(vec![open_dir(&store.join("empty")).map_err(Error::kernel("open", "empty layer"))?]);
        }
        let layers =
            open_dir(&store.join("layers/sha256")).map_err(Error::kernel("open", "layers of the store"))?;
        let open = |layer: &Digest| {
            open_dir_at(&layers, format!("{}/fs", layer.hex()))
                .map_err(Error::kernel("open layer", layer.to_string()))
        };
        self.record.layers.iter().map(open).collect()
    }

    /// Indexes of the layers without repetitions: the same directory twice is an error to overlay, and of a layer
    /// that is applied again above, nothing shows below.
    fn distinct(&self) -> Vec<usize> {
        let layers = &self.record.layers;
        if layers.is_empty() {
            return vec![0];
        }
        (0..layers.len()).filter(|index| !layers[index + 1..].contains(&layers[*index])).collect()
    }

    /// Gives the upper directory, which is what `/` shows, the looks of the image's root.
    fn dress(&self, upper: &OwnedFd, lowers: &[OwnedFd]) -> Result<(), Errno> {
        use rustix::fs::{Gid, Uid};
        // An id that the image should not have is nobody's inside.
        let own = |id: u32| match self.record.ids {
            Some(first) => first + id.min(RANGE - 1),
            None => id,
        };
        let Some(root) = self.record.root.and_then(|index| lowers.get(index)) else {
            rustix::fs::fchown(upper, Some(Uid::from_raw(own(0))), Some(Gid::from_raw(own(0))))?;
            return rustix::fs::fchmod(upper, Mode::from_raw_mode(0o755));
        };
        let stat = rustix::fs::fstat(root)?;
        let (uid, gid) = (own(stat.st_uid), own(stat.st_gid));
        if (uid, gid) != (0, 0) {
            rustix::fs::fchown(upper, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        // After the owner, whose change takes setuid bits away.
        rustix::fs::fchmod(upper, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        for (name, value) in crate::tar::read_xattrs(root.as_fd())? {
            if crate::layer::keep_xattr(&name) {
                rustix::fs::fsetxattr(upper, &name[..], &value, XattrFlags::empty())?;
            }
        }
        Ok(())
    }
}

/// An own open file description: a lock on `dir` would be shared with whoever has a duplicate of it.
fn lock_dir(dir: &OwnedFd) -> Result<OwnedFd, Errno> {
    let dir = open_dir_at(dir, ".")?;
    flock(&dir, FlockOperation::LockExclusive).map(|()| dir)
}

fn make_dir(dir: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(dir, name, Mode::RWXU)?;
    open_dir_at(dir, name)
}

/// Removes overlay's work directory. Where a throw-away rootfs was never used for more than reading and writing,
/// what is in it is known (6 calls, not 30); else it is removed as any tree.
fn remove_work(dir: &OwnedFd) -> Result<(), Errno> {
    // Nothing inside a container reaches this directory, so it holds no links to be led by.
    let dirty = rustix::fs::unlinkat(dir, "work/work/incompat/volatile/dirty", AtFlags::empty());
    if dirty.is_ok() {
        for known in ["work/work/incompat/volatile", "work/work/incompat"] {
            match rustix::fs::unlinkat(dir, known, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    match rustix::fs::unlinkat(dir, "work/work", AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => remove_dir(dir, "work"),
        Err(errno) => Err(errno),
    }
}

/// Is something mounted at exactly this path?
fn is_mount(path: &Path) -> Result<bool> {
    mount_at(path)
        .map(|mount| mount.is_some())
        .map_err(|errno| Error::kernel("look at", path.display().to_string())(errno))
}

/// A handle on the root directory of what is mounted at exactly this path.
fn mount_at(path: &Path) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(handle) => Ok(linux::mount::identify(&handle)?.is_root.then_some(handle)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}
