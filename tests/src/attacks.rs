//! The programs of the escape suite: what an attacker would bring along, and what careless engines did.
//!
//! Owns their compilation: once for each version of the source, into the target directory, by the machine's C compiler.
//! The programs stay there, as everything in that directory does.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::process::Command;

use crate::image::target_directory;

/// The name and the text of a file of C; the first is what is compiled. Part of this program: what runs isolated may not
/// see the source tree.
type Sources = [(&'static str, &'static str)];

macro_rules! sources {
    ($($file:literal),*) => { [$(($file, include_str!(concat!("../escapes/", $file)))),*] };
}

/// Every attack: one static program, one word for each.
///
/// # Panics
/// When it cannot be compiled: it needs `cc` and a static libc (Debian: gcc, libc6-dev).
#[must_use]
pub fn program() -> PathBuf {
    let sources = sources!(
        "attacks/main.c",
        "attacks/say.h",
        "attacks/handles.c",
        "attacks/settings.c",
        "attacks/calls.c",
        "attacks/processes.c",
        "attacks/devices.c",
        "attacks/files.c",
        "attacks/exhaustion.c",
        "attacks/networks.c",
        "attacks/sandboxes.c",
        "attacks/naive.c"
    );
    compile("attacks", &sources, &["-static"])
}

/// A library that says where it was loaded, by a file `/loaded`.
///
/// # Panics
/// As [`program`].
#[must_use]
pub fn library() -> PathBuf {
    compile("library", &sources!("library.c"), &["-shared", "-fPIC"])
}

/// A dynamic loader that only stays, in the name of the program that it was to load.
///
/// # Panics
/// As [`program`].
#[must_use]
pub fn interpreter() -> PathBuf {
    let flags = ["-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector"];
    compile("interpreter", &sources!("interpreter.c"), &flags)
}

/// A program that enters a directory with chroot(2) and looks up a user there, with the C library's own means.
///
/// # Panics
/// As [`program`].
#[must_use]
pub fn naive_lookup() -> PathBuf {
    compile("naive-lookup", &sources!("naive_lookup.c"), &[])
}

/// A client of a package's socket.
///
/// # Panics
/// As [`program`].
#[must_use]
pub fn caller() -> PathBuf {
    compile("caller", &sources!("caller.c"), &["-static"])
}

fn compile(name: &str, sources: &Sources, flags: &[&str]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    (sources, flags).hash(&mut hasher);
    let directory = target_directory().join("xtask/escapes");
    let program = directory.join(format!("{name}-{:016x}", hasher.finish()));
    if program.exists() {
        return program;
    }
    fs::create_dir_all(&directory).expect("make a directory for the attacks");
    // Tests run side by side: whoever is first, all see it whole. Each has a pid namespace of its own, so that a
    // process id is no name.
    let work = tempfile::Builder::new().prefix(name).tempdir_in(&directory).expect("make a directory");
    for (file, text) in sources {
        let file = work.path().join(file);
        fs::create_dir_all(file.parent().unwrap_or(work.path())).expect("make a directory for the source");
        fs::write(file, text).expect("write the source");
    }
    let output = work.path().join("program");
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-Wall", "-Wextra", "-o"]).arg(&output).args(flags);
    compiler.arg(work.path().join(sources[0].0));
    assert!(compiler.status().expect("run cc").success(), "cc does not compile {name}");
    fs::rename(&output, &program).expect("put the program in its place");
    program
}
