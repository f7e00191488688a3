//! A container as it is written down.
//!
//! ```text
//! ROOT/<id>/             locked (flock) by whoever changes the container
//! ROOT/<id>/state.json   written before anything is made, and again when its process is there
//! ROOT/<id>/start        a socket on which the process waits for its start; gone once it has been started
//! ```
//! A process id is believed only together with the time its process started.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use protocol::ErrorKind;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use super::groups;
use crate::error::{Failure, Result};
use crate::subcontainer::state::start_time;

/// Where containers are written down.
#[derive(Clone, Debug)]
pub(super) struct Root(PathBuf);

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
    /// Where its control groups are, beneath the top of each hierarchy.
    pub(super) cgroup: PathBuf,
    /// Directories of control groups that were not there before.
    #[serde(default)]
    pub(super) made: Vec<PathBuf>,
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

impl Root {
    pub(super) fn new(asked: Option<&Path>) -> Result<Self> {
        if let Some(path) = asked {
            return std::path::absolute(path).map(Self).map_err(|error| {
                Failure::new(ErrorKind::Invalid, "read --root", path.display()).because(error)
            });
        }
        let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !rustix::process::geteuid().is_root());
        Ok(Self(match own {
            Some(dir) => Path::new(&dir).join("start-container/oci"),
            None => PathBuf::from("/run/start-container/oci"),
        }))
    }

    /// Every id that there is.
    pub(super) fn ids(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut ids: Vec<String> = entries
            .filter(|entry| entry.file_type().is_ok_and(|typ| typ.is_dir()))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        ids.sort();
        ids
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
        Ok(self.0.join(id))
    }

    /// Makes the directory of a new container, and writes down what is to be made.
    pub(super) fn make(&self, record: Record) -> Result<Container> {
        let path = self.place(&record.id)?;
        let fail = |errno| Failure::kernel("create", path.display(), errno);
        loop {
            make_dirs(&self.0)?;
            match rustix::fs::mkdir(&path, Mode::from(0o711)) {
                Ok(()) => break,
                Err(Errno::EXIST) => {
                    let step = "container with given ID already exists:";
                    return Err(Failure::new(ErrorKind::Exists, step, &record.id));
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
        rustix::fs::renameat(&self.dir, "state.new", &self.dir, STATE).map_err(|errno| fail(errno.into()))
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
        let frozen = groups::open(&self.record.cgroup).is_ok_and(|groups| groups.is_frozen());
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

    /// The last step of taking it away.
    pub(super) fn remove_directory(&self) {
        remove_directory(&self.path);
    }

    /// As hooks and engines read it.
    pub(super) fn state(&self, status: Status) -> serde_json::Value {
        let pid = match status {
            Status::Stopped => 0,
            _ => self.record.process.map_or(0, |process| process.pid),
        };
        let annotations: HashMap<_, _> = self.record.spec.annotations().clone().unwrap_or_default();
        let mut state = serde_json::json!({
            "ociVersion": self.record.spec.version(),
            "id": self.record.id,
            "pid": pid,
            "status": status.name(),
            "bundle": self.record.bundle,
            "rootfs": self.record.rootfs,
            "created": self.record.created,
            "owner": "",
        });
        if !annotations.is_empty() {
            state["annotations"] = serde_json::json!(annotations);
        }
        state
    }
}

pub(super) fn remove_directory(path: &Path) {
    for name in [SOCKET, "state.new", STATE] {
        let _absent = rustix::fs::unlinkat(CWD, path.join(name), rustix::fs::AtFlags::empty());
    }
    let _gone = rustix::fs::rmdir(path);
    // The last one takes what is above with it.
    let _others = path.parent().map(rustix::fs::rmdir);
}

fn socket() -> std::result::Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}
