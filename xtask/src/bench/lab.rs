//! Where it is measured: a host on a data directory of its own, a Node with the SDK, the other engines.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tests::Cli;

use super::node::Node;
use super::peers::{Peer, installed};
use super::podman;
use super::race::Pace;
use super::worker::{self, Worker};
use crate::demo::Host;
use crate::image::busybox;
use crate::{place, release, say};

/// All of it.
pub(super) struct Lab {
    /// How long to measure.
    pub(super) pace: Pace,
    /// A directory for everything.
    pub(super) work: PathBuf,
    /// The engines to compare with.
    pub(super) peers: Vec<Peer>,
    /// Our command line on the host's data directory.
    pub(super) cli: Cli,
    /// Our host.
    pub(super) host: Host,
    /// Node with our SDK, connected to the host.
    pub(super) node: RefCell<Node>,
    /// Where the other engines run.
    pub(super) worker: RefCell<Worker>,
}

/// A container that stays while something is measured in it.
pub(super) struct Idle {
    /// Its first process.
    pub(super) pid: u32,
    /// Only for one that stays in the foreground.
    pub(super) foreground: bool,
}

impl Lab {
    /// Starts the host and Node and looks for the others.
    pub(super) fn open(pace: Pace) -> Result<Self> {
        say::heading("the laboratory");
        let work = PathBuf::from("/tmp/bench");
        fs::create_dir_all(&work)?;
        // No disk is measured: ext4 without a journal, for one, makes files slowly for a minute after many were removed,
        // and so do those engines here that make any.
        say::output(Command::new("mount").args(["-t", "tmpfs", "-o", "size=4g", "tmpfs"]).arg(&work))?;
        let data = work.join("data");
        fs::create_dir_all(&data)?;
        let mut worker = Worker::start()?;
        let peers = installed(&work, &mut worker);
        for peer in &peers {
            say::note(&peer.version);
        }
        let host = Host::start(&data)?;
        host.import("busybox", &busybox::archive())?;
        let cli = Cli::at(&release::binary(), &data);
        let node = Node::start(&data, &podman::socket(&work))?;
        Ok(Self { pace, work, peers, cli, host, node: RefCell::new(node), worker: RefCell::new(worker) })
    }

    /// A second one.
    pub(super) fn another_node(&self) -> Result<Node> {
        Node::start(&self.work.join("data"), &podman::socket(&self.work))
    }

    /// Stops what it started.
    pub(super) fn close(mut self) -> Result<()> {
        self.node.into_inner().stop()?;
        self.worker.into_inner().stop()?;
        self.host.stop()
        // The file system goes with the mount namespace.
    }

    /// The program of the floors.
    pub(super) fn floor(&self) -> Command {
        Command::new(place::cache().join("bench/floor"))
    }

    /// Starts container `number` of an engine and finds its first process.
    pub(super) fn start(&self, peer: &Peer, number: usize) -> Result<Idle> {
        let before = sleepers();
        let mut worker = self.worker.borrow_mut();
        if peer.stays() {
            worker.spawn(&peer.start(number))?;
        } else {
            worker.time(vec![peer.start(number)])?;
        }
        let start = Instant::now();
        loop {
            if let Some(pid) = sleepers().into_iter().find(|pid| !before.contains(pid)) {
                return Ok(Idle { pid, foreground: peer.stays() });
            }
            if start.elapsed() > Duration::from_secs(5) {
                bail!("{} did not start", peer.name);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends it.
    pub(super) fn end(&self, peer: &Peer, number: usize, idle: &Idle) -> Result<()> {
        let mut worker = self.worker.borrow_mut();
        if let Some(command) = peer.delete(number) {
            worker.time(vec![command])?;
        }
        if idle.foreground {
            worker.kill()?;
        }
        Ok(())
    }

    /// Runs a command of ours so many times and times each.
    pub(super) fn time(&self, count: usize, command: impl Fn() -> Command) -> Result<Vec<f64>> {
        (0..count).map(|_| worker::time(command())).collect()
    }

    /// Runs a command of another engine so many times and times each.
    pub(super) fn time_peer(&self, count: usize, command: impl Fn() -> Command) -> Result<Vec<f64>> {
        self.worker.borrow_mut().time((0..count).map(|_| command()).collect())
    }

    /// Runs one of the floors, which times itself.
    pub(super) fn time_floor(&self, mode: &str, count: usize, rest: &[&Path]) -> Result<Vec<f64>> {
        let output = say::output(self.floor().arg(mode).arg(count.to_string()).args(rest))?;
        output.lines().map(|line| Ok(line.parse::<f64>().context("parse its time")? / 1e6)).collect()
    }
}

/// The processes that are exactly `sleep 100000`: the first ones of the other engines' idle containers.
pub(super) fn sleepers() -> Vec<u32> {
    processes()
        .into_iter()
        .filter(|(_, command)| command == "/bin/sleep 100000")
        .map(|(pid, _)| pid)
        .collect()
}

/// Every process and its command line.
pub(super) fn processes() -> Vec<(u32, String)> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned()))
        })
        .collect()
}

/// The processes that came since, without those that are known.
pub(super) fn newcomers(before: &[(u32, String)], known: &[u32]) -> Vec<(u32, String)> {
    let old = |pid: u32| known.contains(&pid) || before.iter().any(|old| old.0 == pid);
    processes().into_iter().filter(|(pid, _)| !old(*pid)).collect()
}

/// How many processes came since, besides the inits; the first of them are named.
pub(super) fn helpers(before: &[(u32, String)], inits: &[u32]) -> f64 {
    let extra = newcomers(before, inits);
    for (_, command) in extra.iter().take(3) {
        say::note(&format!("a helper: {command}"));
    }
    extra.len() as f64
}

/// The proportional set size of a process, in KiB.
pub(super) fn pss(pid: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find(|line| line.starts_with("Pss:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0.0)
}
