//! The doors of packages: a socket for each that is active, at `DATA_DIR/packages/<id>/rpc/host.sock`.
//!
//! ```text
//! activate: socket ──▶ accept, from ids of this package's sandbox alone ──▶ lines ──▶ broker::Caller of this package
//!                                                                              └▶ the host's own methods, confined (`host_calls`)
//! disable:  no more lines are read ──▶ what is under way is finished ──▶ the socket is gone
//! ```
//! Who calls is the door that he came through: nothing in a message is asked. The directory is mounted read-only into the
//! services of its package and nobody else's; as a second wall, the peer's user (`SO_PEERCRED`, as it was when it connected)
//! must be one of that sandbox's ids, which nothing else on the machine has, or root of the machine: that is the operator.
//!
//! Package code has threads of the host's own, so that one that calls without end takes nobody else's turn.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use broker::{Called, Caller, confine};
use jsonrpsee_types::{ErrorObject, Id};
use packages::manifest::PackageId;
use protocol::broker::{MAX_PACKAGE_LINE, PackageHelloResult};
use protocol::error::REQUEST_FAILED;
use protocol::session::{CancelParams, HelloParams};
use protocol::subcontainer::OWN_IDS;
use protocol::{ErrorKind, PROTOCOL_VERSION};
use rustix::fs::{AtFlags, Mode};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::connection::{Connection, Message, error, object, respond};
use crate::engine::lock;
use crate::error::{Failure, Result};
use crate::subcontainer::Owner;

mod file_stream;
mod host_calls;
mod made;

pub(super) use made::Made;

/// The socket's name in its directory.
const SOCKET: &str = "host.sock";
/// Connections of one package that carry calls.
const CONNECTIONS: usize = 32;
/// Connections of one package, with those that carry bytes.
const SOCKETS: usize = 256;
/// The longest first line of a connection.
const FIRST_LINE: usize = 64 << 10;
/// What calls of one package that are under way keep in memory, with their answers, in KiB.
const ROOM: u32 = 32 << 10;
/// How long a package that is being disabled is waited for to get its answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a stream may stand still.
const STILL: Duration = Duration::from_secs(60);
const CHUNK: usize = 256 << 10;

/// The doors that are open.
#[derive(Default)]
pub(super) struct Doors {
    runtime: OnceLock<Runtime>,
    open: Mutex<HashMap<PackageId, Door>>,
}

struct Door {
    caller: Arc<Caller>,
    dir: OwnedFd,
    closing: watch::Sender<bool>,
    room: Arc<Semaphore>,
    accepting: JoinHandle<()>,
}

/// A door, as its connections see it.
struct Inside {
    caller: Arc<Caller>,
    made: Arc<Made>,
    closing: watch::Receiver<bool>,
    room: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl Doors {
    fn runtime(&self) -> Result<&Runtime> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let made = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("door")
            .enable_all()
            .build()
            .map_err(|error| {
                Failure::new(ErrorKind::Exhausted, "start runtime", "for packages").because(error)
            })?;
        let mut made = Some(made);
        let runtime = self.runtime.get_or_init(|| made.take().unwrap_or_else(|| unreachable!("made above")));
        if let Some(late) = made {
            // Somebody was faster.
            late.shutdown_background();
        }
        Ok(runtime)
    }

    /// Opens a package's door. `first_id` is the first of its sandbox's ids, where it has a sandbox.
    pub(super) fn open(
        &self,
        data_dir: &Path,
        (caller, made): (Arc<Caller>, Made),
        id: &PackageId,
        first_id: Option<u32>,
    ) -> Result<()> {
        let fail = |step| move |errno| Failure::kernel(step, format!("socket of {id}"), errno);
        let dir = directory(data_dir, id).map_err(fail("create directory of"))?;
        // What a host that was killed has left. Nobody listens there.
        remove(&dir).map_err(fail("remove old"))?;
        let runtime = self.runtime()?;
        let listener = bind(&dir).map_err(|error| {
            Failure::new(ErrorKind::Kernel, "listen on", format!("socket of {id}")).because(error)
        })?;
        let _inside = runtime.enter();
        let listener = UnixListener::from_std(listener).map_err(|error| {
            Failure::new(ErrorKind::Kernel, "listen on", format!("socket of {id}")).because(error)
        })?;
        let (closing, closed) = watch::channel(false);
        let room = Arc::new(Semaphore::new(ROOM as usize));
        let inside = Arc::new(Inside {
            caller: Arc::clone(&caller),
            made: Arc::new(made),
            closing: closed,
            room: Arc::clone(&room),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
        });
        let accepting = runtime.spawn(accept(listener, inside, first_id));
        lock(&self.open).insert(id.clone(), Door { caller, dir, closing, room, accepting });
        Ok(())
    }

    /// Closes a package's door. Where there is none, it is closed.
    pub(super) fn close(&self, id: &PackageId) {
        let Some(door) = lock(&self.open).remove(id) else { return };
        let Door { dir, closing, room, mut accepting, .. } = door;
        // First: nobody new comes.
        if let Err(errno) = remove(&dir) {
            tracing::error!("remove socket of {id}: {errno}");
        }
        closing.send_replace(true);
        let Ok(runtime) = self.runtime() else { return };
        runtime.block_on(async {
            let finished = async {
                // They end by themselves; what is left after that runs without an answer.
                _ = (&mut accepting).await;
                _ = room.acquire_many(ROOM).await;
            };
            if tokio::time::timeout(PATIENCE, finished).await.is_err() {
                accepting.abort();
            }
        });
    }

    /// What a package whose door is open was granted from now on.
    pub(super) fn set_granted(&self, id: &PackageId, granted: &protocol::package::Scopes) {
        if let Some(door) = lock(&self.open).get(id) {
            door.caller.set_granted(granted.clone());
        }
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Whoever drops this may be a task.
            runtime.shutdown_background();
        }
    }
}

/// The directory that is mounted.
fn directory(data_dir: &Path, id: &PackageId) -> std::result::Result<OwnedFd, rustix::io::Errno> {
    let packages = linux::tree::ensure_dir(&data_dir.join("packages"), 0o700)?;
    let package = linux::tree::ensure_dir_at(&packages, id.as_str(), 0o755)?;
    linux::tree::ensure_dir_at(&package, "rpc", 0o755)
}

fn remove(dir: &OwnedFd) -> std::result::Result<(), rustix::io::Errno> {
    match rustix::fs::unlinkat(dir, SOCKET, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn bind(dir: &OwnedFd) -> std::io::Result<std::os::unix::net::UnixListener> {
    // By the handle: a path may be longer than a socket's name can be.
    let path = format!("{}/{SOCKET}", linux::tree::proc_path(dir));
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    // Every user of the package's sandbox is the package. Outside, nobody comes past `packages`, which is root's.
    rustix::fs::chmodat(dir, SOCKET, Mode::from_raw_mode(0o666), AtFlags::empty())?;
    Ok(listener)
}

async fn accept(listener: UnixListener, door: Arc<Inside>, first_id: Option<u32>) {
    let mut closing = door.closing.clone();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let uid = stream.peer_cred().map_or(u32::MAX, |peer| peer.uid());
                let own = first_id.is_some_and(|first| (first..first + OWN_IDS).contains(&uid));
                if !own && uid != 0 {
                    tracing::warn!(
                        "user {uid} came to the socket of {}, which is not his",
                        door.caller.package()
                    );
                } else if connections.len() < SOCKETS {
                    connections.spawn(serve(Arc::clone(&door), stream));
                }
                // Who is one too many finds the connection closed.
            }
            Err(error) => {
                tracing::warn!("accept for {}: {error}", door.caller.package());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Ends when no more is to be carried out: the package is being disabled, or in quarantine; then it says why.
async fn over(
    closing: &mut watch::Receiver<bool>,
    quarantine: &mut watch::Receiver<Option<String>>,
) -> Option<String> {
    tokio::select! {
        _ = closing.wait_for(|closing| *closing) => None,
        why = quarantine.wait_for(Option::is_some) => why.ok().and_then(|why| why.clone()),
    }
}

/// Serves one connection until it goes, or the door closes. What was made through it and not detached ends with it.
async fn serve(door: Arc<Inside>, stream: UnixStream) {
    let Some(host) = door.made.host() else { return };
    let (read, write) = stream.into_split();
    let client = format!("package {}", door.caller.package());
    // The owner is nobody who could come back: the next host starts the package anew.
    let connection = Connection::new(&host, write, Owner::default(), Some(client));
    let mut reader = BufReader::with_capacity(64 << 10, read);
    let carries = read_calls(&door, &connection, &mut reader).await;
    let Some((method, id, params)) = carries else { return host.close(&connection).await };
    match host_calls::carried(&method) {
        Some(method) => host_calls::carry(&door, connection, method, id, &params, reader).await,
        None => {
            host.close(&connection).await;
            let Some(writer) = connection.into_writer() else { return };
            file_stream::carry(&door, id, &params, reader, writer).await;
        }
    }
}

/// Answers calls. Ends with the request by which the connection carries bytes from then on.
async fn read_calls(
    door: &Arc<Inside>,
    connection: &Arc<Connection>,
    mut reader: &mut BufReader<OwnedReadHalf>,
) -> Option<(String, Id<'static>, String)> {
    let (mut closing, mut quarantine) = (door.closing.clone(), door.caller.quarantine());
    let (mut line, mut out) = (Vec::new(), Vec::new());
    let (mut greeted, mut first) = (None, true);
    loop {
        // Answers of calls that came together go together.
        if !out.is_empty() && (out.len() > CHUNK || !reader.buffer().contains(&b'\n')) {
            connection.write(&out).await.ok()?;
            out.clear();
        }
        line.clear();
        // Also of one that never stops for breath.
        if *closing.borrow() {
            return None;
        }
        let longest = if greeted.is_some() { MAX_PACKAGE_LINE } else { FIRST_LINE };
        let mut limited = (&mut reader).take(longest as u64 + 1);
        let over = over(&mut closing, &mut quarantine);
        let read = tokio::select! {
            biased;
            read = limited.read_until(b'\n', &mut line) => Ok(read),
            why = over => Err(why),
        };
        let read = match read {
            Ok(read) => read,
            Err(why) => {
                if let Some(why) = why {
                    let refused = problem(&broker::Error::Quarantined(why), "");
                    answer(&mut out, error(Id::Null, refused));
                    _ = connection.write(&out).await;
                }
                return None;
            }
        };
        if !matches!(read, Ok(1..)) {
            return None;
        }
        if line.pop() != Some(b'\n') {
            if line.len() >= longest {
                let text = format!("a line is longer than {longest} bytes");
                answer(&mut out, error(Id::Null, ErrorObject::owned(-32600, text, None::<()>)));
                _ = connection.write(&out).await;
            }
            return None;
        }
        let message = match std::str::from_utf8(&line).map(serde_json::from_str::<Message<'_>>) {
            Ok(Ok(message)) => message,
            Ok(Err(_)) if line.iter().all(u8::is_ascii_whitespace) => continue,
            Ok(Err(wrong)) => {
                let code = if wrong.is_data() { -32600 } else { -32700 };
                answer(&mut out, error(Id::Null, ErrorObject::owned(code, wrong.to_string(), None::<()>)));
                continue;
            }
            Err(_) => return None,
        };
        let Some(id) = message.id.clone() else {
            if message.method == "$/cancelRequest"
                && let Ok(params) = message.params::<CancelParams>()
            {
                connection.cancel(&params);
            }
            // Nobody waits for the answer of another notification.
            continue;
        };
        if message.jsonrpc != Some("2.0") {
            answer(&mut out, error(id, ErrorObject::owned(-32600, "jsonrpc must be \"2.0\"", None::<()>)));
            continue;
        }
        let params = message.params.map_or("{}", serde_json::value::RawValue::get);
        let refuse = |kind, why: &str| object(&Failure::new(kind, "read request", why));
        let method = &*message.method;
        match method {
            _ if method == "files.stream" || host_calls::carried(method).is_some() => {
                if first {
                    return Some((method.to_owned(), id.into_owned(), params.to_owned()));
                }
                let why = format!("{method} is the first of a connection");
                answer(&mut out, error(id, refuse(ErrorKind::OutOfOrder, &why)));
            }
            "hello" if greeted.is_some() => {
                answer(&mut out, error(id, refuse(ErrorKind::OutOfOrder, "hello came twice")));
            }
            "hello" => {
                let Ok(place) = Arc::clone(&door.connections).try_acquire_owned() else {
                    let why = format!("this package has {CONNECTIONS} connections");
                    connection.send(&error(id, refuse(ErrorKind::Exhausted, &why))).await;
                    return None;
                };
                let greeting = message.params().and_then(|params| hello(&door.caller, &params));
                greeted = greeting.is_ok().then_some(place);
                answer(&mut out, respond(id, greeting));
            }
            _ if greeted.is_none() => {
                let why = refuse(ErrorKind::OutOfOrder, "the first request must be hello");
                answer(&mut out, error(id, why));
            }
            _ => match confine::find(method) {
                Some(method) => {
                    let id = id.into_owned();
                    let started = host_calls::dispatch(door, connection, method, id.clone(), params);
                    if let Err(problem) = started {
                        answer(&mut out, error(id, problem));
                    }
                }
                None => match door.caller.call(method, params) {
                    Called::Now(result) => write(&mut out, &id, method, result),
                    Called::Later(size, result) => {
                        let size = u32::try_from(size >> 10).unwrap_or(ROOM).clamp(1, ROOM);
                        // Who asks for more than there is room for is read no further until there is.
                        let place = Arc::clone(&door.room).acquire_many_owned(size).await.ok()?;
                        let (id, method) = (id.into_owned(), method.to_owned());
                        let connection = Arc::clone(connection);
                        // To its end, whether or not somebody waits for it: what is done is written down.
                        tokio::spawn(async move {
                            let result = result.await;
                            let mut line = Vec::new();
                            write(&mut line, &id, &method, result);
                            // Who does not read his answers does not keep the room for ever.
                            _ = tokio::time::timeout(STILL, connection.write(&line)).await;
                            drop(place);
                        });
                    }
                },
            },
        }
        first = false;
    }
}

fn answer(out: &mut Vec<u8>, text: String) {
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
}

fn write(out: &mut Vec<u8>, id: &Id<'_>, method: &str, result: broker::Result<String>) {
    match result {
        Ok(result) => {
            out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
            if serde_json::to_writer(&mut *out, id).is_err() {
                out.extend_from_slice(b"null");
            }
            out.extend_from_slice(br#","result":"#);
            out.extend_from_slice(result.as_bytes());
            out.extend_from_slice(b"}\n");
        }
        Err(refused) => answer(out, error(id.clone(), problem(&refused, method))),
    }
}

/// A refusal as the wire has it.
fn problem(refused: &broker::Error, method: &str) -> ErrorObject<'static> {
    let code = match refused {
        broker::Error::UnknownMethod(_) => -32601,
        broker::Error::Params(_) => -32602,
        _ => REQUEST_FAILED,
    };
    let text = if method.is_empty() { refused.to_string() } else { format!("{method}: {refused}") };
    ErrorObject::owned(code, text, Some(refused.data(method)))
}

fn hello(caller: &Caller, params: &HelloParams) -> super::connection::Answer<serde_json::Value> {
    if params.protocol != PROTOCOL_VERSION {
        let subject = format!("version {} (this host speaks {PROTOCOL_VERSION})", params.protocol);
        return Err(object(&Failure::new(ErrorKind::UnsupportedProtocol, "agree on protocol", subject)));
    }
    let result = PackageHelloResult {
        protocol: PROTOCOL_VERSION,
        server: concat!("start-container ", env!("CARGO_PKG_VERSION")).to_owned(),
        package_id: caller.package().to_owned(),
        granted: caller.granted(),
    };
    serde_json::to_value(result).map_err(|error| ErrorObject::owned(-32603, error.to_string(), None::<()>))
}
