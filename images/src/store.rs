//! The image store.
//!
//! ```text
//! D/                                 0711  data directory
//! ├── images/                        0755  for start-sdk, derived from the store (see start_sdk)
//! │   ├── <name>.json  <name>.env
//! ├── rootfs/                        0700  see rootfs
//! ├── subcontainers/                 0700  see rootfs
//! └── store/                         0700  device nodes and set-uid files of strangers lie beneath
//!     ├── lock                             flock: shared to use what is there, exclusive to take away or commit
//!     ├── names.json                       {"name": "sha256:…"}
//!     ├── empty/                           lower directory of an image without layers
//!     ├── images/<config hex>.json         record: what ImageInfo shows, layers in order
//!     ├── blobs/sha256/<hex>               manifests and configs, byte for byte
//!     ├── layers/sha256/<diff id hex>/
//!     │   ├── layer.json                   size, entries, whether it describes its root
//!     │   └── fs/                          the unpacked tree: a lower directory of overlay
//!     ├── partial/<hex>                    blobs of a pull under way or broken off, to be resumed
//!     └── tmp/<random>/                    work under way; its owner holds a flock on it
//!         ├── uses/<diff id hex>           layers of the store that this work counts on
//!         └── <diff id hex>/{layer.json,fs/}
//! ```
//! An image is visible when its record is; the record is renamed into place last, after a syncfs, so no record
//! names a layer that is not wholly on disk, also after a power cut. What a killed process leaves is in `tmp` and
//! goes at the next open, or is a layer or blob that no record names and goes at the next [`Store::gc`]. A reader
//! needs no lock: nothing that is visible ever changes, it only appears and disappears whole.

mod commit;
mod gc;
mod names;
mod work;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::image::{ImageConfig, ImageInfo, RemovedResult};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

pub(crate) use commit::Image;
pub(crate) use names::check as check_name;
pub(crate) use work::Work;

use crate::{Cancel, Digest, Error, Limits, Progress, Pull, Result, archive, registry};
use linux::tree::{ensure_dir, ensure_dir_at, open_dir_at, read_file_at, text_names_in};

/// The image store of a data directory. Cheap to clone, safe to use from several threads and processes.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) dirs: Arc<Dirs>,
    limits: Limits,
}

#[derive(Debug)]
pub(crate) struct Dirs {
    pub(crate) path: PathBuf,
    pub(crate) rootfs: OwnedFd,
    pub(crate) start_sdk: OwnedFd,
    pub(crate) store: OwnedFd,
    pub(crate) images: OwnedFd,
    pub(crate) blobs: OwnedFd,
    pub(crate) layers: OwnedFd,
    pub(crate) partial: OwnedFd,
    pub(crate) tmp: OwnedFd,
}

/// `images/<config hex>.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Record {
    pub(crate) digest: Digest,
    pub(crate) manifest: Option<Digest>,
    pub(crate) os: String,
    pub(crate) architecture: String,
    pub(crate) layers: Vec<Digest>,
    /// Index of the topmost layer that says what the root directory's mode and owner are.
    pub(crate) root: Option<usize>,
    pub(crate) size: u64,
    pub(crate) imported: u64,
    pub(crate) config: ImageConfig,
}

/// `layers/sha256/<hex>/layer.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct LayerRecord {
    pub(crate) size: u64,
    pub(crate) entries: u64,
    pub(crate) has_root: bool,
}

impl Store {
    /// Opens the store of a data directory, making what is missing.
    pub fn open(data_dir: &Path) -> Result<Self> {
        Self::open_with(data_dir, Limits::default())
    }

    /// The same with other limits on what may be imported.
    pub fn open_with(data_dir: &Path, limits: Limits) -> Result<Self> {
        let failed = |name: &str| Error::kernel("open directory", data_dir.join(name).display().to_string());
        let root = ensure_dir(data_dir, 0o711).map_err(failed(""))?;
        let sub =
            |parent: &OwnedFd, name: &str, mode| ensure_dir_at(parent, name, mode).map_err(failed(name));
        let start_sdk = sub(&root, "images", 0o755)?;
        let rootfs = sub(&root, "rootfs", 0o700)?;
        // A mount point of its own once a rootfs was mounted, so not confined to this mount.
        ensure_dir(&data_dir.join("subcontainers"), 0o700).map_err(failed("subcontainers"))?;
        let store = sub(&root, "store", 0o700)?;
        sub(&store, "empty", 0o755)?;
        let dirs = Dirs {
            path: data_dir.to_owned(),
            rootfs,
            start_sdk,
            images: sub(&store, "images", 0o700)?,
            blobs: sub(&sub(&store, "blobs", 0o700)?, "sha256", 0o700)?,
            layers: sub(&sub(&store, "layers", 0o700)?, "sha256", 0o700)?,
            partial: sub(&store, "partial", 0o700)?,
            tmp: sub(&store, "tmp", 0o700)?,
            store,
        };
        let opened = Self { dirs: Arc::new(dirs), limits };
        opened.sweep()?;
        Ok(opened)
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.dirs.path
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Imports an image from a file or directory: an OCI layout (directory or archive), a docker-archive, a rootfs
    /// tar (plain, gzip, zstd) or a rootfs directory; which one, is read from the bytes. Its name is `name`, else
    /// that in the archive, else the file's own. An archive with several images needs a `name` that is one of its.
    pub fn import(
        &self,
        path: &Path,
        name: Option<&str>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<ImageInfo> {
        if let Some(name) = name {
            names::check(name)?;
        }
        archive::import(self, path, name, progress, cancel)
    }

    /// Pulls an image from a registry. Blocks; runs its own network thread. What was fetched when it breaks off is
    /// kept and used by the next pull of the same blobs, or goes with [`Store::gc`].
    pub fn pull(&self, what: &Pull<'_>, progress: &dyn Progress, cancel: &Cancel) -> Result<ImageInfo> {
        names::check(what.name.unwrap_or(what.reference))?;
        registry::pull(self, what, progress, cancel)
    }

    /// Fetches an artifact that is no image: the one layer of this type that it has, of at most so many bytes, verified,
    /// in a file that is the caller's alone. Blocks; not to be called where tasks run.
    pub fn artifact(
        &self,
        what: &Pull<'_>,
        media_type: &str,
        most: u64,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<File> {
        registry::artifact(self, what, media_type, most, progress, cancel)
    }

    /// Every image, oldest first.
    pub fn list(&self) -> Result<Vec<ImageInfo>> {
        let names = names::read(&self.dirs)?;
        let mut images = Vec::new();
        for digest in self.digests()? {
            // It may have been removed since the directory was read.
            match self.record(&digest) {
                Ok(record) => images.push(names::info(record, &names)),
                Err(Error::UnknownImage(_)) => {}
                Err(error) => return Err(error),
            }
        }
        images.sort_by(|one, other| (one.imported, &one.digest).cmp(&(other.imported, &other.digest)));
        Ok(images)
    }

    /// The image with this name, this digest, or whose digest begins so.
    pub fn get(&self, image: &str) -> Result<ImageInfo> {
        let record = self.find(image)?;
        Ok(names::info(record, &names::read(&self.dirs)?))
    }

    /// How this image wants to be run.
    pub fn run_config(&self, image: &Digest) -> Result<ImageConfig> {
        self.record(image).map(|record| record.config)
    }

    /// The bytes of the image's config, as they came.
    pub fn config(&self, image: &str) -> Result<Vec<u8>> {
        let record = self.find(image)?;
        read_file_at(&self.dirs.blobs, record.digest.hex()).map_err(Error::kernel("read config of", image))
    }

    /// Removes the image with this name or digest, its names, and the layers that no other image has. Refused with
    /// [`Error::ImageInUse`] while a rootfs stands on it. A name that is not the image's only one is removed alone.
    pub fn remove(&self, image: &str) -> Result<RemovedResult> {
        gc::remove(self, image)
    }

    /// Removes what nothing needs: images without name and rootfs, layers and blobs without image, and what was
    /// left by killed imports and broken pulls.
    pub fn gc(&self, progress: &dyn Progress) -> Result<RemovedResult> {
        gc::gc(self, progress)
    }

    pub(crate) fn find(&self, image: &str) -> Result<Record> {
        if let Some(digest) = names::read(&self.dirs)?.get(image) {
            return self.record(digest);
        }
        let hex = image.strip_prefix("sha256:").unwrap_or(image);
        if let Some(digest) = Digest::from_hex(hex) {
            return self.record(&digest).map_err(|error| match error {
                Error::UnknownImage(_) => Error::UnknownImage(image.to_owned()),
                other => other,
            });
        }
        if hex.is_empty() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::UnknownImage(image.to_owned()));
        }
        let matches: Vec<Digest> =
            self.digests()?.into_iter().filter(|digest| digest.hex().starts_with(hex)).collect();
        match matches.as_slice() {
            [] => Err(Error::UnknownImage(image.to_owned())),
            [digest] => self.record(digest),
            _ => Err(Error::AmbiguousImage { prefix: image.to_owned(), matches: matches.len() }),
        }
    }

    pub(crate) fn digests(&self) -> Result<Vec<Digest>> {
        // A handle of its own: reading a directory moves its position.
        let dir = open_dir_at(&self.dirs.images, ".").map_err(Error::kernel("read directory", "images"))?;
        let names = text_names_in(&dir).map_err(Error::kernel("read directory", "images"))?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name.strip_suffix(".json")?)).collect())
    }

    pub(crate) fn record(&self, digest: &Digest) -> Result<Record> {
        let file = format!("{}.json", digest.hex());
        match read_file_at(&self.dirs.images, file.as_str()) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { file, source }),
            Err(Errno::NOENT) => Err(Error::UnknownImage(digest.to_string())),
            Err(errno) => Err(Error::kernel("read record of", digest.to_string())(errno)),
        }
    }

    pub(crate) fn layer_record(&self, diff_id: &Digest) -> Result<Option<LayerRecord>> {
        let file = format!("{}/layer.json", diff_id.hex());
        match read_file_at(&self.dirs.layers, file.as_str()) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Damaged { file, source })
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::kernel("read record of layer", diff_id.to_string())(errno)),
        }
    }

    /// Holds the store's lock until dropped.
    pub(crate) fn lock(&self, how: FlockOperation) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dirs.store, "lock", flags, Mode::from_raw_mode(0o600))?;
        flock(&file, how)?;
        Ok(file)
    }
}

/// flock, going on after a signal.
pub(crate) fn flock(file: impl AsFd, how: FlockOperation) -> Result<(), Errno> {
    loop {
        match rustix::fs::flock(&file, how) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
