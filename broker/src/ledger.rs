//! The one writer: changes of the store and lines of the audit log, in transactions that hold as much as waits.
//!
//! ```text
//! a change, a denial ──▶ queue ──▶ one transaction: changes, then lines ──▶ on disk ──▶ answered
//! what only read     ──▶ lines ───────▲ within 25 ms; answered before
//! ```
//! A change and its line are one transaction. A line of what only read, or acted on something else than the store, is
//! written soon: at most what happened in [`LATE`] is lost when the host is killed, and never a change or a denial.
//!
//! Lines that say the same are one line, with a number. A package that causes more different lines than its share gets
//! lines without their particulars, of what only read once a second: nobody fills the disk, or hides in it. When lines
//! cannot be written, nothing is carried out any more, until they can.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use protocol::package::{AuditLine, AuditOutcome};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::chain::{Chain, ChainError};
use crate::error::{Error, Result};
use crate::meter::Bucket;

/// How long a line may wait for others.
pub const LATE: Duration = Duration::from_millis(25);
/// How long one without its particulars may.
const FOLDED: Duration = Duration::from_secs(1);
/// When so many lines wait, they are written at once.
const MANY: usize = 4096;
/// When so many wait, nothing more is carried out.
const TOO_MANY: usize = 65_536;
/// Different lines, but for denials, that a package may cause: so many at once, and so many a second from then on.
const SHARE: (f64, f64) = (10_000.0, 5.0);

/// What became of a call.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Line {
    /// Who, where it was not the package.
    pub(crate) by: Option<&'static str>,
    pub(crate) package: Arc<str>,
    pub(crate) action: &'static str,
    pub(crate) capability: &'static str,
    /// What of the scope.
    pub(crate) item: Box<str>,
    /// What exactly; empty where that is the item, or where it was folded.
    pub(crate) subject: Box<str>,
    pub(crate) outcome: AuditOutcome,
    /// Why it was not done.
    pub(crate) reason: Box<str>,
}

impl Line {
    /// What the operator has done about a package.
    pub(crate) fn of_operator(package: &str, action: &'static str, subject: &str) -> Self {
        Self {
            by: Some("operator"),
            package: package.into(),
            action,
            capability: "",
            item: Box::default(),
            subject: subject.into(),
            outcome: AuditOutcome::Done,
            reason: Box::default(),
        }
    }

    /// Without its particulars. A reason names them, too.
    fn fold(&mut self, keep_reason: bool) {
        self.subject = Box::default();
        if !keep_reason {
            self.reason = Box::default();
        }
    }

    fn detail(&self, count: u64) -> String {
        let mut detail = serde_json::Map::new();
        let texts = [
            ("capability", self.capability),
            ("item", &self.item),
            ("subject", &self.subject),
            ("reason", &self.reason),
        ];
        for (name, text) in texts {
            if !text.is_empty() {
                detail.insert(name.to_owned(), text.into());
            }
        }
        if count > 1 {
            detail.insert("calls".to_owned(), count.into());
        }
        serde_json::Value::Object(detail).to_string()
    }
}

/// Lines that wait, those that say the same as one.
#[derive(Default)]
struct Lines {
    all: Vec<(Line, u64, u64)>,
    index: HashMap<u64, usize>,
    hasher: std::hash::RandomState,
    since: Option<Instant>,
}

impl Lines {
    fn add(&mut self, line: Line, time: u64) {
        let hash = self.hasher.hash_one(&line);
        self.since.get_or_insert_with(Instant::now);
        if let Some((known, count, _)) = self.index.get(&hash).and_then(|at| self.all.get_mut(*at))
            && *known == line
        {
            *count += 1;
            return;
        }
        self.index.insert(hash, self.all.len());
        self.all.push((line, 1, time));
    }

    fn knows(&self, line: &Line) -> bool {
        let at = self.index.get(&self.hasher.hash_one(line));
        at.and_then(|at| self.all.get(*at)).is_some_and(|(known, ..)| known == line)
    }

    fn take(&mut self) -> Vec<(Line, u64, u64)> {
        self.index.clear();
        self.since = None;
        std::mem::take(&mut self.all)
    }

    fn put_back(&mut self, mut lines: Vec<(Line, u64, u64)>) {
        lines.append(&mut self.all);
        self.all = lines;
        self.index =
            self.all.iter().enumerate().map(|(at, (line, ..))| (self.hasher.hash_one(line), at)).collect();
        self.since.get_or_insert_with(Instant::now);
    }

    fn due(&self, limit: Duration) -> Option<Instant> {
        self.since.map(|since| since + limit)
    }
}

/// A change of the store: what it answers, or why it is not made. An error of the database undoes all of the transaction.
pub(crate) type Change = Box<dyn FnOnce(&Transaction<'_>) -> rusqlite::Result<Result<String>> + Send>;

struct Job {
    change: Option<Change>,
    line: Line,
    time: u64,
    answer: oneshot::Sender<Result<String>>,
    folded: bool,
}

#[derive(Default)]
struct Waiting {
    jobs: Vec<Job>,
    lines: Lines,
    folded: Lines,
    shares: HashMap<Arc<str>, Bucket>,
    closing: bool,
    /// The writer waits without a limit.
    asleep: bool,
}

impl Waiting {
    /// Whether the package may cause one more line with its particulars.
    fn has_share(&mut self, line: &Line) -> bool {
        let share =
            self.shares.entry(Arc::clone(&line.package)).or_insert_with(|| Bucket::new(SHARE.0, SHARE.1));
        share.take(Instant::now())
    }
}

struct Shared {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    broken: AtomicBool,
    full: AtomicBool,
    clock: fn() -> u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The writer, and its thread.
pub(crate) struct Ledger {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Ledger {
    pub(crate) fn start(connection: Connection, chain: Arc<dyn Chain>, clock: fn() -> u64) -> Result<Self> {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            broken: AtomicBool::new(false),
            full: AtomicBool::new(false),
            clock,
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("broker-ledger".to_owned())
            .spawn(move || own.write(connection, &*chain))
            .map_err(|error| Error::Audit(error.to_string()))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Whether anything may be carried out: what cannot be written down is not done.
    pub(crate) fn check(&self) -> Result<()> {
        if self.shared.broken.load(Ordering::Relaxed) {
            return Err(Error::Audit("the last attempt failed".to_owned()));
        }
        if self.shared.full.load(Ordering::Relaxed) {
            return Err(Error::Audit("too many lines wait".to_owned()));
        }
        Ok(())
    }

    /// Writes a line, soon. What was too much is told once a second, with its number.
    pub(crate) fn note(&self, mut line: Line) {
        let time = (self.shared.clock)();
        let mut waiting = lock(&self.shared.waiting);
        let waiting = &mut *waiting;
        let too_much = line.outcome == AuditOutcome::Denied;
        if too_much || !waiting.lines.knows(&line) && !waiting.has_share(&line) {
            line.fold(too_much);
            waiting.folded.add(line, time);
        } else {
            waiting.lines.add(line, time);
        }
        self.wake(waiting, false);
    }

    /// Makes a change, or only writes a line; answered when it is on disk.
    pub(crate) async fn commit(&self, line: Line, change: Option<Change>) -> Result<String> {
        let (answer, answered) = oneshot::channel();
        let time = (self.shared.clock)();
        {
            let mut waiting = lock(&self.shared.waiting);
            if waiting.closing {
                return Err(Error::Audit("the host is stopping".to_owned()));
            }
            waiting.jobs.push(Job { change, line, time, answer, folded: false });
            self.wake(&waiting, true);
        }
        answered.await.unwrap_or_else(|_gone| Err(Error::Audit("the host is stopping".to_owned())))
    }

    fn wake(&self, waiting: &Waiting, now: bool) {
        let many = waiting.lines.all.len() >= MANY;
        if waiting.lines.all.len() >= TOO_MANY {
            self.shared.full.store(true, Ordering::Relaxed);
        }
        if now || waiting.asleep || many {
            self.shared.wake.notify_one();
        }
    }

    /// Writes all that waits, and ends.
    pub(crate) fn close(&self) {
        lock(&self.shared.waiting).closing = true;
        self.shared.wake.notify_one();
        if let Some(thread) = lock(&self.thread).take() {
            // A panic there was told by its own.
            _ = thread.join();
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn write(&self, mut connection: Connection, chain: &dyn Chain) {
        loop {
            let (jobs, lines, closing) = self.next();
            let failed = self.batch(&mut connection, chain, jobs, lines);
            if !failed {
                self.full.store(false, Ordering::Relaxed);
            }
            if closing {
                return;
            }
            if failed {
                // Not for ever, and not all the time.
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }

    /// Waits for something to write.
    fn next(&self) -> (Vec<Job>, Vec<(Line, u64, u64)>, bool) {
        let mut waiting = lock(&self.waiting);
        loop {
            let now = Instant::now();
            let due = [waiting.lines.due(LATE), waiting.folded.due(FOLDED)].into_iter().flatten().min();
            let ready = !waiting.jobs.is_empty()
                || waiting.closing
                || waiting.lines.all.len() >= MANY
                || due.is_some_and(|due| due <= now);
            if ready {
                let closing = waiting.closing;
                let mut lines = waiting.lines.take();
                if closing || waiting.folded.due(FOLDED).is_some_and(|due| due <= now) {
                    lines.append(&mut waiting.folded.take());
                    // Full again by now, or of a package that is quiet.
                    waiting.shares.retain(|_, share| !share.is_full(now));
                }
                let mut jobs = std::mem::take(&mut waiting.jobs);
                for job in &mut jobs {
                    // Denials are few: there is quarantine.
                    if job.line.outcome != AuditOutcome::Denied && !waiting.has_share(&job.line) {
                        job.line.fold(false);
                        job.folded = true;
                    }
                }
                return (jobs, lines, closing);
            }
            waiting.asleep = due.is_none();
            waiting = match due {
                None => self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    self.wake.wait_timeout(waiting, due - now).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            waiting.asleep = false;
        }
    }

    /// One transaction. True when it failed.
    fn batch(
        &self,
        connection: &mut Connection,
        chain: &dyn Chain,
        jobs: Vec<Job>,
        soon: Vec<(Line, u64, u64)>,
    ) -> bool {
        let mut answers = Vec::with_capacity(jobs.len());
        // Of what has happened already, whatever becomes of this transaction.
        let mut happened = Lines::default();
        happened.put_back(soon);
        let mut lines = Lines::default();
        let written = (|| -> Result<(), ChainError> {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for Job { change, mut line, time, answer, folded } in jobs {
                let result = match change {
                    None => {
                        happened.add(line, time);
                        Ok(String::new())
                    }
                    Some(change) => {
                        let result = match change(&transaction) {
                            Ok(result) => result,
                            Err(error) => {
                                answers.push((answer, Err(Error::Audit(error.to_string()))));
                                return Err(error.into());
                            }
                        };
                        if let Err(error) = &result {
                            line.outcome = error.outcome();
                            // A reason names what was left out of a line that was folded.
                            if !folded {
                                line.reason = error.to_string().into();
                            }
                        }
                        lines.add(line, time);
                        result
                    }
                };
                answers.push((answer, result));
            }
            let all: Vec<(&Line, u64, String)> = happened
                .all
                .iter()
                .chain(&lines.all)
                .map(|(line, count, time)| (line, *time, line.detail(*count)))
                .collect();
            let entries: Vec<AuditLine<'_>> = all
                .iter()
                .map(|(line, time, detail)| AuditLine {
                    time: *time,
                    actor: line.by.unwrap_or(&line.package),
                    package: &line.package,
                    action: line.action,
                    outcome: line.outcome,
                    detail,
                })
                .collect();
            chain.append(&transaction, &entries)?;
            transaction.commit()?;
            Ok(())
        })();
        // Before anybody hears of it: who asks next must find it so.
        self.broken.store(written.is_err(), Ordering::Relaxed);
        match written {
            Ok(()) => {
                for (answer, result) in answers {
                    // Whoever asked may have gone.
                    _ = answer.send(result);
                }
                false
            }
            Err(error) => {
                let why = error.to_string();
                lock(&self.waiting).lines.put_back(happened.take());
                for (answer, _) in answers {
                    // As above. Those that were not come to are told by the end of their channel.
                    _ = answer.send(Err(Error::Audit(why.clone())));
                }
                true
            }
        }
    }
}
