//! The fuzz targets, which need a nightly compiler and flags of their own; `cargo fuzz` works on them too.
//!
//! Owns `target/xtask/fuzz`: the build, and for each target what it has learnt and said. A finding is left in `findings/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{place, say};

/// What to fuzz, and how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this target (may be given more than once).
    targets: Vec<String>,
    /// How long they run.
    #[arg(long, default_value_t = 3600)]
    seconds: u32,
}

/// As `cargo fuzz` has them: edges counted, comparisons seen, memory watched.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Ccodegen-units=1 --cfg fuzzing";

/// Builds and runs them.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (room, cache) = (place::root().join("fuzz"), place::cache().join("fuzz"));
    let all = targets(&room)?;
    if let Some(unknown) = options.targets.iter().find(|target| !all.contains(target)) {
        bail!("there is no fuzz target {unknown}; there are {}", all.join(", "));
    }
    // A sanitizer needs a target that is named, or it would be in build scripts too.
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = Command::new("rustup");
    cargo
        .args(["run", "nightly", "cargo", "build", "--release", "--target", &triple, "--manifest-path"])
        .arg(room.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(cache.join("build"))
        .env("RUSTFLAGS", FLAGS)
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN");
    say::run("cargo build of the fuzz targets (nightly)", &mut cargo)?;
    let wanted = if options.targets.is_empty() { &all } else { &options.targets };
    say::heading(&format!("fuzz {}, side by side, {} s", wanted.join(", "), options.seconds));
    let programs = cache.join("build").join(&triple).join("release");
    let one = |target: &String| {
        fuzz(&programs.join(target), &cache.join(target), &room.join("seeds").join(target), options.seconds)
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = wanted.iter().map(|target| scope.spawn(move || one(target))).collect();
        let ended = running.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("it panicked")));
        ended.fold(Ok(()), Result::and)
    })
}

fn targets(room: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(room.join("fuzz_targets")).context("list the fuzz targets")?;
    let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    let stems = paths.iter().filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()));
    let mut targets: Vec<String> = stems.collect();
    targets.sort();
    Ok(targets)
}

fn fuzz(program: &Path, cache: &Path, seeds: &Path, seconds: u32) -> Result<()> {
    let (corpus, findings) = (cache.join("corpus"), cache.join("findings"));
    std::fs::create_dir_all(&corpus)?;
    std::fs::create_dir_all(&findings)?;
    let mut fuzz = Command::new(program);
    // The amalgamation of SQLite has names twice.
    fuzz.env("ASAN_OPTIONS", "detect_odr_violation=0")
        .arg(&corpus)
        .arg(seeds)
        .arg(format!("-max_total_time={seconds}"))
        // A thread that is just ending looks like a leak; what is really lost again and again meets the limit.
        .args([
            "-max_len=65536",
            "-timeout=60",
            "-detect_leaks=0",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
        ])
        .arg(format!("-artifact_prefix={}/", findings.display()));
    // What it says while it runs is for who looks into it.
    let path = cache.join("log");
    let log = std::fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let status = fuzz.stderr(log).status().with_context(|| format!("start {}", program.display()))?;
    let said = std::fs::read_to_string(&path)?;
    let last = said.lines().rev().find(|line| line.starts_with("Done ")).unwrap_or("it did not end in order");
    println!("{}: {last}", program.file_name().unwrap_or_default().display());
    if !status.success() {
        bail!("a finding in {}, see {}: {status}", findings.display(), path.display());
    }
    Ok(())
}
