//! What processes have written to streams that are kept: bounds, what to read, and how it travels.
//!
//! ```text
//! | {"method":"logs.read",...} ->   |   first and only request of a connection
//! | <- {"result":{}}                |   and from here on frames, until all was sent, or either side closes
//!
//! frame: time (u64) · length (u32) · process id × 4 + stream (u32) · `length` bytes      numbers little-endian
//! ```
//! A frame is what one look at a stream found there: it may begin and end anywhere, also inside a line or a character.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// How much of what was written is kept. The oldest goes first, a file at a time.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogBounds {
    /// Bytes of one file, with the times of what is in it: 64 KiB to 1 TiB. Default 10,000,000.
    #[serde(default = "LogBounds::default_size")]
    #[ts(optional, as = "Option<u32>")]
    pub size: u64,
    /// How many files, 1 to 100. Default 3.
    #[serde(default = "LogBounds::default_files")]
    #[ts(optional, as = "Option<_>")]
    pub files: u32,
}

impl LogBounds {
    fn default_size() -> u64 {
        10_000_000
    }

    fn default_files() -> u32 {
        3
    }
}

impl Default for LogBounds {
    fn default() -> Self {
        Self { size: Self::default_size(), files: Self::default_files() }
    }
}

/// Where else than to files a stream that is kept goes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum LogDriver {
    /// Nowhere else.
    #[default]
    Files,
    /// Each line to the machine's journal, too, with the fields that Docker gives it: `CONTAINER_ID`, `CONTAINER_ID_FULL`,
    /// `CONTAINER_NAME`, and `PRIORITY` 6 for standard output and 3 for standard error. A host that is killed may send the
    /// last lines twice; what is written faster than the journal takes it is in the files only.
    Journald,
}

/// The stream that something was written to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Parameters of `logs.read`, the first and only request of a connection that then carries frames (see [`Frame`]).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogsParams {
    /// The subcontainer.
    pub guid: String,
    /// Go on with what is written from now on, until no process has a stream that is kept.
    #[serde(default)]
    #[ts(optional, as = "Option<_>")]
    pub follow: bool,
    /// Only what was written at or after this time, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub since: Option<u64>,
    /// Only what was written before this time, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub until: Option<u64>,
    /// Only the last lines of what there is, this many; what is followed comes after them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub tail: Option<u64>,
    /// Only this stream. Default: both, in the order in which they were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub stream: Option<LogStream>,
}

/// The head of a frame: what the bytes after it are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame {
    /// When they were read from the process, in nanoseconds since the Unix epoch.
    pub time: u64,
    /// How many bytes.
    pub length: u32,
    /// The process, by its id on the host; 0 where that was lost.
    pub pid: u32,
    /// The stream.
    pub stream: LogStream,
}

impl Frame {
    /// How many bytes a head has.
    pub const SIZE: usize = 16;

    /// As it travels, and as it lies on disk.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let stream = match self.stream {
            LogStream::Stdout => 1,
            LogStream::Stderr => 2,
        };
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&self.time.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..].copy_from_slice(&((self.pid << 2) | stream).to_le_bytes());
        bytes
    }

    /// None when no head looks like that.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        let (time, rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (source, _) = rest.split_first_chunk()?;
        let source = u32::from_le_bytes(*source);
        let stream = match source & 3 {
            1 => LogStream::Stdout,
            2 => LogStream::Stderr,
            _ => return None,
        };
        let (time, length) = (u64::from_le_bytes(*time), u32::from_le_bytes(*length));
        Some(Self { time, length, pid: source >> 2, stream })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s28_a_frames_head_is_what_the_module_says() {
        let head = Frame { time: 0x0102, length: 5, pid: 4_194_304, stream: LogStream::Stderr };
        assert_eq!(head.to_bytes(), [2, 1, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 1]);
        assert_eq!(Frame::from_bytes(&head.to_bytes()), Some(head));
        assert_eq!(Frame::from_bytes(&[0; 16]), None);
    }
}
