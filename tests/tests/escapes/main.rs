//! The escape suite: published ways out of containers, tried against ours.
//!
//! Each test tries one technique through every door (as the leader that `launch` starts, by `exec` of the command line,
//! by `exec` of the host) in every kind of container, and has a control: the same attempt where the guard is switched
//! off by name, or against a setup that is as careless as those that were once broken by it. A control that does not
//! work fails the test, so that none of them can pass for having tried nothing.
//!
//! What is tried lies in `tests/escapes/attacks/`. Nothing is done to the machine: each test has namespaces of its own
//! (`tests::isolate`), and an attempt ends where harm would begin.
//!
//! ```text
//! rig         doors, kinds of containers, relaxations, verdicts, careless engines
//! entering    what enters a container, and what it brings along
//! proc        masked and read-only paths, consoles, redirected writes
//! settings    files of the kernel by which it runs a program, or stops
//! calls       system calls, and files by their numbers
//! processes   processes outside
//! networks    the machine and others, from a private network
//! streams     standard streams of the caller
//! devices     device nodes, setuid files, terminals
//! links       links in an image, links and renames while somebody works
//! exhaustion  what there is not enough of
//! sandboxes   from one sandbox to another, and who is in one to its init, its others and those on their way in
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::let_underscore_must_use,
    reason = "a test fails by panicking, and may ignore"
)]

mod calls;
mod devices;
mod entering;
mod exhaustion;
mod links;
mod networks;
mod proc;
mod processes;
mod rig;
mod sandboxes;
mod settings;
mod streams;
