//! The kernel's out-of-memory kills in a group.
//!
//! v2 writes them to `memory.events`, which is polled for priority events; v1 to `memory.oom_control` (`oom_kill`,
//! since 4.13), with an eventfd registered through `cgroup.event_control` to wake a waiter. Either way the counter is
//! what counts: a wake-up says that something happened, and in v1 comes before the kill and at removal too.
//! The v2 counter holds the groups beneath; that of v1 does not, and no group is beneath ours there.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, epoll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::controller::Version;
use crate::dir;
use crate::error::{Error, Result};
use crate::group::GroupPart;

/// A descriptor that is readable when there was an out-of-memory event. Wait on it with `poll(2)` for `POLLIN`, or
/// with an event loop; then call [`OomWatch::kills`], which makes it wait again.
#[derive(Debug)]
pub struct OomWatch {
    /// v1: the eventfd. v2: an epoll instance that holds the counter's file.
    wake: OwnedFd,
    /// The file with the counter.
    counter: OwnedFd,
    version: Version,
    group: String,
}

impl OomWatch {
    pub(crate) fn new(part: &GroupPart) -> Result<Self> {
        let counter = part.open_file(counter_file(part.version()), OFlags::RDONLY)?;
        let wake = match part.version() {
            Version::V1 => register(part, &counter),
            Version::V2 => poll_priority(&counter),
        };
        let wake = wake.map_err(|source| Error::Watch { group: part.label(), source })?;
        let watch = Self { wake, counter, version: part.version(), group: part.label() };
        // Before it is first read, the kernel counts the file as changed.
        watch.kills()?;
        Ok(watch)
    }

    /// How many processes were killed since the group was made; and from now on the descriptor is readable only
    /// after another event.
    ///
    /// # Errors
    /// [`Error::Read`]; ENODEV once the group is removed.
    pub fn kills(&self) -> Result<u64> {
        let file = counter_file(self.version);
        let fail = |source| Error::Read { file: file.to_owned(), group: self.group.clone(), source };
        if self.version == Version::V1 {
            match rustix::io::read(&self.wake, &mut [0; 8]) {
                // It was not signalled.
                Ok(_) | Err(Errno::AGAIN) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
        let text = dir::read_open(self.counter.as_fd()).map_err(fail)?;
        dir::field(&text, "oom_kill").ok_or_else(|| fail(Errno::OPNOTSUPP))
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// The counter of a group.
pub(crate) fn kills(part: &GroupPart) -> Result<u64> {
    let file = counter_file(part.version());
    let text = part.read(file)?;
    dir::field(&text, "oom_kill").ok_or_else(|| part.unreadable(file, Errno::OPNOTSUPP))
}

fn counter_file(version: Version) -> &'static str {
    match version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    }
}

/// `cgroup-v1/memory.rst`, "OOM Control": the number of an eventfd and that of the open file.
fn register(part: &GroupPart, counter: &OwnedFd) -> Result<OwnedFd, Errno> {
    let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let request = format!("{} {}", wake.as_raw_fd(), counter.as_raw_fd());
    dir::write(part.dir.as_fd(), "cgroup.event_control", &request)?;
    Ok(wake)
}

/// A change of a cgroup file is a priority event, which not every event loop can wait for. An epoll instance around
/// it is readable like anything else.
fn poll_priority(counter: &OwnedFd) -> Result<OwnedFd, Errno> {
    let instance = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&instance, counter, epoll::EventData::new_u64(0), epoll::EventFlags::PRI)?;
    Ok(instance)
}
