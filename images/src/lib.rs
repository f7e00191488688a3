//! OCI bytes to verified, content-addressed layers to rootfs.
//!
//! Owns the image store, the import of archives and directories, the pull from registries, and the overlay that
//! makes an image writable. Never prints, never starts a container's process, knows nothing of volumes.
//!
//! ```text
//! archive, directory, registry
//!        |  archive::, registry::   what is in it: one config, its layers as byte streams
//!        v
//!     layer::     inflate -> hash, tar -> tree beneath a handle     (everything here is hostile input)
//!        v
//!     store::     commit by rename, names, garbage                  (the tree on disk is drawn there)
//!        v
//!     rootfs::    record -> overlay -> attach; detach -> remove -> forget
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may fail loudly"))]

pub mod env_file;
pub mod rootfs;
pub mod store;

mod archive;
mod config;
mod error;
mod layer;
mod limits;
mod progress;
mod registry;
mod start_sdk;
mod tar;

pub use error::{Error, Refusal, Result};
pub use limits::Limits;
pub use linux::tree::remove_all as remove_tree;
pub use progress::{Cancel, Progress, Silent};
pub use protocol::Digest;
pub use registry::{Credentials, Pull};
pub use rootfs::Rootfs;
pub use store::Store;
