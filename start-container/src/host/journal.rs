//! Logs that go to the machine's journal, too: a reader for each, as a client that follows it would be.
//!
//! ```text
//! idle ── a stream begins, or a host starts ──▶ sends what is new ──▶ waits for more ──▶ no stream: what is left, idle
//!                                                      └── journald does not answer: again in a second
//! ```
//! How far it is stands beside the log, and is written after the lines were sent: whoever is killed in between sends them
//! again. Never in the way of who writes: a journal that is slow reads from the files later, and what has left those by
//! then is not in it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::logs::{Frame, LogStream};

use super::state::{Host, blocking};
use crate::engine::lock;
use crate::error::Result;
use crate::logs::journal::{Journal, LONGEST, Source};
use crate::logs::{self, Place, Reader};

/// After journald did not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// What is sent at once, and the pause after it where there is more: who prints without end has no more of a processor, and
/// of journald, than that.
const MOST_LINES: usize = 4096;
const MOST_BYTES: usize = 256 * 1024;
const MOMENT: Duration = Duration::from_millis(20);

/// Those that are sent just now.
#[derive(Debug, Default)]
pub(super) struct Journalled(Mutex<HashSet<String>>);

/// Sends what is kept of a subcontainer from now on, and what of that was not sent yet, if that was asked for.
pub(super) fn begin(host: &Arc<Host>, guid: &str) {
    let Some(place) = logs::journalled(host.machine.data_dir(), guid) else { return };
    if !lock(&host.journalled.0).insert(guid.to_owned()) {
        // That one goes on with it.
        return;
    }
    let (host, guid) = (Arc::clone(host), guid.to_owned());
    tokio::spawn(async move { send(host, guid, place).await });
}

/// Goes on with what an earlier host has sent.
pub(super) fn resume(host: &Arc<Host>) -> Result<()> {
    for guid in logs::guids(host.machine.data_dir())? {
        begin(host, &guid);
    }
    Ok(())
}

/// What is on its way.
struct Sending {
    reader: Reader,
    /// Ends of what was read that are no whole lines yet, with the head of their first byte.
    rest: HashMap<(u32, LogStream), (Frame, Vec<u8>)>,
    /// Everything before it was sent.
    sent: Place,
    journal: Option<Journal>,
    source: Source,
}

async fn send(host: Arc<Host>, guid: String, place: Place) {
    let (worker, id) = (Arc::clone(&host), guid.clone());
    let opened = blocking(move || {
        let rootfs = worker.machine.rootfs(&id)?;
        let name = rootfs.name().unwrap_or(&id[..12]).to_owned();
        let reader = Reader::open_at(worker.machine.data_dir(), &id, place)?;
        let source = Source { guid: id, name };
        Ok(Sending { reader, rest: HashMap::new(), sent: place, journal: None, source })
    });
    let mut sending = match opened.await {
        Ok(sending) => sending,
        Err(failure) => {
            tracing::error!("{}", failure.sentence());
            lock(&host.journalled.0).remove(&guid);
            return;
        }
    };
    let mut complained = false;
    loop {
        // Before the look: what comes after it is told.
        let growing = host.logs.follow(&guid);
        let (last, worker) = (growing.is_none(), Arc::clone(&host));
        let result;
        match blocking(move || Ok(sending.catch_up(&worker, last))).await {
            Ok(sent) => (sending, result) = sent,
            Err(failure) => {
                tracing::error!("{}", failure.sentence());
                lock(&host.journalled.0).remove(&guid);
                return;
            }
        }
        if let Err(failure) = &result {
            if logs::journalled(host.machine.data_dir(), &guid).is_none() {
                lock(&host.journalled.0).remove(&guid);
                return;
            }
            if !std::mem::replace(&mut complained, true) {
                tracing::warn!("{}: the log of {guid} is sent later", failure.sentence());
            }
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        complained = false;
        if let Ok(true) = result {
            tokio::time::sleep(MOMENT).await;
            continue;
        }
        if let Some(mut growing) = growing {
            // The end is a change, too: one last look.
            let _more_or_over = growing.changed().await;
            continue;
        }
        let mut all = lock(&host.journalled.0);
        // Whoever begins to keep a stream now looks here afterwards.
        if host.logs.follow(&guid).is_none() {
            all.remove(&guid);
            return;
        }
    }
}

impl Sending {
    /// Sends what is there, up to a bound, and says whether there may be more. `last`: also what is no whole line, since
    /// nobody will end it.
    fn catch_up(mut self, host: &Host, last: bool) -> (Self, Result<bool>) {
        let result = self.send_all(last);
        let data_dir = host.machine.data_dir();
        // Nobody wants it any more, or it is gone.
        if logs::journalled(data_dir, &self.source.guid).is_some_and(|place| place != self.sent)
            && let Err(failure) = logs::set_journalled(data_dir, &self.source.guid, Some(self.sent))
        {
            tracing::warn!("{}: a host that is killed sends some lines twice", failure.sentence());
        }
        if result.is_err() {
            // From the last place that is known.
            self.rest.clear();
            self.journal = None;
            match Reader::open_at(data_dir, &self.source.guid, self.sent) {
                Ok(reader) => self.reader = reader,
                Err(failure) => return (self, Err(failure)),
            }
        }
        (self, result)
    }

    fn send_all(&mut self, last: bool) -> Result<bool> {
        let mut bytes = Vec::new();
        let (mut lines, mut size) = (0, 0);
        while let Some(frame) = self.reader.next(&mut bytes)? {
            self.take(frame, &bytes)?;
            if self.rest.is_empty() {
                self.sent = self.reader.place().unwrap_or(self.sent);
            }
            lines += bytes.iter().filter(|byte| **byte == b'\n').count();
            size += bytes.len();
            if lines > MOST_LINES || size > MOST_BYTES {
                return Ok(true);
            }
        }
        if last {
            for (_, (frame, line)) in std::mem::take(&mut self.rest) {
                self.line(&frame, &line, false)?;
            }
            self.sent = self.reader.place().unwrap_or(self.sent);
        }
        Ok(false)
    }

    fn take(&mut self, frame: Frame, bytes: &[u8]) -> Result<()> {
        let source = (frame.pid, frame.stream);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (first, mut line) = self.rest.remove(&source).unwrap_or((frame, Vec::new()));
            line.extend_from_slice(part);
            let whole = line.pop_if(|byte| *byte == b'\n').is_some();
            while line.len() > LONGEST {
                let after = line.split_off(LONGEST);
                self.line(&first, &line, true)?;
                line = after;
            }
            if whole {
                self.line(&first, &line, false)?;
            } else if !line.is_empty() {
                self.rest.insert(source, (first, line));
            }
        }
        Ok(())
    }

    fn line(&mut self, frame: &Frame, line: &[u8], part: bool) -> Result<()> {
        let journal = match &mut self.journal {
            Some(journal) => journal,
            none => none.insert(Journal::open()?),
        };
        journal.send(&self.source, frame, line, part)
    }
}
