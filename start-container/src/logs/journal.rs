//! The machine's journal: its native protocol, a datagram for each line.
//!
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>: fields as `NAME=value` lines; a value with a line break in it as the name
//! alone, its length as 64 bits little-endian, and its bytes. Written here: it is shorter than what the crates that
//! speak it depend on, and none of them leaves the socket's answers to the caller. Lines are cut before they need the
//! protocol's other form, a sealed file.

use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use protocol::ErrorKind;
use protocol::logs::{Frame, LogStream};

use crate::error::{Failure, Result};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The longest line, in bytes: journald's own default (`LineMax=48K`). What is longer becomes several.
pub(crate) const LONGEST: usize = 48 * 1024;

/// Somebody else may have filled its queue, or stopped it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection.
#[derive(Debug)]
pub(crate) struct Journal {
    socket: UnixDatagram,
    message: Vec<u8>,
}

/// Whose lines they are.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) guid: String,
    pub(crate) name: String,
}

impl Journal {
    /// Connects to the machine's journald.
    ///
    /// # Errors
    /// There is none, or it does not run.
    pub(crate) fn open() -> Result<Self> {
        let fail = |error: std::io::Error| {
            Failure::new(ErrorKind::Kernel, "reach journald at", SOCKET).because(error)
        };
        let socket = UnixDatagram::unbound().map_err(fail)?;
        socket.connect(Path::new(SOCKET)).map_err(fail)?;
        socket.set_write_timeout(Some(PATIENCE)).map_err(fail)?;
        Ok(Self { socket, message: Vec::new() })
    }

    /// Sends one line. `part`: it goes on in the next one.
    pub(crate) fn send(&mut self, source: &Source, frame: &Frame, line: &[u8], part: bool) -> Result<()> {
        compose(&mut self.message, source, frame, line, part);
        self.socket
            .send(&self.message)
            .map(drop)
            .map_err(|error| Failure::new(ErrorKind::Kernel, "write to journald at", SOCKET).because(error))
    }
}

fn compose(message: &mut Vec<u8>, source: &Source, frame: &Frame, line: &[u8], part: bool) {
    message.clear();
    let priority = match frame.stream {
        LogStream::Stdout => "6",
        LogStream::Stderr => "3",
    };
    let time = DateTime::from_timestamp_nanos(i64::try_from(frame.time).unwrap_or(i64::MAX));
    let time = time.to_rfc3339_opts(SecondsFormat::Nanos, true);
    let pid = frame.pid.to_string();
    let short = source.guid.get(..12).unwrap_or(&source.guid);
    let fields = [
        ("PRIORITY", priority),
        ("CONTAINER_ID", short),
        ("CONTAINER_ID_FULL", &source.guid),
        ("CONTAINER_NAME", &source.name),
        ("SYSLOG_IDENTIFIER", &source.name),
        ("SYSLOG_PID", &pid),
        ("SYSLOG_TIMESTAMP", &time),
    ];
    for (name, value) in fields {
        field(message, name, value.as_bytes());
    }
    if part {
        field(message, "CONTAINER_PARTIAL_MESSAGE", b"true");
    }
    field(message, "MESSAGE", line);
}

/// A value may hold anything: with a line break it has its length before it, and none of it is another field.
fn field(message: &mut Vec<u8>, name: &str, value: &[u8]) {
    message.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        message.push(b'\n');
        message.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        message.push(b'=');
    }
    // Writing to memory does not fail.
    let _written = message.write_all(value);
    message.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s28_a_message_to_the_journal_has_its_fields_and_no_others() {
        let source =
            Source { guid: "0b5a4f0e-6b1c-4a51-9d4f-2f3a6f1f2a10".into(), name: "a\nPRIORITY=0".into() };
        let frame = Frame { time: 1_500_000_000, length: 0, pid: 7, stream: LogStream::Stderr };
        let mut message = Vec::new();
        compose(&mut message, &source, &frame, b"\xffUSER=root", true);
        let mut expected = b"PRIORITY=3\nCONTAINER_ID=0b5a4f0e-6b1\n".to_vec();
        expected.extend_from_slice(b"CONTAINER_ID_FULL=0b5a4f0e-6b1c-4a51-9d4f-2f3a6f1f2a10\n");
        for name in [&b"CONTAINER_NAME"[..], b"SYSLOG_IDENTIFIER"] {
            expected.extend_from_slice(name);
            expected.extend_from_slice(b"\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\n");
        }
        expected.extend_from_slice(b"SYSLOG_PID=7\nSYSLOG_TIMESTAMP=1970-01-01T00:00:01.500000000Z\n");
        expected.extend_from_slice(b"CONTAINER_PARTIAL_MESSAGE=true\nMESSAGE=\xffUSER=root\n");
        assert_eq!(message, expected);
    }
}
