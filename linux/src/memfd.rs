//! Files in memory that nobody can change any more.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{Errno, Result};

/// A sealed memory file with these bytes: neither its content nor its size nor its seals can change, by whomever.
/// It can be executed (`fexecve`), and its offset is 0.
///
/// `int memfd_create(const char *name, unsigned flags)`, Linux 3.17; `MFD_EXEC` since 6.3, where
/// `vm.memfd_noexec` may demand it, <https://man7.org/linux/man-pages/man2/memfd_create.2.html>.
///
/// # Errors
/// `ENOMEM`, `EMFILE`; `EACCES` where `vm.memfd_noexec=2` forbids executable ones.
pub fn memfd_sealed(name: &CStr, bytes: &[u8]) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create(name, flags | MemfdFlags::EXEC) {
        // Before 6.3 the flag is unknown, and every memfd can be executed.
        Err(Errno::INVAL) => memfd_create(name, flags)?,
        other => other?,
    };
    write_all(&file, bytes)?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

/// A memory file with these bytes, for another process to map.
///
/// # Errors
/// `ENOMEM`, `EMFILE`.
pub fn memfd(name: &CStr, bytes: &[u8]) -> Result<OwnedFd> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC)?;
    write_all(&file, bytes)?;
    Ok(file)
}

fn write_all(file: &OwnedFd, bytes: &[u8]) -> Result<()> {
    let mut offset = 0;
    while offset < bytes.len() {
        let at = u64::try_from(offset).map_err(|_| Errno::FBIG)?;
        match rustix::io::pwrite(file, &bytes[offset..], at) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => offset += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
