//! The controllers that limits need, under the names that each version of the interface has for them.

use std::fmt;

/// Which interface a controller is used through.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Version {
    /// A hierarchy of its own, `cgroup-v1/`.
    V1,
    /// The unified hierarchy, `cgroup-v2.rst`.
    V2,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "cgroup v1",
            Self::V2 => "cgroup v2",
        })
    }
}

/// A controller that this crate can use.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Controller {
    /// Memory and swap.
    Memory,
    /// Processor time: weight, and quota in a period.
    Cpu,
    /// Which processors and memory nodes.
    Cpuset,
    /// How many processes and threads.
    Pids,
    /// Block devices. Its name in v1 is `blkio`.
    Io,
    /// Huge pages.
    Hugetlb,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Memory, Self::Cpu, Self::Cpuset, Self::Pids, Self::Io, Self::Hugetlb];

    /// As the files of a version call it.
    #[must_use]
    pub fn name(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::Memory, _) => "memory",
            (Self::Cpu, _) => "cpu",
            (Self::Cpuset, _) => "cpuset",
            (Self::Pids, _) => "pids",
            (Self::Io, Version::V1) => "blkio",
            (Self::Io, Version::V2) => "io",
            (Self::Hugetlb, _) => "hugetlb",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name(Version::V2))
    }
}

/// Why a controller cannot be used here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Absence {
    /// The kernel was built without it.
    NotInKernel,
    /// `cgroup_disable=` on the kernel's command line, as some ARM boards have it for memory.
    DisabledAtBoot,
    /// It is bound to a v1 hierarchy that is not mounted here.
    NotMounted,
    /// v2 has it, but whoever made our part of the hierarchy did not pass it on to us.
    NotDelegated,
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotInKernel => "this kernel does not have",
            Self::DisabledAtBoot => "is disabled on the kernel's command line (cgroup_disable)",
            Self::NotMounted => "is bound to a cgroup v1 hierarchy that is not mounted here",
            Self::NotDelegated => "is not delegated to this part of the cgroup v2 hierarchy",
        })
    }
}
