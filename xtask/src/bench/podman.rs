//! podman as a service, with a container in which others run something by Docker's API.

use std::cell::RefCell;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::lab::{Idle, Lab, processes};
use super::node::Node;
use super::peers::Peer;
use crate::setup;

/// Where it listens.
pub(super) fn socket(work: &Path) -> PathBuf {
    work.join("podman.sock")
}

/// The service, its container `idle0`, and a client: a Node of its own, since what one holds in memory is what each of
/// its own children costs it.
pub(super) struct Service<'a> {
    lab: &'a Lab,
    peer: &'a Peer,
    idle: Idle,
    client: RefCell<Node>,
}

impl<'a> Service<'a> {
    /// Starts both, where there are podman and a client for it.
    pub(super) fn start(lab: &'a Lab) -> Result<Self> {
        let peer = lab.peers.iter().find(|peer| peer.name == "podman").context("podman is not there")?;
        if !setup::dockerode().path().exists() {
            bail!("dockerode is not installed");
        }
        let client = RefCell::new(lab.another_node()?);
        let service = Self { lab, peer, idle: lab.start(peer, 0)?, client };
        if let Err(error) = service.listen() {
            service.stop()?;
            return Err(error);
        }
        Ok(service)
    }

    /// Runs `true` so many times and times each.
    pub(super) fn samples(&self, count: usize) -> Result<Vec<f64>> {
        self.client.borrow_mut().samples("dockerode", count)
    }

    fn listen(&self) -> Result<()> {
        let socket = socket(&self.lab.work);
        self.lab.worker.borrow_mut().spawn(&self.peer.serve(&socket))?;
        let start = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            if start.elapsed() > Duration::from_secs(10) {
                bail!("podman does not listen");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Ends both.
    pub(super) fn stop(self) -> Result<()> {
        self.client.into_inner().stop()?;
        self.lab.worker.borrow_mut().kill()?;
        // Each exec leaves a process that would tidy up five minutes later, amid other measurements.
        let left = processes().into_iter().filter(|(_, command)| command.contains("--exec-process-spec"));
        for pid in left.filter_map(|(pid, _)| Pid::from_raw(pid.cast_signed())) {
            // It may be gone already.
            kill_process(pid, Signal::KILL).ok();
        }
        self.lab.end(self.peer, 0, &self.idle)
    }
}
