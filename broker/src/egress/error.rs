//! What can go wrong with a request to the outside, and why one is denied.

use std::net::IpAddr;
use std::time::Duration;

use super::address::Special;
use super::target::Target;

/// A result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It may not be. Whoever writes down what became of calls writes this down as a denial.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// It is no request that could be sent, whoever asks.
    #[error("no request to send: {0}")]
    Invalid(String),
    /// Something is more than it may be.
    #[error("{what} over the limit of {limit} bytes")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// More redirects than are followed.
    #[error("more than {0} redirects")]
    Redirects(u32),
    /// It took too long.
    #[error("cannot {step} {subject}: not within {} ms", limit.as_millis())]
    TimedOut {
        /// What was being done.
        step: &'static str,
        /// With whom.
        subject: String,
        /// How long it might take.
        limit: Duration,
    },
    /// The other side, or the way there, failed.
    #[error("cannot {step} {subject}")]
    Failed {
        /// What was being done.
        step: &'static str,
        /// With whom.
        subject: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    pub(super) fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        step: &'static str,
        subject: impl std::fmt::Display,
    ) -> impl FnOnce(E) -> Self {
        let subject = subject.to_string();
        move |source| Self::Failed { step, subject, source: source.into() }
    }
}

/// A request, or a redirect, that may not be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{target} is denied: {reason}")]
pub struct Denied {
    /// Where it would have gone.
    pub target: Target,
    /// Why it does not.
    pub reason: Reason,
}

/// Why a request is denied.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Nobody has granted this host and port.
    #[error("it was not granted")]
    NotGranted,
    /// One of its addresses, or one that this carries, is not of the public internet.
    #[error("{address} is in {special}")]
    Special {
        /// Which address.
        address: IpAddr,
        /// What it is for.
        special: &'static Special,
    },
    /// One of its addresses is this machine's.
    #[error("{0} is an address of this machine")]
    Machine(IpAddr),
    /// One of its addresses is in a network of containers on this machine.
    #[error("{0} is in a network of containers on this machine")]
    Neighbour(IpAddr),
    /// A redirect from what is encrypted to what is not.
    #[error("a redirect leads from https to http")]
    Downgrade,
    /// A redirect would send what was meant for one host to another.
    #[error("a redirect would carry the body to another host")]
    Carries,
}
