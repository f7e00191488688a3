//! Backups of packages: one directory for each in a target, made by the host alone.
//!
//! ```text
//! TARGET/.start-container-backup.lock   held by whoever works on the target
//! TARGET/<id>/backup.json               the last backup that is whole: whose, which version, when, and the digest of …
//! TARGET/<id>/<time>-<random>.tar.zst   … this file: store.json, volumes/<name>/…, own/…
//! TARGET/<id>/<time>-<random>.partial   one that is being written, or was when its host was killed
//! ```
//!
//! ```text
//! lock ─▶ *.partial, what backup.json does not name: removed ─▶ .partial, fsync ─▶ .tar.zst ─▶ backup.json.new, fsync ─▶ backup.json ─▶ former file removed
//! lock ─▶ backup.json: form, whose ─▶ unpacked beside the data, its digest on the way ─▶ good, or refused
//! ```
//! Whenever that is killed, `backup.json` names a file that is whole: the former one or the new one. Owners are numbers as they
//! are stored, which are those that a container sees: the range that its sandbox has on a machine is in no file.
//!
//! Nothing of a target is trusted when it is read: it may be a stick that was somewhere else. Paths are made beneath the directory
//! that is unpacked into, through no link, and nothing is written over. Never looks at a package's live data when it unpacks.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use linux::step::{Step, during};
use linux::tree;
use protocol::{Digest, ErrorKind};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

mod pack;
mod unpack;

/// The version of the form.
pub const FORM: u32 = 1;

const LOCK: &str = ".start-container-backup.lock";
const MANIFEST: &str = "backup.json";
const PARTIAL: &str = ".partial";
const WHOLE: &str = ".tar.zst";
/// The longest `backup.json`, in bytes.
const LONGEST: u64 = 1 << 20;

/// What a backup is: `backup.json`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// The version of the form.
    pub form: u32,
    /// Whose it is.
    pub package_id: String,
    /// The version that it had.
    pub version: String,
    /// Of its bundle.
    pub bundle: Digest,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created: u64,
    /// What made it.
    pub made_by: String,
    /// Its volumes that are in it.
    pub volumes: Vec<String>,
    /// The file.
    pub file: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
    /// Bytes of the files in it.
    pub bytes: u64,
    /// How many things are in it.
    pub entries: u64,
    /// Sockets and devices, which are in no backup.
    pub left_out: u64,
}

/// What is to be backed up.
#[derive(Debug)]
pub struct What<'a> {
    /// Whose.
    pub package_id: &'a str,
    /// Its version.
    pub version: String,
    /// Of its bundle.
    pub bundle: Digest,
    /// Now.
    pub created: u64,
    /// What makes it.
    pub made_by: &'a str,
    /// What the package keeps with the host: `store.json`.
    pub store: &'a [u8],
    /// Its volumes.
    pub volumes: Vec<(String, OwnedFd)>,
    /// What it has added itself.
    pub own: Option<OwnedFd>,
}

/// How far it is, and whether anybody still wants it.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Bytes done, and in all.
    pub progress: &'a dyn Fn(u64, u64),
    /// Asked from time to time.
    pub cancelled: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

/// Why there is no backup, or it is not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a step.
    #[error("cannot {step} {subject}")]
    Kernel {
        /// What was being done.
        step: &'static str,
        /// To what.
        subject: String,
        /// Why not.
        source: Errno,
    },
    /// The file could not be written or read.
    #[error("cannot {step} {subject}")]
    Archive {
        /// What was being done.
        step: &'static str,
        /// Of what.
        subject: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Somebody else works on the target.
    #[error("somebody else works on {0}")]
    Busy(String),
    /// There is no backup of it.
    #[error("no backup of {package} in {target}")]
    NotThere {
        /// Whose.
        package: String,
        /// Where.
        target: String,
    },
    /// It is not what it should be. Nothing was changed.
    #[error("the backup is refused: {0}")]
    Refused(String),
    /// Nobody wants it any more.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// What sort of failure it is, as the wire has it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        let of = |errno: Errno| match errno {
            Errno::NOENT => ErrorKind::NotFound,
            Errno::NOSPC | Errno::DQUOT => ErrorKind::Exhausted,
            Errno::LOOP | Errno::XDEV => ErrorKind::Escape,
            _ => ErrorKind::Kernel,
        };
        match self {
            Self::Kernel { source, .. } => of(*source),
            Self::Archive { source, .. } => Errno::from_io_error(source).map_or(ErrorKind::Kernel, of),
            Self::Busy(_) | Self::Cancelled => ErrorKind::Busy,
            Self::NotThere { .. } => ErrorKind::NotFound,
            Self::Refused(_) => ErrorKind::Corrupt,
        }
    }

    fn kernel(step: &'static str, subject: impl std::fmt::Display) -> impl FnOnce(Errno) -> Self {
        let subject = subject.to_string();
        move |source| Self::Kernel { step, subject, source }
    }
}

/// The part of a target that is one package's, which nobody else works on meanwhile.
#[derive(Debug)]
pub struct Target {
    dir: OwnedFd,
    shown: PathBuf,
    package_id: String,
    _lock: OwnedFd,
}

impl Target {
    /// Opens it. `make`: where the package has no part in it yet; the target itself is never made, since a disk that is not
    /// mounted must not be taken for one.
    ///
    /// # Errors
    /// When there is no such directory, somebody else works on it, or there is no backup of the package.
    pub fn open(path: &Path, package_id: &str, make: bool) -> Result<Self, Error> {
        let shown = &path.display();
        crate::id::check("package", package_id).map_err(|error| Error::Refused(error.to_string()))?;
        let target = tree::open_dir(path).map_err(Error::kernel("open backup target", shown))?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let lock = rustix::fs::openat(&target, LOCK, flags, Mode::RUSR | Mode::WUSR)
            .map_err(Error::kernel("open the lock of", shown))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(Error::Busy(shown.to_string())),
            Err(errno) => return Err(Error::kernel("lock", shown)(errno)),
        }
        if make {
            // Modes are not asked for again: a target may be a file system that has none.
            match rustix::fs::mkdirat(&target, package_id, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(Error::kernel("make a directory in", shown)(errno)),
            }
        }
        let dir = match tree::open_dir_at(&target, package_id) {
            Err(Errno::NOENT) => {
                let (package, target) = (package_id.to_owned(), shown.to_string());
                return Err(Error::NotThere { package, target });
            }
            other => other.map_err(Error::kernel("open the part of the package in", shown))?,
        };
        Ok(Self { dir, shown: path.to_owned(), package_id: package_id.to_owned(), _lock: lock })
    }

    /// The backup that is there.
    ///
    /// # Errors
    /// When there is none, it is another package's, of a later form, or cannot be read.
    pub fn manifest(&self) -> Result<Manifest, Error> {
        let refused = |why: String| Err(Error::Refused(why));
        let file = match self.open_file(MANIFEST) {
            Err(Errno::NOENT) => {
                let (package, target) = (self.package_id.clone(), self.shown.display().to_string());
                return Err(Error::NotThere { package, target });
            }
            Err(errno) => return Err(Error::kernel("open", self.shown_file(MANIFEST))(errno)),
            Ok((_, size)) if size > LONGEST => return refused(format!("{MANIFEST} is too long")),
            Ok((file, _)) => file,
        };
        let text = tree::read_all(&file).map_err(Error::kernel("read", self.shown_file(MANIFEST)))?;
        let unread = |error: serde_json::Error| Error::Refused(format!("{MANIFEST} cannot be read: {error}"));
        let loose: serde_json::Value = serde_json::from_slice(&text).map_err(unread)?;
        match loose["form"].as_u64() {
            Some(form) if form > u64::from(FORM) => {
                return refused(format!("a later release has made it (form {form}; this one reads {FORM})"));
            }
            _ => {}
        }
        let manifest: Manifest = serde_json::from_value(loose).map_err(unread)?;
        if manifest.form != FORM {
            return refused(format!("form {} is none", manifest.form));
        }
        if manifest.package_id != self.package_id {
            // It names itself: nothing of it may move a cursor.
            let whose: String = manifest.package_id.chars().take(64).flat_map(char::escape_default).collect();
            return refused(format!("it is one of {whose}, not of {}", self.package_id));
        }
        if !is_plain(&manifest.file, WHOLE) {
            return refused("the file that it names is none of a backup".to_owned());
        }
        for volume in &manifest.volumes {
            if crate::id::check("volume", volume).is_err() {
                return refused("a volume that it names cannot be one".to_owned());
            }
        }
        Ok(manifest)
    }

    /// Writes a backup, and puts it in the place of the former one when it is whole and on disk.
    ///
    /// # Errors
    /// When something cannot be read, or the target cannot be written or is full. The former one is there then, and nothing of
    /// this one.
    pub fn write(&self, what: &What<'_>, watch: Watch<'_>) -> Result<Manifest, Error> {
        self.clean()?;
        let random = tree::random_name().map_err(Error::kernel("name", "a backup"))?;
        let name = format!("{}-{random}", what.created);
        let (partial, whole) = (format!("{name}{PARTIAL}"), format!("{name}{WHOLE}"));
        let written = self.write_as(what, &partial, &whole, watch);
        if written.is_err() {
            // What stays is removed by the next one.
            for name in [&partial, &whole] {
                _ = rustix::fs::unlinkat(&self.dir, name.as_str(), AtFlags::empty());
            }
        }
        let manifest = written?;
        // The former one, whose place was taken. What stays is removed by the next one.
        _ = self.clean();
        Ok(manifest)
    }

    fn write_as(
        &self,
        what: &What<'_>,
        partial: &str,
        whole: &str,
        watch: Watch<'_>,
    ) -> Result<Manifest, Error> {
        let packed = during(Step::WriteBackup, || {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&self.dir, partial, flags, Mode::RUSR | Mode::WUSR)
                .map_err(Error::kernel("create", self.shown_file(partial)))?;
            pack::pack(file, what, &self.shown_file(partial), watch)
        })?;
        let manifest = Manifest {
            form: FORM,
            package_id: what.package_id.to_owned(),
            version: what.version.clone(),
            bundle: what.bundle,
            created: what.created,
            made_by: what.made_by.to_owned(),
            volumes: what.volumes.iter().map(|(name, _)| name.clone()).collect(),
            file: whole.to_owned(),
            size: packed.size,
            digest: packed.digest,
            bytes: packed.bytes,
            entries: packed.entries,
            left_out: packed.left_out,
        };
        let mut text = serde_json::to_vec_pretty(&manifest).map_err(|error| Error::Archive {
            step: "write",
            subject: self.shown_file(MANIFEST),
            source: error.into(),
        })?;
        text.push(b'\n');
        during(Step::CommitBackup, || {
            rustix::fs::renameat(&self.dir, partial, &self.dir, whole)
                .and_then(|()| rustix::fs::fsync(&self.dir))
                .and_then(|()| self.replace_manifest(&text))
                .map_err(Error::kernel("write", self.shown_file(MANIFEST)))
        })?;
        Ok(manifest)
    }

    /// Unpacks a backup into a directory that is empty: `store.json`, `volumes/`, `own/`. It is good when this has returned, and on
    /// disk.
    ///
    /// # Errors
    /// When its digest is not what the manifest says, it is cut off, holds what no backup holds, or the disk is full.
    pub fn unpack(&self, manifest: &Manifest, into: BorrowedFd<'_>, watch: Watch<'_>) -> Result<(), Error> {
        let (file, size) =
            self.open_file(&manifest.file).map_err(Error::kernel("open", self.shown_file(&manifest.file)))?;
        if size != manifest.size {
            let why = format!("{} has {size} bytes, not {}", manifest.file, manifest.size);
            return Err(Error::Refused(why));
        }
        let room = rustix::fs::fstatvfs(into).map_err(Error::kernel("look at the room for", "the data"))?;
        if manifest.bytes > room.f_bavail.saturating_mul(room.f_frsize) {
            return Err(Error::kernel("make room for", format!("{} bytes", manifest.bytes))(Errno::NOSPC));
        }
        unpack::unpack(file, manifest, into, watch)?;
        rustix::fs::syncfs(into).map_err(Error::kernel("write", "what was unpacked"))
    }

    /// In one step.
    fn replace_manifest(&self, text: &[u8]) -> Result<(), Errno> {
        let new = format!("{MANIFEST}.new");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, new.as_str(), flags, Mode::RUSR | Mode::WUSR)?;
        tree::write_all(&file, text)?;
        rustix::fs::fsync(&file)?;
        rustix::fs::renameat(&self.dir, new.as_str(), &self.dir, MANIFEST)?;
        rustix::fs::fsync(&self.dir)
    }

    /// A regular file, and its size.
    fn open_file(&self, name: &str) -> Result<(OwnedFd, u64), Errno> {
        // A fifo must not make us wait for who writes to it.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat2(&self.dir, name, flags, Mode::empty(), tree::BENEATH)?;
        let stat = rustix::fs::fstat(&file)?;
        match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::RegularFile => Ok((file, stat.st_size.unsigned_abs())),
            _ => Err(Errno::NOTSUP),
        }
    }

    /// Removes what killed backups have left. Files that are none of a backup stay.
    fn clean(&self) -> Result<(), Error> {
        // One that cannot be read may be good for somebody else: it is not written over.
        let known = match self.manifest() {
            Ok(manifest) => Some(manifest.file),
            Err(Error::NotThere { .. }) => None,
            Err(error) => return Err(error),
        };
        for name in tree::text_names_in(&self.dir).map_err(Error::kernel("list", self.shown.display()))? {
            let left = is_plain(&name, PARTIAL) || (is_plain(&name, WHOLE) && known.as_ref() != Some(&name));
            if left {
                rustix::fs::unlinkat(&self.dir, name.as_str(), AtFlags::empty())
                    .map_err(Error::kernel("remove", self.shown_file(&name)))?;
            }
        }
        Ok(())
    }

    fn shown_file(&self, name: &str) -> String {
        self.shown.join(&self.package_id).join(name).display().to_string()
    }
}

/// Whether it is a name that this module gives.
fn is_plain(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|stem| {
        !stem.is_empty()
            && stem.len() < 100
            && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

/// Where things are in the archive.
const STORE: &str = "store.json";
const VOLUMES: &str = "volumes";
const OWN: &str = "own";
