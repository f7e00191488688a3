//! What the end-to-end tests stand on: a private machine for each test, a look at what is left on it, the host,
//! the command line and the socket.
//!
//! Owns nothing of the product: everything here goes through public doors, the `start-container` binary and its
//! socket. It never links the engine.
//!
//! ```text
//! #[test]
//! fn s12_destroy_fs_is_idempotent() {
//!     isolated(|machine| {            // own mount, pid, net, ipc, uts and cgroup namespaces; own /run and /tmp
//!         let cli = Cli::new();       // on an empty data directory
//!         ...
//!     });                             // fails when a mount, cgroup, process, link or file is left
//! }
//! ```

pub mod archive;
pub mod attacks;
pub mod cli;
pub mod host;
pub mod image;
pub mod isolate;
pub mod machine;
pub mod rpc;
pub mod terminal;

pub use cli::{Cli, Finished};
pub use host::Host;
pub use isolate::isolated;
pub use machine::Machine;
pub use rpc::{Rpc, RpcError};

/// How long anything is waited for: a machine that compiles beside the tests is slow.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Waits until something holds.
///
/// # Panics
/// When it does not within [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Ends the calling test as skipped, with the reason. The summary of `cargo xtask test` counts it as skipped, not
/// as passed: it looks for the word in the output of tests that ended well.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        std::eprintln!("skipped: {}", std::format_args!($($reason)*));
        return;
    }};
}
