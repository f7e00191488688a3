//! The binary as it is meant to be installed: optimised, and linked statically with musl.
//!
//! Statically, because half of what an `exec` took was the loading of shared libraries; and because one file without any
//! can be copied to any machine of its architecture. With musl, because glibc asks the processor dozens of questions when
//! a program starts, each of which leaves a virtual machine: 0.29 ms, more than twice what a program that does nothing
//! takes otherwise (decision 0006). Tests and `cargo build` use the machine's own library.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{checks, place, say, setup};

/// Builds it.
pub(crate) fn build() -> Result<()> {
    setup::build_tools(&target())?;
    // At a fixed place: a program that may lie anywhere relocates 860 KB of tables at each start, which touches 215 pages.
    let fixed = ["--", "-Crelocation-model=static"];
    cargo("rustc", &["--package", "start-container", "--bin", "start-container"], &fixed)
}

/// Builds an example of a room the same way.
pub(crate) fn build_example(room: &str, name: &str) -> Result<()> {
    cargo("build", &["--package", room, "--example", name], &[])
}

/// Where that is.
pub(crate) fn example(name: &str) -> PathBuf {
    directory().join(target()).join("release/examples").join(name)
}

fn cargo(command: &str, what: &[&str], for_it_alone: &[&str]) -> Result<()> {
    let mut cargo = Command::new(checks::cargo());
    cargo
        .args([command, "--release", "--locked", "--target", &target()])
        .args(what)
        .arg("--target-dir")
        .arg(directory())
        .args(for_it_alone)
        .env("RUSTFLAGS", flags()?);
    say::run("cargo build --release, linked statically", &mut cargo)
}

/// How it is linked.
fn flags() -> Result<String> {
    // Relocations as a bit map: 8 KiB to read at each start, not 650.
    let mut flags = "-Clink-arg=-Wl,-z,pack-relative-relocs".to_owned();
    // By Rust's own linker, as other programs: what belongs together lies together, and a start touches fewer pages.
    let sysroot = say::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let linker = PathBuf::from(sysroot.trim()).join("lib/rustlib").join(host).join("bin/gcc-ld");
    if linker.exists() {
        flags += &format!(" -Clink-arg=-B{} -Clink-arg=-fuse-ld=lld", linker.display());
    }
    Ok(flags)
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
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}
