//! The connection to a worker: its standard input and output, which nobody else has.
//!
//! Owns both ends, and the calls that have no answer yet. What comes from there is a stranger's: a line that is too long, no
//! message, or nobody's answer ends the connection. Never waits for an answer longer than the caller says.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use protocol::worker::{
    MAX_WORKER_LINE, MOST_TOLD, ModuleTold, ToldHealth, ToldInterface, ToldTask, WorkerFault,
    WorkerReadyParams,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use crate::engine::lock;

/// Calls without an answer; a further one is refused.
const MOST_CALLS: usize = 64;
/// The longest part of a stack or message that is kept.
const LONGEST_TEXT: usize = 8192;

/// The longest line of what a module tells that is kept.
const LONGEST_LINE: usize = 256;
/// A worker may tell so often of its modules, in so long.
const MOST_TELLINGS: u32 = 200;
const TELLING: Duration = Duration::from_secs(10);

/// What a worker says without being asked.
#[derive(Debug)]
pub(super) enum Heard {
    /// It waits for modules. Which runtime it is.
    Ready(String),
    /// It ends by an error of its own.
    Failed(WorkerFault),
    /// It says what is no message. Why.
    Nonsense(String),
}

/// Why there is no result.
#[derive(Debug)]
pub(super) enum NoResult {
    /// It has thrown.
    Thrown(WorkerFault),
    /// Nothing came in time.
    Late,
    /// The worker has ended.
    Gone,
    /// Too many calls wait already.
    TooMany,
}

/// None: nobody waits for it any more. Each is answered once: whoever answers without being asked could go on for ever.
type Waiting = HashMap<u64, Option<oneshot::Sender<Result<Box<RawValue>, WorkerFault>>>>;

/// The host's end.
pub(super) struct Link {
    writer: tokio::sync::Mutex<Option<pipe::Sender>>,
    /// None: nobody will answer any more.
    calls: Arc<Mutex<Option<Waiting>>>,
    next: Mutex<u64>,
}

#[derive(Serialize)]
struct Request<'a, P> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    params: P,
}

/// Any message of a worker.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    #[serde(rename = "jsonrpc")]
    _jsonrpc: String,
    id: Option<u64>,
    method: Option<String>,
    params: Option<Value>,
    result: Option<Box<RawValue>>,
    error: Option<Thrown>,
}

#[derive(Deserialize)]
struct Thrown {
    message: String,
    data: Option<WorkerFault>,
}

impl Link {
    /// Begins to listen. What is heard comes from the receiver, which ends with the worker's output.
    ///
    /// `tells`: takes what a module tells of itself, unless it is none of this worker's.
    pub(super) fn new(
        stdin: OwnedFd,
        stdout: OwnedFd,
        tells: impl Fn(ModuleTold) -> bool + Send + 'static,
    ) -> std::io::Result<(Arc<Self>, mpsc::Receiver<Heard>)> {
        let writer = tokio::sync::Mutex::new(Some(pipe::Sender::from_owned_fd(stdin)?));
        let reader = BufReader::new(pipe::Receiver::from_owned_fd(stdout)?);
        let calls = Arc::new(Mutex::new(Some(HashMap::new())));
        let (heard, hears) = mpsc::channel(4);
        tokio::spawn(read(reader, Arc::clone(&calls), heard, tells));
        Ok((Arc::new(Self { writer, calls, next: Mutex::new(1) }), hears))
    }

    /// Calls, and waits for the answer as long as this.
    pub(super) async fn call<R: DeserializeOwned>(
        &self,
        method: &str,
        params: impl Serialize,
        patience: Duration,
    ) -> Result<R, NoResult> {
        let id = {
            let mut next = lock(&self.next);
            *next += 1;
            *next
        };
        let (answer, answered) = oneshot::channel();
        match &mut *lock(&self.calls) {
            None => return Err(NoResult::Gone),
            Some(calls) if calls.len() >= MOST_CALLS => return Err(NoResult::TooMany),
            Some(calls) => calls.insert(id, Some(answer)),
        };
        let _forgotten = Forget { link: self, id };
        let asked = async {
            let mut line = serde_json::to_vec(&Request { jsonrpc: "2.0", id, method, params })
                .map_err(|_not_json| NoResult::Gone)?;
            line.push(b'\n');
            self.write(&line).await?;
            answered.await.map_err(|_closed| NoResult::Gone)
        };
        match tokio::time::timeout(patience, asked).await {
            Err(_) => Err(NoResult::Late),
            Ok(Err(none)) => Err(none),
            Ok(Ok(Err(fault))) => Err(NoResult::Thrown(fault)),
            Ok(Ok(Ok(result))) => serde_json::from_str(result.get()).map_err(|error| {
                let message = format!("{method} was answered with something else: {error}");
                NoResult::Thrown(WorkerFault { message, stack: None })
            }),
        }
    }

    async fn write(&self, line: &[u8]) -> Result<(), NoResult> {
        let mut writer = self.writer.lock().await;
        // Half a line may be written when the caller's patience ends: nothing can follow it.
        let Some(mut pipe) = writer.take() else { return Err(NoResult::Gone) };
        pipe.write_all(line).await.map_err(|_closed| NoResult::Gone)?;
        *writer = Some(pipe);
        Ok(())
    }

    /// Ends its input: there is nothing more to do.
    pub(super) async fn hang_up(&self) {
        self.writer.lock().await.take();
    }
}

/// A call that nobody waits for any more.
struct Forget<'a> {
    link: &'a Link,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(waits) = lock(&self.link.calls).as_mut().and_then(|calls| calls.get_mut(&self.id)) {
            *waits = None;
        }
    }
}

async fn read(
    mut reader: BufReader<pipe::Receiver>,
    calls: Arc<Mutex<Option<Waiting>>>,
    heard: mpsc::Sender<Heard>,
    tells: impl Fn(ModuleTold) -> bool,
) {
    let mut line = Vec::new();
    let (mut many, mut since) = (0, Instant::now());
    loop {
        line.clear();
        let mut limited = (&mut reader).take(MAX_WORKER_LINE as u64 + 1);
        if !matches!(limited.read_until(b'\n', &mut line).await, Ok(1..)) {
            break;
        }
        let told = match understand(&line) {
            Ok(Said::Answer(id, answer)) => {
                match lock(&calls).as_mut().and_then(|calls| calls.remove(&id)) {
                    Some(waits) => {
                        // It may have given up.
                        _ = waits.map(|waits| waits.send(answer));
                        continue;
                    }
                    None => Heard::Nonsense("an answer to what nobody has asked".to_owned()),
                }
            }
            Ok(Said::Told(told)) => {
                if since.elapsed() > TELLING {
                    (many, since) = (0, Instant::now());
                }
                many += 1;
                if many <= MOST_TELLINGS && tells(told) {
                    continue;
                }
                let why =
                    if many > MOST_TELLINGS { "it tells of itself all the time" } else { "no module of it" };
                Heard::Nonsense(why.to_owned())
            }
            Ok(Said::Unasked(said)) => said,
            Err(why) => Heard::Nonsense(clean(why)),
        };
        let last = matches!(told, Heard::Nonsense(_));
        if heard.send(told).await.is_err() || last {
            break;
        }
    }
    // Those that wait hear that it is gone.
    lock(&calls).take();
}

enum Said {
    Answer(u64, Result<Box<RawValue>, WorkerFault>),
    Told(ModuleTold),
    Unasked(Heard),
}

fn understand(line: &[u8]) -> Result<Said, String> {
    let whole = line.strip_suffix(b"\n").ok_or_else(|| {
        if line.len() > MAX_WORKER_LINE {
            format!("a line is longer than {MAX_WORKER_LINE} bytes")
        } else {
            "its last line is not whole".to_owned()
        }
    })?;
    let message: Message =
        serde_json::from_slice(whole).map_err(|error| format!("a line is no message: {error}"))?;
    let bad = |error: serde_json::Error| format!("a message is not as it must be: {error}");
    match message {
        Message { id: Some(id), method: None, params: None, result: Some(result), error: None, .. } => {
            Ok(Said::Answer(id, Ok(result)))
        }
        Message { id: Some(id), method: None, params: None, result: None, error: Some(thrown), .. } => {
            let fault = thrown.data.unwrap_or(WorkerFault { message: thrown.message, stack: None });
            Ok(Said::Answer(id, Err(bounded(fault))))
        }
        Message {
            id: None, method: Some(method), params: Some(params), result: None, error: None, ..
        } => match method.as_str() {
            "ready" => {
                let WorkerReadyParams { runtime } = serde_json::from_value(params).map_err(bad)?;
                Ok(Said::Unasked(Heard::Ready(runtime)))
            }
            "told" => Ok(Said::Told(cut(serde_json::from_value(params).map_err(bad)?)?)),
            "failed" => {
                let fault = serde_json::from_value(params).map_err(bad)?;
                Ok(Said::Unasked(Heard::Failed(bounded(fault))))
            }
            _ => Err(format!("there is no message {}", shortened(method, 100))),
        },
        _ => Err("a message is neither an answer nor a notification".to_owned()),
    }
}

/// What a module tells, as people may be shown it: lines.
fn cut(told: ModuleTold) -> Result<ModuleTold, String> {
    let most = told.interfaces.len().max(told.tasks.len()).max(told.health.len());
    if most > MOST_TOLD {
        return Err(format!("a module tells of {most} things, not {MOST_TOLD} at most"));
    }
    let line = |text: String| shortened(clean(text).replace('\n', " "), LONGEST_LINE);
    let interface = |one: ToldInterface| ToldInterface {
        id: line(one.id),
        name: line(one.name),
        kind: one.kind,
        address: line(one.address),
    };
    let task = |one: ToldTask| ToldTask {
        action: line(one.action),
        severity: one.severity,
        reason: one.reason.map(line),
    };
    let health = |one: ToldHealth| ToldHealth {
        id: line(one.id),
        name: line(one.name),
        result: one.result,
        message: one.message.map(line),
    };
    Ok(ModuleTold {
        module: told.module,
        interfaces: told.interfaces.into_iter().map(interface).collect(),
        tasks: told.tasks.into_iter().map(task).collect(),
        health: told.health.into_iter().map(health).collect(),
    })
}

fn bounded(fault: WorkerFault) -> WorkerFault {
    WorkerFault { message: clean(fault.message), stack: fault.stack.map(clean) }
}

/// A stranger's text, for people: not too long, and nothing in it moves a cursor.
fn clean(text: String) -> String {
    let plain = |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
    shortened(text.chars().map(plain).collect(), LONGEST_TEXT)
}

/// The first bytes of a text, so many at most.
pub(super) fn shortened(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why_not(line: &str) -> String {
        match understand(line.as_bytes()) {
            Err(why) => why,
            Ok(_) => panic!("understood: {line}"),
        }
    }

    #[test]
    fn j2_what_is_no_message_is_not_understood() {
        assert!(why_not("hello\n").starts_with("a line is no message"));
        assert_eq!(why_not("{\"jsonrpc\":\"2.0\""), "its last line is not whole");
        assert!(why_not(&"x".repeat(MAX_WORKER_LINE + 1)).contains("longer"));
        let neither = "a message is neither an answer nor a notification";
        assert_eq!(why_not("{\"jsonrpc\":\"2.0\",\"id\":1}\n"), neither);
        assert_eq!(why_not("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ready\",\"params\":{}}\n"), neither);
        assert_eq!(
            why_not("{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":{}}\n"),
            "there is no message x"
        );
        assert!(
            why_not("{\"jsonrpc\":\"2.0\",\"method\":\"ready\",\"params\":{\"package\":\"other\"}}\n")
                .contains("unknown field")
        );
    }

    #[test]
    fn j2_what_a_worker_says_moves_no_cursor() {
        let line =
            "{\"jsonrpc\":\"2.0\",\"method\":\"failed\",\"params\":{\"message\":\"a\\u001b[2Jb\\nc\"}}\n";
        let Ok(Said::Unasked(Heard::Failed(fault))) = understand(line.as_bytes()) else {
            panic!("not understood")
        };
        assert_eq!(fault.message, "a\u{fffd}[2Jb\nc");
    }

    #[test]
    fn j2_what_a_module_tells_is_lines_and_not_too_many() {
        let task =
            |reason: &str| format!(r#"{{"action":"a\u001b[2J","severity":"critical","reason":"{reason}"}}"#);
        let told = |tasks: &str| {
            format!(r#"{{"jsonrpc":"2.0","method":"told","params":{{"module":"main","tasks":[{tasks}]}}}}"#)
                + "\n"
        };
        let line = told(&task(&format!("one\\ntwo {}", "é".repeat(LONGEST_LINE))));
        let Ok(Said::Told(known)) = understand(line.as_bytes()) else { panic!("not understood") };
        let reason = known.tasks[0].reason.as_deref().unwrap();
        assert!(reason.starts_with("one two é") && reason.len() <= LONGEST_LINE + 3, "{reason}");
        assert_eq!(known.tasks[0].action, "a\u{fffd}[2J");
        let many = told(&vec![task("x"); MOST_TOLD + 1].join(","));
        assert_eq!(why_not(&many), "a module tells of 65 things, not 64 at most");
        let other = told(r#"{"action":"a","severity":"fatal"}"#);
        assert!(why_not(&other).contains("unknown variant `fatal`"));
    }

    #[test]
    fn j2_what_a_worker_says_of_an_error_is_bounded() {
        let long = "é".repeat(LONGEST_TEXT);
        let line = format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"failed\",\"params\":{{\"message\":\"{long}\",\"stack\":\"{long}\"}}}}\n"
        );
        let Ok(Said::Unasked(Heard::Failed(fault))) = understand(line.as_bytes()) else {
            panic!("not understood")
        };
        assert!(fault.message.len() <= LONGEST_TEXT + 3 && fault.message.ends_with('…'));
        assert!(fault.stack.unwrap().len() <= LONGEST_TEXT + 3);
    }
}
