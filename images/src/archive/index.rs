//! The members of a tar file by name, without reading them.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use crate::layer::{buffered, decoder};
use crate::tar::{Input, Kind, Reader, has_right_sum};
use crate::{Error, Limits, Result};

/// Bytes `start..end` of a file, with a position of their own.
pub(crate) struct Region {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Region {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = rustix::io::pread(&*self.file, &mut buffer[..most], self.at)?;
        if read == 0 && most > 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.at += read as u64;
        Ok(read)
    }
}

/// A file read with few calls where headers are near, and jumped over where they are not.
struct Seeking {
    file: Arc<File>,
    path: String,
    at: u64,
    size: u64,
    buffer: Vec<u8>,
    start: u64,
}

impl Input for Seeking {
    fn chunk(&mut self, max: usize) -> Result<&[u8]> {
        let inside = self.at >= self.start && self.at < self.start + self.buffer.len() as u64;
        if !inside {
            self.buffer.resize(4096, 0);
            let read = rustix::io::pread(&*self.file, &mut self.buffer[..], self.at)
                .map_err(|errno| Error::Read { subject: self.path.clone(), source: errno.into() })?;
            self.buffer.truncate(read);
            self.start = self.at;
        }
        let from = usize::try_from(self.at - self.start).unwrap_or(usize::MAX);
        let to = from.saturating_add(max).min(self.buffer.len());
        self.at += (to - from) as u64;
        Ok(&self.buffer[from..to])
    }

    fn skip(&mut self, bytes: u64) -> Result<bool> {
        self.at = self.at.saturating_add(bytes);
        Ok(self.at <= self.size)
    }
}

enum Member {
    File { start: u64, size: u64 },
    Link(String),
}

/// The members of an archive. A later one of the same name replaces an earlier.
pub(crate) struct Members {
    file: Arc<File>,
    members: HashMap<String, Member>,
}

impl Members {
    pub(crate) fn read(file: &Arc<File>, path: &str, limits: &Limits) -> Result<Self> {
        let failed = |source| Error::Read { subject: path.to_owned(), source };
        let size = file.metadata().map_err(failed)?.len();
        let input = Seeking {
            file: Arc::clone(file),
            path: path.to_owned(),
            at: 0,
            size,
            buffer: Vec::new(),
            start: 0,
        };
        let mut reader = Reader::new(input, path, limits);
        let mut members = HashMap::new();
        let mut first = true;
        while let Some(entry) = reader.next(true)? {
            let Some(name) = member_name(&entry.path) else { continue };
            if name.is_empty() {
                continue;
            }
            if std::mem::take(&mut first) && !is_archive_name(&name) {
                // A root file system: thousands of names that nobody will ask for.
                return Ok(Self { file: Arc::clone(file), members: HashMap::new() });
            }
            let start = reader.position();
            match entry.kind {
                Kind::File if entry.sparse.is_none() => {
                    members.insert(name, Member::File { start, size: entry.size });
                }
                Kind::Symlink | Kind::HardLink => {
                    let target = String::from_utf8_lossy(&entry.link).into_owned();
                    let target = match (entry.kind, name.rsplit_once('/')) {
                        (Kind::Symlink, Some((parent, _))) if !target.starts_with('/') => {
                            format!("{parent}/{target}")
                        }
                        _ => target,
                    };
                    members.insert(name, Member::Link(target));
                }
                _ => {}
            }
            if members.len() as u64 > limits.entries {
                return Err(reader.layer_error(crate::Refusal::TooManyEntries(limits.entries)));
            }
        }
        Ok(Self { file: Arc::clone(file), members })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// A member's bytes and their number; links are followed among the members only.
    pub(crate) fn open(&self, name: &str) -> Option<(Region, u64)> {
        let mut name = lexical(name)?;
        // Archives of `docker save` share layers by links, one deep.
        for _ in 0..4 {
            match self.members.get(&name)? {
                Member::File { start, size } => {
                    return Some((
                        Region { file: Arc::clone(&self.file), at: *start, end: start.checked_add(*size)? },
                        *size,
                    ));
                }
                Member::Link(target) => name = lexical(target)?,
            }
        }
        None
    }
}

/// Components without `.` and with `..` taken back; `None` where that leaves the archive.
fn lexical(path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn member_name(path: &[u8]) -> Option<String> {
    lexical(std::str::from_utf8(path).ok()?)
}

/// Do archives of images have a member of this name? Old `docker save` begins with directories of hex digits.
fn is_archive_name(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or(name);
    matches!(first, "oci-layout" | "index.json" | "manifest.json" | "repositories" | "blobs")
        || first
            .split('.')
            .next()
            .is_some_and(|stem| stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Is the first header that of a tar? Its checksum says so, for every variant.
pub(crate) fn looks_like_tar(head: &[u8]) -> bool {
    let Ok(block) = <&[u8; 512]>::try_from(head) else { return false };
    if block.iter().all(|byte| *byte == 0) {
        // An empty archive.
        return true;
    }
    has_right_sum(tar::Header::from_byte_slice(block))
}

/// Does a compressed tar begin with a member of an image archive?
pub(crate) fn begins_like_an_archive(file: File, path: &str, limits: &Limits) -> Result<bool> {
    let failed = |source| Error::Read { subject: path.to_owned(), source };
    let input = Streaming {
        bytes: decoder(buffered(file)).map_err(failed)?,
        path: path.to_owned(),
        buffer: vec![0; 512],
    };
    let mut reader = Reader::new(input, path, limits);
    // A directory or two for the root may come first.
    for _ in 0..4 {
        let Some(entry) = reader.next(true)? else { break };
        match member_name(&entry.path) {
            Some(name) if name.is_empty() => {}
            Some(name) => return Ok(is_archive_name(&name)),
            None => break,
        }
    }
    Ok(false)
}

struct Streaming<'r> {
    bytes: Box<dyn Read + 'r>,
    path: String,
    buffer: Vec<u8>,
}

impl Input for Streaming<'_> {
    fn chunk(&mut self, max: usize) -> Result<&[u8]> {
        let most = max.min(self.buffer.len());
        let failed = |source| Error::Read { subject: self.path.clone(), source };
        let read = self.bytes.read(&mut self.buffer[..most]).map_err(failed)?;
        Ok(&self.buffer[..read])
    }
}
