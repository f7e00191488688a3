//! The process that keeps a daemon's handles of its containers' first processes while no daemon runs.
//!
//! A kernel that tells by such a handle how a process ended (`PIDFD_GET_INFO`, Linux 6.15) tells it to whoever has had one
//! since before that. So one process for each data directory has them all, and does nothing with them; the next daemon
//! fetches them (`pidfd_getfd(2)`). When a daemon ends in order it goes with the last handle that is let go.
//!
//! Descriptors: 3 the socket that it is told things by, 4 the other end of that, for the next daemon, and from 64 on
//! the handles. A message is one word: with a descriptor, the number to keep it as; without, the number to close, or one of
//! [`STAY`] and [`LEAVE`].

use core::ptr;

use crate::bare::nr;
use crate::{exit, sys};

const SOCKET: usize = 3;
/// There is a daemon.
const STAY: usize = 0;
/// There is none: nobody needs this process once it has nothing to keep.
const LEAVE: usize = 1;
const CLOEXEC: usize = 0o2_000_000;
/// `MSG_CMSG_CLOEXEC`.
const CLOEXEC_CMSG: usize = 0x4000_0000;
const EINTR: isize = -4;

/// `struct iovec`.
#[repr(C)]
struct Buffer {
    base: *mut u64,
    length: usize,
}

/// `struct msghdr`, of the 64-bit ABIs.
#[repr(C)]
struct Message {
    name: usize,
    name_length: u32,
    buffers: *mut Buffer,
    buffer_count: usize,
    control: *mut Control,
    control_length: usize,
    flags: i32,
}

/// `struct cmsghdr` with room for one descriptor.
#[repr(C)]
struct Control {
    length: usize,
    level: i32,
    kind: i32,
    descriptor: i32,
    padding: i32,
}

pub(crate) fn main() -> ! {
    const SOL_SOCKET: i32 = 1;
    const SCM_RIGHTS: i32 = 1;
    // A signal for the daemon's terminal is none for this one.
    unsafe { sys(nr::SETSID, []) };
    let (mut kept, mut leaving) = (0_usize, false);
    loop {
        if leaving && kept == 0 {
            exit(0);
        }
        let mut word = 0_u64;
        let mut control = Control { length: 0, level: 0, kind: 0, descriptor: -1, padding: 0 };
        let mut buffer = Buffer { base: &raw mut word, length: size_of::<u64>() };
        let mut message = Message {
            name: 0,
            name_length: 0,
            buffers: &raw mut buffer,
            buffer_count: 1,
            control: &raw mut control,
            control_length: size_of::<Control>(),
            flags: 0,
        };
        let read = unsafe { sys(nr::RECVMSG, [SOCKET, ptr::from_mut(&mut message) as usize, CLOEXEC_CMSG]) };
        match read {
            EINTR => continue,
            8 => {}
            _ => exit(1),
        }
        // The kernel has written there.
        let number = unsafe { ptr::read_volatile(&raw const word) } as usize;
        let control = unsafe { ptr::read_volatile(&raw const control) };
        let with = message.control_length >= 20 && (control.level, control.kind) == (SOL_SOCKET, SCM_RIGHTS);
        match (with, number) {
            (true, _) => {
                kept -= unsafe { close(number) };
                let done = unsafe { sys(nr::DUP3, [control.descriptor as usize, number, CLOEXEC]) };
                kept += usize::from(done >= 0);
                unsafe { close(control.descriptor as usize) };
            }
            (false, STAY) => leaving = false,
            (false, LEAVE) => leaving = true,
            (false, _) => kept -= unsafe { close(number) },
        }
    }
}

/// How many were closed: none, if there was none of that number.
unsafe fn close(number: usize) -> usize {
    usize::from(unsafe { sys(nr::CLOSE, [number]) } == 0)
}
