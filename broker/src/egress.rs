//! Requests to the outside: the one way in which package code reaches a network, and what keeps it from reaching more.
//!
//! ```text
//! request ─▶ well-formed? ─▶ host:port granted? ─▶ resolve, once ─▶ every address public? ─▶ dial one of these
//!    ▲                                                                                            │ TLS, HTTP/1.1
//!    └───────────────────────────── redirect: all of it again ◀───────────────────────────────────┘
//! ```
//! Owns what an address is ([`address`]), whose it is ([`machine`]), the dialer and the HTTP that goes over it. Nothing is
//! granted by default, and what is granted is a name and a port, word for word: to be granted a name is not to be granted
//! whatever it resolves to.
//!
//! Never reads a proxy or anything else of it from the environment, never resolves a name twice for one connection, never
//! keeps a connection, a session of TLS or an answer of a resolver for the next request: nothing is shared by packages.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;

pub mod address;
pub mod machine;

mod dial;
mod error;
mod http;
mod request;
mod resolve;
mod target;
mod tls;

pub use error::{Denied, Error, Reason, Result};
pub use http::Response;
pub use request::{Limits, Request, target};
pub use resolve::{Addresses, Resolve, System};
pub use target::{Host, Target};

/// What a package may reach: nothing, but for what is in here.
#[derive(Clone, Debug, Default)]
pub struct Grants(BTreeSet<Target>);

impl Grants {
    /// Those of a scope: `name:port`. What cannot be read grants nothing.
    pub fn new<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Self {
        Self(hosts.into_iter().filter_map(|host| host.parse().ok()).collect())
    }

    /// Whether exactly this was granted.
    #[must_use]
    pub fn allow(&self, target: &Target) -> bool {
        self.0.contains(target)
    }
}

/// The dialer. One for the host: it knows no package, and keeps nothing of any.
#[derive(Clone)]
pub struct Guard {
    resolver: Arc<dyn Resolve>,
    /// Networks that the operator lets packages reach though they are not public.
    private: Vec<IpNet>,
    tls: tls::Client,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("private", &self.private).finish_non_exhaustive()
    }
}

impl Guard {
    /// With the machine's resolver and the certificates that the machine trusts.
    #[must_use]
    pub fn new() -> Self {
        Self::with_resolver(Arc::new(System))
    }

    /// With another resolver.
    #[must_use]
    pub fn with_resolver(resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver, private: Vec::new(), tls: tls::Client::default() }
    }

    /// Lets packages reach networks that are not public, where they are granted the host: the operator's word, for the whole
    /// machine. An address that carries another in itself is reached only where that one may be, too.
    #[must_use]
    pub fn with_private(self, private: Vec<IpNet>) -> Self {
        Self { private, ..self }
    }

    /// With these certificates, and not those that the machine trusts.
    #[must_use]
    pub fn with_roots(self, roots: rustls::RootCertStore) -> Self {
        Self { tls: tls::Client::with_roots(roots), ..self }
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self::new()
    }
}
