//! The other engines: how each is asked to do the same thing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::worker::Worker;
use crate::image::busybox;
use crate::say;

/// Another engine, where it is installed.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Its program.
    pub(super) name: &'static str,
    /// What it says of itself.
    pub(super) version: String,
    work: PathBuf,
}

/// Those that are installed and could be prepared.
pub(super) fn installed(work: &Path, worker: &mut Worker) -> Vec<Peer> {
    let mut peers = Vec::new();
    for name in ["crun", "runc", "bwrap", "podman"] {
        if !say::installed(name) {
            say::note(&format!("{name} is not installed"));
            continue;
        }
        match Peer::prepare(name, work, worker) {
            Ok(peer) => peers.push(peer),
            Err(error) => say::note(&format!("{name} is left out: {error:#}")),
        }
    }
    peers
}

impl Peer {
    fn prepare(name: &'static str, work: &Path, worker: &mut Worker) -> Result<Self> {
        let said = say::output(Command::new(name).arg("--version"))?;
        let version = said.lines().next().unwrap_or("").trim().to_owned();
        let peer = Self { name, version, work: work.join(name) };
        fs::create_dir_all(&peer.work)?;
        match name {
            "crun" | "runc" => {
                peer.bundle("once", &["/bin/true"])?;
                peer.bundle("idle", &["/bin/sleep", "100000"])?;
            }
            "podman" => peer.prepare_podman(worker)?,
            _ => {}
        }
        Ok(peer)
    }

    /// A bundle over the busybox tree with the namespaces that the bar names: pid, mount, ipc, uts.
    fn bundle(&self, bundle: &str, arguments: &[&str]) -> Result<()> {
        let directory = self.work.join(bundle);
        fs::create_dir_all(&directory)?;
        say::output(Command::new(self.name).current_dir(&directory).arg("spec"))?;
        let path = directory.join("config.json");
        let mut config: Value =
            serde_json::from_str(&fs::read_to_string(&path)?).context("parse its spec")?;
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(arguments);
        config["root"] = json!({"path": busybox::tree(), "readonly": true});
        config["linux"]["namespaces"] =
            json!([{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]);
        // Without a network namespace of its own, no sysfs of its own either.
        let mounts = config["mounts"].as_array().cloned().unwrap_or_default();
        let kept: Vec<Value> = mounts.into_iter().filter(|mount| mount["destination"] != "/sys").collect();
        let kept: Vec<Value> =
            kept.into_iter().filter(|mount| mount["destination"] != "/sys/fs/cgroup").collect();
        config["mounts"] = json!(kept);
        fs::write(path, config.to_string()).context("write its config")
    }

    fn prepare_podman(&self, worker: &mut Worker) -> Result<()> {
        let engine = "[engine]\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"file\"\nruntime=\"crun\"\n\
                      [containers]\ndefault_ulimits=[\"nofile=10000:10000\",\"nproc=10000:10000\"]\n";
        fs::write(self.work.join("containers.conf"), engine)?;
        let (run, data) = (self.work.join("run"), self.work.join("data"));
        let storage = format!(
            "[storage]\ndriver=\"overlay\"\nrunroot=\"{}\"\ngraphroot=\"{}\"\n",
            run.display(),
            data.display()
        );
        fs::write(self.work.join("storage.conf"), storage)?;
        let layer = crate::place::images().join("layers/busybox.tar");
        let mut import = self.command(&["import", "-q"]);
        import.arg(layer).arg("busybox");
        worker.time(vec![import]).map(drop)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.name);
        match self.name {
            "crun" | "runc" => {
                command.arg("--root").arg(self.work.join("state"));
            }
            "podman" => {
                command
                    .env("CONTAINERS_CONF", self.work.join("containers.conf"))
                    .env("CONTAINERS_STORAGE_CONF", self.work.join("storage.conf"))
                    .env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1");
            }
            _ => {}
        }
        command.args(arguments);
        command
    }

    /// One container that runs `true` and is gone.
    pub(super) fn run(&self, number: usize) -> Command {
        let id = format!("once{number}");
        match self.name {
            "crun" | "runc" => {
                let mut command = self.command(&["run", "--bundle"]);
                command.arg(self.work.join("once")).arg(id);
                command
            }
            "podman" => self.command(&["run", "--rm", "--network=host", "busybox", "/bin/true"]),
            _ => self.bubblewrap(&["/bin/true"]),
        }
    }

    /// One container that stays.
    pub(super) fn start(&self, number: usize) -> Command {
        let id = format!("idle{number}");
        match self.name {
            "crun" | "runc" => {
                let mut command = self.command(&["run", "--detach", "--bundle"]);
                command.arg(self.work.join("idle")).arg(id);
                command
            }
            "podman" => {
                let name = format!("--name={id}");
                self.command(&["run", "--detach", "--network=host", &name, "busybox", "/bin/sleep", "100000"])
            }
            _ => self.bubblewrap(&["/bin/sleep", "100000"]),
        }
    }

    /// Whether [`Peer::start`] stays in the foreground.
    pub(super) fn stays(&self) -> bool {
        self.name == "bwrap"
    }

    /// A command in container 0, whose first process is `pid`.
    pub(super) fn exec(&self, pid: u32, command: &[&str]) -> Command {
        match self.name {
            "crun" | "runc" | "podman" => {
                let mut exec = self.command(&["exec", "idle0"]);
                exec.args(command);
                exec
            }
            // bubblewrap has no exec of its own.
            _ => {
                let mut enter = Command::new("nsenter");
                enter.args(["-t", &pid.to_string(), "-m", "-u", "-i", "-p", "--"]).args(command);
                enter
            }
        }
    }

    /// The end of one that stays.
    pub(super) fn delete(&self, number: usize) -> Option<Command> {
        let id = format!("idle{number}");
        match self.name {
            "crun" | "runc" => Some(self.command(&["delete", "--force", &id])),
            "podman" => Some(self.command(&["rm", "--force", "--time=0", &id])),
            _ => None,
        }
    }

    /// Answers Docker's API at a socket, in the foreground; podman alone does.
    pub(super) fn serve(&self, socket: &Path) -> Command {
        self.command(&["system", "service", "--time=0", &format!("unix://{}", socket.display())])
    }

    fn bubblewrap(&self, arguments: &[&str]) -> Command {
        let mut command =
            self.command(&["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]);
        command
            .arg("--ro-bind")
            .arg(busybox::tree())
            .args(["/", "--proc", "/proc", "--dev", "/dev"])
            .args(arguments);
        command
    }
}
