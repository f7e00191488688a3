//! What has happened, as far as it is kept.
//!
//! ```text
//! DATA_DIR/events/new.jsonl      an event a line, written by the host, and by nobody else
//! DATA_DIR/events/old.jsonl      what was new before that had a megabyte
//! ```
//! A line is one write: whoever is killed leaves it whole or not at all, and half a line after a full disk or a failed
//! machine is passed over. What cannot be written is still told to who listens.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use protocol::session::{Event, EventKind, EventsParams};
use protocol::subcontainer::HealthInfo;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Failure, Result};
use crate::subcontainer::now;

/// Bytes of a file, after which the next one begins.
const ENOUGH: u64 = 1_000_000;

/// A longer event is not kept.
const LONGEST: usize = 64 * 1024;

/// The one who writes.
#[derive(Debug)]
pub(crate) struct Ring {
    dir: PathBuf,
    /// None until the first event, or when it could not be opened.
    file: Option<OwnedFd>,
    size: u64,
    next: u64,
    complained: bool,
}

impl Ring {
    /// Goes on with what there is.
    pub(crate) fn open(data_dir: &Path) -> Self {
        let dir = data_dir.join("events");
        let last = ["new.jsonl", "old.jsonl"].iter().find_map(|name| {
            let mut last = None;
            let _unreadable = each(&dir.join(name), |event| last = Some(event.id));
            last
        });
        Self { dir, file: None, size: 0, next: last.unwrap_or(0) + 1, complained: false }
    }

    /// How many there were, ever.
    pub(crate) fn count(&self) -> u64 {
        self.next - 1
    }

    /// Gives an event its number and its time, and keeps it.
    pub(crate) fn add(&mut self, guid: &str, what: EventKind) -> Event {
        let event = Event { id: self.next, time: now(), guid: guid.to_owned(), what };
        self.next += 1;
        if let Err(errno) = self.keep(&event) {
            if !std::mem::replace(&mut self.complained, true) {
                tracing::warn!("events are not kept: write {}: {errno}", self.dir.display());
            }
            self.file = None;
        }
        event
    }

    fn keep(&mut self, event: &Event) -> std::result::Result<(), Errno> {
        let Ok(mut line) = serde_json::to_vec(event) else { return Ok(()) };
        if line.len() > LONGEST {
            return Ok(());
        }
        if self.size > ENOUGH {
            self.file = None;
            rustix::fs::rename(self.dir.join("new.jsonl"), self.dir.join("old.jsonl"))?;
        }
        if self.file.is_none() {
            match rustix::fs::mkdir(&self.dir, Mode::from(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = rustix::fs::open(self.dir.join("new.jsonl"), flags, Mode::from(0o600))?;
            self.size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
            self.file = Some(file);
            if self.size > 0 {
                // What was written last may be half a line.
                line.insert(0, b'\n');
            }
        }
        line.push(b'\n');
        let Some(file) = &self.file else { return Ok(()) };
        match rustix::io::write(file, &line)? {
            written if written == line.len() => {
                self.size += line.len() as u64;
                self.complained = false;
                Ok(())
            }
            _ => Err(Errno::NOSPC),
        }
    }
}

/// Those that are kept, oldest first.
pub(crate) fn list(data_dir: &Path, which: &EventsParams) -> Result<Vec<Event>> {
    let mut events: Vec<Event> = Vec::new();
    for name in ["old.jsonl", "new.jsonl"] {
        let path = data_dir.join("events").join(name);
        each(&path, |event| {
            if wanted(&event, which) {
                events.push(event);
            }
        })
        .map_err(|error| Failure::new(protocol::ErrorKind::Kernel, "read", path.display()).because(error))?;
    }
    // The files may have been changed for one another between the two looks.
    events.dedup_by_key(|event| event.id);
    Ok(events)
}

/// How what runs is, as those have said last who look after it.
#[derive(Debug, Default)]
pub(crate) struct Healths(HashMap<String, BTreeMap<String, HealthInfo>>);

/// Names that are known of one subcontainer.
const MOST_NAMES: usize = 256;

impl Healths {
    /// By the events that are kept.
    pub(crate) fn read(data_dir: &Path) -> Self {
        let mut all = Self::default();
        // Of what cannot be read, nothing is known.
        for event in list(data_dir, &EventsParams::default()).unwrap_or_default() {
            all.hear(&event);
        }
        all
    }

    /// Something has happened. What was said of a leader that has ended is not said of the next one.
    pub(crate) fn hear(&mut self, event: &Event) {
        match &event.what {
            EventKind::Launched { .. } | EventKind::Exited { .. } | EventKind::Destroyed => {
                self.0.remove(&event.guid);
            }
            EventKind::Health { name, status, message } => {
                let names = self.0.entry(event.guid.clone()).or_default();
                if names.len() < MOST_NAMES || names.contains_key(name) {
                    let (name, status, message) = (name.clone(), *status, message.clone());
                    names.insert(name.clone(), HealthInfo { name, status, message, time: event.time });
                }
            }
            _ => {}
        }
    }

    pub(crate) fn of(&self, guid: &str) -> Vec<HealthInfo> {
        self.0.get(guid).into_iter().flat_map(|names| names.values().cloned()).collect()
    }
}

/// Whether an event was asked for.
pub(crate) fn wanted(event: &Event, which: &EventsParams) -> bool {
    which.guid.as_ref().is_none_or(|guid| *guid == event.guid)
        && which.since.is_none_or(|since| event.time >= since)
}

fn each(path: &Path, mut with: impl FnMut(Event)) -> std::io::Result<()> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for line in BufReader::new(file).split(b'\n') {
        if let Ok(event) = serde_json::from_slice(&line?) {
            with(event);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s28_events_are_kept_within_bounds_and_numbered_across_restarts() {
        let dir = std::env::temp_dir().join(format!("start-container-events-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let mut ring = Ring::open(&dir);
        let all = EventsParams::default();
        assert_eq!((ring.add("a", EventKind::Destroyed).id, list(&dir, &all).unwrap().len()), (1, 1));
        // Half a line, as a full disk leaves it.
        let new = dir.join("events/new.jsonl");
        let mut text = std::fs::read(&new).unwrap();
        text.extend_from_slice(b"{\"id\":77");
        std::fs::write(&new, &text).unwrap();
        let mut ring = Ring::open(&dir);
        for _ in 0..30_000 {
            ring.add("b", EventKind::Mounted { mountpoint: "/somewhere/inside/it".into() });
        }
        let events = list(&dir, &all).unwrap();
        assert_eq!(events.last().unwrap().id, 30_001);
        assert!(events.windows(2).all(|pair| pair[0].id + 1 == pair[1].id), "none is missing in between");
        let size: u64 = ["new.jsonl", "old.jsonl"]
            .iter()
            .map(|name| std::fs::metadata(dir.join("events").join(name)).unwrap().len())
            .sum();
        assert!((ENOUGH..2 * ENOUGH + 1000).contains(&size), "{size} bytes");
        let last = EventsParams { guid: Some("b".into()), since: events.last().map(|event| event.time) };
        assert!(list(&dir, &last).unwrap().len() < events.len());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
