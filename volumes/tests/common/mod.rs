//! A data directory and a rootfs in a mount namespace of the test's own, on the real kernel, as root.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use linux::kernel::Features;
use linux::mount::FsContext;
use protocol::subcontainer::{FileType, IdMap, Mount, MountSource};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::UnshareFlags;
use volumes::{Error, Prepared, Sources};

/// What the data directory is on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum On {
    /// The machine's own disk.
    Disk,
    /// The same, by the calls of the oldest kernel that we run on.
    DiskOldCalls,
    Tmpfs,
}

pub(crate) const EVERYWHERE: [On; 3] = [On::Disk, On::DiskOldCalls, On::Tmpfs];

/// Everywhere that this kernel has id maps. What is left out counts as skipped.
#[allow(clippy::print_stderr, reason = "what a test skips is counted by what it says")]
pub(crate) fn everywhere_mapped() -> &'static [On] {
    if kernel_is_at_least(6, 3) {
        &EVERYWHERE
    } else {
        eprintln!("skipped: an id-mapped tmpfs needs Linux 6.3; on the disk this was tested");
        &[On::Disk, On::DiskOldCalls]
    }
}

/// `outside/` holds a tmpfs; in it `data/` (another tmpfs, or a directory of the disk), and `rootfs/`, a shared mount
/// of its own.
pub(crate) struct World {
    pub(crate) outside: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) rootfs_path: PathBuf,
    pub(crate) rootfs: OwnedFd,
    pub(crate) sources: Sources,
    disk: tempfile::TempDir,
    scratch: tempfile::TempDir,
}

pub(crate) fn private_mounts() {
    linux::process::unshare(UnshareFlags::NEWNS).unwrap();
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
}

pub(crate) fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

pub(crate) fn mount_tmpfs(at: &Path) {
    let context = FsContext::open("tmpfs").unwrap();
    context.string("mode", "0755").unwrap();
    context.create().unwrap();
    let tree = context.mount(MountAttrFlags::empty()).unwrap();
    linux::mount::attach(tree, open(at)).unwrap();
}

impl World {
    pub(crate) fn new(on: On) -> Self {
        private_mounts();
        let scratch = tempfile::tempdir().unwrap();
        let disk = tempfile::tempdir().unwrap();
        let outside = scratch.path().to_owned();
        mount_tmpfs(&outside);
        let data = match on {
            On::Disk | On::DiskOldCalls => disk.path().to_owned(),
            On::Tmpfs => {
                let data = outside.join("data");
                std::fs::create_dir(&data).unwrap();
                mount_tmpfs(&data);
                data
            }
        };
        for directory in ["assets", "backup", "packages/dep/volumes/main"] {
            std::fs::create_dir_all(data.join(directory)).unwrap();
        }
        let rootfs_path = outside.join("rootfs");
        std::fs::create_dir(&rootfs_path).unwrap();
        mount_tmpfs(&rootfs_path);
        mount_change(&rootfs_path, MountPropagationFlags::SHARED).unwrap();
        let rootfs = open(&rootfs_path);
        let mut sources = Sources::open(&data).unwrap();
        if matches!(on, On::DiskOldCalls) {
            sources = sources.with_features(Features::floor());
        }
        Self { outside, data, rootfs_path, rootfs, sources, disk, scratch }
    }

    /// Prepares and attaches.
    pub(crate) fn mount(&self, mount: &Mount) -> Result<(), Error> {
        let prepared: Prepared = self.sources.prepare(mount, None)?;
        volumes::attach(&prepared, &self.rootfs, &mount.mountpoint)
    }

    pub(crate) fn unmount(&self, mountpoint: &str) -> Result<(), Error> {
        volumes::detach(&self.rootfs, mountpoint)
    }

    /// A path inside the rootfs, from outside.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        self.rootfs_path.join(path.trim_start_matches('/'))
    }

    pub(crate) fn stored(&self, path: &str) -> PathBuf {
        self.data.join(path)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The namespace goes with the thread; the directories cannot be removed while they are mounted on.
        _ = unmount(&self.outside, UnmountFlags::DETACH);
    }
}

pub(crate) fn volume(id: &str) -> MountSource {
    MountSource::Volume { volume_id: id.to_owned(), subpath: None, filetype: FileType::Infer }
}

pub(crate) fn volume_at(id: &str, subpath: &str, filetype: FileType) -> MountSource {
    MountSource::Volume { volume_id: id.to_owned(), subpath: Some(subpath.to_owned()), filetype }
}

pub(crate) fn assets() -> MountSource {
    MountSource::Assets { subpath: None, filetype: FileType::Infer }
}

pub(crate) fn pointer(package: &str, volume: &str) -> MountSource {
    MountSource::Pointer {
        package_id: package.to_owned(),
        volume_id: volume.to_owned(),
        subpath: None,
        filetype: FileType::Infer,
    }
}

pub(crate) fn backup() -> MountSource {
    MountSource::Backup { subpath: None, filetype: FileType::Infer }
}

pub(crate) fn tmpfs() -> MountSource {
    MountSource::Tmpfs { size: None, mode: None }
}

pub(crate) fn every_kind() -> [MountSource; 5] {
    [volume("main"), assets(), pointer("dep", "main"), backup(), tmpfs()]
}

pub(crate) fn at(source: MountSource, mountpoint: &str) -> Mount {
    Mount { source, mountpoint: mountpoint.to_owned(), readonly: false, idmap: Vec::new() }
}

pub(crate) fn readonly(mount: Mount) -> Mount {
    Mount { readonly: true, ..mount }
}

pub(crate) fn mapped(mount: Mount, maps: &[(u32, u32, u32)]) -> Mount {
    let idmap = maps.iter().map(|&(from_id, to_id, range)| IdMap { from_id, to_id, range }).collect();
    Mount { idmap, ..mount }
}

/// Owner and group.
pub(crate) fn owner(path: &Path) -> (u32, u32) {
    let stat = std::fs::symlink_metadata(path).unwrap();
    (stat.uid(), stat.gid())
}

pub(crate) fn chown(path: &Path, id: u32) {
    std::os::unix::fs::lchown(path, Some(id), Some(id)).unwrap();
}

/// Runs a shell as somebody in this thread's mount namespace: its words on stderr if it fails.
pub(crate) fn sh(id: u32, script: &str) -> Result<(), String> {
    let output = Command::new("/bin/sh").args(["-c", script]).uid(id).gid(id).output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
}

/// The mount at a path of this namespace.
pub(crate) fn mount_at(path: &Path) -> linux::mounts::Mount {
    linux::mounts::list(None, linux::kernel::Features::get())
        .unwrap()
        .into_iter()
        .rfind(|mount| mount.mountpoint == path.as_os_str().as_encoded_bytes())
        .unwrap()
}

/// By the version: what a test skips must not depend on the calls that it is about.
pub(crate) fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_str().unwrap();
    let mut numbers = release.split(['.', '-', '+']).map(|number| number.parse::<u32>().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (major, minor)
}
