//! The payload, read once from its beginning to its end, in bounded memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;

use protocol::Digest;
use sha2::{Digest as _, Sha256};

use super::expand::{Expanded, Piece};
use super::header::{self, BLOCK, Entry};
use super::path::{ROOTS, Seen};
use super::{Limits, MANIFEST, Refusal, Sealed};
use crate::manifest::{Entry as ManifestEntry, Manifest, MountFrom, Syntax, entry::Program};
use crate::{Error, Result};

/// Where the files of a bundle go, one after the other.
pub trait Sink {
    /// A file begins. Its path has been judged.
    ///
    /// # Errors
    /// Whatever keeps it from being written; reading ends with it.
    fn begin(&mut self, path: &str, executable: bool) -> Result<()>;
    /// More of the file.
    ///
    /// # Errors
    /// As [`Sink::begin`].
    fn data(&mut self, bytes: &[u8]) -> Result<()>;
    /// The file is whole.
    ///
    /// # Errors
    /// As [`Sink::begin`].
    fn end(&mut self) -> Result<()>;
}

/// Nobody wants the files: to verify, or to look.
impl Sink for () {
    fn begin(&mut self, _: &str, _: bool) -> Result<()> {
        Ok(())
    }

    fn data(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What is in a bundle.
#[derive(Clone, Debug)]
pub struct Contents {
    /// Its manifest, whose parts fit each other and the files.
    pub manifest: Manifest,
    /// How many files it has.
    pub files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Of every file's path, mode, size and contents: what the unpacked tree is checked against.
    pub tree: Digest,
}

/// The digest of a tree: of each file in the order of the bundle.
pub(crate) struct TreeHasher(Sha256);

impl TreeHasher {
    pub(crate) fn new() -> Self {
        Self(Sha256::new_with_prefix(b"start-container tree v1\0"))
    }

    pub(crate) fn file(&mut self, path: &str, executable: bool, size: u64, contents: &Digest) {
        self.0.update((path.len() as u64).to_le_bytes());
        self.0.update(path.as_bytes());
        self.0.update([u8::from(executable)]);
        self.0.update(size.to_le_bytes());
        self.0.update(contents.bytes());
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::finish(self.0)
    }
}

impl Sealed {
    /// Reads everything in the bundle and gives the files to `sink`. `admit` sees the manifest before any other file is
    /// looked at, and may refuse it.
    ///
    /// # Errors
    /// When anything in it is not as it must be, or `admit` or `sink` refuses. What the sink was given until then is for
    /// the caller to throw away.
    pub fn read(
        &self,
        limits: &Limits,
        admit: impl FnOnce(&Manifest) -> Result<()>,
        sink: &mut dyn Sink,
    ) -> Result<Contents> {
        let (file, start, length) = self.parts();
        let mut archive = Archive::new(file, start, length, limits)?;
        let (text, mut tree) = archive.manifest(sink)?;
        let manifest = Manifest::read(&text, Syntax::Json)
            .map_err(|source| Error::Manifest { file: MANIFEST.to_owned(), source })?;
        admit(&manifest)?;
        let mut needed = needed(&manifest);
        let (mut files, mut bytes) = (1, text.len() as u64);
        let mut seen = Seen::default();
        let mut last = String::new();
        while let Some(entry) = archive.next()? {
            let refused = |reason| Error::Entry { path: entry.path.clone(), reason };
            judge(&entry, limits).map_err(refused)?;
            if entry.path <= last {
                return Err(refused(Refusal::Order));
            }
            seen.file(&entry.path).map_err(|other| refused(Refusal::Clash(other)))?;
            files += 1;
            if files > limits.files {
                return Err(Error::Bundle(Refusal::TooManyFiles(limits.files)));
            }
            bytes += entry.size;
            let contents = archive.file(&entry, sink)?;
            tree.file(&entry.path, entry.executable, entry.size, &contents);
            needed.retain(|path, _| !is_or_contains(path, &entry.path));
            last = entry.path;
        }
        if let Some((path, field)) = needed.pop_first() {
            return Err(Error::Entry { path, reason: Refusal::Missing(field) });
        }
        Ok(Contents { manifest, files, bytes, tree: tree.finish() })
    }
}

/// Whether a file may be in a bundle, beside the manifest.
pub(super) fn judge(entry: &Entry, limits: &Limits) -> Result<(), Refusal> {
    if !entry.path.split_once('/').is_some_and(|(root, _)| ROOTS.contains(&root)) {
        return Err(Refusal::Place);
    }
    if entry.size > limits.file {
        return Err(Refusal::TooLarge(limits.file));
    }
    Ok(())
}

/// What the manifest names of the bundle: path → field.
pub(super) fn needed(manifest: &Manifest) -> BTreeMap<String, String> {
    let mut needed: BTreeMap<String, String> =
        manifest.files().into_iter().map(|(path, field)| (path.to_string(), field)).collect();
    let programs = manifest.entries.iter().filter_map(|(name, entry)| match entry {
        ManifestEntry::Service(service) => Some((name, &service.program)),
        ManifestEntry::Job(job) => Some((name, &job.program)),
        _ => None,
    });
    for (name, Program { mounts, .. }) in programs {
        for mount in mounts {
            if let MountFrom::Assets(path) = &mount.from {
                let path = match &mount.subpath {
                    Some(subpath) => format!("{path}/{subpath}"),
                    None => path.to_string(),
                };
                needed.insert(path, format!("entries.{name} mounts it"));
            }
        }
    }
    needed
}

/// Whether `file` is what is looked for, or a file in it.
pub(super) fn is_or_contains(wanted: &str, file: &str) -> bool {
    file.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The archive, decompressed as it is read.
struct Archive<'a> {
    expanded: Expanded,
    /// Whether the frame has ended; then, whether something follows it.
    ended: Option<bool>,
    limits: &'a Limits,
    compressed: u64,
    read: u64,
    buffer: Vec<u8>,
    at: usize,
}

impl<'a> Archive<'a> {
    fn new(file: &File, start: u64, length: u64, limits: &'a Limits) -> Result<Self> {
        let expanded = Expanded::of(file, start, length).map_err(compression)?;
        Ok(Self { expanded, ended: None, limits, compressed: length, read: 0, buffer: Vec::new(), at: 0 })
    }

    /// Some bytes, at most so many: where they are in our buffer. None at the end.
    fn read(&mut self, most: usize) -> Result<Range<usize>> {
        if self.at == self.buffer.len() && self.ended.is_none() {
            self.expanded.done(std::mem::take(&mut self.buffer));
            self.at = 0;
            match self.expanded.next().map_err(compression)? {
                Piece::Bytes(bytes) => self.buffer = bytes,
                Piece::End { more } => self.ended = Some(more),
            }
        }
        let read = self.at..self.buffer.len().min(self.at.saturating_add(most));
        self.at = read.end;
        self.read += read.len() as u64;
        if self.read > self.limits.expanded {
            return Err(Error::Bundle(Refusal::ExpandsTooFar(self.limits.expanded)));
        }
        let bound = self.compressed.saturating_mul(self.limits.ratio);
        if self.read > self.limits.ratio_from && self.read > bound {
            return Err(Error::Bundle(Refusal::Ratio(self.limits.ratio)));
        }
        Ok(read)
    }

    fn block(&mut self) -> Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let read = self.read(BLOCK - filled)?;
            if read.is_empty() {
                return Err(Error::Bundle(Refusal::Truncated));
            }
            block[filled..filled + read.len()].copy_from_slice(&self.buffer[read.clone()]);
            filled += read.len();
        }
        Ok(block)
    }

    /// The next file's header; none at the end, which is two blocks of zeros and then nothing.
    fn next(&mut self) -> Result<Option<Entry>> {
        let block = self.block()?;
        if block != [0; BLOCK] {
            return header::read(&block).map(Some).map_err(|(path, reason)| Error::Entry { path, reason });
        }
        let ends = self.block()? == [0; BLOCK] && self.read(1)?.is_empty() && self.ended == Some(false);
        if !ends {
            return Err(Error::Bundle(Refusal::Trailing));
        }
        Ok(None)
    }

    /// A file's contents, to the sink.
    fn file(&mut self, entry: &Entry, sink: &mut dyn Sink) -> Result<Digest> {
        sink.begin(&entry.path, entry.executable)?;
        let mut hasher = Sha256::new();
        let mut left = entry.size;
        while left > 0 {
            let read = self.read(usize::try_from(left).unwrap_or(usize::MAX))?;
            if read.is_empty() {
                return Err(Error::Bundle(Refusal::Truncated));
            }
            left -= read.len() as u64;
            let bytes = &self.buffer[read];
            hasher.update(bytes);
            sink.data(bytes)?;
        }
        let mut padding = usize::try_from(entry.size.wrapping_neg() % BLOCK as u64).unwrap_or(0);
        while padding > 0 {
            let read = self.read(padding)?;
            if read.is_empty() {
                return Err(Error::Bundle(Refusal::Truncated));
            }
            padding -= read.len();
            if self.buffer[read].iter().any(|byte| *byte != 0) {
                return Err(Error::Entry { path: entry.path.clone(), reason: Refusal::NotCanonical });
            }
        }
        sink.end()?;
        Ok(Digest::finish(hasher))
    }

    /// The first file: its text, and the tree's digest begun with it.
    fn manifest(&mut self, sink: &mut dyn Sink) -> Result<(Vec<u8>, TreeHasher)> {
        struct Keep<'s>(Vec<u8>, &'s mut dyn Sink);
        impl Sink for Keep<'_> {
            fn begin(&mut self, path: &str, executable: bool) -> Result<()> {
                self.1.begin(path, executable)
            }

            fn data(&mut self, bytes: &[u8]) -> Result<()> {
                self.0.extend_from_slice(bytes);
                self.1.data(bytes)
            }

            fn end(&mut self) -> Result<()> {
                self.1.end()
            }
        }
        let entry = self.next()?.filter(|entry| entry.path == MANIFEST && !entry.executable);
        let entry = entry.ok_or(Error::Bundle(Refusal::NoManifest))?;
        let most = crate::manifest::MAX_BYTES as u64;
        if entry.size > most {
            return Err(Error::Entry { path: entry.path, reason: Refusal::TooLarge(most) });
        }
        let mut keep = Keep(Vec::new(), sink);
        let contents = self.file(&entry, &mut keep)?;
        let mut tree = TreeHasher::new();
        tree.file(&entry.path, false, entry.size, &contents);
        Ok((keep.0, tree))
    }
}

fn compression(error: std::io::Error) -> Error {
    match rustix::io::Errno::from_io_error(&error) {
        Some(source) => Error::Kernel { step: "read", subject: "the bundle".to_owned(), source },
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => Error::Bundle(Refusal::Truncated),
        None => Error::Bundle(Refusal::Compression(error.to_string())),
    }
}
