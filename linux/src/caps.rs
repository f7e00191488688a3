//! Capabilities by name.
//!
//! rustix has the calls (`rustix::thread::capabilities`, `set_capabilities`, the bounding and ambient sets);
//! here are the names that specs and people use, sets of them, and threads that start processes with fewer.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

/// Every capability by number: bit `n` of a set is `NAMES[n]`. Linux 5.9 has had these 41.
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// One capability.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Capability(u8);

/// No such capability.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown capability {0:?}")]
pub struct UnknownCapability(pub String);

impl Capability {
    /// Every capability that has a name.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map_while(|number| NAMES.get(usize::from(number)).map(|_| Self(number)))
    }

    /// The capability with this number.
    #[must_use]
    pub fn from_raw(number: u8) -> Option<Self> {
        NAMES.get(usize::from(number)).map(|_| Self(number))
    }

    /// Its number.
    #[must_use]
    pub fn as_raw(self) -> u8 {
        self.0
    }

    /// Its name, `CAP_CHOWN`.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    /// The set of it alone.
    #[must_use]
    pub fn set(self) -> CapabilitySet {
        CapabilitySet::from_bits_retain(1 << self.0)
    }
}

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

/// Takes all but these out of the bounding set of this thread, and so of what it starts from now on, for good. The kernel
/// takes one in a call, in each process anew: a thread that starts many of the same kind does it once, and
/// [`super::spawn`] knows. Belongs to threads that start nothing else; a thread that such a one makes is like it.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`; what was taken until then is gone.
pub fn bound_thread(keep: u64) -> Result<(), Errno> {
    for capability in (0..64).map(|number| 1 << number).filter(|capability| keep & capability == 0) {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(capability)) {
            // The kernel knows no capability of this number, and none above it.
            Err(Errno::INVAL) => break,
            other => other?,
        }
        TAKEN.set(TAKEN.get() | capability);
    }
    Ok(())
}

/// What [`bound_thread`] has taken from this thread.
pub(crate) fn taken() -> u64 {
    TAKEN.get()
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// `CAP_CHOWN`, `chown`, in any case.
    fn from_str(text: &str) -> Result<Self, UnknownCapability> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        Self::all()
            .find(|capability| capability.name().strip_prefix("CAP_") == Some(name))
            .ok_or_else(|| UnknownCapability(text.to_owned()))
    }
}
