//! The page that a run writes.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::Context as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::chart;
use super::lab::Lab;
use super::race::{Figures, disturbances};
use crate::{say, setup};

/// How much worse a number may be than the one before until it counts: the speed of a machine changes, and ratios
/// with it.
const TOLERANCE: f64 = 1.15;

/// Something that was promised, and what was measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Bar {
    what: String,
    limit: f64,
    at_most: bool,
    /// Not a number when it could not be measured, which JSON calls null.
    #[serde(deserialize_with = "nan")]
    measured: f64,
}

fn nan<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<f64, D::Error> {
    Option::deserialize(from).map(|value| value.unwrap_or(f64::NAN))
}

impl Bar {
    /// Less is better.
    pub(super) fn at_most(what: &str, limit: f64, measured: f64) -> Self {
        Self { what: what.to_owned(), limit, at_most: true, measured }
    }

    /// More is better.
    pub(super) fn at_least(what: &str, limit: f64, measured: f64) -> Self {
        Self { what: what.to_owned(), limit, at_most: false, measured }
    }

    /// Whether this is worse than what was measured before.
    fn worse_than(&self, before: &Self) -> bool {
        if self.at_most {
            self.measured > before.measured * TOLERANCE
        } else {
            self.measured * TOLERANCE < before.measured
        }
    }

    fn verdict(&self) -> &'static str {
        let held = if self.at_most { self.measured <= self.limit } else { self.measured >= self.limit };
        match (self.measured.is_nan(), held) {
            (true, _) => "not measured",
            (false, true) => "pass",
            (false, false) => "miss",
        }
    }
}

/// Figures of several contestants.
pub(super) struct Table {
    title: String,
    figures: Vec<Figures>,
    /// The contestant that the ratios are to; none: single numbers.
    reference: Option<&'static str>,
    /// Whether it is in the picture.
    chart: bool,
}

impl Table {
    /// Times with spread, and their ratios to the contestant whose name begins so.
    pub(super) fn times(title: &str, figures: Vec<Figures>, reference: &'static str) -> Self {
        Self { title: title.to_owned(), figures, reference: Some(reference), chart: false }
    }

    /// One number each.
    pub(super) fn numbers(title: &str, figures: Vec<Figures>) -> Self {
        Self { title: title.to_owned(), figures, reference: None, chart: false }
    }

    /// To be in the picture too.
    pub(super) fn drawn(self) -> Self {
        Self { chart: true, ..self }
    }

    fn write(&self, page: &mut String) -> std::fmt::Result {
        writeln!(page, "\n### {}\n", self.title)?;
        let Some(reference) = self.reference else {
            writeln!(page, "| | |\n|---|---:|")?;
            for figures in &self.figures {
                writeln!(page, "| {} | {} |", figures.name, number(figures.median()))?;
            }
            return Ok(());
        };
        writeln!(
            page,
            "| | median | fastest | 9 of 10 within | samples | to `{reference}` |\n|---|---:|---:|---:|---:|---:|"
        )?;
        let base = self.figures.iter().find(|figures| figures.name.starts_with(reference));
        for figures in &self.figures {
            let ratio = base.map_or_else(|| "–".to_owned(), |base| number(figures.ratio_to(base)));
            writeln!(
                page,
                "| {} | {} | {} | {} | {} | {ratio} |",
                figures.name,
                number(figures.median()),
                number(figures.quantile(0.0)),
                number(figures.quantile(0.9)),
                figures.count(),
            )?;
        }
        Ok(())
    }
}

/// The whole page.
pub(super) struct Report {
    machine: Vec<String>,
    bars: Vec<Bar>,
    tables: Vec<Table>,
    missing: Vec<String>,
}

impl Report {
    /// With what is known of the machine and of the other engines.
    pub(super) fn new(lab: &Lab) -> Self {
        let mut machine = machine();
        machine.extend(lab.peers.iter().map(|peer| peer.version.clone()));
        for (program, argument) in [("dockerd", "--version"), ("node", "--version")] {
            if let Ok(said) = say::output(Command::new(program).arg(argument)) {
                machine.push(format!("{program}: {}", said.trim()));
            }
        }
        let dockerode = setup::dockerode();
        if dockerode.path().exists() {
            machine.push(dockerode.package);
        }
        Self { machine, bars: Vec::new(), tables: Vec::new(), missing: Vec::new() }
    }

    /// Adds a bar.
    pub(super) fn bar(&mut self, bar: Bar) {
        say::note(&format!(
            "{}: {} (bar {}): {}",
            bar.what,
            number(bar.measured),
            number(bar.limit),
            bar.verdict()
        ));
        self.bars.push(bar);
    }

    /// Adds a table.
    pub(super) fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Says what could not be measured, and why.
    pub(super) fn missing(&mut self, what: &str) {
        say::note(&format!("not measured: {what}"));
        self.missing.push(what.to_owned());
    }

    /// The page.
    pub(super) fn markdown(&self) -> String {
        let mut page = String::from(HEAD);
        self.write(&mut page).expect("writing to a string does not fail");
        page
    }

    /// The bars alone, for the next run to compare with.
    pub(super) fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(&self.bars)? + "\n")
    }

    /// The bars that became worse since a former run, one line each.
    pub(super) fn worse(&self, before: &str) -> anyhow::Result<Vec<String>> {
        let before: Vec<Bar> = serde_json::from_str(before).context("parse the former bars")?;
        let pairs = self.bars.iter().filter_map(|bar| {
            let former = before.iter().find(|former| former.what == bar.what)?;
            bar.worse_than(former)
                .then(|| format!("{}: {}, was {}", bar.what, number(bar.measured), number(former.measured)))
        });
        Ok(pairs.collect())
    }

    /// The tables with times, as a picture.
    pub(super) fn chart(&self) -> String {
        let tables = self.tables.iter().filter(|table| table.chart);
        chart::draw(tables.map(|table| (table.title.as_str(), table.figures.as_slice())))
    }

    /// The bars alone, for the README.
    pub(super) fn summary(&self) -> String {
        let mut table = String::from("| measured in one run | ratio or number | bar |\n|---|---:|---:|\n");
        for bar in &self.bars {
            let sign = if bar.at_most { "≤" } else { "≥" };
            table.push_str(&format!(
                "| {} | {} | {sign} {} |\n",
                bar.what,
                number(bar.measured),
                number(bar.limit)
            ));
        }
        table
    }

    fn write(&self, page: &mut String) -> std::fmt::Result {
        writeln!(page, "\n## Bars\n\n| bar | limit | measured | |\n|---|---:|---:|---|")?;
        for bar in &self.bars {
            let sign = if bar.at_most { "≤" } else { "≥" };
            writeln!(
                page,
                "| {} | {sign} {} | {} | {} |",
                bar.what,
                number(bar.limit),
                number(bar.measured),
                bar.verdict()
            )?;
        }
        for missing in &self.missing {
            writeln!(page, "\nNot measured: {missing}")?;
        }
        writeln!(page, "\n## Figures")?;
        for table in &self.tables {
            table.write(page)?;
        }
        writeln!(page, "\n## The machine\n")?;
        let (all, disturbed) = disturbances();
        writeln!(
            page,
            "- {disturbed} of {all} groups of samples began while something else used the processors"
        )?;
        for line in &self.machine {
            writeln!(page, "- {line}")?;
        }
        Ok(())
    }
}

const HEAD: &str = "\
# Benchmarks

Written by `cargo xtask bench`, which measures everything in one run: rounds over all contestants, each round beginning
with another one, each begun when the machine was idle, or after three seconds of waiting for that. The speed of a machine may change by half between two
minutes, so only ratios within one run mean something; they are medians of the ratios of the rounds.

Everything that an engine writes lies on a tmpfs: on this machine's ext4, which has no journal, making files is up to six
times slower for a minute after many were removed, and a benchmark removes many.

All engines run the same static busybox with the same namespaces (pid, mount, ipc, uts), except where a row says
otherwise; where a machine shows both cgroup versions, the others see version 1 alone, since crun refuses to start
there. `crun run` and `runc run` use a ready bundle and a read-only root directory; start-container also makes, and
removes, a writable overlay over an image. The floors are `xtask/bench/floor.c`: the system calls alone; the last of them
with the mounts of an OCI container, a network namespace, a seccomp filter and a control group of pids, memory and cpu.
Those of an import are `images/examples/import_floor.rs`, one thread by the libraries that an import uses, and `tar -x`.
dockerode speaks to `podman system service` from a Node process of its own.

`cargo xtask bench --check` measures again and names what became worse than `docs/benchmarks.json`.

![start-container beside other engines](benchmarks.svg)
";

fn machine() -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|pair| pair.1);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let release = read("/etc/os-release");
    let system =
        release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("").trim_matches('"');
    let memory = read("/proc/meminfo");
    let kib: u64 = memory
        .lines()
        .next()
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or_default();
    vec![
        format!("{cores} cores, {}, {} GiB of memory", model.unwrap_or("unknown processor"), kib >> 20),
        format!("Linux {}, {system}", kernel.trim().split('-').next().unwrap_or("")),
    ]
}

pub(super) fn number(value: f64) -> String {
    // The sum of nothing is -0.
    match value + 0.0 {
        value if value.is_nan() => "–".to_owned(),
        value if value == value.trunc() && value.abs() < 1e6 => format!("{value:.0}"),
        value if value.abs() < 0.1 => format!("{value:.3}"),
        value if value.abs() < 10.0 => format!("{value:.2}"),
        value if value.abs() < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_worse_is_named_and_noise_is_not() {
        let report = |exec: f64, rate: f64| Report {
            machine: Vec::new(),
            bars: vec![Bar::at_most("exec", 0.6, exec), Bar::at_least("rate", 0.5, rate)],
            tables: Vec::new(),
            missing: Vec::new(),
        };
        let before = report(0.5, 1.0).json().unwrap();
        assert_eq!(report(0.55, 0.9).worse(&before).unwrap(), Vec::<String>::new());
        assert_eq!(report(0.7, 0.5).worse(&before).unwrap(), ["exec: 0.70, was 0.50", "rate: 0.50, was 1"]);
        let unmeasured = report(f64::NAN, 1.0).json().unwrap();
        assert_eq!(report(0.7, 1.0).worse(&unmeasured).unwrap(), Vec::<String>::new());
    }
}
