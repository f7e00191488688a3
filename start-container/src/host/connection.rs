//! One client's connection: lines in, lines out, and what belongs to it.
//!
//! ```text
//! new ──hello──▶ open ──any number of requests──▶ closed: requests cancelled, owned things destroyed
//!  └──stream.attach──▶ bytes until either side closes
//! ```
//! Requests run side by side and are answered as they finish. A line that is no JSON-RPC is answered with an error;
//! a line that is too long, or bytes that are no UTF-8, end the connection.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use jsonrpsee_core::server::{ConnectionId, Extensions, MethodCallback, MethodResponse, Methods};
use jsonrpsee_types::{ErrorObject, Id, Params};
use protocol::error::{REQUEST_CANCELLED, REQUEST_FAILED};
use protocol::session::{AttachStreamParams, CancelParams, HelloParams, HelloResult, ProgressParams};
use protocol::{ErrorKind, MAX_LINE, PROTOCOL_VERSION};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Semaphore, watch};

use super::state::{Host, Owned, lock};
use super::streams;
use crate::error::{Failure, Result};

/// Requests under way on one connection; a further one is refused.
const MAX_IN_FLIGHT: usize = 1024;

/// A connection, as the methods see it.
pub(super) struct Connection {
    pub(super) id: u64,
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    /// What ends with it. `None` once it has ended.
    owned: Mutex<Option<Owned>>,
    /// Held by whoever ends what it owned: the second one waits for the first.
    pub(super) closing: tokio::sync::Mutex<()>,
    /// By a number of ours: a client's id may be a string, and it may use one twice.
    requests: Mutex<HashMap<u64, Request>>,
}

/// A request under way, as the connection sees it.
struct Request {
    id: Id<'static>,
    cancel: watch::Sender<bool>,
}

/// One request, as its method sees it.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) connection: Arc<Connection>,
    /// `None` for an id that is no number: it cannot be told of progress.
    pub(super) id: Option<u64>,
    /// Becomes true when the client does not want the answer any more.
    pub(super) cancelled: watch::Receiver<bool>,
}

impl Call {
    /// Ends when the request is cancelled; never otherwise.
    pub(super) async fn cancelled(&self) {
        let mut flag = self.cancelled.clone();
        if flag.wait_for(|cancelled| *cancelled).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Connection {
    /// Takes ownership. False when the connection has ended by now.
    pub(super) fn own(&self, guid: &str) -> bool {
        lock(&self.owned).as_mut().map(|(guids, _)| guids.insert(guid.to_owned())).is_some()
    }

    /// As [`Connection::own`], for a process.
    pub(super) fn own_process(&self, id: &str) -> bool {
        lock(&self.owned).as_mut().map(|(_, processes)| processes.insert(id.to_owned())).is_some()
    }

    pub(super) fn disown(&self, guid: &str) {
        if let Some((guids, _)) = lock(&self.owned).as_mut() {
            guids.remove(guid);
        }
    }

    pub(super) fn disown_process(&self, id: &str) {
        if let Some((_, processes)) = lock(&self.owned).as_mut() {
            processes.remove(id);
        }
    }

    pub(super) fn owns(&self, guid: &str) -> bool {
        lock(&self.owned).as_ref().is_some_and(|(guids, _)| guids.contains(guid))
    }

    /// Nothing can be owned any more; every request is cancelled. Returns what was owned.
    pub(super) fn close(&self) -> Owned {
        for request in lock(&self.requests).values() {
            request.cancel.send_replace(true);
        }
        lock(&self.owned).take().unwrap_or_default()
    }

    /// Sends one message. A client that is gone is noticed by the reader.
    pub(super) async fn send(&self, message: &str) {
        let mut line = Vec::with_capacity(message.len() + 1);
        line.extend_from_slice(message.as_bytes());
        line.push(b'\n');
        let _gone = self.writer.lock().await.write_all(&line).await;
    }

    /// Sends a notification.
    pub(super) async fn notify(&self, method: &str, params: &impl serde::Serialize) {
        let message = serde_json::json!({ "jsonrpc": "2.0", "method": method, "params": params });
        self.send(&message.to_string()).await;
    }

    pub(super) async fn progress(&self, params: &ProgressParams) {
        self.notify("$/progress", params).await;
    }
}

/// A message from a client.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    jsonrpc: Option<&'a str>,
    #[serde(borrow)]
    id: Option<Id<'a>>,
    #[serde(borrow)]
    method: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

impl Message<'_> {
    fn params<T: serde::de::DeserializeOwned>(&self) -> std::result::Result<T, ErrorObject<'static>> {
        serde_json::from_str(self.params.map_or("{}", RawValue::get)).map_err(|error| invalid_params(&error))
    }
}

/// Serves one client until it goes.
pub(super) async fn serve(host: Arc<Host>, methods: Arc<Methods>, stream: UnixStream) {
    let (read, write) = stream.into_split();
    let connection = Arc::new(Connection {
        id: host.number(),
        writer: tokio::sync::Mutex::new(write),
        owned: Mutex::new(Some((HashSet::new(), HashSet::new()))),
        closing: tokio::sync::Mutex::default(),
        requests: Mutex::default(),
    });
    host.add_connection(&connection);
    let mut reader = BufReader::with_capacity(64 * 1024, read);
    let mut line = Vec::new();
    let mut greeted = false;
    let slots = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let attached = loop {
        line.clear();
        match (&mut reader).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => break None,
            Ok(_) => {}
        }
        if line.last() != Some(&b'\n') {
            if line.len() > MAX_LINE {
                let text = format!("a line is longer than {MAX_LINE} bytes");
                connection.send(&error(Id::Null, ErrorObject::owned(-32600, text, None::<()>))).await;
            }
            break None;
        }
        line.pop();
        let Ok(text) = std::str::from_utf8(&line) else {
            connection.send(&error(Id::Null, ErrorObject::owned(-32700, "not UTF-8", None::<()>))).await;
            break None;
        };
        if text.trim().is_empty() {
            continue;
        }
        let message: Message<'_> = match serde_json::from_str(text) {
            Ok(message) => message,
            Err(problem) => {
                let code = if problem.is_data() { -32600 } else { -32700 };
                connection
                    .send(&error(Id::Null, ErrorObject::owned(code, problem.to_string(), None::<()>)))
                    .await;
                continue;
            }
        };
        if message.jsonrpc != Some("2.0") {
            let problem = ErrorObject::owned(-32600, "jsonrpc must be \"2.0\"", None::<()>);
            connection.send(&error(message.id.unwrap_or(Id::Null), problem)).await;
            continue;
        }
        let Some(id) = message.id.clone() else {
            if message.method == "$/cancelRequest"
                && let Ok(params) = message.params::<CancelParams>()
            {
                let id = Id::Number(params.id);
                for request in lock(&connection.requests).values().filter(|request| request.id == id) {
                    request.cancel.send_replace(true);
                }
            }
            // Other notifications are none of ours, and nobody waits for an answer.
            continue;
        };
        match &*message.method {
            "hello" => {
                let answer =
                    if greeted { Err(out_of_order("hello came twice")) } else { hello(&host, &message) };
                greeted |= answer.is_ok();
                connection.send(&respond(id, answer)).await;
            }
            "stream.attach" => match message.params::<AttachStreamParams>().and_then(|params| {
                let entry = host.process(&params.process).map_err(|failure| object(&failure))?;
                let end = entry.take_stream(params.stream).map_err(|failure| object(&failure))?;
                Ok((entry, params.stream, end))
            }) {
                Ok(attached) => {
                    connection.send(&respond(id, Ok(serde_json::json!({})))).await;
                    break Some(attached);
                }
                Err(problem) => connection.send(&error(id, problem)).await,
            },
            _ if !greeted => {
                connection.send(&respond(id, Err(out_of_order("the first request must be hello")))).await
            }
            _ => {
                // Not waited for: what ends a request may be in the next line. A kill, which may be what the others
                // wait for, needs no place.
                let slot = Arc::clone(&slots).try_acquire_owned().ok();
                if slot.is_none() && message.method != "subcontainer.kill" {
                    let failure = Failure::new(ErrorKind::Exhausted, "start request", &message.method);
                    let cause = format!("{MAX_IN_FLIGHT} are under way on this connection");
                    let failure = failure.because(std::io::Error::other(cause));
                    connection.send(&error(id, object(&failure))).await;
                    continue;
                }
                dispatch(&host, &methods, &connection, &message, id, slot);
            }
        }
    };
    if let Some((entry, kind, end)) = attached {
        let buffered = reader.buffer().to_vec();
        let read = reader.into_inner();
        host.close(&connection).await;
        if let Some(connection) = Arc::into_inner(connection)
            && let Ok(stream) = read.reunite(connection.writer.into_inner())
        {
            streams::relay(&host, &entry, kind, end, stream, buffered).await;
        } else {
            entry.return_stream(kind, end);
        }
        return;
    }
    host.close(&connection).await;
}

/// Starts a request; its answer is sent when it is there.
fn dispatch(
    host: &Host,
    methods: &Arc<Methods>,
    connection: &Arc<Connection>,
    message: &Message<'_>,
    id: Id<'_>,
    slot: impl Send + 'static,
) {
    let methods = Arc::clone(methods);
    let (cancel, cancelled) = watch::channel(false);
    let number = match id {
        Id::Number(number) => Some(number),
        _ => None,
    };
    let key = host.number();
    lock(&connection.requests).insert(key, Request { id: id.clone().into_owned(), cancel });
    let call = Call { connection: Arc::clone(connection), id: number, cancelled };
    let (method, id) = (message.method.to_string(), id.into_owned());
    let params = Params::new(message.params.map(RawValue::get)).into_owned();
    tokio::spawn(async move {
        let connection = Arc::clone(&call.connection);
        let mut extensions = Extensions::new();
        extensions.insert(call);
        let limit = MAX_LINE;
        let response = match methods.method(&method) {
            Some(MethodCallback::Async(callback)) => {
                callback(id, params, ConnectionId(connection.id as _), limit, extensions).await
            }
            Some(MethodCallback::Sync(callback)) => callback(id, params, limit, extensions),
            _ => MethodResponse::error(
                id,
                ErrorObject::owned(-32601, format!("unknown method {method}"), None::<()>),
            ),
        };
        lock(&connection.requests).remove(&key);
        connection.send(response.as_json().get()).await;
        // Not before: answers that a client does not read are bounded by this, too.
        drop(slot);
    });
}

fn hello(host: &Host, message: &Message<'_>) -> std::result::Result<serde_json::Value, ErrorObject<'static>> {
    let params: HelloParams = message.params()?;
    if params.protocol != PROTOCOL_VERSION {
        let subject = format!("version {} (this host speaks {PROTOCOL_VERSION})", params.protocol);
        return Err(object(&Failure::new(ErrorKind::UnsupportedProtocol, "agree on protocol", subject)));
    }
    tracing::debug!("hello from {}", params.client);
    let result = HelloResult {
        protocol: PROTOCOL_VERSION,
        server: concat!("start-container ", env!("CARGO_PKG_VERSION")).to_owned(),
        data_dir: host.machine.data_dir().display().to_string(),
    };
    serde_json::to_value(result).map_err(|error| ErrorObject::owned(-32603, error.to_string(), None::<()>))
}

fn respond(id: Id<'_>, answer: std::result::Result<serde_json::Value, ErrorObject<'static>>) -> String {
    match answer {
        Ok(result) => serde_json::json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string(),
        Err(problem) => error(id, problem),
    }
}

fn error(id: Id<'_>, problem: ErrorObject<'_>) -> String {
    serde_json::json!({ "jsonrpc": "2.0", "id": id, "error": problem }).to_string()
}

fn out_of_order(why: &str) -> ErrorObject<'static> {
    object(&Failure::new(ErrorKind::OutOfOrder, "read request", why))
}

/// Parameters that are not of their type.
pub(super) fn invalid_params(error: &serde_json::Error) -> ErrorObject<'static> {
    let data = Failure::new(ErrorKind::Invalid, "read parameters", "").data();
    ErrorObject::owned(-32602, format!("invalid params: {error}"), Some(data))
}

/// A failure as the wire has it.
pub(super) fn object(failure: &Failure) -> ErrorObject<'static> {
    ErrorObject::owned(REQUEST_FAILED, failure.sentence(), Some(failure.data()))
}

/// The answer to a request that was cancelled.
pub(super) fn cancelled() -> ErrorObject<'static> {
    ErrorObject::owned(REQUEST_CANCELLED, "request cancelled", None::<()>)
}

/// What a method answers.
pub(super) type Answer<T> = std::result::Result<T, ErrorObject<'static>>;

/// The wire's form of a result.
pub(super) fn answer<T>(result: Result<T>) -> Answer<T> {
    result.map_err(|failure| object(&failure))
}
