//! Programs that decide which devices the processes of a control group may use.
//!
//! Source: `bpf(2)`, linux/bpf.h. Kernel: 4.15; needs `CAP_BPF` and `CAP_NET_ADMIN`, or `CAP_SYS_ADMIN`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, Result};

use crate::sys::{check, owned};

const PROG_LOAD: usize = 5;
const PROG_ATTACH: usize = 8;
const PROG_DETACH: usize = 9;
const PROG_GET_FD_BY_ID: usize = 13;
const PROG_QUERY: usize = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// `union bpf_attr`, as long as the fields that are used here: unused ones are zero.
#[repr(C, align(8))]
struct Attributes([u8; 72]);

impl Attributes {
    fn new() -> Self {
        Self([0; 72])
    }

    fn word(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn pointer<T>(mut self, at: usize, value: *const T) -> Self {
        self.0[at..at + 8].copy_from_slice(&(value as u64).to_ne_bytes());
        self
    }
}

/// Makes `program` (instructions of eight bytes) the one filter of a group of cgroup v2. The programs that it had are
/// taken away after that.
///
/// # Errors
/// `EINVAL` or `EACCES` for a program that the kernel does not take, `EPERM`.
pub fn replace_device_filter(group: BorrowedFd<'_>, program: &[[u8; 8]]) -> Result<()> {
    let before = attached(group)?;
    let new = load(program)?;
    let number = |fd: BorrowedFd<'_>| fd.as_raw_fd().unsigned_abs();
    let mut attach = Attributes::new()
        .word(0, number(group))
        .word(4, number(new.as_fd()))
        .word(8, ATTACH_CGROUP_DEVICE)
        .word(12, ALLOW_MULTI);
    // SAFETY: no pointers among these attributes.
    check(unsafe { bpf(PROG_ATTACH, &mut attach) })?;
    for id in before {
        let mut get = Attributes::new().word(0, id);
        // SAFETY: no pointers among these attributes.
        let old = owned(unsafe { bpf(PROG_GET_FD_BY_ID, &mut get) })?;
        let mut detach = Attributes::new()
            .word(0, number(group))
            .word(4, number(old.as_fd()))
            .word(8, ATTACH_CGROUP_DEVICE);
        // SAFETY: no pointers among these attributes.
        check(unsafe { bpf(PROG_DETACH, &mut detach) })?;
    }
    Ok(())
}

/// The ids of the programs of a group, none of those above it.
fn attached(group: BorrowedFd<'_>) -> Result<Vec<u32>> {
    let mut ids = [0_u32; 64];
    let mut query = Attributes::new()
        .word(0, group.as_raw_fd().unsigned_abs())
        .word(4, ATTACH_CGROUP_DEVICE)
        .pointer(16, ids.as_mut_ptr())
        .word(24, ids.len() as u32);
    // SAFETY: the one pointer is to as many words as it says; the count is written back to the attributes, which
    // `bpf` borrows.
    check(unsafe { bpf(PROG_QUERY, &mut query) })?;
    let count = u32::from_ne_bytes([query.0[24], query.0[25], query.0[26], query.0[27]]);
    Ok(ids.into_iter().take(count as usize).collect())
}

fn load(program: &[[u8; 8]]) -> Result<OwnedFd> {
    let count = u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?;
    let mut load = Attributes::new()
        .word(0, TYPE_CGROUP_DEVICE)
        .word(4, count)
        .pointer(8, program.as_ptr())
        .pointer(16, c"Apache".as_ptr());
    // SAFETY: the pointers are to as many instructions as it says, and to a string.
    owned(unsafe { bpf(PROG_LOAD, &mut load) })
}

/// # Safety
/// Pointers among the attributes are valid for what the command does with them.
unsafe fn bpf(command: usize, attributes: &mut Attributes) -> libc::c_long {
    // SAFETY: by this function's own contract; the kernel writes to the attributes of a query at most.
    unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<Attributes>()) }
}
