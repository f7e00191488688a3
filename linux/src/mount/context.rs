use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_create_exclusive, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_path, fsconfig_set_string, fsmount, fsopen,
};

/// A file system that is being configured: `fsopen`, `fsconfig` and `fsmount` (Linux 5.2,
/// <https://man7.org/linux/man-pages/man2/fsopen.2.html>).
///
/// When a step fails, what the kernel wrote about it into the context is read out and kept in the error.
#[derive(Debug)]
pub struct FsContext {
    fd: OwnedFd,
    name: &'static str,
}

/// A step of an [`FsContext`] that failed.
///
/// Shown as `fsconfig lowerdir+: EINVAL (overlay: …)`. It has no source: the errno is part of the message,
/// because the kernel's words belong to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContextError {
    step: String,
    errno: Errno,
    log: Option<String>,
}

impl ContextError {
    /// The step: `fsopen overlay`, `fsconfig lowerdir+`, `fsmount overlay`.
    #[must_use]
    pub fn step(&self) -> &str {
        &self.step
    }

    /// The error number.
    #[must_use]
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// What the kernel said, where it said something.
    #[must_use]
    pub fn log(&self) -> Option<&str> {
        self.log.as_deref()
    }
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, crate::errno::name(self.errno))?;
        match &self.log {
            Some(log) => write!(f, " ({log})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ContextError {}

impl FsContext {
    /// Begins a new file system of the named type.
    ///
    /// # Errors
    /// `ENODEV` for a type that the kernel does not have, `EPERM` without `CAP_SYS_ADMIN`.
    pub fn open(name: &'static str) -> Result<Self, ContextError> {
        match fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(fd) => Ok(Self { fd, name }),
            Err(errno) => Err(ContextError { step: format!("fsopen {name}"), errno, log: None }),
        }
    }

    /// Sets a parameter without value.
    ///
    /// # Errors
    /// What the file system says of it.
    pub fn flag(&self, key: &str) -> Result<(), ContextError> {
        self.explain(key, fsconfig_set_flag(self.fd.as_fd(), key))
    }

    /// Sets a parameter to a string of at most 255 bytes (the kernel's limit for one value: longer is `EINVAL`).
    ///
    /// # Errors
    /// What the file system says of it.
    pub fn string(&self, key: &str, value: impl rustix::path::Arg) -> Result<(), ContextError> {
        self.explain(key, fsconfig_set_string(self.fd.as_fd(), key, value))
    }

    /// Sets a parameter to a path, looked up from `base`.
    ///
    /// # Errors
    /// What the file system says of it.
    pub fn path(
        &self,
        key: &str,
        base: BorrowedFd<'_>,
        path: impl rustix::path::Arg,
    ) -> Result<(), ContextError> {
        self.explain(key, fsconfig_set_path(self.fd.as_fd(), key, path, base))
    }

    /// Sets a parameter to an open descriptor (overlay's layers: Linux 6.13).
    ///
    /// # Errors
    /// What the file system says of it.
    pub fn fd(&self, key: &str, value: BorrowedFd<'_>) -> Result<(), ContextError> {
        self.explain(key, fsconfig_set_fd(self.fd.as_fd(), key, value))
    }

    /// Makes the superblock, or finds one that fits.
    ///
    /// # Errors
    /// What the file system says of the parameters together.
    pub fn create(&self) -> Result<(), ContextError> {
        self.explain("create", fsconfig_create(self.fd.as_fd()))
    }

    /// Makes the superblock; an existing one is `EBUSY` (Linux 6.6).
    ///
    /// # Errors
    /// What the file system says of the parameters together.
    pub fn create_exclusive(&self) -> Result<(), ContextError> {
        self.explain("create", fsconfig_create_exclusive(self.fd.as_fd()))
    }

    /// A detached mount of it, after [`create`](Self::create).
    ///
    /// # Errors
    /// `EINVAL` before `create`, or what the file system says.
    pub fn mount(&self, attributes: MountAttrFlags) -> Result<OwnedFd, ContextError> {
        fsmount(self.fd.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|errno| self.error(format!("fsmount {}", self.name), errno))
    }

    fn explain(&self, key: &str, result: Result<(), Errno>) -> Result<(), ContextError> {
        result.map_err(|errno| self.error(format!("fsconfig {key}"), errno))
    }

    fn error(&self, step: String, errno: Errno) -> ContextError {
        ContextError { step, errno, log: self.log() }
    }

    /// The messages that wait in the context. Each `read(2)` takes one: `e overlay: …`, `w …` or `i …`.
    fn log(&self) -> Option<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut buffer = [0_u8; 4096];
        // ENODATA ends it; the bound is for a kernel that would never say so.
        while let (true, Ok(count)) = (lines.len() < 32, rustix::io::read(&self.fd, &mut buffer[..])) {
            if count == 0 {
                break;
            }
            let line = String::from_utf8_lossy(&buffer[..count]);
            let line = line.trim_end();
            lines.push(line.get(2..).unwrap_or(line).to_owned());
        }
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

impl AsFd for FsContext {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
