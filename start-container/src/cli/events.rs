//! `events`: what has happened, and what happens.

use std::io::BufRead as _;

use clap::Args;
use protocol::ErrorKind;
use protocol::process::Outcome;
use protocol::session::{EndedBy, Event, EventKind, EventsParams, Health, SubscribeParams};

use super::client::{self, Client};
use super::subcontainer::find;
use super::{Context, output, times};
use crate::error::{Failure, Result};
use crate::events;

#[derive(Debug, Args)]
pub(super) struct Events {
    /// Go on with what comes, until interrupted; this needs the daemon
    #[arg(short, long)]
    follow: bool,
    /// Only what happened since then: 2026-11-21T12:00:00Z, or how long ago: 10m [default: all that is kept; with
    /// --follow, nothing]
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    since: Option<u64>,
    /// Only of this subcontainer: its path, its id or an unambiguous beginning of that, or its name; the whole id of one that
    /// is gone
    #[arg(value_name = "ROOTFS|ID|NAME")]
    rootfs: Option<String>,
}

impl Events {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let machine = match &self.rootfs {
            Some(text) => context.machine_of(text)?,
            None => context.machine()?,
        };
        let guid = match self.rootfs.as_deref() {
            Some(text) if crate::subcontainer::check_guid(text).is_ok() => Some(text.to_owned()),
            Some(text) => Some(find(&machine, text)?.guid().to_owned()),
            None => None,
        };
        if !self.follow {
            let which = EventsParams { guid, since: self.since };
            return events::list(machine.data_dir(), &which)?
                .iter()
                .try_for_each(|event| show(context, event));
        }
        let mut host = Client::connect(&client::socket(&machine))?;
        let params = SubscribeParams { guid, since: self.since };
        host.call::<protocol::subcontainer::Empty>("events.subscribe", &params)?;
        for line in host.into_reader().lines() {
            let fail =
                |error: std::io::Error| Failure::new(ErrorKind::Kernel, "read events", "").because(error);
            let message: serde_json::Value =
                serde_json::from_str(&line.map_err(fail)?).map_err(|error| fail(error.into()))?;
            if message["method"] == "event" {
                let event: Event =
                    serde_json::from_value(message["params"].clone()).map_err(|error| fail(error.into()))?;
                show(context, &event)?;
            }
        }
        Err(Failure::new(ErrorKind::Kernel, "read events", "")
            .because(std::io::Error::other("the host has ended")))
    }
}

fn show(context: &Context, event: &Event) -> Result<()> {
    if context.json {
        return output::json(event);
    }
    let what = match &event.what {
        EventKind::Created { image_id } => format!("created over {image_id}"),
        EventKind::Launched { pid } => format!("launched as process {pid}"),
        EventKind::Exited { outcome, by } => format!("{}{}", describe(outcome), why(*by)),
        EventKind::Health { name, status, message } => {
            let status = health(*status);
            let message = message.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
            format!("health of {name}: {status}{message}")
        }
        EventKind::Updated { limits } => {
            format!("limits are now {}", serde_json::to_string(limits).unwrap_or_default())
        }
        EventKind::Mounted { mountpoint } => format!("mounted at {mountpoint}"),
        EventKind::Unmounted { mountpoint } => format!("unmounted from {mountpoint}"),
        EventKind::Destroyed => "destroyed".into(),
        EventKind::LogLost { bytes, message } => format!("{bytes} bytes of its log are lost: {message}"),
        EventKind::Imported { image_id } => format!("imported image {image_id}"),
        EventKind::Pulled { image_id, reference } => format!("pulled image {reference}: {image_id}"),
        EventKind::Removed { image_id } => format!("removed image {image_id}"),
        EventKind::Notice { package_id, channel, title, message } => {
            let more = if message.is_empty() { String::new() } else { format!(": {message}") };
            format!("package {package_id} says on {channel}: {title}{more}")
        }
        EventKind::FunctionRan { package_id, entry, error: None } => {
            format!("{entry} of {package_id} has run")
        }
        EventKind::FunctionRan { package_id, entry, error: Some(error) } => {
            format!("{entry} of {package_id} has failed: {}", output::plain(error))
        }
        EventKind::Lagged { dropped } => {
            format!("{dropped} events came faster than they were read, and are missing")
        }
    };
    let guid = if event.guid.is_empty() { "-" } else { &event.guid };
    let time = times::format(event.time.saturating_mul(1_000_000));
    // Names and mountpoints are of whoever made them.
    output::line(&format!("{}Z  {guid:36}  {}", &time[..23], output::plain(&what)));
    Ok(())
}

/// In a word.
pub(super) fn health(status: Health) -> &'static str {
    match status {
        Health::Starting => "starting",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
    }
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exit { code } => format!("exited with {code}"),
        Outcome::Signal { signal, .. } => format!("ended by {signal}"),
        Outcome::Timeout => "ended by its time limit".into(),
        Outcome::Abort => "ended with its caller".into(),
        Outcome::OutOfMemory => "killed by the kernel: out of memory".into(),
        Outcome::Unknown => "ended; nobody was there to see how".into(),
    }
}

fn why(by: Option<EndedBy>) -> &'static str {
    match by {
        None => "",
        Some(EndedBy::Stop) => ", was asked to stop",
        Some(EndedBy::StopTimeout) => ", was asked to stop and did not in time",
        Some(EndedBy::Kill) => ", somebody sent it",
        Some(EndedBy::Destroy) => ", was destroyed",
    }
}
