//! An image from an archive: ours, Docker's, and what is in it alone (hash, unpack). On a tmpfs, so that no disk is
//! measured.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tests::Cli;

use super::lab::Lab;
use super::race::{Contestant, Pace, race, timed};
use super::report::{Bar, Report, Table};
use super::sections::ratio;
use crate::image::debian;
use crate::{release, say};

/// Measures it.
pub(super) fn measure(lab: &Lab, report: &mut Report) -> Result<()> {
    let work = lab.work.join("import");
    fs::create_dir_all(&work)?;
    say::output(Command::new("mount").args(["-t", "tmpfs", "-o", "size=6g", "tmpfs"]).arg(&work))?;
    let archive = work.join("debian-docker.tar");
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "--tmpdir"]).arg(&work).args(["copy", "--quiet"]);
    skopeo.arg(format!("oci-archive:{}", debian::archive(debian::Which::Minbase).display()));
    skopeo.arg(format!("docker-archive:{}:debian:bench", archive.display()));
    say::run("docker-archive of Debian's minbase", &mut skopeo)?;
    let size = fs::metadata(&archive)?.len() as f64 / 1e6;

    let data = work.join("data");
    fs::create_dir_all(&data)?;
    let ours = Cli::at(&release::binary(), &data);
    let docker = Docker::start(&work);
    if let Err(error) = &docker {
        report.missing(&format!("docker load: {error:#}"));
    }
    let unpacked = work.join("unpacked");
    let layer = debian::layer();
    let mut contestants = vec![
        Contestant::new("floor: tar -x of the layer", |count| {
            repeat(count, || {
                fs::create_dir(&unpacked)?;
                let time = timed(|| {
                    say::output(Command::new("tar").arg("-C").arg(&unpacked).arg("-xf").arg(&layer)).map(drop)
                });
                fs::remove_dir_all(&unpacked)?;
                time
            })
        }),
        Contestant::new("floor: sha256sum of the archive", |count| {
            repeat(count, || timed(|| say::output(Command::new("sha256sum").arg(&archive)).map(drop)))
        }),
        Contestant::new("start-container image import", |count| {
            repeat(count, || {
                let mut import = ours.command(["image", "import", "--name", "bench"]);
                import.arg(&archive);
                let time = timed(|| say::output(&mut import).map(drop));
                say::output(&mut ours.command(["image", "rm", "bench"]))?;
                say::output(&mut ours.command(["image", "gc"]))?;
                time
            })
        }),
    ];
    if let Ok(docker) = &docker {
        contestants.push(Contestant::new("docker load", |count| {
            repeat(count, || {
                let time = timed(|| {
                    say::output(docker.command(&["load", "--quiet", "--input"]).arg(&archive)).map(drop)
                });
                say::output(&mut docker.command(&["image", "rm", "--force", "debian:bench"]))?;
                time
            })
        }));
    }
    let figures = race(Pace { slice: Duration::ZERO, ..lab.pace }, contestants);
    let rate = 1.0 / ratio(&figures, "start-container", "docker");
    report.bar(Bar::at_least("import of Debian's minbase against `docker load`, MB/s", 1.5, rate));
    report.table(Table::times(
        &format!("import of a docker-archive of Debian's minbase, {size:.0} MB, on a tmpfs (ms)"),
        figures,
        "docker load",
    ));
    drop(docker);
    Ok(())
}

fn repeat(count: usize, mut work: impl FnMut() -> Result<f64>) -> Result<Vec<f64>> {
    (0..count).map(|_| work()).collect()
}

/// A Docker daemon of its own.
struct Docker {
    daemon: Child,
    socket: String,
}

impl Docker {
    fn start(work: &Path) -> Result<Self> {
        let socket = format!("unix://{}", work.join("docker.sock").display());
        let log = fs::File::create(work.join("docker.log"))?;
        let daemon = Command::new("dockerd")
            .args(["--host", &socket, "--iptables=false", "--bridge=none", "--pidfile=/run/docker-bench.pid"])
            .arg("--data-root")
            .arg(work.join("docker"))
            .args(["--exec-root", "/run/docker-bench"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start dockerd")?;
        let mut docker = Self { daemon, socket };
        let start = Instant::now();
        while docker.command(&["version"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?.code()
            != Some(0)
        {
            if let Some(status) = docker.daemon.try_wait()? {
                bail!("dockerd ended with {status}: {}", last_line(&work.join("docker.log")));
            }
            if start.elapsed() > Duration::from_secs(30) {
                bail!("dockerd does not answer: {}", last_line(&work.join("docker.log")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(docker)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", &self.socket]).args(arguments);
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        // Its own daemons end with it when it is asked; the namespace takes the rest.
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        self.daemon.wait().ok();
    }
}

fn last_line(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().lines().last().unwrap_or("").to_owned()
}
