//! Packages: signed bundles, whom to trust, and what is installed.
//!
//! ```text
//! directory ──pack──▶ bundle.tar.zst ──sign──▶ the same with signatures in front
//!                                                   │ verify: hash, then signature, then trust
//!                                                   ▼
//!                 Store: DATA_DIR/bundles/sha256/<digest>/ ◀── unpack, with every file checked on its way
//!                 Packages: DATA_DIR/state.db  installed, granted, active, disabled; every change in the audit log
//! ```
//! Owns the form of bundles and manifests, the trust file, the store of unpacked bundles, and what the operator decided.
//! Never runs anything: that is for runners, which the host brings. Never takes a key from a bundle: who is trusted is in the trust file alone.

pub mod audit;
pub mod bundle;
pub mod database;
#[cfg(feature = "fetch")]
pub mod fetch;
pub mod installed;
pub mod keys;
pub mod lifecycle;
pub mod manifest;
pub mod plan;
pub mod runner;
pub mod source;
pub mod store;
pub mod trust;

mod error;
mod files;

pub use error::{Error, Result};
pub use installed::{Held, Packages};
pub use manifest::Manifest;
pub use protocol::Digest;
pub use store::Store;
pub use trust::Trust;
