//! One layer: bytes in, a verified tree out.
//!
//! ```text
//!  thread 1: read -> inflate -------------+----> thread 3: tar -> tree beneath a handle
//!                |  compressed bytes      |  plain bytes
//!                +---------> thread 2: sha256 of both
//! ```
//! The chunks are shared, not copied, the queues are short, and the kernel spreads the three over what cores there
//! are. The tree is nobody's before both digests were compared: the caller commits it by rename.

mod chunk;
mod dress;
mod failure;
mod path;
mod stream;
mod unpack;

use std::io::Read;
use std::os::fd::OwnedFd;

pub(crate) use dress::keep_xattr;
pub(crate) use stream::{Compression, buffered, decoder, sniff};

use crate::{Cancel, Digest, Limits, Progress, Result};

/// The bytes of a layer and what is known of them beforehand.
pub(crate) struct Layer<'a> {
    /// How errors and progress name it.
    pub(crate) label: String,
    /// The bytes as they are stored: maybe compressed.
    pub(crate) bytes: Box<dyn Read + Send + 'a>,
    /// What they must hash to.
    pub(crate) digest: Option<Digest>,
    /// How many they must be.
    pub(crate) size: Option<u64>,
    /// What the decompressed bytes must hash to.
    pub(crate) diff_id: Option<Digest>,
}

/// What came out of a layer.
#[derive(Clone, Debug)]
pub(crate) struct Unpacked {
    /// Digest of the decompressed bytes.
    pub(crate) diff_id: Digest,
    /// Bytes of all files as they appear.
    pub(crate) size: u64,
    /// Number of entries.
    pub(crate) entries: u64,
    /// It says itself what the root directory's mode and owner are.
    pub(crate) has_root: bool,
}

/// Unpacks a layer into the empty directory `root` and verifies it.
pub(crate) fn unpack(
    layer: Layer<'_>,
    root: OwnedFd,
    limits: &Limits,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Unpacked> {
    stream::run(layer, root, limits, progress, cancel)
}
