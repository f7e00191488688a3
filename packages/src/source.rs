//! Where the host takes bundles from. Each way ends in a file of the store's own, which nobody else can write to.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

use crate::{Error, Result, Store};

/// A file on this machine, copied.
///
/// # Errors
/// When it cannot be read, is no regular file, or is larger than a bundle may be.
pub fn file(store: &Store, path: &Path) -> Result<File> {
    let failed = |step| Error::kernel(step, path.display());
    // A fifo must not make us wait for who writes to it.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let source = rustix::fs::open(path, flags, Mode::empty()).map_err(failed("open"))?;
    let stat = rustix::fs::fstat(&source).map_err(failed("look at"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::Conflict(format!("{} is no file", path.display())));
    }
    store.copy(&mut File::from(source).by_ref())
}
