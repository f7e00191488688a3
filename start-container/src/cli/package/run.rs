//! For the operator: a job of a package, run to its end.

use std::process::ExitCode;

use protocol::Data;
use protocol::broker::TaskInfo;
use protocol::package::RunJobParams;

use super::super::client::Client;
use super::{Context, output};
use crate::engine::process;
use crate::error::{Failure, Result};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A job is an entry of the manifest that runs to its end, in a subcontainer of its own; its package has to be active. What it
prints is shown when it has ended, the first 64 KiB of each stream. The exit code is the job's. Ctrl-C ends it. A
scheduledFunction is run as if it were due; what it prints is in the log that `package status` names.

  start-container package run notes nightly")]
pub(in crate::cli) struct Run {
    /// The package
    id: String,
    /// The job or scheduledFunction, as the manifest calls it
    job: String,
}

impl Run {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let mut client = Client::connect(&context.data_dir().join("rpc/host.sock"))?;
        let params = RunJobParams { package_id: self.id, job: self.job };
        let ran: TaskInfo = client.call("package.run", &params)?;
        let code = ran.outcome.as_ref().map_or(125, process::exit_code);
        if context.json {
            output::json(&ran)?;
            return Ok(ExitCode::from(code));
        }
        if let Some(why) = ran.error {
            return Err(Failure::new(protocol::ErrorKind::Internal, "run job", ran.task)
                .because(std::io::Error::other(why)));
        }
        let said = |bytes: Option<Data>, say: fn(&str)| {
            let bytes = bytes.and_then(|bytes| bytes.into_bytes().ok()).unwrap_or_default();
            // A package's words, on the operator's terminal.
            String::from_utf8_lossy(&bytes).lines().for_each(|line| say(&output::plain(line)));
        };
        said(ran.stdout, output::line);
        said(ran.stderr, output::error);
        Ok(ExitCode::from(code))
    }
}
