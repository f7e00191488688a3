//! OCI bundles: the one that `runc spec` makes, by each runtime's own command line.
//!
//! All of them run where cgroup version 1 alone is seen: crun starts nowhere else on a machine that shows both.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::lab::Lab;
use super::race::{Contestant, race};
use super::report::{Bar, Report, Table};
use super::sections::ratio;
use crate::image::busybox;
use crate::say;

/// A runtime and where it keeps its state.
struct Runtime<'a> {
    name: &'static str,
    program: PathBuf,
    lab: &'a Lab,
}

impl Runtime<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        if self.name == "start-container" {
            command.arg("oci");
        }
        command.arg("--root").arg(self.lab.work.join("oci").join(self.name)).args(arguments);
        command
    }
}

/// The bundle of `runc spec` over busybox, which runs this.
fn bundle(lab: &Lab, name: &str, arguments: &[&str]) -> Result<String> {
    let directory = lab.work.join("oci").join(name);
    std::fs::create_dir_all(&directory)?;
    say::output(Command::new("runc").current_dir(&directory).arg("spec"))?;
    let path = directory.join("config.json");
    let mut config: Value =
        serde_json::from_str(&std::fs::read_to_string(&path)?).context("parse its spec")?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(arguments);
    config["root"] = json!({"path": busybox::tree(), "readonly": true});
    std::fs::write(path, config.to_string()).context("write its config")?;
    Ok(directory.display().to_string())
}

/// A whole life, and the end of one that runs.
pub(super) fn bundles(lab: &Lab, report: &mut Report) -> Result<()> {
    let (once, idle) = (bundle(lab, "once", &["true"])?, bundle(lab, "idle", &["sleep", "100000"])?);
    let ours = PathBuf::from(lab.cli.command([""]).get_program());
    let runtimes = [("start-container", ours), ("crun", "crun".into()), ("runc", "runc".into())]
        .map(|(name, program)| Runtime { name, program, lab });
    let number = Cell::new(0);
    let id = || format!("bundle{}", number.replace(number.get() + 1));
    let runs = runtimes.iter().map(|runtime| {
        Contestant::new(format!("{} run", runtime.name), |count| {
            lab.time_peer(count, || runtime.command(&["run", "--bundle", &once, &id()]))
        })
    });
    let figures = race(lab.pace, runs.collect());
    for (peer, limit) in [("crun", 0.7), ("runc", 0.35)] {
        let measured = ratio(&figures, "start-container", peer);
        report.bar(Bar::at_most(
            &format!("`run` of the bundle of `runc spec` against {peer}"),
            limit,
            measured,
        ));
    }
    report.table(Table::times("run of the bundle of `runc spec` (ms)", figures, "crun run"));

    let deletes = runtimes.iter().map(|runtime| {
        Contestant::new(format!("{} delete --force", runtime.name), |count| {
            let ids: Vec<String> = (0..count).map(|_| id()).collect();
            let each =
                |command: &dyn Fn(&str) -> Command| ids.iter().map(|id| command(id)).collect::<Vec<_>>();
            let start = |id: &str| runtime.command(&["run", "--detach", "--bundle", &idle, id]);
            lab.worker.borrow_mut().time(each(&start))?;
            let delete = |id: &str| runtime.command(&["delete", "--force", id]);
            lab.worker.borrow_mut().time(each(&delete))
        })
    });
    let figures = race(lab.pace, deletes.collect());
    let measured = ratio(&figures, "start-container", "crun");
    report.bar(Bar::at_most("`delete --force` of a running one against crun", 1.0, measured));
    report.table(Table::times("delete --force of a running bundle (ms)", figures, "crun delete"));
    Ok(())
}
