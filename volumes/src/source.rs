//! The kinds of sources, each beneath its own root.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use linux::kernel::Features;
use linux::resolve::{New, beneath, beneath_no_links, create_file_beneath, mkdir_beneath};
use linux::userns::Extent;
use protocol::subcontainer::{FileType, Mount, MountSource};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, statat};
use rustix::io::Errno;

use crate::tree::{self, Attributes, IdMapNamespaces};
use crate::{Error, Prepared, id, idmap};

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// Where sources are, beneath the data directory.
const ROOTS: [&str; 4] = ["volumes", "assets", "packages", "backup"];

/// The directories that mounts come from.
#[derive(Debug)]
pub struct Sources {
    data_dir: OwnedFd,
    namespaces: IdMapNamespaces,
    features: Features,
}

/// Whose mounts they are, where not the operator's.
#[derive(Clone, Copy, Debug)]
pub struct Package<'a> {
    /// Its id: its volumes are `packages/<id>/volumes`, its part of the backup target is `backup/<id>`.
    pub id: &'a str,
    /// The directory of its bundle.
    pub files: BorrowedFd<'a>,
    /// Which directory in there its assets are: `assets`, or another one that is shown read-only.
    pub part: &'a str,
}

/// Where a source is, and what may be made there.
struct Place<'a> {
    /// What to call it: `volume main`.
    what: String,
    /// Its root, beneath the data directory or, of assets, beneath a bundle.
    root: PathBuf,
    /// The root is made where it is missing.
    make_root: bool,
    /// A subpath is made where it is missing.
    make_subpath: bool,
    subpath: Option<&'a str>,
    filetype: FileType,
    readonly: bool,
}

impl Sources {
    /// The sources beneath a data directory.
    ///
    /// # Errors
    /// When it cannot be opened, or is none.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        let failed = |source| Error::OpenDataDir { path: data_dir.to_owned(), source };
        let flags = DIRECTORY | OFlags::CLOEXEC;
        let data_dir = rustix::fs::open(data_dir, flags, Mode::empty()).map_err(failed)?;
        // Root inside gives its files what modes it likes, setuid for one: no user of the machine may come near them
        // (CVE-2021-41091).
        for root in ROOTS {
            match rustix::fs::chmodat(&data_dir, root, Mode::RWXU, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(Self { data_dir, namespaces: IdMapNamespaces::default(), features: *Features::get() })
    }

    /// With other calls than the newest that this kernel has: for tests of the older ways.
    #[must_use]
    pub fn with_features(self, features: Features) -> Self {
        Self { features, ..self }
    }

    /// Makes a detached mount of what `mount` asks for: read-only where it says so and always for assets, without
    /// devices, with its id map. Its mountpoint is not looked at.
    ///
    /// What had to be made on the source belongs to whoever appears as root inside, or to root where nobody does.
    ///
    /// `first_id`: for a container with a user namespace, the machine's id that is 0 in it. Its ids are those that the
    /// map's `toId` means, and what has no map is seen as it is stored.
    ///
    /// # Errors
    /// For ids that are no plain names, bad id maps, paths that leave the source, a source that is missing or of the
    /// wrong type, and whatever the kernel refuses.
    pub fn prepare(&self, mount: &Mount, first_id: Option<u32>) -> Result<Prepared, Error> {
        self.prepare_from(mount, None, first_id)
    }

    /// The same for a package: its volumes and assets are its own.
    ///
    /// # Errors
    /// As [`Sources::prepare`].
    pub fn prepare_for(
        &self,
        mount: &Mount,
        package: Package<'_>,
        first_id: Option<u32>,
    ) -> Result<Prepared, Error> {
        self.prepare_from(mount, Some(package), first_id)
    }

    fn prepare_from(
        &self,
        mount: &Mount,
        package: Option<Package<'_>>,
        first_id: Option<u32>,
    ) -> Result<Prepared, Error> {
        let base = match (&mount.source, &package) {
            (MountSource::Assets { .. }, Some(package)) => package.files,
            _ => self.data_dir.as_fd(),
        };
        let place = match &mount.source {
            MountSource::Tmpfs { size, mode } => {
                let extents = extents("tmpfs", mount, first_id)?;
                return tree::tmpfs(*size, *mode, mount.readonly, &extents);
            }
            MountSource::Volume { volume_id, subpath, filetype } => {
                id::check("volume", volume_id)?;
                let volumes = match package {
                    Some(Package { id, .. }) => {
                        id::check("package", id)?;
                        Path::new("packages").join(id).join("volumes")
                    }
                    None => PathBuf::from("volumes"),
                };
                Place {
                    what: format!("volume {volume_id}"),
                    root: volumes.join(volume_id),
                    make_root: !mount.readonly,
                    make_subpath: !mount.readonly,
                    subpath: subpath.as_deref(),
                    filetype: *filetype,
                    readonly: mount.readonly,
                }
            }
            MountSource::Assets { subpath, filetype } => Place {
                what: package.map_or("assets", |package| package.part).to_owned(),
                root: PathBuf::from(package.map_or("assets", |package| package.part)),
                make_root: false,
                make_subpath: false,
                subpath: subpath.as_deref(),
                filetype: *filetype,
                readonly: true,
            },
            MountSource::Pointer { package_id, volume_id, subpath, filetype } => {
                id::check("package", package_id)?;
                id::check("volume", volume_id)?;
                Place {
                    what: format!("volume {volume_id} of package {package_id}"),
                    root: Path::new("packages").join(package_id).join("volumes").join(volume_id),
                    make_root: false,
                    make_subpath: false,
                    subpath: subpath.as_deref(),
                    filetype: *filetype,
                    readonly: mount.readonly,
                }
            }
            MountSource::Rpc { package_id } => {
                id::check("package", package_id)?;
                Place {
                    what: format!("socket of package {package_id}"),
                    root: Path::new("packages").join(package_id).join("rpc"),
                    make_root: false,
                    make_subpath: false,
                    subpath: None,
                    filetype: FileType::Directory,
                    readonly: true,
                }
            }
            MountSource::Backup { subpath, filetype } => {
                let what = "backup".to_owned();
                if let Some(place) =
                    self.operators_backup(package, mount.readonly, subpath.as_deref(), *filetype)?
                {
                    return self.prepare_place(self.data_dir.as_fd(), &place, mount, first_id);
                }
                // Where the target is missing, a backup must fail rather than fill the wrong disk.
                let root = PathBuf::from("backup");
                beneath_no_links(self.data_dir.as_fd(), &root, DIRECTORY, Mode::empty())
                    .map_err(|source| Error::OpenSource { what: what.clone(), source })?;
                Place {
                    what,
                    make_root: package.is_some() && !mount.readonly,
                    root: match package {
                        Some(Package { id, .. }) => {
                            id::check("package", id)?;
                            root.join(id)
                        }
                        None => root,
                    },
                    make_subpath: !mount.readonly,
                    subpath: subpath.as_deref(),
                    filetype: *filetype,
                    readonly: mount.readonly,
                }
            }
        };
        self.prepare_place(base, &place, mount, first_id)
    }

    /// While the operator backs a package up, or restores it, its part of the target is a directory of the host's: the target
    /// is nobody's but the host's then, and may be a file system that knows no owners.
    fn operators_backup<'a>(
        &self,
        package: Option<Package<'_>>,
        readonly: bool,
        subpath: Option<&'a str>,
        filetype: FileType,
    ) -> Result<Option<Place<'a>>, Error> {
        let Some(Package { id, .. }) = package else { return Ok(None) };
        id::check("package", id)?;
        let root = Path::new("packages").join(id).join("backup");
        match beneath_no_links(self.data_dir.as_fd(), &root, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            Err(source) => Err(Error::OpenSource { what: "backup".to_owned(), source }),
            Ok(_) => Ok(Some(Place {
                what: "backup".to_owned(),
                root,
                make_root: false,
                make_subpath: !readonly,
                subpath,
                filetype,
                readonly,
            })),
        }
    }

    fn prepare_place(
        &self,
        base: BorrowedFd<'_>,
        place: &Place<'_>,
        mount: &Mount,
        first_id: Option<u32>,
    ) -> Result<Prepared, Error> {
        let extents = extents(&place.what, mount, first_id)?;
        let source = Self::open_place(base, place, &extents, first_id.unwrap_or(0))?;
        let attributes = Attributes {
            what: &place.what,
            readonly: place.readonly,
            recursive: false,
            features: &self.features,
            extents: &extents,
        };
        tree::clone(&source, &attributes, &self.namespaces)
    }

    fn open_place(
        base: BorrowedFd<'_>,
        place: &Place<'_>,
        extents: &[Extent],
        root: u32,
    ) -> Result<OwnedFd, Error> {
        let owner = idmap::stored_as(extents, root).unwrap_or(0);
        let owner = Some((Uid::from_raw(owner), Gid::from_raw(owner)));
        let new = New { mode: Mode::from_raw_mode(0o755), owner };
        let subpath = match place.subpath {
            Some(subpath) => checked(subpath).ok_or_else(|| Error::InvalidSubpath {
                what: place.what.clone(),
                subpath: subpath.to_owned(),
            })?,
            None => PathBuf::new(),
        };
        let root = Self::open_root(base, place, new)?;
        let what = if subpath.as_os_str().is_empty() {
            place.what.clone()
        } else {
            format!("{} of {}", subpath.display(), place.what)
        };
        let source = if !place.make_subpath || subpath.as_os_str().is_empty() {
            beneath(&root, &subpath, OFlags::PATH, Mode::empty())
        } else {
            let created = match place.filetype {
                FileType::File => {
                    let new = New { mode: Mode::from_raw_mode(0o644), ..new };
                    create_file_beneath(&root, &subpath, new)
                }
                FileType::Directory => mkdir_beneath(&root, &subpath, new),
                FileType::Infer => beneath(&root, &subpath, OFlags::PATH, Mode::empty()),
            };
            match created {
                // Something else is there: said below, as for what was not made.
                Err(Errno::NOTDIR) if place.filetype == FileType::Directory => {
                    beneath(&root, &subpath, OFlags::PATH, Mode::empty())
                }
                Err(source) if !is_lookup(source) => return Err(Error::CreateSource { what, source }),
                other => other,
            }
        };
        let source = source.map_err(|source| Error::OpenSource { what: what.clone(), source })?;
        match type_of(&source, place.filetype) {
            Ok(None) => Ok(source),
            Ok(Some(expected)) => Err(Error::WrongType { what, expected }),
            Err(source) => Err(Error::OpenSource { what, source }),
        }
    }

    /// No links on the way to the root of a source: it is ours down to there.
    fn open_root(base: BorrowedFd<'_>, place: &Place<'_>, new: New) -> Result<OwnedFd, Error> {
        let open = || beneath_no_links(base, &place.root, DIRECTORY, Mode::empty());
        match open() {
            Err(Errno::NOENT) if place.make_root => {
                let parents = New { owner: None, mode: Mode::RWXU };
                let failed = |source| Error::CreateSource { what: place.what.clone(), source };
                if let Some(parent) = place.root.parent() {
                    mkdir_beneath(base, parent, parents).map_err(failed)?;
                }
                mkdir_beneath(base, &place.root, new).map_err(failed)?;
                open()
            }
            other => other,
        }
        .map_err(|source| Error::OpenSource { what: place.what.clone(), source })
    }
}

fn extents(what: &str, mount: &Mount, first_id: Option<u32>) -> Result<Vec<Extent>, Error> {
    let extents = match first_id {
        None => idmap::extents(&mount.idmap),
        Some(first) => idmap::extents_within(&mount.idmap, first),
    };
    extents.map_err(|source| Error::IdMap { what: what.to_owned(), source })
}

/// A subpath as a path beneath its source: slashes in front mean the source's root, and nothing goes up.
fn checked(subpath: &str) -> Option<PathBuf> {
    if subpath.contains('\0') {
        return None;
    }
    let mut path = PathBuf::new();
    for component in Path::new(subpath).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

/// What the source should be, where it is something else.
fn type_of(source: &OwnedFd, expected: FileType) -> Result<Option<&'static str>, Errno> {
    let stat = statat(source, c"", AtFlags::EMPTY_PATH)?;
    let found = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    Ok(match expected {
        FileType::File if found != rustix::fs::FileType::RegularFile => Some("file"),
        FileType::Directory if found != rustix::fs::FileType::Directory => Some("directory"),
        FileType::File | FileType::Directory | FileType::Infer => None,
    })
}

/// Errors of looking a path up, rather than of making something at its end.
fn is_lookup(errno: Errno) -> bool {
    matches!(errno, Errno::XDEV | Errno::LOOP | Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG)
}
