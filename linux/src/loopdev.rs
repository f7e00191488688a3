//! Loop devices: a file as a block device.
//!
//! A device that [`attach`] makes is the kernel's to take away: it goes when the last descriptor and the last mount of it
//! are gone, also those of a process that was killed. `loop(4)`.

use std::ffi::{c_int, c_ulong};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, Result};

use crate::sys::check;

/// `_IO('L', 0x82)`.
const LOOP_CTL_GET_FREE: c_ulong = 0x4c82;
/// `_IO('L', 0x0A)`, Linux 5.8.
const LOOP_CONFIGURE: c_ulong = 0x4c0a;

const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// The major number of loop devices, linux/major.h.
const LOOP_MAJOR: u32 = 7;

/// `struct loop_config`, linux/loop.h, with `struct loop_info64` in it.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    /// `lo_device`, `lo_inode`, `lo_rdevice`, `lo_offset`, `lo_sizelimit`.
    places: [u64; 5],
    /// `lo_number`, `lo_encrypt_type`, `lo_encrypt_key_size`.
    numbers: [u32; 3],
    flags: u32,
    /// `lo_file_name`, `lo_crypt_name`, `lo_encrypt_key`.
    names: [u8; 64 + 64 + 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 304);

/// A block device.
#[derive(Debug)]
pub struct LoopDevice {
    /// Its only descriptor: when it is dropped before anything is mounted from the device, the device goes.
    pub fd: OwnedFd,
    /// Its name in `/dev`.
    pub path: PathBuf,
}

/// Makes a block device of a file, with blocks of 4096 bytes. The device keeps this open file description: a
/// `flock(2)` that is held by it holds for as long as the device is there.
///
/// What is written to the device goes to the file without a second copy in the page cache, where the file system of the
/// file can do that.
///
/// # Errors
/// `ENOENT` where there is no `/dev/loop-control`, or no node for a free device. `EPERM` without `CAP_SYS_ADMIN`.
pub fn attach(file: impl AsFd) -> Result<LoopDevice> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let control = rustix::fs::open(c"/dev/loop-control", flags, Mode::empty())?;
    let config = LoopConfig {
        fd: file.as_fd().as_raw_fd().unsigned_abs(),
        block_size: 4096,
        places: [0; 5],
        numbers: [0; 3],
        flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
        names: [0; 160],
        init: [0; 2],
        reserved: [0; 8],
    };
    loop {
        // SAFETY: the request takes no argument.
        let number = check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) }.into())?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let fd = rustix::fs::open(&path, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice
            || rustix::fs::major(stat.st_rdev) != LOOP_MAJOR
        {
            return Err(Errno::NXIO);
        }
        // SAFETY: `config` is of the kernel's layout (its size is asserted above) and outlives the call.
        let configured: c_int =
            unsafe { libc::ioctl(fd.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) };
        match check(configured.into()) {
            Ok(_) => return Ok(LoopDevice { fd, path }),
            // Somebody else was given the same number, and was first.
            Err(Errno::BUSY) => {}
            Err(errno) => return Err(errno),
        }
    }
}
