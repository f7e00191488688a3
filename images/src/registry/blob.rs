//! One blob: fetched, resumed, verified.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::time::Duration;

use futures_util::StreamExt as _;
use oci_client::client::BlobResponse;
use oci_client::errors::OciDistributionError;
use oci_spec::image::Descriptor;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::{Registry, causes};
use crate::archive::oci::digest_of;
use crate::store::{Store, flock};
use crate::{Cancel, Digest, Error, Progress, Refusal, Result};
use linux::tree::write_all;

/// How often in a row something may fail without progress, and how long to wait in between.
#[derive(Default)]
pub(super) struct Patience {
    failures: u32,
}

const FAILURES: u32 = 5;

impl Patience {
    /// Waits longer each time; false when it has been enough.
    pub(super) async fn again(&mut self, cancel: &Cancel) -> Result<bool> {
        self.failures += 1;
        if self.failures >= FAILURES {
            return Ok(false);
        }
        let mut wait = Duration::from_millis(200 << self.failures);
        let step = Duration::from_millis(50);
        while !wait.is_zero() {
            cancel.check()?;
            tokio::time::sleep(step).await;
            wait = wait.saturating_sub(step);
        }
        Ok(true)
    }
}

/// Could it be better the next time?
pub(super) fn is_passing(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::RequestError(_) | OciDistributionError::IoError(_) => true,
        OciDistributionError::ServerError { code, .. } => matches!(code, 408 | 429 | 500..),
        OciDistributionError::RegistryError { envelope, .. } => envelope
            .errors
            .iter()
            .any(|error| matches!(error.code, oci_client::errors::OciErrorCode::Toomanyrequests)),
        _ => false,
    }
}

/// Removes what was kept of a blob.
pub(super) fn remove(store: &Store, digest: &Digest) -> Result<()> {
    match rustix::fs::unlinkat(&store.dirs.partial, digest.hex(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::kernel("remove partial download", digest.to_string())(errno)),
    }
}

/// Opens the file of a blob, as its only user.
async fn open(store: &Store, digest: &Digest, cancel: &Cancel) -> Result<File> {
    let failed = || Error::kernel("open partial download", digest.to_string());
    loop {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&store.dirs.partial, digest.hex(), flags, Mode::from_raw_mode(0o600))
            .map_err(failed())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                // Another pull fetches the same. When it is done, the layer is in the store, or the file is ours.
                cancel.check()?;
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            Err(errno) => return Err(failed()(errno)),
        }
        // It may have been removed between the two calls.
        if rustix::fs::fstat(&file).map_err(failed())?.st_nlink > 0 {
            return Ok(File::from(file));
        }
    }
}

impl Registry {
    /// Fetches a blob into its file and verifies it. The file is returned from its beginning.
    pub(super) async fn blob(
        &self,
        store: &Store,
        descriptor: Descriptor,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(Digest, File)> {
        let digest = digest_of(&descriptor, "manifest")?;
        let size = descriptor.size();
        let label = format!("layer {digest}");
        let limit = store.limits().compressed;
        if size > limit {
            return Err(Error::Layer {
                layer: digest.to_string(),
                reason: Refusal::CompressedTooLarge(limit),
            });
        }
        let mut file = open(store, &digest, cancel).await?;
        let stage = format!("fetch {}", &digest.to_string()[..19]);
        let read = |source| Error::Read { subject: format!("partial download {digest}"), source };
        let mut fetched = Fetched::resume(&mut file, size).map_err(read)?;
        let mut patience = Patience::default();
        let text = digest.to_string();
        while fetched.bytes < size {
            let before = fetched.bytes;
            let (error, passing) = match self
                .client
                .pull_blob_stream_partial(&self.reference, text.as_str(), fetched.bytes, None)
                .await
            {
                Err(error) => (self.error(&format!("fetch {label}"), &error), is_passing(&error)),
                Ok(response) => {
                    let mut stream = match response {
                        BlobResponse::Partial(stream) => stream.stream,
                        BlobResponse::Full(stream) => {
                            // It does not do ranges, or we asked for all.
                            fetched.restart(&mut file).map_err(read)?;
                            stream.stream
                        }
                    };
                    let mut broken = None;
                    while let Some(bytes) = stream.next().await {
                        cancel.check()?;
                        match bytes {
                            Ok(bytes) => fetched.push(&file, &bytes, &digest, size)?,
                            Err(error) => {
                                broken = Some(error);
                                break;
                            }
                        }
                        progress.update(&stage, fetched.bytes, Some(size));
                    }
                    let reason = broken.map_or_else(|| "it ended early".to_owned(), |error| causes(&error));
                    (self.failed(&format!("fetch {label}"), &reason), true)
                }
            };
            if fetched.bytes > before {
                patience = Patience::default();
            }
            if fetched.bytes < size && !(passing && patience.again(cancel).await?) {
                return Err(error);
            }
        }
        let actual = Digest::finish(fetched.hasher);
        if actual != digest {
            // Kept, it would be wrong again the next time.
            remove(store, &digest)?;
            return Err(Error::Digest { subject: label, expected: digest, actual });
        }
        file.seek(SeekFrom::Start(0)).map_err(read)?;
        Ok((digest, file))
    }
}

/// What is there of a blob.
struct Fetched {
    hasher: Sha256,
    bytes: u64,
}

impl Fetched {
    /// Hashes what an earlier attempt left.
    fn resume(file: &mut File, size: u64) -> io::Result<Self> {
        let mut fetched = Self { hasher: Sha256::new(), bytes: 0 };
        if file.metadata()?.len() > size {
            fetched.restart(file)?;
        }
        let mut buffer = vec![0; 1 << 17];
        loop {
            let read = io::Read::read(file, &mut buffer)?;
            if read == 0 {
                return Ok(fetched);
            }
            fetched.hasher.update(&buffer[..read]);
            fetched.bytes += read as u64;
        }
    }

    fn restart(&mut self, file: &mut File) -> io::Result<()> {
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        (self.hasher, self.bytes) = (Sha256::new(), 0);
        Ok(())
    }

    fn push(&mut self, file: &File, bytes: &[u8], digest: &Digest, size: u64) -> Result<()> {
        let actual = self.bytes + bytes.len() as u64;
        if actual > size {
            return Err(Error::Size { subject: format!("layer {digest}"), expected: size, actual });
        }
        write_all(file, bytes).map_err(Error::kernel("write partial download", digest.to_string()))?;
        self.hasher.update(bytes);
        self.bytes = actual;
        Ok(())
    }
}
