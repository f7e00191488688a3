//! `listmount(2)` and `statmount(2)`, Linux 6.8, <https://docs.kernel.org/filesystems/mount_api.html>; the
//! structures are those of `linux/mount.h`.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, OFlags, StatxFlags, statx};
use rustix::io::{Errno, Result};
use rustix::mount::MountAttrFlags;
use rustix::process::Pid;

use super::Mount;
use super::mountinfo::unescape;
use crate::proc::Procfs;
use crate::sys::{check, nr};

/// `struct mnt_id_req`. Version 0 ends before `mnt_ns_id` (Linux 6.11).
#[repr(C)]
struct Request {
    size: u32,
    mnt_ns_fd: u32,
    mnt_id: u64,
    param: u64,
    mnt_ns_id: u64,
}

const SIZE_VER0: u32 = 24;
const SIZE_VER1: u32 = 32;
/// `LSMT_ROOT`: from the namespace's root.
const ROOT: u64 = u64::MAX;
/// Asks `statx` for the other kind of id.
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
/// `NS_GET_MNTNS_ID`: `_IOR(0xb7, 5, __u64)`, Linux 6.11.
const NS_GET_MNTNS_ID: u64 = (2 << 30) | (8 << 16) | (0xb7 << 8) | 5;

impl Request {
    fn new(mnt_id: u64, param: u64, namespace: Option<u64>) -> Self {
        Self {
            size: if namespace.is_some() { SIZE_VER1 } else { SIZE_VER0 },
            mnt_ns_fd: 0,
            mnt_id,
            param,
            mnt_ns_id: namespace.unwrap_or(0),
        }
    }
}

pub(super) fn list(of: Option<Pid>) -> Result<Vec<Mount>> {
    let namespace = of.map(namespace_id).transpose()?;
    let mut buffer = vec![0_u64; 1024];
    let mut mounts = Vec::with_capacity(64);
    let mut text = vec![0_u64; 1024];
    list_into(namespace, &mut buffer, |id| {
        match describe(id, namespace, &mut text) {
            Ok(mount) => mounts.push(mount),
            // Unmounted since it was listed.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    })?;
    Ok(mounts)
}

pub(super) fn beneath(mount: BorrowedFd<'_>) -> Result<Option<Mount>> {
    // Ids that are never used again, which these calls go by: Linux 6.8.
    let unique = StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    let stat = statx(mount, c"", AtFlags::EMPTY_PATH, unique)?;
    if stat.stx_mask & STATX_MNT_ID_UNIQUE == 0 {
        return Err(Errno::NOSYS);
    }
    loop {
        let request = Request::new(stat.stx_mnt_id, 0, None);
        let mut first = 0_u64;
        // SAFETY: `request` says its own size, and there is room for the one id that is asked for.
        let returned = unsafe { libc::syscall(nr::LISTMOUNT, &raw const request, &raw mut first, 1, 0) };
        if check(returned)? == 0 {
            return Ok(None);
        }
        match describe(first, None, &mut vec![0; 1024]) {
            // Unmounted since it was listed.
            Err(Errno::NOENT) => {}
            other => return other.map(Some),
        }
    }
}

fn namespace_id(pid: Pid) -> Result<u64> {
    let proc = Procfs::open()?;
    let process = proc.process(pid)?;
    let namespace = proc.open_magic(std::os::fd::AsFd::as_fd(&process), "ns", "mnt", OFlags::RDONLY)?;
    let mut id = 0_u64;
    // SAFETY: the request writes one u64, which `id` is.
    let returned =
        unsafe { libc::syscall(libc::SYS_ioctl, namespace.as_raw_fd(), NS_GET_MNTNS_ID, &raw mut id) };
    check(returned)?;
    Ok(id)
}

/// `ssize_t listmount(const struct mnt_id_req *req, u64 *mnt_ids, size_t nr_mnt_ids, unsigned flags)`. It leaves
/// out the namespace's root, which is asked for by itself.
fn list_into(
    namespace: Option<u64>,
    buffer: &mut [u64],
    mut each: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    let mut last = 0;
    loop {
        let request = Request::new(ROOT, last, namespace);
        // SAFETY: `request` says its own size, and the buffer is as long as is said.
        let returned =
            unsafe { libc::syscall(nr::LISTMOUNT, &raw const request, buffer.as_mut_ptr(), buffer.len(), 0) };
        let count = check(returned)?;
        for id in buffer.iter().take(count) {
            each(*id)?;
            last = *id;
        }
        if count < buffer.len() {
            return Ok(());
        }
    }
}

const SB_BASIC: u64 = 1;
const MNT_BASIC: u64 = 2;
const MNT_ROOT: u64 = 8;
const MNT_POINT: u64 = 0x10;
const FS_TYPE: u64 = 0x20;
const MNT_OPTS: u64 = 0x80;
const FS_SUBTYPE: u64 = 0x100;
const SB_SOURCE: u64 = 0x200;

/// `SB_RDONLY` in `sb_flags`.
const SB_RDONLY: u32 = 1;
/// Where the strings begin: the structure has 512 bytes.
const STRINGS: usize = 512;

/// `int statmount(const struct mnt_id_req *req, struct statmount *buf, size_t bufsize, unsigned flags)`.
fn describe(id: u64, namespace: Option<u64>, buffer: &mut Vec<u64>) -> Result<Mount> {
    let mask = SB_BASIC | MNT_BASIC | MNT_ROOT | MNT_POINT | FS_TYPE | MNT_OPTS | FS_SUBTYPE | SB_SOURCE;
    let request = Request::new(id, mask, namespace);
    loop {
        // SAFETY: `request` says its own size, and the buffer, aligned as the structure is, is as long as is said.
        let returned = unsafe {
            libc::syscall(
                nr::STATMOUNT,
                &raw const request,
                buffer.as_mut_ptr(),
                size_of_val(buffer.as_slice()),
                0,
            )
        };
        match check(returned) {
            Ok(_) => break,
            // Paths and options are as long as they are; a megabyte is more than any kernel writes.
            Err(Errno::OVERFLOW) if buffer.len() < (1 << 17) => buffer.resize(buffer.len() * 2, 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Answer(buffer).mount().ok_or(Errno::ILSEQ)
}

/// A `struct statmount`, as 64-bit words.
struct Answer<'a>(&'a [u64]);

impl Answer<'_> {
    fn u64(&self, offset: usize) -> u64 {
        self.0.get(offset / 8).copied().unwrap_or(0)
    }

    fn u32(&self, offset: usize) -> u32 {
        let bytes = self.u64(offset).to_ne_bytes();
        let half = offset % 8;
        let mut word = [0_u8; 4];
        word.copy_from_slice(&bytes[half..half + 4]);
        u32::from_ne_bytes(word)
    }

    /// The string that the word at `offset` points to, if the answer has what `bit` stands for.
    fn string(&self, bit: u64, offset: usize) -> Option<Vec<u8>> {
        if self.u64(8) & bit == 0 {
            return None;
        }
        let start = STRINGS + usize::try_from(self.u32(offset)).ok()?;
        let bytes = self.0.iter().skip(start / 8).flat_map(|word| word.to_ne_bytes());
        Some(bytes.skip(start % 8).take_while(|byte| *byte != 0).collect())
    }

    fn mount(&self) -> Option<Mount> {
        let got = self.u64(8);
        if got & (SB_BASIC | MNT_BASIC) != (SB_BASIC | MNT_BASIC) {
            return None;
        }
        let mut fs_type = self.string(FS_TYPE, 36)?;
        if let Some(subtype) = self.string(FS_SUBTYPE, 120).filter(|subtype| !subtype.is_empty()) {
            fs_type.push(b'.');
            fs_type.extend(subtype);
        }
        let some = |group: u64| (group != 0).then_some(group);
        Some(Mount {
            id: u64::from(self.u32(56)),
            parent: u64::from(self.u32(60)),
            root: self.string(MNT_ROOT, 104)?,
            mountpoint: self.string(MNT_POINT, 108)?,
            fs_type: String::from_utf8_lossy(&fs_type).into_owned(),
            source: self.string(SB_SOURCE, 124),
            attributes: MountAttrFlags::from_bits_retain(u32::try_from(self.u64(64)).ok()?),
            fs_readonly: self.u32(32) & SB_RDONLY != 0,
            // Paths are as they are; options are escaped as in mountinfo, and absent where there
            // are none, or where the kernel is too old to tell: then it cannot tell the source either.
            options: self
                .string(MNT_OPTS, 4)
                .map(|options| unescape(&options))
                .or_else(|| (got & SB_SOURCE != 0).then(Vec::new)),
            peer_group: some(self.u64(80)),
            master: some(self.u64(88)),
        })
    }
}
