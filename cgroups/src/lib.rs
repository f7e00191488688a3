//! Limits on what a group of processes uses, by the kernel's control groups.
//!
//! Owns the groups `start-container/<name>` in the hierarchies of the controllers, the limits in them, and the words
//! for both. A controller is used where the kernel has it: one that is bound to a cgroup v1 hierarchy through v1, one
//! that v2 offers through v2, side by side on one machine. Never kills: ending what runs in a group is done with
//! `cgroup.kill`, which needs no controller. Never touches a group that it did not make, except for the root of the
//! v2 hierarchy, where it makes controllers available to groups beneath (`cgroup.subtree_control`).
//!
//! ```text
//! <top of v2>/start-container/<name>/             always: clone3's target, pressure, controllers that v2 offers
//! <top of memory v1>/start-container/<name>/      where the controller is bound to v1; a child joins it by itself
//! <top of pids v1>/start-container/<name>/
//! ```
//!
//! First decide, then act:
//!
//! ```text
//! Limits --Machine::plan--> Plan --Group::create--> Group --update, stats, oom--> Group::remove
//!           (refuses)        what is written where
//! ```
//! What cannot be had is refused by [`Machine::plan`], before anything is made: a value that the kernel or common
//! sense refuses, a controller that this machine lacks. What fails later takes back what was made.
//!
//! | module | about |
//! |---|---|
//! | [`Machine`] | which controller is where; processors, memory nodes, sizes of huge pages |
//! | [`Limits`] | what is asked for; to and from the OCI runtime specification |
//! | [`Plan`] | the files and values for that on this machine |
//! | [`Group`] | the directories: create, join, update, remove |
//! | [`Stats`] | what is used, and pressure |
//! | [`OomWatch`] | the kernel's out-of-memory kills, counted, and something to wait on |
//!
//! Kernel: 6.1. Sources: the kernel's `admin-guide/cgroup-v2.rst` and `admin-guide/cgroup-v1/`.

mod controller;
mod dir;
mod error;
mod group;
mod limits;
mod list;
mod machine;
pub mod oci;
mod oom;
mod plan;
mod stats;
pub mod systemd;

pub use controller::{Absence, Controller, Version};
pub use error::{Error, Result};
pub use group::Group;
pub use limits::{HugePageLimit, IoLimit, Limits, check, from_oci, write_to};
pub use machine::{Facts, Machine};
pub use oom::OomWatch;
pub use plan::{Plan, Setting};
pub use stats::{CpuStats, IoStats, MemoryStats, PidsStats, Pressure, PressureStats, Stall, Stats};
