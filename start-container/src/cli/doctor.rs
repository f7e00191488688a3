//! `doctor`: what is missing here, and what that costs.

use std::process::ExitCode;

use clap::Args;

use super::{Context, output};
use crate::doctor::{self, State};
use crate::error::Result;

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Show only what is not well
    #[arg(short, long)]
    quiet: bool,
}

impl Doctor {
    /// 0: containers run here, perhaps not with everything. 1: they do not.
    pub(super) fn run(&self, context: &Context) -> Result<ExitCode> {
        let all = doctor::examine(context.data_dir());
        let missing = all.iter().any(|finding| finding.state == State::Missing);
        let code = if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        if context.json {
            output::json(&all)?;
            return Ok(code);
        }
        for finding in all.iter().filter(|finding| !self.quiet || finding.state != State::Ok) {
            let word = match finding.state {
                State::Ok => "ok",
                State::Limited => "limited",
                State::Missing => "MISSING",
            };
            output::line(&format!("{word:8} {:22} {}", finding.name, output::plain(&finding.found)));
            if !finding.cost.is_empty() {
                output::line(&format!("{:31} {}", "", finding.cost));
            }
        }
        Ok(code)
    }
}
