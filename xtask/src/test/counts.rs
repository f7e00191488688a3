//! How many tests passed, failed and were skipped, and which.

use std::fmt;

use anyhow::Result;

use crate::say;

/// The result of a part, or of all.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Ran and held.
    pub(crate) passed: usize,
    /// Did not hold, or could not be run for no good reason.
    pub(crate) failed: usize,
    /// Did not run: name and reason.
    pub(crate) skips: Vec<(String, String)>,
    /// The names of those that failed.
    pub(crate) failures: Vec<String>,
    /// The names of those that passed, but not at the first try.
    pub(crate) second_tries: Vec<String>,
}

impl Counts {
    /// One check: it held, or its error is shown and it failed.
    pub(crate) fn of(name: &str, result: Result<()>) -> Self {
        match result {
            Ok(()) => Self { passed: 1, ..Self::default() },
            Err(error) => {
                say::note(&format!("{error:#}"));
                Self::failure(name)
            }
        }
    }

    /// One failure.
    pub(crate) fn failure(name: &str) -> Self {
        Self { failed: 1, failures: vec![name.to_owned()], ..Self::default() }
    }

    /// One that was left out.
    pub(crate) fn skip(name: &str, reason: &str) -> Self {
        Self { skips: vec![(name.to_owned(), reason.to_owned())], ..Self::default() }
    }

    /// For the end of a part; unlike the last line of all, so that only that one looks like it.
    pub(crate) fn short(&self) -> String {
        format!("passed: {}, failed: {}, skipped: {}", self.passed, self.failed, self.skips.len())
    }

    /// Adds another part's.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skips.extend(other.skips);
        self.failures.extend(other.failures);
        self.second_tries.extend(other.second_tries);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skips.len())
    }
}
