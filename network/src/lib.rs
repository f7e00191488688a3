//! Network namespaces of containers: addresses, NAT, published ports and names.
//!
//! Owns: our bridges and veth pairs, the nftables table `inet start-container`, the settings of the machine that
//! they need, and what is beneath the state directory (drawn in `state.rs`). Never touches a link, table or rule
//! that it did not make (but for [`devices`], which an OCI Spec gives to a container), never keeps a process running, and knows nothing of images, mounts or cgroups: a caller
//! gets a namespace to join and two files to mount.
//!
//! ```text
//!               the machine                                          a container
//!   way out <-- forward, masquerade -- scb0 (10.209.0.1, fd…::1) --- scv7 | eth0 (10.209.0.23, fd…::17)
//!   callers --> published ports ------^   ^-- scv8 | a sibling
//! ```
//!
//! An attachment's states, each written down before it is reached:
//!
//! ```text
//! nothing --private()--> attached --release()--> leaving --its namespace ends, or tidy()--> nothing
//!              | fails                   ^ recover(): whose guid is gone and whose maker is dead
//!              v
//!           nothing (undone)             the address stays the guid's own until forget()
//! ```
//!
//! Which kernel: 5.18 (locked bridge ports); nftables 1.0.6. Root in the machine's network namespace.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may fail loudly"))]

mod address;
pub mod devices;
mod error;
mod hosts;
mod links;
mod machine;
mod namespace;
mod netlink;
mod networks;
mod nft;
mod plan;
mod ports;
mod probe;
mod request;
mod resolver;
mod state;
mod traces;

pub use error::{Error, Result};
pub use machine::Change;
pub use namespace::Namespace;
pub use networks::{Attachment, Config, Endpoint, Networks, Ready, Warm};
pub use nft::TABLE;
pub use probe::{Probe, probe};
pub use request::{Protocol, Publish, Request};
pub use resolver::Dns;
pub use traces::Traces;

/// How the names of our bridges begin.
pub(crate) const BRIDGE_PREFIX: &str = "scb";
/// How the names of the machine's ends of our veth pairs begin.
pub(crate) const VETH_PREFIX: &str = "scv";
