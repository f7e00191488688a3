//! `logs`: what a container has written to streams that are kept.
//!
//! By the host, where one runs, since it knows what is on its way; else from the files.

use std::collections::HashMap;
use std::io::{BufReader, Read, Write};

use clap::Args;
use protocol::logs::{Frame, LogStream, LogsParams};
use protocol::{Data, ErrorKind};
use serde::Serialize;

use super::client::{self, Client};
use super::subcontainer::find;
use super::{Context, times};
use crate::error::{Failure, Result};
use crate::logs::{Reader, Select};

/// The longest line that is held until it is whole.
const LONGEST: usize = 1024 * 1024;

#[derive(Debug, Args)]
pub(super) struct Logs {
    /// Go on with what comes, until nothing runs in it any more; this needs the daemon
    #[arg(short, long)]
    follow: bool,
    /// Only what was written since then: 2026-11-21T12:00:00Z, or how long ago: 10m
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    since: Option<u64>,
    /// Only what was written before then
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    until: Option<u64>,
    /// Only the last lines of what there is
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<u64>,
    /// Begin each line with the time when it was read
    #[arg(short, long)]
    timestamps: bool,
    /// Only this stream [default: both]
    #[arg(long, value_name = "STREAM", value_parser = ["stdout", "stderr"])]
    stream: Option<String>,
    /// The path of a rootfs, its id or an unambiguous beginning of that, or its name
    #[arg(value_name = "ROOTFS|ID|NAME")]
    rootfs: String,
}

/// A line, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    time: String,
    stream: LogStream,
    pid: u32,
    #[serde(flatten)]
    data: Data,
    /// Its end is still to come.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

impl Logs {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let machine = context.machine_of(&self.rootfs)?;
        let rootfs = find(&machine, &self.rootfs)?;
        let params = LogsParams {
            guid: rootfs.guid().to_owned(),
            follow: self.follow,
            since: self.since,
            until: self.until,
            tail: self.tail,
            stream: self.stream.as_deref().map(|stream| match stream {
                "stderr" => LogStream::Stderr,
                _ => LogStream::Stdout,
            }),
        };
        let mut shown = Shown { how: self.how(context.json), parts: HashMap::new() };
        match Client::turn_into_bytes(&client::socket(&machine), "logs.read", &params) {
            Ok(stream) => {
                let fail = |error: std::io::Error| {
                    Failure::new(ErrorKind::Kernel, "read logs of", &params.guid).because(error)
                };
                let mut from = BufReader::with_capacity(256 * 1024, stream);
                let (mut head, mut bytes) = ([0; Frame::SIZE], Vec::new());
                loop {
                    // The host closes it between two frames.
                    if from.read(&mut head[..1]).map_err(fail)? == 0 {
                        break;
                    }
                    from.read_exact(&mut head[1..]).map_err(fail)?;
                    let Some(frame) = Frame::from_bytes(&head) else {
                        return Err(Failure::new(ErrorKind::Corrupt, "read logs of", &params.guid));
                    };
                    bytes.resize(frame.length as usize, 0);
                    from.read_exact(&mut bytes).map_err(fail)?;
                    // Whoever follows wants to see what is there.
                    if !shown.show(&frame, &bytes, from.buffer().is_empty()) {
                        return Ok(());
                    }
                }
            }
            Err(failure) if failure.kind == ErrorKind::NotFound && !self.follow => {
                let mut reader = Reader::open(machine.data_dir(), &params.guid, Select::of(&params), false)?;
                let mut bytes = Vec::new();
                while let Some(frame) = reader.next(&mut bytes)? {
                    if !shown.show(&frame, &bytes, false) {
                        return Ok(());
                    }
                }
            }
            Err(failure) => return Err(failure),
        }
        shown.end();
        Ok(())
    }

    fn how(&self, json: bool) -> How {
        match (json, self.timestamps) {
            (true, _) => How::Json,
            (false, true) => How::Timed,
            (false, false) => How::Plain,
        }
    }
}

#[derive(Clone, Copy)]
enum How {
    Plain,
    Timed,
    Json,
}

/// What was shown, and what waits for the end of its line.
struct Shown {
    how: How,
    /// By stream and process: two that write to one log do not mix their lines.
    parts: HashMap<(bool, u32), (u64, Vec<u8>)>,
}

impl Shown {
    /// False when nobody wants to see any more.
    fn show(&mut self, frame: &Frame, bytes: &[u8], flush: bool) -> bool {
        let to_stderr = frame.stream == LogStream::Stderr && !matches!(self.how, How::Json);
        let done = match self.how {
            How::Plain => put(to_stderr, bytes),
            How::Timed | How::Json => {
                let key = (frame.stream == LogStream::Stderr, frame.pid);
                let (mut time, mut line) = self.parts.remove(&key).unwrap_or_default();
                let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 2);
                for part in bytes.split_inclusive(|byte| *byte == b'\n') {
                    if line.is_empty() {
                        time = frame.time;
                    }
                    line.extend_from_slice(part);
                    if line.ends_with(b"\n") || line.len() > LONGEST {
                        self.write(&mut out, frame, time, &line);
                        line.clear();
                    }
                }
                if !line.is_empty() {
                    self.parts.insert(key, (time, line));
                }
                put(to_stderr, &out)
            }
        };
        if flush && done.is_ok() {
            return std::io::stdout().flush().is_ok();
        }
        done.is_ok()
    }

    /// What has no end of a line, and gets none.
    fn end(&mut self) {
        for ((is_stderr, pid), (time, line)) in std::mem::take(&mut self.parts) {
            let stream = if is_stderr { LogStream::Stderr } else { LogStream::Stdout };
            let mut out = Vec::new();
            self.write(&mut out, &Frame { time, length: 0, pid, stream }, time, &line);
            let _closed = put(is_stderr && !matches!(self.how, How::Json), &out);
        }
        let _closed = std::io::stdout().flush();
    }

    fn write(&self, out: &mut Vec<u8>, frame: &Frame, time: u64, line: &[u8]) {
        if matches!(self.how, How::Timed) {
            out.extend_from_slice(times::format(time).as_bytes());
            out.push(b' ');
            out.extend_from_slice(line);
            return;
        }
        let whole = line.strip_suffix(b"\n");
        let line = Line {
            time: times::format(time),
            stream: frame.stream,
            pid: frame.pid,
            data: Data::from(whole.unwrap_or(line).to_vec()),
            partial: whole.is_none(),
        };
        // It holds nothing that JSON cannot.
        if serde_json::to_writer(&mut *out, &line).is_ok() {
            out.push(b'\n');
        }
    }
}

fn put(to_stderr: bool, bytes: &[u8]) -> std::io::Result<()> {
    if to_stderr { std::io::stderr().write_all(bytes) } else { std::io::stdout().write_all(bytes) }
}
