//! What a process writes, on its way to one of our standard streams.
//!
//! Never waits: what cannot be passed on now is kept, or left where it is, and nothing more is read. Our own standard
//! streams may be shared with others, so they are never made non-blocking: every call says so for itself, or carries no
//! more than the kernel has said that there is room for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::pipe::SpliceFlags;

use super::kept::Kept;

/// Most bytes that are moved at once, where they are not copied.
const MOVED: usize = 1 << 20;

/// Between a process and one of our standard streams.
pub(super) struct Output<'a> {
    from: Option<Arc<OwnedFd>>,
    to: BorrowedFd<'a>,
    way: Way,
    /// There was something, and no room for it.
    full: bool,
    /// How many bytes were moved without being copied; nothing any more, when our pipe has been made larger.
    moved: Option<usize>,
    kept: Kept,
    /// What is to be passed on yet, when that is known: the process has ended.
    left: Option<usize>,
    /// Why what it wrote did not get where it should have.
    pub(super) lost: Option<Errno>,
}

/// How bytes get into our stream.
#[derive(Clone, Copy)]
enum Way {
    /// From pipe to pipe, or to a file: by reference.
    Splice,
    /// Into a socket: as much as it takes.
    Send,
    /// Into anything else: this much at a time.
    Write(usize),
}

fn file_type(fd: impl AsFd) -> Option<FileType> {
    rustix::fs::fstat(fd).ok().map(|stat| FileType::from_raw_mode(stat.st_mode))
}

impl Way {
    /// A pipe or terminal that says that it has room has it for this much, mostly.
    const LITTLE: Self = Self::Write(4096);
    /// A file has room.
    const MUCH: Self = Self::Write(64 * 1024);

    fn between(from: &OwnedFd, to: BorrowedFd<'_>) -> Self {
        match (file_type(from), file_type(to)) {
            (Some(FileType::Fifo), Some(FileType::Fifo | FileType::RegularFile)) => Self::Splice,
            (_, Some(FileType::Socket)) => Self::Send,
            (_, Some(FileType::RegularFile | FileType::BlockDevice)) => Self::MUCH,
            _ => Self::LITTLE,
        }
    }

    fn size(self) -> usize {
        match self {
            Self::Write(size) => size,
            Self::Splice | Self::Send => 64 * 1024,
        }
    }
}

impl<'a> Output<'a> {
    pub(super) fn new(from: Option<Arc<OwnedFd>>, to: BorrowedFd<'a>) -> Self {
        let way = from.as_ref().map_or(Way::LITTLE, |from| Way::between(from, to));
        Self { from, to, way, full: false, moved: Some(0), kept: Kept::default(), left: None, lost: None }
    }

    pub(super) fn is_over(&self) -> bool {
        self.from.is_none() && self.kept.is_empty()
    }

    /// It has something that nobody takes now.
    pub(super) fn is_held_up(&self) -> bool {
        self.full || !self.kept.is_empty()
    }

    /// Adds the two things that it waits for, unless it is over.
    pub(super) fn wait<'fd>(&'fd self, fds: &mut Vec<PollFd<'fd>>) {
        if let Some(from) = self.from.as_ref().filter(|_| !self.is_held_up()) {
            // Of an end of our own stream it is told without asking: then nobody reads any more.
            fds.extend([PollFd::new(from, PollFlags::IN), PollFd::new(&self.to, PollFlags::empty())]);
        } else if !self.is_over() {
            fds.push(PollFd::new(&self.to, PollFlags::OUT));
        }
    }

    /// Goes on with what [`Output::wait`] waited for, in the same order.
    pub(super) fn go_on(&mut self, ready: &[PollFlags]) {
        const GONE: PollFlags = PollFlags::ERR.union(PollFlags::HUP).union(PollFlags::NVAL);
        match ready {
            [.., to] if to.intersects(GONE) => self.end(Errno::PIPE),
            [from, _] if !from.is_empty() => self.take(),
            [to] if to.contains(PollFlags::OUT) => {
                // Others may have read meanwhile what there was no room for: it is waited for anew.
                self.full = false;
                self.put();
            }
            _ => {}
        }
        if self.left == Some(0) {
            self.from = None;
        }
    }

    /// The process has ended: what it has written is still passed on, and nothing that others inside write later.
    pub(super) fn process_ended(&mut self) {
        let Some(from) = &self.from else { return };
        self.left = match file_type(from) {
            Some(FileType::Fifo) => {
                rustix::io::ioctl_fionread(from).ok().and_then(|left| usize::try_from(left).ok())
            }
            // A terminal does not say how much there is, and never holds more (TTYB_DEFAULT_MEM_LIMIT, 640 KiB).
            Some(FileType::CharacterDevice) => Some(MOVED),
            // The host ends it.
            _ => None,
        };
        if self.left == Some(0) {
            (self.from, self.full) = (None, false);
        }
    }

    fn take(&mut self) {
        let Some(from) = &self.from else { return };
        let most = self.left.unwrap_or(MOVED);
        let taken = match self.way {
            Way::Splice => {
                let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
                match rustix::pipe::splice(from, None, self.to, None, most.min(MOVED), flags) {
                    Ok(taken) => {
                        self.moved = self.moved.map(|moved| moved.saturating_add(taken));
                        taken
                    }
                    Err(Errno::AGAIN) => {
                        self.full = !self.make_room();
                        return;
                    }
                    Err(Errno::INTR) => return,
                    // A file that is appended to, or of a file system that copies; or a filter around us.
                    Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                        self.way = match file_type(self.to) {
                            Some(FileType::RegularFile) => Way::MUCH,
                            _ => Way::LITTLE,
                        };
                        return;
                    }
                    Err(errno) => return self.end(errno),
                }
            }
            way => match self.kept.fill(way.size().min(most), |bytes| rustix::io::read(from, bytes)) {
                Some(taken) => taken,
                None => return,
            },
        };
        if taken == 0 {
            self.from = None;
        }
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(taken);
        }
        // Most of the time there is room.
        if matches!(self.way, Way::Send | Way::Write(5000..)) {
            self.put();
        }
    }

    /// A pipe through which much goes is made as large as ours, once: three take turns at two pipes, and at small ones
    /// they do little else. The kernel may say no.
    fn make_room(&mut self) -> bool {
        if self.moved.is_none_or(|moved| moved < MOVED) {
            return false;
        }
        self.moved = None;
        let small = rustix::pipe::fcntl_getpipe_size(self.to).is_ok_and(|size| size < MOVED);
        small && rustix::pipe::fcntl_setpipe_size(self.to, MOVED).is_ok()
    }

    fn put(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        let to = self.to;
        let put = match self.way {
            Way::Send => self
                .kept
                .empty(|bytes| rustix::net::send(to, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)),
            _ => self.kept.empty(|bytes| rustix::io::write(to, bytes)),
        };
        if let Err(errno) = put {
            self.end(errno);
        }
    }

    /// Nobody takes it any more: whoever writes inside hears of that, too.
    fn end(&mut self, why: Errno) {
        (self.from, self.kept, self.full) = (None, Kept::default(), false);
        if !matches!(why, Errno::PIPE | Errno::CONNRESET) {
            self.lost = Some(why);
        }
    }
}
