//! The one form of a header.

use tar::{EntryType, Header};

use super::Refusal;

pub(super) const BLOCK: usize = 512;

/// A file as its header has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) executable: bool,
    pub(super) size: u64,
}

/// The header of a file.
pub(super) fn write(entry: &Entry) -> Result<[u8; BLOCK], Refusal> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_path(&entry.path).map_err(|_unreadable| Refusal::LongName)?;
    header.set_mode(if entry.executable { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(entry.size);
    header
        .set_device_major(0)
        .and_then(|()| header.set_device_minor(0))
        .map_err(|_unreadable| Refusal::LongName)?;
    header.set_cksum();
    Ok(*header.as_bytes())
}

/// What a header says, if it is the one that [`write`] would write for that. `Err` has the path as far as it can be
/// read.
pub(super) fn read(block: &[u8; BLOCK]) -> Result<Entry, (String, Refusal)> {
    let header = Header::from_byte_slice(block);
    let raw = header.path_bytes();
    let name = || String::from_utf8_lossy(&raw).into_owned();
    let path = super::path::judge(&raw).map_err(|refusal| (name(), refusal.into()))?.to_owned();
    let refused = |refusal| (path.clone(), refusal);
    let (Ok(mode), Ok(size)) = (header.mode(), header.size()) else {
        return Err(refused(Refusal::NotCanonical));
    };
    let entry = Entry { path: path.clone(), executable: mode & 0o100 != 0, size };
    match write(&entry) {
        Ok(canonical) if canonical == *block => Ok(entry),
        _ => Err(refused(Refusal::NotCanonical)),
    }
}
