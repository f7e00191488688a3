//! A bundle in a git repository, at one commit.
//!
//! ```text
//! git+https://example.org/team/notes.git#<commit>[:path]
//! ```
//! The commit is the whole id, 40 or 64 hex digits: a branch is whatever it is today. That commit alone is fetched, into a
//! repository without a work tree that is gone afterwards; one file is read out of it. Nothing is checked out: so there are
//! no hooks, filters or submodules, and links are not followed, for nobody looks at them but here. What git is configured to
//! by the operator (credential helpers, proxies, certificates) counts; what the repository says does not.
//!
//! Over HTTP only. `ssh` and `file` would start programs, of which the second one trusts the repository.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use gix::bstr::ByteSlice as _;
use gix::objs::tree::EntryKind;
use gix::remote::{Direction, fetch};

use super::Watch;
use crate::bundle::{Limits, Refusal};
use crate::{Error, Result, Store};

/// Bytes that a repository may take on disk while it is looked at: of one commit, without its history.
const REPOSITORY: u64 = 2 << 30;
/// Bytes of a bundle in a repository: git keeps each file whole in memory.
const BUNDLE: u64 = 1 << 30;
/// How often somebody looks how large it is by now.
const LOOK: Duration = Duration::from_millis(100);
/// How long it may take to stop.
const PATIENCE: Duration = Duration::from_secs(1);
/// What a bundle's name ends with.
const SUFFIX: &str = ".bundle.tar.zst";

/// Where a bundle is in a git repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    url: String,
    commit: Option<gix::ObjectId>,
    path: Vec<String>,
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid =
            |reason: &str| Error::Source { place: super::without_secrets(text), reason: reason.to_owned() };
        let rest = text.strip_prefix("git+").ok_or_else(|| invalid("it does not begin with git+"))?;
        if !["https://", "http://"].iter().any(|scheme| rest.starts_with(scheme)) {
            return Err(invalid("only git+https:// (and git+http://, with --insecure) are fetched"));
        }
        let (url, pin) = rest.split_once('#').unwrap_or((rest, ""));
        url::Url::parse(url).map_err(|error| invalid(&error.to_string()))?;
        let (commit, path) = pin.split_once(':').unwrap_or((pin, ""));
        let full = [40, 64].contains(&commit.len()) && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        let commit = match commit {
            "" => None,
            _ if !full => return Err(invalid("what follows # is no whole commit id of 40 or 64 hex digits")),
            some => Some(some.to_lowercase().parse().map_err(|_error| invalid("it names no commit"))?),
        };
        let path: Vec<String> = path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if path.iter().any(|name| matches!(name.as_str(), "." | "..")) {
            return Err(invalid("its path has . or .."));
        }
        Ok(Self { url: url.to_owned(), commit, path })
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "git+{}", super::without_secrets(&self.url))?;
        if let Some(commit) = &self.commit {
            write!(f, "#{commit}")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}:{}", if self.commit.is_none() { "#" } else { "" }, self.path.join("/"))?;
        }
        Ok(())
    }
}

impl Source {
    /// Whether what comes could be changed on its way.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.url.starts_with("http://")
    }

    /// Fetches the bundle into a file of the store's.
    ///
    /// # Errors
    /// When no commit is named (the error says which one is there now), it cannot be fetched, there is no bundle at the path
    /// or more than one, or it is too large.
    pub fn fetch(&self, store: &Store, watch: &Watch<'_>) -> Result<File> {
        // One provider of TLS for the process; where another part of it was first, that one is as good.
        _ = rustls::crypto::ring::default_provider().install_default();
        let scratch = store.scratch()?;
        let dir = scratch.dir().try_clone().map_err(Error::io("open", "bundles/tmp"))?;
        let spool = store.spool()?;
        let (source, stop) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let stops = Arc::clone(&stop);
        let (tell, told) = sync_channel(1);
        // On a thread of its own, which is left alone when it does not stop: the library waits for servers for half a minute.
        std::thread::Builder::new()
            .name("git".to_owned())
            .spawn(move || {
                let read = source.read(&dir, spool, &stops);
                // Where nobody listens any more, somebody has said why.
                _ = tell.send(read);
            })
            .map_err(Error::io("start", "a thread"))?;
        let fetched = loop {
            match told.recv_timeout(LOOK) {
                Ok(fetched) => break fetched,
                Err(RecvTimeoutError::Disconnected) => {
                    break Err(self.broken("fetch", "the library panicked".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let size = scratch.size();
            (watch.progress)(size, None);
            let over = match watch.cancelled() {
                true => Some(Error::Cancelled),
                false => (size > REPOSITORY).then(|| Error::Bundle(Refusal::TooLarge(REPOSITORY))),
            };
            if let Some(over) = over {
                stop.store(true, Ordering::Relaxed);
                _ = told.recv_timeout(PATIENCE);
                break Err(over);
            }
        };
        scratch.end()?;
        fetched
    }

    fn broken(&self, step: &'static str, reason: String) -> Error {
        Error::Fetch { step, subject: self.to_string(), reason }
    }

    fn failed<E: Into<gix::Error>>(&self, step: &'static str) -> impl FnOnce(E) -> Error + '_ {
        move |error| self.broken(step, super::causes(&error.into()))
    }

    fn read(&self, dir: &OwnedFd, spool: File, stop: &AtomicBool) -> Result<File> {
        let kind = self.commit.map_or(gix::hash::Kind::Sha1, |commit| commit.kind());
        let options = gix::create::Options {
            object_hash: Some(kind),
            fs_capabilities: Some(gix::fs::Capabilities::default()),
            ..gix::create::Options::default()
        };
        let limits = [
            format!("gitoxide.objects.allocLimit={BUNDLE}"),
            // Nobody sits at a terminal where this runs, as far as we know.
            "gitoxide.credentials.terminalPrompt=false".to_owned(),
        ];
        let open = gix::open::Options::default().config_overrides(limits);
        let repository = gix::ThreadSafeRepository::init_opts(
            linux::tree::proc_path(dir),
            gix::create::Kind::Bare,
            options,
            open,
        )
        .map_err(self.failed("prepare for"))?
        .to_thread_local();
        let remote = repository.remote_at(self.url.as_str()).map_err(self.failed("read the address of"))?;
        let remote = remote.with_fetch_tags(fetch::Tags::None);
        let Some(commit) = self.commit else { return Err(self.unpinned(remote)) };
        let wanted = format!("{commit}:refs/heads/pinned");
        let remote =
            remote.with_refspecs([wanted.as_str()], Direction::Fetch).map_err(self.failed("ask for"))?;
        let one = NonZeroU32::MIN;
        remote
            .connect(Direction::Fetch)
            .map_err(self.failed("connect to"))?
            .prepare_fetch(gix::progress::Discard, gix::remote::ref_map::Options::default())
            .map_err(self.failed("ask"))?
            .with_shallow(fetch::Shallow::DepthAtRemote(one))
            .receive(gix::progress::Discard, stop)
            .map_err(self.failed("fetch"))?;
        self.extract(&repository, commit, spool)
    }

    /// What to say to whoever names no commit: which one they mean today.
    fn unpinned(&self, remote: gix::Remote<'_>) -> Error {
        let head = (|| {
            let remote = remote.with_refspecs(["HEAD"], Direction::Fetch).ok()?;
            let connection = remote.connect(Direction::Fetch).ok()?;
            let options = gix::remote::ref_map::Options::default();
            let (map, _) = connection.ref_map(gix::progress::Discard, options).ok()?;
            let head = map.remote_refs.iter().find_map(|one| {
                let (name, target, peeled) = one.unpack();
                (name.as_bstr() == "HEAD").then(|| peeled.or(target).map(ToOwned::to_owned))?
            })?;
            Some(Self { commit: Some(head), ..self.clone() }.to_string())
        })();
        let reason = match head {
            Some(pinned) => {
                format!("it names no commit, and a branch moves: for what is there now, {pinned}")
            }
            None => "it names no commit (#<id>), and a branch moves".to_owned(),
        };
        Error::Source { place: self.to_string(), reason }
    }

    /// The one bundle at the path, into a file.
    fn extract(&self, repository: &gix::Repository, commit: gix::ObjectId, mut file: File) -> Result<File> {
        let refused = |reason: String| Error::Source { place: self.to_string(), reason };
        let mut tree = repository
            .find_object(commit)
            .and_then(gix::Object::try_into_commit)
            .and_then(|commit| commit.tree())
            .map_err(self.failed("read the commit of"))?;
        let mut found = None;
        for (depth, name) in self.path.iter().enumerate() {
            let here = self.path[..=depth].join("/");
            let entry = tree
                .iter()
                .filter_map(std::result::Result::ok)
                .find(|entry| entry.filename() == name.as_bytes().as_bstr())
                .map(|entry| (entry.mode().kind(), entry.oid().to_owned()));
            match entry {
                None => return Err(refused(format!("there is no {here}"))),
                Some((EntryKind::Tree, id)) => {
                    tree = repository.find_tree(id).map_err(self.failed("read a folder of"))?;
                }
                Some((EntryKind::Blob | EntryKind::BlobExecutable, id)) if depth + 1 == self.path.len() => {
                    found = Some(id);
                }
                Some((kind, _)) => return Err(refused(format!("{here} is a {}", word(kind)))),
            }
        }
        let id = match found {
            Some(id) => id,
            None => {
                let mut bundles: Vec<_> = tree
                    .iter()
                    .filter_map(std::result::Result::ok)
                    .filter(|entry| entry.filename().ends_with(SUFFIX.as_bytes()))
                    .filter(|entry| {
                        matches!(entry.mode().kind(), EntryKind::Blob | EntryKind::BlobExecutable)
                    })
                    .map(|entry| (entry.filename().to_string(), entry.oid().to_owned()))
                    .collect();
                match (bundles.pop(), bundles.is_empty()) {
                    (Some((_, id)), true) => id,
                    (None, _) => return Err(refused(format!("no file there ends with {SUFFIX}"))),
                    (Some((last, _)), false) => {
                        let names: Vec<String> =
                            bundles.into_iter().map(|(name, _)| name).chain([last]).collect();
                        return Err(refused(format!("there is more than one bundle: {}", names.join(", "))));
                    }
                }
            }
        };
        let size = repository.find_header(id).map_err(self.failed("look at the bundle in"))?.size();
        let most = Limits::default().compressed.min(BUNDLE);
        if size > most {
            return Err(Error::Bundle(Refusal::TooLarge(most)));
        }
        let blob = repository.find_blob(id).map_err(self.failed("read the bundle in"))?;
        file.write_all(&blob.data).and_then(|()| file.rewind()).map_err(Error::io("write", "the bundle"))?;
        Ok(file)
    }
}

fn word(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Link => "link, which is not followed",
        EntryKind::Commit => "submodule, which is not fetched",
        EntryKind::Tree => "folder",
        EntryKind::Blob | EntryKind::BlobExecutable => "file",
    }
}
