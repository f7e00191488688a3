//! Taking away: one image, or everything that nothing needs.
//!
//! Under the exclusive lock things are only renamed into `tmp`, which is quick; the deleting comes after it.

use std::collections::BTreeSet;

use linux::step::{Step, during};
use protocol::image::RemovedResult;
use rustix::fs::{AtFlags, FlockOperation};
use rustix::io::Errno;

use super::{Record, Store, Work, names};
use crate::rootfs;
use crate::{Digest, Error, Progress, Result, start_sdk};
use linux::tree::{open_dir_at, text_names_in};

pub(super) fn remove(store: &Store, image: &str) -> Result<RemovedResult> {
    let work = Work::begin(store)?;
    let mut removed = RemovedResult { removed: Vec::new(), freed: 0 };
    {
        let _lock = store
            .lock(FlockOperation::LockExclusive)
            .map_err(Error::kernel("lock the store to remove", image))?;
        let record = store.find(image)?;
        let mut all = names::read(&store.dirs)?;
        let its: Vec<String> = all
            .iter()
            .filter(|(_, digest)| **digest == record.digest)
            .map(|(name, _)| name.clone())
            .collect();
        let by_name = its.iter().any(|name| name == image);
        if by_name && its.len() > 1 {
            all.remove(image);
            names::write(&store.dirs, &all)?;
            start_sdk::remove(&store.dirs.start_sdk, image)?;
            return work.end().map(|()| removed);
        }
        let users = rootfs::users(store, &record.digest)?;
        if !users.is_empty() {
            return Err(Error::ImageInUse { image: image.to_owned(), rootfs: users });
        }
        during(Step::ForgetImage, || {
            for name in &its {
                all.remove(name);
                start_sdk::remove(&store.dirs.start_sdk, name)?;
            }
            names::write(&store.dirs, &all)?;
            forget(store, &record, &mut removed)
        })?;
        take_layers(store, &work, &mut removed)?;
    }
    work.end()?;
    Ok(removed)
}

pub(super) fn gc(store: &Store, progress: &dyn Progress) -> Result<RemovedResult> {
    store.sweep()?;
    let work = Work::begin(store)?;
    let mut removed = RemovedResult { removed: Vec::new(), freed: 0 };
    {
        let _lock = store.lock(FlockOperation::LockExclusive).map_err(Error::kernel("lock", "the store"))?;
        let names = names::read(&store.dirs)?;
        start_sdk::retain(&store.dirs.start_sdk, |name| names.contains_key(name))?;
        let named: BTreeSet<Digest> = names.into_values().collect();
        for digest in store.digests()? {
            if !named.contains(&digest) && rootfs::users(store, &digest)?.is_empty() {
                forget(store, &store.record(&digest)?, &mut removed)?;
            }
        }
        take_layers(store, &work, &mut removed)?;
        take_blobs(store, &mut removed)?;
        take_partials(store, &mut removed)?;
    }
    progress.update("delete", 0, Some(removed.freed));
    work.end()?;
    progress.update("delete", removed.freed, Some(removed.freed));
    Ok(removed)
}

/// Removes an image's record, and with it the image.
fn forget(store: &Store, record: &Record, removed: &mut RemovedResult) -> Result<()> {
    let digest = record.digest.to_string();
    rustix::fs::unlinkat(&store.dirs.images, format!("{}.json", record.digest.hex()), AtFlags::empty())
        .map_err(Error::kernel("remove record of", digest.clone()))?;
    for blob in [Some(record.digest), record.manifest].into_iter().flatten() {
        match rustix::fs::unlinkat(&store.dirs.blobs, blob.hex(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Error::kernel("remove blob", blob.to_string())(errno)),
        }
    }
    removed.removed.push(digest);
    Ok(())
}

/// Moves the layers that neither an image nor work under way has into `work`, to be deleted with it.
fn take_layers(store: &Store, work: &Work<'_>, removed: &mut RemovedResult) -> Result<()> {
    let failed = || Error::kernel("remove layers from", "the store");
    let mut needed: BTreeSet<Digest> = store.used_by_work().map_err(failed())?.into_iter().collect();
    for digest in store.digests()? {
        needed.extend(store.record(&digest)?.layers);
    }
    let layers = open_dir_at(&store.dirs.layers, ".").and_then(text_names_in).map_err(failed())?;
    for name in layers {
        let Some(diff_id) = Digest::from_hex(&name) else { continue };
        if needed.contains(&diff_id) {
            continue;
        }
        let size = store.layer_record(&diff_id).ok().flatten().map_or(0, |record| record.size);
        let dir = work.handle().map_err(failed())?;
        let moved = || rustix::fs::renameat(&store.dirs.layers, name.as_str(), dir, name.as_str());
        during(Step::TakeLayers, moved).map_err(failed())?;
        removed.freed += size;
        removed.removed.push(diff_id.to_string());
    }
    Ok(())
}

/// Removes blobs that no record names: an import was killed between the two.
fn take_blobs(store: &Store, removed: &mut RemovedResult) -> Result<()> {
    let failed = || Error::kernel("remove blobs from", "the store");
    let mut needed = BTreeSet::new();
    for digest in store.digests()? {
        let record = store.record(&digest)?;
        needed.extend([Some(record.digest), record.manifest].into_iter().flatten().map(|blob| blob.hex()));
    }
    for name in open_dir_at(&store.dirs.blobs, ".").and_then(text_names_in).map_err(failed())? {
        if !needed.contains(&name) {
            rustix::fs::unlinkat(&store.dirs.blobs, name.as_str(), AtFlags::empty()).map_err(failed())?;
            if let Some(digest) = Digest::from_hex(&name) {
                removed.removed.push(digest.to_string());
            }
        }
    }
    Ok(())
}

/// Removes what broken pulls left to resume, unless a pull is at it.
fn take_partials(store: &Store, removed: &mut RemovedResult) -> Result<()> {
    use rustix::fs::{Mode, OFlags};
    let failed = || Error::kernel("remove partial downloads from", "the store");
    for name in open_dir_at(&store.dirs.partial, ".").and_then(text_names_in).map_err(failed())? {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(&store.dirs.partial, name.as_str(), flags, Mode::empty()).map_err(failed())?;
        match super::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => continue,
            Err(errno) => return Err(failed()(errno)),
        }
        removed.freed += rustix::fs::fstat(&file).map_err(failed())?.st_size.cast_unsigned();
        rustix::fs::unlinkat(&store.dirs.partial, name.as_str(), AtFlags::empty()).map_err(failed())?;
    }
    Ok(())
}
