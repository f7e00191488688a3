//! What happens when there are many: containers, layers, calls at once.

use std::cell::Cell;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::lab::{Lab, helpers, processes, pss};
use super::race::{Contestant, Figures, race, wait_until_quiet};
use super::report::{Bar, Report, Table};
use super::sections::ratio;
use super::still::Woken;
use crate::image::{busybox, debian, layered};
use crate::say;

/// How many layers an image has.
const LAYERS: [usize; 3] = [1, 10, 100];
/// The most containers that stand idle.
const MANY: usize = 1000;

/// Containers that stand idle while others are made beside them.
pub(super) fn containers(lab: &Lab, report: &mut Report) -> Result<()> {
    let (mut times, mut starts, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    let mut whole_start = f64::NAN;
    let host_before = pss(lab.host.pid());
    let (mut each, mut host_size, mut besides) = (f64::NAN, f64::NAN, f64::NAN);
    let mut woken = None;
    for count in [10, 100, MANY] {
        wait_until_quiet();
        let before = processes();
        let started = lab.node.borrow_mut().ask("idle", count)?;
        let leaders = pids(&started)?;
        if leaders.len() != count {
            bail!("{} of {count} run", leaders.len());
        }
        whole_start = started["ms"].as_f64().context("ms")?;
        starts.push(Figures::single(&format!("{count}: all"), whole_start));
        starts.push(Figures::single(&format!("{count}: one"), whole_start / count as f64));
        let host = (pss(lab.host.pid()) - host_before).max(0.0);
        each = (leaders.iter().map(|pid| pss(*pid)).sum::<f64>() + host) / count as f64;
        sizes.push(Figures::single(&format!("beside {count}"), each));
        host_size = resident(lab.host.pid()) / 1024.0;
        if count == MANY {
            woken = Some(Woken::look(lab.host.pid(), &leaders));
        }
        besides = helpers(&before, &leaders);
        let life = Contestant::new(format!("a life beside {count}"), |count| {
            lab.node.borrow_mut().samples("cold", count)
        });
        let exec = Contestant::new(format!("exec beside {count}"), |count| {
            lab.node.borrow_mut().samples("exec", count)
        });
        times.extend(race(lab.pace, vec![life, exec]));
        lab.node.borrow_mut().ask("idleEnd", 0)?;
    }
    report.bar(Bar::at_most("1,000 idle: milliseconds until all have started", 3000.0, whole_start));
    report.bar(Bar::at_most("1,000 idle: KiB (PSS) of each, init and the host's growth", 400.0, each));
    report.bar(Bar::at_most("1,000 idle: the host, MiB resident", 40.0, host_size));
    report.bar(Bar::at_most("1,000 idle: processes besides init", 0.0, besides));
    report.table(Table::numbers("many idle: time to start (ms)", starts));
    report.table(Table::numbers("many idle: memory of each (KiB PSS, with the host's growth)", sizes));
    report.table(Table::times(
        "a life and an exec beside many that are idle (ms)",
        times,
        "a life beside 10",
    ));
    if let Some(woken) = woken {
        woken?.report("1,000", report);
    }
    Ok(())
}

/// Calls that are asked for at once.
pub(super) fn at_once(lab: &Lab, report: &mut Report) -> Result<()> {
    let ask = |what: &'static str| {
        let node = &lab.node;
        move |count: usize| node.borrow_mut().samples(what, count.min(10))
    };
    let flows = race(
        lab.pace,
        vec![
            Contestant::new("Node: execFile('/bin/true'), 2 in flight", ask("execFileTwo")),
            Contestant::new("SDK: exec(['true']), 2 in flight", ask("execTwo")),
        ],
    );
    let rate = 1.0 / ratio(&flows, "SDK", "Node");
    report.bar(Bar::at_least("calls per second with 2 in flight against Node's `execFile`", 2.5, rate));
    report.table(Table::times("2 in flight: from one answer to the next (ms)", flows, "Node"));

    lab.node.borrow_mut().ask("idle", 64)?;
    let storms = race(
        lab.pace,
        vec![
            Contestant::new("64 at once in one container", ask("atOnceInOne")),
            Contestant::new("64 at once, each in its own", ask("atOnceInMany")),
        ],
    );
    let failures = failures(lab);
    lab.node.borrow_mut().ask("idleEnd", 0)?;
    for figures in &storms {
        let spread = figures.quantile(0.99) / figures.median();
        report.bar(Bar::at_most(&format!("{}: 99th percentile to median", figures.name), 5.0, spread));
    }
    let what = format!("64 at once, {} execs in all: failures", lab.pace.calls);
    report.table(Table::times("64 execs at once: until each has answered (ms)", storms, "64 at once in one"));
    report.bar(Bar::at_most(&what, 0.0, failures?));
    Ok(())
}

/// How many fail of a great many, half of them in one container and half in 64.
fn failures(lab: &Lab) -> Result<f64> {
    let mut failures = 0.0;
    for (what, place) in [("manyInOne", "one container"), ("manyInMany", "64 containers")] {
        let count = lab.pace.calls / 2;
        let answer = say::step(&format!("{count} execs in {place}, 64 at once"), || {
            lab.node.borrow_mut().ask(what, count)
        })?;
        failures += answer["failures"].as_f64().context("failures")?;
        if let Some(first) = answer["first"].as_str() {
            say::note(&format!("the first that failed: {first}"));
        }
    }
    Ok(failures)
}

/// Images of many layers.
pub(super) fn layers(lab: &Lab, report: &mut Report) -> Result<()> {
    let directory = lab.work.join("layers");
    let mut again = Vec::new();
    for count in LAYERS {
        let archive = layered::make(&directory, count)?;
        lab.cli
            .run(["image", "import", "--name", &format!("layers{count}"), &archive.display().to_string()])
            .ok();
        // All of its layers are there now.
        let number = Cell::new(0);
        again.extend(race(
            lab.pace,
            vec![Contestant::new(format!("import again: {count} layers"), |times| {
                lab.time(times.min(20), || {
                    number.set(number.get() + 1);
                    let name = format!("again{count}-{}", number.get());
                    lab.cli.command([
                        "image".into(),
                        "import".into(),
                        "--name".into(),
                        name,
                        archive.display().to_string(),
                    ])
                })
            })],
        ));
    }
    let shared = busybox::archive();
    let second = Contestant::new("import of a small image whose layer is there", |times| {
        lab.time(times.min(20), || {
            lab.cli.command(["image", "import", "--name", "again", &shared.display().to_string()])
        })
    });
    let second = race(lab.pace, vec![second]);
    let median = second.first().map_or(f64::NAN, Figures::median);
    report.bar(Bar::at_most("a second import of a shared layer, in milliseconds", 20.0, median));
    again.extend(second);
    lab.host.import("debian", &debian::archive(debian::Which::Minbase))?;
    let made = [
        ("1 layers", "layers1"),
        ("10 layers", "layers10"),
        ("100 layers", "layers100"),
        ("Debian's minbase, in one", "ofDebian"),
    ]
    .map(|(name, what)| Contestant::new(name, |times| lab.node.borrow_mut().samples(what, times)));
    let made = race(lab.pace, made.into());
    report.bar(Bar::at_most(
        "createFs and destroy of Debian's minbase against busybox, one layer each",
        1.2,
        ratio(&made, "Debian's minbase", "1 layers"),
    ));
    report.table(Table::times("createFs and destroy, by number of layers (ms)", made, "1 layers"));
    report.table(Table::times("import of what is there (ms)", again, "import again: 1 "));
    say::output(std::process::Command::new("rm").arg("-r").arg(&directory)).map(drop)
}

/// The leaders of those that were started.
pub(super) fn pids(started: &Value) -> Result<Vec<u32>> {
    let pids = started["pids"].as_array().context("pids")?;
    Ok(pids.iter().filter_map(|pid| u32::try_from(pid.as_u64()?).ok()).collect())
}

/// The resident set of a process, in KiB.
pub(super) fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
}
