//! Light functions of packages: small JavaScript that answers a request or runs at certain times, and templates.
//!
//! ```text
//! start-container functions     one process for each package, in its sandbox, as nobody in particular
//!   standard input, output      the host asks: load, call, status, unload (protocol::worker)
//!   /media/startos/entries      what is loaded: compiled once
//!   /media/startos/rpc/…        where functions call the host: each thread of calls has a connection of its own
//!
//! call ──▶ thread ──▶ isolate: a QuickJS runtime and context for this call alone, with limits ──▶ answer, in parts
//! ```
//! Owns what happens in that process. It is a stranger's process: QuickJS is a large program in C that runs hostile code, so
//! nothing here is a wall but for the package against itself. The sandbox is the wall, and the host believes nothing that
//! it hears. Never runs in the host's own process.

mod door;
mod fault;
mod isolate;
mod modules;
mod serve;
mod template;

pub use serve::main;
