//! What a filter returns: `SECCOMP_RET_*` of linux/seccomp.h, with 16 bits of data.

use oci_spec::runtime::LinuxSeccompAction as Oci;

use crate::Error;

/// A return value of a filter.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Action(pub(crate) u32);

const ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

impl Action {
    /// "This kernel does not have that."
    pub(crate) const ENOSYS: Self = Self(ERRNO | ENOSYS);
    pub(crate) const KILL_PROCESS: Self = Self(0x8000_0000);

    /// What a spec says, with its `errnoRet` if it has one.
    pub(crate) fn of(action: Oci, errno: Option<u32>) -> Result<Self, Error> {
        let with = |base: u32, most: u32| match errno.unwrap_or(EPERM) {
            errno if errno > most => Err(Error::Errno { action: action.to_string(), errno, most }),
            errno => Ok(Self(base | errno)),
        };
        let without = |value: u32| match errno {
            Some(_) => Err(Error::ErrnoNotTaken(action.to_string())),
            None => Ok(Self(value)),
        };
        match action {
            Oci::ScmpActKill | Oci::ScmpActKillThread => without(0),
            Oci::ScmpActKillProcess => without(Self::KILL_PROCESS.0),
            Oci::ScmpActTrap => without(0x0003_0000),
            // MAX_ERRNO: the kernel makes it of anything above.
            Oci::ScmpActErrno => with(ERRNO, 4095),
            Oci::ScmpActTrace => with(0x7ff0_0000, 0xffff),
            Oci::ScmpActLog => without(0x7ffc_0000),
            Oci::ScmpActAllow => without(0x7fff_0000),
            // An agent answers: see `compile_for_agent`.
            Oci::ScmpActNotify => without(0x7fc0_0000),
        }
    }

    /// The kernel's order: the less, the stricter.
    pub(crate) fn rank(self) -> i32 {
        (self.0 & 0xffff_0000).cast_signed()
    }

    pub(crate) fn is_errno(self) -> bool {
        self.0 & 0xffff_0000 == ERRNO
    }

    /// Whether the call does not happen.
    pub(crate) fn refuses(self) -> bool {
        self.rank() <= ERRNO.cast_signed()
    }
}
