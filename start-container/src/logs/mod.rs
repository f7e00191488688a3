//! What processes have written to streams that are kept.
//!
//! ```text
//! DATA_DIR/logs/<guid>/               locked (flock) by the one who writes
//! DATA_DIR/logs/<guid>/<n>.log        the bytes themselves, of both streams, in the order in which they were read
//! DATA_DIR/logs/<guid>/<n>.index      bounds, then a head for each piece: when, how much, which process and stream
//! DATA_DIR/logs/<guid>/journal        how far its lines were sent to the machine's journal, if they are
//! /run/start-container/<guid>/log/    a FIFO for each stream of each process that runs
//! ```
//! The `.log` files are plain bytes, for `less`, `grep`, `tail -F` and every collector that reads files; times are beside
//! them, so that bytes go from the process's FIFO to the file inside the kernel (splice(2)) and are nowhere else on
//! their way: whoever is killed loses none and writes none twice. `docs/decisions/0019-logs.md` has the alternatives.
//!
//! [`Writer`] and [`Reader`] know nothing of each other but the files. Never interprets what was written.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use linux::step::{Step, during};
use protocol::ErrorKind;
use protocol::logs::{Frame, LogBounds};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Failure, Result};

pub(crate) mod fifo;
pub(crate) mod journal;
mod reader;
mod writer;

pub(crate) use reader::{Place, Reader, Select};
pub(crate) use writer::{Taken, Writer};

/// The room of logs beneath the data directory.
pub(crate) const ROOM: &str = "logs";

/// How an index begins.
const MAGIC: [u8; 8] = *b"sc-log\0\x01";

/// The head of an index: what it is, the bounds, and zeros.
const HEAD: usize = 32;

/// The most pieces of one file: whoever writes byte by byte makes an index no larger than 4 MiB.
const MOST_PIECES: u64 = 262_144;

/// Checks bounds that were asked for.
pub(crate) fn check(bounds: LogBounds) -> Result<LogBounds> {
    let refuse = |why: &str| {
        Err(Failure::new(
            ErrorKind::Invalid,
            "keep logs within",
            format!("{} × {}", bounds.files, bounds.size),
        )
        .because(std::io::Error::other(why.to_owned())))
    };
    match bounds {
        LogBounds { size, .. } if !(1 << 16..=1 << 40).contains(&size) => {
            refuse("the size of a file is 64 KiB to 1 TiB")
        }
        LogBounds { files, .. } if !(1..=100).contains(&files) => refuse("there are 1 to 100 files"),
        bounds => Ok(bounds),
    }
}

fn head(bounds: LogBounds) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&MAGIC);
    head[8..16].copy_from_slice(&bounds.size.to_le_bytes());
    head[16..20].copy_from_slice(&bounds.files.to_le_bytes());
    head
}

fn bounds_in(head: &[u8; HEAD]) -> Option<LogBounds> {
    let rest = head.strip_prefix(&MAGIC)?;
    let (size, rest) = rest.split_first_chunk()?;
    let (files, _) = rest.split_first_chunk()?;
    check(LogBounds { size: u64::from_le_bytes(*size), files: u32::from_le_bytes(*files) }).ok()
}

/// The files of the n-th place.
fn names(number: u64) -> (String, String) {
    (format!("{number}.log"), format!("{number}.index"))
}

/// The numbers of the files in a log, smallest first.
fn numbers(dir: BorrowedFd<'_>) -> std::result::Result<Vec<u64>, Errno> {
    let mut numbers = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let number = entry.file_name().to_str().ok().and_then(|name| name.strip_suffix(".index"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn open_in(dir: impl AsFd, name: &str, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::from(0o600))
}

fn make_dir(path: &Path) -> std::result::Result<(), Errno> {
    match rustix::fs::mkdir(path, Mode::from(0o700)) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Fills the buffer from a place in a file. How much there was.
fn read_at(file: &OwnedFd, buffer: &mut [u8], mut at: u64) -> std::result::Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(file, &mut buffer[filled..], at) {
            Ok(0) => break,
            Ok(n) => (filled, at) = (filled + n, at + n as u64),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
}

/// The n-th piece of an index.
fn piece(index: &OwnedFd, number: u64) -> std::result::Result<Option<Frame>, Errno> {
    let mut bytes = [0; Frame::SIZE];
    let read = read_at(index, &mut bytes, place_of(number))?;
    Ok(if read == Frame::SIZE { Frame::from_bytes(&bytes) } else { None })
}

/// Where the n-th piece is in an index.
fn place_of(number: u64) -> u64 {
    HEAD as u64 + number * Frame::SIZE as u64
}

/// The name of the file that says how far a log was sent to the journal.
const JOURNAL: &str = "journal";

/// How far a log was sent to the journal. None: it is not.
pub(crate) fn journalled(data_dir: &Path, guid: &str) -> Option<Place> {
    let text = std::fs::read(data_dir.join(ROOM).join(guid).join(JOURNAL)).ok()?;
    // Half of one, after the machine itself has failed: from the beginning of what is kept.
    Some(serde_json::from_slice(&text).unwrap_or_default())
}

/// Writes down how far a log was sent to the journal. None: it is not, from now on.
///
/// # Errors
/// It cannot be written. What it was stays.
pub(crate) fn set_journalled(data_dir: &Path, guid: &str, place: Option<Place>) -> Result<()> {
    let room = data_dir.join(ROOM);
    let dir = room.join(guid);
    let file = dir.join(JOURNAL);
    let fail = |errno| Failure::kernel("write", file.display(), errno);
    let Some(place) = place else {
        return match rustix::fs::unlink(&file) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(fail(errno)),
        };
    };
    make_dir(&room).and_then(|()| make_dir(&dir)).map_err(fail)?;
    let text = serde_json::to_vec(&place).unwrap_or_default();
    let new = dir.join("journal.new");
    std::fs::write(&new, text)
        .map_err(|error| Failure::new(ErrorKind::Kernel, "write", new.display()).because(error))?;
    rustix::fs::rename(&new, &file).map_err(fail)
}

/// Every subcontainer of which something is kept.
pub(crate) fn guids(data_dir: &std::path::Path) -> Result<Vec<String>> {
    let room = data_dir.join(ROOM);
    let fail = |error: std::io::Error| Failure::new(ErrorKind::Kernel, "list", room.display()).because(error);
    match std::fs::read_dir(&room) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        other => {
            Ok(other.map_err(fail)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
        }
    }
}

/// Removes all that was kept of a subcontainer. There may be nothing.
pub(crate) fn remove(data_dir: &std::path::Path, guid: &str) -> Result<()> {
    let path = data_dir.join(ROOM).join(guid);
    let fail = |errno| Failure::kernel("remove", path.display(), errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let dir = match rustix::fs::open(&path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(fail)?,
    };
    let remove_all = || {
        for entry in rustix::fs::Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        rustix::fs::rmdir(&path)
    };
    match during(Step::RemoveLog, remove_all) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        // A writer has made another file meanwhile.
        Err(Errno::NOTEMPTY) => remove(data_dir, guid),
        Err(errno) => Err(fail(errno)),
    }
}
