//! OCI bundles: ours beside the other runtimes, and driven by engines. (row O1)
//!
//! ```text
//! rig       a bundle over busybox; ours, runc and crun
//! agree     one table of bundles (cases), run by all three: where the other two agree, so do we
//! life      create, start, state, kill, delete, exec, hooks; what is said when something is wrong
//! killed    nothing stays, whoever is killed when
//! checkpoint  by criu
//! links     of the machine, given to a container
//! suites    what public conformance suites showed
//! systemd   scopes, by a systemd of the test's own
//! engines   what engines have in common
//! podman, containerd, cri (what Kubernetes asks for)
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::let_underscore_must_use,
    clippy::print_stderr,
    reason = "a test fails by panicking, and may ignore"
)]

mod agree;
mod cases;
mod checkpoint;
mod containerd;
mod cri;
mod engines;
mod killed;
mod life;
mod links;
mod podman;
mod rig;
mod suites;
mod systemd;
