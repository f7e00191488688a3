//! The long tests: the same ones as always, with their full numbers.

use anyhow::{Context as _, Result, bail};

use crate::{checks, release, say, setup};

/// Runs them.
pub(crate) fn run() -> Result<()> {
    setup::run(setup::For::Tests)?;
    say::heading("build");
    release::build()?;
    say::heading("the long tests");
    let mut tests = std::process::Command::new(checks::cargo());
    tests
        .args([
            "test",
            "--locked",
            "--package",
            "tests",
            "--test",
            "e2e",
            "--",
            "--test-threads=1",
            "storm",
            "survival",
        ])
        .env("START_CONTAINER_SOAK", "1")
        .env("START_CONTAINER_BIN", release::binary());
    let status = tests.status().context("start the tests")?;
    if !status.success() {
        bail!("the long tests ended with {status}");
    }
    Ok(())
}
