//! Command lines, taken apart without paying for the commands that were not called.
//!
//! A process that starts, does one thing and ends pays for every page that it touches: describing all commands took a
//! tenth of an `exec` by command line (decision 0006).

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand};

// No documentation comments here: they would be the help of each group.
//
// clap's `defer` is for commands; a group of commands in a variant is described at once, with all that is in it, unless
// it is arguments of a command itself.
#[derive(Debug, Args)]
pub(crate) struct Group<C: Subcommand> {
    #[command(subcommand)]
    pub(crate) command: C,
}

/// Parses a command line, the program's own name first.
///
/// What describes the commands is not taken apart afterwards: the process ends soon, or serves for a long time with 100 KB more.
pub(crate) fn parse<C: Parser>(args: impl IntoIterator<Item = OsString>) -> Result<C, clap::Error> {
    let command = Box::leak(Box::new(C::command()));
    let mut matches = command.try_get_matches_from_mut(args)?;
    C::from_arg_matches_mut(&mut matches).map_err(|error| error.format(command))
}
