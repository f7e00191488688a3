//! `gc`: what nobody uses any more.

use clap::Args;
use serde::Serialize;

use super::{Context, image, output};
use crate::error::{Failure, Result};

#[derive(Debug, Args)]
pub(super) struct Gc {
    /// Say what would be removed, and remove nothing (of layers, nobody knows before)
    #[arg(long)]
    dry_run: bool,
}

/// What was removed.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Removed {
    /// Logs of subcontainers that are gone.
    logs: Vec<String>,
    /// Subcontainers that were half made, or half destroyed, when somebody was killed.
    remnants: Vec<String>,
    /// Layers and bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<protocol::image::RemovedResult>,
}

impl Gc {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let machine = context.machine()?;
        let mut removed = Removed { logs: machine.stray_logs()?, ..Removed::default() };
        removed.remnants = machine.remnants()?;
        if !self.dry_run {
            for guid in &removed.remnants {
                machine.remove_remnant(guid)?;
            }
            for guid in &removed.logs {
                crate::logs::remove(machine.data_dir(), guid)?;
            }
            removed.images = Some(machine.store()?.gc(&images::Silent).map_err(Failure::from)?);
            machine.release()?;
        }
        if context.json {
            return output::json(&removed);
        }
        for (what, ids) in [("logs of", &removed.logs), ("remnants of", &removed.remnants)] {
            ids.iter().for_each(|id| output::line(&format!("{what} {id}")));
        }
        match &removed.images {
            Some(images) => image::say_removed(images),
            None if removed.logs.is_empty() && removed.remnants.is_empty() => {
                output::line("nothing but perhaps layers")
            }
            None => {}
        }
        Ok(())
    }
}
