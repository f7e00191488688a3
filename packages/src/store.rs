//! Bundles, unpacked, by their digest.
//!
//! ```text
//! DATA_DIR/trust.json               whom the operator trusts
//! DATA_DIR/bundles/                 0700
//!   tmp/<random>/                   work under way, locked by whoever does it
//!   sha256/<hex>/record.json        length, signatures, digest of the tree
//!   sha256/<hex>/fs/…               the files
//! ```
//! A bundle is there whole or not at all: it is unpacked in `tmp`, written to disk, and renamed. One that is killed
//! half-way leaves a directory in `tmp` that nobody holds the lock of; the next who opens the store removes it.
//!
//! Owns those directories. Never decides whether a package may run: it says who vouches for a bundle, and whether the
//! files are still those that were signed.

use std::fs::File;
use std::io::{Read, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use linux::step::{Step, during};
use linux::tree;
use protocol::Digest;
use rustix::fs::{Access, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::bundle::{self, Contents, Envelope, Limits, MANIFEST, Refusal, Sealed};
use crate::files::{self, Tree};
use crate::manifest::Syntax;
use crate::trust::{self, For, Signer};
use crate::{Error, Manifest, Result, Trust};

/// The store of a data directory.
#[derive(Debug)]
pub struct Store {
    data_dir: PathBuf,
    tmp: OwnedFd,
    bundles: OwnedFd,
    limits: Limits,
}

/// What the store knows of a bundle beside its files.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    length: u64,
    tree: Digest,
    files: u64,
    bytes: u64,
    envelope: Envelope,
}

/// A bundle in the store.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its digest.
    pub digest: Digest,
    /// What it says of itself.
    pub manifest: Manifest,
    /// How many files it has.
    pub files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Who vouches for it, of those who may.
    pub signers: Vec<Signer>,
}

impl Store {
    /// Opens the store beneath a data directory, making it where it is missing, and removes what killed work left.
    ///
    /// # Errors
    /// When a directory cannot be made or opened.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let place = data_dir.join("bundles");
        let failed = |step| Error::kernel(step, place.display());
        let root = tree::ensure_dir(&place, 0o700).map_err(failed("open"))?;
        let make = |name| tree::ensure_dir_at(&root, name, 0o700).map_err(failed("open"));
        let store = Self {
            data_dir: data_dir.to_owned(),
            tmp: make("tmp")?,
            bundles: make("sha256")?,
            limits: Limits::default(),
        };
        store.sweep()?;
        Ok(store)
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Where the operator's trust file is.
    #[must_use]
    pub fn trust_file(&self) -> PathBuf {
        self.data_dir.join(trust::FILE)
    }

    /// An unnamed file for a bundle that arrives, on the store's own file system.
    ///
    /// # Errors
    /// When none can be made.
    pub fn spool(&self) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        rustix::fs::openat(&self.tmp, ".", flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(Error::kernel("create a file in", "bundles/tmp"))
    }

    /// A directory to work in, which is gone afterwards: also when this process is killed, with the next open.
    ///
    /// # Errors
    /// When none can be made.
    #[cfg(feature = "fetch")]
    pub(crate) fn scratch(&self) -> Result<Scratch<'_>> {
        let work = Work::begin(self)?;
        let dir = work.directory("scratch", 0o700)?;
        Ok(Scratch { work, dir })
    }

    /// Takes a bundle in. It is copied first, so that nobody can change it between two looks; then it is hashed; then
    /// its signatures are checked against the trust file; and only what a trusted key vouches for is decompressed.
    ///
    /// # Errors
    /// When nobody who is trusted vouches for it, it is not as a bundle must be, or it cannot be written.
    pub fn admit(&self, source: &mut dyn Read, now: u64) -> Result<Stored> {
        self.admit_file(self.copy(source)?, now)
    }

    /// Copies what may be a bundle into a file of our own.
    ///
    /// # Errors
    /// When it is larger than a bundle may be, or cannot be read or written.
    pub fn copy(&self, source: &mut dyn Read) -> Result<File> {
        let mut spool = self.spool()?;
        let copied = std::io::copy(&mut source.take(self.limits.compressed + 1), &mut spool)
            .map_err(Error::io("copy", "the bundle"))?;
        if copied > self.limits.compressed {
            return Err(Error::Bundle(Refusal::TooLarge(self.limits.compressed)));
        }
        spool.flush().and_then(|()| spool.rewind()).map_err(Error::io("copy", "the bundle"))?;
        Ok(spool)
    }

    /// The same for a file that nobody else can write to, as [`Store::spool`] gives one.
    ///
    /// # Errors
    /// As [`Store::admit`].
    pub fn admit_file(&self, file: File, now: u64) -> Result<Stored> {
        let sealed = Sealed::open(file, &self.limits)?;
        let trust = Trust::read(&self.trust_file())?;
        let keys = trust.signers(&sealed, For::Entry, now)?;
        let digest = sealed.digest();
        let mut signers = Vec::new();
        let admit = |manifest: &Manifest| {
            signers = Trust::for_package(&keys, &manifest.id, digest)?;
            Ok(())
        };
        let work = Work::begin(self)?;
        let root = work.directory("fs", 0o755)?;
        let contents = sealed.read(&self.limits, admit, &mut Tree::new(root))?;
        let Contents { manifest, files, bytes, tree } = contents;
        let record = Record { length: sealed.len(), tree, files, bytes, envelope: sealed.envelope().clone() };
        work.commit(&digest, &record)?;
        Ok(Stored { digest, manifest, files, bytes, signers })
    }

    /// A bundle that was taken in, with those who vouch for it today.
    ///
    /// # Errors
    /// When it is not there, or nobody who is still trusted vouches for it.
    pub fn get(&self, digest: &Digest, now: u64) -> Result<Stored> {
        let (dir, record) = self.record(digest)?;
        let trust = Trust::read(&self.trust_file())?;
        let keys = trust.judge(digest, record.length, &record.envelope, For::Use, now)?;
        let manifest = self.manifest_in(&dir, digest)?;
        let signers = Trust::for_package(&keys, &manifest.id, *digest)?;
        Ok(Stored { digest: *digest, manifest, files: record.files, bytes: record.bytes, signers })
    }

    /// The same, and every file is hashed and compared with what was signed. Returns the directory that holds the
    /// files, by handle: what is used is what was looked at.
    ///
    /// # Errors
    /// As [`Store::get`], and when anything was changed.
    pub fn check(&self, digest: &Digest, now: u64) -> Result<(Stored, OwnedFd)> {
        let stored = self.get(digest, now)?;
        let (dir, record) = self.record(digest)?;
        let root = tree::open_dir_at(&dir, "fs").map_err(Error::kernel("open", digest))?;
        let found = files::hash(&root)?;
        if found != record.tree {
            let reason = "its files are not those that were unpacked".to_owned();
            return Err(Error::Changed { digest: *digest, reason });
        }
        Ok((stored, root))
    }

    /// What a bundle says of itself, whoever vouches for it: to look at, not to run.
    ///
    /// # Errors
    /// When it is not there.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        let (dir, _) = self.record(digest)?;
        self.manifest_in(&dir, digest)
    }

    fn manifest_in(&self, dir: &OwnedFd, digest: &Digest) -> Result<Manifest> {
        let text = tree::read_file_at(dir, format!("fs/{MANIFEST}"))
            .map_err(Error::kernel("read the manifest of", digest))?;
        Manifest::read(&text, Syntax::Json)
            .map_err(|source| Error::Manifest { file: format!("{MANIFEST} of {digest}"), source })
    }

    fn record(&self, digest: &Digest) -> Result<(OwnedFd, Record)> {
        let dir = match tree::open_dir_at(&self.bundles, digest.hex()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Err(Error::Unknown(format!("bundle {digest}"))),
            Err(errno) => return Err(Error::kernel("open", digest)(errno)),
        };
        let text =
            tree::read_file_at(&dir, "record.json").map_err(Error::kernel("read the record of", digest))?;
        let record = serde_json::from_slice(&text)
            .map_err(|error| Error::Changed { digest: *digest, reason: error.to_string() })?;
        Ok((dir, record))
    }

    /// Removes a bundle; one that is not there is removed already.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, digest: &Digest) -> Result<()> {
        let failed = || Error::kernel("remove", digest);
        // Out of sight first, in one step: a bundle half removed would look changed.
        let work = Work::begin(self)?;
        match rustix::fs::renameat(&self.bundles, digest.hex(), work.dir()?, "old") {
            Ok(()) => work.end(),
            Err(Errno::NOENT) => work.end(),
            Err(errno) => Err(failed()(errno)),
        }
    }

    /// Whether a bundle is there.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        rustix::fs::accessat(&self.bundles, digest.hex(), Access::EXISTS, rustix::fs::AtFlags::empty())
            .is_ok()
    }

    /// Every bundle there is.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Digest>> {
        let names = tree::open_dir_at(&self.bundles, ".")
            .and_then(tree::text_names_in)
            .map_err(Error::kernel("list", "bundles"))?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name)).collect())
    }

    fn sweep(&self) -> Result<()> {
        let failed = || Error::kernel("sweep", "bundles/tmp");
        let names = tree::open_dir_at(&self.tmp, ".").and_then(tree::text_names_in).map_err(failed())?;
        if names.is_empty() {
            return Ok(());
        }
        // Whoever begins work holds this shared until its own directory is locked.
        match rustix::fs::flock(&self.tmp, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(()),
            Err(errno) => return Err(failed()(errno)),
        }
        let swept = names.iter().try_for_each(|name| {
            let left = match tree::open_dir_at(&self.tmp, name.as_str()) {
                Ok(dir) => rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok(),
                Err(_) => true,
            };
            if left { tree::remove_all(&self.tmp, name.as_str()) } else { Ok(()) }
        });
        rustix::fs::flock(&self.tmp, FlockOperation::Unlock).and(swept).map_err(failed())
    }
}

/// See [`Store::scratch`].
#[cfg(feature = "fetch")]
pub(crate) struct Scratch<'s> {
    work: Work<'s>,
    dir: OwnedFd,
}

#[cfg(feature = "fetch")]
impl Scratch<'_> {
    pub(crate) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Bytes of the files in it, as far as they can be seen while others come and go.
    pub(crate) fn size(&self) -> u64 {
        fn sum(dir: &OwnedFd, depth: u8) -> u64 {
            let Ok(names) = tree::names_in(dir) else { return 0 };
            let sizes = names.into_iter().map(|(name, kind)| match kind {
                rustix::fs::FileType::Directory if depth > 0 => {
                    tree::open_dir_at(dir, &name).map_or(0, |below| sum(&below, depth - 1))
                }
                _ => rustix::fs::statat(dir, &name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
                    .map_or(0, |stat| stat.st_size.cast_unsigned()),
            });
            sizes.fold(0, u64::saturating_add)
        }
        sum(&self.dir, 8)
    }

    /// Removes it.
    pub(crate) fn end(self) -> Result<()> {
        self.work.end()
    }
}

/// A directory in `tmp`, locked as long as it is worked in. Dropped, it is removed without a word; killed, by the next
/// who opens the store.
struct Work<'s> {
    store: &'s Store,
    name: String,
    dir: Option<OwnedFd>,
}

impl<'s> Work<'s> {
    fn begin(store: &'s Store) -> Result<Self> {
        let begun = || {
            // An open file of its own, so that two threads of one process do not share the lock.
            let lock = tree::open_dir_at(&store.tmp, ".")?;
            rustix::fs::flock(&lock, FlockOperation::LockShared)?;
            let name = tree::random_name()?;
            let dir = tree::ensure_dir_at(&store.tmp, &name, 0o700)?;
            rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
            Ok(Self { store, name, dir: Some(dir) })
        };
        during(Step::BeginBundle, begun).map_err(Error::kernel("begin work in", "bundles/tmp"))
    }

    fn dir(&self) -> Result<&OwnedFd> {
        self.dir.as_ref().ok_or_else(|| Error::kernel("work in", "bundles/tmp")(Errno::BADF))
    }

    fn directory(&self, name: &str, mode: u32) -> Result<OwnedFd> {
        tree::ensure_dir_at(self.dir()?, name, mode).map_err(Error::kernel("create", name))
    }

    /// Makes what was unpacked visible: on disk first, then by one rename.
    fn commit(self, digest: &Digest, record: &Record) -> Result<()> {
        let failed = |step| Error::kernel(step, format!("bundle {digest}"));
        let text = serde_json::to_vec(record)
            .map_err(|error| Error::Changed { digest: *digest, reason: error.to_string() })?;
        let (dir, hex) = (self.dir()?, digest.hex());
        let bundle = tree::ensure_dir_at(dir, "bundle", 0o700).map_err(failed("commit"))?;
        rustix::fs::renameat(dir, "fs", &bundle, "fs").map_err(failed("commit"))?;
        tree::replace_file_at(&bundle, "record.json", &text, 0o600, false)
            .map_err(failed("write record of"))?;
        rustix::fs::syncfs(&bundle).map_err(failed("write to disk"))?;
        let rename = || rustix::fs::renameat(dir, "bundle", &self.store.bundles, hex.as_str());
        match during(Step::CommitBundle, rename) {
            Ok(()) => {}
            // It was there. Where its files are still the same they stay, for they may be in use, and only the
            // signatures are new; else this is how an operator mends it.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                let there = tree::open_dir_at(&self.store.bundles, hex.as_str()).map_err(failed("open"))?;
                let same = tree::open_dir_at(&there, "fs")
                    .is_ok_and(|root| files::hash(&root).is_ok_and(|tree| tree == record.tree));
                if same {
                    tree::replace_file_at(&there, "record.json", &text, 0o600, true)
                        .map_err(failed("write record of"))?;
                } else {
                    let swap = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(dir, "bundle", &self.store.bundles, hex.as_str(), swap)
                        .map_err(failed("mend"))?;
                }
            }
            Err(errno) => return Err(failed("commit")(errno)),
        }
        rustix::fs::fsync(&self.store.bundles).map_err(failed("write to disk"))?;
        self.end()
    }

    fn end(mut self) -> Result<()> {
        self.remove().map_err(Error::kernel("remove", format!("bundles/tmp/{}", self.name)))
    }

    fn remove(&mut self) -> std::result::Result<(), Errno> {
        if self.dir.is_some() {
            during(Step::EndBundle, || tree::remove_all(&self.store.tmp, self.name.as_str()))?;
            self.dir = None;
        }
        Ok(())
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        // What stays is found by the next open: the lock goes with the handle.
        _ = self.remove();
    }
}

/// Verifies a bundle against a trust file without taking it in.
///
/// # Errors
/// As [`Store::admit`].
pub fn verify(
    file: File,
    trust: &Trust,
    limits: &Limits,
    now: u64,
) -> Result<(Sealed, Contents, Vec<Signer>)> {
    let sealed = bundle::Sealed::open(file, limits)?;
    let keys = trust.signers(&sealed, For::Entry, now)?;
    let mut signers = Vec::new();
    let admit = |manifest: &Manifest| {
        signers = Trust::for_package(&keys, &manifest.id, sealed.digest())?;
        Ok(())
    };
    let contents = sealed.read(limits, admit, &mut ())?;
    drop(keys);
    Ok((sealed, contents, signers))
}
