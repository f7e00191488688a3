//! A client of the host's socket, for commands that need the host.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use protocol::session::HelloParams;
use protocol::{ErrorData, ErrorKind, PROTOCOL_VERSION};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Failure, Result};
use crate::subcontainer::Machine;

/// Where the host of a data directory listens, unless it was told to elsewhere.
pub(super) fn socket(machine: &Machine) -> PathBuf {
    machine.data_dir().join("rpc/host.sock")
}

/// How often a cancellation is looked for.
const LOOK: std::time::Duration = std::time::Duration::from_millis(200);

/// A connection, one request at a time.
#[derive(Debug)]
pub(super) struct Client {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
    next: u64,
}

impl Client {
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let mut client = Self::open(socket, 64 * 1024)?;
        let client_name = concat!("start-container ", env!("CARGO_PKG_VERSION")).to_owned();
        let hello = HelloParams { protocol: PROTOCOL_VERSION, client: client_name, session: None };
        client.call::<serde_json::Value>("hello", &hello)?;
        Ok(client)
    }

    /// A connection whose first and only request makes it carry bytes.
    pub(super) fn turn_into_bytes(
        socket: &Path,
        method: &str,
        params: &impl Serialize,
    ) -> Result<UnixStream> {
        // One byte at a time: what follows the answer is the stream's.
        let mut client = Self::open(socket, 1)?;
        client.call::<serde_json::Value>(method, params)?;
        Ok(client.stream.into_inner())
    }

    /// The connection itself, for what the host sends by itself.
    pub(super) fn into_reader(self) -> BufReader<UnixStream> {
        self.stream
    }

    fn open(socket: &Path, buffer: usize) -> Result<Self> {
        let stream = UnixStream::connect(socket).map_err(|error| {
            Failure::new(ErrorKind::NotFound, "connect to", socket.display()).because(error)
        })?;
        let stream = BufReader::with_capacity(buffer, stream);
        Ok(Self { socket: socket.to_owned(), stream, next: 1 })
    }

    /// For `map_err`: a call that came to nothing.
    fn failed<E: std::fmt::Display>(&self, method: &str) -> impl Fn(E) -> Failure + use<E> {
        let (step, socket) = (format!("call {method} at"), self.socket.display().to_string());
        move |why| {
            Failure::new(ErrorKind::Internal, step.clone(), &socket)
                .because(std::io::Error::other(why.to_string()))
        }
    }

    /// Sends a message, with a number where it is a request.
    fn send(&self, id: Option<u64>, method: &str, params: &impl Serialize) -> std::io::Result<()> {
        let mut message = serde_json::json!({ "jsonrpc": "2.0", "method": method, "params": params });
        if let Some(id) = id {
            message["id"] = id.into();
        }
        let mut stream = self.stream.get_ref();
        stream.write_all(format!("{message}\n").as_bytes())
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// A request that takes long: tells how far it is, and is cancelled by Ctrl-C; then this waits for what is there to be undone.
    pub(super) fn call_watched<R: DeserializeOwned>(
        &mut self,
        method: &str,
        params: &impl Serialize,
        (progress, cancel): (&dyn images::Progress, &images::Cancel),
    ) -> Result<R> {
        let id = self.number();
        self.send(Some(id), method, params).map_err(self.failed(method))?;
        self.stream.get_ref().set_read_timeout(Some(LOOK)).map_err(self.failed(method))?;
        let (mut line, mut told) = (Vec::new(), false);
        let answer: serde_json::Value = loop {
            if cancel.is_cancelled() && !told {
                told = true;
                let which = serde_json::json!({ "id": id });
                self.send(None, "$/cancelRequest", &which).map_err(self.failed(method))?;
            }
            match self.stream.read_until(b'\n', &mut line) {
                Ok(0) => return Err(self.failed(method)("the host has gone")),
                Ok(_) if line.last() == Some(&b'\n') => {}
                Ok(_) => continue,
                // What was read by then is kept.
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(self.failed(method)(error)),
            }
            let message: serde_json::Value = serde_json::from_slice(&line).map_err(self.failed(method))?;
            line.clear();
            match message["method"].as_str() {
                Some("$/progress") => {
                    let params = &message["params"];
                    let stage = params["stage"].as_str().unwrap_or_default();
                    progress.update(stage, params["done"].as_u64().unwrap_or(0), params["total"].as_u64());
                }
                Some(_) => {}
                None => break message,
            }
        };
        self.stream.get_ref().set_read_timeout(None).map_err(self.failed(method))?;
        self.result(method, answer)
    }

    /// What an answer says.
    fn result<R: DeserializeOwned>(&self, method: &str, mut answer: serde_json::Value) -> Result<R> {
        if let Some(message) = answer["error"]["message"].as_str() {
            let data: Option<ErrorData> = serde_json::from_value(answer["error"]["data"].clone()).ok();
            return Err(match data {
                // As it would be said here.
                Some(data) => Failure::new(data.kind, message, ""),
                None => self.failed(method)(message),
            });
        }
        serde_json::from_value(answer["result"].take()).map_err(self.failed(method))
    }

    pub(super) fn call<R: DeserializeOwned>(&mut self, method: &str, params: &impl Serialize) -> Result<R> {
        let id = self.number();
        self.send(Some(id), method, params).map_err(self.failed(method))?;
        let mut line = String::new();
        self.stream.read_line(&mut line).map_err(self.failed(method))?;
        let answer = serde_json::from_str(&line).map_err(self.failed(method))?;
        self.result(method, answer)
    }
}
