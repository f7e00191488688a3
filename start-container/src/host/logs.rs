//! Streams that are kept: one thread takes them from their FIFOs to the files of [`crate::logs`], for all containers.
//!
//! ```text
//! FIFO ──▶ thread: each that has something gets one turn, then the next ──▶ DATA_DIR/logs/<guid>/
//!              │
//!              └─ tells readers that follow: there is more, or it is over
//! ```
//! Of what is on its way nothing is in memory. A thread of its own, since writing to a disk may take its time, and clients
//! should not wait for that. It starts with the first stream and waits without any time limit while nothing is written.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use protocol::ErrorKind;
use protocol::logs::{Frame, LogBounds, LogsParams};
use protocol::session::EventKind;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};

use super::state::{Host, blocking};
use crate::engine::{dev_null, lock};
use crate::error::{Failure, Result};
use crate::logs::fifo::{self, Fifo};
use crate::logs::{Reader, Select, Taken, Writer};

/// After a look at all streams that found less than this, the next one waits a moment: a process that writes byte by byte
/// does not wake us for each.
const LITTLE: usize = 16 * 1024;
const MOMENT: Duration = Duration::from_millis(1);

/// How long until a log is tried again that could not be written, for want of room on the disk for one.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a stream of it rests meanwhile, while there is room in its FIFO: nobody waits yet, and nothing is lost.
const REST: Duration = Duration::from_millis(50);

/// How often it is told what is lost.
const TOLD: Duration = Duration::from_secs(10);

/// The streams of all containers.
#[derive(Debug)]
pub(super) struct Logs {
    data_dir: PathBuf,
    thread: OnceLock<Thread>,
    live: Arc<Live>,
    bytes: Arc<AtomicU64>,
    /// Who tells what was lost.
    host: Weak<Host>,
}

/// What is kept just now, by guid.
type Live = Mutex<HashMap<String, Log>>;

/// The log of one subcontainer, while some stream is kept.
#[derive(Debug)]
struct Log {
    streams: usize,
    /// Changes whenever there is more. Its end is the end of all.
    grown: watch::Sender<()>,
}

#[derive(Debug)]
struct Thread {
    words: Sender<Word>,
    wake: Arc<OwnedFd>,
}

/// A word to the thread.
#[derive(Debug)]
enum Word {
    Keep {
        guid: String,
        fifo: Fifo,
        bounds: Option<LogBounds>,
    },
    /// Answered when everything is kept that was written before it was asked for.
    CatchUp {
        guid: String,
        done: oneshot::Sender<()>,
    },
}

impl Logs {
    pub(super) fn new(data_dir: PathBuf, host: Weak<Host>) -> Self {
        Self { data_dir, thread: OnceLock::new(), live: Arc::default(), bytes: Arc::default(), host }
    }

    /// How many bytes were kept so far.
    pub(super) fn kept_bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Keeps what is written to a FIFO from now on, and what is in it, until nobody has it open any more.
    ///
    /// Not before [`Logs::ready`].
    pub(super) fn keep(&self, guid: &str, fifo: Fifo, bounds: Option<LogBounds>) {
        let Some(thread) = self.thread.get() else { return };
        lock(&self.live)
            .entry(guid.to_owned())
            .or_insert_with(|| Log { streams: 0, grown: watch::channel(()).0 })
            .streams += 1;
        thread.tell(Word::Keep { guid: guid.to_owned(), fifo, bounds });
    }

    /// Tells when there is more. None when no stream of it is kept now.
    pub(super) fn follow(&self, guid: &str) -> Option<watch::Receiver<()>> {
        lock(&self.live).get(guid).map(|log| log.grown.subscribe())
    }

    /// Waits until everything is kept that was written by now.
    async fn catch_up(&self, guid: &str) {
        if !lock(&self.live).contains_key(guid) {
            return;
        }
        let Some(thread) = self.thread.get() else { return };
        let (done, told) = oneshot::channel();
        thread.tell(Word::CatchUp { guid: guid.to_owned(), done });
        // A thread that is gone has kept what it could.
        let _told = told.await;
    }

    /// Starts the thread, if that is still to be done.
    pub(super) fn ready(&self) -> Result<()> {
        if self.thread.get().is_some() {
            return Ok(());
        }
        let fail = |errno: Errno| Failure::kernel("begin to keep logs", "", errno);
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(fail)?;
        let wake = Arc::new(wake);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(fail)?;
        epoll::add(&epoll, &wake, EventData::new_u64(0), EventFlags::IN).map_err(fail)?;
        let (words, heard) = std::sync::mpsc::channel();
        // If two come at once, one is used and the other's thread ends with its sender.
        let keeper = Keeper {
            data_dir: self.data_dir.clone(),
            live: Arc::clone(&self.live),
            bytes: Arc::clone(&self.bytes),
            words: heard,
            wake: Arc::clone(&wake),
            epoll,
            streams: HashMap::new(),
            writers: HashMap::new(),
            resting: Vec::new(),
            trouble: HashMap::new(),
            host: Weak::clone(&self.host),
            null: dev_null()?,
            next: 1,
        };
        let started = std::thread::Builder::new().name("logs".into()).spawn(|| keeper.run());
        started
            .map_err(|error| Failure::new(ErrorKind::Exhausted, "begin to keep logs", "").because(error))?;
        self.thread.get_or_init(|| Thread { words, wake });
        Ok(())
    }
}

impl Thread {
    fn tell(&self, word: Word) {
        // A thread that is gone has panicked: nobody can be told.
        let _unheard = self.words.send(word);
        let _woken = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // The sender goes next; the thread looks, and ends.
        let _woken = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// The thread.
struct Keeper {
    data_dir: PathBuf,
    live: Arc<Live>,
    bytes: Arc<AtomicU64>,
    words: Receiver<Word>,
    wake: Arc<OwnedFd>,
    epoll: OwnedFd,
    streams: HashMap<u64, Stream>,
    writers: HashMap<String, Writer>,
    /// Streams that are not looked at until then.
    resting: Vec<(Instant, u64)>,
    trouble: HashMap<String, Trouble>,
    host: Weak<Host>,
    null: Arc<OwnedFd>,
    next: u64,
}

struct Stream {
    guid: String,
    fifo: Fifo,
    bounds: Option<LogBounds>,
    /// It was faster than its log can wait: what it writes is dropped, until the log is tried again.
    dropping: bool,
}

/// A log that cannot be written. Its processes are not kept waiting: what does not fit into their FIFOs is dropped.
struct Trouble {
    why: String,
    again: Instant,
    lost: u64,
    told: Option<Instant>,
}

/// How a turn of a stream ended.
enum Turn {
    Took(usize),
    Over,
    Rest,
}

impl Keeper {
    fn run(mut self) {
        let mut events = Vec::with_capacity(256);
        loop {
            let wait =
                self.resting.iter().map(|(until, _)| until.saturating_duration_since(Instant::now())).min();
            let wait = wait.map(|wait| Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: wait.subsec_nanos().into(),
            });
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), wait.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return tracing::error!("logs: wait: {errno}"),
            }
            self.wake_rested();
            let mut took = 0;
            let mut words = false;
            for event in &events {
                match event.data.u64() {
                    0 => words = true,
                    key => took += self.turn(key, event.flags),
                }
            }
            if words && !self.listen() {
                return;
            }
            if took > 0 && took < LITTLE {
                std::thread::sleep(MOMENT);
            }
        }
    }

    /// What was said meanwhile. False when nobody is there to say more.
    fn listen(&mut self) -> bool {
        let mut count = [0; 8];
        let _read = rustix::io::read(&self.wake, &mut count);
        loop {
            match self.words.try_recv() {
                Ok(Word::Keep { guid, fifo, bounds }) => self.keep(guid, fifo, bounds),
                Ok(Word::CatchUp { guid, done }) => {
                    let keys: Vec<u64> =
                        self.streams.iter().filter(|(_, it)| it.guid == guid).map(|(key, _)| *key).collect();
                    for key in keys {
                        // What is there now; whoever writes on and on is not waited for.
                        let mut waiting = self.streams.get(&key).map_or(0, |it| it.fifo.holds());
                        while waiting > 0 {
                            match self.turn(key, EventFlags::IN) {
                                0 => break,
                                took => waiting = waiting.saturating_sub(took),
                            }
                        }
                    }
                    // Whoever asked may have gone.
                    let _unheard = done.send(());
                }
                Err(std::sync::mpsc::TryRecvError::Empty) => return true,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn keep(&mut self, guid: String, fifo: Fifo, bounds: Option<LogBounds>) {
        let key = self.next;
        self.next += 1;
        let added = epoll::add(&self.epoll, &fifo.end, EventData::new_u64(key), EventFlags::IN);
        self.streams.insert(key, Stream { guid, fifo, bounds, dropping: false });
        if let Err(errno) = added {
            tracing::error!("logs: watch: {errno}");
            self.over(key);
        }
    }

    /// Takes some of a stream. How much.
    fn turn(&mut self, key: u64, flags: EventFlags) -> usize {
        match self.take(key, flags) {
            Turn::Took(count) => count,
            Turn::Over => {
                self.over(key);
                0
            }
            Turn::Rest => {
                if let Some(stream) = self.streams.get(&key) {
                    let rests = epoll::modify(
                        &self.epoll,
                        &stream.fifo.end,
                        EventData::new_u64(key),
                        // Not even its end: it would be told of again and again.
                        EventFlags::ONESHOT,
                    );
                    if rests.is_ok() {
                        self.resting.push((Instant::now() + REST, key));
                    }
                }
                0
            }
        }
    }

    fn take(&mut self, key: u64, flags: EventFlags) -> Turn {
        let Some(stream) = self.streams.get_mut(&key) else { return Turn::Took(0) };
        if self.trouble.get(&stream.guid).is_some_and(|trouble| Instant::now() < trouble.again) {
            return self.make_room(key, flags);
        }
        let writer = match self.writers.entry(stream.guid.clone()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                match Writer::open(&self.data_dir, &stream.guid, stream.bounds.take()) {
                    Ok(writer) => entry.insert(writer),
                    Err(failure) => return self.cannot(key, flags, &failure),
                }
            }
        };
        if let Some(bounds) = stream.bounds.take()
            && let Err(failure) = writer.bound(bounds)
        {
            stream.bounds = Some(bounds);
            return self.cannot(key, flags, &failure);
        }
        match writer.take(stream.fifo.end.as_fd(), stream.fifo.pid, stream.fifo.stream, now()) {
            Ok(Taken::Bytes(count)) => {
                stream.dropping = false;
                let guid = stream.guid.clone();
                self.bytes.fetch_add(count as u64, Ordering::Relaxed);
                if let Some(log) = lock(&self.live).get(&guid) {
                    log.grown.send_replace(());
                }
                if let Some(trouble) = self.trouble.remove(&guid) {
                    tracing::info!("the log of {guid} can be written again");
                    self.tell_lost(&guid, trouble);
                }
                Turn::Took(count)
            }
            Ok(Taken::Nothing) if flags.contains(EventFlags::HUP) => Turn::Over,
            Ok(Taken::Nothing) => Turn::Took(0),
            Ok(Taken::Unreadable(errno)) => {
                tracing::warn!(
                    "logs: {}: what its process has put there cannot be read: {errno}",
                    stream.guid
                );
                Turn::Over
            }
            // Destroyed meanwhile.
            Err(failure) if failure.kind == ErrorKind::NotFound => Turn::Over,
            Err(failure) => {
                if matches!(failure.errno(), Some(Errno::NOSPC | Errno::DQUOT)) && writer.give_up_oldest() {
                    return Turn::Took(0);
                }
                self.cannot(key, flags, &failure)
            }
        }
    }

    /// A log cannot be written, for now.
    fn cannot(&mut self, key: u64, flags: EventFlags, failure: &Failure) -> Turn {
        let Some(stream) = self.streams.get_mut(&key) else { return Turn::Took(0) };
        // Tried again only now, and what has been dropped since has not been in vain if that is slow.
        stream.dropping &= stream.fifo.is_filling();
        let again = Instant::now() + AGAIN;
        self.trouble.entry(stream.guid.clone()).and_modify(|trouble| trouble.again = again).or_insert_with(
            || {
                let why = failure.sentence();
                tracing::error!("{why}: what does not fit into the FIFOs of its processes is lost meanwhile");
                Trouble { why, again, lost: 0, told: None }
            },
        );
        self.make_room(key, flags)
    }

    /// Sees to it that nobody waits for a log that cannot be written.
    fn make_room(&mut self, key: u64, flags: EventFlags) -> Turn {
        let Some(stream) = self.streams.get_mut(&key) else { return Turn::Took(0) };
        let waiting = stream.fifo.holds();
        let over = flags.contains(EventFlags::HUP);
        if over && waiting == 0 {
            return Turn::Over;
        }
        stream.dropping |= stream.fifo.is_filling();
        if !stream.dropping {
            return Turn::Rest;
        }
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let dropped = splice(&stream.fifo.end, None, &self.null, None, fifo::HOLDS, flags).unwrap_or(0);
        let guid = stream.guid.clone();
        let Some(trouble) = self.trouble.get_mut(&guid) else { return Turn::Took(dropped) };
        trouble.lost += dropped as u64;
        if trouble.told.is_none_or(|told| told.elapsed() > TOLD)
            && let Some(trouble) = self.trouble.remove(&guid)
        {
            let (why, again) = (trouble.why.clone(), trouble.again);
            self.tell_lost(&guid, trouble);
            self.trouble.insert(guid, Trouble { why, again, lost: 0, told: Some(Instant::now()) });
        }
        Turn::Took(dropped)
    }

    fn tell_lost(&self, guid: &str, trouble: Trouble) {
        if trouble.lost > 0
            && let Some(host) = self.host.upgrade()
        {
            host.emit(guid, EventKind::LogLost { bytes: trouble.lost, message: trouble.why });
        }
    }

    /// Nobody writes to it any more.
    fn over(&mut self, key: u64) {
        let Some(stream) = self.streams.remove(&key) else { return };
        let _gone = epoll::delete(&self.epoll, &stream.fifo.end);
        stream.fifo.remove();
        if !self.streams.values().any(|other| other.guid == stream.guid) {
            self.writers.remove(&stream.guid);
            if let Some(trouble) = self.trouble.remove(&stream.guid) {
                self.tell_lost(&stream.guid, trouble);
            }
        }
        let mut live = lock(&self.live);
        if let Some(log) = live.get_mut(&stream.guid) {
            log.streams -= 1;
            if log.streams == 0 {
                live.remove(&stream.guid);
            }
        }
    }

    fn wake_rested(&mut self) {
        let now = Instant::now();
        for (_, key) in self.resting.extract_if(.., |(until, _)| *until <= now) {
            if let Some(stream) = self.streams.get(&key) {
                // If it cannot be watched, it is not read: as if the disk were full.
                let _watched =
                    epoll::modify(&self.epoll, &stream.fifo.end, EventData::new_u64(key), EventFlags::IN);
            }
        }
    }
}

/// Nanoseconds since the Unix epoch.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Goes on with what an earlier host has begun to keep, and takes what is left of that.
pub(super) fn resume(host: &Host, streams: Vec<(String, Vec<Fifo>)>) -> Result<()> {
    for (guid, fifos) in streams {
        host.logs.ready()?;
        for fifo in fifos {
            host.logs.keep(&guid, fifo, None);
        }
    }
    Ok(())
}

/// How much is read at once for a client.
const BATCH: usize = 512 * 1024;

/// `logs.read`: opens what is asked for. It exists, or did.
pub(super) async fn open(host: &Arc<Host>, p: &LogsParams) -> Result<Reader> {
    let (worker, guid, select, follow) = (Arc::clone(host), p.guid.clone(), Select::of(p), p.follow);
    host.logs.catch_up(&p.guid).await;
    blocking(move || {
        let rootfs = worker.machine.rootfs(&guid)?;
        Reader::open(worker.machine.data_dir(), rootfs.guid(), select, follow)
    })
    .await
}

/// Sends frames until all is sent, and if it is followed, all that comes.
pub(super) async fn send(host: Arc<Host>, p: LogsParams, mut reader: Reader, mut stream: UnixStream) {
    let mut batch = Vec::new();
    loop {
        // Before the look: what comes after it is told.
        let growing = if p.follow { host.logs.follow(&p.guid) } else { None };
        loop {
            let read = blocking(move || {
                batch.clear();
                let more = fill(&mut reader, &mut batch)?;
                Ok((reader, batch, more))
            });
            let more;
            match read.await {
                Ok(read) => (reader, batch, more) = read,
                Err(failure) => return tracing::error!("{}", failure.sentence()),
            }
            if stream.write_all(&batch).await.is_err() {
                return;
            }
            if !more {
                break;
            }
        }
        let Some(mut growing) = growing else { return };
        let mut nothing = [0; 64];
        tokio::select! {
            // The end is a change, too: one last look.
            _more_or_over = growing.changed() => {}
            read = tokio::io::AsyncReadExt::read(&mut stream, &mut nothing) => match read {
                // What a client says here means nothing.
                Ok(1..) => {}
                _ => return,
            },
        }
        if p.until.is_some_and(|until| until <= crate::subcontainer::now()) {
            return;
        }
    }
}

/// Fills a batch with frames. Whether there may be more now.
fn fill(reader: &mut Reader, batch: &mut Vec<u8>) -> Result<bool> {
    let mut piece = Vec::new();
    while batch.len() < BATCH {
        let Some(frame): Option<Frame> = reader.next(&mut piece)? else { return Ok(false) };
        batch.extend_from_slice(&frame.to_bytes());
        batch.extend_from_slice(&piece);
    }
    Ok(true)
}
