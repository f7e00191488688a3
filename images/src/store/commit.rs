//! The last step of an import: what was unpacked becomes an image.

use std::collections::BTreeSet;

use linux::step::{Step, during};
use protocol::image::ImageInfo;
use rustix::fs::{AtFlags, FlockOperation};
use rustix::io::Errno;

use super::{LayerRecord, Record, Work, names, now};
use crate::config::Config;
use crate::{Digest, Error, Result, start_sdk};
use linux::tree::{read_file_at, replace_file_at};

/// An image all of whose layers are in the work directory or in the store.
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Option<Vec<u8>>,
}

impl Work<'_> {
    /// Makes the image visible: first everything to disk, then renames only: layers, blobs, the record, the name.
    /// Killed or cut off anywhere in between, it leaves layers and blobs that nothing names. Journals keep the
    /// order of renames, so after a power cut the record is there only if what it names is.
    pub(crate) fn commit(self, image: Image) -> Result<ImageInfo> {
        let store = self.store();
        let dirs = &store.dirs;
        let digest = Digest::of(&image.config);
        let failed = |step| Error::kernel(step, format!("image {digest}"));
        let config = Config::parse(&image.config, &format!("config {digest}"))?;
        let (mut size, mut root) = (0, None);
        let mut unpacked = BTreeSet::new();
        for (index, diff_id) in config.diff_ids.iter().enumerate() {
            let record = match self.own_layer(diff_id)? {
                Some(record) => {
                    unpacked.insert(*diff_id);
                    record
                }
                None => store.layer_record(diff_id)?.ok_or_else(|| Error::Document {
                    document: format!("image {digest}"),
                    reason: format!("layer {diff_id} is missing"),
                })?,
            };
            size += record.size;
            root = if record.has_root { Some(index) } else { root };
        }
        let manifest = image.manifest.as_deref().map(Digest::of);
        let record = Record {
            digest,
            manifest,
            os: config.os,
            architecture: config.architecture,
            layers: config.diff_ids,
            root,
            size,
            imported: store.record(&digest).map_or_else(|_| now(), |known| known.imported),
            config: config.run,
        };
        let bytes = serde_json::to_vec(&record)
            .map_err(|source| Error::Damaged { file: format!("{digest}.json"), source })?;
        let work = self.handle().map_err(failed("commit"))?;
        let mut blobs = vec![(digest.hex(), image.config.as_slice())];
        if let (Some(manifest), Some(bytes)) = (manifest, image.manifest.as_deref()) {
            blobs.push((manifest.hex(), bytes));
        }
        // With nothing unpacked, these few files are all there is to sync; else one call takes all.
        let each = unpacked.is_empty();
        for (hex, bytes) in &blobs {
            replace_file_at(work, &format!("blob-{hex}"), bytes, 0o600, each)
                .map_err(failed("write blobs of"))?;
        }
        replace_file_at(work, "record", &bytes, 0o600, each).map_err(failed("write record of"))?;
        if !each {
            // Before the lock: this takes as long as the disk needs for what was unpacked.
            rustix::fs::syncfs(work).map_err(failed("write to disk"))?;
        }

        let _lock = store.lock(FlockOperation::LockExclusive).map_err(failed("lock the store for"))?;
        for diff_id in &unpacked {
            let hex = diff_id.hex();
            let moved = || rustix::fs::renameat(work, hex.as_str(), &dirs.layers, hex.as_str());
            match during(Step::CommitLayers, moved) {
                Ok(()) => {}
                // Another import was faster: the same bytes. Ours goes with the work directory.
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(errno) => return Err(Error::kernel("commit layer", diff_id.to_string())(errno)),
            }
        }
        for (hex, _) in &blobs {
            let moved = || rustix::fs::renameat(work, format!("blob-{hex}"), &dirs.blobs, hex.as_str());
            during(Step::CommitBlobs, moved).map_err(failed("commit blobs of"))?;
        }
        let mut names = names::read(dirs)?;
        let (new_image, new_name) = (store.record(&digest).is_err(), !names.contains_key(&image.name));
        let file = format!("{}.json", digest.hex());
        let mut shown = || {
            start_sdk::write(&dirs.start_sdk, &image.name, &record)?;
            rustix::fs::renameat(work, "record", &dirs.images, file.as_str())
                .map_err(failed("commit record of"))?;
            names.insert(image.name.clone(), digest);
            names::write(dirs, &names)
        };
        if let Err(error) = during(Step::CommitImage, &mut shown) {
            // The first error is the one to tell. Where this fails too, gc finds what no name points to.
            if new_image {
                _ = rustix::fs::unlinkat(&dirs.images, file.as_str(), AtFlags::empty());
            }
            if new_name {
                _ = start_sdk::remove(&dirs.start_sdk, &image.name);
            }
            return Err(error);
        }
        let info = names::info(record, &names);
        self.end()?;
        Ok(info)
    }

    /// A layer that this work unpacked.
    pub(crate) fn own_layer(&self, diff_id: &Digest) -> Result<Option<LayerRecord>> {
        let file = format!("{}/layer.json", diff_id.hex());
        match self.handle().and_then(|work| read_file_at(work, file.as_str())) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Damaged { file, source })
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::kernel("read record of layer", diff_id.to_string())(errno)),
        }
    }
}
