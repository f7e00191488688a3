//! Measures start-container against other engines and against the least that the kernel asks for, in one run and
//! interleaved, and writes `docs/benchmarks.md`.
//!
//! Owns its own harness, in namespaces and cgroups of its own: what other engines leave behind goes with those.
//! Never compares numbers of different runs: the speed of a machine may change by half between two minutes.

mod bundles;
mod import;
mod lab;
mod node;
mod peers;
mod race;
mod report;
mod sections;
mod worker;

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use tests::isolate::{Isolation, inside};

use crate::{demo, place, say, setup};
use lab::Lab;
use report::Report;
pub(crate) use worker::serve;

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Fewer rounds: for a look, not for the record; docs/benchmarks.md is left as it is.
    #[arg(long)]
    quick: bool,
    /// Only this section (may be given more than once); docs/benchmarks.md is left as it is.
    #[arg(long, value_enum)]
    only: Vec<Section>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Section {
    /// `true` in a running container.
    Exec,
    /// From Node: exec of the SDK against Node's own execFile.
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
}

const ALL: [Section; 8] = [
    Section::Exec,
    Section::Node,
    Section::Cold,
    Section::Idle,
    Section::Stdout,
    Section::Import,
    Section::Bundles,
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
    let mut arguments = vec!["bench".to_owned()];
    if options.quick {
        arguments.push("--quick".to_owned());
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
        };
        if let Err(error) = result {
            // The other sections are still worth their time; the report says what is missing.
            report.missing(&format!("{section:?}: {error:#}"));
        }
    }
    lab.close()?;
    say::raw(&report.markdown());
    if !options.quick && options.only.is_empty() {
        std::fs::write(place::root().join("docs/benchmarks.md"), report.markdown())?;
        let readme = place::root().join("README.md");
        std::fs::write(&readme, with_summary(&std::fs::read_to_string(&readme)?, &report.summary())?)?;
        say::note("written to docs/benchmarks.md, and the bars to README.md");
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
