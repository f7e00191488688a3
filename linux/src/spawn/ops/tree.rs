//! Steps that build a container's tree beneath the working directory ([`super::Op::EnterRoot`]), which becomes its
//! root. Paths are relative; links in them are followed inside that directory unless a step says otherwise.

use std::ffi::CString;
use std::fmt;

use super::Mounted;
use crate::spawn::bare::script::tree;
use crate::spawn::flat::{Descriptors, Encoder};

/// One step.
#[derive(Clone, Debug)]
pub enum TreeOp {
    /// `mkdirat(2)`, with the directories above.
    MakeDir(CString),
    /// An empty file, with the directories above. What is there stays.
    MakeFile(CString),
    /// `mknodat(2)`, with the directories above. What is there stays.
    Device {
        /// Where.
        path: CString,
        /// Type and permissions.
        mode: u32,
        /// As `makedev(3)` has it.
        device: u64,
        /// User and group.
        owner: (u32, u32),
    },
    /// `symlinkat(2)`, with the directories above. A file that is there is replaced.
    Symlink {
        /// Where.
        path: CString,
        /// What it leads to.
        to: CString,
    },
    /// `move_mount(2)` onto a path.
    Mount {
        /// What.
        source: Mounted,
        /// Where.
        target: CString,
        /// No link is followed in the target.
        strict: bool,
        /// A tree is listed after what was mounted before it: the kernel lists mounts by their age (6.8), and readers of
        /// that list take the last one at a place for the one that is seen. A copy takes its place, which costs an
        /// `umount(2)`.
        in_order: bool,
        /// Of a new file system: `MS_SHARED` and the like, or 0.
        propagation: u64,
    },
    /// Shows a path, in which no link is followed, at another one.
    Bind {
        /// From.
        source: CString,
        /// To.
        target: CString,
    },
    /// Hides a path as [`super::Op::Mask`] does.
    Mask(CString),
    /// Makes a path read-only, but not the mounts beneath it. An absent path is left alone.
    ReadOnly(CString),
    /// `mount_setattr(2)` on a path as the process sees it (`/` is the machine's, before the pivot).
    Attributes {
        /// Where.
        path: CString,
        /// And all mounts beneath.
        recursive: bool,
        /// `MOUNT_ATTR_*` to set.
        set: u64,
        /// `MS_SHARED` and the like, or 0.
        propagation: u64,
    },
    /// The working directory becomes a mount of its own.
    OwnRoot,
    /// The working directory is moved over `/`, for want of [`super::Op::PivotRoot`].
    MoveRoot,
}

/// Place and number of the parts of a path: for each the path up to it, and its name.
fn pairs(to: &mut Encoder, path: &CString) -> [u64; 2] {
    let text = path.as_bytes();
    let mut words = Vec::new();
    let mut end = 0;
    for part in text.split(|byte| *byte == b'/') {
        let begin = end;
        end = begin + part.len() + 1;
        if part.is_empty() || part == b"." {
            continue;
        }
        let (upto, name) = (to.bytes(&text[..end - 1]), to.bytes(part));
        words.extend([upto, name]);
    }
    let place = to.words(&words);
    [place, words.len() as u64 / 2]
}

impl TreeOp {
    pub(super) fn encode(&self, to: &mut Encoder, descriptors: &mut Descriptors) -> [u64; 6] {
        match self {
            Self::MakeDir(path) => {
                let [place, count] = pairs(to, path);
                [tree::MAKE_DIR, place, count, 0, 0, 0]
            }
            Self::MakeFile(path) => {
                let [place, count] = pairs(to, path);
                [tree::MAKE_FILE, place, count, 0, 0, 0]
            }
            Self::Device { path, mode, device, owner } => {
                let [place, count] = pairs(to, path);
                let owner = u64::from(owner.1) << 32 | u64::from(owner.0);
                [tree::DEVICE, place, count, u64::from(*mode), *device, owner]
            }
            Self::Symlink { path, to: target } => {
                let [place, count] = pairs(to, path);
                [tree::SYMLINK, place, count, to.string(target), 0, 0]
            }
            Self::Mount { source: Mounted::Tree(tree), target, strict, in_order, .. } => {
                let words = [descriptors.number(tree), to.string(target)];
                [tree::MOUNT_TREE, words[0], words[1], u64::from(*strict), u64::from(*in_order), 0]
            }
            Self::Mount {
                source: Mounted::New { fs, options, attributes },
                target,
                strict,
                propagation,
                ..
            } => {
                let (place, count) = super::options(to, options);
                let words = [to.string(fs), place, count, *attributes, *propagation];
                [tree::MOUNT_NEW, to.words(&words), to.string(target), u64::from(*strict), 0, 0]
            }
            Self::Bind { source, target } => [tree::BIND, to.string(source), to.string(target), 0, 0, 0],
            Self::Mask(path) => {
                // Nothing is ever written there; one page says so.
                let options = [(c"nr_inodes".to_owned(), Some(c"2".to_owned()))];
                let (place, _) = super::options(to, &options);
                [tree::MASK, to.string(path), place, 0, 0, 0]
            }
            Self::ReadOnly(path) => [tree::READ_ONLY, to.string(path), 0, 0, 0, 0],
            Self::Attributes { path, recursive, set, propagation } => {
                [tree::ATTRIBUTES, to.string(path), u64::from(*recursive), *set, *propagation, 0]
            }
            Self::OwnRoot => [tree::OWN_ROOT, 0, 0, 0, 0, 0],
            Self::MoveRoot => [tree::MOVE_ROOT, 0, 0, 0, 0, 0],
        }
    }
}

impl fmt::Display for TreeOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |p: &CString| format!("/{}", p.to_string_lossy());
        match self {
            Self::MakeDir(at) => write!(f, "make directory {}", path(at)),
            Self::MakeFile(at) => write!(f, "make file {}", path(at)),
            Self::Device { path: at, .. } => write!(f, "make device {}", path(at)),
            Self::Symlink { path: at, .. } => write!(f, "make link {}", path(at)),
            Self::Mount { source: Mounted::New { fs, .. }, target, .. } => {
                write!(f, "mount {} on {}", fs.to_string_lossy(), path(target))
            }
            Self::Mount { target, .. } => write!(f, "mount on {}", path(target)),
            Self::Bind { source, target } => write!(f, "mount {} on {}", path(source), path(target)),
            Self::Mask(at) => write!(f, "mask {}", path(at)),
            Self::ReadOnly(at) => write!(f, "make {} read-only", path(at)),
            Self::Attributes { path, .. } => write!(f, "set attributes of mount {}", path.to_string_lossy()),
            Self::OwnRoot => f.write_str("make rootfs a mount"),
            Self::MoveRoot => f.write_str("move rootfs over the root"),
        }
    }
}
