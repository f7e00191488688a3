//! A program of a manifest, made ready in a subcontainer of its own in the package's sandbox: for services and jobs.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use broker::confine::Own;
use packages::Manifest;
use packages::manifest::entry::{Mount as Wanted, Program};
use packages::manifest::{Image, MountFrom, Name, PackageId};
use packages::runner::Startable;
use protocol::image::ImageInfo;
use protocol::process::CommandOptions;
use protocol::subcontainer::{FileType, Mount, MountSource};

use super::state::Host;
use crate::error::{Failure, Result};
use crate::subcontainer::Owner;

/// A package that runs, for what is started in it later.
pub(super) struct Bundle {
    pub(super) manifest: Manifest,
    pub(super) sandbox: String,
    /// Its data come from a backup.
    pub(super) restored: bool,
    files: OwnedFd,
    images: Images,
}

impl Bundle {
    pub(super) fn of(package: &Startable<'_>, sandbox: &str, images: Images) -> Result<Self> {
        let id = &package.manifest.id;
        let files = package.files.try_clone_to_owned().map_err(|error| {
            Failure::new(protocol::ErrorKind::Exhausted, "keep bundle of", id).because(error)
        })?;
        let (manifest, sandbox) = (package.manifest.clone(), sandbox.to_owned());
        Ok(Self { manifest, files, images, sandbox, restored: package.restored })
    }

    /// Mounts a directory of its files, read-only. Nothing where there is none.
    pub(super) fn mount_part(&self, host: &Host, guid: &str, part: &str, mountpoint: &str) -> Result<()> {
        if !self.has(part) {
            return Ok(());
        }
        let own = volumes::Package { id: self.manifest.id.as_str(), files: self.files.as_fd(), part };
        host.machine.mount_with(guid, &directory(mountpoint), Some(own))
    }

    /// Makes a subcontainer for something of the package's, in its sandbox, with its door. It ends with the sandbox at the
    /// latest.
    pub(super) fn make_fs(&self, host: &Host, image: &ImageInfo, what: &str) -> Result<String> {
        let options = images::rootfs::Options {
            name: Some(format!("{}-{what}", self.manifest.id)),
            throwaway: true,
            within: Some(self.sandbox.clone()),
            ..Default::default()
        };
        let rootfs = host.machine.make_fs(Some(&image.digest), options, Some(&Owner::default()))?;
        let guid = rootfs.guid().to_owned();
        self.mount_door(host, &guid)?;
        Ok(guid)
    }

    /// Mounts its door.
    fn mount_door(&self, host: &Host, guid: &str) -> Result<()> {
        let source = MountSource::Rpc { package_id: self.manifest.id.to_string() };
        let mountpoint = "/media/startos/rpc".to_owned();
        host.machine.mount(guid, &Mount { mountpoint, source, readonly: true, idmap: Vec::new() })
    }

    fn has(&self, part: &str) -> bool {
        rustix::fs::statat(&self.files, part, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }
}

/// A program that is ready to be started.
pub(super) struct Ready {
    /// Its subcontainer.
    pub(super) guid: String,
    pub(super) command: Vec<String>,
    pub(super) options: CommandOptions,
}

/// Makes the subcontainer of a program, with its mounts. It ends with the package's sandbox at the latest.
pub(super) fn make_program(
    host: &Arc<Host>,
    bundle: &Bundle,
    name: &Name,
    program: &Program,
) -> Result<Ready> {
    let id = &bundle.manifest.id;
    let image = bundle
        .images
        .get(&program.image)
        .ok_or_else(|| Failure::new(protocol::ErrorKind::NotFound, "find image", &program.image))?;
    let command = if program.command.is_empty() { image.config.command() } else { program.command.clone() };
    if command.is_empty() {
        return Err(Failure::new(protocol::ErrorKind::Invalid, "find command of", name)
            .because(std::io::Error::other("neither the manifest nor the image has one")));
    }
    let guid = bundle.make_fs(host, image, name.as_str())?;
    let own = volumes::Package { id: id.as_str(), files: bundle.files.as_fd(), part: "assets" };
    for wanted in &program.mounts {
        host.machine.mount_with(&guid, &mount(host, id, wanted)?, Some(own))?;
    }
    if !covers_assets(program) {
        bundle.mount_part(host, &guid, "assets", ASSETS)?;
    }
    let options = CommandOptions {
        env: program.env.iter().map(|(name, value)| (name.to_string(), value.clone())).collect(),
        cwd: program.workdir.as_ref().map(ToString::to_string),
        user: program.user.as_ref().map(ToString::to_string),
        ..CommandOptions::default()
    };
    Ok(Ready { guid, command, options })
}

/// Images by the manifest's names.
pub(super) type Images = HashMap<Name, ImageInfo>;

/// What of the host's is the package's own, for calls through its door.
pub(super) fn own(manifest: &Manifest, sandbox: Option<&str>, images: &Images) -> Own {
    let pointers = manifest.dependencies.iter().flat_map(|(package, dependency)| {
        dependency.volumes.iter().map(move |volume| (package.to_string(), volume.to_string()))
    });
    Own {
        package: manifest.id.to_string(),
        sandbox: sandbox.unwrap_or_default().to_owned(),
        images: images.iter().map(|(name, image)| (name.to_string(), image.digest.clone())).collect(),
        volumes: manifest.volumes.keys().map(ToString::to_string).collect(),
        pointers: pointers.collect(),
    }
}

/// The images of a package, from its own files.
pub(super) fn import(host: &Arc<Host>, package: &Startable<'_>) -> Result<Images> {
    use std::os::fd::AsRawFd as _;
    let store = host.machine.store()?;
    let mut images = HashMap::new();
    for (name, image) in &package.manifest.images {
        let Image::File(path) = image else { continue };
        // By the handle of the directory that was checked a moment ago.
        let path = format!("/proc/self/fd/{}/{path}", package.files.as_raw_fd());
        let called = format!("package/{}/{name}", package.manifest.id);
        let info = store.import(path.as_ref(), Some(&called), &images::Silent, &images::Cancel::new());
        images.insert(name.clone(), info.map_err(Failure::from)?);
    }
    Ok(images)
}

/// Where the assets of a bundle are in each of its services, unless something else is mounted there (S27).
pub(super) const ASSETS: &str = "/media/startos/assets";

/// Something else is mounted there.
fn covers_assets(program: &Program) -> bool {
    let taken =
        |path: &str| path.strip_prefix(ASSETS).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    program.mounts.iter().any(|mount| taken(mount.path.as_str()))
}

/// A directory of the bundle, which is given with the mount.
pub(super) fn directory(mountpoint: &str) -> Mount {
    Mount {
        mountpoint: mountpoint.to_owned(),
        source: MountSource::Assets { subpath: None, filetype: FileType::Directory },
        readonly: true,
        idmap: Vec::new(),
    }
}

/// A mount of the manifest, for the engine. A package's own volume is where others find it when they point to it.
fn mount(host: &Arc<Host>, id: &PackageId, wanted: &Wanted) -> Result<Mount> {
    let subpath = wanted.subpath.as_ref().map(ToString::to_string);
    let pointer = |package: &PackageId, volume: &Name| MountSource::Pointer {
        package_id: package.to_string(),
        volume_id: volume.to_string(),
        subpath: subpath.clone(),
        filetype: FileType::default(),
    };
    let source = match &wanted.from {
        MountFrom::Volume(volume) => {
            make_volume(host, id, volume)?;
            pointer(id, volume)
        }
        MountFrom::Dependency(dependency) => pointer(&dependency.package, &dependency.volume),
        MountFrom::Assets(path) => {
            // `assets/a` and `b` are `a/b` of the assets.
            let path = path.as_str().strip_prefix("assets").unwrap_or_default().trim_start_matches('/');
            let path: Vec<&str> =
                [path].into_iter().chain(subpath.as_deref()).filter(|part| !part.is_empty()).collect();
            let subpath = (!path.is_empty()).then(|| path.join("/"));
            MountSource::Assets { subpath, filetype: FileType::default() }
        }
    };
    Ok(Mount {
        mountpoint: wanted.path.to_string(),
        source,
        readonly: wanted.readonly || matches!(wanted.from, MountFrom::Assets(_)),
        idmap: Vec::new(),
    })
}

pub(super) fn make_volume(host: &Arc<Host>, id: &PackageId, volume: &Name) -> Result<OwnedFd> {
    let packages = host.machine.data_dir().join("packages");
    let made = || {
        let root = linux::tree::ensure_dir(&packages, 0o700)?;
        let package = linux::tree::ensure_dir_at(&root, id.as_str(), 0o755)?;
        let volumes = linux::tree::ensure_dir_at(&package, "volumes", 0o755)?;
        linux::tree::ensure_dir_at(&volumes, volume.as_str(), 0o755)
    };
    made().map_err(|errno| Failure::kernel("create volume", format!("{volume} of {id}"), errno))
}
