//! Steps that build a container's tree beneath the working directory, which becomes its root.
//!
//! Every path is resolved inside that directory (`RESOLVE_IN_ROOT`): links of an image lead nowhere else, and what is
//! made is made by handle in the directory that was opened. Kernel: 5.6 (`openat2`), 5.12 (`mount_setattr`).

use super::child::{
    AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, CLOEXEC, Cover, ENOENT, ENOTDIR, MountAttr, O_PATH,
    OPEN_TREE_CLONE, Raw, done, move_mount, new_mount, set_attributes, sys,
};
use super::script::{Flat, tree};
use super::{Result, nr};

const O_DIRECTORY: usize = if cfg!(target_arch = "aarch64") { 0o40_000 } else { 0o200_000 };
const O_NOFOLLOW: usize = if cfg!(target_arch = "aarch64") { 0o100_000 } else { 0o400_000 };
const O_CREAT: usize = 0o100;
const O_WRONLY: usize = 0o1;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const ATTR_RDONLY: u64 = 1;

/// Applies one step; none, if it is not one of these.
pub(super) fn step(
    script: Flat,
    what: u64,
    [a, b, c, d, e]: [u64; 5],
    cover: &mut Cover,
) -> Option<Result<()>> {
    let number = |word: u64| word as usize;
    let address = |place: u64| script.address(place);
    Some(match what {
        tree::MAKE_DIR => make_dir(script, number(a), number(b)).map(drop),
        tree::MAKE_FILE => make_file(script, number(a), number(b)),
        tree::DEVICE => make_device(script, number(a), number(b), [c, d, e]),
        tree::SYMLINK => make_symlink(script, number(a), number(b), address(c)),
        tree::MOUNT_TREE => mount_tree(number(a), address(b), c, d),
        tree::MOUNT_NEW => mount_new(script, number(a), address(b), c),
        tree::BIND => bind(address(a), address(b)),
        tree::MASK => mask(script, address(a), b, cover),
        tree::READ_ONLY => read_only(address(a)),
        tree::ATTRIBUTES => {
            let attributes = MountAttr { set: c, propagation: d, ..MountAttr::NONE };
            let flags = if b == 0 { 0 } else { AT_RECURSIVE };
            attribute(address(a), flags, &attributes)
        }
        tree::OWN_ROOT => own_root(),
        tree::MOVE_ROOT => move_root(),
        _ => return None,
    })
}

/// Opens a path inside the working directory. Strictly: no link is on the way.
fn open(path: usize, flags: usize, strict: bool) -> Result<Raw> {
    const NO_MAGICLINKS: u64 = 0x02;
    const NO_SYMLINKS: u64 = 0x04;
    const IN_ROOT: u64 = 0x10;
    let resolve = if strict { IN_ROOT | NO_MAGICLINKS | NO_SYMLINKS } else { IN_ROOT | NO_MAGICLINKS };
    let how: [u64; 3] = [(flags | CLOEXEC) as u64, 0, resolve];
    sys(nr::OPENAT2, [AT_FDCWD, path, how.as_ptr() as usize, size_of_val(&how)]).map(Raw)
}

/// `pairs`: for each part of a path, the path up to it and its own name. Opens the directory that the last part is
/// in, making what is missing. Returns the name of the last part, too.
fn parent(script: Flat, pairs: usize, count: usize) -> Result<(Raw, usize)> {
    let path = |i: usize| script.address(script.word(pairs + 2 * i));
    let name = |i: usize| script.address(script.word(pairs + 2 * i + 1));
    let Some(last) = count.checked_sub(1) else { return Err(EINVAL) };
    // Mostly the whole way is there: it is looked for from its end.
    let mut there = last;
    let mut dir = loop {
        let path = if there == 0 { c".".as_ptr() as usize } else { path(there - 1) };
        match open(path, O_PATH | O_DIRECTORY, false) {
            Err(ENOENT) if there > 0 => there -= 1,
            other => break other?,
        }
    };
    for i in there..last {
        match done(nr::MKDIRAT, [dir.0, name(i), 0o755]) {
            // A link that leads nowhere is found out by the next look.
            Ok(()) | Err(EEXIST) => dir = open(path(i), O_PATH | O_DIRECTORY, false)?,
            Err(errno) => return Err(errno),
        }
    }
    Ok((dir, name(last)))
}

/// Whether the path of `pairs` is there already.
fn existing(script: Flat, pairs: usize, count: usize) -> Result<Option<Raw>> {
    let Some(last) = count.checked_sub(1) else { return Err(EINVAL) };
    match open(script.address(script.word(pairs + 2 * last)), O_PATH, false) {
        Ok(found) => Ok(Some(found)),
        Err(ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn make_dir(script: Flat, pairs: usize, count: usize) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    if let Some(found) = existing(script, pairs, count)? {
        return if found.is_dir()? { Ok(()) } else { Err(ENOTDIR) };
    }
    let (dir, name) = parent(script, pairs, count)?;
    done(nr::MKDIRAT, [dir.0, name, 0o755])
}

fn make_file(script: Flat, pairs: usize, count: usize) -> Result<()> {
    if existing(script, pairs, count)?.is_some() {
        return Ok(());
    }
    let (dir, name) = parent(script, pairs, count)?;
    let flags = O_CREAT | O_WRONLY | O_NOFOLLOW | CLOEXEC;
    sys(nr::OPENAT, [dir.0, name, flags, 0o644]).map(|fd| drop(Raw(fd)))
}

/// `[mode, device, owner]`: the owner's user in the lower half, the group in the upper. What is there stays.
fn make_device(script: Flat, pairs: usize, count: usize, [mode, device, owner]: [u64; 3]) -> Result<()> {
    const SYMLINK_NOFOLLOW: usize = 0x100;
    let (dir, name) = parent(script, pairs, count)?;
    match done(nr::MKNODAT, [dir.0, name, mode as usize, device as usize]) {
        Err(EEXIST) => return Ok(()),
        other => other?,
    }
    let (uid, gid) = (owner as u32 as usize, (owner >> 32) as usize);
    if owner != 0 {
        done(nr::FCHOWNAT, [dir.0, name, uid, gid, SYMLINK_NOFOLLOW])?;
    }
    // What was made a moment ago by this name, in a directory of the container's.
    done(nr::FCHMODAT, [dir.0, name, mode as usize & 0o7777])
}

/// A link that is there is replaced by none: the image's own stays, but for `/dev/ptmx`, which is removed first.
fn make_symlink(script: Flat, pairs: usize, count: usize, target: usize) -> Result<()> {
    let (dir, name) = parent(script, pairs, count)?;
    match done(nr::SYMLINKAT, [target, dir.0, name]) {
        Err(EEXIST) => {
            // A device by that name comes from an image; ours is the one of the container's own devpts.
            match done(nr::UNLINKAT, [dir.0, name, 0]) {
                Ok(()) => done(nr::SYMLINKAT, [target, dir.0, name]),
                Err(_) => Ok(()),
            }
        }
        other => other,
    }
}

fn mount_tree(source: usize, target: usize, strict: u64, ordered: u64) -> Result<()> {
    let target = open(target, O_PATH, strict != 0)?;
    move_mount(source, target.0)?;
    if ordered == 0 { Ok(()) } else { in_order(source, &target) }
}

/// Puts a copy that is made now in the place of a tree that was made before what it lies over. What cannot be copied
/// stays as it is.
fn in_order(tree: usize, target: &Raw) -> Result<()> {
    const MNT_DETACH: usize = 2;
    const HEAD: usize = 14;
    let flags = OPEN_TREE_CLONE | CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE;
    let Ok(copy) = sys(nr::OPEN_TREE, [tree, c"".as_ptr() as usize, flags]) else { return Ok(()) };
    let copy = Raw(copy);
    // The machine's `/proc`, by which a mount is named without a path.
    let mut path = *b"/proc/self/fd/\0\0\0\0\0\0\0\0";
    let mut at = HEAD;
    let mut scale = 1_000_000;
    while scale > 0 {
        let digit = tree / scale % 10;
        if (digit != 0 || at > HEAD || scale == 1)
            && let Some(byte) = path.get_mut(at)
        {
            *byte = b'0' + digit as u8;
            at += 1;
        }
        scale /= 10;
    }
    match done(nr::UMOUNT2, [path.as_ptr() as usize, MNT_DETACH]) {
        Ok(()) => move_mount(copy.0, target.0),
        Err(_) => Ok(()),
    }
}

/// `at`: the words of a new file system: type, options (place, count), attributes, propagation.
fn mount_new(script: Flat, at: usize, target: usize, strict: u64) -> Result<()> {
    let [fs, options, count, attributes, propagation] = [0, 1, 2, 3, 4].map(|n| script.word(at + n));
    let target = open(target, O_PATH, strict != 0)?;
    let mount = new_mount(script, script.address(fs), options, count, attributes)?;
    if propagation != 0 {
        let attributes = MountAttr { propagation, ..MountAttr::NONE };
        set_attributes(mount.0, c"".as_ptr() as usize, AT_EMPTY_PATH, &attributes)?;
    }
    move_mount(mount.0, target.0)
}

/// Shows a path of the new root at another one.
fn bind(source: usize, target: usize) -> Result<()> {
    let (source, target) = (open(source, O_PATH, true)?, open(target, O_PATH, false)?);
    let flags = OPEN_TREE_CLONE | CLOEXEC | AT_EMPTY_PATH;
    let clone = Raw(sys(nr::OPEN_TREE, [source.0, c"".as_ptr() as usize, flags])?);
    move_mount(clone.0, target.0)
}

/// An absent path is left alone. The machine's `/dev/null` is cloned here, which needs the machine's root.
fn mask(script: Flat, path: usize, options: u64, cover: &mut Cover) -> Result<()> {
    let target = match open(path, O_PATH, false) {
        Err(ENOENT | ENOTDIR) => return Ok(()),
        other => other?,
    };
    if target.is_dir()? {
        return cover.hide(script, &target, options, 1);
    }
    let null = c"/dev/null".as_ptr() as usize;
    let clone = Raw(sys(nr::OPEN_TREE, [AT_FDCWD, null, OPEN_TREE_CLONE | CLOEXEC])?);
    move_mount(clone.0, target.0)
}

fn read_only(path: usize) -> Result<()> {
    let target = match open(path, O_PATH, false) {
        Err(ENOENT | ENOTDIR) => return Ok(()),
        other => other?,
    };
    let empty = c"".as_ptr() as usize;
    let flags = OPEN_TREE_CLONE | CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE;
    let clone = Raw(sys(nr::OPEN_TREE, [target.0, empty, flags])?);
    let attributes = MountAttr { set: ATTR_RDONLY, ..MountAttr::NONE };
    set_attributes(clone.0, empty, AT_EMPTY_PATH, &attributes)?;
    move_mount(clone.0, target.0)
}

/// An absolute path is the machine's; any other is resolved inside the working directory.
fn attribute(path: usize, flags: usize, attributes: &MountAttr) -> Result<()> {
    // SAFETY: `path` is the address of a string of the script, which ends in a zero byte.
    if unsafe { *(path as *const u8) } == b'/' {
        return set_attributes(AT_FDCWD, path, flags, attributes);
    }
    let mount = open(path, O_PATH, false)?;
    set_attributes(mount.0, c"".as_ptr() as usize, flags | AT_EMPTY_PATH, attributes)
}

/// Makes the working directory a mount of its own, with all beneath, and stays in it: what `pivot_root(2)` asks for.
fn own_root() -> Result<()> {
    let here = c".".as_ptr() as usize;
    let flags = OPEN_TREE_CLONE | CLOEXEC | AT_RECURSIVE;
    let clone = Raw(sys(nr::OPEN_TREE, [AT_FDCWD, here, flags])?);
    let target = Raw(sys(nr::OPENAT, [AT_FDCWD, here, O_PATH | O_DIRECTORY | CLOEXEC, 0])?);
    move_mount(clone.0, target.0)?;
    done(nr::FCHDIR, [clone.0])
}

/// Where the machine's root is no mount that could be pivoted away from (an initial ramdisk): the new root is moved
/// over it. A process with `CAP_SYS_CHROOT` can look beneath.
fn move_root() -> Result<()> {
    const MS_MOVE: usize = 8192;
    let (here, root) = (c".".as_ptr() as usize, c"/".as_ptr() as usize);
    done(nr::MOUNT, [here, root, 0, MS_MOVE, 0])?;
    done(nr::CHROOT, [here])?;
    done(nr::CHDIR, [root])
}
