//! `subcontainer attach`: the first process of a container that somebody else launched.
//!
//! Its end is watched by handle. Its streams are the host's, if the host launched it with any: they are attached to by
//! the host's socket, like the SDK does.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use protocol::process::{Outcome, ResizeParams};
use protocol::session::{AttachStreamParams, HelloParams, StreamKind};
use protocol::subcontainer::{GuidParams, RunState, SubcontainerInfo};
use protocol::{ErrorKind, PROTOCOL_VERSION};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::relay::{self, Ends, Foreground};
use super::{command, output, subcontainer};
use crate::error::{Failure, Result};
use crate::subcontainer::Machine;

/// Waits for the leader, shows what it writes, and ends as it ends.
pub(super) fn attach(machine: &Machine, rootfs: &str) -> Result<ExitCode> {
    let signals = relay::block_signals()?;
    let rootfs = subcontainer::find(machine, rootfs)?;
    let leader = machine.leader(rootfs.guid())?.ok_or_else(|| {
        Failure::new(ErrorKind::NotRunning, "attach to", rootfs.path().display())
            .because(std::io::Error::other("it is not running"))
    })?;
    let ends = streams(machine, rootfs.guid())?;
    let mut end = Foreground { process: &leader.process, signals, ends }.run()?;
    if end.outcome == Outcome::Unknown {
        end.outcome = written_down(machine, rootfs.guid())?;
    }
    if end.outcome == Outcome::Unknown {
        output::error("start-container: it ended; whoever launched it has not written down how");
    }
    command::ended(end)
}

/// What the launcher writes down when the leader has ended; the kernel tells only the launcher before 6.15.
fn written_down(machine: &Machine, guid: &str) -> Result<Outcome> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        if let RunState::Exited { outcome } = machine.info(&machine.rootfs(guid)?)?.state
            && (outcome != Outcome::Unknown || Instant::now() > deadline)
        {
            return Ok(outcome);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Those of the leader's streams that the host has and nobody is attached to.
fn streams(machine: &Machine, guid: &str) -> Result<Ends> {
    let socket = machine.data_dir().join("rpc/host.sock");
    let Ok(mut host) = Client::connect(&socket) else { return Ok(Ends::default()) };
    let info: SubcontainerInfo = host.call("subcontainer.inspect", &GuidParams { guid: guid.to_owned() })?;
    let RunState::Running { process: Some(process), .. } = info.state else { return Ok(Ends::default()) };
    let open = |stream| Client::attach(&socket, &AttachStreamParams { process: process.clone(), stream });
    let linger = Duration::from_secs(2);
    let stderr = open(StreamKind::Stderr);
    if let Some(terminal) = open(StreamKind::Terminal) {
        let host = Mutex::new(host);
        let resize = move |size| {
            let params = ResizeParams { process: process.clone(), size };
            match host.lock() {
                Ok(mut host) => {
                    host.call::<protocol::subcontainer::Empty>("subcontainer.resize", &params).map(drop)
                }
                Err(_) => Ok(()),
            }
        };
        if let Some(size) = relay::own_size() {
            resize(size)?;
        }
        let resize = Some(Box::new(resize) as relay::Resize);
        return Ok(Ends {
            stdout: Some(Arc::clone(&terminal)),
            stderr,
            stdin: Some(terminal),
            resize,
            raw: true,
            linger,
        });
    }
    let (stdout, stdin) = (open(StreamKind::Stdout), open(StreamKind::Stdin));
    Ok(Ends { stdout, stderr, stdin, resize: None, raw: false, linger })
}

/// A connection to the host, one request at a time.
struct Client {
    socket: PathBuf,
    stream: UnixStream,
    next: u64,
}

impl Client {
    fn connect(socket: &Path) -> Result<Self> {
        let fail = |error: std::io::Error| {
            Failure::new(ErrorKind::NotFound, "connect to", socket.display()).because(error)
        };
        let stream = UnixStream::connect(socket).map_err(fail)?;
        let mut client = Self { socket: socket.to_owned(), stream, next: 1 };
        let client_name = concat!("start-container attach ", env!("CARGO_PKG_VERSION")).to_owned();
        let hello = HelloParams { protocol: PROTOCOL_VERSION, client: client_name };
        client.call::<serde_json::Value>("hello", &hello)?;
        Ok(client)
    }

    /// A stream of a process; none when it has none, or somebody else is attached.
    fn attach(socket: &Path, params: &AttachStreamParams) -> Option<Arc<OwnedFd>> {
        let stream = UnixStream::connect(socket).ok()?;
        let mut client = Self { socket: socket.to_owned(), stream, next: 1 };
        client.call::<serde_json::Value>("stream.attach", params).ok()?;
        Some(Arc::new(client.stream.into()))
    }

    fn call<R: DeserializeOwned>(&mut self, method: &str, params: &impl Serialize) -> Result<R> {
        let fail = |what: &str| {
            Failure::new(ErrorKind::Internal, format!("call {method} at"), self.socket.display())
                .because(std::io::Error::other(what.to_owned()))
        };
        let request =
            serde_json::json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params });
        self.next += 1;
        let sent = (&self.stream).write_all(format!("{request}\n").as_bytes());
        sent.map_err(|error| fail(&error.to_string()))?;
        let mut line = String::new();
        // One byte at a time: what follows the answer to an attach is the stream's.
        let mut reader = BufReader::with_capacity(1, &self.stream);
        reader.read_line(&mut line).map_err(|error| fail(&error.to_string()))?;
        let mut answer: serde_json::Value =
            serde_json::from_str(&line).map_err(|error| fail(&error.to_string()))?;
        if let Some(message) = answer["error"]["message"].as_str() {
            return Err(fail(message));
        }
        serde_json::from_value(answer["result"].take()).map_err(|error| fail(&error.to_string()))
    }
}
