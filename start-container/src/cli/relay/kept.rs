//! Bytes read and not yet written.

use rustix::io::Errno;

/// Bytes read and not yet written.
#[derive(Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    written: usize,
}

impl Kept {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, written: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// How many are not yet written.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    pub(super) fn last(&self) -> Option<u8> {
        self.bytes.last().copied()
    }

    /// Reads at most so many, when all that was read is written. 0 at the end, or when there will be no more; nothing
    /// when there is none now.
    pub(super) fn fill(
        &mut self,
        most: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Option<usize> {
        self.bytes.resize(most, 0);
        self.written = 0;
        let read = read(&mut self.bytes);
        self.bytes.truncate(*read.as_ref().unwrap_or(&0));
        match read {
            Ok(count) => Some(count),
            Err(Errno::INTR | Errno::AGAIN) => None,
            // EIO: nobody has the other end of a terminal open any more.
            Err(_) => Some(0),
        }
    }

    /// Writes what is accepted now.
    pub(super) fn empty(&mut self, write: impl FnOnce(&[u8]) -> Result<usize, Errno>) -> Result<(), Errno> {
        match write(&self.bytes[self.written..]) {
            Ok(count) => {
                self.written += count;
                Ok(())
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}
