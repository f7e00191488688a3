//! What is generated from this command line: completions of shells, manual pages.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use protocol::ErrorKind;

use super::Cli;
use crate::error::{Failure, Result};

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// An existing directory
    dir: PathBuf,
}

impl Completions {
    pub(super) fn run(&self) {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "start-container", &mut script);
        super::output::line(String::from_utf8_lossy(&script).trim_end());
    }
}

impl Man {
    /// A page for each command.
    pub(super) fn run(&self) -> Result<()> {
        clap_mangen::generate_to(Cli::command(), &self.dir).map_err(|error| {
            Failure::new(ErrorKind::Kernel, "write manual pages in", self.dir.display()).because(error)
        })
    }
}
