//! The three threads of a layer and what they check on the way.

use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use protocol::ErrorKind;
use sha2::{Digest as _, Sha256};

use super::chunk::{CHUNK, Chunk, Pool};
use super::{Layer, Unpacked, unpack};
use crate::tar::Input;
use crate::{Cancel, Digest, Error, Limits, Progress, Refusal, Result};

/// Chunks that wait between two threads at most.
const QUEUE: usize = 8;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Reads it from the first bytes.
pub(crate) fn sniff(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // A zstd frame, or one of its skippable frames.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// The decompressed bytes of a stream, whatever it is.
pub(crate) fn decoder<'r>(mut bytes: impl BufRead + 'r) -> io::Result<Box<dyn Read + 'r>> {
    Ok(match sniff(bytes.fill_buf()?) {
        Compression::None => Box::new(bytes),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(bytes)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(bytes)?),
    })
}

/// What thread 2 hashes.
enum Hash {
    Stored(Chunk),
    Plain(Chunk),
}

pub(super) fn run(
    layer: Layer<'_>,
    root: OwnedFd,
    limits: &Limits,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Unpacked> {
    let Layer { label, bytes, digest, size, diff_id } = layer;
    if size.is_some_and(|size| size > limits.compressed) {
        return Err(Error::Layer { layer: label, reason: Refusal::CompressedTooLarge(limits.compressed) });
    }
    let pool = Pool::default();
    let (to_hash, hash_queue) = sync_channel(2 * QUEUE);
    let (to_tar, tar_queue) = sync_channel(QUEUE);
    std::thread::scope(|scope| {
        let hasher = scope.spawn(move || hash(&hash_queue));
        let feeder = Feeder { label: &label, size, limits, progress, cancel, pool: pool.clone(), to_hash };
        let failed = to_tar.clone();
        let reader = scope.spawn(move || {
            let (result, whole) = feeder.run(bytes, &to_tar);
            if let Err(error) = result {
                // Nobody listens where the unpacking failed first, and then its error is the one to tell.
                _ = failed.send(Err(error));
            }
            whole
        });
        let input = Queue { queue: tar_queue, chunk: None, at: 0 };
        let unpacked = unpack::unpack(input, &label, root, diff_id.is_none(), limits);
        // Joined in any case: scope would, but a panic in there must not be lost.
        let joined = reader.join();
        let hashed = hasher.join();
        let (Ok(whole), Ok((stored, plain))) = (joined, hashed) else {
            return Err(Error::Read {
                subject: format!("layer {label}"),
                source: io::Error::other("a thread panicked"),
            });
        };
        let verify = |subject: String, expected: Option<Digest>, actual: Digest| match expected {
            Some(expected) if expected != actual => Err(Error::Digest { subject, expected, actual }),
            _ => Ok(()),
        };
        let verified = verify(format!("layer {label}"), digest, stored.unwrap_or(plain));
        let counted = match unpacked {
            // Bytes that are not the promised ones are a better reason than what they led to.
            Err(error) if whole && matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Escape) => {
                return Err(verified.err().unwrap_or(error));
            }
            unpacked => unpacked?,
        };
        verified?;
        verify(format!("contents of layer {label}"), diff_id, plain)?;
        Ok(Unpacked {
            diff_id: plain,
            size: counted.size,
            entries: counted.entries,
            has_root: counted.has_root,
        })
    })
}

fn hash(queue: &Receiver<Hash>) -> (Option<Digest>, Digest) {
    let (mut stored, mut plain) = (None, Sha256::new());
    for chunk in queue {
        match chunk {
            Hash::Stored(chunk) => stored.get_or_insert_with(Sha256::new).update(&*chunk),
            Hash::Plain(chunk) => plain.update(&*chunk),
        }
    }
    (stored.map(Digest::finish), Digest::finish(plain))
}

/// Thread 1.
struct Feeder<'a> {
    label: &'a str,
    size: Option<u64>,
    limits: &'a Limits,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    pool: Pool,
    to_hash: SyncSender<Hash>,
}

impl Feeder<'_> {
    /// Reads to the end in any case that is not a limit or a cancellation, so that the digest of the whole is known;
    /// the second value says whether it did.
    fn run(self, bytes: Box<dyn Read + Send + '_>, to_tar: &SyncSender<Result<Chunk>>) -> (Result<()>, bool) {
        let stage = format!("layer {}", self.label.get(..19).unwrap_or(self.label));
        let mut tee = Tee {
            feeder: &self,
            stage,
            bytes,
            chunk: None,
            at: 0,
            read: 0,
            compressed: false,
            stopped: None,
            halted: false,
        };
        let result = self.decode(&mut tee, to_tar);
        let drained = tee.drain();
        let whole = drained.is_ok() && !tee.halted;
        let sized = self.check_size(tee.read);
        (result.and(drained).and(sized), whole)
    }

    fn decode(&self, tee: &mut Tee<'_>, to_tar: &SyncSender<Result<Chunk>>) -> Result<()> {
        let head = tee.fill_buf().map(sniff);
        let compression = head.map_err(|source| tee.error(source))?;
        tee.compressed = compression != Compression::None;
        let mut produced = 0_u64;
        if compression == Compression::None {
            // Plain bytes go on as they are: hashed once, as contents, for the two digests are one.
            loop {
                match tee.fill_buf() {
                    Ok([]) => return Ok(()),
                    Ok(_) => {}
                    Err(source) => return Err(tee.error(source)),
                }
                let Some(chunk) = tee.chunk.take() else { return Ok(()) };
                produced += chunk.len() as u64;
                if let Err(refused) = self.check_expanded(produced, tee.read, false) {
                    // This chunk was not hashed, so no digest would be right.
                    tee.halted = true;
                    return Err(refused);
                }
                if !self.send(chunk, to_tar) {
                    return Ok(());
                }
            }
        }
        if let Some(first) = tee.chunk.clone() {
            // The first chunk was fetched before it was known to be compressed.
            _ = self.to_hash.send(Hash::Stored(first));
        }
        if compression == Compression::Gzip {
            let mut decoder = flate2::bufread::MultiGzDecoder::new(tee);
            return self.inflate(&mut decoder, |decoder| decoder.get_mut(), to_tar, &mut produced);
        }
        let failed = |source| Error::Read { subject: format!("layer {}", self.label), source };
        let mut decoder = zstd::Decoder::with_buffer(tee).map_err(failed)?;
        self.inflate(&mut decoder, |decoder| decoder.get_mut(), to_tar, &mut produced)
    }

    fn inflate<'t, D: Read>(
        &self,
        decoder: &mut D,
        tee: impl for<'d> Fn(&'d mut D) -> &'d mut Tee<'t>,
        to_tar: &SyncSender<Result<Chunk>>,
        produced: &mut u64,
    ) -> Result<()> {
        loop {
            let mut buffer = self.pool.take();
            let mut filled = 0;
            while filled < CHUNK {
                match decoder.read(&mut buffer[filled..]) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(tee(decoder).error(error)),
                }
            }
            if filled == 0 {
                return Ok(());
            }
            *produced += filled as u64;
            let read = tee(decoder).read;
            self.check_expanded(*produced, read, true)?;
            if !self.send(self.pool.share(buffer, filled), to_tar) {
                return Ok(());
            }
        }
    }

    /// Passes plain bytes on; false where nobody wants more.
    fn send(&self, chunk: Chunk, to_tar: &SyncSender<Result<Chunk>>) -> bool {
        self.to_hash.send(Hash::Plain(chunk.clone())).is_ok() && to_tar.send(Ok(chunk)).is_ok()
    }

    fn refused(&self, reason: Refusal) -> Error {
        Error::Layer { layer: self.label.to_owned(), reason }
    }

    fn check_expanded(&self, expanded: u64, read: u64, compressed: bool) -> Result<()> {
        if expanded > self.limits.expanded {
            return Err(self.refused(Refusal::ExpandedTooLarge(self.limits.expanded)));
        }
        if compressed && expanded > self.limits.ratio_from && expanded / self.limits.ratio > read {
            return Err(self.refused(Refusal::Ratio(self.limits.ratio)));
        }
        Ok(())
    }

    fn check_size(&self, actual: u64) -> Result<()> {
        match self.size {
            Some(expected) if expected != actual => {
                Err(Error::Size { subject: format!("layer {}", self.label), expected, actual })
            }
            _ => Ok(()),
        }
    }
}

/// The stored bytes, counted, limited, and shown to the hasher as they pass.
struct Tee<'t> {
    feeder: &'t Feeder<'t>,
    stage: String,
    bytes: Box<dyn Read + Send + 't>,
    chunk: Option<Chunk>,
    at: usize,
    read: u64,
    compressed: bool,
    /// The error behind an [`io::Error`] that had to pass through a decoder.
    stopped: Option<Error>,
    /// A limit was reached, or it was cancelled: nothing more is to be read.
    halted: bool,
}

impl Tee<'_> {
    /// The error to tell for one that came out of a decoder.
    fn error(&mut self, source: io::Error) -> Error {
        self.stopped
            .take()
            .unwrap_or_else(|| Error::Read { subject: format!("layer {}", self.feeder.label), source })
    }

    fn stop(&mut self, error: Error) -> io::Error {
        self.stopped = Some(error);
        self.halted = true;
        io::Error::other("stopped")
    }

    /// Reads what is left, for the hasher alone.
    fn drain(&mut self) -> Result<()> {
        while !self.halted {
            match self.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(_) => {}
                Err(source) => return Err(self.error(source)),
            }
            if let Some(chunk) = self.chunk.take().filter(|_| !self.compressed) {
                _ = self.feeder.to_hash.send(Hash::Plain(chunk));
            }
        }
        Ok(())
    }

    fn fetch(&mut self) -> io::Result<()> {
        let feeder = self.feeder;
        if let Err(cancelled) = feeder.cancel.check() {
            return Err(self.stop(cancelled));
        }
        let mut buffer = feeder.pool.take();
        let mut filled = 0;
        while filled < CHUNK {
            match self.bytes.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.read += filled as u64;
        if self.read > feeder.limits.compressed {
            return Err(self.stop(feeder.refused(Refusal::CompressedTooLarge(feeder.limits.compressed))));
        }
        if let Some(expected) = feeder.size.filter(|expected| self.read > *expected) {
            let (subject, actual) = (format!("layer {}", feeder.label), self.read);
            return Err(self.stop(Error::Size { subject, expected, actual }));
        }
        feeder.progress.update(&self.stage, self.read, feeder.size);
        let chunk = feeder.pool.share(buffer, filled);
        if self.compressed && filled > 0 {
            // The hasher ends only after this thread.
            _ = feeder.to_hash.send(Hash::Stored(chunk.clone()));
        }
        (self.chunk, self.at) = (Some(chunk), 0);
        Ok(())
    }
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Tee<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.chunk.as_ref().is_none_or(|chunk| self.at == chunk.len()) {
            self.fetch()?;
        }
        Ok(self.chunk.as_ref().map_or(&[], |chunk| &chunk[self.at..]))
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

/// Thread 3's end of the plain bytes.
struct Queue {
    queue: Receiver<Result<Chunk>>,
    chunk: Option<Chunk>,
    at: usize,
}

impl Input for Queue {
    fn chunk(&mut self, max: usize) -> Result<&[u8]> {
        if self.chunk.as_ref().is_none_or(|chunk| self.at == chunk.len()) {
            self.at = 0;
            self.chunk = match self.queue.recv() {
                Ok(chunk) => Some(chunk?),
                // The sender is gone: that was all.
                Err(_) => None,
            };
        }
        let Some(chunk) = &self.chunk else { return Ok(&[]) };
        let start = self.at;
        self.at = chunk.len().min(start.saturating_add(max));
        Ok(&chunk[start..self.at])
    }
}

/// A buffered reader with this crate's chunk size.
pub(crate) fn buffered<'r>(bytes: impl Read + 'r) -> BufReader<impl Read + 'r> {
    BufReader::with_capacity(CHUNK, bytes)
}
