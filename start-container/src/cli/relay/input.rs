//! Our standard input, on its way to a process.
//!
//! The process shares no file with us, so what it does not read is to be read by whoever comes after it: by the rest of
//! a shell's loop, say. Hence nothing is taken before the process reads:
//!
//! ```text
//!   a file           given ahead; what was not read is given back by seeking, when the process has ended
//!   a pipe, socket   Look ──shown, not taken──▶ Shown ──it has read that, so it is taken──▶ Flow
//!   anything else    Flow
//! ```
//! In `Flow` a pipe's worth may be taken that the process never reads. It never gets hold of pages of our files: what
//! it is given is copied.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::pipe::{PipeFlags, SpliceFlags};

use super::kept::Kept;

/// What is shown at first: what fits into one page on any machine.
const SHOWN: usize = 4096;
const CHUNK: usize = 64 * 1024;

/// Our standard input, or nothing.
pub(super) struct Input<'a> {
    from: BorrowedFd<'a>,
    /// There is no more to read.
    at_end: bool,
    to: Option<Arc<OwnedFd>>,
    /// The other end of that, when the last byte of a file is in it: to see what of it is not read.
    rest: Option<OwnedFd>,
    source: Source,
    phase: Phase,
    to_terminal: bool,
    in_line: bool,
    kept: Kept,
    /// How many bytes the process was given.
    given: u64,
}

enum Source {
    File,
    /// With a pipe of our own, through which it is read without waiting and shown without taking.
    Pipe(OwnedFd, OwnedFd),
    Socket,
    Terminal,
    Other,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Look,
    /// So much is in the process's pipe and in ours.
    Shown(usize),
    Flow,
}

impl Source {
    fn of(fd: BorrowedFd<'_>) -> Self {
        let Ok(stat) = rustix::fs::fstat(fd) else { return Self::Other };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Self::File,
            FileType::Fifo => match rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) {
                Ok((read, write)) => Self::Pipe(read, write),
                Err(_) => Self::Other,
            },
            FileType::Socket => match rustix::net::sockopt::socket_type(fd) {
                Ok(rustix::net::SocketType::STREAM) => Self::Socket,
                _ => Self::Other,
            },
            _ if rustix::termios::isatty(fd) => Self::Terminal,
            _ => Self::Other,
        }
    }

    /// Reads without waiting; without taking, when it is only to `look`.
    fn read(&self, from: BorrowedFd<'_>, bytes: &mut [u8], look: bool) -> Result<usize, Errno> {
        match self {
            Self::Pipe(read, write) => {
                let (most, flags) = (bytes.len(), SpliceFlags::NONBLOCK);
                let there = if look {
                    rustix::pipe::tee(from, write, most, flags)?
                } else {
                    rustix::pipe::splice(from, None, write, None, most, flags)?
                };
                // A pipe of our own, which holds exactly this.
                let mut count = 0;
                while count < there {
                    count += rustix::io::read(read, &mut bytes[count..there])?;
                }
                Ok(count)
            }
            Self::Socket => {
                let flags = if look { RecvFlags::DONTWAIT | RecvFlags::PEEK } else { RecvFlags::DONTWAIT };
                rustix::net::recv(from, bytes, flags).map(|(count, _)| count)
            }
            Self::File | Self::Terminal | Self::Other => rustix::io::read(from, bytes),
        }
    }
}

impl<'a> Input<'a> {
    /// Nothing, without a place `to` give it. `to` does not wait.
    pub(super) fn new(from: BorrowedFd<'a>, to: Option<Arc<OwnedFd>>, to_terminal: bool) -> Self {
        let is_pipe = |to: &Arc<OwnedFd>| {
            rustix::fs::fstat(to).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
        };
        let source = match Source::of(from) {
            // What is not read can be told of a pipe alone.
            Source::File if !to.as_ref().is_some_and(is_pipe) => Source::Other,
            source => source,
        };
        let mut phase = Phase::Flow;
        if let (Some(to), Source::Pipe(..) | Source::Socket) = (to.as_ref().filter(|to| is_pipe(to)), &source)
        {
            // One page: then there is room again exactly when that has been read.
            if rustix::pipe::fcntl_setpipe_size(to, SHOWN).is_ok() {
                phase = Phase::Look;
            }
        }
        Self {
            from,
            at_end: false,
            to,
            rest: None,
            source,
            phase,
            to_terminal,
            in_line: false,
            kept: Kept::default(),
            given: 0,
        }
    }

    /// Whether it has to be asked again in a while, since nothing tells when it may go on.
    pub(super) fn is_in_background(&self) -> bool {
        self.to.is_some() && self.is_anothers_turn()
    }

    /// Adds the two things that it waits for, unless it is over.
    pub(super) fn wait<'fd>(&'fd self, fds: &mut Vec<PollFd<'fd>>) {
        let Some(to) = &self.to else { return };
        if !self.kept.is_empty() || matches!(self.phase, Phase::Shown(_)) {
            fds.push(PollFd::new(to, PollFlags::OUT));
        } else if self.is_anothers_turn() {
            fds.push(PollFd::new(to, PollFlags::empty()));
        } else {
            // That the process does not read any more is told without asking.
            fds.extend([PollFd::new(&self.from, PollFlags::IN), PollFd::new(to, PollFlags::empty())]);
        }
    }

    /// Goes on with what [`Input::wait`] waited for, in the same order.
    pub(super) fn go_on(&mut self, ready: &[PollFlags]) {
        match ready {
            [.., to] if to.contains(PollFlags::ERR) => self.settle(),
            [from, _] if !from.is_empty() => self.take(),
            [to] if to.contains(PollFlags::OUT) => match self.phase {
                Phase::Shown(count) => self.was_read(count),
                _ => self.put(),
            },
            _ => {}
        }
        if self.at_end && self.kept.is_empty() {
            self.to = None;
        }
    }

    fn take(&mut self) {
        let Some(to) = &self.to else { return };
        let look = self.phase == Phase::Look;
        let most = if look { SHOWN } else { CHUNK };
        let (source, from) = (&self.source, self.from);
        match self.kept.fill(most, |bytes| source.read(from, bytes, look)) {
            None => {}
            Some(0) => self.end(),
            Some(_) if look => {
                let mut shown = 0;
                let put = self.kept.empty(|bytes| {
                    shown = rustix::io::write(to, bytes)?;
                    Ok(shown)
                });
                self.kept = Kept::default();
                self.given = shown as u64;
                match put {
                    Ok(()) if shown > 0 => self.phase = Phase::Shown(shown),
                    // Somebody inside has filled its pipe.
                    Ok(()) => self.phase = Phase::Flow,
                    Err(_) => self.at_end = true,
                }
            }
            Some(_) => {
                self.in_line = self.kept.last().map_or(self.in_line, |last| last != b'\n');
                self.put();
            }
        }
    }

    fn put(&mut self) {
        let Some(to) = &self.to else { return };
        let before = self.kept.len();
        if self.kept.empty(|bytes| rustix::io::write(to, bytes)).is_err() {
            return self.settle();
        }
        self.given += (before - self.kept.len()) as u64;
    }

    /// It has read what it was shown.
    fn was_read(&mut self, count: usize) {
        if let Some(to) = &self.to {
            // A small one does as well.
            let _small = rustix::pipe::fcntl_setpipe_size(to, CHUNK);
        }
        self.phase = Phase::Flow;
        self.discard(count);
    }

    /// Takes what was only looked at.
    fn discard(&self, count: usize) {
        let mut bytes = [0; SHOWN];
        let mut left = count.min(SHOWN);
        while left > 0 {
            match self.source.read(self.from, &mut bytes[..left], false) {
                Ok(count @ 1..) => left -= count,
                Err(Errno::INTR) => {}
                // Somebody else has read it.
                _ => return,
            }
        }
    }

    /// There is no more.
    fn end(&mut self) {
        const END_OF_TRANSMISSION: u8 = 4;
        self.at_end = true;
        match (self.to_terminal, &self.source, &self.to) {
            // A terminal's end of file is Ctrl-D at the beginning of a line; within one it only passes on what is there.
            (true, ..) => self.kept = Kept::of(vec![END_OF_TRANSMISSION; if self.in_line { 2 } else { 1 }]),
            (false, Source::File, Some(to)) => {
                let path = format!("/proc/self/fd/{}", to.as_raw_fd());
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                // Without it nothing is given back.
                self.rest = rustix::fs::open(path, flags, Mode::empty()).ok();
            }
            _ => {}
        }
    }

    /// Nothing is read any more: what was not read stays ours.
    pub(super) fn settle(&mut self) {
        let pipe = self.rest.as_ref().map(AsFd::as_fd).or_else(|| self.to.as_ref().map(|to| to.as_fd()));
        // Those inside may have written into it themselves.
        let unread = pipe.map_or(0, |pipe| rustix::io::ioctl_fionread(pipe).unwrap_or(0).min(self.given));
        match (&self.source, self.phase) {
            (Source::Pipe(..) | Source::Socket, Phase::Shown(count)) => {
                self.discard(count - count.min(usize::try_from(unread).unwrap_or(count)));
            }
            (Source::File, _) => {
                let back = unread + self.kept.len() as u64;
                if back > 0 {
                    // It was read a moment ago, so that it can be sought in.
                    let _never = rustix::fs::seek(self.from, SeekFrom::Current(-back.cast_signed()));
                }
            }
            _ => {}
        }
        (self.to, self.rest, self.kept) = (None, None, Kept::default());
        (self.source, self.phase, self.at_end) = (Source::Other, Phase::Flow, true);
    }

    /// Whether this is our terminal, and another's turn to read it: we would be stopped, or told of an error.
    fn is_anothers_turn(&self) -> bool {
        matches!(self.source, Source::Terminal)
            && rustix::termios::tcgetpgrp(self.from).is_ok_and(|group| group != rustix::process::getpgrp())
    }
}
