//! What can go wrong, each with the step, the thing, and the cause as source.

use std::io;

use protocol::ErrorKind;
use rustix::io::Errno;

use crate::Digest;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation of this crate failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a step.
    #[error("cannot {step} {subject}")]
    Kernel {
        /// What was being done: `create directory`.
        step: &'static str,
        /// To what.
        subject: String,
        /// The kernel's reason.
        source: Errno,
    },
    /// No image has this name or digest.
    #[error("no image {0:?}")]
    UnknownImage(String),
    /// Several images have a digest that begins so.
    #[error("{prefix:?} begins the digest of {matches} images")]
    AmbiguousImage {
        /// What was asked for.
        prefix: String,
        /// How many fit.
        matches: usize,
    },
    /// An image cannot have this name.
    #[error("image name {name:?} {reason}")]
    ImageName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An image cannot be removed while a rootfs stands on it.
    #[error("image {image} is used by {}", rootfs.join(", "))]
    ImageInUse {
        /// The image.
        image: String,
        /// Names or guids of what uses it.
        rootfs: Vec<String>,
    },
    /// The thing to import is nothing that can be imported.
    #[error("{path}: {reason}")]
    NotAnImage {
        /// The path that was given.
        path: String,
        /// Why not.
        reason: String,
    },
    /// It holds several images and none was named.
    #[error("{path} holds several images; name one of {}", names.join(", "))]
    SeveralImages {
        /// The path that was given.
        path: String,
        /// What it holds.
        names: Vec<String>,
    },
    /// There is no image for this platform.
    #[error("{subject} has no image for {platform}, only for {}", available.join(", "))]
    NoSuchPlatform {
        /// The archive or reference.
        subject: String,
        /// What was wanted.
        platform: String,
        /// What there is.
        available: Vec<String>,
    },
    /// A manifest, index or config is not what it must be.
    #[error("{document}: {reason}")]
    Document {
        /// Which: `config sha256:…`.
        document: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A manifest, index or config cannot be read as JSON.
    #[error("{document} is not valid JSON of its kind")]
    Json {
        /// Which.
        document: String,
        /// Where it breaks.
        source: serde_json::Error,
    },
    /// The bytes are not those that were promised.
    #[error("{subject} has digest {actual}, not {expected}")]
    Digest {
        /// Which bytes: `layer sha256:…`, `contents of layer sha256:…`.
        subject: String,
        /// Promised.
        expected: Digest,
        /// Found.
        actual: Digest,
    },
    /// There are more or fewer bytes than were promised.
    #[error("{subject} has {actual} bytes, not {expected}")]
    Size {
        /// Which bytes.
        subject: String,
        /// Promised.
        expected: u64,
        /// Found (or found so far).
        actual: u64,
    },
    /// One entry of a layer is refused.
    #[error("layer {layer}: entry {entry:?}: {reason}")]
    Entry {
        /// The layer's digest, or the archive where it has none.
        layer: String,
        /// The entry's name, as in the archive.
        entry: String,
        /// Why.
        reason: Refusal,
    },
    /// A layer as a whole is refused.
    #[error("layer {layer}: {reason}")]
    Layer {
        /// The layer's digest, or the archive where it has none.
        layer: String,
        /// Why.
        reason: Refusal,
    },
    /// The bytes of a layer or archive cannot be read or decompressed.
    #[error("cannot read {subject}")]
    Read {
        /// Which bytes.
        subject: String,
        /// Why.
        source: io::Error,
    },
    /// An entry of a layer cannot be written.
    #[error("layer {layer}: cannot {step} {entry:?}")]
    Write {
        /// The layer's digest, or the archive where it has none.
        layer: String,
        /// What was being done.
        step: &'static str,
        /// The entry's name.
        entry: String,
        /// The kernel's reason.
        source: Errno,
    },
    /// A file of the store itself is damaged.
    #[error("{file} in the store is damaged")]
    Damaged {
        /// Which.
        file: String,
        /// Where it breaks.
        source: serde_json::Error,
    },
    /// More layers than overlay takes.
    #[error("image {image} has {layers} layers, and overlay takes 500")]
    TooManyLayers {
        /// The image.
        image: String,
        /// How many it has.
        layers: usize,
    },
    /// The overlay of a rootfs cannot be mounted.
    #[error("cannot mount the overlay of rootfs {guid}")]
    Overlay {
        /// Its guid.
        guid: String,
        /// The step, and what the kernel said of it.
        source: Box<crate::rootfs::OverlayError>,
    },
    /// The disk of a rootfs that has a size cannot be had.
    #[error("cannot make the disk of rootfs {guid}")]
    Disk {
        /// Its guid.
        guid: String,
        /// The step, and why.
        source: Box<crate::rootfs::DiskError>,
    },
    /// No rootfs has this guid.
    #[error("no rootfs {0:?}")]
    UnknownRootfs(String),
    /// A path was given for a rootfs that is none of ours.
    #[error("{0:?} is not a rootfs of this data directory")]
    NotARootfs(String),
    /// The guid is in use.
    #[error("rootfs {0:?} exists already")]
    RootfsExists(String),
    /// A guid must be a plain file name.
    #[error("guid {0:?} is not letters, digits and dashes")]
    BadGuid(String),
    /// A throw-away rootfs was lost when the machine went down.
    #[error("throw-away rootfs {0} did not survive the machine going down")]
    Lost(String),
    /// A registry cannot be reached, or answered wrongly.
    #[error("{registry}: cannot {step}: {reason}")]
    Registry {
        /// Its host.
        registry: String,
        /// What was being done: `fetch manifest library/debian:12`.
        step: String,
        /// What happened; no secrets.
        reason: String,
    },
    /// A registry wants other credentials.
    #[error("{registry}: credentials refused for {repository}")]
    Unauthorized {
        /// Its host.
        registry: String,
        /// What was asked for.
        repository: String,
    },
    /// The reference cannot be read.
    #[error("image reference {reference:?}: {reason}")]
    Reference {
        /// What was given.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Credentials cannot be obtained.
    #[error("cannot get credentials from {place}: {reason}")]
    Credentials {
        /// A file or a helper.
        place: String,
        /// Why; no secrets.
        reason: String,
    },
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// Why an entry or a layer is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each says itself in its message")]
pub enum Refusal {
    #[error("its path contains ..")]
    DotDot,
    #[error("its path contains a zero byte")]
    ZeroByte,
    #[error("its path is {0} bytes long, over the limit of {1}")]
    PathTooLong(usize, usize),
    #[error("its path is {0} directories deep, over the limit of {1}")]
    TooDeep(usize, usize),
    #[error("its path goes through a symbolic link")]
    ThroughLink,
    #[error("its path goes through something that is not a directory")]
    ThroughFile,
    #[error("it would replace the root directory")]
    ReplacesRoot,
    #[error("its link target {0:?} is absolute")]
    AbsoluteLink(String),
    #[error("its link target {0:?} leaves the layer")]
    LinkEscapes(String),
    #[error("its link target {0:?} is not in the layer before it")]
    LinkMissing(String),
    #[error("its link target {0:?} is a directory")]
    LinkToDirectory(String),
    #[error("its link target is empty")]
    EmptyLink,
    #[error("its link target is {0} bytes long")]
    LinkTooLong(usize),
    #[error("entries of type {0:?} are not supported")]
    Type(char),
    #[error("it has a size of {0} though its type has no contents")]
    UnexpectedContents(u64),
    #[error("a character device 0:0 would act as a whiteout")]
    WhiteoutDevice,
    #[error("it is no valid whiteout")]
    Whiteout,
    #[error("extended attribute {0:?} may not come from an image")]
    Xattr(String),
    #[error("its header is malformed: {0}")]
    Header(&'static str),
    #[error("its extended headers are over the limit of {0} bytes")]
    ExtendedHeader(u64),
    #[error("it is {0} bytes, over the limit of {1}")]
    FileTooLarge(u64, u64),
    #[error("it has more than {0} entries")]
    TooManyEntries(u64),
    #[error("it is over the limit of {0} bytes compressed")]
    CompressedTooLarge(u64),
    #[error("it expands to over the limit of {0} bytes")]
    ExpandedTooLarge(u64),
    #[error("it expands to more than {0} times its size")]
    Ratio(u64),
    #[error("it ends in the middle of an entry")]
    Truncated,
    #[error("it ends without an end-of-archive mark")]
    NoEnd,
    #[error("it goes on after its end")]
    AfterEnd,
    #[error("media type {0:?} is not supported")]
    MediaType(String),
}

impl Error {
    pub(crate) fn kernel(step: &'static str, subject: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        let subject = subject.into();
        move |source| Self::Kernel { step, subject, source }
    }

    /// What sort of failure it is, as the wire has it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Kernel { source, .. } | Self::Write { source, .. } => kind_of(*source),
            Self::Overlay { source, .. } => kind_of(source.errno()),
            Self::Disk { source, .. } if source.is_refusal() => ErrorKind::Invalid,
            Self::Disk { source, .. } => source.errno().map_or(ErrorKind::Kernel, kind_of),
            Self::Read { source, .. } => Errno::from_io_error(source).map_or(ErrorKind::Corrupt, kind_of),
            Self::UnknownImage(_)
            | Self::UnknownRootfs(_)
            | Self::NotARootfs(_)
            | Self::NoSuchPlatform { .. } => ErrorKind::NotFound,
            Self::AmbiguousImage { .. }
            | Self::ImageName { .. }
            | Self::SeveralImages { .. }
            | Self::BadGuid(_)
            | Self::TooManyLayers { .. }
            | Self::Reference { .. } => ErrorKind::Invalid,
            Self::ImageInUse { .. } => ErrorKind::Busy,
            Self::RootfsExists(_) => ErrorKind::Exists,
            Self::NotAnImage { .. }
            | Self::Document { .. }
            | Self::Json { .. }
            | Self::Digest { .. }
            | Self::Size { .. }
            | Self::Layer { .. }
            | Self::Damaged { .. }
            | Self::Lost(_) => ErrorKind::Corrupt,
            Self::Entry { reason, .. } => match reason {
                Refusal::DotDot
                | Refusal::ThroughLink
                | Refusal::AbsoluteLink(_)
                | Refusal::LinkEscapes(_)
                | Refusal::ReplacesRoot => ErrorKind::Escape,
                _ => ErrorKind::Corrupt,
            },
            Self::Registry { .. } => ErrorKind::Network,
            Self::Unauthorized { .. } | Self::Credentials { .. } => ErrorKind::Unauthorized,
            Self::Cancelled => ErrorKind::Internal,
        }
    }

    /// The kernel's reason, where it was the kernel.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Kernel { source, .. } | Self::Write { source, .. } => Some(*source),
            Self::Overlay { source, .. } => Some(source.errno()),
            Self::Disk { source, .. } => source.errno(),
            Self::Read { source, .. } => Errno::from_io_error(source),
            _ => None,
        }
    }

    /// The step that failed, for people and tests.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Kernel { step, .. } | Self::Write { step, .. } => step,
            Self::UnknownImage(_) | Self::AmbiguousImage { .. } | Self::ImageName { .. } => "look up image",
            Self::ImageInUse { .. } => "remove image",
            Self::NotAnImage { .. } | Self::SeveralImages { .. } => "open image",
            Self::NoSuchPlatform { .. } => "choose platform",
            Self::Document { .. } | Self::Json { .. } => "read document",
            Self::Digest { .. } | Self::Size { .. } => "verify digest",
            Self::Entry { .. } | Self::Layer { .. } => "unpack layer",
            Self::Read { .. } => "read archive",
            Self::Damaged { .. } => "read store",
            Self::TooManyLayers { .. } | Self::Overlay { .. } | Self::Disk { .. } => "mount rootfs",
            Self::UnknownRootfs(_) | Self::NotARootfs(_) | Self::BadGuid(_) | Self::Lost(_) => {
                "look up rootfs"
            }
            Self::RootfsExists(_) => "create rootfs",
            Self::Registry { .. } | Self::Unauthorized { .. } | Self::Reference { .. } => "pull image",
            Self::Credentials { .. } => "get credentials",
            Self::Cancelled => "cancel",
        }
    }
}

fn kind_of(errno: Errno) -> ErrorKind {
    match errno {
        Errno::NOENT => ErrorKind::NotFound,
        Errno::EXIST | Errno::NOTEMPTY => ErrorKind::Exists,
        Errno::BUSY => ErrorKind::Busy,
        Errno::XDEV | Errno::LOOP => ErrorKind::Escape,
        Errno::NOSPC | Errno::DQUOT | Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::AGAIN => {
            ErrorKind::Exhausted
        }
        _ => ErrorKind::Kernel,
    }
}
