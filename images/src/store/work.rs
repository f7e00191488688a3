//! Work under way: a directory in `tmp` that its owner has locked.

use std::os::fd::OwnedFd;

use linux::step::{Step, during};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{Dirs, LayerRecord, Store, flock};
use crate::{Digest, Error, Result};
use linux::tree::{ensure_dir_at, open_dir_at, random_name, remove_all, replace_file_at, text_names_in};

/// Released with [`Work::end`]; dropping it does the same without a word.
pub(crate) struct Work<'s> {
    store: &'s Store,
    name: String,
    pub(super) dir: Option<OwnedFd>,
}

impl<'s> Work<'s> {
    pub(crate) fn begin(store: &'s Store) -> Result<Self> {
        let failed = Error::kernel("begin work in", "store/tmp");
        // Shared: a sweep, which holds it exclusively, must not see the directory before it is locked.
        let begun = || {
            let _lock = store.lock(FlockOperation::LockShared)?;
            let name = random_name()?;
            let dir = ensure_dir_at(&store.dirs.tmp, &name, 0o700)?;
            let work = Self { store, name, dir: Some(dir) };
            flock(work.handle()?, FlockOperation::NonBlockingLockExclusive)?;
            ensure_dir_at(work.handle()?, "uses", 0o700)?;
            Ok(work)
        };
        during(Step::BeginWork, begun).map_err(failed)
    }

    pub(super) fn store(&self) -> &'s Store {
        self.store
    }

    pub(super) fn handle(&self) -> Result<&OwnedFd, Errno> {
        self.dir.as_ref().ok_or(Errno::BADF)
    }

    /// Is this layer in the store? If so, it stays until this work ends.
    pub(crate) fn uses(&self, diff_id: &Digest) -> Result<Option<LayerRecord>> {
        let failed = || Error::kernel("mark as used the layer", diff_id.to_string());
        let _lock = self.store.lock(FlockOperation::LockShared).map_err(failed())?;
        let record = self.store.layer_record(diff_id)?;
        if record.is_some() {
            self.mark(diff_id).map_err(failed())?;
        }
        Ok(record)
    }

    pub(super) fn mark(&self, diff_id: &Digest) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        rustix::fs::openat(
            self.handle()?,
            format!("uses/{}", diff_id.hex()),
            flags,
            Mode::from_raw_mode(0o600),
        )
        .map(drop)
    }

    /// An empty directory to unpack a layer into. `name` is free to choose; [`Work::finish_layer`] gives the right one.
    pub(crate) fn layer(&self, name: &str) -> Result<OwnedFd> {
        let made = || {
            let layer = ensure_dir_at(self.handle()?, name, 0o700)?;
            ensure_dir_at(&layer, "fs", 0o755)
        };
        made().map_err(Error::kernel("create directory for layer", name))
    }

    /// Writes the layer's record and names it by its contents.
    pub(crate) fn finish_layer(&self, name: &str, diff_id: &Digest, record: &LayerRecord) -> Result<()> {
        let bytes = serde_json::to_vec(record)
            .map_err(|source| Error::Damaged { file: "layer.json".to_owned(), source })?;
        let finished = || {
            let dir = self.handle()?;
            let layer = open_dir_at(dir, name)?;
            replace_file_at(&layer, "layer.json", &bytes, 0o600, false)?;
            match rustix::fs::renameat(dir, name, dir, diff_id.hex()) {
                // The same layer twice in one image.
                Err(Errno::NOTEMPTY | Errno::EXIST) => remove_all(dir, name),
                result => result,
            }
        };
        during(Step::FinishLayer, finished).map_err(Error::kernel("finish layer", diff_id.to_string()))
    }

    /// Removes a layer that was unpacked in vain.
    pub(crate) fn forget_layer(&self, diff_id: &Digest) -> Result<()> {
        let removed = self.handle().and_then(|dir| remove_all(dir, diff_id.hex()));
        removed.map_err(Error::kernel("remove unpacked layer", diff_id.to_string()))
    }

    /// An unnamed file for what must be read more than once.
    pub(crate) fn spool(&self) -> Result<std::fs::File> {
        let opened = self.handle().and_then(|dir| {
            rustix::fs::openat(
                dir,
                ".",
                OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o600),
            )
        });
        opened.map(std::fs::File::from).map_err(Error::kernel("create spool file in", "store/tmp"))
    }

    /// Removes what is left of it.
    pub(crate) fn end(mut self) -> Result<()> {
        self.remove().map_err(Error::kernel("remove", format!("store/tmp/{}", self.name)))
    }

    fn remove(&mut self) -> Result<(), Errno> {
        if self.dir.is_some() {
            during(Step::EndWork, || remove_all(&self.store.dirs.tmp, self.name.as_str()))?;
            // The lock goes last, with the directory it is on.
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

impl Store {
    /// Removes the work of those who are gone. Where somebody is at work on the store this very moment, it is left
    /// to the next who opens it.
    pub(super) fn sweep(&self) -> Result<u64> {
        let failed = || Error::kernel("sweep", "store/tmp");
        if self.temporary().map_err(failed())?.is_empty() {
            return Ok(0);
        }
        let _lock = match self.lock(FlockOperation::NonBlockingLockExclusive) {
            Ok(lock) => lock,
            Err(Errno::WOULDBLOCK) => return Ok(0),
            Err(errno) => return Err(failed()(errno)),
        };
        let mut swept = 0;
        for name in self.temporary().map_err(failed())? {
            if !is_alive(&self.dirs, &name).map_err(failed())? {
                remove_all(&self.dirs.tmp, name.as_str()).map_err(failed())?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    pub(super) fn temporary(&self) -> Result<Vec<String>, Errno> {
        text_names_in(open_dir_at(&self.dirs.tmp, ".")?)
    }

    /// Layers that work under way counts on. The caller holds the store's lock exclusively.
    pub(super) fn used_by_work(&self) -> Result<Vec<Digest>, Errno> {
        let mut used = Vec::new();
        for name in self.temporary()? {
            // Work ends without the lock, and then needs nothing any more.
            match open_dir_at(&self.dirs.tmp, format!("{name}/uses")).and_then(text_names_in) {
                Ok(uses) => used.extend(uses.iter().filter_map(|hex| Digest::from_hex(hex))),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(used)
    }
}

/// Does somebody hold the lock of this directory in `tmp`?
fn is_alive(dirs: &Dirs, name: &str) -> Result<bool, Errno> {
    let dir = match open_dir_at(&dirs.tmp, name) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(true),
        Err(Errno::NOTDIR) => return Ok(false),
        Err(errno) => return Err(errno),
    };
    match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno),
    }
}
