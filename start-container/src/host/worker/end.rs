//! How a worker ends, in words for the operator.

use std::path::Path;
use std::time::Duration;

use protocol::logs::{LogStream, LogsParams};
use protocol::process::Outcome;
use protocol::worker::{WorkerEnd, WorkerFault};

use super::link::shortened;
use crate::logs::{Reader, Select};
use crate::subcontainer::now;

/// Why it ends.
#[derive(Debug)]
pub(super) enum End {
    /// It was asked to.
    Asked,
    /// It could not be started, or not prepared. A sentence of ours.
    NotStarted(String),
    /// Its code has thrown, where that was called from the host: what was being done.
    Thrown(String, WorkerFault),
    /// Its code has thrown, and nobody has caught it.
    Uncaught(WorkerFault),
    /// No answer: what was being done, and for how long.
    Late(String, Duration),
    /// It says what is no message. Why.
    Nonsense(String),
    /// It has ended by itself, or its output has.
    Gone,
}

/// The longest last words that are repeated.
const LAST_WORDS: usize = 400;

impl End {
    /// What is told of it. `outcome`: how its process has ended; `words`: what it wrote last to its standard error.
    pub(super) fn tell(&self, outcome: &Outcome, words: &str, limit: u64) -> Option<WorkerEnd> {
        let (reason, stack) = match self {
            Self::Asked => return None,
            Self::NotStarted(why) => (why.clone(), None),
            Self::Thrown(what, fault) => (format!("{what}: {}", fault.message), fault.stack.clone()),
            Self::Uncaught(fault) => {
                (format!("an error that nobody has caught: {}", fault.message), fault.stack.clone())
            }
            Self::Late(what, patience) => (
                format!(
                    "{what} did not come to its end within {}: a loop without end, or a promise that nobody settles",
                    seconds(*patience)
                ),
                None,
            ),
            Self::Nonsense(why) => {
                (format!("it wrote to the standard output, which is the host's: {why}"), None)
            }
            Self::Gone => (gone(outcome, words, limit), None),
        };
        Some(WorkerEnd { time: now(), reason, stack })
    }
}

fn gone(outcome: &Outcome, words: &str, limit: u64) -> String {
    // V8 says so before it ends the process, by a signal of its own choice.
    if ["heap out of memory", "JavaScript out of memory", "heap limit"]
        .iter()
        .any(|said| words.contains(said))
    {
        return "its JavaScript heap is full".to_owned();
    }
    let how = match outcome {
        Outcome::OutOfMemory => {
            let limit = limit / (1 << 20);
            return format!(
                "out of memory: the kernel has ended it, at the limit of its package ({limit} MiB)"
            );
        }
        Outcome::Exit { code: 0 } => "it has ended by itself".to_owned(),
        Outcome::Exit { code } if *code > 128 => {
            let signal = linux::signal::Signal::from_raw(code - 128);
            signal.map_or_else(
                || format!("it has ended with code {code}"),
                |signal| format!("{signal} has ended it"),
            )
        }
        Outcome::Exit { code } => format!("it has ended by itself, with code {code}"),
        Outcome::Signal { signal, .. } => format!("{signal} has ended it"),
        Outcome::Timeout | Outcome::Abort | Outcome::Unknown => "it has ended".to_owned(),
    };
    let last = words.trim();
    if last.is_empty() { how } else { format!("{how}; it wrote: {}", shortened(last.to_owned(), LAST_WORDS)) }
}

/// As a person says it.
pub(super) fn seconds(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// The last lines of a subcontainer's standard error, since a time in milliseconds. Empty where they cannot be read: they are
/// only for people.
pub(super) fn last_words(data_dir: &Path, guid: &str, since: u64) -> String {
    let params = LogsParams {
        guid: guid.to_owned(),
        since: Some(since),
        tail: Some(12),
        stream: Some(LogStream::Stderr),
        ..LogsParams::default()
    };
    let mut text = Vec::new();
    if let Ok(mut reader) = Reader::open(data_dir, guid, Select::of(&params), false) {
        let mut chunk = Vec::new();
        while let Ok(Some(_)) = reader.next(&mut chunk) {
            text.extend_from_slice(&chunk);
            if text.len() > 1 << 16 {
                break;
            }
        }
    }
    // Of a stranger's: nothing of it may move a cursor.
    String::from_utf8_lossy(&text).chars().filter(|c| !c.is_control() || *c == '\n').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j1_each_end_is_told_in_words() {
        let fault = || WorkerFault { message: "TypeError: no".into(), stack: Some("at a.ts:1:2".into()) };
        let signal = Outcome::Signal { signal: "SIGKILL".into(), number: 9 };
        let told = |end: End, outcome: Outcome, words: &str| {
            end.tell(&outcome, words, 64 << 20).map(|end| end.reason)
        };
        let all = [
            told(End::Asked, Outcome::Exit { code: 0 }, ""),
            told(End::Thrown("init of main".into(), fault()), signal.clone(), ""),
            told(End::Uncaught(fault()), signal.clone(), ""),
            told(End::Late("init of main".into(), Duration::from_millis(1500)), signal.clone(), ""),
            told(End::Nonsense("a line is no message".into()), signal.clone(), ""),
            told(End::Gone, Outcome::Exit { code: 3 }, "last\nwords\n"),
            told(End::Gone, Outcome::Exit { code: 143 }, ""),
            told(End::Gone, Outcome::OutOfMemory, ""),
            told(End::Gone, signal, "# Fatal JavaScript out of memory: Reached heap limit"),
        ];
        let all: Vec<String> = all.into_iter().map(Option::unwrap_or_default).collect();
        assert_eq!(
            all,
            [
                "",
                "init of main: TypeError: no",
                "an error that nobody has caught: TypeError: no",
                "init of main did not come to its end within 1.5 s: a loop without end, or a promise that nobody settles",
                "it wrote to the standard output, which is the host's: a line is no message",
                "it has ended by itself, with code 3; it wrote: last\nwords",
                "SIGTERM has ended it",
                "out of memory: the kernel has ended it, at the limit of its package (64 MiB)",
                "its JavaScript heap is full",
            ]
        );
    }
}
