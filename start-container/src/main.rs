//! `start-container`: OCI images to rootfs, rootfs to running Linux containers, and the host that serves them.
//!
//! ```text
//! cli ─────┐
//!          ├──▶ subcontainer ──▶ engine ──▶ linux::spawn
//! host ────┘         │
//!                    └──▶ images, volumes, logs
//! ```
//! Two doors, one engine: neither the CLI nor the host starts a process in another way.

mod arguments;
mod cli;
mod doctor;
mod engine;
mod error;
mod events;
mod host;
mod logs;
mod oci;
mod runtime;
mod sealed;
mod subcontainer;

use std::process::ExitCode;

/// musl's own asks the kernel for memory page by page, and for every page that it needs again.
#[cfg(target_env = "musl")]
#[global_allocator]
static MEMORY: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    cli::main()
}
