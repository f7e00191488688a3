//! The one who writes a log.
//!
//! ```text
//! a stream that is not the last piece's: its head is written, with no bytes
//! bytes are spliced to the end of <n>.log
//! the head of the piece gets its length          killed before: the bytes are of the last head's stream, and the
//!                                                time is that of the file
//! ```
//! When a file is full the next one begins, and the oldest goes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use linux::step::{Step, during};
use protocol::ErrorKind;
use protocol::logs::{Frame, LogBounds, LogStream};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};

use super::{HEAD, MOST_PIECES, ROOM, bounds_in, head, names, numbers, open_in, piece, place_of, read_at};
use crate::error::{Failure, Result};

/// The most that one look at a stream takes: others have their turn then.
const MOST_AT_ONCE: usize = 256 * 1024;

/// What one look found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Taken {
    /// This many bytes. There may be more.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// Something that cannot be read: what was spliced in by the process itself can be gone.
    Unreadable(Errno),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Writer {
    /// Locked.
    dir: OwnedFd,
    path: String,
    bounds: LogBounds,
    number: u64,
    data: OwnedFd,
    index: OwnedFd,
    /// Bytes in `data`.
    length: u64,
    /// Pieces in `index`.
    pieces: u64,
    /// The last piece, and whether it is still without bytes.
    last: Option<Frame>,
    /// Its head on the disk does not know yet how many it has.
    unnoted: bool,
}

impl Writer {
    /// Opens a log, making it where there is none, and puts right what somebody who was killed has left.
    ///
    /// `bounds`: those from now on; else those that it has, else the default.
    pub(crate) fn open(data_dir: &Path, guid: &str, bounds: Option<LogBounds>) -> Result<Self> {
        let room = data_dir.join(ROOM);
        let path = room.join(guid);
        let fail = |step: &'static str| {
            let path = path.display().to_string();
            move |errno| Failure::kernel(step, path, errno)
        };
        super::make_dir(&room).map_err(fail("create"))?;
        if !path.exists() {
            during(Step::MakeLog, || super::make_dir(&path)).map_err(fail("create"))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let dir = rustix::fs::open(&path, flags, Mode::empty()).map_err(fail("open"))?;
        match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                return Err(Failure::new(ErrorKind::Busy, "write", path.display())
                    .because(std::io::Error::other("somebody else writes it")));
            }
            other => other.map_err(fail("lock"))?,
        }
        let last = numbers(dir.as_fd()).map_err(fail("list"))?.pop();
        let name = path.display().to_string();
        let Some(number) = last else {
            return begin(dir, name, 0, bounds.unwrap_or_default()).map_err(fail("create"));
        };
        let mut writer = match resume(&dir, number).map_err(fail("read"))? {
            Some((had, data, index, length, pieces, last)) => Self {
                dir,
                path: name,
                bounds: had,
                number,
                data,
                index,
                length,
                pieces,
                last,
                unnoted: false,
            },
            // Its maker was killed before its head was whole: nothing is in it.
            None => begin(dir, name, number, bounds.unwrap_or_default()).map_err(fail("create"))?,
        };
        if let Some(bounds) = bounds {
            writer.bound(bounds)?;
        }
        Ok(writer)
    }

    /// Other bounds from now on.
    pub(crate) fn bound(&mut self, bounds: LogBounds) -> Result<()> {
        if bounds == self.bounds {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.bounds, bounds);
        self.next().map_err(|errno| {
            self.bounds = before;
            Failure::kernel("begin a file in", &self.path, errno)
        })
    }

    /// Takes what is in a FIFO, up to a bound. One at whose end nobody writes any more has nothing.
    ///
    /// # Errors
    /// When it cannot be written. It is still in the FIFO then.
    pub(crate) fn take(
        &mut self,
        fifo: BorrowedFd<'_>,
        pid: u32,
        stream: LogStream,
        time: u64,
    ) -> Result<Taken> {
        let waiting = rustix::io::ioctl_fionread(fifo).unwrap_or(0);
        if waiting == 0 {
            return Ok(Taken::Nothing);
        }
        let fail = |step: &'static str, path: &str| {
            let path = path.to_owned();
            move |errno| Failure::kernel(step, path, errno)
        };
        self.settle().map_err(fail("write", &self.path))?;
        // Room for a head is always left.
        let used = place_of(self.pieces + 1) + self.length;
        let mut room = self.bounds.size.saturating_sub(used);
        if room == 0 || self.pieces + 1 >= MOST_PIECES {
            self.next().map_err(fail("begin a file in", &self.path))?;
            room = self.bounds.size - place_of(1);
        }
        let most = MOST_AT_ONCE.min(usize::try_from(room).unwrap_or(MOST_AT_ONCE));
        let of_last = |last: &Frame| (last.pid, last.stream) == (pid, stream);
        let empty = self.last.filter(|last| last.length == 0);
        let number = if empty.is_some() { self.pieces - 1 } else { self.pieces };
        let frame = Frame { time, length: 0, pid, stream };
        if empty.is_some() || !self.last.as_ref().is_some_and(of_last) {
            put(&self.index, &frame.to_bytes(), place_of(number)).map_err(fail("write", &self.path))?;
            (self.pieces, self.last) = (number + 1, Some(frame));
        }
        let mut at = self.length;
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let length = match splice(fifo, None, &self.data, Some(&mut at), most, flags) {
            Ok(0) | Err(Errno::AGAIN | Errno::INTR) => return Ok(Taken::Nothing),
            Ok(length) => length,
            // What the process itself has spliced in, and its file has lost.
            Err(errno @ (Errno::NODATA | Errno::INVAL)) => return Ok(Taken::Unreadable(errno)),
            Err(errno) => return Err(fail("write", &self.path)(errno)),
        };
        self.length += length as u64;
        let frame = Frame { length: length as u32, ..frame };
        (self.pieces, self.last) = (number + 1, Some(frame));
        // They are in the file, and so they are taken: the disk may be full for the head alone.
        self.unnoted = self.note_last().is_err();
        Ok(Taken::Bytes(length))
    }

    fn settle(&mut self) -> std::result::Result<(), Errno> {
        if self.unnoted {
            self.note_last()?;
            self.unnoted = false;
        }
        Ok(())
    }

    /// Writes the head of the last piece, with the bytes that it has got.
    fn note_last(&self) -> std::result::Result<(), Errno> {
        let Some(last) = self.last else { return Ok(()) };
        put(&self.index, &last.to_bytes(), place_of(self.pieces - 1))
    }

    /// Gives up what is oldest, for want of room on the disk. False when there is nothing but the file in use.
    pub(crate) fn give_up_oldest(&self) -> bool {
        let oldest = numbers(self.dir.as_fd()).ok().and_then(|numbers| numbers.first().copied());
        oldest.filter(|oldest| *oldest < self.number).is_some_and(|oldest| {
            remove(self.dir.as_fd(), oldest);
            true
        })
    }

    /// Begins the next file, and lets the oldest go.
    fn next(&mut self) -> std::result::Result<(), Errno> {
        self.settle()?;
        let number = self.number + 1;
        let (data, index) = make(&self.dir, number, self.bounds)?;
        (self.data, self.index, self.number) = (data, index, number);
        (self.length, self.pieces, self.last) = (0, 0, None);
        let gone = (number + 1).saturating_sub(self.bounds.files.into());
        for old in numbers(self.dir.as_fd())?.into_iter().take_while(|old| *old < gone) {
            remove(self.dir.as_fd(), old);
        }
        Ok(())
    }
}

fn begin(dir: OwnedFd, path: String, number: u64, bounds: LogBounds) -> std::result::Result<Writer, Errno> {
    let (data, index) = make(&dir, number, bounds)?;
    Ok(Writer { dir, path, bounds, number, data, index, length: 0, pieces: 0, last: None, unnoted: false })
}

/// The bytes first: who finds an index finds what it is of.
fn make(dir: &OwnedFd, number: u64, bounds: LogBounds) -> std::result::Result<(OwnedFd, OwnedFd), Errno> {
    let (data, index) = names(number);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC;
    let data = open_in(dir, &data, flags)?;
    let index = open_in(dir, &index, flags)?;
    put(&index, &head(bounds), 0)?;
    Ok((data, index))
}

type Resumed = (LogBounds, OwnedFd, OwnedFd, u64, u64, Option<Frame>);

/// The last file as somebody has left it. None when there is no head.
fn resume(dir: &OwnedFd, number: u64) -> std::result::Result<Option<Resumed>, Errno> {
    let (data, index) = names(number);
    let index = open_in(dir, &index, OFlags::RDWR)?;
    let data = open_in(dir, &data, OFlags::RDWR | OFlags::CREATE)?;
    let mut head = [0; HEAD];
    let read = read_at(&index, &mut head, 0)?;
    let Some(bounds) = bounds_in(&head).filter(|_| read == HEAD) else { return Ok(None) };
    let stat = rustix::fs::fstat(&data)?;
    let there = u64::try_from(stat.st_size).unwrap_or(0);
    let (mut length, mut pieces, mut last) = (0, 0, None);
    while let Some(frame) = piece(&index, pieces)? {
        // After the machine itself has failed there may be fewer bytes than heads.
        if length + u64::from(frame.length) > there {
            break;
        }
        length += u64::from(frame.length);
        (pieces, last) = (pieces + 1, Some(frame));
    }
    rustix::fs::ftruncate(&index, place_of(pieces))?;
    if there > length {
        // Spliced, and not written down.
        let rest = u32::try_from(there - length).unwrap_or(u32::MAX);
        let time =
            (stat.st_mtime as u64).saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as u64);
        let source = last.unwrap_or(Frame { time, length: 0, pid: 0, stream: LogStream::Stdout });
        let number = if last.is_some_and(|last| last.length == 0) { pieces - 1 } else { pieces };
        let frame = Frame { time, length: rest, ..source };
        put(&index, &frame.to_bytes(), place_of(number))?;
        (length, pieces, last) = (length + u64::from(rest), number + 1, Some(frame));
    }
    Ok(Some((bounds, data, index, length, pieces, last)))
}

fn put(file: &OwnedFd, bytes: &[u8], at: u64) -> std::result::Result<(), Errno> {
    // A part of so little is not written without the rest unless the disk is full.
    match rustix::io::pwrite(file, bytes, at)? {
        written if written == bytes.len() => Ok(()),
        _ => Err(Errno::NOSPC),
    }
}

/// The index first: whoever finds none looks for no bytes.
fn remove(dir: BorrowedFd<'_>, number: u64) {
    let (data, index) = names(number);
    for name in [index, data] {
        // What stays is removed with the subcontainer.
        let _stays = rustix::fs::unlinkat(dir, &name, AtFlags::empty());
    }
}
