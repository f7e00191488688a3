//! Whole files in as few calls as there can be.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::{Errno, Result};

/// What is left to read of a file. One whose size is known takes two calls, one that the kernel makes as it is read
/// (of procfs, of a control group) as many as it has pieces, and two.
///
/// # Errors
/// Those of `read(2)`.
pub fn read(file: impl AsFd) -> Result<Vec<u8>> {
    const PIECE: usize = 4096;
    let size = usize::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
    let mut bytes = Vec::with_capacity(if size == 0 { PIECE } else { size });
    loop {
        if bytes.len() == bytes.capacity() {
            bytes.reserve(PIECE);
        }
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(bytes),
            Ok(_) if bytes.len() == size => return Ok(bytes),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// What a file says that is only ever replaced, by rename, and was understood before.
///
/// It is held open, so nobody else has its inode: while the name leads there, it says the same.
#[derive(Debug)]
pub struct Remembered<T>(Mutex<Option<Seen<T>>>);

#[derive(Debug)]
struct Seen<T> {
    inode: (u64, u64),
    says: Arc<T>,
    _held: OwnedFd,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Remembered<T> {
    /// What the file `name` in `dir` says now; nothing if there is none.
    ///
    /// # Errors
    /// Of a file that cannot be read, or not be understood.
    pub fn read<E>(
        &self,
        dir: impl AsFd,
        name: &str,
        failed: impl Fn(Errno) -> E,
        understand: impl FnOnce(&[u8]) -> std::result::Result<T, E>,
    ) -> std::result::Result<Option<Arc<T>>, E> {
        let there = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            other => inode(&other.map_err(&failed)?),
        };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = seen.as_ref().filter(|seen| seen.inode == there) {
            return Ok(Some(Arc::clone(&seen.says)));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(&failed)?,
        };
        let inode = inode(&rustix::fs::fstat(&file).map_err(&failed)?);
        let says = Arc::new(understand(&read(&file).map_err(&failed)?)?);
        *seen = Some(Seen { inode, says: Arc::clone(&says), _held: file });
        Ok(Some(says))
    }

    /// What a file says that was written just now, before it is given its name.
    ///
    /// # Errors
    /// Those of `fstat(2)`; then what was known before is forgotten.
    pub fn wrote(&self, file: OwnedFd, says: T) -> Result<()> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = None;
        let inode = inode(&rustix::fs::fstat(&file)?);
        *seen = Some(Seen { inode, says: Arc::new(says), _held: file });
        Ok(())
    }
}

fn inode(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(bytes: &[u8]) -> Result<usize> {
        Ok(bytes.len())
    }

    #[test]
    fn a_file_that_is_replaced_is_read_anew() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = std::fs::File::open(temporary.path()).unwrap();
        let put = |text: &str| {
            std::fs::write(temporary.path().join("new"), text).unwrap();
            std::fs::rename(temporary.path().join("new"), temporary.path().join("file")).unwrap();
        };
        let remembered = Remembered::default();
        assert!(remembered.read(&dir, "file", |errno| errno, length).unwrap().is_none());
        // As fast as can be: a file system may give an inode that is free to the next file.
        for round in 1..200 {
            put(&"x".repeat(round));
            assert_eq!(*remembered.read(&dir, "file", |errno| errno, length).unwrap().unwrap(), round);
            let unread = |_: &[u8]| -> Result<usize> { Err(Errno::IO) };
            assert_eq!(
                *remembered.read(&dir, "file", |errno| errno, unread).unwrap().unwrap(),
                round,
                "it was read again"
            );
        }
        std::fs::remove_file(temporary.path().join("file")).unwrap();
        assert!(remembered.read(&dir, "file", |errno| errno, length).unwrap().is_none());
    }

    #[test]
    fn what_was_written_is_known_and_a_failure_is_not() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = std::fs::File::open(temporary.path()).unwrap();
        let remembered = Remembered::default();
        std::fs::write(temporary.path().join("file"), "1234").unwrap();
        let failing = |_: &[u8]| -> Result<usize> { Err(Errno::IO) };
        assert_eq!(remembered.read(&dir, "file", |errno| errno, failing).unwrap_err(), Errno::IO);
        assert_eq!(*remembered.read(&dir, "file", |errno| errno, length).unwrap().unwrap(), 4);
        let file = std::fs::File::create(temporary.path().join("new")).unwrap();
        remembered.wrote(file.into(), 7).unwrap();
        // Not renamed: then the old one is there.
        assert_eq!(*remembered.read(&dir, "file", |errno| errno, length).unwrap().unwrap(), 4);
    }
}
