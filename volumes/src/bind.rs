//! Binding one path of the host to another, for the operator.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use linux::kernel::Features;
use protocol::subcontainer::IdMap;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::tree::{self, Attributes, IdMapNamespaces};
use crate::{Error, idmap, place};

/// How [`bind`] mounts.
#[derive(Clone, Debug, Default)]
pub struct BindOptions {
    /// What is mounted beneath the source, too; later mounts of the host there appear as well.
    pub recursive: bool,
    /// Nothing can be written through it, nor through the mounts beneath it.
    pub readonly: bool,
    /// The source must be a file.
    pub file: bool,
    /// Id maps; each file system must support them.
    pub idmap: Vec<IdMap>,
    /// The target is inside this directory, whose links lead nowhere outside: for a rootfs, which is hostile ground.
    /// The target is then a path inside it. Without it, the target is the operator's own path like any other.
    pub root: Option<PathBuf>,
}

/// Mounts `source` on `target`, which is made where it is missing. Both are the operator's words, so links in them
/// are followed, and an earlier mount on the target is covered, as `mount --bind` does.
///
/// # Errors
/// When the source is missing or no file, the id maps are bad, the target is of the other type, or the kernel
/// refuses.
pub fn bind(source: &Path, target: &Path, options: &BindOptions) -> Result<(), Error> {
    let what = source.display().to_string();
    let extents =
        idmap::extents(&options.idmap).map_err(|source| Error::IdMap { what: what.clone(), source })?;
    let handle = rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|source| Error::OpenSource { what: what.clone(), source })?;
    let attributes = Attributes {
        what: &what,
        readonly: options.readonly,
        recursive: options.recursive,
        features: Features::get(),
        extents: &extents,
    };
    let mount = tree::clone(&handle, &attributes, &IdMapNamespaces::default())?;
    if options.file && mount.is_directory() {
        return Err(Error::WrongType { what, expected: "file" });
    }
    let mountpoint = target.display().to_string();
    let failed = |source| Error::OpenMountpoint { mountpoint: mountpoint.clone(), source };
    let (root, target) = match &options.root {
        Some(root) => (root.as_path(), target.to_owned()),
        None => (Path::new("/"), std::path::absolute(target).map_err(|error| failed(errno(&error)))?),
    };
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed)?;
    let target = place::open_target(root.as_fd(), &target, mount.is_directory(), &mountpoint)?;
    linux::mount::attach(&mount, &target).map_err(|source| Error::Attach { mountpoint, source })
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::INVAL)
}
