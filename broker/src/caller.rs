//! A package, as far as its calls go: what each of them must pass, in this order.
//!
//! ```text
//! quarantine ─▶ method ─▶ parameters ─▶ may it be ─▶ grant, scope ─▶ sense ─▶ rate ─▶ breaker ─▶ act ─▶ audit ─▶ answer
//! ```
//! A denial is on disk before it is answered; so is what has changed something. What has only read is answered at once, and
//! written down within [`crate::ledger::LATE`]; what was too much, within a second, with its number. A message that names no known
//! call, or is none, reaches nothing and is not written down.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use protocol::ErrorKind;
use protocol::broker::{FilesStreamMode, FilesStreamParams};
use protocol::package::{AuditEntry, AuditOutcome, CallsInfo, Scopes};
use rusqlite::{Connection, params};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};

use crate::Broker;
use crate::calls::{self, Call};
use crate::capability::Capability;
use crate::egress::Guard;
use crate::error::{Error, Result};
use crate::files::{Place, Replacement, Root, check_path};
use crate::grants::{Grants, Item, Need};
use crate::hands::Hands;
use crate::ledger::{Change, Line};
use crate::meter::{Came, Class, Kind, Meter};
use crate::store::secrets::Keys;

mod admitted;
mod dial;

pub use admitted::{Admitted, Refusal};

/// Changes of one package under way.
const WRITES: usize = 32;
/// Whatever else of one package takes its time, under way.
const ACTS: usize = 8;

/// What becomes of a call.
pub enum Called {
    /// It has been carried out, or refused.
    Now(Result<String>),
    /// It will be. Until then it keeps about so many bytes, for itself and its answer.
    Later(usize, Pin<Box<dyn Future<Output = Result<String>> + Send>>),
}

impl std::fmt::Debug for Called {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Now(result) => f.debug_tuple("Now").field(result).finish(),
            Self::Later(size, _) => f.debug_tuple("Later").field(size).finish(),
        }
    }
}

/// How a call is carried out.
pub(crate) enum Act {
    /// It is.
    Now(Result<String>),
    /// By the one writer, with its line.
    Change(Change),
    /// Where one may wait.
    Work(Box<dyn FnOnce() -> Result<String> + Send>),
    /// By waiting for others.
    Wait(Pin<Box<dyn Future<Output = Result<String>> + Send>>),
}

/// A file whose bytes a connection carries from now on. [`Caller::streamed`] says what became of it.
#[derive(Debug)]
pub enum Stream {
    /// From here, so many bytes.
    Read(std::os::fd::OwnedFd, u64),
    /// To here, so many bytes.
    Write(Replacement, u64),
}

/// What is known of a package as long as the host runs, active or not.
pub(crate) struct Standing {
    meter: Mutex<Meter>,
    /// Why it is in quarantine, if it is.
    quarantined: watch::Sender<Option<String>>,
    writes: Arc<Semaphore>,
    acts: Arc<Semaphore>,
}

impl Standing {
    pub(crate) fn new(meter: Meter, quarantined: Option<String>) -> Self {
        let (writes, acts) = (Arc::new(Semaphore::new(WRITES)), Arc::new(Semaphore::new(ACTS)));
        Self { meter: Mutex::new(meter), quarantined: watch::channel(quarantined).0, writes, acts }
    }

    pub(crate) fn info(&self) -> Option<CallsInfo> {
        let meter = lock(&self.meter);
        let counts = meter.counts;
        let quarantined = self.quarantined.borrow().clone();
        if counts.done + counts.denied + counts.failed == 0 && quarantined.is_none() {
            return None;
        }
        Some(CallsInfo {
            done: counts.done,
            denied: counts.denied,
            failed: counts.failed,
            limited: counts.limited,
            broken: meter.broken(Instant::now()),
            quarantined,
        })
    }

    pub(crate) fn forgive(&self) {
        lock(&self.meter).forgive();
        self.quarantined.send_replace(None);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A package whose calls are taken: for as long as it is active.
pub struct Caller {
    broker: Arc<Broker>,
    package: Arc<str>,
    standing: Arc<Standing>,
    grants: RwLock<Arc<Grants>>,
    roots: Arc<[Root]>,
    hands: Arc<dyn Hands>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("package", &self.package).finish_non_exhaustive()
    }
}

impl Caller {
    pub(crate) fn new(
        broker: Arc<Broker>,
        package: &str,
        standing: Arc<Standing>,
        granted: Scopes,
        roots: Vec<Root>,
        hands: Arc<dyn Hands>,
    ) -> Self {
        let grants = RwLock::new(Arc::new(Grants::new(granted)));
        Self { broker, package: package.into(), standing, grants, roots: roots.into(), hands }
    }

    /// Its id.
    #[must_use]
    pub fn package(&self) -> &str {
        &self.package
    }

    pub(crate) fn shared_package(&self) -> Arc<str> {
        Arc::clone(&self.package)
    }

    pub(crate) fn roots(&self) -> Arc<[Root]> {
        Arc::clone(&self.roots)
    }

    pub(crate) fn hands(&self) -> Arc<dyn Hands> {
        Arc::clone(&self.hands)
    }

    pub(crate) fn keys(&self) -> Arc<KeyRing> {
        Arc::clone(&self.broker.keys)
    }

    pub(crate) fn guard(&self) -> Guard {
        self.broker.guard.clone()
    }

    /// What it was granted.
    #[must_use]
    pub fn granted(&self) -> Scopes {
        self.grants().scopes().clone()
    }

    pub(crate) fn grants(&self) -> Arc<Grants> {
        Arc::clone(&self.grants.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The operator has decided anew. Holds for every call from now on.
    pub fn set_granted(&self, granted: Scopes) {
        *self.grants.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Grants::new(granted));
    }

    /// Tells when the package is put in quarantine: why.
    #[must_use]
    pub fn quarantine(&self) -> watch::Receiver<Option<String>> {
        self.standing.quarantined.subscribe()
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        read(&lock(&self.broker.reader)).map_err(Error::database("read"))
    }

    pub(crate) fn with_keys<T>(&self, read: impl FnOnce(&Keys, &Connection) -> Result<T>) -> Result<T> {
        let database = lock(&self.broker.reader);
        self.broker.keys.with(&database, |keys| read(keys, &database))
    }

    pub(crate) fn last_lines(&self, most: u32) -> Result<Vec<AuditEntry>> {
        let last = self.broker.chain.last(&lock(&self.broker.reader), &self.package, most);
        last.map_err(|error| Error::Audit(error.to_string()))
    }

    /// Takes a call.
    #[must_use]
    pub fn call(self: &Arc<Self>, method: &str, params: &str) -> Called {
        if method == "ping" {
            return Called::Now(self.rate().map(|()| "{}".to_owned()));
        }
        match calls::find(method) {
            Some(take) => take(self, params),
            None => {
                let unknown = Error::UnknownMethod(method.chars().take(80).collect());
                Called::Now(self.rate().and(Err(unknown)))
            }
        }
    }

    /// Of what reaches nothing, no more than of calls that do.
    fn rate(&self) -> Result<()> {
        self.not_quarantined()?;
        match lock(&self.standing.meter).take(Class::Read, Instant::now()) {
            true => Ok(()),
            false => Err(Error::Limited("too many calls".to_owned())),
        }
    }

    fn not_quarantined(&self) -> Result<()> {
        match &*self.standing.quarantined.borrow() {
            Some(why) => Err(Error::Quarantined(why.clone())),
            None => Ok(()),
        }
    }

    /// The parameters of a call, of a package that may call.
    fn params<P: DeserializeOwned>(&self, params: &str) -> Result<P> {
        let params = match serde_json::from_str(params) {
            Ok(params) => params,
            Err(error) => return self.rate().and(Err(Error::Params(error))),
        };
        self.not_quarantined().map(|()| params)
    }

    /// Takes a call of a known kind.
    pub(crate) fn take<C: Call>(self: &Arc<Self>, params: &str) -> Called {
        let call: C = match self.params(params) {
            Ok(call) => call,
            Err(error) => return Called::Now(Err(error)),
        };
        let mut text = String::new();
        let need = Need { capability: C::CAPABILITY, item: call.item(&mut text) };
        let mut line = self.line(C::METHOD, &need, call.subject());
        let kind = kind(&need);
        let grants = self.grants();
        let allowed = self.allow(&grants, &need, &kind, C::CLASS, call.may_be(), || call.check());
        let by = match allowed {
            Ok(by) => by,
            Err(error) => return self.refuse(line, kind, error),
        };
        if let Some(by) = by {
            line.item = by.into();
        }
        match call.act(self, by) {
            Act::Now(result) => {
                self.came(kind, result.as_ref().err());
                if let Err(error) = &result {
                    line.outcome = error.outcome();
                    line.reason = error.to_string().into();
                }
                self.broker.ledger.note(line);
                Called::Now(result)
            }
            Act::Change(change) => {
                let own = Arc::clone(self);
                let size = params.len() + C::ANSWER;
                Called::Later(
                    size,
                    Box::pin(async move {
                        let _slot = own.standing.writes.acquire().await;
                        let result = own.broker.ledger.commit(line, Some(change)).await;
                        own.came(kind, result.as_ref().err());
                        result
                    }),
                )
            }
            Act::Work(work) => {
                let wait = async {
                    let done = tokio::task::spawn_blocking(work).await;
                    done.unwrap_or_else(|error| Err(Error::Audit(error.to_string())))
                };
                Called::Later(
                    params.len() + C::ANSWER,
                    Box::pin(Arc::clone(self).finish(line, kind, C::CLASS, wait)),
                )
            }
            Act::Wait(wait) => Called::Later(
                params.len() + C::ANSWER,
                Box::pin(Arc::clone(self).finish(line, kind, C::CLASS, wait)),
            ),
        }
    }

    /// Carries out what takes its time, and writes down what became of it.
    async fn finish(
        self: Arc<Self>,
        mut line: Line,
        kind: Kind,
        class: Class,
        work: impl Future<Output = Result<String>> + Send,
    ) -> Result<String> {
        let slots = if class == Class::Write { &self.standing.writes } else { &self.standing.acts };
        let _slot = slots.acquire().await;
        let result = work.await;
        let enough = self.came(kind, result.as_ref().err());
        if let Err(error) = &result {
            line.outcome = error.outcome();
            line.reason = error.to_string().into();
        }
        // What has only read is written down soon.
        if matches!(class, Class::Read | Class::Scan) && line.outcome != AuditOutcome::Denied {
            self.broker.ledger.note(line);
            return result;
        }
        self.broker.ledger.commit(line, None).await?;
        if let Some(why) = enough {
            self.isolated(why).await;
        }
        result
    }

    /// Of a path, the item is by what it was granted: that is known later.
    fn line(&self, action: &'static str, need: &Need<'_>, subject: String) -> Line {
        let (item, subject) = match need.item {
            Item::Nothing => ("", subject.as_str()),
            Item::One(_, item) => (item, subject.as_str()),
            Item::Path(path) => ("", path),
        };
        Line {
            by: None,
            package: Arc::clone(&self.package),
            action,
            capability: need.capability.name(),
            item: cut(item),
            subject: cut(subject),
            outcome: AuditOutcome::Done,
            reason: Box::default(),
        }
    }

    /// Whether a call may be carried out; for a path, by which grant.
    fn allow<'a>(
        &self,
        grants: &'a Grants,
        need: &Need<'_>,
        kind: &Kind,
        class: Class,
        may_be: Result<()>,
        makes_sense: impl FnOnce() -> Result<()>,
    ) -> Result<Option<&'a str>> {
        may_be?;
        let by = grants.check(need).map_err(Error::Missing)?;
        makes_sense()?;
        self.broker.ledger.check()?;
        let now = Instant::now();
        let mut meter = lock(&self.standing.meter);
        if !meter.take(class, now) {
            return Err(Error::Limited(format!("too many calls that need {}", need.capability.name())));
        }
        if let Some((failures, rest)) = meter.rests(kind, now) {
            let seconds = rest.as_secs() + 1;
            return Err(Error::Broken { capability: need.capability.name(), failures, seconds });
        }
        Ok(by)
    }

    /// Takes note of what became of a call. If that is enough, the package is in quarantine from now on; says why, for
    /// [`Caller::isolated`], to the first who does it.
    fn came(&self, kind: Kind, error: Option<&Error>) -> Option<String> {
        let came = match error {
            None => Came::Done,
            Some(Error::Limited(_)) => Came::Limited,
            Some(error) if error.outcome() == AuditOutcome::Denied => Came::Denied,
            Some(
                Error::Invalid(_)
                | Error::NotFound(_)
                | Error::Conflict(_)
                | Error::Unavailable(_)
                | Error::Broken { .. }
                | Error::Kernel { .. },
            ) => Came::Refused,
            // What is tried there is the package's own, and so is its rest.
            Some(Error::Failed { .. }) if kind.0 == Capability::Subcontainers => Came::Refused,
            Some(Error::Failed { kind, .. }) => match kind {
                ErrorKind::Network | ErrorKind::TimedOut | ErrorKind::Internal => Came::Failed,
                _ => Came::Refused,
            },
            Some(_) => Came::Failed,
        };
        let why = lock(&self.standing.meter).came(Some(kind), came, Instant::now())?;
        let first = self.standing.quarantined.send_if_modified(|quarantined| {
            let first = quarantined.is_none();
            quarantined.get_or_insert_with(|| why.clone());
            first
        });
        first.then_some(why)
    }

    /// Writes a refusal down, and then gives it.
    fn refuse(self: &Arc<Self>, mut line: Line, kind: Kind, error: Error) -> Called {
        let enough = match error {
            // It is no failure of what it would have tried.
            Error::Broken { .. } | Error::Audit(_) | Error::Invalid(_) => {
                lock(&self.standing.meter).counts.failed += 1;
                None
            }
            _ => self.came(kind, Some(&error)),
        };
        line.outcome = error.outcome();
        line.reason = error.to_string().into();
        if line.outcome != AuditOutcome::Denied || matches!(error, Error::Limited(_)) {
            self.broker.ledger.note(line);
            return Called::Now(Err(error));
        }
        let own = Arc::clone(self);
        Called::Later(
            4096,
            Box::pin(async move {
                own.broker.ledger.commit(line, None).await?;
                if let Some(why) = enough {
                    own.isolated(why).await;
                }
                Err(error)
            }),
        )
    }

    /// Writes down that the package is in quarantine, so that it is after a restart.
    async fn isolated(&self, why: String) {
        tracing::warn!("package {} is in quarantine: {why}", self.package);
        let line = Line {
            by: Some("host"),
            package: Arc::clone(&self.package),
            action: "package.quarantine",
            capability: "",
            item: Box::default(),
            subject: Box::default(),
            outcome: AuditOutcome::Done,
            reason: why.clone().into(),
        };
        let (package, now) = (Arc::clone(&self.package), (self.broker.clock)());
        let change: Change = Box::new(move |database| {
            let since = i64::try_from(now).unwrap_or(i64::MAX);
            database.execute(
                "INSERT OR REPLACE INTO quarantine (package, since, reason) VALUES (?, ?, ?)",
                params![&*package, since, why],
            )?;
            Ok(Ok(String::new()))
        });
        if let Err(error) = self.broker.ledger.commit(line, Some(change)).await {
            tracing::error!("quarantine of {}: {error}", self.package);
        }
    }

    /// `files.stream`: opens a file for a connection that then carries its bytes.
    ///
    /// # Errors
    /// As any call.
    pub async fn stream(self: &Arc<Self>, params: &str) -> Result<Stream> {
        let call: FilesStreamParams = self.params(params)?;
        let (line, kind) = self.stream_line(&call);
        let need = Need { capability: kind.0, item: Item::Path(&call.path) };
        let grants = self.grants();
        let class = if call.mode == FilesStreamMode::Write { Class::Write } else { Class::Read };
        let by = match self.allow(&grants, &need, &kind, class, check_path(&call.path), || Ok(())) {
            Ok(by) => by.unwrap_or_default().to_owned(),
            Err(error) => return Err(self.refused(line, kind, error).await),
        };
        let (roots, path, mode, size) = (self.roots(), call.path.clone(), call.mode, call.size);
        let open = move || match mode {
            FilesStreamMode::Read => {
                let (file, size) = Place::find(&roots, &by, &path, false)?.open_to_read()?;
                Ok(Stream::Read(file, size))
            }
            FilesStreamMode::Write => {
                Ok(Stream::Write(Place::find(&roots, &by, &path, true)?.replace()?, size))
            }
        };
        let opened = tokio::task::spawn_blocking(open).await;
        match opened.unwrap_or_else(|error| Err(Error::Audit(error.to_string()))) {
            Ok(stream) => Ok(stream),
            Err(error) => Err(self.refused(line, kind, error).await),
        }
    }

    async fn refused(self: &Arc<Self>, line: Line, kind: Kind, error: Error) -> Error {
        Refusal(self.refuse(line, kind, error)).told().await
    }

    fn stream_line(&self, call: &FilesStreamParams) -> (Line, Kind) {
        let capability = match call.mode {
            FilesStreamMode::Read => Capability::FilesRead,
            FilesStreamMode::Write => Capability::FilesWrite,
        };
        let need = Need { capability, item: Item::Path(&call.path) };
        (self.line("files.stream", &need, String::new()), kind(&need))
    }

    /// Writes down what became of a stream: all of it went, or why not.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub async fn streamed(
        self: &Arc<Self>,
        params: &str,
        came: std::result::Result<(), String>,
    ) -> Result<()> {
        let call: FilesStreamParams = serde_json::from_str(params).map_err(Error::Params)?;
        let (mut line, kind) = self.stream_line(&call);
        if let Err(why) = came {
            line.outcome = AuditOutcome::Failed;
            line.reason = why.into();
        }
        // Neither is a sign that files cannot be read: the caller may have gone.
        self.came(kind, None);
        self.broker.ledger.commit(line, None).await.map(drop)
    }
}

/// What fails together with a call: of requests and connections to the outside, those to the same host and port.
fn kind(need: &Need<'_>) -> Kind {
    match (need.capability, need.item) {
        (Capability::HttpEgress | Capability::Net, Item::One(_, host)) => (need.capability, host.into()),
        _ => (need.capability, Box::default()),
    }
}

/// What stands in a line: a call may name what is a megabyte long, or turns what is written around it.
fn cut(text: &str) -> Box<str> {
    const MOST: usize = 512;
    let shown = |text: &str| text.replace(|one| !calls::is_shown(one), "\u{fffd}");
    match text.char_indices().find(|(at, _)| *at > MOST) {
        None if text.is_ascii() => text.into(),
        None => shown(text).into(),
        Some((at, _)) => format!("{}… ({} bytes)", shown(&text[..at]), text.len()).into(),
    }
}

/// The keys of the secrets, once somebody needs them.
#[derive(Debug)]
pub(crate) struct KeyRing {
    data_dir: std::path::PathBuf,
    keys: Mutex<Option<Keys>>,
}

impl KeyRing {
    pub(crate) fn new(data_dir: &std::path::Path) -> Self {
        Self { data_dir: data_dir.to_owned(), keys: Mutex::default() }
    }

    pub(crate) fn with<T>(&self, database: &Connection, work: impl FnOnce(&Keys) -> Result<T>) -> Result<T> {
        self.with_mut(database, |keys| work(keys))
    }

    pub(crate) fn with_mut<T>(
        &self,
        database: &Connection,
        work: impl FnOnce(&mut Keys) -> Result<T>,
    ) -> Result<T> {
        let mut keys = lock(&self.keys);
        if keys.is_none() {
            let any = crate::store::secrets::any(database).map_err(Error::database("look for secrets"))?;
            let dir =
                linux::tree::open_dir(&self.data_dir).map_err(Error::kernel("open", "data directory"))?;
            *keys = Some(Keys::open(dir, any)?);
        }
        match keys.as_mut() {
            Some(keys) => work(keys),
            None => Err(Error::Key("there is none".to_owned())),
        }
    }
}
