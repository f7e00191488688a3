//! `start-container`: OCI images to rootfs, rootfs to running Linux containers, and the host that serves them.
//!
//! ```text
//! cli ─────┐
//!          ├──▶ subcontainer ──▶ engine ──▶ linux::spawn
//! host ────┘         │
//!                    └──▶ images, volumes
//! ```
//! Two doors, one engine: neither the CLI nor the host starts a process in another way.

mod cli;
mod engine;
mod error;
mod host;
mod oci;
mod sealed;
mod subcontainer;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
