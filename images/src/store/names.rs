//! Names of images: one small file, replaced by rename.

use std::collections::BTreeMap;

use protocol::image::ImageInfo;
use rustix::io::Errno;

use super::{Dirs, Record};
use crate::{Digest, Error, Result};
use linux::tree::{read_file_at, replace_file_at};

const FILE: &str = "names.json";

pub(crate) type Names = BTreeMap<String, Digest>;

/// Refuses what cannot be a name: names become paths (`images/<name>.json`) and stand in tables and shells.
pub(crate) fn check(name: &str) -> Result<()> {
    let refused = |reason| Err(Error::ImageName { name: name.to_owned(), reason });
    if name.is_empty() {
        return refused("is empty");
    }
    if name.len() > 500 || name.split('/').any(|part| part.len() > 240) {
        return refused("is too long");
    }
    if name.chars().any(|character| character.is_control() || character.is_whitespace()) {
        return refused("contains white space or control characters");
    }
    if name.split('/').any(|part| part.is_empty() || part.starts_with(['.', '-'])) {
        return refused("has a part that is empty or begins with a dot or a dash");
    }
    if name.starts_with("sha256:") {
        return refused("looks like a digest");
    }
    Ok(())
}

pub(super) fn read(dirs: &Dirs) -> Result<Names> {
    match read_file_at(&dirs.store, FILE) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { file: FILE.to_owned(), source })
        }
        Err(Errno::NOENT) => Ok(Names::new()),
        Err(errno) => Err(Error::kernel("read", FILE)(errno)),
    }
}

/// The caller holds the store's lock exclusively.
pub(super) fn write(dirs: &Dirs, names: &Names) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(names)
        .map_err(|source| Error::Damaged { file: FILE.to_owned(), source })?;
    let written = replace_file_at(&dirs.store, FILE, &bytes, 0o600, true);
    written.and_then(|()| rustix::fs::fsync(&dirs.store)).map_err(Error::kernel("write", FILE))
}

/// A record with its names, as the wire has it.
pub(super) fn info(record: Record, names: &Names) -> ImageInfo {
    ImageInfo {
        names: names
            .iter()
            .filter(|(_, digest)| **digest == record.digest)
            .map(|(name, _)| name.clone())
            .collect(),
        digest: record.digest.to_string(),
        os: record.os,
        architecture: record.architecture,
        layers: record.layers.iter().map(ToString::to_string).collect(),
        size: record.size,
        imported: record.imported,
        config: record.config,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i3_names_are_safe_as_paths() {
        for name in ["debian", "docker.io/library/debian:12", "localhost:5000/a@x"] {
            check(name).unwrap();
        }
        for name in ["", "..", "a/../b", "/etc", "a//b", ".hidden", "a b", "a\nb", "-rf", "sha256:00"] {
            check(name).unwrap_err();
        }
    }
}
