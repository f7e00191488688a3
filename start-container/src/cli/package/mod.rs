//! `start-container package …`

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Subcommand;

use super::{Context, output};
use crate::arguments::Group;
use crate::error::{Failure, Result};

mod author;
mod backup;
mod decide;
mod dev;
mod develop;
mod fetch;
mod init;
mod look;
mod run;
mod test;
mod trust;
mod worker;

#[derive(Debug, Subcommand)]
#[command(
    defer = true,
    after_help = "\
Write one, as anybody:
  start-container package new hello && cd hello
  start-container package keygen ~/hello.key
  start-container package pack . --key ~/hello.key
Trust its author, as the operator:
  start-container package trust add ed25519:… --name me --package hello
  start-container package verify hello-0.1.0.bundle.tar.zst
Run it (this needs `start-container daemon`):
  start-container package install hello-0.1.0.bundle.tar.zst
  start-container package grant hello --all
  start-container package activate hello
  start-container package ls"
)]
pub(super) enum Package {
    /// Write a new package's directory, with a manifest to begin with
    New(author::New),
    /// Write a new package in TypeScript: a worker that starts a daemon, with an action
    Init(init::Init),
    /// Run a package from its source folder, and what is saved a moment later; for development
    Dev(dev::Dev),
    /// Run the tests of a package's source folder, against a host that is there for just that
    Test(test::Test),
    /// Make a key to sign bundles with, and print its public half
    Keygen(author::Keygen),
    /// Pack a package's directory into a bundle
    Pack(author::Pack),
    /// Add a signature to a bundle
    Sign(author::Sign),
    /// Check a bundle as an install would: hash, signatures, trust, every file
    Verify(look::Verify),
    /// Show what a bundle is, who signed it and what it asks for, trusted or not
    Inspect(look::Inspect),
    /// List what is installed
    Ls(decide::Ls),
    /// Take a bundle in; nothing of it runs yet
    Install(decide::Install),
    /// Show what a package asks for, grant it, or take it back
    Grant(decide::Grant),
    /// Start a package, and have it started with the host from now on
    Activate(decide::Activate),
    /// Run a job or a scheduled function of a package to its end
    Run(run::Run),
    /// Stop a package and keep it from starting
    Disable(decide::Disable),
    /// Replace a package by another version; one that asks for more waits for consent
    Update(decide::Update),
    /// Go back to a version that was installed before
    Rollback(decide::Rollback),
    /// Remove a package that does not run
    Remove(decide::Remove),
    /// Back the data of a package up; it is stopped meanwhile
    Backup(backup::Backup),
    /// Put the data of a backup in the place of a package's
    Restore(backup::Restore),
    /// Show how a package is, what it was granted, and what became of its calls
    Status(decide::Status),
    /// Send a request to a function or template of a package that runs
    Fetch(fetch::Fetch),
    /// Call an action, or other code, of a package that runs
    Call(worker::Call),
    /// Load the workers of a package that runs anew
    Reload(worker::Reload),
    /// End a package's quarantine: its calls are carried out again
    Lift(decide::Lift),
    /// Make a new key for the secrets of all packages
    Rekey(decide::Rekey),
    /// Show what was decided and called, by whom, and how it ended
    Audit(decide::Audit),
    /// Print the JSON Schema of manifests, for editors
    Schema,
    /// Say whose packages are trusted
    Trust(Group<trust::Trust>),
}

impl Package {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let done = match self {
            Self::Run(command) => return command.run(context),
            Self::Test(command) => return command.run(context),
            Self::Dev(command) => command.run(context),
            Self::Fetch(command) => return command.run(context),
            Self::New(command) => command.run(context),
            Self::Init(command) => command.run(context),
            Self::Keygen(command) => command.run(context),
            Self::Pack(command) => command.run(context),
            Self::Sign(command) => command.run(context),
            Self::Verify(command) => command.run(context),
            Self::Inspect(command) => command.run(context),
            Self::Ls(command) => command.run(context),
            Self::Install(command) => command.run(context),
            Self::Grant(command) => command.run(context),
            Self::Activate(command) => command.run(context),
            Self::Disable(command) => command.run(context),
            Self::Update(command) => command.run(context),
            Self::Rollback(command) => command.run(context),
            Self::Remove(command) => command.run(context),
            Self::Backup(command) => command.run(context),
            Self::Restore(command) => command.run(context),
            Self::Status(command) => command.run(context),
            Self::Call(command) => command.run(context),
            Self::Reload(command) => command.run(context),
            Self::Lift(command) => command.run(context),
            Self::Rekey(command) => command.run(context),
            Self::Audit(command) => command.run(context),
            Self::Schema => {
                output::line(packages::Manifest::json_schema().trim_end());
                Ok(())
            }
            Self::Trust(group) => group.command.run(context),
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

/// Milliseconds since the Unix epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How long until then, or since, as a person says it.
fn distance(time: u64) -> String {
    let now = now();
    let (ago, between) = if time <= now { (true, now - time) } else { (false, time - now) };
    let seconds = Duration::from_millis(between).as_secs();
    let text = match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    };
    if ago { format!("{text} ago") } else { format!("in {text}") }
}

fn open(path: &std::path::Path) -> Result<std::fs::File> {
    std::fs::File::open(path).map_err(Failure::io("open", path.display()))
}
