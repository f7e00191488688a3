//! The one error of the binary: what sort, which step, which thing, and the cause.

use std::error::Error;
use std::fmt;

use protocol::{ErrorData, ErrorKind};
use rustix::io::Errno;

/// A request that could not be carried out.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    /// What was being done, `look up user`.
    pub(crate) step: String,
    /// What it was done to.
    pub(crate) subject: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
    /// The cause speaks for itself: a library's error that names step and thing in its own sentence.
    told: bool,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(kind: ErrorKind, step: impl Into<String>, subject: impl fmt::Display) -> Self {
        Self { kind, step: step.into(), subject: subject.to_string(), cause: None, told: false }
    }

    pub(crate) fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// A step that the kernel refused.
    pub(crate) fn kernel(step: impl Into<String>, subject: impl fmt::Display, errno: Errno) -> Self {
        Self::new(kind_of(errno), step, subject).because(errno)
    }

    /// For `map_err`: a step that failed with an error of the standard library, most often the kernel's.
    pub(crate) fn io(
        step: impl Into<String>,
        subject: impl fmt::Display,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let (step, subject) = (step.into(), subject.to_string());
        move |error| {
            let kind = Errno::from_io_error(&error).map_or(ErrorKind::Kernel, kind_of);
            Self::new(kind, step, subject).because(error)
        }
    }

    /// The first kernel error among the causes.
    pub(crate) fn errno(&self) -> Option<Errno> {
        let mut next: Option<&(dyn Error + 'static)> = self.cause.as_deref().map(|cause| cause as _);
        while let Some(error) = next {
            if let Some(errno) = error.downcast_ref::<Errno>() {
                return Some(*errno);
            }
            if let Some(spawn) = error.downcast_ref::<linux::spawn::SpawnError>() {
                return Some(spawn.errno);
            }
            if let Some(io) = error.downcast_ref::<std::io::Error>()
                && let Some(errno) = Errno::from_io_error(io)
            {
                return Some(errno);
            }
            next = error.source();
        }
        None
    }

    /// As the wire has it.
    pub(crate) fn data(&self) -> ErrorData {
        ErrorData {
            kind: self.kind,
            step: self.step.clone(),
            subject: self.subject.clone(),
            errno: self.errno().map(|errno| linux::errno::name(errno).into_owned()),
            missing: None,
        }
    }

    /// The whole sentence: step, subject and each cause.
    pub(crate) fn sentence(&self) -> String {
        let mut text = self.to_string();
        let mut next = self.source();
        while let Some(error) = next {
            text.push_str(": ");
            text.push_str(&error.to_string());
            next = error.source();
        }
        text
    }
}

/// What a program should make of a kernel error.
pub(crate) fn kind_of(errno: Errno) -> ErrorKind {
    match errno {
        Errno::NOENT | Errno::SRCH => ErrorKind::NotFound,
        Errno::EXIST => ErrorKind::Exists,
        Errno::BUSY | Errno::TXTBSY => ErrorKind::Busy,
        Errno::XDEV | Errno::LOOP => ErrorKind::Escape,
        Errno::NOSPC | Errno::DQUOT | Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::AGAIN => {
            ErrorKind::Exhausted
        }
        _ => ErrorKind::Kernel,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cause) = &self.cause
            && self.told
        {
            return cause.fmt(f);
        }
        if self.subject.is_empty() {
            f.write_str(&self.step)
        } else {
            write!(f, "{} {}", self.step, self.subject)
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let cause = self.cause.as_deref()?;
        if self.told { cause.source() } else { Some(cause as _) }
    }
}

impl From<images::Error> for Failure {
    fn from(error: images::Error) -> Self {
        let (kind, step, subject) = (error.kind(), error.step().to_owned(), error.to_string());
        Self { kind, step, subject, cause: Some(error.into()), told: true }
    }
}

impl From<volumes::Error> for Failure {
    fn from(error: volumes::Error) -> Self {
        let (kind, step, subject) = (error.kind(), error.step().to_owned(), error.subject());
        Self { kind, step, subject, cause: Some(error.into()), told: true }
    }
}

impl From<volumes::backup::Error> for Failure {
    fn from(error: volumes::backup::Error) -> Self {
        let (kind, subject) = (error.kind(), error.to_string());
        Self { kind, step: "backup".into(), subject, cause: Some(error.into()), told: true }
    }
}

impl From<cgroups::Error> for Failure {
    fn from(error: cgroups::Error) -> Self {
        let refused = error.is_refusal();
        let in_use = matches!(error, cgroups::Error::MemoryInUse { .. });
        let subject = error.to_string();
        let mut failure = Self {
            kind: ErrorKind::Invalid,
            step: "limit".into(),
            subject,
            cause: Some(error.into()),
            told: true,
        };
        if in_use {
            failure.kind = ErrorKind::Busy;
        } else if !refused {
            failure.kind = failure.errno().map_or(ErrorKind::Kernel, kind_of);
        }
        failure
    }
}

impl From<packages::Error> for Failure {
    fn from(error: packages::Error) -> Self {
        let (kind, step, subject) = (error.kind(), error.step().to_owned(), error.to_string());
        Self { kind, step, subject, cause: Some(error.into()), told: true }
    }
}

impl From<broker::Error> for Failure {
    fn from(error: broker::Error) -> Self {
        let (kind, subject) = (error.kind(), error.to_string());
        Self { kind, step: "broker".into(), subject, cause: Some(error.into()), told: true }
    }
}

impl From<network::Error> for Failure {
    fn from(error: network::Error) -> Self {
        let (kind, subject) = (error.kind(), error.to_string());
        Self { kind, step: "network".into(), subject, cause: Some(error.into()), told: true }
    }
}
