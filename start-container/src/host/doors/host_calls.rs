//! The host's own methods on a package's door: each is checked and confined by the broker, carried out here as for any client,
//! and written down.
//!
//! ```text
//! line ─▶ room in memory? ─▶ parameters ─▶ whose is it? ─▶ broker: grant, sense, rate; confine ─▶ host ─▶ broker: audit ─▶ answer
//! ```
//! A subcontainer belongs to the connection that has made it, as with the operator's clients; and to the package, with which
//! it ends in any case.

use std::sync::Arc;

use broker::confine::{self, About, Confine};
use broker::{Admitted, Caller, Class};
use jsonrpsee_types::{ErrorObject, Id};
use protocol::error::REQUEST_CANCELLED;
use protocol::file;
use protocol::logs::LogsParams;
use protocol::process::ExecParams;
use protocol::session::{AttachStreamParams, ConnectParams, StreamKind};
use protocol::subcontainer::{Empty, UnmountParams};
use protocol::{ErrorData, ErrorKind, MAX_LINE};
use serde::Serialize;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;

use super::super::connection::{Answer, Call, Connection, answer, error, object, respond};
use super::super::state::{Entry, Host};
use super::super::{connect, exec, files, locks, logs, methods, run, streams};
use super::made::Doing;
use super::{Inside, PATIENCE, STILL, over, problem};
use crate::error::{Failure, Result};
use crate::logs::Reader;

/// Names that a directory may have to be listed.
const NAMES: usize = 10_000;
/// What a call keeps in memory beside what it was sent, in bytes.
const LEAST: usize = 8 << 10;

/// A request that has been read.
struct Asked {
    door: Arc<Inside>,
    call: Call,
    method: (&'static str, Class),
    params: String,
}

/// Starts a call; its answer is sent when it is there.
pub(super) fn dispatch(
    door: &Arc<Inside>,
    connection: &Arc<Connection>,
    method: (&'static str, Class),
    id: Id<'static>,
    params: &str,
) -> std::result::Result<(), ErrorObject<'static>> {
    let Some(host) = door.made.host() else { return Ok(()) };
    let memory = room(door, params.len() * 2 + LEAST).map_err(|failure| object(&failure))?;
    let key = host.number();
    let call = connection.begin(key, &id);
    let asked = Asked { door: Arc::clone(door), call, method, params: params.to_owned() };
    let connection = Arc::clone(connection);
    tokio::spawn(async move {
        let result = carry_out(asked, host).await;
        connection.finish(key);
        let mut line = match result {
            // As it was written: it is JSON already.
            Ok(result) => match serde_json::to_string(&id) {
                Ok(id) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
                Err(_) => return,
            },
            Err(problem) => error(id, problem),
        };
        line.push('\n');
        // Who does not read his answers does not keep the room for ever.
        _ = tokio::time::timeout(STILL, connection.write(line.as_bytes())).await;
        drop(memory);
    });
    Ok(())
}

/// Room in memory, or a refusal: who waits for it could not be told of a cancellation.
fn room(door: &Inside, bytes: usize) -> Result<OwnedSemaphorePermit> {
    let size = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).max(1);
    Arc::clone(&door.made.memory).try_acquire_many_owned(size).map_err(|_full| {
        Failure::new(ErrorKind::Exhausted, "start call", "").because(std::io::Error::other(
            "those of this package that are under way keep too much in memory",
        ))
    })
}

async fn carry_out(asked: Asked, host: Arc<Host>) -> Answer<String> {
    match asked.method.0 {
        "subcontainer.createFs" => asked.take(host, Doing::create_fs).await,
        "subcontainer.destroyFs" => asked.take(host, Doing::destroy_fs).await,
        "subcontainer.mount" => asked.take(host, Doing::mount).await,
        "subcontainer.unmount" => asked.take(host, unmount).await,
        "subcontainer.launch" => asked.take(host, Doing::launch).await,
        "subcontainer.exec" => {
            let door = Arc::clone(&asked.door);
            asked.take(host, |doing, p| exec(door, doing, p)).await
        }
        "subcontainer.spawn" => asked.take(host, Doing::spawn).await,
        "subcontainer.wait" => asked.take(host, |doing, p| run::wait(doing.host, doing.call, p)).await,
        "subcontainer.kill" => {
            asked.take(host, |doing, p| doing.blocking(move |host| run::kill(host, &p))).await
        }
        "subcontainer.signal" => {
            asked.take(host, |doing, p| doing.blocking(move |host| run::signal(host, &p))).await
        }
        "subcontainer.stop" => asked.take(host, |doing, p| run::stop(doing.host, doing.call, p)).await,
        "subcontainer.resize" => {
            asked.take(host, |doing, p| doing.blocking(move |host| run::resize(host, &p))).await
        }
        "subcontainer.list" => asked.take(host, Doing::list).await,
        "subcontainer.inspect" => asked.take(host, Doing::inspect).await,
        "subcontainer.stats" => {
            asked
                .take(host, |doing, p: protocol::subcontainer::GuidParams| {
                    doing.blocking(move |host| host.machine.stats(&p.guid))
                })
                .await
        }
        "subcontainer.detach" => asked.take(host, Doing::detach).await,
        "subcontainer.attach" => asked.take(host, Doing::attach).await,
        "lock.acquire" => {
            asked
                .take(host, |doing, p| locks::acquire_of(doing.host, doing.call, p, locks::MOST_OF_PACKAGE))
                .await
        }
        "lock.release" => {
            asked
                .take(host, |doing, p| async move { answer(locks::release(&doing.host, &doing.call, &p)) })
                .await
        }
        "events.health" => asked.take(host, |doing, p| methods::health(doing.host, doing.call, p)).await,
        _ => on_a_file(asked, host).await,
    }
}

async fn on_a_file(asked: Asked, host: Arc<Host>) -> Answer<String> {
    macro_rules! on_files {
        ($work:expr) => {
            asked.take(host, |doing, p| doing.blocking(move |host| $work(&host.machine, p))).await
        };
    }
    match asked.method.0 {
        "file.read" => {
            let door = Arc::clone(&asked.door);
            let read = |doing: Doing, p: file::ReadParams| async move {
                let _memory = answer(room(&door, p.length.unwrap_or(0) as usize * 3))?;
                doing.blocking(move |host| files::read(&host.machine, p)).await
            };
            asked.take(host, read).await
        }
        "file.write" => on_files!(files::write),
        "file.stat" => on_files!(|machine, p| files::stat(machine, &p)),
        "file.readdir" => {
            let door = Arc::clone(&asked.door);
            let readdir = |doing: Doing, p: file::PathParams| async move {
                let _memory = answer(room(&door, NAMES * 512))?;
                doing.blocking(move |host| files::readdir_at_most(&host.machine, &p, NAMES)).await
            };
            asked.take(host, readdir).await
        }
        "file.readlink" => on_files!(|machine, p| files::readlink(machine, &p)),
        "file.mkdir" => on_files!(|machine, p| files::mkdir(machine, &p)),
        "file.remove" => on_files!(|machine, p| files::remove(machine, &p)),
        "file.rename" => on_files!(|machine, p| files::rename(machine, &p)),
        "file.symlink" => on_files!(|machine, p| files::symlink(machine, &p)),
        "file.chmod" => on_files!(|machine, p| files::chmod(machine, &p)),
        "file.chown" => on_files!(|machine, p| files::chown(machine, &p)),
        method => Err(problem(&broker::Error::UnknownMethod(method.to_owned()), "")),
    }
}

async fn unmount(doing: Doing, p: UnmountParams) -> Answer<Empty> {
    doing
        .blocking(move |host| {
            host.machine.unmount(&p.guid, &p.mountpoint)?;
            host.emit(&p.guid, protocol::session::EventKind::Unmounted { mountpoint: p.mountpoint });
            Ok(Empty {})
        })
        .await
}

async fn exec(door: Arc<Inside>, doing: Doing, p: ExecParams) -> Answer<protocol::process::ExecResult> {
    // Both outputs, and both as text.
    let kept = usize::try_from(p.max_buffer.unwrap_or(0)).unwrap_or(MAX_LINE) * 14 / 3;
    let _memory = answer(room(&door, kept))?;
    exec::exec(doing.host, doing.call, p).await
}

impl Asked {
    /// Takes a call: checks it, has it done, and writes it down.
    async fn take<P, R, F, Fut>(self, host: Arc<Host>, act: F) -> Answer<String>
    where
        P: Confine,
        R: Serialize,
        F: FnOnce(Doing, P) -> Fut,
        Fut: Future<Output = Answer<R>>,
    {
        let Self { door, call, method, params } = self;
        let (admitted, params, image) = admit::<P>(&door, method, &params).await?;
        let made = Arc::clone(&door.made);
        let result = act(Doing { made, host, call, image }, params).await;
        came(admitted, method.0, result.as_ref().err()).await?;
        let written = serde_json::to_string(&result?);
        written.map_err(|error| ErrorObject::owned(-32603, error.to_string(), None::<()>))
    }
}

/// Whether a call may be carried out, and with which parameters; and the name of the image that it is about.
async fn admit<P: Confine>(
    door: &Inside,
    method: (&'static str, Class),
    params: &str,
) -> Answer<(Admitted, P, String)> {
    let caller = &door.caller;
    let params: P = match serde_json::from_str(params) {
        Ok(params) => params,
        Err(error) => {
            let refused = caller.nothing().err().unwrap_or(broker::Error::Params(error));
            return Err(problem(&refused, method.0));
        }
    };
    let (known, what) = match params.about() {
        About::Nothing => (Some(None), String::new()),
        About::Image(name) => (Some(Some(name.to_owned())), String::new()),
        About::Guid(guid) => (door.made.image_of(guid).map(Some), format!("subcontainer {}", shown(guid))),
        About::Process(id) => (door.made.image_around(id).map(Some), format!("process {}", shown(id))),
    };
    let image = known.clone().flatten();
    let mut subject = params.subject();
    if subject.is_empty() {
        subject.clone_from(&what);
    }
    let admitted = caller.admit(method, &Caller::image(image.as_deref()), subject, || match known {
        // Whoever's it may be.
        None => Err(broker::Error::NotFound(what)),
        Some(_) => {
            params.also().map_or(Ok(()), |also| caller.also(also))?;
            params.confine(&door.made.own)
        }
    });
    match admitted {
        Ok((admitted, params)) => Ok((admitted, params, image.unwrap_or_default())),
        Err(refusal) => Err(problem(&refusal.told().await, method.0)),
    }
}

fn shown(id: &str) -> String {
    id.chars().take(64).collect()
}

/// Has it written down what became of a call.
async fn came(admitted: Admitted, method: &str, failed: Option<&ErrorObject<'static>>) -> Answer<()> {
    let failed = failed.map(|problem| {
        let data = problem.data().and_then(|data| serde_json::from_str::<ErrorData>(data.get()).ok());
        let kind = match data {
            Some(data) => data.kind,
            None if problem.code() == REQUEST_CANCELLED => ErrorKind::Conflict,
            None => ErrorKind::Internal,
        };
        (kind, problem.message().to_owned())
    });
    admitted.came(failed).await.map_err(|refused| problem(&refused, method))
}

/// What a connection becomes that carries bytes.
enum Becomes {
    Stream(Arc<Entry>, StreamKind, Arc<std::os::fd::OwnedFd>),
    Port(TcpStream),
    Log(Box<(LogsParams, Reader)>),
}

/// The first and only request of a connection that then carries bytes of a process, of a log or of a port inside.
pub(super) async fn carry(
    door: &Inside,
    connection: Arc<Connection>,
    method: (&'static str, Class),
    id: Id<'static>,
    params: &str,
    reader: tokio::io::BufReader<tokio::net::unix::OwnedReadHalf>,
) {
    let Some(host) = door.made.host() else { return };
    let opened = match method.0 {
        "stream.attach" => attach(door, method, params, &host).await,
        "stream.connect" => port(door, method, params, &host).await,
        OUTSIDE => {
            door.caller.dial(params).await.map(Becomes::Port).map_err(|error| problem(&error, OUTSIDE))
        }
        _ => log(door, method, params, &host).await,
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(problem) => {
            connection.send(&error(id, problem)).await;
            return host.close(&connection).await;
        }
    };
    connection.send(&respond(id, Ok(serde_json::json!({})))).await;
    let buffered = reader.buffer().to_vec();
    host.close(&connection).await;
    let stream = connection.into_stream(reader.into_inner());
    let (mut closing, mut quarantine) = (door.closing.clone(), door.caller.quarantine());
    let other = stream.as_ref().and_then(|stream| rustix::io::dup(stream).ok());
    let mut relay = std::pin::pin!(relay(&host, opened, stream, buffered));
    tokio::select! {
        () = &mut relay => return,
        _over = over(&mut closing, &mut quarantine) => {}
    }
    // Not dropped: it counts among those that a host which is replaced waits for, until it ends by itself.
    if let Some(other) = other {
        _ = rustix::net::shutdown(&other, rustix::net::Shutdown::Both);
    }
    _ = tokio::time::timeout(PATIENCE, relay).await;
}

async fn relay(host: &Arc<Host>, opened: Becomes, stream: Option<UnixStream>, buffered: Vec<u8>) {
    match (opened, stream) {
        (Becomes::Stream(entry, kind, end), Some(stream)) => {
            streams::relay(host, &entry, kind, end, stream, buffered).await;
        }
        (Becomes::Stream(entry, kind, end), None) => entry.return_stream(kind, end),
        (Becomes::Port(port), Some(stream)) => connect::relay(port, stream, &buffered).await,
        (Becomes::Log(opened), Some(stream)) => {
            let (params, log) = *opened;
            logs::send(Arc::clone(host), params, log, stream).await;
        }
        (Becomes::Port(_) | Becomes::Log(_), None) => {}
    }
}

async fn attach(
    door: &Inside,
    method: (&'static str, Class),
    params: &str,
    host: &Arc<Host>,
) -> Answer<Becomes> {
    let (admitted, p, _) = admit::<AttachStreamParams>(door, method, params).await?;
    let taken = host
        .process(&p.process)
        .and_then(|entry| Ok((entry.take_stream(p.stream)?, entry)))
        .map_err(|failure| object(&failure));
    came(admitted, method.0, taken.as_ref().err()).await?;
    taken.map(|(end, entry)| Becomes::Stream(entry, p.stream, end))
}

async fn port(
    door: &Inside,
    method: (&'static str, Class),
    params: &str,
    host: &Arc<Host>,
) -> Answer<Becomes> {
    let (admitted, p, _) = admit::<ConnectParams>(door, method, params).await?;
    let connected = answer(connect::connect(host, &p).await);
    came(admitted, method.0, connected.as_ref().err()).await?;
    connected.map(Becomes::Port)
}

async fn log(
    door: &Inside,
    method: (&'static str, Class),
    params: &str,
    host: &Arc<Host>,
) -> Answer<Becomes> {
    let (admitted, p, _) = admit::<LogsParams>(door, method, params).await?;
    let opened = answer(logs::open(host, &p).await);
    came(admitted, method.0, opened.as_ref().err()).await?;
    opened.map(|log| Becomes::Log(Box::new((p, log))))
}

/// A connection to the outside, which is the broker's to make.
const OUTSIDE: &str = "net.connect";

/// A method that is the first and only one of its connection, which then carries bytes of a process, a port or a log.
pub(super) fn carried(method: &str) -> Option<(&'static str, Class)> {
    match method {
        OUTSIDE => Some((OUTSIDE, Class::Act)),
        "stream.attach" | "stream.connect" | "logs.read" => confine::find(method),
        _ => None,
    }
}
