//! Those who read a log: any number, while it is written, also when no host runs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use protocol::logs::{Frame, LogStream, LogsParams};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{HEAD, ROOM, names, numbers, open_in, piece, read_at};
use crate::error::{Failure, Result};

/// The most that one read gives.
const MOST_AT_ONCE: u64 = 64 * 1024;

/// What of a log is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Select {
    /// Nanoseconds since the Unix epoch.
    since: Option<u64>,
    until: Option<u64>,
    tail: Option<u64>,
    stream: Option<LogStream>,
}

impl Select {
    pub(crate) fn of(p: &LogsParams) -> Self {
        let nanoseconds = |time: u64| time.saturating_mul(1_000_000);
        Self {
            since: p.since.map(nanoseconds),
            until: p.until.map(nanoseconds),
            tail: p.tail,
            stream: p.stream,
        }
    }

    fn wants(&self, frame: &Frame) -> bool {
        self.stream.is_none_or(|stream| stream == frame.stream)
            && self.since.is_none_or(|since| frame.time >= since)
            && self.until.is_none_or(|until| frame.time < until)
    }
}

/// A place in a log, as it can be written down.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Place {
    file: u64,
    piece: u64,
    read: u64,
}

/// A place in a log, from which it is read on.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    dir: Option<OwnedFd>,
    select: Select,
    file: Option<File>,
    /// Nothing from this piece of this file on. None: on and on.
    end: Option<(u64, u64)>,
}

/// One of its files, and how far it was read.
#[derive(Debug)]
struct File {
    number: u64,
    data: OwnedFd,
    index: OwnedFd,
    /// The piece that is read, how many bytes of it were, and where in the file it begins.
    piece: u64,
    read: u64,
    begins: u64,
}

impl Reader {
    /// Opens what is kept of a subcontainer. That may be nothing, for now.
    ///
    /// `follow`: else it ends where the log ends now, however fast somebody writes.
    pub(crate) fn open(data_dir: &Path, guid: &str, select: Select, follow: bool) -> Result<Self> {
        let path = data_dir.join(ROOM).join(guid);
        let mut reader = Self { path, dir: None, select, file: None, end: None };
        if !follow {
            reader.end = Some(reader.now().map_err(|errno| reader.fail(errno))?);
        }
        if let Some(lines) = select.tail {
            reader.file = reader.last_lines(lines).map_err(|errno| reader.fail(errno))?;
        }
        Ok(reader)
    }

    /// Fills the buffer with what comes next, and says what that is. None when there is no more now.
    pub(crate) fn next(&mut self, buffer: &mut Vec<u8>) -> Result<Option<Frame>> {
        self.read_on(buffer).map_err(|errno| self.fail(errno))
    }

    /// Where it goes on: a number of a file, of a piece in that, and of a byte in this.
    pub(crate) fn place(&self) -> Option<Place> {
        self.file.as_ref().map(|file| Place { file: file.number, piece: file.piece, read: file.read })
    }

    /// A reader that goes on where another one was. What is gone since is passed over.
    pub(crate) fn open_at(data_dir: &Path, guid: &str, place: Place) -> Result<Self> {
        let mut reader = Self::open(data_dir, guid, Select::default(), true)?;
        reader.file = reader.at(place).map_err(|errno| reader.fail(errno))?;
        Ok(reader)
    }

    fn at(&mut self, place: Place) -> std::result::Result<Option<File>, Errno> {
        let Some(dir) = self.dir()? else { return Ok(None) };
        let Some(mut file) = open(dir, place.file)? else {
            return self.after(Some(place.file));
        };
        while file.piece < place.piece {
            let Some(frame) = piece(&file.index, file.piece)? else { break };
            (file.piece, file.begins) = (file.piece + 1, file.begins + u64::from(frame.length));
        }
        if file.piece == place.piece {
            file.read = place.read;
        }
        Ok(Some(file))
    }

    /// Where the log ends now.
    pub(crate) fn end_of(data_dir: &Path, guid: &str) -> Result<Place> {
        let mut reader = Self::open(data_dir, guid, Select { tail: Some(0), ..Select::default() }, true)?;
        let mut nothing = Vec::new();
        while reader.next(&mut nothing)?.is_some() {}
        Ok(reader.place().unwrap_or_default())
    }

    fn fail(&self, errno: Errno) -> Failure {
        Failure::kernel("read", self.path.display(), errno)
    }

    fn read_on(&mut self, buffer: &mut Vec<u8>) -> std::result::Result<Option<Frame>, Errno> {
        loop {
            let Some(file) = &mut self.file else {
                let Some(first) = self.after(None)? else { return Ok(None) };
                self.file = Some(first);
                continue;
            };
            if self.end.is_some_and(|end| (file.number, file.piece) >= end) {
                return Ok(None);
            }
            let frame = piece(&file.index, file.piece)?;
            if let Some(frame) = frame.filter(|frame| u64::from(frame.length) > file.read) {
                if !self.select.wants(&frame) {
                    file.read = frame.length.into();
                    continue;
                }
                let length = (u64::from(frame.length) - file.read).min(MOST_AT_ONCE);
                buffer.resize(length as usize, 0);
                let read = read_at(&file.data, buffer, file.begins + file.read)?;
                buffer.truncate(read);
                if read == 0 {
                    // After the machine itself has failed: heads without bytes.
                    file.read = frame.length.into();
                    continue;
                }
                file.read += read as u64;
                return Ok(Some(Frame { length: read as u32, ..frame }));
            }
            if piece(&file.index, file.piece + 1)?.is_some() {
                // The one before does not grow any more: what it has by now is looked at once more.
                let whole = piece(&file.index, file.piece)?.map_or(0, |frame| u64::from(frame.length));
                if whole > file.read {
                    continue;
                }
                (file.piece, file.begins, file.read) = (file.piece + 1, file.begins + file.read, 0);
                continue;
            }
            let number = file.number;
            let Some(next) = self.after(Some(number))? else { return Ok(None) };
            // It was written to before the next one was made, and maybe since we looked.
            if let Some(file) = &self.file {
                let grown =
                    piece(&file.index, file.piece)?.is_some_and(|it| u64::from(it.length) > file.read);
                if grown || piece(&file.index, file.piece + 1)?.is_some() {
                    continue;
                }
            }
            self.file = Some(next);
        }
    }

    fn dir(&mut self) -> std::result::Result<Option<&OwnedFd>, Errno> {
        if self.dir.is_none() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            self.dir = match rustix::fs::open(&self.path, flags, Mode::empty()) {
                Ok(dir) => Some(dir),
                Err(Errno::NOENT) => None,
                Err(errno) => return Err(errno),
            };
        }
        Ok(self.dir.as_ref())
    }

    /// Where it ends now.
    fn now(&mut self) -> std::result::Result<(u64, u64), Errno> {
        let Some(dir) = self.dir()? else { return Ok((0, 0)) };
        let Some(last) = numbers(dir.as_fd())?.pop() else { return Ok((0, 0)) };
        let length = match open(dir, last)? {
            Some(file) => u64::try_from(rustix::fs::fstat(&file.index)?.st_size).unwrap_or(0),
            None => 0,
        };
        Ok((last, length.saturating_sub(HEAD as u64) / Frame::SIZE as u64))
    }

    /// The first file after a number, or of all.
    fn after(&mut self, number: Option<u64>) -> std::result::Result<Option<File>, Errno> {
        let Some(dir) = self.dir()? else { return Ok(None) };
        for next in
            numbers(dir.as_fd())?.into_iter().filter(|next| number.is_none_or(|number| *next > number))
        {
            // It may have gone since.
            if let Some(file) = open(dir, next)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// The place from which there are this many lines. None: the beginning.
    fn last_lines(&mut self, lines: u64) -> std::result::Result<Option<File>, Errno> {
        let select = self.select;
        let Some(dir) = self.dir()? else { return Ok(None) };
        // What ends the last line begins none.
        let (mut found, mut at_end) = (0, true);
        let mut buffer = vec![0; MOST_AT_ONCE as usize];
        for number in numbers(dir.as_fd())?.into_iter().rev() {
            let Some(mut file) = open(dir, number)? else { continue };
            let mut pieces = Vec::new();
            while let Some(frame) = piece(&file.index, pieces.len() as u64)? {
                pieces.push(frame);
            }
            let mut end: u64 = pieces.iter().map(|frame| u64::from(frame.length)).sum();
            if lines == 0 {
                // A last piece without bytes is the one that gets the next ones.
                let open = pieces.last().is_some_and(|last| last.length == 0);
                (file.piece, file.begins) = (pieces.len() as u64 - u64::from(open), end);
                return Ok(Some(file));
            }
            for (index, frame) in pieces.iter().enumerate().rev() {
                let length = u64::from(frame.length);
                let begins = end - length;
                let mut rest = if select.wants(frame) { length } else { 0 };
                while rest > 0 {
                    let part = rest.min(MOST_AT_ONCE);
                    let from = rest - part;
                    let read = read_at(&file.data, &mut buffer[..part as usize], begins + from)?;
                    for at in (0..read).rev() {
                        if buffer[at] == b'\n' && !at_end {
                            found += 1;
                            if found == lines {
                                (file.piece, file.begins, file.read) =
                                    (index as u64, begins, from + at as u64 + 1);
                                return Ok(Some(file));
                            }
                        }
                        at_end = false;
                    }
                    rest = from;
                }
                end = begins;
            }
        }
        Ok(None)
    }
}

fn open(dir: &OwnedFd, number: u64) -> std::result::Result<Option<File>, Errno> {
    let (data, index) = names(number);
    let open = || Ok((open_in(dir, &data, OFlags::RDONLY)?, open_in(dir, &index, OFlags::RDONLY)?));
    match open() {
        Ok((data, index)) => Ok(Some(File { number, data, index, piece: 0, read: 0, begins: 0 })),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}
