//! `/proc/<pid>/mountinfo`, <https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html>.

use rustix::io::{Errno, Result};
use rustix::mount::MountAttrFlags;
use rustix::process::Pid;

use super::Mount;
use crate::proc::Procfs;

pub(super) fn list(of: Option<Pid>) -> Result<Vec<Mount>> {
    // A thread can be in a mount namespace of its own, and /proc/self is the main thread.
    let pid = of.unwrap_or_else(rustix::thread::gettid);
    let text = Procfs::open()?.read(format!("{pid}/mountinfo"))?;
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| parse(line).ok_or(Errno::ILSEQ))
        .collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    fields.next()?;
    let root = unescape(fields.next()?);
    let mountpoint = unescape(fields.next()?);
    let attributes = attributes(fields.next()?);
    let (mut peer_group, mut master) = (None, None);
    loop {
        match fields.next()? {
            b"-" => break,
            tag => {
                if let Some(group) = tag.strip_prefix(b"shared:") {
                    peer_group = number(group);
                } else if let Some(group) = tag.strip_prefix(b"master:") {
                    master = number(group);
                }
            }
        }
    }
    let fs_type = String::from_utf8_lossy(&unescape(fields.next()?)).into_owned();
    let source = unescape(fields.next()?);
    let all = fields.next().unwrap_or_default();
    let (first, rest) = match all.iter().position(|byte| *byte == b',') {
        Some(comma) => (&all[..comma], &all[comma + 1..]),
        None => (all, &b""[..]),
    };
    Some(Mount {
        id,
        parent,
        root,
        mountpoint,
        fs_type,
        source: Some(source),
        attributes,
        fs_readonly: first == b"ro",
        options: Some(unescape(rest)),
        peer_group,
        master,
    })
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn attributes(text: &[u8]) -> MountAttrFlags {
    // Strict atime is what is left when neither of the other two is named.
    let mut flags = MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    for word in text.split(|byte| *byte == b',') {
        match word {
            b"ro" => flags |= MountAttrFlags::MOUNT_ATTR_RDONLY,
            b"nosuid" => flags |= MountAttrFlags::MOUNT_ATTR_NOSUID,
            b"nodev" => flags |= MountAttrFlags::MOUNT_ATTR_NODEV,
            b"noexec" => flags |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
            b"nodiratime" => flags |= MountAttrFlags::MOUNT_ATTR_NODIRATIME,
            b"nosymfollow" => flags |= MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW,
            b"idmapped" => flags |= MountAttrFlags::MOUNT_ATTR_IDMAP,
            b"relatime" => flags.remove(MountAttrFlags::MOUNT_ATTR_STRICTATIME),
            b"noatime" => {
                flags.remove(MountAttrFlags::MOUNT_ATTR_STRICTATIME);
                flags |= MountAttrFlags::MOUNT_ATTR_NOATIME;
            }
            _ => {}
        }
    }
    flags
}

/// Undoes the kernel's `\040`.
pub(super) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        if let (b'\\', Some([a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7'])) = (byte, tail.get(..3)) {
            out.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
            rest = &tail[3..];
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    out
}
