//! Making files that belong to somebody else from their first moment on.
//!
//! In a file system whose ids are mapped, root of the machine may be nobody: what it makes there would belong to an id
//! that cannot be stored (`EOVERFLOW`). Whoever makes files for a container does it as the container's root.

use std::marker::PhantomData;

use rustix::io::{Errno, Result};
use rustix::thread::{CapabilitySets, capabilities, set_capabilities};

use crate::sys::check;

/// While this lives, files that the calling thread makes belong to another user and group; its capabilities over
/// files are what they were.
///
/// `setfsuid(2)`, `setfsgid(2)`, `capset(2)`: attributes of the thread alone, which threads that it starts meanwhile
/// inherit. Not `Send`: it must be dropped where it was made.
#[derive(Debug)]
pub struct AsOwner {
    before: Option<(u32, u32)>,
    _thread: PhantomData<*const ()>,
}

impl AsOwner {
    /// As this user and the group of the same number.
    ///
    /// # Errors
    /// `EPERM` for who is not root.
    pub fn new(id: u32) -> Result<Self> {
        let own = capabilities(None)?;
        let gid = set(libc::SYS_setfsgid, id)?;
        let uid = set(libc::SYS_setfsuid, id)?;
        let owner = Self { before: Some((uid, gid)), _thread: PhantomData };
        // The kernel says no more than who it was before: ask again who it is.
        if set(libc::SYS_setfsuid, id)? != id || set(libc::SYS_setfsgid, id)? != id {
            return Err(Errno::PERM);
        }
        // A file system user who is not root has lost CAP_DAC_OVERRIDE and its like from the effective set.
        restore(own)?;
        Ok(owner)
    }

    /// As whom the thread is already: to have one thing in both cases.
    #[must_use]
    pub fn nobody_else() -> Self {
        Self { before: None, _thread: PhantomData }
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        if let Some((uid, gid)) = self.before {
            // Back to one's own ids is always allowed.
            let back = set(libc::SYS_setfsuid, uid).and(set(libc::SYS_setfsgid, gid));
            debug_assert!(back.is_ok());
        }
    }
}

fn restore(own: CapabilitySets) -> Result<()> {
    set_capabilities(None, own)
}

fn set(call: libc::c_long, id: u32) -> Result<u32> {
    // SAFETY: no pointers. It never fails; it returns the id before.
    let before = unsafe { libc::syscall(call, libc::c_long::from(id)) };
    check(before)?;
    u32::try_from(before).map_err(|_| Errno::INVAL)
}
