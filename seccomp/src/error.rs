//! What can be wrong with a filter. All of it is found at planning time, before anything is created.

/// Why a filter was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not JSON, or not of the form of `linux.seccomp`.
    #[error("read seccomp filter")]
    Json(#[source] serde_json::Error),
    /// A field that OCI does not have. Ignoring it could make the filter say something else: the profiles of Docker
    /// and Podman have `includes` and `excludes`, which decide whether a rule is there at all.
    #[error("unknown field {0:?} in seccomp filter")]
    UnknownField(String),
    /// A name that is a system call on no architecture.
    #[error("unknown system call {0:?} in seccomp filter")]
    UnknownSyscall(String),
    /// A rule without names. Counted from 0.
    #[error("seccomp rule {0} names no system call")]
    NoNames(usize),
    /// System calls have six arguments.
    #[error("seccomp rule for {syscall:?} compares argument {index}, the last one is 5")]
    Argument {
        /// The first name of the rule.
        syscall: String,
        /// Which argument, from 0.
        index: usize,
    },
    /// The action needs somebody who answers, and there is nobody.
    #[error("seccomp action SCMP_ACT_NOTIFY is not supported: there is no agent to notify")]
    Notify,
    /// The runtime spec wants this refused.
    #[error("seccomp action {0} takes no errno")]
    ErrnoNotTaken(String),
    /// More than the kernel passes on: 4095 for an errno, 65535 for a tracer's message.
    #[error("errno {errno} of seccomp action {action} is above {most}")]
    Errno {
        /// Which action.
        action: String,
        /// What was asked for.
        errno: u32,
        /// What the kernel passes on.
        most: u32,
    },
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` is about a listener.
    #[error("seccomp flag {0} needs an agent to notify, which is not supported")]
    Flag(String),
    /// The runtime spec wants this refused.
    #[error("seccomp listener metadata without a listener path")]
    MetadataWithoutListener,
    /// The kernel takes no program that long.
    #[error(
        "seccomp filter has {instructions} instructions, the kernel takes {}",
        linux::seccomp::MOST_INSTRUCTIONS
    )]
    TooLong {
        /// How many it would have.
        instructions: usize,
    },
}
