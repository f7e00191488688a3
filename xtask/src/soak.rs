//! The long tests: the same ones as always, with their full numbers.

use anyhow::{Context as _, Result, bail};

use crate::{checks, place, release, say, setup};

/// Runs them.
pub(crate) fn run() -> Result<()> {
    setup::run(setup::For::Tests)?;
    say::heading("build");
    release::build()?;
    say::heading("the long tests");
    // Faults are for debug builds only: each step, every time that it is reached.
    let mut faults = std::process::Command::new(checks::cargo());
    faults
        .args(["test", "--locked", "--package", "tests", "--test", "e2e", "--"])
        .args(["--test-threads=1", "--nocapture", "faults"])
        .env("START_CONTAINER_SOAK", "1");
    let built = std::process::Command::new(checks::cargo()).args(["build", "--locked"]).status();
    if !built.context("start the build")?.success() || !faults.status().context("start the tests")?.success()
    {
        bail!("the fault matrix failed");
    }
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
    say::heading("fifty services, and an hour's trouble in five minutes");
    let mut services = std::process::Command::new("npm");
    services
        .current_dir(place::root().join("sdk"))
        .args(["exec", "--", "vitest", "run", "--project", "soak"])
        .env("SDK_SOAK_SECONDS", "300")
        .env("START_CONTAINER_BIN", release::binary());
    let status = services.status().context("start vitest")?;
    if !status.success() {
        bail!("the soak ended with {status}");
    }
    Ok(())
}
