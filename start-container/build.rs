//! Compiles `init/`, the static program that is PID 1 inside, so that the binary can carry it.
//!
//! Not a workspace member: it has no standard library and no dependencies, and wants link arguments of its own.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let source = "../init/src/main.rs";
    println!("cargo::rerun-if-changed=../init/src");
    println!("cargo::rerun-if-changed=../linux/src/spawn/bare");
    println!("cargo::rerun-if-changed=build.rs");
    let output =
        PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("start-container-init");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    // Rust has a C library of its own for musl, the beginning of which is not wanted either.
    let own_library = target.ends_with("musl").then_some("-Clink-self-contained=no");
    let status = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"))
        .args(["--edition=2024", "--crate-name=start_container_init", "--crate-type=bin"])
        .args(["-Cpanic=abort", "-Copt-level=s", "-Cstrip=symbols", "-Crelocation-model=static"])
        .args(["-Ctarget-feature=+crt-static"])
        .args(["-Clink-arg=-nostartfiles", "-Clink-arg=-nostdlib", "-Clink-arg=-static"])
        .args(["-Clink-arg=-Wl,--build-id=none,-z,norelro,-z,noseparate-code"])
        .args(own_library)
        .arg(format!("--target={target}"))
        .arg(source)
        .arg("-o")
        .arg(&output)
        .status()
        .expect("rustc runs");
    assert!(status.success(), "init/ does not compile");
}
