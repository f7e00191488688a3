//! A bundle: a package as one file.
//!
//! ```text
//! envelope   a skippable frame of zstd, 0x184D2A5C: JSON with signatures; absent where nobody has signed
//! payload    one frame of zstd: a tar archive; its sha256 is the bundle's digest
//!   manifest.json          first, JSON
//!   assets/…               files that are mounted into programs, or served
//!   entries/…              code: workers, handlers, functions, templates
//!   images/…               images, each as an archive
//!   precompiled/…          what a host may use in place of an entry's code
//!   ui/…                   files for browsers
//! ```
//! `tar --zstd -xf` reads it. The archive has one form for one set of files: regular files only, sorted, no owner, no
//! time, one of two modes; a header that differs by a bit from the one that we would write is refused. So no two readers
//! see different things in it, and there is nothing that could be a link, a device or a name twice.
//!
//! The signature is over the payload's digest and length, and the payload is everything: code, images, assets. It does
//! not cover the envelope, which holds nothing but signatures: a bundle signed again is the same bundle.
//!
//! Never unpacks to a path: files go to a [`Sink`].

use std::fs::File;

use protocol::Digest;

mod contents;
mod envelope;
mod expand;
mod header;
mod pack;

pub mod path;

pub(crate) use contents::TreeHasher;
pub use contents::{Contents, Sink};
pub use envelope::{Envelope, Signature, sign};
pub use pack::pack;

/// The type of a bundle that is a layer of an OCI artifact.
pub const MEDIA_TYPE: &str = "application/vnd.start-container.bundle.v1";

/// The manifest's name in a bundle.
pub const MANIFEST: &str = "manifest.json";

/// How much a bundle may be before it is called a bomb.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of the bundle as it arrives.
    pub compressed: u64,
    /// Bytes of its archive, headers included.
    pub expanded: u64,
    /// Bytes of one file.
    pub file: u64,
    /// Files.
    pub files: u64,
    /// The archive may be this many times larger than it arrived, once it is over `ratio_from`.
    pub ratio: u64,
    /// Expanded bytes beneath which `ratio` is not looked at.
    pub ratio_from: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            compressed: 4 << 30,
            expanded: 16 << 30,
            file: 8 << 30,
            files: 65_536,
            ratio: 250,
            ratio_from: 256 << 20,
        }
    }
}

/// Why a bundle, or something in it, is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each says itself in its message")]
pub enum Refusal {
    #[error("it is over the limit of {0} bytes")]
    TooLarge(u64),
    #[error("it expands to over the limit of {0} bytes")]
    ExpandsTooFar(u64),
    #[error("it expands to more than {0} times its size")]
    Ratio(u64),
    #[error("it has more than {0} files")]
    TooManyFiles(u64),
    #[error("its envelope is malformed: {0}")]
    Envelope(String),
    #[error("its compression is malformed: {0}")]
    Compression(String),
    #[error("it ends too early")]
    Truncated,
    #[error("something follows its end")]
    Trailing,
    #[error("its first file is not manifest.json")]
    NoManifest,
    #[error(
        "its header is not in the one form that a bundle has: a regular file, mode 644 or 755, no owner, no time"
    )]
    NotCanonical,
    #[error("it does not come in order, or twice")]
    Order,
    #[error("it clashes with {0:?} where upper and lower case or forms of a letter are the same")]
    Clash(String),
    #[error("{0}")]
    Path(#[from] path::Refusal),
    #[error("it is in none of assets/, entries/, images/, precompiled/, ui/")]
    Place,
    #[error("one of its names is over the 100 bytes that a header holds")]
    LongName,
    #[error("only files and directories can be in a bundle")]
    Kind,
    #[error("the manifest names it ({0}), but it is not there")]
    Missing(String),
    #[error("it changed while it was read")]
    Moved,
}

/// A bundle whose payload has been hashed, and nothing more: it is whatever somebody made of it.
#[derive(Debug)]
pub struct Sealed {
    file: File,
    start: u64,
    length: u64,
    digest: Digest,
    envelope: Envelope,
}

impl Sealed {
    /// Bytes of the payload.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Never: there is no empty frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bundle's digest: of the payload, so that signing it again does not change it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Who says that they signed it.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}
