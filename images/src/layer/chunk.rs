//! Buffers that go round: filled by one thread, read by two, used again.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of one chunk: large enough that queues cost nothing, small enough to stay in a core's cache.
pub(super) const CHUNK: usize = 128 << 10;

/// Buffers that are free.
#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    pub(super) fn take(&self) -> Vec<u8> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| vec![0; CHUNK])
    }

    /// The first `length` bytes of a buffer, to be shared.
    pub(super) fn share(&self, buffer: Vec<u8>, length: usize) -> Chunk {
        Chunk(Arc::new(Shared { buffer, length, pool: self.clone() }))
    }
}

struct Shared {
    buffer: Vec<u8>,
    length: usize,
    pool: Pool,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

/// Bytes that several threads read. Its buffer goes back to the pool with the last of them.
#[derive(Clone)]
pub(super) struct Chunk(Arc<Shared>);

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.buffer[..self.0.length]
    }
}
