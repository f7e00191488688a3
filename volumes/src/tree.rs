//! A source that was opened, made into a detached mount.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use linux::kernel::Features;
use linux::mount::{FsContext, MountAttr};
use linux::userns::Extent;
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags};

use crate::Error;
use crate::idmap::seen_as;

/// A mount that is ready and nowhere yet. Dropping it is undoing it.
#[derive(Debug)]
pub struct Prepared {
    tree: OwnedFd,
    is_directory: bool,
}

impl Prepared {
    /// Whether its root is a directory; else it is a file (or a socket, a pipe), mounted on a file.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.is_directory
    }
}

impl AsFd for Prepared {
    /// The root of the detached mount.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }
}

/// How a source is mounted.
pub(crate) struct Attributes<'a> {
    /// What to call it in an error.
    pub(crate) what: &'a str,
    pub(crate) readonly: bool,
    pub(crate) recursive: bool,
    /// Which of the kernel's newer calls to use.
    pub(crate) features: &'a Features,
    /// The id map; empty for none.
    pub(crate) extents: &'a [Extent],
}

/// Clones the mount beneath `source`. Device files on it are not devices.
pub(crate) fn clone(
    source: &OwnedFd,
    attributes: &Attributes<'_>,
    maps: &IdMapNamespaces,
) -> Result<Prepared, Error> {
    let &Attributes { what, readonly, recursive, features, extents } = attributes;
    let failed = |source| Error::Clone { what: what.to_owned(), source };
    let is_directory = linux::mount::identify(source).map_err(failed)?.is_directory;
    let namespace = match extents {
        [] => None,
        extents => Some(
            maps.get(extents).map_err(|source| Error::IdMapNamespace { what: what.to_owned(), source })?,
        ),
    };
    // Nor is a setuid file, whoever finds it: nothing inside gains privileges, and outside it would be root's.
    let mut set = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    set.set(MountAttrFlags::MOUNT_ATTR_RDONLY, readonly);
    // A clone is a peer of the mount that it was cloned from: what is mounted in one appears in the other. Nothing
    // that happens in a container may appear outside; of what the host mounts, it sees what it asked for.
    let propagation =
        if recursive { MountPropagationFlags::DOWNSTREAM } else { MountPropagationFlags::PRIVATE };
    let attr = MountAttr {
        set,
        clear: MountAttrFlags::empty(),
        propagation: Some(propagation),
        userns: namespace.as_deref().map(AsFd::as_fd),
    };
    let tree = linux::mount::clone_tree(source, recursive, &attr, features);
    let tree = tree.map_err(|source| match (source, extents) {
        (Errno::INVAL, [_, ..]) => Error::SetIdMap { what: what.to_owned(), source },
        _ => failed(source),
    })?;
    Ok(Prepared { tree, is_directory })
}

/// A new file system in memory.
///
/// An id map needs no namespace here: nobody sees what ids a tmpfs stores, so they are those seen inside, and the
/// map says only as whom its root, made by root, appears.
pub(crate) fn tmpfs(
    size: Option<u64>,
    mode: Option<u32>,
    readonly: bool,
    extents: &[Extent],
) -> Result<Prepared, Error> {
    if size == Some(0) {
        return Err(Error::EmptyTmpfs);
    }
    if let Some(mode) = mode.filter(|mode| mode & !0o7777 != 0) {
        return Err(Error::TmpfsMode { mode });
    }
    let make = || {
        let context = FsContext::open("tmpfs")?;
        if let Some(size) = size {
            context.string("size", size.to_string())?;
        }
        context.string("mode", format!("{:o}", mode.unwrap_or(0o755)))?;
        if let Some(owner) = seen_as(extents, 0).filter(|owner| *owner != 0) {
            context.string("uid", owner.to_string())?;
            context.string("gid", owner.to_string())?;
        }
        context.create()?;
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
        attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, readonly);
        context.mount(attributes)
    };
    let tree = make().map_err(|source| Error::Tmpfs { source })?;
    Ok(Prepared { tree, is_directory: true })
}

/// The namespaces that carry id maps. One costs some 60 µs to make, and the same few are wanted again and again.
#[derive(Debug, Default)]
pub(crate) struct IdMapNamespaces {
    /// The last used first.
    recent: Mutex<Vec<(Vec<Extent>, Arc<OwnedFd>)>>,
}

impl IdMapNamespaces {
    /// Each is a descriptor, and a user namespace of the kernel's.
    const MAX: usize = 16;

    fn get(&self, extents: &[Extent]) -> Result<Arc<OwnedFd>, Errno> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = recent.iter().position(|(known, _)| known == extents) {
            recent[..=at].rotate_right(1);
            return Ok(Arc::clone(&recent[0].1));
        }
        drop(recent);
        let namespace = Arc::new(linux::userns::idmap_namespace(extents, extents)?);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.insert(0, (extents.to_vec(), Arc::clone(&namespace)));
        recent.truncate(Self::MAX);
        Ok(namespace)
    }
}
