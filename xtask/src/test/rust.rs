//! The Rust side: build, format, lints, tests, documentation.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Context;
use super::counts::Counts;
use crate::{place, say};

/// Builds what the tests run.
pub(super) fn build(context: &Context) -> Result<Counts> {
    let result =
        say::run("cargo build --workspace", context.cargo().args(["build", "--workspace", "--locked"]));
    Ok(Counts::of("cargo build", result))
}

pub(super) fn rustfmt(context: &Context) -> Result<Counts> {
    Ok(Counts::of(
        "rustfmt",
        say::run("cargo fmt --check", context.cargo().args(["fmt", "--all", "--check"])),
    ))
}

pub(super) fn clippy(context: &Context) -> Result<Counts> {
    let mut clippy = context.cargo();
    clippy.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]);
    Ok(Counts::of("clippy", say::run("cargo clippy -D warnings", &mut clippy)))
}

pub(super) fn rustdoc(context: &Context) -> Result<Counts> {
    let mut doc = context.cargo();
    doc.args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings");
    Ok(Counts::of("rustdoc", say::run("cargo doc -D warnings", &mut doc)))
}

pub(super) fn doctests(context: &Context) -> Result<Counts> {
    cargo_test(context.cargo().args(["test", "--workspace", "--doc", "--locked", "--no-fail-fast"]))
}

/// All tests of the workspace, by nextest where it is installed.
pub(super) fn tests(context: &Context) -> Result<Counts> {
    if !say::installed("cargo-nextest") {
        say::note("cargo-nextest is not installed: running `cargo test` instead");
        let mut test = context.cargo();
        test.args(["test", "--workspace", "--all-targets", "--locked", "--no-fail-fast"]);
        test.args(&context.filter).args(["--", "--show-output"]);
        return cargo_test(&mut test);
    }
    let report = place::target().join("nextest/ci/junit.xml");
    if report.exists() {
        fs::remove_file(&report)?;
    }
    let mut nextest = context.cargo();
    nextest.args(["nextest", "run", "--workspace", "--locked", "--profile", "ci", "--no-tests=pass"]);
    let lines = say::follow(nextest.args(&context.filter))?;
    if !report.exists() {
        bail!("nextest wrote no report");
    }
    let mut counts = read_junit(&fs::read_to_string(&report)?)?;
    // Ignored tests are not in the report; with a filter, the number holds what was filtered too.
    let ignored =
        lines.iter().find_map(|line| number_before(line.split_once("Summary")?.1, "skipped")).unwrap_or(0);
    if context.filter.is_none() {
        for _ in 0..ignored {
            counts.skips.push(("cargo nextest".to_owned(), "marked as ignored".to_owned()));
        }
    }
    Ok(counts)
}

fn read_junit(report: &str) -> Result<Counts> {
    let document = roxmltree::Document::parse(report).context("parse nextest's report")?;
    let mut counts = Counts::default();
    for case in document.descendants().filter(|node| node.has_tag_name("testcase")) {
        let attribute = |name| case.attribute(name).unwrap_or("");
        let name = format!("{} {}", attribute("classname"), attribute("name"));
        let failed =
            case.children().any(|child| child.has_tag_name("failure") || child.has_tag_name("error"));
        let output: String = case
            .children()
            .filter(|child| child.tag_name().name().starts_with("system-"))
            .filter_map(|c| c.text())
            .collect();
        fault_matrix(&output).for_each(say::note);
        if failed {
            counts.failed += 1;
            counts.failures.push(name);
        } else if let Some(reason) = skip_reason(&output) {
            counts.skips.push((name, reason));
        } else {
            counts.passed += 1;
            if case.children().any(|child| child.has_tag_name("flakyFailure")) {
                counts.second_tries.push(name);
            }
        }
    }
    Ok(counts)
}

/// How many steps and faults a fault matrix has tried: on a line that may begin with the name of its test.
fn fault_matrix(output: &str) -> impl Iterator<Item = &str> {
    output.lines().filter_map(|line| line.find("fault matrix: ").map(|at| &line[at..]))
}

/// What a test says that cannot run where it is: a line that begins with `skipped:`.
fn skip_reason(output: &str) -> Option<String> {
    output
        .lines()
        .find_map(|line| line.trim().strip_prefix("skipped:"))
        .map(|reason| reason.trim().to_owned())
}

/// `cargo test`, read line by line.
fn cargo_test(command: &mut Command) -> Result<Counts> {
    Ok(count(say::follow(command)?.iter().map(String::as_str)))
}

/// Counts what test programs say.
pub(crate) fn count<'a>(lines: impl Iterator<Item = &'a str>) -> Counts {
    let mut counts = Counts::default();
    for line in lines {
        if let Some(result) = line.strip_prefix("test result: ") {
            counts.passed += number_before(result, "passed").unwrap_or(0);
            counts.failed += number_before(result, "failed").unwrap_or(0);
            for _ in 0..number_before(result, "ignored").unwrap_or(0) {
                counts.skips.push(("cargo test".to_owned(), "marked as ignored".to_owned()));
            }
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            counts.failures.push(name.to_owned());
        } else if let Some(reason) = skip_reason(line) {
            counts.skips.push(("cargo test".to_owned(), reason));
            counts.passed = counts.passed.saturating_sub(1);
        } else if line.starts_with("error: could not compile") {
            counts.add(Counts::failure(line));
        }
    }
    counts
}

/// The number that stands before a word: 3 in `4 tests run: 3 passed, 1 failed`.
fn number_before(line: &str, word: &str) -> Option<usize> {
    let words: Vec<&str> =
        line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let position = words.iter().position(|candidate| *candidate == word)?;
    words.get(position.checked_sub(1)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_counted_and_a_skip_is_no_pass() {
        let report = r#"<testsuites><testsuite name="x">
            <testcase name="a" classname="x"/>
            <testcase name="b" classname="x"><failure message="no"/></testcase>
            <testcase name="c" classname="x"><system-err>skipped: no registry here</system-err></testcase>
            <testcase name="d" classname="x"><flakyFailure message="no"/></testcase>
        </testsuite></testsuites>"#;
        let counts = read_junit(report).unwrap();
        assert_eq!(counts.to_string(), "2 passed, 1 failed, 1 skipped");
        assert_eq!(counts.failures, ["x b"]);
        assert_eq!(counts.second_tries, ["x d"]);
        assert_eq!(counts.skips, [("x c".to_owned(), "no registry here".to_owned())]);
    }

    #[test]
    fn s26_the_count_of_a_fault_matrix_is_told() {
        let output =
            "running 1 test\ntest faults::a ... fault matrix: Host, KILL: 57 of 62 steps, 428 faults\nok\n";
        let told: Vec<&str> = fault_matrix(output).collect();
        assert_eq!(told, ["fault matrix: Host, KILL: 57 of 62 steps, 428 faults"]);
    }

    #[test]
    fn numbers_are_read_from_a_summary() {
        let line = "     Summary [   5.068s] 4 tests run: 3 passed, 1 failed, 2 skipped";
        assert_eq!(number_before(line, "passed"), Some(3));
        assert_eq!(number_before(line, "skipped"), Some(2));
        assert_eq!(number_before(line, "ignored"), None);
    }
}
