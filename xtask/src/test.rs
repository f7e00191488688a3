//! Every check and every test, one after the other, and a look at the machine before and after.
//!
//! Owns the summary: its last line is `N passed, N failed, N skipped`, summed over all runners, and nothing that was
//! left out is missing from it. What failed and then passed when it was tried again is named before it.

pub(crate) mod counts;
pub(crate) mod rust;
mod sdk;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use tests::Machine;
use tests::machine::Processes;

use crate::orphans::{self, Role};
use crate::{checks, guest, place, say, setup};
use counts::Counts;

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Leave out what takes long: other runtimes, documentation, the package, start-sdk, the guest.
    #[arg(long)]
    quick: bool,
    /// Only tests whose name contains this; no checks.
    filter: Option<String>,
}

/// What the parts share.
pub(crate) struct Context {
    filter: Option<String>,
    /// The directory for temporary files, checked to be empty at the end.
    temporary: PathBuf,
}

type Part = (&'static str, fn(&Context) -> Result<Counts>);

/// Runs all of it. The exit code is 0 only when nothing failed.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let start = Instant::now();
    // Each test has a `/tmp` and a `/run` of its own, in which it would not find itself.
    for (what, path) in [("checkout", place::root()), ("target directory", place::target())] {
        if let Some(private) = ["/tmp", "/run"].into_iter().find(|private| path.starts_with(private)) {
            anyhow::bail!("the {what} lies beneath {private}, which tests replace: move it elsewhere");
        }
    }
    let family = match orphans::role()? {
        Role::Collector(ended) => return Ok(ended),
        Role::Worker(family) => family,
    };
    let temporary =
        tempfile::Builder::new().prefix("xtask-").tempdir_in("/tmp").context("make a directory in /tmp")?;
    let before = Machine::look(Processes::DescendantsOf(family), &[temporary.path()])?;
    setup::run(setup::For::Tests)?;

    let context = Context { filter: options.filter.clone(), temporary: temporary.path().to_path_buf() };
    let mut total = Counts::default();
    for (name, part) in parts(options) {
        say::heading(name);
        let part_start = Instant::now();
        let counts = part(&context).unwrap_or_else(|error| {
            say::note(&format!("{error:#}"));
            Counts::failure(name)
        });
        say::note(&format!("{} in {}", counts.short(), say::time(part_start.elapsed())));
        total.add(counts);
    }
    say::heading("the machine");
    total.add(look(&before, &context)?);
    drop(temporary);

    say::heading(&format!("summary, after {}", say::time(start.elapsed())));
    for (name, reason) in &total.skips {
        say::note(&format!("skipped: {name}: {reason}"));
    }
    for name in &total.second_tries {
        say::note(&format!("passed at its second try only: {name}"));
    }
    for name in &total.failures {
        say::note(&format!("FAILED: {name}"));
    }
    say::last(&total.to_string());
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn parts(options: &Options) -> Vec<Part> {
    let tests: [Part; 2] = [("cargo nextest", rust::tests), ("sdk: vitest", sdk::vitest)];
    if options.filter.is_some() {
        return tests.to_vec();
    }
    let mut parts: Vec<Part> = vec![
        ("build", rust::build),
        ("rustfmt", rust::rustfmt),
        ("clippy", rust::clippy),
        ("checks", all_checks),
        ("sdk: build and checks", sdk::build_and_check),
    ];
    parts.extend(tests);
    if !options.quick {
        parts.push(("rustdoc", rust::rustdoc));
        parts.push(("examples in the documentation", rust::doctests));
        parts.push(("sdk: Node 22, Node 24, Deno", sdk::runtimes));
        parts.push(("sdk: the package in an empty project", sdk::package));
        parts.push(("Debian's kernel 6.1 with cgroup v2 alone", guest::test));
    }
    parts
}

fn all_checks(_: &Context) -> Result<Counts> {
    let mut counts = Counts::default();
    for (name, result) in [
        ("generated files", say::step("generated files", checks::generated_files)),
        ("manual pages", say::step("manual pages", || crate::man::run(true))),
        ("table of the rooms", say::step("table of the rooms", checks::rooms)),
        ("licences", say::step("licences", checks::licences)),
        ("program in the README", say::step("program in the README", checks::readme)),
    ] {
        counts.add(Counts::of(name, result));
    }
    Ok(counts)
}

fn look(before: &Machine, context: &Context) -> Result<Counts> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let left = loop {
        // Orphans of killed hosts and command lines are ours to reap; a container ends when its last one is reaped.
        while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
        let left = before.left_after(&[&context.temporary], Duration::from_millis(500))?;
        if left.is_empty() || Instant::now() > deadline {
            break left;
        }
    };
    if left.is_empty() {
        say::note("no mount, cgroup, process, network link or temporary file was left");
        return Ok(Counts::of("nothing left on the machine", Ok(())));
    }
    for thing in &left {
        say::note(&format!("left: {thing}"));
    }
    Ok(Counts::failure("nothing left on the machine"))
}

impl Context {
    /// A command whose temporary files are where we look for them.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> std::process::Command {
        let mut command = std::process::Command::new(program);
        command
            .env("TMPDIR", &self.temporary)
            .env("START_CONTAINER_BIN", place::target().join("debug/start-container"))
            .env("START_CONTAINER_TARGET", place::target());
        command
    }

    fn cargo(&self) -> std::process::Command {
        self.command(checks::cargo())
    }
}
