//! Which ids of the machine a rootfs with a user namespace has.
//!
//! ```text
//! D/ids/<first>      a range of 65,536 ids from <first> on is taken; holds the guid of whose it is
//! ```
//! A range is taken before anything belongs to it and given back after all of that is gone: while data of a rootfs
//! exists, nobody else has its ids. Where that of a guid does not exist any more (its maker was killed between the
//! two), a daemon that starts gives it back, and who finds nothing else free takes it over.

use std::os::fd::OwnedFd;
use std::path::Path;

pub(super) use protocol::subcontainer::OWN_IDS as RANGE;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::store::flock;
use linux::tree::{ensure_dir, read_file_at, text_names_in, write_all};

/// The first id of the first range, and of the one after the last. Above what `useradd` gives to users as their
/// subordinate ids and what systemd-nspawn takes, below half of all ids, where old tools see negative numbers.
const FIRST: u32 = 0x7000_0000;
const END: u32 = 0x8000_0000;

/// Takes a free range for a rootfs that is about to be made. Returns its first id.
///
/// # Errors
/// `EUSERS` when all 4,096 are taken.
pub(super) fn take(data_dir: &Path, guid: &str) -> Result<u32, Errno> {
    let dir = lock(data_dir)?;
    let taken = text_names_in(&dir)?;
    let free = (FIRST..END).step_by(RANGE as usize).find(|first| !taken.contains(&first.to_string()));
    let first = match free {
        Some(first) => first,
        None => stale(data_dir, &dir, &taken)?.ok_or(Errno::USERS)?,
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&dir, first.to_string(), flags, Mode::from_raw_mode(0o600))?;
    write_all(&file, guid.as_bytes())?;
    Ok(first)
}

/// Gives the ranges of a rootfs back, where any has one. Nothing of it is left.
pub(super) fn give_back(data_dir: &Path, guid: &str) -> Result<(), Errno> {
    let dir = lock(data_dir)?;
    for name in text_names_in(&dir)? {
        if read_file_at(&dir, name.as_str())? == guid.as_bytes() {
            rustix::fs::unlinkat(&dir, name.as_str(), AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Gives back the ranges of makers that were killed before they had made anything. Nobody is making a rootfs meanwhile.
pub(super) fn sweep(data_dir: &Path) -> Result<(), Errno> {
    let dir = lock(data_dir)?;
    for name in text_names_in(&dir)? {
        if is_stale(data_dir, &dir, &name)? {
            rustix::fs::unlinkat(&dir, name.as_str(), AtFlags::empty())?;
        }
    }
    Ok(())
}

/// A range whose rootfs is gone.
fn stale(data_dir: &Path, dir: &OwnedFd, taken: &[String]) -> Result<Option<u32>, Errno> {
    for name in taken {
        if let Ok(first) = name.parse()
            && is_stale(data_dir, dir, name)?
        {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

fn is_stale(data_dir: &Path, dir: &OwnedFd, name: &str) -> Result<bool, Errno> {
    let guid = String::from_utf8(read_file_at(dir, name)?).unwrap_or_default();
    Ok(super::record::check_guid(&guid).is_err() || !data_dir.join("rootfs").join(&guid).exists())
}

fn lock(data_dir: &Path) -> Result<OwnedFd, Errno> {
    let dir = ensure_dir(&data_dir.join("ids"), 0o700)?;
    flock(&dir, FlockOperation::LockExclusive)?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s14_a_range_is_one_rootfs_own_until_it_is_given_back() {
        let data = tempfile::tempdir().unwrap();
        let guids = [1, 2, 3].map(|n| uuid::Uuid::from_u128(n).to_string());
        let [one, two, three] = &guids;
        let firsts = [take(data.path(), one).unwrap(), take(data.path(), two).unwrap()];
        assert_eq!(firsts, [FIRST, FIRST + RANGE]);
        give_back(data.path(), one).unwrap();
        assert_eq!(take(data.path(), three).unwrap(), FIRST, "the first is free again, the second is not");
        assert_eq!(std::fs::read_to_string(data.path().join("ids").join(FIRST.to_string())).unwrap(), *three);
    }

    #[test]
    fn s14_what_a_killed_maker_took_is_found_again_when_nothing_else_is_free() {
        let data = tempfile::tempdir().unwrap();
        let alive = uuid::Uuid::from_u128(1).to_string();
        std::fs::create_dir_all(data.path().join("rootfs").join(&alive)).unwrap();
        std::fs::create_dir(data.path().join("ids")).unwrap();
        for first in (FIRST..END).step_by(RANGE as usize) {
            std::fs::write(data.path().join("ids").join(first.to_string()), &alive).unwrap();
        }
        assert_eq!(take(data.path(), &alive), Err(Errno::USERS));
        let stale = FIRST + 17 * RANGE;
        let gone = uuid::Uuid::from_u128(2).to_string();
        std::fs::write(data.path().join("ids").join(stale.to_string()), gone).unwrap();
        assert_eq!(take(data.path(), &uuid::Uuid::from_u128(3).to_string()), Ok(stale));
    }
}
