use std::path::PathBuf;

use linux::mount::ContextError;
use protocol::error::ErrorKind;
use rustix::io::Errno;

use crate::IdMapError;

/// A step of a mount that failed. What was acquired before it is gone again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data directory cannot be opened.
    #[error("open data directory {path:?}")]
    OpenDataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// An id that is no single name.
    #[error("{what} id {id:?} is not a plain name")]
    InvalidId {
        /// `volume` or `package`.
        what: &'static str,
        /// The id.
        id: String,
    },
    /// A path inside a source that goes up.
    #[error("subpath {subpath:?} of {what} is not a path beneath it")]
    InvalidSubpath {
        /// The source.
        what: String,
        /// The path.
        subpath: String,
    },
    /// A mountpoint that is no absolute path, goes up, or is the root.
    #[error("mountpoint {mountpoint:?} {why}")]
    InvalidMountpoint {
        /// The path.
        mountpoint: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Bad id maps.
    #[error("id map of {what}")]
    IdMap {
        /// The source.
        what: String,
        /// Which, and why.
        source: IdMapError,
    },
    /// The source, or something on the way to it, cannot be opened.
    #[error("open {what}")]
    OpenSource {
        /// The source.
        what: String,
        /// Why.
        source: Errno,
    },
    /// The source was missing and could not be made.
    #[error("create {what}")]
    CreateSource {
        /// The source.
        what: String,
        /// Why.
        source: Errno,
    },
    /// The source is a directory and should be a file, or the other way round.
    #[error("{what} is not a {expected}")]
    WrongType {
        /// The source.
        what: String,
        /// What it should be.
        expected: &'static str,
    },
    /// No namespace could be made to carry the id map.
    #[error("make a user namespace for the id map of {what}")]
    IdMapNamespace {
        /// The source.
        what: String,
        /// Why.
        source: Errno,
    },
    /// The source could not be cloned into a detached mount, or not with these attributes.
    #[error("clone {what}")]
    Clone {
        /// The source.
        what: String,
        /// Why.
        source: Errno,
    },
    /// The file system of the source cannot be mounted with an id map: a tmpfs can since Linux 6.3.
    #[error("set the id map of {what}: its file system may not support any")]
    SetIdMap {
        /// The source.
        what: String,
        /// Why.
        source: Errno,
    },
    /// A tmpfs that could hold nothing; the kernel would take 0 for no limit.
    #[error("a tmpfs of no bytes")]
    EmptyTmpfs,
    /// A tmpfs whose mode has other bits than those of a mode.
    #[error("mode {mode:o} of a tmpfs is no permission bits")]
    TmpfsMode {
        /// The mode.
        mode: u32,
    },
    /// The tmpfs could not be made.
    #[error("make a tmpfs")]
    Tmpfs {
        /// Which step, and why, in the kernel's words.
        source: ContextError,
    },
    /// The place to mount on cannot be opened or made.
    #[error("open mountpoint {mountpoint:?}")]
    OpenMountpoint {
        /// Where.
        mountpoint: String,
        /// Why.
        source: Errno,
    },
    /// A directory would be mounted on a file, or the other way round.
    #[error("mountpoint {mountpoint:?} is not a {expected}")]
    MountpointType {
        /// Where.
        mountpoint: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Something is mounted there already.
    #[error("mountpoint {mountpoint:?} is in use")]
    Occupied {
        /// Where.
        mountpoint: String,
    },
    /// The mount could not be moved to its place.
    #[error("mount on {mountpoint:?}")]
    Attach {
        /// Where.
        mountpoint: String,
        /// Why.
        source: Errno,
    },
    /// Nothing is mounted there.
    #[error("nothing is mounted on {mountpoint:?}")]
    NotMounted {
        /// Where.
        mountpoint: String,
    },
    /// Something is mounted beneath it.
    #[error("unmount {mountpoint:?}: {beneath:?} is mounted beneath it")]
    Busy {
        /// Where.
        mountpoint: String,
        /// The other mountpoint, as the host sees it.
        beneath: PathBuf,
    },
    /// It could not be unmounted.
    #[error("unmount {mountpoint:?}")]
    Detach {
        /// Where.
        mountpoint: String,
        /// Why.
        source: Errno,
    },
}

impl Error {
    /// The step that failed, for programs and people.
    #[must_use]
    pub fn step(&self) -> &'static str {
        match self {
            Self::OpenDataDir { .. } => "open data directory",
            Self::InvalidId { .. }
            | Self::InvalidSubpath { .. }
            | Self::EmptyTmpfs
            | Self::TmpfsMode { .. } => "check mount source",
            Self::InvalidMountpoint { .. } => "check mountpoint",
            Self::IdMap { .. } => "check id map",
            Self::OpenSource { .. } | Self::WrongType { .. } => "open mount source",
            Self::CreateSource { .. } => "create mount source",
            Self::IdMapNamespace { .. } | Self::SetIdMap { .. } => "set id map",
            Self::Clone { .. } | Self::Tmpfs { .. } => "make mount",
            Self::OpenMountpoint { .. } | Self::MountpointType { .. } | Self::Occupied { .. } => {
                "open mountpoint"
            }
            Self::Attach { .. } => "mount",
            Self::NotMounted { .. } | Self::Busy { .. } | Self::Detach { .. } => "unmount",
        }
    }

    /// What the step was done to.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::OpenDataDir { path, .. } => path.display().to_string(),
            Self::InvalidId { what, id } => format!("{what} {id}"),
            Self::InvalidSubpath { what, .. }
            | Self::IdMap { what, .. }
            | Self::OpenSource { what, .. }
            | Self::CreateSource { what, .. }
            | Self::WrongType { what, .. }
            | Self::IdMapNamespace { what, .. }
            | Self::Clone { what, .. }
            | Self::SetIdMap { what, .. } => what.clone(),
            Self::EmptyTmpfs | Self::TmpfsMode { .. } | Self::Tmpfs { .. } => "tmpfs".to_owned(),
            Self::InvalidMountpoint { mountpoint, .. }
            | Self::OpenMountpoint { mountpoint, .. }
            | Self::MountpointType { mountpoint, .. }
            | Self::Occupied { mountpoint }
            | Self::Attach { mountpoint, .. }
            | Self::NotMounted { mountpoint }
            | Self::Busy { mountpoint, .. }
            | Self::Detach { mountpoint, .. } => mountpoint.clone(),
        }
    }

    /// The kernel's reason, where it was the kernel.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::OpenDataDir { source, .. }
            | Self::OpenSource { source, .. }
            | Self::CreateSource { source, .. }
            | Self::IdMapNamespace { source, .. }
            | Self::Clone { source, .. }
            | Self::SetIdMap { source, .. }
            | Self::OpenMountpoint { source, .. }
            | Self::Attach { source, .. }
            | Self::Detach { source, .. } => Some(*source),
            Self::Tmpfs { source } => Some(source.errno()),
            Self::InvalidId { .. }
            | Self::InvalidSubpath { .. }
            | Self::InvalidMountpoint { .. }
            | Self::IdMap { .. }
            | Self::EmptyTmpfs
            | Self::TmpfsMode { .. }
            | Self::WrongType { .. }
            | Self::MountpointType { .. }
            | Self::Occupied { .. }
            | Self::NotMounted { .. }
            | Self::Busy { .. } => None,
        }
    }

    /// What sort of failure it is, on the wire.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidId { .. } | Self::InvalidSubpath { .. } => ErrorKind::Escape,
            Self::InvalidMountpoint { .. }
            | Self::IdMap { .. }
            | Self::EmptyTmpfs
            | Self::TmpfsMode { .. }
            | Self::WrongType { .. }
            | Self::MountpointType { .. } => ErrorKind::Invalid,
            Self::Occupied { .. } => ErrorKind::Exists,
            Self::NotMounted { .. } => ErrorKind::NotFound,
            Self::Busy { .. } => ErrorKind::Busy,
            // The values of a tmpfs are the caller's.
            Self::Tmpfs { source } if source.errno() == Errno::INVAL => ErrorKind::Invalid,
            other => match other.errno() {
                Some(Errno::NOENT) => ErrorKind::NotFound,
                Some(Errno::XDEV | Errno::LOOP) => ErrorKind::Escape,
                Some(Errno::NOTDIR | Errno::ISDIR | Errno::NAMETOOLONG) => ErrorKind::Invalid,
                Some(Errno::BUSY | Errno::AGAIN) => ErrorKind::Busy,
                Some(Errno::NOSPC | Errno::DQUOT | Errno::NOMEM | Errno::MFILE | Errno::NFILE) => {
                    ErrorKind::Exhausted
                }
                _ => ErrorKind::Kernel,
            },
        }
    }
}
