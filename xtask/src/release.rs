//! The binary as it is meant to be installed: optimised, and linked statically.
//!
//! Statically, because the command line executes itself twice (see `start-container/src/sealed.rs`), and half of what
//! an `exec` took was the loading of shared libraries; and because one file without any can be copied to any machine
//! of its architecture. (The name look-ups of glibc 2.34 and later need no library at run time.) Cargo has no setting
//! for that which leaves procedural macros alone but a target that is named, so it has a target directory of its own.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{checks, place, say};

/// Builds it.
pub(crate) fn build() -> Result<()> {
    let mut cargo = Command::new(checks::cargo());
    cargo
        .args(["build", "--release", "--locked", "--package", "start-container", "--target", &target()])
        .arg("--target-dir")
        .arg(directory())
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static");
    say::run("cargo build --release, linked statically", &mut cargo)
}

/// Where it is.
pub(crate) fn binary() -> PathBuf {
    directory().join(target()).join("release/start-container")
}

fn directory() -> PathBuf {
    place::target().join("static")
}

/// This machine, as rustc names it.
fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}
