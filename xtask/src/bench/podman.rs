//! podman as a service, with a container in which others run something by Docker's API.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::lab::{Idle, Lab, processes};
use super::peers::Peer;
use crate::setup;

/// Where it listens.
pub(super) fn socket(work: &Path) -> PathBuf {
    work.join("podman.sock")
}

/// The service, and its container `idle0`.
pub(super) struct Service<'a> {
    lab: &'a Lab,
    peer: &'a Peer,
    idle: Idle,
}

impl<'a> Service<'a> {
    /// Starts both, where there are podman and a client for it.
    pub(super) fn start(lab: &'a Lab) -> Result<Self> {
        let peer = lab.peers.iter().find(|peer| peer.name == "podman").context("podman is not there")?;
        if !setup::dockerode().path().exists() {
            bail!("dockerode is not installed");
        }
        let service = Self { lab, peer, idle: lab.start(peer, 0)? };
        if let Err(error) = service.listen() {
            service.stop()?;
            return Err(error);
        }
        Ok(service)
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
