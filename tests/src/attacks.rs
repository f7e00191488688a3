//! The programs of the escape suite: what an attacker would bring along, and what careless engines did.
//!
//! Owns their compilation: once for each version of the source, into the target directory, by the machine's C compiler.
//! The programs stay there, as everything in that directory does.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::image::target_directory;

/// Every attack: one static program, one word for each.
///
/// # Panics
/// When it cannot be compiled: it needs `cc` and a static libc (Debian: gcc, libc6-dev).
#[must_use]
pub fn program() -> PathBuf {
    compile("attacks", include_str!("../escapes/attacks.c"), &["-static"])
}

/// A library that says where it was loaded, by a file `/loaded`.
///
/// # Panics
/// As [`program`].
#[must_use]
pub fn library() -> PathBuf {
    compile("library", include_str!("../escapes/library.c"), &["-shared", "-fPIC"])
}

/// A program that enters a directory with chroot(2) and looks up a user there, with the C library's own means.
///
/// # Panics
/// As [`program`].
#[must_use]
pub fn naive_lookup() -> PathBuf {
    compile("naive-lookup", include_str!("../escapes/naive_lookup.c"), &[])
}

fn compile(name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    (source, flags).hash(&mut hasher);
    let directory = target_directory().join("xtask/escapes");
    let program = directory.join(format!("{name}-{:016x}", hasher.finish()));
    if program.exists() {
        return program;
    }
    fs::create_dir_all(&directory).expect("make a directory for the attacks");
    // Tests run side by side: whoever is first, all see it whole. Each has a pid namespace of its own, so that a
    // process id is no name.
    let unfinished = tempfile::Builder::new().prefix(name).tempdir_in(&directory).expect("make a directory");
    let output = unfinished.path().join("program");
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-Wall", "-Wextra", "-x", "c", "-o"]).arg(&output).args(flags).arg("-");
    let mut running = compiler.stdin(Stdio::piped()).spawn().expect("run cc");
    let mut stdin = running.stdin.take().expect("its input is a pipe");
    stdin.write_all(source.as_bytes()).expect("write to cc");
    drop(stdin);
    assert!(running.wait().expect("wait for cc").success(), "cc does not compile {name}");
    fs::rename(&output, &program).expect("put the program in its place");
    program
}
