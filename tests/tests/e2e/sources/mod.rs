//! Bundles from git servers and object stores, real ones, on the loopback of each test.

mod git;
mod s3;

use std::fs;

use serde_json::{Value, json};
use tests::Cli;

/// A package that runs nothing.
fn plain(version: &str) -> Value {
    json!({ "manifest": 1, "id": "notes", "name": "Notes", "version": version })
}

/// What is left of fetches in the store, which may not be there yet.
fn left(cli: &Cli) -> Vec<String> {
    let entries = fs::read_dir(cli.data().join("bundles/tmp")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
