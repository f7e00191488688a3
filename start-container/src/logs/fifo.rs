//! The FIFOs by which streams that are kept come out of containers.
//!
//! A process has its own open for reading, too: it is never told that nobody reads (SIGPIPE), and what it writes stays
//! there until somebody does. Who reads opens it by its name, which is there for as long as the process may write.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linux::step::{Step, during};
use protocol::logs::LogStream;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::engine::keeper::Keeper;
use crate::error::{Failure, Result};

/// The place of FIFOs beneath a subcontainer's directory.
const PLACE: &str = "log";

/// What a FIFO holds. More than the kernel's own 64 KiB: fewer changes between writer and reader.
pub(crate) const HOLDS: usize = 256 * 1024;

/// One stream of one process.
#[derive(Debug)]
pub(crate) struct Fifo {
    path: PathBuf,
    /// The reading end; never blocks.
    pub(crate) end: Arc<OwnedFd>,
    /// Who has that open, too.
    pub(crate) keeper: Option<Arc<Keeper>>,
    pub(crate) pid: u32,
    pub(crate) stream: LogStream,
}

impl Fifo {
    /// Makes one, and opens the process's end.
    ///
    /// `name` is nobody else's. [`Fifo::is_of`] gives it another one.
    pub(crate) fn make(run_dir: &Path, guid: &str, name: &str, stream: LogStream) -> Result<(Self, OwnedFd)> {
        let dir = run_dir.join(guid).join(PLACE);
        let path = dir.join(format!("{name}.{}", word(stream)));
        let fail = |errno| Failure::kernel("create", path.display(), errno);
        match rustix::fs::mkdir(&dir, Mode::from(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fail(errno)),
        }
        let make = || rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0);
        during(Step::MakeFifo, make).map_err(fail)?;
        let open = || {
            let end = reading(&path)?;
            let theirs =
                rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
            // As many bytes as the kernel grants.
            let _fewer = rustix::pipe::fcntl_setpipe_size(&theirs, HOLDS);
            Ok((end, theirs))
        };
        let (end, theirs) = open().map_err(|errno| {
            let _left = rustix::fs::unlink(&path);
            fail(errno)
        })?;
        Ok((Self { path, end: Arc::new(end), keeper: None, pid: 0, stream }, theirs))
    }

    /// It is this process's: its name says so from now on.
    pub(crate) fn is_of(&mut self, pid: u32) {
        let path = self.path.with_file_name(format!("{pid}.{}", word(self.stream)));
        // Under its first name it is found as well, but not whose it is.
        if rustix::fs::rename(&self.path, &path).is_ok() {
            self.path = path;
        }
        self.pid = pid;
    }

    /// How many bytes are in it.
    pub(crate) fn holds(&self) -> usize {
        rustix::io::ioctl_fionread(&self.end).map_or(0, |count| count as usize)
    }

    /// From now on what is in it outlives this process.
    pub(crate) fn hold(&mut self, keeper: Option<&Arc<Keeper>>, guid: &str) {
        self.keeper = keeper.filter(|keeper| keeper.hold(&self.end, guid)).map(Arc::clone);
    }

    /// Whether it is more than half full: whoever writes to it may have to wait soon.
    pub(crate) fn is_filling(&self) -> bool {
        let room = rustix::pipe::fcntl_getpipe_size(&self.end).unwrap_or(HOLDS);
        self.holds() > room / 2
    }

    /// Takes its name away: nobody will write any more.
    pub(crate) fn remove(self) {
        if let Some(keeper) = &self.keeper {
            keeper.let_go_of(&self.end);
        }
        // Another process may have got the same number, and its FIFO the name, since.
        let (Ok(ours), Ok(there)) = (rustix::fs::fstat(&self.end), rustix::fs::lstat(&self.path)) else {
            return;
        };
        if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino) {
            let _gone = during(Step::RemoveFifo, || rustix::fs::unlink(&self.path));
        }
        if let Some(dir) = self.path.parent() {
            // Others may be in there.
            let _kept = rustix::fs::rmdir(dir);
        }
    }
}

/// Every FIFO of a subcontainer, as an earlier host has left them.
pub(crate) fn left(run_dir: &Path, guid: &str) -> Result<Vec<Fifo>> {
    let dir = run_dir.join(guid).join(PLACE);
    let fail = |error: std::io::Error| {
        Failure::new(protocol::ErrorKind::Kernel, "list", dir.display()).because(error)
    };
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(fail)?,
    };
    let mut fifos = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        let stream = match path.extension().and_then(|word| word.to_str()) {
            Some("stdout") => LogStream::Stdout,
            Some("stderr") => LogStream::Stderr,
            _ => continue,
        };
        let pid = path.file_stem().and_then(|pid| pid.to_str()).and_then(|pid| pid.parse().ok()).unwrap_or(0);
        match reading(&path) {
            Ok(end) => fifos.push(Fifo { path, end: Arc::new(end), keeper: None, pid, stream }),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(Failure::kernel("open", path.display(), errno)),
        }
    }
    Ok(fifos)
}

/// The FIFOs of a subcontainer, by device and inode.
pub(crate) fn inodes(run_dir: &Path, guid: &str) -> Vec<(u64, u64)> {
    let entries = std::fs::read_dir(run_dir.join(guid).join(PLACE)).into_iter().flatten().flatten();
    let stats = entries.filter_map(|entry| rustix::fs::lstat(entry.path()).ok());
    stats.map(|stat| (stat.st_dev, stat.st_ino)).collect()
}

/// Removes the FIFOs beneath a subcontainer's directory. There may be none.
pub(crate) fn remove_all(dir: impl AsFd) -> std::result::Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let place = match rustix::fs::openat(&dir, PLACE, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    for entry in rustix::fs::Dir::read_from(&place)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            match rustix::fs::unlinkat(&place, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    match rustix::fs::unlinkat(&dir, PLACE, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn reading(path: &Path) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::empty())
}

fn word(stream: LogStream) -> &'static str {
    match stream {
        LogStream::Stdout => "stdout",
        LogStream::Stderr => "stderr",
    }
}
