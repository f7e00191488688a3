//! How fast what is printed is kept, and how much of the disk that takes.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tests::Rpc;

use super::lab::Lab;
use super::race::{Figures, wait_until_quiet};
use super::report::{Bar, Report, Table};
use super::survival::connect;

/// Blocks of 64 KiB that are written in one go, and alone.
const BLOCKS: u64 = 16_384;
/// The bounds of the log that is measured: the default ones.
const FILES: u64 = 3;
const SIZE: u64 = 10_000_000;

/// 1 GiB by one process, then by four at once, each a log of its own.
pub(super) fn logs(lab: &Lab, report: &mut Report) -> Result<()> {
    let mut rpc = connect(&lab.host);
    let (mut slowest, mut most, mut figures) = (f64::INFINITY, 0, Vec::new());
    for round in 0..lab.pace.rounds.min(5) {
        for (name, writers) in [("one writer", 1), ("four writers", 4)] {
            wait_until_quiet();
            let (rate, used) = keep(lab, &mut rpc, writers, BLOCKS / writers)?;
            slowest = slowest.min(rate);
            most = most.max(used);
            figures.push(Figures::single(&format!("{name}, round {}", round + 1), rate));
        }
    }
    report.bar(Bar::at_least("1 GiB into a log, MB/s, the slowest of all rounds", 300.0, slowest));
    // The next file is made before the oldest goes.
    let bound = (FILES + 1) * SIZE;
    report.bar(Bar::at_most(
        "the same: MB on disk of each log, at most",
        bound as f64 / 1e6,
        most as f64 / 1e6,
    ));
    report.table(Table::numbers("1 GiB into logs (MB/s)", figures));
    Ok(())
}

/// Starts so many that write, waits until all is kept, and says how fast that was and how much one log took at most.
fn keep(lab: &Lab, rpc: &mut Rpc, writers: u64, blocks: u64) -> Result<(f64, u64)> {
    let mut guids = Vec::new();
    for _ in 0..writers {
        let made = json!({"imageId": "busybox", "throwaway": true, "detached": true});
        guids.push(rpc.call("subcontainer.createFs", made)["guid"].as_str().context("a guid")?.to_owned());
    }
    let kept_before = kept_bytes(lab)?;
    let wanted = writers * blocks * 65_536;
    let command = ["dd", "if=/dev/zero", "bs=65536", &format!("count={blocks}")];
    let room = lab.work.join("data/logs");
    let over = AtomicBool::new(false);
    let (seconds, most) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                most = guids.iter().map(|guid| on_disk(&room.join(guid))).fold(most, u64::max);
                std::thread::sleep(Duration::from_millis(5));
            }
            most
        });
        let start = Instant::now();
        let launch = |guid: &String| {
            let streams = json!({"stdout": "log", "log": {"size": SIZE, "files": FILES}});
            rpc.call("subcontainer.launch", json!({"guid": guid, "command": command, "streams": streams}))
        };
        let launched: Vec<Value> = guids.iter().map(launch).collect();
        for launched in launched {
            rpc.call("subcontainer.wait", json!({"process": launched["process"]}));
        }
        for guid in &guids {
            // Answered when all is kept that was written.
            let mut reader = Rpc::connect(&lab.host.socket());
            reader.call("logs.read", json!({"guid": guid, "tail": 0}));
        }
        let seconds = start.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        (seconds, looking.join().unwrap_or(u64::MAX))
    });
    let kept = kept_bytes(lab)? - kept_before;
    for guid in guids {
        rpc.call("subcontainer.destroyFs", json!({"guid": guid}));
    }
    if kept < wanted {
        bail!("{kept} of {wanted} bytes were kept");
    }
    Ok((wanted as f64 / 1e6 / seconds, most))
}

/// What the files of a log take.
fn on_disk(log: &Path) -> u64 {
    let files = std::fs::read_dir(log).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|it| it.len().max(it.blocks() * 512)).sum()
}

/// As the host counts them.
fn kept_bytes(lab: &Lab) -> Result<u64> {
    let metrics = lab.cli.run(["metrics"]).ok().out();
    let line = metrics.lines().find_map(|line| line.strip_prefix("start_container_log_bytes_total "));
    line.and_then(|count| count.trim().parse().ok()).context("the number of bytes that were kept")
}
