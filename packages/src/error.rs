//! What can go wrong with packages.

use protocol::{Digest, ErrorKind};
use rustix::io::Errno;

use crate::bundle::Refusal;
use crate::manifest::Fault;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a step.
    #[error("cannot {step} {subject}")]
    Kernel {
        /// What was being done.
        step: &'static str,
        /// To what.
        subject: String,
        /// Why not.
        source: Errno,
    },
    /// A manifest is wrong.
    #[error("{file} is no manifest")]
    Manifest {
        /// Which.
        file: String,
        /// What is wrong, and where.
        source: Fault,
    },
    /// A bundle is not what it should be.
    #[error("refused the bundle: {0}")]
    Bundle(Refusal),
    /// Something in a bundle, or that should go into one, is not what it should be.
    #[error("refused {path:?}: {reason}")]
    Entry {
        /// Its path.
        path: String,
        /// Why.
        reason: Refusal,
    },
    /// Nobody whom the operator trusts vouches for it.
    #[error("bundle {digest} is not trusted: {}", reasons.join("; "))]
    Untrusted {
        /// Of the bundle.
        digest: Digest,
        /// What is wrong with each signature, or that there is none.
        reasons: Vec<String>,
    },
    /// A key, or a file that holds one, is wrong.
    #[error("{subject}: {reason}")]
    Key {
        /// The key or its file.
        subject: String,
        /// What is wrong.
        reason: String,
    },
    /// The trust file is wrong, or open to others.
    #[error("cannot use the trust file {file}: {reason}")]
    Trust {
        /// Its path.
        file: String,
        /// Why.
        reason: String,
    },
    /// No such thing.
    #[error("no {0}")]
    Unknown(String),
    /// It exists already.
    #[error("{0} exists already")]
    Exists(String),
    /// The database cannot be used.
    #[error("cannot {step}")]
    Database {
        /// What was being done.
        step: &'static str,
        /// Why not.
        source: rusqlite::Error,
    },
    /// A later release has written the database.
    #[error("{file} was written by a later release")]
    Newer {
        /// Its path.
        file: String,
    },
    /// The audit log is not whole.
    #[error("the audit log was tampered with: entry {number} does not follow from what is before it")]
    Audit {
        /// The first entry that is not as it was written.
        number: u64,
    },
    /// A package's state does not allow it.
    #[error("package {id}")]
    Lifecycle {
        /// Which package.
        id: String,
        /// Why not.
        source: crate::lifecycle::Refused,
    },
    /// It asks for more than was granted.
    #[error("{id} {version} asks for what was not granted: {}", crate::installed::shown(missing))]
    NeedsConsent {
        /// Which package.
        id: String,
        /// In which version.
        version: String,
        /// What it asks for beyond what it has.
        missing: protocol::package::Scopes,
    },
    /// Who needs what, and does not find it.
    #[error("{}", conflicts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Needed {
        /// Each, with who needs it.
        conflicts: Vec<crate::plan::Conflict>,
    },
    /// It does not fit what is there.
    #[error("{0}")]
    Conflict(String),
    /// Nothing here runs one of a package's entries.
    #[error("package {id}: entry {entry} is a {kind}: {reason}")]
    NoRunner {
        /// Which package.
        id: String,
        /// Which entry.
        entry: String,
        /// Of which kind.
        kind: &'static str,
        /// Why not.
        reason: String,
    },
    /// A runner could not do it.
    #[error("cannot {step} package {id}")]
    Runner {
        /// Start or stop.
        step: &'static str,
        /// Which package.
        id: String,
        /// Why not.
        source: crate::runner::Failed,
    },
    /// Where a bundle should come from is not where one can come from.
    #[error("cannot take a bundle from {place}: {reason}")]
    Source {
        /// Where, as it was said.
        place: String,
        /// Why not.
        reason: String,
    },
    /// A bundle does not come from where it is.
    #[error("cannot {step} {subject}: {reason}")]
    Fetch {
        /// What was being done.
        step: &'static str,
        /// Where it is.
        subject: String,
        /// Why not.
        reason: String,
    },
    /// Somebody called it off.
    #[error("cancelled")]
    Cancelled,
    /// What lies in the store is not what was put there.
    #[error("bundle {digest} in the store was changed: {reason}")]
    Changed {
        /// Of the bundle.
        digest: Digest,
        /// How.
        reason: String,
    },
}

impl Error {
    pub(crate) fn kernel(step: &'static str, subject: impl std::fmt::Display) -> impl FnOnce(Errno) -> Self {
        let subject = subject.to_string();
        move |source| Self::Kernel { step, subject, source }
    }

    pub(crate) fn io(
        step: &'static str,
        subject: impl std::fmt::Display,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let subject = subject.to_string();
        move |error| Self::Kernel { step, subject, source: Errno::from_io_error(&error).unwrap_or(Errno::IO) }
    }

    /// What sort of failure it is, as the wire has it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Kernel { source, .. } => match *source {
                Errno::NOENT => ErrorKind::NotFound,
                Errno::EXIST | Errno::NOTEMPTY => ErrorKind::Exists,
                Errno::BUSY => ErrorKind::Busy,
                Errno::XDEV | Errno::LOOP => ErrorKind::Escape,
                Errno::NOSPC | Errno::DQUOT | Errno::NOMEM | Errno::MFILE | Errno::NFILE => {
                    ErrorKind::Exhausted
                }
                _ => ErrorKind::Kernel,
            },
            Self::Manifest { .. } | Self::Key { .. } | Self::Trust { .. } => ErrorKind::Invalid,
            Self::Bundle(_) | Self::Entry { .. } | Self::Changed { .. } => ErrorKind::Corrupt,
            Self::Untrusted { .. } => ErrorKind::Untrusted,
            Self::Database { .. } | Self::Runner { .. } => ErrorKind::Internal,
            Self::Newer { .. } | Self::NoRunner { .. } => ErrorKind::Invalid,
            Self::Audit { .. } => ErrorKind::Corrupt,
            Self::Lifecycle { .. } | Self::Needed { .. } | Self::Conflict(_) => ErrorKind::Conflict,
            Self::NeedsConsent { .. } => ErrorKind::NeedsConsent,
            Self::Unknown(_) => ErrorKind::NotFound,
            Self::Exists(_) => ErrorKind::Exists,
            Self::Source { .. } => ErrorKind::Invalid,
            Self::Fetch { .. } => ErrorKind::Network,
            Self::Cancelled => ErrorKind::Internal,
        }
    }

    /// The step that failed, for people and tests.
    #[must_use]
    pub fn step(&self) -> &'static str {
        match self {
            Self::Kernel { step, .. } => step,
            Self::Manifest { .. } => "read manifest",
            Self::Bundle(_) | Self::Entry { .. } => "read bundle",
            Self::Untrusted { .. } => "verify bundle",
            Self::Key { .. } => "read key",
            Self::Trust { .. } => "read trust file",
            Self::Database { step, .. } => step,
            Self::Newer { .. } => "open state.db",
            Self::Audit { .. } => "check the audit log",
            Self::Lifecycle { .. } | Self::Needed { .. } | Self::Conflict(_) | Self::NeedsConsent { .. } => {
                "change package"
            }
            Self::NoRunner { .. } => "start package",
            Self::Runner { step, .. } => step,
            Self::Unknown(_) => "find",
            Self::Exists(_) => "create",
            Self::Source { .. } => "find bundle",
            Self::Fetch { step, .. } => step,
            Self::Cancelled => "fetch bundle",
            Self::Changed { .. } => "check bundle",
        }
    }
}
