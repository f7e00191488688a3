//! System call filters, as the kernel takes them.
//!
//! Owns: the layout of an instruction and the call that puts a filter on the calling thread. Never knows what a filter
//! says: programs come from the `seccomp` room.

use rustix::io::{Errno, Result};

use crate::sys::check;

/// One instruction of classic BPF: `struct sock_filter` of linux/filter.h.
///
/// A slice of these can be given to the kernel as it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Instruction {
    /// What to do: `BPF_LD`, `BPF_JMP`, … and its mode.
    pub code: u16,
    /// How many instructions to skip when a comparison holds.
    pub jt: u8,
    /// How many instructions to skip when it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
const _: () = assert!(align_of::<Instruction>() == align_of::<libc::sock_filter>());

/// The most instructions the kernel takes in one filter: `BPF_MAXINSNS`.
pub const MOST_INSTRUCTIONS: usize = 4096;

/// The flags of `seccomp(2)`.
pub mod flag {
    /// `SECCOMP_FILTER_FLAG_TSYNC`: every thread of the process gets the filter.
    pub const TSYNC: u32 = 1 << 0;
    /// `SECCOMP_FILTER_FLAG_LOG`: whatever is not allowed is logged (Linux 4.14).
    pub const LOG: u32 = 1 << 1;
    /// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: no speculative store bypass mitigation (Linux 4.17; since 5.16 a filter
    /// brings none by default).
    pub const SPEC_ALLOW: u32 = 1 << 2;
    /// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: a descriptor on which an agent answers (Linux 5.0). Only for a child that
    /// [`crate::spawn::apart`] starts.
    pub const NEW_LISTENER: u32 = 1 << 3;
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: who waits for the agent can be interrupted only to be killed (Linux 5.19).
    pub const WAIT_KILLABLE_RECV: u32 = 1 << 5;
}

/// Puts a filter on the calling thread, for ever: it is inherited by `clone` and `execve`, and filters only add up.
///
/// With `no_new_privileges`, `prctl(PR_SET_NO_NEW_PRIVS)` comes first, and stays even where the filter is refused.
/// Without it the thread needs `CAP_SYS_ADMIN` in its user namespace.
///
/// # Errors
/// `EACCES`: neither privilege. `EINVAL`: the kernel does not take the program or a flag; also for an empty or too
/// long one ([`MOST_INSTRUCTIONS`]). `ENOMEM`: the filters of the thread are more than 32,768 instructions together.
/// `ESRCH`: another thread could not get the filter ([`flag::TSYNC`]), and so none has.
pub fn install(program: &[Instruction], flags: u32, no_new_privileges: bool) -> Result<()> {
    // The kernel says EINVAL for a length of 0 and above BPF_MAXINSNS; a longer one must not wrap around into one
    // that is taken.
    let len = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    if no_new_privileges {
        rustix::thread::set_no_new_privs(true)?;
    }
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `filter` points to `len` instructions of the kernel's layout (asserted above), alive through the call
    // because `program` is borrowed; the kernel copies them and writes to none.
    let returned =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    match check(returned)? {
        0 => Ok(()),
        // With TSYNC: the id of the thread that could not follow.
        _ => Err(Errno::SRCH),
    }
}
