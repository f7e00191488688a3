//! Why an entry cannot be unpacked, told apart from which entry it is.

use rustix::io::Errno;

use crate::tar::Entry;
use crate::{Error, Refusal};

/// Why an entry failed, before it is known which.
pub(super) enum Failure {
    Refused(Refusal),
    Kernel(&'static str, Errno),
    Other(Error),
}

impl Failure {
    pub(super) fn of(self, layer: &str, entry: &Entry) -> Error {
        let layer = layer.to_owned();
        match self {
            Self::Refused(reason) => Error::Entry { layer, entry: entry.name(), reason },
            Self::Kernel(step, source) => Error::Write { layer, step, entry: entry.name(), source },
            Self::Other(error) => error,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

pub(super) fn kernel(step: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| Failure::Kernel(step, errno)
}
