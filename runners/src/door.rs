//! A connection to the package's own socket: what functions ask of the host goes through it, as any call of the package's.
//!
//! Who calls is known to the host from the socket, not from anything that is said here. One call at a time of the isolate
//! that has it writes and reads; an isolate that ends with calls under way takes its connection along.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use protocol::PROTOCOL_VERSION;
use protocol::broker::MAX_PACKAGE_LINE;
use serde::Deserialize;
use serde_json::value::RawValue;

const SOCKET: &str = "/media/startos/rpc/host.sock";
/// How long the host may take to read a request.
const TO_WRITE: Duration = Duration::from_secs(5);
/// The longest answer. What the host sends beyond its own bound ends the connection there.
const LONGEST: usize = 2 * MAX_PACKAGE_LINE;

/// A connection that has said hello.
pub(crate) struct Door {
    stream: UnixStream,
    read: Vec<u8>,
    last: u64,
    /// Calls without an answer.
    pub(crate) pending: usize,
}

/// The answer to one call.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    pub(crate) id: u64,
    pub(crate) result: Option<Box<RawValue>>,
    pub(crate) error: Option<Box<RawValue>>,
}

impl Door {
    pub(crate) fn open() -> std::io::Result<Self> {
        let stream = UnixStream::connect(SOCKET)?;
        stream.set_write_timeout(Some(TO_WRITE))?;
        let mut door = Self { stream, read: Vec::new(), last: 0, pending: 0 };
        let hello = format!("{{\"protocol\":{PROTOCOL_VERSION},\"client\":\"functions\"}}");
        door.send("hello", &hello)?;
        match door.receive(TO_WRITE)? {
            Some(Answer { error: None, .. }) => Ok(door),
            Some(Answer { error: Some(error), .. }) => Err(std::io::Error::other(error.to_string())),
            None => Err(ErrorKind::TimedOut.into()),
        }
    }

    /// Sends a call, and gives the number that its answer will have. `params` is JSON.
    pub(crate) fn send(&mut self, method: &str, params: &str) -> std::io::Result<u64> {
        self.last += 1;
        let method = serde_json::to_string(method)?;
        let line =
            format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":{method},\"params\":{params}}}\n", self.last);
        self.stream.write_all(line.as_bytes())?;
        self.pending += 1;
        Ok(self.last)
    }

    /// The next answer; none when that takes longer.
    pub(crate) fn receive(&mut self, patience: Duration) -> std::io::Result<Option<Answer>> {
        // The kernel takes none for no limit at all.
        self.stream.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                self.pending = self.pending.saturating_sub(1);
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            if self.read.len() > LONGEST {
                return Err(std::io::Error::other("an answer of the host is too long"));
            }
            let mut part = [0; 16 << 10];
            match self.stream.read(&mut part) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.read.extend_from_slice(&part[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }
}
