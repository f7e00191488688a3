//! Where it is measured: a host on a data directory of its own, a Node with the SDK, the other engines.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tests::Cli;

use super::node::Node;
use super::peers::{Peer, installed};
use super::race::{Pace, timed};
use crate::demo::{self, Host};
use crate::image::busybox;
use crate::{place, say};

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
    pub(super) node: Node,
}

/// A container that stays while something is measured in it.
pub(super) struct Idle {
    /// Its first process.
    pub(super) pid: u32,
    foreground: Option<Child>,
}

impl Lab {
    /// Starts the host and Node and looks for the others.
    pub(super) fn open(pace: Pace) -> Result<Self> {
        say::heading("the laboratory");
        let work = PathBuf::from("/tmp/bench");
        let data = work.join("data");
        fs::create_dir_all(&data)?;
        let peers = installed(&work);
        for peer in &peers {
            say::note(&peer.version);
        }
        let host = Host::start(&data)?;
        host.import("busybox", &busybox::archive())?;
        let cli = Cli::at(&demo::binary(), &data);
        let node = Node::start(&data)?;
        Ok(Self { pace, work, peers, cli, host, node })
    }

    /// Stops what it started.
    pub(super) fn close(mut self) -> Result<()> {
        self.node.stop()?;
        self.host.stop()
    }

    /// The program of the floors.
    pub(super) fn floor(&self) -> Command {
        Command::new(place::cache().join("bench/floor"))
    }

    /// Starts container `number` of an engine and finds its first process.
    pub(super) fn start(&self, peer: &Peer, number: usize) -> Result<Idle> {
        let before = sleepers();
        let mut command = peer.start(number);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(self.errors()?);
        let mut foreground = None;
        if peer.stays() {
            foreground = Some(command.spawn()?);
        } else {
            let status = command.status()?;
            if !status.success() {
                bail!("{} did not start: {}", peer.name, self.last_error());
            }
        }
        let start = Instant::now();
        loop {
            if let Some(pid) = sleepers().into_iter().find(|pid| !before.contains(pid)) {
                return Ok(Idle { pid, foreground });
            }
            if start.elapsed() > Duration::from_secs(5) {
                bail!("{} did not start: {}", peer.name, self.last_error());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends it.
    pub(super) fn end(&self, peer: &Peer, number: usize, mut idle: Idle) -> Result<()> {
        if let Some(mut command) = peer.delete(number) {
            say::output(&mut command)?;
        }
        if let Some(child) = &mut idle.foreground {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Runs a command so many times and times each.
    pub(super) fn time(&self, count: usize, command: impl Fn(usize) -> Command) -> Result<Vec<f64>> {
        (0..count)
            .map(|number| {
                let mut command = command(number);
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(self.errors()?);
                timed(|| {
                    let status = command.status()?;
                    if !status.success() {
                        bail!("{status}: {}", self.last_error());
                    }
                    Ok(())
                })
            })
            .collect()
    }

    /// Runs one of the floors, which times itself.
    pub(super) fn time_floor(&self, mode: &str, count: usize, rest: &[&Path]) -> Result<Vec<f64>> {
        let output = say::output(self.floor().arg(mode).arg(count.to_string()).args(rest))?;
        output.lines().map(|line| Ok(line.parse::<f64>().context("parse its time")? / 1e6)).collect()
    }

    fn errors(&self) -> Result<File> {
        File::create(self.work.join("errors")).context("make a file for errors")
    }

    fn last_error(&self) -> String {
        fs::read_to_string(self.work.join("errors")).unwrap_or_default().trim().to_owned()
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

/// The proportional set size of a process, in KiB.
pub(super) fn pss(pid: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find(|line| line.starts_with("Pss:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0.0)
}
