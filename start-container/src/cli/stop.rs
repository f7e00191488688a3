//! `stop`, `kill` and `rm`: ending what runs, and removing it.
//!
//! By the host, where one runs, so that it can tell why; else here.

use std::time::Duration;

use clap::Args;
use protocol::ErrorKind;
use protocol::process::{KillResult, SignalParams, StopParams, StopResult};
use protocol::subcontainer::{Empty, GuidParams, RunState};

use super::client::{self, Client};
use super::subcontainer::find;
use super::{Context, output};
use crate::error::{Failure, Result};
use crate::subcontainer::{Machine, STOP_PATIENCE, stop_signal};

#[derive(Debug, Args)]
pub(super) struct Stop {
    /// Seconds until it is ended by force
    #[arg(short = 't', long = "time", value_name = "SECONDS", default_value_t = STOP_PATIENCE as f64 / 1000.0)]
    time: f64,
    /// The signal that asks it to end [default: the image's, else SIGTERM]
    #[arg(short, long)]
    signal: Option<String>,
    /// Paths of rootfs, ids, unambiguous beginnings of ids, or names
    #[arg(required = true, value_name = "ROOTFS|ID|NAME")]
    which: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Kill {
    /// The signal, with or without SIG
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    /// Paths of rootfs, ids, unambiguous beginnings of ids, or names
    #[arg(required = true, value_name = "ROOTFS|ID|NAME")]
    which: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Rm {
    /// Also those that run: everything inside ends at once
    #[arg(short, long)]
    force: bool,
    /// Paths of rootfs, ids, unambiguous beginnings of ids, or names
    #[arg(required = true, value_name = "ROOTFS|ID|NAME")]
    which: Vec<String>,
}

/// Does something to each that is named, whatever becomes of the others. Says which it was done to.
fn each(
    context: &Context,
    which: &[String],
    work: impl Fn(&Machine, Option<&mut Client>, &str) -> Result<serde_json::Value>,
) -> Result<()> {
    let mut failed = None;
    for text in which {
        let one = || {
            let machine = context.machine_of(text)?;
            let guid = find(&machine, text)?.guid().to_owned();
            let mut host = Client::connect(&client::socket(&machine)).ok();
            let mut done = work(&machine, host.as_mut(), &guid)?;
            done["guid"] = guid.into();
            Ok(done)
        };
        match one() {
            Ok(done) if context.json => output::json(&done)?,
            Ok(_) => output::line(text),
            Err(failure) => {
                // The last one is told by who calls.
                if let Some(earlier) = failed.replace(failure) {
                    super::report(&earlier, context.json);
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

fn json(value: &impl serde::Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(value)
        .map_err(|error| Failure::new(ErrorKind::Internal, "write JSON", "").because(error))
}

fn not_running(step: &str, guid: &str) -> Failure {
    Failure::new(ErrorKind::NotRunning, step, guid).because(std::io::Error::other("it is not running"))
}

impl Stop {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let timeout = Duration::try_from_secs_f64(self.time)
            .map_err(|error| Failure::new(ErrorKind::Invalid, "read seconds", self.time).because(error))?;
        each(context, &self.which, |machine, host, guid| {
            let stopped = match host {
                Some(host) => {
                    let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                    let params = StopParams {
                        guid: guid.to_owned(),
                        signal: self.signal.clone(),
                        timeout: Some(timeout.min(1 << 53)),
                    };
                    host.call::<StopResult>("subcontainer.stop", &params)?
                }
                None => match machine.leader_of(guid)? {
                    Some(leader) => {
                        let signal = stop_signal(&leader, self.signal.as_deref())?;
                        let killed = machine.stop(&leader, signal, timeout, || {})?;
                        StopResult { outcome: Some(machine.settle_end(&leader)?), killed }
                    }
                    None => StopResult { outcome: None, killed: false },
                },
            };
            // What does not run is stopped: so Docker has it, too.
            json(&stopped)
        })
    }
}

impl Kill {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        each(context, &self.which, |machine, host, guid| {
            let delivered = match host {
                Some(host) => {
                    let params = SignalParams { guid: guid.to_owned(), signal: self.signal.clone() };
                    host.call::<KillResult>("subcontainer.signal", &params)?.delivered
                }
                None => match machine.leader_of(guid)? {
                    Some(leader) => {
                        let signal = stop_signal(&leader, Some(&self.signal))?;
                        let fail =
                            |errno| Failure::kernel(format!("send {signal} to the leader of"), guid, errno);
                        leader.process.signal(signal).map_err(fail)?
                    }
                    None => false,
                },
            };
            if !delivered {
                return Err(not_running("kill", guid));
            }
            json(&KillResult { delivered })
        })
    }
}

impl Rm {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        each(context, &self.which, |machine, host, guid| {
            if !self.force
                && let RunState::Running { .. } = machine.info(&machine.rootfs(guid)?)?.state
            {
                return Err(
                    Failure::new(ErrorKind::Busy, "remove", guid).because(std::io::Error::other("it runs"))
                );
            }
            match host {
                Some(host) => {
                    host.call::<Empty>("subcontainer.destroyFs", &GuidParams { guid: guid.to_owned() })?;
                }
                None => {
                    machine.destroy(guid)?;
                    machine.release()?;
                }
            }
            json(&Empty {})
        })
    }
}
