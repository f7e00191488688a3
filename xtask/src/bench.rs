//! Measures start-container against other engines and against the least that the kernel asks for, in one run and
//! interleaved, and writes `docs/benchmarks.md`.
//!
//! Owns its own harness, in namespaces and cgroups of its own: what other engines leave behind goes with those.
//! Never compares numbers of different runs: the speed of a machine may change by half between two minutes.

mod broker;
mod bundles;
mod chart;
mod functions;
mod growth;
mod import;
mod lab;
mod logs;
mod node;
mod packages;
mod peers;
mod podman;
mod race;
mod report;
mod sections;
mod still;
mod survival;
mod worker;
mod workers;

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use tests::isolate::{Isolation, inside};

use crate::{demo, place, release, say, setup};
use lab::Lab;
use report::Report;
pub(crate) use worker::serve;

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Fewer rounds: for a look, not for the record; docs/benchmarks.md is left as it is.
    #[arg(long)]
    quick: bool,
    /// Compare with docs/benchmarks.json, name what became worse, and fail if anything did; nothing is written.
    #[arg(long)]
    check: bool,
    /// Only this section (may be given more than once); docs/benchmarks.md is left as it is.
    #[arg(long, value_enum)]
    only: Vec<Section>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Section {
    /// `true` in a running container.
    Exec,
    /// From Node: exec of the SDK against Node's own execFile and another client's.
    Node,
    /// A whole life: create, launch, wait, destroy.
    Cold,
    /// 200 idle ones.
    Idle,
    /// 1 GiB of output.
    Stdout,
    /// An image from an archive.
    Import,
    /// OCI bundles, by the runtime command line.
    Bundles,
    /// A whole life with user namespace, limits and private network.
    Contained,
    /// 10, 100 and 1,000 idle ones, and what is done beside them.
    Many,
    /// 2 and 64 calls at once, and 100,000 of which none may fail.
    AtOnce,
    /// Images of 1, 10 and 100 layers, and a large one.
    Layers,
    /// Calls of package code.
    Broker,
    /// 200 running ones whose host is killed, and those beside a host that has nothing to do.
    Survival,
    /// 1 GiB into a log.
    Logs,
    /// A bundle that is taken in, and 10,000 that are listed.
    Packages,
    /// Packages in TypeScript.
    Workers,
    /// Light functions.
    Functions,
}

const ALL: [Section; 17] = [
    Section::Exec,
    Section::Node,
    Section::Cold,
    Section::Idle,
    Section::Stdout,
    Section::Import,
    Section::Bundles,
    Section::Layers,
    Section::AtOnce,
    Section::Many,
    Section::Broker,
    Section::Survival,
    Section::Logs,
    Section::Packages,
    Section::Workers,
    Section::Functions,
    Section::Contained,
];

/// Runs it.
pub(crate) fn run(options: &Options) -> Result<()> {
    if inside() {
        return measure(options);
    }
    setup::run(setup::For::Bench)?;
    demo::build()?;
    build_floor()?;
    for (section, room, example) in
        [(Section::Packages, "packages", "weigh"), (Section::Import, "images", "import_floor")]
    {
        if options.only.is_empty() || options.only.contains(&section) {
            release::build_example(room, example)?;
        }
    }
    let mut arguments = vec!["bench".to_owned()];
    if options.quick {
        arguments.push("--quick".to_owned());
    }
    if options.check {
        arguments.push("--check".to_owned());
    }
    for section in &options.only {
        let name = section.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        arguments.extend(["--only".to_owned(), name]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let isolation = Isolation::new();
    let status = isolation.command(&std::env::current_exe()?, &arguments).status()?;
    if !status.success() {
        bail!("the benchmark ended with {status}");
    }
    Ok(())
}

fn build_floor() -> Result<()> {
    let directory = place::cache().join("bench");
    std::fs::create_dir_all(&directory)?;
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-Wall", "-static", "-o"]).arg(directory.join("floor"));
    say::run("gcc xtask/bench/floor.c", gcc.arg(place::root().join("xtask/bench/floor.c")))
}

fn measure(options: &Options) -> Result<()> {
    let sections = if options.only.is_empty() { ALL.to_vec() } else { options.only.clone() };
    let pace = if options.quick { race::Pace::QUICK } else { race::Pace::FULL };
    let lab = Lab::open(pace)?;
    let mut report = Report::new(&lab);
    for section in sections {
        say::heading(match section {
            Section::Exec => "exec of true in a running container",
            Section::Node => "exec of true from Node",
            Section::Cold => "a whole life: create, launch true, wait, destroy",
            Section::Idle => "200 idle ones",
            Section::Stdout => "1 GiB of output",
            Section::Import => "import of Debian's minbase",
            Section::Bundles => "OCI bundles",
            Section::Contained => "a whole life, contained",
            Section::Many => "many idle ones",
            Section::AtOnce => "calls at once",
            Section::Layers => "images of many layers",
            Section::Broker => "calls of package code",
            Section::Survival => "a host that is killed, and one that has nothing to do",
            Section::Logs => "1 GiB into a log",
            Section::Packages => "packages",
            Section::Workers => "packages in TypeScript",
            Section::Functions => "light functions",
        });
        let result = match section {
            Section::Exec => sections::exec(&lab, &mut report),
            Section::Node => sections::node(&lab, &mut report),
            Section::Cold => sections::cold(&lab, &mut report),
            Section::Idle => sections::idle(&lab, &mut report),
            Section::Stdout => sections::stdout(&lab, &mut report),
            Section::Bundles => bundles::bundles(&lab, &mut report),
            Section::Import => import::measure(&lab, &mut report),
            Section::Contained => sections::contained(&lab, &mut report),
            Section::Many => growth::containers(&lab, &mut report),
            Section::AtOnce => growth::at_once(&lab, &mut report),
            Section::Layers => growth::layers(&lab, &mut report),
            Section::Broker => broker::broker(&lab, &mut report),
            Section::Survival => survival::survival(&lab, &mut report),
            Section::Logs => logs::logs(&lab, &mut report),
            Section::Packages => packages::packages(&lab, &mut report),
            Section::Workers => workers::workers(&lab, &mut report),
            Section::Functions => functions::functions(&lab, &mut report),
        };
        if let Err(error) = result {
            // The other sections are still worth their time; the report says what is missing.
            report.missing(&format!("{section:?}: {error:#}"));
        }
    }
    lab.close()?;
    say::raw(&report.markdown());
    let docs = place::root().join("docs");
    if options.check {
        let before = std::fs::read_to_string(docs.join("benchmarks.json"))
            .context("read docs/benchmarks.json, which a whole run writes")?;
        let worse = report.worse(&before)?;
        if !worse.is_empty() {
            bail!("worse than before:\n{}", worse.join("\n"));
        }
        say::note("nothing became worse");
    } else if !options.quick && options.only.is_empty() {
        std::fs::write(docs.join("benchmarks.md"), report.markdown())?;
        std::fs::write(docs.join("benchmarks.json"), report.json()?)?;
        std::fs::write(docs.join("benchmarks.svg"), report.chart())?;
        let readme = place::root().join("README.md");
        std::fs::write(&readme, with_summary(&std::fs::read_to_string(&readme)?, &report.summary())?)?;
        say::note("written to docs/benchmarks.{md,json,svg}, and the bars to README.md");
    }
    Ok(())
}

/// The README with the table between its two marks replaced.
fn with_summary(readme: &str, summary: &str) -> Result<String> {
    const MARKS: [&str; 2] = ["<!-- begin: cargo xtask bench -->\n", "<!-- end: cargo xtask bench -->"];
    let (before, rest) = readme.split_once(MARKS[0]).context("find the first mark in README.md")?;
    let (_, after) = rest.split_once(MARKS[1]).context("find the second mark in README.md")?;
    Ok(format!("{before}{}{summary}{}{after}", MARKS[0], MARKS[1]))
}
