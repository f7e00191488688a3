//! Files with holes, in the ways that tar has had to say so.
//!
//! | form | where the map is |
//! |---|---|
//! | GNU, type `S` | in the header and in blocks after it |
//! | pax 0.0, 0.1 | in extended records |
//! | pax 1.0 | in lines at the head of the stored bytes |

use tar::GnuExtSparseHeader;

use super::pax;
use super::reader::{BLOCK, Entry, Input, Kind, Reader};
use crate::{Error, Refusal, Result};

impl<I: Input> Reader<'_, I> {
    /// Checks a sparse map and puts it into the entry.
    pub(super) fn sparse(&self, entry: &mut Entry, size: u64, map: &[u64]) -> Result<()> {
        let malformed = || self.entry_error(&entry.path, Refusal::Header("sparse map"));
        if entry.kind != Kind::File || !map.len().is_multiple_of(2) {
            return Err(malformed());
        }
        let (mut end, mut total) = (0, 0_u64);
        let mut parts = Vec::with_capacity(map.len() / 2);
        for pair in map.chunks_exact(2) {
            let (offset, length) = (pair[0], pair[1]);
            if offset < end {
                return Err(malformed());
            }
            end = offset.checked_add(length).filter(|end| *end <= size).ok_or_else(malformed)?;
            total = total.checked_add(length).ok_or_else(malformed)?;
            parts.push((offset, length));
        }
        if total != self.left {
            return Err(malformed());
        }
        entry.size = size;
        entry.sparse = Some(parts);
        Ok(())
    }

    /// The blocks of a map that follow an old GNU sparse header. They do not count as stored bytes.
    pub(super) fn old_sparse(&mut self, entry: &Entry, map: &mut Vec<u64>) -> Result<()> {
        loop {
            let mut header = GnuExtSparseHeader::new();
            let mut block = [0; BLOCK];
            if !self.block(&mut block)? {
                return Err(self.layer_error(Refusal::Truncated));
            }
            *header.as_mut_bytes() = block;
            let malformed = || self.entry_error(&entry.path, Refusal::Header("sparse map"));
            for part in header.sparse().iter().filter(|part| !part.is_empty()) {
                map.push(part.offset().ok().ok_or_else(malformed)?);
                map.push(part.length().ok().ok_or_else(malformed)?);
            }
            if map.len() as u64 * 8 > self.limits.extended_header {
                return Err(
                    self.entry_error(&entry.path, Refusal::ExtendedHeader(self.limits.extended_header))
                );
            }
            if !header.is_extended() {
                return Ok(());
            }
        }
    }

    /// The map of a pax 1.0 sparse file: decimal lines at the head of the stored bytes, padded to a block.
    pub(super) fn new_sparse(&mut self, entry: &Entry) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        let mut wanted = 1;
        let mut digits = Vec::new();
        let mut read = 0_u64;
        while numbers.len() < wanted {
            let malformed = || Error::Entry {
                layer: self.layer.to_owned(),
                entry: entry.name(),
                reason: Refusal::Header("sparse map"),
            };
            let mut block = [0; BLOCK];
            if self.left < BLOCK as u64 {
                return Err(malformed());
            }
            if !self.block(&mut block)? {
                return Err(self.layer_error(Refusal::Truncated));
            }
            self.left -= BLOCK as u64;
            read += BLOCK as u64;
            if read > self.limits.extended_header {
                return Err(
                    self.entry_error(&entry.path, Refusal::ExtendedHeader(self.limits.extended_header))
                );
            }
            for byte in block {
                if numbers.len() == wanted {
                    break;
                }
                if byte != b'\n' {
                    digits.push(byte);
                    continue;
                }
                let malformed = || self.entry_error(&entry.path, Refusal::Header("sparse map"));
                let number = pax::number(&digits).ok_or_else(malformed)?;
                digits.clear();
                if numbers.is_empty() {
                    wanted = usize::try_from(number)
                        .ok()
                        .and_then(|parts| parts.checked_mul(2)?.checked_add(1))
                        .ok_or_else(malformed)?;
                }
                numbers.push(number);
            }
        }
        numbers.remove(0);
        Ok(numbers)
    }
}
