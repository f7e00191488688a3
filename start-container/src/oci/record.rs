//! A container as it is written down.
//!
//! ```text
//! ROOT/<id>/             locked (flock) by whoever changes the container
//! ROOT/<id>/state.json   written before anything is made, and again when its process is there
//! ROOT/<id>/start        a socket on which the process waits for its start; gone once it has been started
//! ROOT/<id>/root         where criu finds the rootfs while it restores
//! ```
//! A process id is believed only together with the time its process started.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use linux::step::{Step, during};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use protocol::ErrorKind;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use super::args::Manager;
use super::groups;
use crate::engine::compile::devices;
use crate::error::{Failure, Result};
use crate::subcontainer::state::start_time;

/// Where containers are written down.
#[derive(Clone, Debug)]
pub(super) struct Root {
    path: PathBuf,
    /// By the caller.
    named: bool,
}

/// What is written.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) created: String,
    pub(super) owner: u32,
    /// The first process, once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) process: Option<ProcessRecord>,
    /// HOME in the environment is ours, by the user of the container's process.
    #[serde(default)]
    pub(super) home: bool,
    /// Who made its control groups.
    #[serde(default)]
    pub(super) manager: Manager,
    /// Where its control groups are, beneath the top of each hierarchy.
    pub(super) cgroup: PathBuf,
    /// Directories of control groups that were not there before.
    #[serde(default)]
    pub(super) made: Vec<PathBuf>,
    /// Directories of resctrl that are its own, deepest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) resctrl: Vec<PathBuf>,
    pub(super) spec: Spec,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProcessRecord {
    pub(super) pid: i32,
    /// Clock ticks between boot and its start.
    pub(super) start_time: u64,
}

/// What a container does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A container whose directory is there, locked until this is dropped.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) path: PathBuf,
    dir: OwnedFd,
    pub(super) record: Record,
}

const STATE: &str = "state.json";
const SOCKET: &str = "start";
const CRIU_ROOT: &str = "root";

impl Root {
    pub(super) fn new(asked: Option<&Path>) -> Result<Self> {
        if let Some(path) = asked {
            let path = std::path::absolute(path).map_err(|error| {
                Failure::new(ErrorKind::Invalid, "read --root", path.display()).because(error)
            })?;
            return Ok(Self { path, named: true });
        }
        let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !rustix::process::geteuid().is_root());
        let path = match own {
            Some(dir) => Path::new(&dir).join("start-container/oci"),
            None => PathBuf::from("/run/start-container/oci"),
        };
        Ok(Self { path, named: false })
    }

    /// Whether a directory that was named is there.
    ///
    /// # Errors
    /// `NotFound`. The default one is made when it is needed.
    pub(super) fn check(&self) -> Result<()> {
        if self.named && !self.path.exists() {
            return Err(Failure::new(ErrorKind::NotFound, "open --root", self.path.display()));
        }
        Ok(())
    }

    /// Every id that there is.
    pub(super) fn ids(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        let mut ids: Vec<String> = entries
            .filter(|entry| entry.file_type().is_ok_and(|typ| typ.is_dir()))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        ids.sort();
        ids
    }

    /// Whether no container has this id.
    ///
    /// # Errors
    /// `Exists`.
    pub(super) fn check_free(&self, id: &str) -> Result<()> {
        if self.place(id)?.exists() { Err(exists(id)) } else { Ok(()) }
    }

    /// Where a container is written down.
    ///
    /// # Errors
    /// `Invalid`: an id that is no single plain name.
    pub(super) fn place(&self, id: &str) -> Result<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if id.is_empty() || id.len() > 1024 || id == "." || id == ".." || !id.chars().all(plain) {
            return Err(Failure::new(ErrorKind::Invalid, "invalid container ID", format!("{id:?}")));
        }
        Ok(self.path.join(id))
    }

    /// Makes the directory of a new container, and writes down what is to be made.
    pub(super) fn make(&self, record: Record) -> Result<Container> {
        let path = self.place(&record.id)?;
        let fail = |errno| Failure::kernel("create", path.display(), errno);
        loop {
            make_dirs(&self.path)?;
            match rustix::fs::mkdir(&path, Mode::from(0o711)) {
                Ok(()) => break,
                Err(Errno::EXIST) => {
                    return Err(exists(&record.id));
                }
                // Whoever took the last container away took that with it.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
        let dir = open_dir(&path).map_err(fail)?;
        rustix::fs::flock(&dir, FlockOperation::LockExclusive).map_err(fail)?;
        let container = Container { path, dir, record };
        container.write().inspect_err(|_| container.remove_directory())?;
        Ok(container)
    }

    /// A container, locked.
    pub(super) fn open(&self, id: &str) -> Result<Container> {
        let container = self.look(id)?;
        let fail = |errno| Failure::kernel("lock", container.path.display(), errno);
        rustix::fs::flock(&container.dir, FlockOperation::LockExclusive).map_err(fail)?;
        // It may have been taken away, or become another, meanwhile.
        let record = read(&container.dir, &container.path).map_err(|failure| match failure.kind {
            ErrorKind::NotFound => does_not_exist(id),
            _ => failure,
        })?;
        Ok(Container { record, ..container })
    }

    /// A container, for looking only.
    pub(super) fn look(&self, id: &str) -> Result<Container> {
        let path = self.place(id)?;
        let dir = match open_dir(&path) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(does_not_exist(id)),
            other => other.map_err(|errno| Failure::kernel("open", path.display(), errno))?,
        };
        let record = read(&dir, &path)?;
        Ok(Container { path, dir, record })
    }

    /// What is left of a container that was never written down, for whoever is to take it away.
    pub(super) fn remains(&self, id: &str) -> Result<Option<PathBuf>> {
        let path = self.place(id)?;
        Ok(path.is_dir().then_some(path))
    }
}

fn exists(id: &str) -> Failure {
    Failure::new(ErrorKind::Exists, "container with given ID already exists:", id)
}

fn does_not_exist(id: &str) -> Failure {
    Failure::new(ErrorKind::NotFound, "container does not exist:", id)
}

fn make_dirs(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Failure::new(ErrorKind::Kernel, "create", path.display()).because(error))
}

fn open_dir(path: &Path) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::empty())
}

fn read(dir: &OwnedFd, path: &Path) -> Result<Record> {
    let fail = |errno| Failure::kernel("read", path.join(STATE).display(), errno);
    let file =
        rustix::fs::openat(dir, STATE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let text = std::io::read_to_string(std::fs::File::from(file))
        .map_err(|error| fail(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::new(ErrorKind::Internal, "parse", path.join(STATE).display()).because(error)
    })
}

impl Container {
    /// Writes it down, whole or not at all.
    pub(super) fn write(&self) -> Result<()> {
        let fail = |error: std::io::Error| {
            Failure::new(ErrorKind::Kernel, "write", self.path.join(STATE).display()).because(error)
        };
        let text = serde_json::to_vec(&self.record).map_err(|error| {
            Failure::new(ErrorKind::Internal, "write", self.path.join(STATE).display()).because(error)
        })?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let new = rustix::fs::openat(&self.dir, "state.new", flags, Mode::from(0o600))
            .map_err(|errno| fail(errno.into()))?;
        std::fs::File::from(new).write_all(&text).map_err(fail)?;
        let replaced = || rustix::fs::renameat(&self.dir, "state.new", &self.dir, STATE);
        during(Step::RecordBundle, replaced).map_err(|errno| fail(errno.into()))
    }

    /// Writes down which process is its first one.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn is_process(&mut self, pid: i32) -> Result<()> {
        let gone = || Failure::new(ErrorKind::Kernel, "create container process", "(it was killed)");
        let start_time = start_time(pid).ok_or_else(gone)?;
        self.record.process = Some(ProcessRecord { pid, start_time });
        self.write()
    }

    /// Makes the directory on which the rootfs is mounted for criu alone.
    pub(super) fn make_root(&self) -> Result<PathBuf> {
        let path = self.path.join(CRIU_ROOT);
        rustix::fs::mkdirat(&self.dir, CRIU_ROOT, Mode::from(0o755))
            .map_err(|errno| Failure::kernel("create", path.display(), errno))?;
        Ok(path)
    }

    /// Removes it.
    pub(super) fn forget_root(&self) {
        let _gone = rustix::fs::unlinkat(&self.dir, CRIU_ROOT, rustix::fs::AtFlags::REMOVEDIR);
    }

    /// Leaves it to others to change, while this process only waits.
    pub(super) fn unlock(&self) -> Result<()> {
        rustix::fs::flock(&self.dir, FlockOperation::Unlock)
            .map_err(|errno| Failure::kernel("unlock", self.path.display(), errno))
    }

    /// Takes it back. False when somebody has taken it away meanwhile.
    pub(super) fn lock_again(&self) -> Result<bool> {
        let fail = |errno| Failure::kernel("lock", self.path.display(), errno);
        rustix::fs::flock(&self.dir, FlockOperation::LockExclusive).map_err(fail)?;
        // A directory that was removed has no name left.
        Ok(rustix::fs::fstat(&self.dir).map_err(fail)?.st_nlink > 0)
    }

    /// The handle on its process, as long as that has not ended.
    pub(super) fn process(&self) -> Option<(i32, OwnedFd)> {
        let ProcessRecord { pid, start_time: started } = self.record.process?;
        let handle = linux::pidfd::open(rustix::process::Pid::from_raw(pid)?).ok()?;
        let same = start_time(pid) == Some(started);
        let ended = linux::pidfd::ends_within(&handle, std::time::Duration::ZERO);
        (same && !ended).then_some((pid, handle))
    }

    pub(super) fn status(&self) -> Status {
        if self.process().is_none() {
            let locked =
                rustix::fs::flock(&self.dir, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK);
            return if self.record.process.is_none() && locked { Status::Creating } else { Status::Stopped };
        }
        if self.waits() {
            return Status::Created;
        }
        let frozen = groups::open(&self.record).is_ok_and(|groups| groups.is_frozen());
        if frozen { Status::Paused } else { Status::Running }
    }

    /// Makes the socket on which the process waits.
    pub(super) fn listener(&self) -> Result<OwnedFd> {
        let fail = |errno| Failure::kernel("create", self.path.join(SOCKET).display(), errno);
        let socket = socket().map_err(fail)?;
        let address = self.address().map_err(fail)?;
        rustix::net::bind(&socket, &address).map_err(fail)?;
        rustix::net::listen(&socket, 16).map_err(fail)?;
        Ok(socket)
    }

    /// Connects to the process, if it waits to be started.
    pub(super) fn connect(&self) -> std::result::Result<Option<OwnedFd>, Errno> {
        let socket = socket()?;
        match rustix::net::connect(&socket, &self.address()?) {
            Ok(()) => Ok(Some(socket)),
            Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// It has been started: nobody connects any more.
    pub(super) fn forget_listener(&self) {
        // Gone already, where it was taken away meanwhile.
        let _gone = rustix::fs::unlinkat(&self.dir, SOCKET, rustix::fs::AtFlags::empty());
    }

    fn waits(&self) -> bool {
        let there = rustix::fs::statat(&self.dir, SOCKET, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok();
        // A connection without a word only looks.
        there && self.connect().is_ok_and(|connection| connection.is_some())
    }

    /// Through the open directory: the path may be longer than an address can be.
    fn address(&self) -> std::result::Result<SocketAddrUnix, Errno> {
        use std::os::fd::AsRawFd as _;
        SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", self.dir.as_fd().as_raw_fd()))
    }

    /// Whether it has a namespace of this type that is not its engine's.
    pub(super) fn has_namespace(&self, typ: LinuxNamespaceType) -> bool {
        let all = self.record.spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten());
        all.into_iter().any(|namespace| namespace.typ() == typ)
    }

    /// Its directory.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The last step of taking it away.
    pub(super) fn remove_directory(&self) {
        remove_directory(&self.path);
    }

    /// As hooks and engines read it.
    pub(super) fn state(&self, status: Status) -> State<'_> {
        let record = &self.record;
        State {
            version: record.spec.version(),
            id: &record.id,
            pid: match status {
                Status::Stopped => 0,
                _ => record.process.map_or(0, |process| process.pid),
            },
            status: status.name(),
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: &record.created,
            annotations: record.spec.annotations().as_ref().filter(|all| !all.is_empty()),
            owner: String::new(),
        }
    }
}

/// `state` of runtime.md, with what runc has beside it, in its order: there are readers who look at the text.
#[derive(Clone, Debug, Serialize)]
pub(super) struct State<'a> {
    #[serde(rename = "ociVersion")]
    version: &'a str,
    id: &'a str,
    pid: i32,
    status: &'static str,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a HashMap<String, String>>,
    /// Said by a list.
    pub(super) owner: String,
}

impl std::fmt::Display for State<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string(self).unwrap_or_default())
    }
}

pub(super) fn remove_directory(path: &Path) {
    during(Step::RemoveBundle, || remove_files(path));
}

fn remove_files(path: &Path) {
    for name in [SOCKET, "state.new", STATE] {
        let _absent = rustix::fs::unlinkat(CWD, path.join(name), rustix::fs::AtFlags::empty());
    }
    if rustix::fs::rmdir(path) == Err(Errno::NOTEMPTY) {
        let _absent = rustix::fs::rmdir(path.join(CRIU_ROOT));
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(devices::NODE) {
                let _gone = rustix::fs::unlinkat(CWD, entry.path(), rustix::fs::AtFlags::empty());
            }
        }
        let _gone = rustix::fs::rmdir(path);
    }
    // The last one takes what is above with it.
    let _others = path.parent().map(rustix::fs::rmdir);
}

fn socket() -> std::result::Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}
