//! What remembers how containers end while no daemon runs: a process that keeps handles, and a file for our init.
//!
//! ```text
//! <v2 root>/start-container/keeper-<device>-<inode>/   of the data directory; in it one process, which is found by this
//! ```
//! The kernel tells how a process ended by a handle from before its end (Linux 6.15). A daemon that is killed loses its
//! handles; so one small process has copies, and the next daemon fetches them. It is one for all containers, sleeps, and
//! costs a few pages. It has the reading ends of kept streams open as well: what is in a FIFO goes with the last who has it
//! open. On older kernels that is all, and only our init, which writes its exit code into a file that it has mapped, tells
//! of ends: `docs/decisions/0016-ends-while-no-daemon-runs.md`. One that is killed is followed by another.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::io::{IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use linux::kernel::Features;
use linux::pidfd::ExitStatus;
use linux::spawn::{Op, Program, Script};
use linux::step::{Step, during};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::cgroup::{Group, Hierarchy};
use super::guard::Init;
use super::{dev_null, lock};
use crate::error::{Failure, Result};

/// The lowest number that a handle is kept as; what is below is the keeper's own.
const FIRST: u32 = 64;

/// What it is told beside that: see `init/src/keeper.rs`.
const STAY: u32 = 0;
const LEAVE: u32 = 1;

/// How long a command line waits for its end when it has nothing more to keep.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Milliseconds that it has to read what it is told.
const PATIENCE: usize = 100;

/// Where a handle is, as it is written down.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kept {
    /// Its number there.
    slot: u32,
    /// Of the handle, which is the process's alone until the next boot: numbers are used again.
    inode: u64,
}

/// A running keeper, as the daemon has it.
#[derive(Debug)]
pub(crate) struct Keeper {
    data_dir: PathBuf,
    group: Group,
    /// Another one, when it was killed. None once the daemon ends.
    process: Mutex<Option<Running>>,
    /// What it has, by number: the next one gets the same by the same numbers, which are written down.
    slots: Mutex<BTreeMap<u32, Held>>,
    /// What an earlier daemon has given it, by inode, until it is known what of that is still wanted.
    found: Mutex<HashMap<(u64, u64), u32>>,
}

#[derive(Debug)]
struct Running {
    pidfd: Arc<OwnedFd>,
    pid: i32,
    socket: OwnedFd,
}

#[derive(Debug)]
struct Held {
    handle: Arc<OwnedFd>,
    of: Of,
}

/// What a handle is of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Of {
    /// A leader, by its id.
    Leader(i32),
    /// A stream that is kept, of this subcontainer.
    Stream(String),
}

impl Keeper {
    /// The one that an earlier daemon of this data directory left, or a new one.
    pub(crate) fn open(hierarchy: &Hierarchy, init: &Init, data_dir: &Path) -> Result<Self> {
        let group = hierarchy.create(&name(data_dir)?)?;
        let data_dir = data_dir.to_owned();
        let slots = Mutex::default();
        if let Some((pidfd, pid)) = running(&group) {
            let fail = |errno| Failure::kernel("start keeper", data_dir.display(), errno);
            match get(&pidfd, 4) {
                Ok(socket) => {
                    say(&socket, STAY, None).map_err(fail)?;
                    let found = Mutex::new(open_in(pid).collect());
                    let process = Mutex::new(Some(Running { pidfd: Arc::new(pidfd), pid, socket }));
                    return Ok(Self { data_dir, group, process, slots, found });
                }
                // It was killed before it was whole.
                Err(_) => group.kill().map_err(fail)?,
            }
        }
        let process = Mutex::new(Some(start(&group, init, &data_dir)?));
        Ok(Self { data_dir, group, process, slots, found: Mutex::default() })
    }

    /// Becomes readable at its end. None once the daemon ends.
    pub(crate) fn handle(&self) -> Option<Arc<OwnedFd>> {
        lock(&self.process).as_ref().map(|process| Arc::clone(&process.pidfd))
    }

    /// Another one in the place of one that was killed: it gets all that this daemon still has.
    pub(crate) fn start_again(&self, init: &Init) -> Result<()> {
        let mut process = lock(&self.process);
        let Some(process) = process.as_mut() else { return Ok(()) };
        // It may be an earlier daemon's child.
        let _not_ours = linux::pidfd::try_wait(&process.pidfd);
        *process = start(&self.group, init, &self.data_dir)?;
        for (slot, held) in lock(&self.slots).iter() {
            say(&process.socket, *slot, Some(held.handle.as_fd()))
                .map_err(|errno| Failure::kernel("tell keeper of", self.data_dir.display(), errno))?;
        }
        Ok(())
    }

    /// Keeps a handle of the process. None when it cannot, or the kernel tells nothing by it: then nobody knows its end,
    /// should this daemon be killed before.
    pub(crate) fn keep(&self, pidfd: &Arc<OwnedFd>, pid: i32) -> Option<Kept> {
        if !Features::get().pidfd_exit_info {
            return None;
        }
        let inode = rustix::fs::fstat(pidfd).ok()?.st_ino;
        Some(Kept { slot: self.give(pidfd, Of::Leader(pid))?, inode })
    }

    /// Keeps a FIFO open for reading: what is in it stays there when its process ends and no daemon runs. False when it
    /// cannot.
    pub(crate) fn hold(&self, end: &Arc<OwnedFd>, guid: &str) -> bool {
        let of = Of::Stream(guid.to_owned());
        let stat = rustix::fs::fstat(end).ok();
        let known = stat.and_then(|stat| lock(&self.found).remove(&(stat.st_dev, stat.st_ino)));
        match known {
            Some(slot) => {
                lock(&self.slots).insert(slot, Held { handle: Arc::clone(end), of });
                true
            }
            None => self.give(end, of).is_some(),
        }
    }

    fn give(&self, handle: &Arc<OwnedFd>, of: Of) -> Option<u32> {
        let slot = {
            let (found, mut slots) = (lock(&self.found), lock(&self.slots));
            let taken = |slot: &u32| slots.contains_key(slot) || found.values().any(|other| other == slot);
            let slot = (FIRST..).find(|slot| !taken(slot))?;
            slots.insert(slot, Held { handle: Arc::clone(handle), of });
            slot
        };
        let told = during(Step::KeepHandle, || self.tell(slot, handle));
        match told {
            // One that was killed is followed by another, which is told of all.
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET | Errno::CONNREFUSED) => Some(slot),
            Err(_) => {
                lock(&self.slots).remove(&slot);
                None
            }
        }
    }

    /// An earlier daemon's, of a process that still runs. A keeper that was killed with that daemon has had no successor that
    /// was told of it: this one is, by the same number.
    pub(crate) fn adopt(&self, kept: Kept, pidfd: &Arc<OwnedFd>, pid: i32) {
        let known =
            lock(&self.found).iter().any(|((_, inode), slot)| (*inode, *slot) == (kept.inode, kept.slot));
        lock(&self.slots).insert(kept.slot, Held { handle: Arc::clone(pidfd), of: Of::Leader(pid) });
        if !known {
            // Nobody will know its end, should this daemon be killed before: as where no keeper is.
            let _untold = self.tell(kept.slot, pidfd);
        }
    }

    fn tell(&self, slot: u32, handle: &Arc<OwnedFd>) -> std::result::Result<(), Errno> {
        let process = lock(&self.process);
        let process = process.as_ref().ok_or(Errno::PIPE)?;
        say(&process.socket, slot, Some(handle.as_fd()))
    }

    /// Nobody will ask for these any more.
    pub(crate) fn let_go(&self, of: &Of) {
        self.close_those(|held| held.of == *of);
    }

    /// As [`Keeper::let_go`], for one stream.
    pub(crate) fn let_go_of(&self, end: &Arc<OwnedFd>) {
        self.close_those(|held| Arc::ptr_eq(&held.handle, end));
    }

    fn close_those(&self, which: impl Fn(&Held) -> bool) {
        let process = lock(&self.process);
        lock(&self.slots).retain(|slot, held| {
            if which(held)
                && let Some(process) = process.as_ref()
            {
                // A number that stays open there is found by the next daemon.
                let _full = say(&process.socket, *slot, None);
            }
            !which(held)
        });
    }

    /// Lets go of what an earlier daemon's containers, those that are there no more, have left.
    pub(crate) fn let_others_go(&self) {
        lock(&self.found).clear();
        let process = lock(&self.process);
        let Some(process) = process.as_ref() else { return };
        let slots = lock(&self.slots);
        for (_, slot) in open_in(process.pid).filter(|(_, slot)| !slots.contains_key(slot)) {
            let _full = say(&process.socket, slot, None);
        }
    }

    /// The daemon ends in order. While containers of its run on, whose ends the next one wants to know, this stays; it goes
    /// with the last of them that is destroyed.
    pub(crate) fn close(&self) -> Result<()> {
        // No other one follows it from now on.
        let Some(process) = lock(&self.process).take() else { return Ok(()) };
        // One that cannot be told has been killed, or stopped.
        let _gone = during(Step::EndKeeper, || say(&process.socket, LEAVE, None));
        if !lock(&self.slots).is_empty() {
            return Ok(());
        }
        if !linux::pidfd::ends_within(&process.pidfd, Duration::from_secs(1)) {
            let _gone = self.group.kill();
        }
        // It may be an earlier daemon's child.
        let _not_ours = linux::pidfd::try_wait(&process.pidfd);
        self.group.clone().destroy()
    }
}

/// Starts one in the group, which is empty.
fn start(group: &Group, init: &Init, data_dir: &Path) -> Result<Running> {
    let fail = |errno| Failure::kernel("start keeper", data_dir.display(), errno);
    let (ours, its) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(fail)?;
    let null = dev_null()?;
    let ours = Arc::new(ours);
    let text = |text: &str| CString::new(text).unwrap_or_default();
    let argv = ["start-container-keeper", "kept", "for", &data_dir.to_string_lossy()].map(text).into();
    let stdio = [(); 3].map(|()| Arc::clone(&null));
    let script = Script {
        cgroup: Some(group.handle()),
        keep: vec![Arc::new(its), Arc::clone(&ours)],
        closed_ops: vec![Op::Session { controlling_terminal: false }],
        ..Script::of(Program::File(init.get()?), argv, stdio)
    };
    let started =
        during(Step::StartKeeper, || linux::spawn::spawn(&script)).map_err(super::process::failure)?;
    drop(script);
    let socket = match Arc::try_unwrap(ours) {
        Ok(socket) => socket,
        Err(shared) => shared.try_clone().map_err(|error| {
            Failure::new(protocol::ErrorKind::Exhausted, "start keeper", data_dir.display()).because(error)
        })?,
    };
    let pid = started.pid.as_raw_nonzero().get();
    Ok(Running { pidfd: Arc::new(started.pidfd), pid, socket })
}

/// What a keeper has, by inode, with its numbers.
fn open_in(pid: i32) -> impl Iterator<Item = ((u64, u64), u32)> {
    let dir = format!("/proc/{pid}/fd");
    let open = std::fs::read_dir(&dir).into_iter().flatten().flatten();
    open.filter_map(move |entry| {
        let slot = entry.file_name().to_str()?.parse::<u32>().ok().filter(|slot| *slot >= FIRST)?;
        let stat = rustix::fs::stat(entry.path()).ok()?;
        Some(((stat.st_dev, stat.st_ino), slot))
    })
}

fn say(socket: &OwnedFd, word: u32, handle: Option<BorrowedFd<'_>>) -> std::result::Result<(), Errno> {
    let word = u64::from(word).to_ne_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let handles = handle.map(|handle| [handle]);
    if let Some(handles) = &handles {
        control.push(SendAncillaryMessage::ScmRights(handles));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    for _ in 0..PATIENCE {
        match rustix::net::sendmsg(socket, &[IoSlice::new(&word)], &mut control, flags) {
            // Many at once are more than there is room for. It reads at once, unless somebody has stopped it.
            Err(Errno::AGAIN) => std::thread::sleep(Duration::from_millis(1)),
            other => return other.map(drop),
        }
    }
    Err(Errno::AGAIN)
}

/// For a command line: nobody will ask for the end of this process any more, nor for what is in these FIFOs. Takes the
/// keeper's group away if that was the last, and no daemon is there.
pub(crate) fn let_go(hierarchy: &Hierarchy, data_dir: &Path, kept: Option<Kept>, fifos: &[(u64, u64)]) {
    if kept.is_none() && fifos.is_empty() {
        return;
    }
    let Some((pidfd, pid, group)) = find(hierarchy, data_dir) else { return };
    let Ok(socket) = get(&pidfd, 4) else { return };
    let unwanted = |(inode, slot): &((u64, u64), u32)| {
        fifos.contains(inode) || kept.is_some_and(|kept| kept.slot == *slot)
    };
    // It is told, and does it in a moment.
    let (unwanted, wanted): (Vec<_>, Vec<_>) = open_in(pid).partition(unwanted);
    for (_, slot) in unwanted {
        let _full = say(&socket, slot, None);
    }
    // It ends with the last, unless there is a daemon.
    let daemon = || UnixStream::connect(data_dir.join("rpc/host.sock")).is_ok();
    let patience = if !wanted.is_empty() || daemon() { Duration::ZERO } else { LAST_WORDS };
    if linux::pidfd::ends_within(&pidfd, patience) {
        let _not_yet = group.destroy();
    }
}

/// How a process ended of which an earlier daemon has written down where its handle is kept. Also for a command line.
pub(crate) fn kept_end(hierarchy: &Hierarchy, data_dir: &Path, kept: Kept, pid: i32) -> Option<ExitStatus> {
    let (keeper, ..) = find(hierarchy, data_dir)?;
    let handle = get(&keeper, kept.slot).ok()?;
    if rustix::fs::fstat(&handle).ok()?.st_ino != kept.inode {
        return None;
    }
    linux::pidfd::foreign_end(&handle, Pid::from_raw(pid)?)
}

/// The keeper of a data directory, if one runs.
fn find(hierarchy: &Hierarchy, data_dir: &Path) -> Option<(OwnedFd, i32, Group)> {
    let group = hierarchy.existing(&[&name(data_dir).ok()?]).ok()??;
    running(&group).map(|(pidfd, pid)| (pidfd, pid, group))
}

/// A copy of a descriptor of the keeper's: `pidfd_getfd(2)`, Linux 5.6.
fn get(keeper: &OwnedFd, number: u32) -> std::result::Result<OwnedFd, Errno> {
    let number = i32::try_from(number).unwrap_or(-1);
    rustix::process::pidfd_getfd(keeper, number, rustix::process::PidfdGetfdFlags::empty())
}

/// The process in a group that holds one at most.
fn running(group: &Group) -> Option<(OwnedFd, i32)> {
    let [pid] = group.processes().ok()?[..] else { return None };
    let pidfd = linux::pidfd::open(Pid::from_raw(pid)?).ok()?;
    // Still there after it was opened, it is that one.
    (group.processes().ok()? == [pid] && !linux::pidfd::ends_within(&pidfd, std::time::Duration::ZERO))
        .then_some((pidfd, pid))
}

fn name(data_dir: &Path) -> Result<String> {
    let stat =
        rustix::fs::stat(data_dir).map_err(|errno| Failure::kernel("look at", data_dir.display(), errno))?;
    Ok(format!("keeper-{:x}-{:x}", stat.st_dev, stat.st_ino))
}

/// What our init leaves in its file: see `init/src/main.rs`.
const ENDED: u32 = 0x656e_6400;

/// Reads the exit code that our init has left, if it has. Whoever was root in its container can have written there: what is
/// no code is none, and what is one is about that container only.
pub(crate) fn read_record(file: OwnedFd) -> Option<ExitStatus> {
    let mut word = [0; 4];
    std::fs::File::from(file).read_exact(&mut word).ok()?;
    let word = u32::from_ne_bytes(word);
    (word & !0xff == ENDED).then_some(ExitStatus::Exited((word & 0xff) as u8))
}
