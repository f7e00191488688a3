//! What runs between `clone3` and `execve`, and what starts it.
//!
//! Compiled twice: into this crate, and into the static program that is PID 1 and guard inside `start-container`
//! (see `init/`). So it needs nothing but `core`, allocates nothing, takes no lock and calls nothing of libc; it
//! may run on memory that it shares with a suspended parent. It never decides: what to do is in the [`script`].

pub mod child;
pub mod nr;
pub mod raw;
pub mod script;
pub mod talk;
mod tree;

/// A failed call: the kernel's number of the error.
pub type Result<T> = core::result::Result<T, i32>;
