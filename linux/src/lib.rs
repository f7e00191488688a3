//! Typed Linux system calls that rustix lacks, and the few small shapes over them that every room needs.
//!
//! Owns: all `unsafe` of the workspace (besides `init`), the layouts of kernel structures, and the knowledge of
//! which kernel has which call. Never decides anything: no paths of ours, no policy, no logging.
//!
//! What rustix has is used from rustix by every room directly: `open_tree`, `move_mount`, `openat2`,
//! `pidfd_open`, `setns`, `unshare`, `pivot_root`, `unmount`, `mknodat`, `sethostname`, `splice`, credentials and
//! most of `prctl`. Here is the rest, one module a family:
//!
//! | module | calls |
//! |---|---|
//! | [`mount`] | `mount_setattr`, `open_tree_attr`, and `fsopen … fsmount` with the kernel's own explanation |
//! | [`mounts`] | what is mounted: `listmount` and `statmount`, or mountinfo |
//! | [`resolve`] | paths inside a root: `openat2`, `mkdir -p` by handle |
//! | [`tree`] | small steps on directories by handle: make, replace a file, remove a whole tree |
//! | [`proc`] | procfs handles that are known to be procfs |
//! | [`pidfd`], [`signal`] | processes by handle, how they ended, signals by name |
//! | [`userns`] | user namespaces that carry an id map |
//! | [`netns`] | network namespaces without a name, and work inside them |
//! | [`process`], [`caps`] | `close_range`, `execveat`, keyrings; capabilities by name |
//! | [`seccomp`] | system call filters, as the kernel takes them |
//! | [`file`](mod@file), [`memfd`] | whole files; sealed memory files |
//! | [`loopdev`] | a file as a block device |
//! | [`kernel`] | which of the newer calls this kernel has |
//! | [`step`] | points at which a test ends this process |
//! | [`errno`] | `ENOENT` for 2 |
//!
//! The kernel floor is 6.1. Where a newer call is used when present, the function takes [`kernel::Features`], so
//! that tests take both ways on one kernel.

mod sys;

pub mod bpf;
pub mod caps;
pub mod errno;
pub mod file;
pub mod fsids;
pub mod kernel;
pub mod loopdev;
pub mod memfd;
pub mod mount;
pub mod mounts;
pub mod netns;
pub mod pidfd;
pub mod proc;
pub mod process;
pub mod resolve;
pub mod seccomp;
pub mod signal;
pub mod signalfd;
pub mod socket;
pub mod spawn;
pub mod step;
pub mod tree;
pub mod userns;
