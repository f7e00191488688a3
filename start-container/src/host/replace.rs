//! Another program in this one's place: `daemon --replace`, an upgrade that ends nothing.
//!
//! ```text
//! daemon --replace ──host.replace──▶ the host that runs: reads no more requests, lets streams rest
//!                                      └──execve of the caller's program──▶ the same process, the next host
//! ```
//! It stays the same process, so that its children are its children, whoever watches it sees no end, and the socket keeps
//! those who connect meanwhile. What the next one cannot find on disk goes through a socket that outlives the program:
//! the door, and each process that a client can name with its streams. Requests that are under way are cut off as by a
//! kill, at whatever step: what that leaves is what recovery is for.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::io::{BufRead as _, BufReader, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::ErrorKind;
use protocol::session::{HelloParams, ReplaceParams, StreamKind};
use protocol::subcontainer::Empty;
use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

use super::connection::{Answer, Call, answer};
use super::state::{Entry, Host, blocking};
use super::{run, streams};
use crate::engine::lock;
use crate::error::{Failure, Result};
use crate::subcontainer::Owner;

/// The variable that says which descriptor the next program finds what it gets at.
const HANDED: &str = "START_CONTAINER_HANDED";

/// How long streams may take to come to rest, and requests to be answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the next program is told, one by one, each with descriptors.
#[derive(Debug, Deserialize, Serialize)]
enum Message {
    /// The listening socket, the lock.
    Door,
    /// What numbers go on from.
    Numbers { next: u64, commands: u64 },
    /// A process that a client can name: its handle, its terminal if it has one, its streams.
    Process {
        id: String,
        guid: String,
        pid: i32,
        group: String,
        owner: Option<Owner>,
        terminal: bool,
        tree: bool,
        streams: Vec<StreamKind>,
    },
    /// A stream that somebody is attached to: its end, the client.
    Relay { process: String, stream: StreamKind },
}

/// What one program gets of the one before it.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) listener: OwnedFd,
    pub(super) lock: OwnedFd,
    rest: Vec<(Message, Vec<OwnedFd>)>,
}

/// A relay at rest, to be gone on with.
struct Resting {
    process: String,
    stream: StreamKind,
    end: Arc<OwnedFd>,
    client: UnixStream,
}

/// Somebody who wants to be in this one's place.
pub(super) struct Request {
    pid: i32,
    args: Vec<String>,
    answer: oneshot::Sender<Failure>,
}

/// What a host knows of its replacement.
pub(super) struct Replacing {
    rest: watch::Sender<bool>,
    relays: AtomicUsize,
    resting: Mutex<Vec<Resting>>,
    requests: mpsc::Sender<Request>,
}

impl Replacing {
    pub(super) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel(1);
        let (rest, relays, resting) = (watch::channel(false).0, AtomicUsize::new(0), Mutex::default());
        (Self { rest, relays, resting, requests }, receiver)
    }

    /// Becomes true when streams are to rest.
    pub(super) fn rest(&self) -> watch::Receiver<bool> {
        self.rest.subscribe()
    }

    pub(super) fn relay_begins(&self) {
        self.relays.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn relay_ends(&self) {
        self.relays.fetch_sub(1, Ordering::AcqRel);
    }

    /// A relay that has come to rest, before it ends.
    pub(super) fn rests(&self, entry: &Entry, stream: StreamKind, end: Arc<OwnedFd>, client: UnixStream) {
        let process = entry.id.clone();
        lock(&self.resting).push(Resting { process, stream, end, client });
    }
}

/// As a command line: has the host that runs become this program. Returns when that answers as the next host.
pub(super) fn ask(socket: PathBuf, data_dir: &Path, run_dir: &Path) -> Result<()> {
    let failed = |error: std::io::Error| {
        Failure::new(ErrorKind::NotRunning, "replace the host at", socket.display()).because(error)
    };
    let said = || -> std::io::Result<Option<String>> {
        let mut args = vec!["start-container".into(), "--data-dir".into(), data_dir.display().to_string()];
        args.extend(["--run-dir".into(), run_dir.display().to_string(), "daemon".into()]);
        let flags = std::env::args().skip_while(|arg| arg != "daemon").skip(1);
        args.extend(flags.filter(|flag| flag != "--replace"));
        let mut lines = say_hello(&socket)?;
        let request = serde_json::json!({"jsonrpc": "2.0", "id": 2, "method": "host.replace",
            "params": ReplaceParams { args }});
        writeln!(lines.get_mut(), "{request}")?;
        let mut answer = String::new();
        lines.read_line(&mut answer)?;
        if answer.is_empty() {
            // The connection has ended: another program is there, and answers when it is ready.
            return say_hello(&socket).map(|_| None);
        }
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        Ok(Some(answer["error"]["message"].as_str().unwrap_or("it said nothing").to_owned()))
    };
    match said().map_err(failed)? {
        None => Ok(()),
        Some(refusal) => Err(Failure::new(ErrorKind::Kernel, "replace the host at", socket.display())
            .because(std::io::Error::other(refusal))),
    }
}

fn say_hello(socket: &Path) -> std::io::Result<BufReader<std::os::unix::net::UnixStream>> {
    let mut lines = BufReader::new(std::os::unix::net::UnixStream::connect(socket)?);
    lines.get_ref().set_read_timeout(Some(Duration::from_secs(30)))?;
    let hello = HelloParams {
        protocol: protocol::PROTOCOL_VERSION,
        client: concat!("start-container ", env!("CARGO_PKG_VERSION")).to_owned(),
        session: None,
    };
    let hello = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "hello", "params": hello});
    writeln!(lines.get_mut(), "{hello}")?;
    let mut answer = String::new();
    match lines.read_line(&mut answer)? {
        0 => Err(std::io::Error::other("it closed the connection")),
        _ => Ok(lines),
    }
}

/// `host.replace`
pub(super) async fn replace(host: Arc<Host>, call: Call, p: ReplaceParams) -> Answer<Empty> {
    let (sender, told) = oneshot::channel();
    let request = Request { pid: call.connection.owner().pid, args: p.args, answer: sender };
    let busy = || Failure::new(ErrorKind::Busy, "replace the host", "");
    if host.replacing.requests.try_send(request).is_err() {
        return answer(Err(busy()));
    }
    // Where it succeeds, nobody is left to answer: the connection ends.
    answer(Err(told.await.unwrap_or_else(|_| busy())))
}

/// Becomes the program of whoever asks. Returns only when that cannot be; then this host goes on.
pub(super) async fn become_the_next(host: &Arc<Host>, request: Request, door: [BorrowedFd<'_>; 2]) {
    let Request { pid, args, answer } = request;
    let Err(failure) = try_to(host, pid, &args, door).await;
    tracing::error!("{}", failure.sentence());
    host.replacing.rest.send_replace(false);
    let resting = std::mem::take(&mut *lock(&host.replacing.resting));
    for Resting { process, stream, end, client } in resting {
        if let Ok(entry) = host.process(&process) {
            go_on(host, entry, stream, end, client);
        }
    }
    // Who asked may be gone.
    let _unheard = answer.send(failure);
}

async fn try_to(
    host: &Arc<Host>,
    pid: i32,
    args: &[String],
    door: [BorrowedFd<'_>; 2],
) -> Result<std::convert::Infallible> {
    let path = format!("/proc/{pid}/exe");
    let fail = |step: &'static str| {
        let path = path.clone();
        move |errno| Failure::kernel(step, path, errno)
    };
    let program =
        rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fail("open"))?;
    tracing::info!("process {pid} takes this one's place");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    host.replacing.rest.send_replace(true);
    while host.replacing.relays.load(Ordering::Acquire) > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The one that asks stays.
    while host.requests_under_way() > 1 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let worker = Arc::clone(host);
    blocking(move || worker.machine.rest()).await?;
    let (ours, its) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(fail("make a socket for"))?;
    // As much as may be under way. Without that right, it is the default.
    let _default = rustix::net::sockopt::set_socket_send_buffer_size_force(&ours, 64 << 20);
    hand_over(host, &ours, door).map_err(fail("hand over to"))?;
    drop(ours);
    rustix::io::fcntl_setfd(&its, FdFlags::empty()).map_err(fail("hand over to"))?;
    let text = |bytes: Vec<u8>| {
        CString::new(bytes).map_err(|_nul| fail("read arguments of")(rustix::io::Errno::INVAL))
    };
    let args = args.iter().map(|arg| text(arg.clone().into_bytes())).collect::<Result<Vec<_>>>()?;
    let mut env = std::env::vars_os()
        .filter(|(name, _)| name != HANDED)
        .map(|(name, value)| text([name.into_vec(), value.into_vec()].join(&b'=')))
        .collect::<Result<Vec<_>>>()?;
    env.push(text(format!("{HANDED}={}", its.as_raw_fd()).into_bytes())?);
    let args: Vec<&std::ffi::CStr> = args.iter().map(CString::as_c_str).collect();
    let env: Vec<&std::ffi::CStr> = env.iter().map(CString::as_c_str).collect();
    match linux::process::execveat(&program, &args, &env) {
        Ok(never) => match never {},
        Err(errno) => Err(fail("execute")(errno)),
    }
}

fn hand_over(
    host: &Host,
    to: &OwnedFd,
    door: [BorrowedFd<'_>; 2],
) -> std::result::Result<(), rustix::io::Errno> {
    send(to, &Message::Door, &door)?;
    let (next, commands) = (host.number(), host.machine.commands_so_far());
    send(to, &Message::Numbers { next, commands }, &[])?;
    let owners = host.owners_of_processes();
    for entry in host.all_processes() {
        let held = lock(&entry.streams).clone();
        let (streams, ends): (Vec<StreamKind>, Vec<&OwnedFd>) =
            held.iter().map(|(kind, end)| (*kind, &**end)).unzip();
        let mut handles = vec![entry.process.pidfd.as_fd()];
        handles.extend(entry.terminal.as_ref().map(|terminal| terminal.as_fd()));
        handles.extend(ends.iter().map(|end| end.as_fd()));
        let message = Message::Process {
            id: entry.id.clone(),
            guid: entry.guid.clone(),
            pid: entry.process.pid,
            group: entry.process.group.location().1.to_owned(),
            owner: owners.get(&entry.id).cloned(),
            terminal: entry.terminal.is_some(),
            tree: entry.tree.load(Ordering::Relaxed),
            streams,
        };
        send(to, &message, &handles)?;
    }
    for resting in lock(&host.replacing.resting).iter() {
        let message = Message::Relay { process: resting.process.clone(), stream: resting.stream };
        send(to, &message, &[resting.end.as_fd(), resting.client.as_fd()])?;
    }
    Ok(())
}

/// More than any message has.
const MOST: usize = 8;

fn send(
    to: &OwnedFd,
    message: &Message,
    handles: &[BorrowedFd<'_>],
) -> std::result::Result<(), rustix::io::Errno> {
    let text = serde_json::to_vec(message).map_err(|_unsayable| rustix::io::Errno::INVAL)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !handles.is_empty() && !control.push(SendAncillaryMessage::ScmRights(handles)) {
        return Err(rustix::io::Errno::TOOBIG);
    }
    rustix::net::sendmsg(to, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL).map(drop)
}

impl Handed {
    /// What the program before this one has left, if this is in one's place.
    pub(super) fn take() -> Result<Option<Self>> {
        let Some(number) = std::env::var_os(HANDED) else { return Ok(None) };
        let fail = |errno| Failure::kernel("take over", number.to_string_lossy(), errno);
        let wrong = || fail(rustix::io::Errno::INVAL);
        let number: u32 = number.to_str().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
        let socket = linux::process::inherited(number).map_err(fail)?;
        // The number itself stays open, for nobody: all that was to say is read here.
        linux::process::close_range_on_exec(3).map_err(fail)?;
        let (mut door, mut rest) = (None, Vec::new());
        while let Some((message, mut handles)) = receive(&socket).map_err(fail)? {
            match message {
                Message::Door => door = handles.pop().zip(handles.pop()),
                message => rest.push((message, handles)),
            }
        }
        let (lock, listener) = door.ok_or_else(wrong)?;
        Ok(Some(Self { listener, lock, rest }))
    }

    /// The groups of commands that go on.
    pub(super) fn groups(&self) -> HashSet<String> {
        let group = |(message, _): &(Message, Vec<OwnedFd>)| match message {
            Message::Process { group, .. } => Some(group.clone()),
            _ => None,
        };
        self.rest.iter().filter_map(group).collect()
    }

    /// The processes that have names.
    pub(super) fn pids(&self) -> HashSet<i32> {
        let pid = |(message, _): &(Message, Vec<OwnedFd>)| match message {
            Message::Process { pid, .. } => Some(*pid),
            _ => None,
        };
        self.rest.iter().filter_map(pid).collect()
    }

    /// Numbers, before anything is named by them.
    pub(super) fn count_on(&self, host: &Host) {
        for (message, _) in &self.rest {
            if let Message::Numbers { next, commands } = message {
                host.count_from(*next);
                host.machine.count_commands_from(*commands);
            }
        }
    }

    /// Processes and streams, once their leaders are known.
    pub(super) fn go_on(self, host: &Arc<Host>) {
        for (message, mut handles) in self.rest {
            match message {
                Message::Process { id, guid, pid, group, owner, terminal, tree, streams } => {
                    let mut handles = handles.drain(..).map(Arc::new);
                    let Some(pidfd) = handles.next() else { continue };
                    let terminal = if terminal { handles.next() } else { None };
                    let streams: HashMap<_, _> = streams.into_iter().zip(handles).collect();
                    run::go_on(host, id.clone(), &guid, (pid, pidfd, &group, tree), terminal, streams);
                    if let Some(owner) = owner {
                        host.await_owner_of_process(owner, id);
                    }
                }
                Message::Relay { process, stream } => {
                    let (client, end) = (handles.pop(), handles.pop());
                    let client = client.map(std::os::unix::net::UnixStream::from);
                    let client = client.and_then(|client| UnixStream::from_std(client).ok());
                    if let (Ok(entry), Some(client), Some(end)) = (host.process(&process), client, end) {
                        go_on(host, entry, stream, Arc::new(end), client);
                    }
                }
                Message::Door | Message::Numbers { .. } => {}
            }
        }
    }
}

fn go_on(host: &Arc<Host>, entry: Arc<Entry>, stream: StreamKind, end: Arc<OwnedFd>, client: UnixStream) {
    let host = Arc::clone(host);
    tokio::spawn(async move { streams::relay(&host, &entry, stream, end, client, Vec::new()).await });
}

/// The next message; none after the last.
fn receive(from: &OwnedFd) -> std::result::Result<Option<(Message, Vec<OwnedFd>)>, rustix::io::Errno> {
    let mut text = vec![0; 64 * 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = rustix::net::recvmsg(from, &mut [IoSliceMut::new(&mut text)], &mut control, flags)?;
    let mut handles = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(all) = message {
            handles.extend(all);
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(rustix::io::Errno::MSGSIZE);
    }
    let message = serde_json::from_slice(&text[..got.bytes]).map_err(|_garbled| rustix::io::Errno::BADMSG)?;
    Ok(Some((message, handles)))
}
