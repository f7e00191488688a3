//! The engine: the only way in which this program starts a process in a container.
//!
//! ```text
//! request ──plan──▶ OCI Spec ──compile──▶ Script ──linux::spawn──▶ process ──▶ supervise
//!          (pure)             (opens what                (the child)
//!                              must be open)
//! ```
//! [`plan`] and [`user`] decide, [`compile`] prepares handles, `linux::spawn` applies. Nothing here knows about
//! the CLI, the host or where a rootfs comes from.

pub(crate) mod cgroup;
pub(crate) mod compile;
pub(crate) mod device;
pub(crate) mod plan;
pub(crate) mod process;
pub(crate) mod terminal;
pub(crate) mod user;
