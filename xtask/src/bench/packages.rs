//! Packages: what it costs to take one in, and to look at very many.

use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tests::{Cli, Rpc};

use super::lab::Lab;
use super::race::{Contestant, Pace, race};
use super::report::{Bar, Report, Table};
use super::sections::ratio;
use crate::demo::Host;
use crate::image::busybox;
use crate::{release, say};

/// Installed packages.
const MANY: usize = 10_000;

/// Whoever signs the packages of a section.
pub(super) struct Author<'a> {
    dir: PathBuf,
    cli: &'a Cli,
}

impl<'a> Author<'a> {
    /// Trusted for all of them.
    pub(super) fn trusted(dir: &Path, cli: &'a Cli) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let public = cli.run(["package", "keygen", &dir.join("key").display().to_string()]).ok().out();
        cli.run(["package", "trust", "add", &public, "--name", "bench", "--package", "*"]).ok();
        Ok(Self { dir: dir.to_owned(), cli })
    }

    /// Packs and installs a package, and grants it all; these are its entries.
    pub(super) fn install(&self, id: &str, manifest: &Value, entries: &[(&str, &str)]) -> Result<()> {
        let text = |path: PathBuf| path.display().to_string();
        let package = self.dir.join(id);
        fs::create_dir_all(package.join("entries"))?;
        fs::write(package.join("manifest.json"), manifest.to_string())?;
        for (name, code) in entries {
            fs::write(package.join("entries").join(name), code)?;
        }
        let (bundle, key) = (text(self.dir.join(format!("{id}.bundle"))), text(self.dir.join("key")));
        self.cli.run(["package", "pack", &text(package), "-o", &bundle, "--key", &key]).ok();
        self.cli.run(["package", "install", &bundle]).ok();
        self.cli.run(["package", "grant", id, "--all"]).ok();
        Ok(())
    }
}

/// Both.
pub(super) fn packages(lab: &Lab, report: &mut Report) -> Result<()> {
    let weigh = release::example("weigh");
    admit(lab, report, &weigh)?;
    many(lab, report, &weigh)
}

/// What a machine has many of: programs and libraries, compressed to a third.
fn files(to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    fs::copy(busybox::tree().join("bin/busybox"), to.join("busybox"))?;
    fs::copy(release::binary(), to.join("start-container"))?;
    fs::copy(std::env::current_exe()?, to.join("xtask"))?;
    Ok(())
}

fn admit(lab: &Lab, report: &mut Report, weigh: &Path) -> Result<()> {
    let (work, from) = (lab.work.join("weigh"), lab.work.join("weighed"));
    files(&from)?;
    say::output(Command::new(weigh).arg("prepare").args([&work, &from]))?;
    let run = |what: &'static str| {
        let work = &work;
        move |count: usize| {
            let said = say::output(Command::new(weigh).arg(what).arg(work).arg(count.to_string()))?;
            said.lines().map(|line| line.parse().context("a number")).collect()
        }
    };
    let pace = Pace { rounds: lab.pace.rounds * 2, ..lab.pace };
    let figures = race(
        pace,
        vec![
            Contestant::new("floor: hash and decompression", run("floor")),
            Contestant::new("verified and unpacked into the store", run("admit")),
        ],
    );
    let size = fs::metadata(work.join("bundle"))?.len() as f64 / 1e6;
    report.bar(Bar::at_most(
        "verifying and unpacking a bundle against hash and decompression alone",
        1.3,
        ratio(&figures, "verified", "floor"),
    ));
    report.table(Table::times(&format!("a bundle of {size:.0} MB (ms)"), figures, "floor"));
    Ok(())
}

/// Bytes until the end of a line.
fn line(mut stream: &UnixStream) -> Result<Vec<u8>> {
    let (mut line, mut buffer) = (Vec::new(), vec![0; 256 << 10]);
    while line.last() != Some(&b'\n') {
        match stream.read(&mut buffer)? {
            0 => bail!("the host has gone"),
            read => line.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(line)
}

fn many(lab: &Lab, report: &mut Report, weigh: &Path) -> Result<()> {
    let data = lab.work.join("many-packages");
    say::output(Command::new(weigh).arg("fill").arg(&data).arg(MANY.to_string()))?;
    let mut host = Host::start(&data)?;
    let mut rpc = Rpc::connect(&host.socket());
    rpc.hello();
    let figures = race(
        lab.pace,
        vec![Contestant::new("package.list of 10,000", |count| {
            (0..count)
                .map(|_| {
                    let start = Instant::now();
                    rpc.send("package.list", json!({}));
                    let answer = line(rpc.stream())?;
                    let time = start.elapsed().as_secs_f64() * 1e3;
                    // Read by nobody here: that would be this program's time.
                    match String::from_utf8_lossy(&answer).matches("\"packageId\":").count() {
                        MANY => Ok(time),
                        other => bail!("{other} of {MANY} packages"),
                    }
                })
                .collect()
        })],
    );
    drop(rpc);
    host.stop()?;
    let median = figures.first().context("a figure")?.median();
    report.bar(Bar::at_most("10,000 installed packages: milliseconds until they are listed", 100.0, median));
    report.table(Table::times("10,000 installed packages (ms)", figures, "package.list"));
    Ok(())
}
