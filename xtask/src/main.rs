//! The project's own commands: set-up, checks, tests, demo, benchmarks.
//!
//! Owns `target/xtask/` and says what it does while it does it. Never part of the product.
#![allow(clippy::print_stdout, reason = "a command line tool that tells what it does")]

mod bench;
mod checks;
mod demo;
mod fuzz;
mod guest;
mod image;
mod man;
mod orphans;
mod place;
mod release;
mod say;
mod setup;
mod soak;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the tests and the demo need and make their images (needs root).
    Setup,
    /// Run every check and every test, and look at the machine before and after.
    Test(test::Options),
    /// Build everything and run the example: PostgreSQL in a subcontainer, from TypeScript.
    Demo(demo::Options),
    /// Build the binary as it is meant to be installed, and say where it is.
    Build,
    /// Measure against other engines and write docs/benchmarks.md.
    Bench(bench::Options),
    /// The process in which the benchmark runs the other engines.
    #[command(hide = true)]
    BenchWorker,
    /// The long tests: 10,000 lives of a subcontainer, 2,000 times 16 execs, kills at random moments, and fifty services
    /// with everything that can happen to them.
    Soak,
    /// Run the fuzz targets of manifests, bundles and the wire of packages, side by side for an hour (needs a nightly compiler).
    Fuzz(fuzz::Options),
    /// Run the kernel contract tests on Debian's kernel 6.1 with cgroup v2 alone, in QEMU.
    Guest,
    /// Write the manual pages, docs/man, from the built binary (`--check`: compare them instead).
    Man {
        /// Change nothing; fail when a page is not what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Write the files that are generated from Rust types: the SDK's, and schemas (`--check`: compare them instead).
    Schema {
        /// Change nothing; fail when a file is not what would be written.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> std::process::ExitCode {
    // Also under `cargo xtask`, which sets the variable, so that every part finds the workspace.
    if let Err(error) = std::env::set_current_dir(place::root()) {
        say::failure(&anyhow::Error::from(error).context("enter the workspace"));
        return std::process::ExitCode::FAILURE;
    }
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            say::failure(&error);
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<std::process::ExitCode> {
    match command {
        Command::Setup => setup::run(setup::For::Tests)?,
        Command::Test(options) => return test::run(&options),
        Command::Demo(options) => return demo::run(&options),
        Command::Bench(options) => bench::run(&options)?,
        Command::BenchWorker => bench::serve()?,
        Command::Soak => soak::run()?,
        Command::Fuzz(options) => fuzz::run(&options)?,
        Command::Guest => guest::run()?,
        Command::Build => {
            release::build()?;
            say::last(&format!("{}", release::binary().display()));
        }
        Command::Man { check } => man::run(check)?,
        Command::Schema { check: true } => checks::generated_files()?,
        Command::Schema { check: false } => checks::write_generated_files()?,
    }
    Ok(std::process::ExitCode::SUCCESS)
}
