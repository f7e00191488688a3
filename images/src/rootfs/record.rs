//! `rootfs.json`: what there is to know of a rootfs, written before anything is acquired for it.

use std::os::fd::OwnedFd;
use std::path::Path;

use protocol::sandbox::SandboxSettings;
use protocol::subcontainer::Mount;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::store::Store;
use crate::{Digest, Error, Result};
use linux::tree::{open_dir, read_file_at, text_names_in, write_all};

pub(super) const FILE: &str = "rootfs.json";
/// What it is called while it is being replaced.
pub(super) const NEW_FILE: &str = "rootfs.json.new";

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Record {
    pub(super) guid: String,
    pub(super) name: Option<String>,
    /// None: nothing is beneath it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<Digest>,
    /// Lowest first.
    pub(super) layers: Vec<Digest>,
    /// Index of the layer that the root directory's mode and owner come from.
    pub(super) root: Option<usize>,
    pub(super) created: u64,
    pub(super) throwaway: bool,
    /// The first id of the machine that is one of its own: what is stored as, or seen inside as, 0. Absent: ids are
    /// the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ids: Option<u32>,
    /// It is a sandbox's own, with these settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sandbox: Option<SandboxSettings>,
    /// The guid of the sandbox that it is in, whose ids it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) within: Option<String>,
    /// Bytes on disk that what is written takes at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    pub(super) mounts: Vec<Mount>,
    /// Something was mounted in it once: what ran there may have met others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) met_others: bool,
}

impl Record {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|source| Error::Damaged { file: FILE.to_owned(), source })
    }

    /// Writes it into a directory that was just made: nobody looks there yet, so no rename is needed.
    pub(super) fn write_new(&self, dir: &OwnedFd) -> Result<()> {
        let bytes = self.to_bytes()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let written = || {
            let file = rustix::fs::openat(dir, FILE, flags, Mode::from_raw_mode(0o600))?;
            write_all(&file, &bytes)?;
            if !self.throwaway {
                rustix::fs::fsync(&file)?;
            }
            Ok(())
        };
        written().map_err(Error::kernel("write record of", format!("rootfs {}", self.guid)))
    }

    pub(super) fn read(dir: &OwnedFd, guid: &str) -> Result<Self> {
        match read_file_at(dir, FILE) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| Error::Damaged { file: format!("rootfs/{guid}/{FILE}"), source }),
            Err(Errno::NOENT) => Err(Error::UnknownRootfs(guid.to_owned())),
            Err(errno) => Err(Error::kernel("read record of", format!("rootfs {guid}"))(errno)),
        }
    }
}

/// Refuses what is no plain file name: guids become paths.
pub(super) fn check_guid(guid: &str) -> Result<()> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if guid.is_empty() || guid.len() > 64 || guid.starts_with('-') || !guid.bytes().all(fine) {
        return Err(Error::BadGuid(guid.to_owned()));
    }
    Ok(())
}

/// Names of all directories that may be a rootfs.
pub(super) fn guids(data_dir: &Path) -> Result<Vec<String>> {
    match open_dir(&data_dir.join("rootfs")).and_then(text_names_in) {
        Ok(names) => {
            Ok(names.into_iter().filter(|name| name != "lock" && check_guid(name).is_ok()).collect())
        }
        Err(Errno::NOENT) => Ok(Vec::new()),
        Err(errno) => Err(Error::kernel("read directory", "rootfs")(errno)),
    }
}

/// What stands on this image: guids, with names where there are. The caller holds the store's lock exclusively.
pub(crate) fn users(store: &Store, image: &Digest) -> Result<Vec<String>> {
    let mut users = Vec::new();
    for guid in guids(store.data_dir())? {
        match read_file_at(&store.dirs.rootfs, format!("{guid}/{FILE}")) {
            Ok(bytes) => match serde_json::from_slice::<Record>(&bytes) {
                Ok(record) if record.image != Some(*image) => {}
                Ok(Record { name: Some(name), .. }) => users.push(format!("{name} ({guid})")),
                // Unreadable, it may be on any image.
                Ok(_) | Err(_) => users.push(guid),
            },
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(Error::kernel("read record of", format!("rootfs {guid}"))(errno)),
        }
    }
    Ok(users)
}
