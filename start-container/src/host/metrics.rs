//! Metrics, for Prometheus: an answer to `GET /metrics` on the host's own socket.
//!
//! The socket is root's alone, so who asks is the operator; a scraper asks through a proxy of the operator's, or reads what
//! `start-container metrics` prints. One request for each connection, which is closed after the answer; what is not asked in
//! time, or at length, is not answered. Nothing is counted for it while nobody asks, but for two numbers.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use protocol::stats::StatsResult;
use protocol::subcontainer::{RunState, SubcontainerInfo};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};

use super::state::{Host, blocking};
use crate::error::{Failure, Result};

/// How a request begins that is none of ours.
pub(super) const BEGINS: &[u8] = b"GET ";

/// The most that the head of a request has, and the time that it has.
const LONGEST: u64 = 16 * 1024;
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers a request whose first line was read.
pub(super) async fn answer(
    host: Arc<Host>,
    first: &[u8],
    reader: &mut (impl AsyncBufRead + Unpin),
    writer: &mut (impl tokio::io::AsyncWrite + Unpin),
) {
    let answered = tokio::time::timeout(PATIENCE, async {
        let mut head = reader.take(LONGEST);
        let mut line = Vec::new();
        // An old client may send nothing after its first line; then this is its end.
        loop {
            line.clear();
            match head.read_until(b'\n', &mut line).await {
                Ok(1..) if !matches!(line.as_slice(), b"\n" | b"\r\n") => {}
                Ok(_) => break,
                Err(_) => return,
            }
        }
        let path = first[BEGINS.len()..].split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
        let (status, text) = match path {
            b"/metrics" => match blocking(move || render(&host)).await {
                Ok(text) => ("200 OK", text),
                Err(failure) => ("500 Internal Server Error", format!("{}\n", failure.sentence())),
            },
            _ => ("404 Not Found", "there is /metrics\n".to_owned()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            text.len()
        );
        // A client that is gone does not want it.
        let _gone = writer.write_all(&[head.as_bytes(), text.as_bytes()].concat()).await;
        let _gone = writer.shutdown().await;
    });
    // Who is slower is not waited for.
    let _late = answered.await;
}

/// A family of metrics: name, kind, what it says, and its lines.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: String,
}

impl Family {
    fn new(name: &'static str, kind: &'static str, help: &'static str) -> Self {
        Self { name, kind, help, samples: String::new() }
    }

    fn add(&mut self, labels: &str, value: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _infallible = writeln!(self.samples, "{}{labels} {value}", self.name);
    }
}

fn render(host: &Host) -> Result<String> {
    let mut info = Family::new("start_container_info", "gauge", "The host that answers.");
    info.add(concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1);
    let mut events = Family::new("start_container_events_total", "counter", "Events since the first host.");
    events.add("", host.events_so_far());
    let mut logged = Family::new(
        "start_container_log_bytes_total",
        "counter",
        "Bytes of streams that this host has kept.",
    );
    logged.add("", host.logs.kept_bytes());
    let mut states = Family::new("start_container_subcontainers", "gauge", "Subcontainers, by what they do.");
    let list = host.machine.list()?;
    for (state, is) in [
        ("created", (|it| matches!(it, RunState::Created)) as fn(&RunState) -> bool),
        ("running", |it| matches!(it, RunState::Running { .. })),
        ("exited", |it| matches!(it, RunState::Exited { .. })),
    ] {
        let count = list.iter().filter(|info| is(&info.state)).count();
        states.add(&format!("{{state=\"{state}\"}}"), count);
    }
    let mut all = vec![info, events, logged, states];
    all.extend(containers(host, &list)?);
    let mut text = String::new();
    for Family { name, kind, help, samples } in all.iter().filter(|family| !family.samples.is_empty()) {
        let _infallible = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}");
    }
    Ok(text)
}

type Value = fn(&StatsResult) -> Option<f64>;

/// What is told of each container that runs. What the kernel does not count for one is not there.
const OF_EACH: [(&str, &str, &str, Value); 10] = [
    ("start_container_cpu_seconds_total", "counter", "Processor time since the launch.", |it| {
        Some(it.cpu_micros as f64 / 1e6)
    }),
    ("start_container_memory_bytes", "gauge", "Memory in use.", |it| Some(it.memory_bytes as f64)),
    ("start_container_memory_limit_bytes", "gauge", "Memory at most.", |it| {
        it.memory.as_ref()?.limit_bytes.map(|it| it as f64)
    }),
    ("start_container_oom_kills_total", "counter", "Processes killed for want of memory.", |it| {
        it.memory.as_ref().map(|it| it.oom_kills as f64)
    }),
    ("start_container_processes", "gauge", "Processes alive.", |it| Some(it.processes.into())),
    ("start_container_io_read_bytes_total", "counter", "Bytes read from block devices.", |it| {
        it.io.as_ref().map(|it| it.read_bytes as f64)
    }),
    ("start_container_io_written_bytes_total", "counter", "Bytes written to block devices.", |it| {
        it.io.as_ref().map(|it| it.write_bytes as f64)
    }),
    (
        "start_container_cpu_waiting_seconds_total",
        "counter",
        "Time in which some waited for a processor.",
        |it| it.pressure.cpu.as_ref().map(|it| it.some.total_micros as f64 / 1e6),
    ),
    (
        "start_container_memory_waiting_seconds_total",
        "counter",
        "Time in which some waited for memory.",
        |it| it.pressure.memory.as_ref().map(|it| it.some.total_micros as f64 / 1e6),
    ),
    ("start_container_rootfs_bytes", "gauge", "Bytes used of a rootfs that has a size.", |it| {
        it.rootfs.as_ref().map(|it| it.used_bytes as f64)
    }),
];

fn containers(host: &Host, list: &[SubcontainerInfo]) -> Result<Vec<Family>> {
    let mut families: Vec<Family> =
        OF_EACH.iter().map(|(name, kind, help, _)| Family::new(name, kind, help)).collect();
    for info in list.iter().filter(|info| matches!(info.state, RunState::Running { .. })) {
        let stats = match host.machine.stats(&info.guid) {
            Ok(stats) => stats,
            // Destroyed meanwhile.
            Err(Failure { kind: protocol::ErrorKind::NotFound, .. }) => continue,
            Err(failure) => return Err(failure),
        };
        let name = info.name.as_deref().unwrap_or_default();
        let labels = format!("{{guid=\"{}\",name=\"{}\"}}", info.guid, escaped(name));
        for (family, (.., value)) in families.iter_mut().zip(&OF_EACH) {
            if let Some(value) = value(&stats) {
                family.add(&labels, value);
            }
        }
    }
    Ok(families)
}

/// The value of a label, as the text format has it: a name may hold anything.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}
