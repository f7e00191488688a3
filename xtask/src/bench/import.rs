//! An image from an archive: ours, Docker's, and what is in it alone (hash, unpack). On a tmpfs, so that no disk is
//! measured.

use std::fs;
use std::path::{Path, PathBuf};
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
    let data = work.join("data");
    fs::create_dir_all(&data)?;
    let ours = Cli::at(&release::binary(), &data);
    let pace = Pace { slice: Duration::ZERO, ..lab.pace };
    plain(pace, &work, &ours, report)?;
    gzip(pace, &work, &ours, report)
}

/// A docker-archive, as Docker takes it, too.
fn plain(pace: Pace, work: &Path, ours: &Cli, report: &mut Report) -> Result<()> {
    let archive = work.join("debian-docker.tar");
    copy(work, &[], &format!("docker-archive:{}:debian:bench", archive.display()))?;
    let size = fs::metadata(&archive)?.len() as f64 / 1e6;
    let docker = Docker::start(work);
    if let Err(error) = &docker {
        report.missing(&format!("docker load: {error:#}"));
    }
    let mut contestants = vec![
        Contestant::new("floor: tar -x of the layer", |count| repeat(count, || extract(work))),
        Contestant::new("floor: sha256sum of the archive", |count| {
            repeat(count, || timed(|| say::output(Command::new("sha256sum").arg(&archive)).map(drop)))
        }),
        Contestant::new("start-container image import", |count| repeat(count, || import(ours, &archive))),
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
    let figures = race(pace, contestants);
    let rate = 1.0 / ratio(&figures, "start-container", "docker");
    report.bar(Bar::at_least("import of Debian's minbase against `docker load`, MB/s", 3.0, rate));
    report.table(Table::times(
        &format!("import of a docker-archive of Debian's minbase, {size:.0} MB, on a tmpfs (ms)"),
        figures,
        "docker load",
    ));
    Ok(())
}

/// An OCI archive with a compressed layer, as registries have them, against its two halves, each in one thread: what
/// two processors could do at best.
fn gzip(pace: Pace, work: &Path, ours: &Cli, report: &mut Report) -> Result<()> {
    let archive = work.join("debian-gzip.tar");
    let compressed = ["--dest-compress", "--dest-compress-format=gzip"];
    copy(work, &compressed, &format!("oci-archive:{}:debian", archive.display()))?;
    let size = fs::metadata(&archive)?.len() as f64 / 1e6;
    let layer = largest_blob(work, &archive)?;
    let figures = race(
        pace,
        vec![
            Contestant::new("floor: hash, compressed and plain", |count| {
                repeat(count, || floor("hash", &[&layer, &debian::layer()]))
            }),
            Contestant::new("floor: decompress and write", |count| {
                repeat(count, || Ok(floor("inflate", &[&layer])? + extract(work)?))
            }),
            Contestant::new("start-container image import", |count| repeat(count, || import(ours, &archive))),
        ],
    );
    let to = |floor: &str| ratio(&figures, "start-container", floor);
    report.bar(Bar::at_most(
        "import of Debian's minbase, gzip, against hash alone or decompress and write alone, the slower",
        1.3,
        to("floor: hash").min(to("floor: decompress")),
    ));
    report.table(Table::times(
        &format!("import of an OCI archive of Debian's minbase, gzip, {size:.0} MB, on a tmpfs (ms)"),
        figures,
        "floor: decompress",
    ));
    Ok(())
}

/// Makes an archive of Debian's minbase.
fn copy(work: &Path, options: &[&str], to: &str) -> Result<()> {
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "--tmpdir"]).arg(work).args(["copy", "--quiet"]).args(options);
    skopeo.arg(format!("oci-archive:{}", debian::archive(debian::Which::Minbase).display())).arg(to);
    say::run("an archive of Debian's minbase", &mut skopeo)
}

/// The layer of an OCI archive that has one.
fn largest_blob(work: &Path, archive: &Path) -> Result<PathBuf> {
    let layout = work.join("layout");
    fs::create_dir(&layout)?;
    say::output(Command::new("tar").arg("-C").arg(&layout).arg("-xf").arg(archive))?;
    let blobs = fs::read_dir(layout.join("blobs/sha256"))?.collect::<std::io::Result<Vec<_>>>()?;
    let size = |blob: &fs::DirEntry| blob.metadata().map_or(0, |metadata| metadata.len());
    blobs.iter().max_by_key(|blob| size(blob)).map(fs::DirEntry::path).context("a blob")
}

/// Imports an archive, and removes what came of it.
fn import(ours: &Cli, archive: &Path) -> Result<f64> {
    let mut import = ours.command(["image", "import", "--name", "bench"]);
    import.arg(archive);
    let time = timed(|| say::output(&mut import).map(drop))?;
    say::output(&mut ours.command(["image", "rm", "bench"]))?;
    say::output(&mut ours.command(["image", "gc"]))?;
    Ok(time)
}

/// Writes what is in the layer.
fn extract(work: &Path) -> Result<f64> {
    let unpacked = work.join("unpacked");
    fs::create_dir(&unpacked)?;
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&unpacked).arg("-xf").arg(debian::layer());
    let time = timed(|| say::output(&mut tar).map(drop));
    fs::remove_dir_all(&unpacked)?;
    time
}

/// One half of an import, which times itself.
fn floor(what: &str, files: &[&Path]) -> Result<f64> {
    let said = say::output(Command::new(release::example("import_floor")).arg(what).args(files))?;
    said.trim().parse().context("parse its time")
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
