//! One client's connection: lines in, lines out, and what belongs to it.
//!
//! ```text
//! new ──hello──▶ open ──any number of requests──▶ closed: requests cancelled, owned things destroyed
//!  ├──stream.attach, stream.connect, logs.read──▶ bytes until either side closes
//!  └──GET /metrics──▶ an answer, and its end
//! ```
//! Requests run side by side and are answered as they finish. A line that is no JSON-RPC is answered with an error;
//! a line that is too long, or bytes that are no UTF-8, end the connection.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock};

use jsonrpsee_core::server::{ConnectionId, Extensions, MethodCallback, MethodResponse, Methods};
use jsonrpsee_types::{ErrorObject, Id, Params};
use protocol::error::{REQUEST_CANCELLED, REQUEST_FAILED};
use protocol::logs::LogsParams;
use protocol::session::{
    AttachStreamParams, CancelParams, ConnectParams, HelloParams, HelloResult, ProgressParams, StreamKind,
};
use protocol::{ErrorKind, MAX_LINE, PROTOCOL_VERSION};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, watch};

use super::state::{Entry, Host, Owned};
use super::{connect, logs, metrics, sessions, streams};
use crate::engine::lock;
use crate::error::{Failure, Result};
use crate::logs::Reader;
use crate::subcontainer::Owner;
use crate::subcontainer::state::start_time;

/// Requests under way on one connection; a further one is refused.
const MAX_IN_FLIGHT: usize = 1024;

/// A connection, as the methods see it.
pub(super) struct Connection {
    pub(super) id: u64,
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    /// Who is at the other end, and the session: what survives this host is written down as theirs.
    owner: Mutex<Owner>,
    /// What ends with it. `None` once it has ended.
    owned: Mutex<Option<Owned>>,
    /// Held by whoever ends what it owned: the second one waits for the first.
    pub(super) closing: tokio::sync::Mutex<()>,
    /// By a number of ours: a client's id may be a string, and it may use one twice.
    requests: Mutex<HashMap<u64, Request>>,
    /// As it named itself.
    client: OnceLock<String>,
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
    /// A connection that is served from now on. `client` is who it is, where that is known without being said.
    pub(super) fn new(
        host: &Host,
        writer: OwnedWriteHalf,
        owner: Owner,
        client: Option<String>,
    ) -> Arc<Self> {
        let connection = Arc::new(Self {
            id: host.number(),
            owner: Mutex::new(owner),
            writer: tokio::sync::Mutex::new(writer),
            owned: Mutex::new(Some((HashSet::new(), HashSet::new()))),
            closing: tokio::sync::Mutex::default(),
            requests: Mutex::default(),
            client: client.map_or_else(OnceLock::new, OnceLock::from),
        });
        host.add_connection(&connection);
        connection
    }

    /// The whole stream again, when nobody else has the connection.
    pub(super) fn into_stream(self: Arc<Self>, read: OwnedReadHalf) -> Option<UnixStream> {
        read.reunite(Arc::into_inner(self)?.writer.into_inner()).ok()
    }

    /// Its writing half, when nobody else has the connection.
    pub(super) fn into_writer(self: Arc<Self>) -> Option<OwnedWriteHalf> {
        Some(Arc::into_inner(self)?.writer.into_inner())
    }

    /// A request is under way, until [`Connection::finish`] with this key.
    pub(super) fn begin(self: &Arc<Self>, key: u64, id: &Id<'_>) -> Call {
        let (cancel, cancelled) = watch::channel(false);
        let number = match id {
            Id::Number(number) => Some(*number),
            _ => None,
        };
        lock(&self.requests).insert(key, Request { id: id.clone().into_owned(), cancel });
        Call { connection: Arc::clone(self), id: number, cancelled }
    }

    pub(super) fn finish(&self, key: u64) {
        lock(&self.requests).remove(&key);
    }

    /// `$/cancelRequest`
    pub(super) fn cancel(&self, params: &CancelParams) {
        let id = Id::Number(params.id);
        for request in lock(&self.requests).values().filter(|request| request.id == id) {
            request.cancel.send_replace(true);
        }
    }

    pub(super) fn owner(&self) -> Owner {
        lock(&self.owner).clone()
    }

    /// Takes ownership. False when the connection has ended by now.
    pub(super) fn own(&self, guid: &str) -> bool {
        lock(&self.owned).as_mut().map(|(guids, _)| guids.insert(guid.to_owned())).is_some()
    }

    /// As [`Connection::own`], for a process.
    pub(super) fn own_process(&self, id: &str) -> bool {
        lock(&self.owned).as_mut().map(|(_, processes)| processes.insert(id.to_owned())).is_some()
    }

    /// Whether it has not ended.
    pub(super) fn is_open(&self) -> bool {
        lock(&self.owned).is_some()
    }

    /// Who it is, for people.
    pub(super) fn who(&self) -> String {
        let name = self.client.get().map_or("a client", String::as_str);
        match Some(self.owner().pid).filter(|pid| *pid > 0) {
            Some(pid) => format!("{name} (process {pid})"),
            None => name.to_owned(),
        }
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

    /// The processes that it owns.
    pub(super) fn processes(&self) -> Vec<String> {
        lock(&self.owned).as_ref().map(|(_, ids)| ids.iter().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn requests_under_way(&self) -> usize {
        lock(&self.requests).len()
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
        let _gone = self.write(&line).await;
    }

    /// Sends lines.
    pub(super) async fn write(&self, lines: &[u8]) -> std::io::Result<()> {
        self.writer.lock().await.write_all(lines).await
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
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub(super) jsonrpc: Option<&'a str>,
    #[serde(borrow)]
    pub(super) id: Option<Id<'a>>,
    #[serde(borrow)]
    pub(super) method: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    pub(super) params: Option<&'a RawValue>,
}

impl Message<'_> {
    pub(super) fn params<T: serde::de::DeserializeOwned>(
        &self,
    ) -> std::result::Result<T, ErrorObject<'static>> {
        serde_json::from_str(self.params.map_or("{}", RawValue::get)).map_err(|error| invalid_params(&error))
    }
}

/// What a connection becomes that carries requests no more.
enum Becomes {
    Stream(Arc<Entry>, StreamKind, Arc<OwnedFd>),
    Port(TcpStream),
    Log(Box<(LogsParams, Reader)>),
}

/// Serves one client until it goes.
pub(super) async fn serve(host: Arc<Host>, methods: Arc<Methods>, stream: UnixStream) {
    let (uid, pid) = stream.peer_cred().map_or((u32::MAX, 0), |peer| (peer.uid(), peer.pid().unwrap_or(0)));
    let start_time = start_time(pid).unwrap_or_default();
    let (read, write) = stream.into_split();
    let connection =
        Connection::new(&host, write, Owner { digest: String::new(), uid, pid, start_time }, None);
    let mut reader = BufReader::with_capacity(64 * 1024, read);
    let mut line = Vec::new();
    let mut greeted = false;
    let slots = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let becomes = loop {
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
        if !greeted && line.starts_with(metrics::BEGINS) {
            let mut writer = connection.writer.lock().await;
            metrics::answer(Arc::clone(&host), &line, &mut reader, &mut *writer).await;
            drop(writer);
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
                connection.cancel(&params);
            }
            // Other notifications are none of ours, and nobody waits for an answer.
            continue;
        };
        match &*message.method {
            "hello" => {
                let answer = if greeted {
                    Err(out_of_order("hello came twice"))
                } else {
                    hello(&host, &connection, &message)
                };
                greeted |= answer.is_ok();
                connection.send(&respond(id, answer)).await;
            }
            "stream.attach" => match message.params::<AttachStreamParams>().and_then(|params| {
                let entry = host.process(&params.process).map_err(|failure| object(&failure))?;
                let end = entry.take_stream(params.stream).map_err(|failure| object(&failure))?;
                Ok((entry, params.stream, end))
            }) {
                Ok((entry, kind, end)) => {
                    connection.send(&respond(id, Ok(serde_json::json!({})))).await;
                    break Some(Becomes::Stream(entry, kind, end));
                }
                Err(problem) => connection.send(&error(id, problem)).await,
            },
            "stream.connect" => {
                let connected = match message.params::<ConnectParams>() {
                    Ok(params) => answer(connect::connect(&host, &params).await),
                    Err(problem) => Err(problem),
                };
                match connected {
                    Ok(port) => {
                        connection.send(&respond(id, Ok(serde_json::json!({})))).await;
                        break Some(Becomes::Port(port));
                    }
                    Err(problem) => connection.send(&error(id, problem)).await,
                }
            }
            "logs.read" => {
                let opened = match message.params::<LogsParams>() {
                    Ok(params) => answer(logs::open(&host, &params).await).map(|log| (params, log)),
                    Err(problem) => Err(problem),
                };
                match opened {
                    Ok((params, log)) => {
                        connection.send(&respond(id, Ok(serde_json::json!({})))).await;
                        break Some(Becomes::Log(Box::new((params, log))));
                    }
                    Err(problem) => connection.send(&error(id, problem)).await,
                }
            }
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
    let buffered = reader.buffer().to_vec();
    host.close(&connection).await;
    let Some(becomes) = becomes else { return };
    let stream = connection.into_stream(reader.into_inner());
    match (becomes, stream) {
        (Becomes::Stream(entry, kind, end), Some(stream)) => {
            streams::relay(&host, &entry, kind, end, stream, buffered).await;
        }
        (Becomes::Stream(entry, kind, end), None) => entry.return_stream(kind, end),
        (Becomes::Port(port), Some(stream)) => connect::relay(port, stream, &buffered).await,
        (Becomes::Log(opened), Some(stream)) => {
            let (params, log) = *opened;
            logs::send(host, params, log, stream).await;
        }
        (Becomes::Port(_) | Becomes::Log(_), None) => {}
    }
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
    let key = host.number();
    let call = connection.begin(key, &id);
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
        connection.finish(key);
        connection.send(response.as_json().get()).await;
        // Not before: answers that a client does not read are bounded by this, too.
        drop(slot);
    });
}

fn hello(
    host: &Host,
    connection: &Connection,
    message: &Message<'_>,
) -> std::result::Result<serde_json::Value, ErrorObject<'static>> {
    let params: HelloParams = message.params()?;
    if params.protocol != PROTOCOL_VERSION {
        let subject = format!("version {} (this host speaks {PROTOCOL_VERSION})", params.protocol);
        return Err(object(&Failure::new(ErrorKind::UnsupportedProtocol, "agree on protocol", subject)));
    }
    tracing::debug!("hello from {}", params.client);
    // Shown to others: not too long, and nothing that a terminal obeys. It is said once.
    let name = params.client.chars().filter(|one| !one.is_control()).take(64).collect();
    let _first = connection.client.set(name);
    let peer = connection.owner();
    let known =
        params.session.and_then(|token| Some((host.resume(&peer, &sessions::digest(&token))?, token)));
    let (resumed, session) = match known {
        Some(known) => known,
        None => (Default::default(), sessions::token().map_err(|failure| object(&failure))?),
    };
    lock(&connection.owner).digest = sessions::digest(&session);
    let locks = host.locks.resume(&connection.owner().digest, connection.id);
    for guid in &resumed.0 {
        connection.own(guid);
    }
    for id in &resumed.1 {
        connection.own_process(id);
    }
    let result = HelloResult {
        protocol: PROTOCOL_VERSION,
        server: concat!("start-container ", env!("CARGO_PKG_VERSION")).to_owned(),
        data_dir: host.machine.data_dir().display().to_string(),
        session,
        grace: host.grace().as_millis() as u64,
        resumed: resumed.0,
        locks,
    };
    serde_json::to_value(result).map_err(|error| ErrorObject::owned(-32603, error.to_string(), None::<()>))
}

pub(super) fn respond(
    id: Id<'_>,
    answer: std::result::Result<serde_json::Value, ErrorObject<'static>>,
) -> String {
    match answer {
        Ok(result) => serde_json::json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string(),
        Err(problem) => error(id, problem),
    }
}

pub(super) fn error(id: Id<'_>, problem: ErrorObject<'_>) -> String {
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
