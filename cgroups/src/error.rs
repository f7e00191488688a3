use rustix::io::Errno;

use crate::{Absence, Controller};

/// What a function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A step that failed. What it had made is gone again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine cannot be looked at.
    #[error("read {path}")]
    ReadMachine {
        /// The file.
        path: String,
        /// Why.
        source: Errno,
    },
    /// No v2 hierarchy is mounted, and none can be.
    #[error("mount cgroup2")]
    MountV2 {
        /// Why.
        source: Errno,
    },
    /// A limit that makes no sense, or that the kernel refuses.
    #[error("limit {limit}: {why}")]
    Invalid {
        /// Its name on the wire.
        limit: String,
        /// What is wrong with it.
        why: String,
    },
    /// A field of an OCI `linux.resources` that this crate has no means for. It is refused, not dropped: a limit
    /// that silently does not hold is worse than none.
    #[error("linux.resources.{field} is not supported")]
    Unsupported {
        /// The field.
        field: &'static str,
    },
    /// A limit whose controller this machine lacks.
    #[error("limit {limit} needs the {controller} controller, which {absence}")]
    NoController {
        /// Its name on the wire.
        limit: &'static str,
        /// The controller.
        controller: Controller,
        /// Why it is not there.
        absence: Absence,
    },
    /// A name that is no single component of a path.
    #[error("control group name {name:?} is not a plain name")]
    Name {
        /// The name.
        name: String,
    },
    /// systemd refused, or is not there.
    #[error("{what}: {why}")]
    Systemd {
        /// What was asked for.
        what: String,
        /// Its answer.
        why: String,
    },
    /// A directory could not be made.
    #[error("create control group {group}")]
    Create {
        /// `<hierarchy>:start-container/<name>`.
        group: String,
        /// Why.
        source: Errno,
    },
    /// A directory of this name holds processes.
    #[error("container's cgroup is not empty: {group}")]
    InUse {
        /// Which.
        group: String,
    },
    /// Controllers could not be made available. EBUSY: our top of the hierarchy is not the machine's, and has
    /// processes of its own ("no internal processes", cgroup-v2.rst).
    #[error("make controllers {controllers} available in {group}")]
    Enable {
        /// As written to `cgroup.subtree_control`.
        controllers: String,
        /// Where.
        group: String,
        /// Why.
        source: Errno,
    },
    /// A limit could not be written.
    #[error("write {value} to {file} of control group {group}")]
    Write {
        /// The file.
        file: String,
        /// The value.
        value: String,
        /// Which group.
        group: String,
        /// Why.
        source: Errno,
    },
    /// A file could not be opened or read.
    #[error("read {file} of control group {group}")]
    Read {
        /// The file.
        file: String,
        /// Which group.
        group: String,
        /// Why.
        source: Errno,
    },
    /// A live memory limit below what is in use, after the kernel has given back what it could.
    #[error("lower memoryBytes to {limit}: {current} bytes are in use")]
    MemoryInUse {
        /// The wanted limit.
        limit: u64,
        /// What is in use.
        current: u64,
    },
    /// A running process could not be moved into a hierarchy that a new limit needs.
    #[error("move process {pid} to control group {group}")]
    Move {
        /// Which.
        pid: i32,
        /// Where to.
        group: String,
        /// Why.
        source: Errno,
    },
    /// Out-of-memory events cannot be waited for.
    #[error("watch out-of-memory events of control group {group}")]
    Watch {
        /// Which group.
        group: String,
        /// Why.
        source: Errno,
    },
    /// A directory could not be removed. EBUSY: processes, or groups beneath, are still there.
    #[error("remove control group {group}")]
    Remove {
        /// Which.
        group: String,
        /// Why.
        source: Errno,
    },
}

impl Error {
    pub(crate) fn invalid(limit: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { limit: limit.into(), why: why.into() }
    }

    /// Whether what was asked for is wrong, rather than something having failed: nothing was touched.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Invalid { .. } | Self::Unsupported { .. } | Self::NoController { .. } | Self::Name { .. }
        )
    }
}
