//! Why a call was not carried out.

use protocol::package::{AuditOutcome, Scopes};
use protocol::{ErrorData, ErrorKind};
use rustix::io::Errno;

use crate::grants::Missing;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A grant is not there.
    #[error("{0}")]
    Missing(Missing),
    /// It may not be, whatever is granted.
    #[error("{0}")]
    Denied(String),
    /// More than a package may do.
    #[error("{0}")]
    Limited(String),
    /// The operator must look at it first.
    #[error("the package is in quarantine: {0}")]
    Quarantined(String),
    /// Known by name, and no more.
    #[error("{0} is not available in this version")]
    Unavailable(&'static str),
    /// Kinds of calls that failed again and again rest for a while.
    #[error("{capability} has failed {failures} times in a row, and is tried again in {seconds} s")]
    Broken {
        /// Which kind.
        capability: &'static str,
        /// How often.
        failures: u32,
        /// For how long.
        seconds: u64,
    },
    /// No such method.
    #[error("unknown method {0}")]
    UnknownMethod(String),
    /// The parameters are not of their type.
    #[error("invalid params: {0}")]
    Params(serde_json::Error),
    /// The parameters make no sense.
    #[error("{0}")]
    Invalid(String),
    /// No such thing.
    #[error("no {0}")]
    NotFound(String),
    /// It is not as the caller expected.
    #[error("{0}")]
    Conflict(String),
    /// The kernel refused a step.
    #[error("cannot {step} {subject}: {source}")]
    Kernel {
        /// What was being done.
        step: &'static str,
        /// To what.
        subject: String,
        /// Why not.
        source: Errno,
    },
    /// The database cannot be used.
    #[error("cannot {step}: {source}")]
    Database {
        /// What was being done.
        step: &'static str,
        /// Why not.
        source: rusqlite::Error,
    },
    /// The key of the secrets cannot be used.
    #[error("cannot use the key of the secrets: {0}")]
    Key(String),
    /// What was to be done cannot be written down, so it is not done.
    #[error("cannot write the audit log: {0}")]
    Audit(String),
    /// Whoever does it could not.
    #[error("{message}")]
    Failed {
        /// What sort of failure.
        kind: ErrorKind,
        /// Why, in a sentence.
        message: String,
    },
}

impl Error {
    pub(crate) fn kernel(step: &'static str, subject: impl std::fmt::Display) -> impl FnOnce(Errno) -> Self {
        let subject = subject.to_string();
        move |source| Self::Kernel { step, subject, source }
    }

    pub(crate) fn database(step: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |source| Self::Database { step, source }
    }

    /// What sort of failure it is, as the wire has it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing(_) | Self::Denied(_) => ErrorKind::Denied,
            Self::Limited(_) => ErrorKind::Exhausted,
            Self::Quarantined(_) => ErrorKind::Quarantined,
            Self::Unavailable(_) | Self::Broken { .. } => ErrorKind::Unavailable,
            Self::UnknownMethod(_) | Self::Params(_) | Self::Invalid(_) => ErrorKind::Invalid,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Kernel { source, .. } => match *source {
                Errno::NOENT | Errno::NOTDIR => ErrorKind::NotFound,
                Errno::EXIST | Errno::NOTEMPTY => ErrorKind::Exists,
                Errno::XDEV | Errno::LOOP => ErrorKind::Escape,
                Errno::NOSPC | Errno::DQUOT | Errno::NOMEM | Errno::MFILE | Errno::NFILE => {
                    ErrorKind::Exhausted
                }
                _ => ErrorKind::Kernel,
            },
            Self::Database { .. } | Self::Key(_) | Self::Audit(_) => ErrorKind::Internal,
            Self::Failed { kind, .. } => *kind,
        }
    }

    /// How the audit log tells of it. A path or link that leads out of what is granted is a denial, too, and so is
    /// whatever somebody who carries a call out has refused.
    #[must_use]
    pub fn outcome(&self) -> AuditOutcome {
        match self.kind() {
            ErrorKind::Denied | ErrorKind::Quarantined | ErrorKind::Escape => AuditOutcome::Denied,
            _ if matches!(self, Self::Limited(_)) => AuditOutcome::Denied,
            _ => AuditOutcome::Failed,
        }
    }

    /// As the wire has it.
    #[must_use]
    pub fn data(&self, method: &str) -> ErrorData {
        let (subject, errno) = match self {
            Self::Kernel { subject, source, .. } => {
                (subject.clone(), Some(linux::errno::name(*source).into_owned()))
            }
            Self::Missing(missing) => (missing.to_string(), None),
            _ => (String::new(), None),
        };
        ErrorData { kind: self.kind(), step: method.to_owned(), subject, errno, missing: self.missing() }
    }

    fn missing(&self) -> Option<Scopes> {
        match self {
            Self::Missing(missing) => Some(missing.scopes()),
            _ => None,
        }
    }
}
