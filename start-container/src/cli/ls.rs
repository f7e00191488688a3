//! `ls`: subcontainers, in a table for people.

use std::collections::HashMap;

use clap::Args;
use protocol::subcontainer::SubcontainerInfo;

use super::subcontainer::{ago, health, ls, status};
use super::{Context, output};
use crate::error::{Failure, Result};

/// As much of an id as Docker shows.
const SHORT: usize = 12;

#[derive(Debug, Args)]
pub(super) struct Ls {
    /// Show ids whole
    #[arg(long)]
    no_trunc: bool,
    /// Show ids only, whole
    #[arg(short, long)]
    quiet: bool,
    /// Show only those that run
    #[arg(short, long)]
    running: bool,
}

impl Ls {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let machine = context.machine()?;
        let mut names = HashMap::new();
        for image in machine.store()?.list().map_err(Failure::from)? {
            names.insert(image.digest, image.names.into_iter().next());
        }
        ls(context, &machine, self.running, &|list| {
            if self.quiet {
                list.iter().for_each(|info| output::line(&info.guid));
                return;
            }
            let rows: Vec<Vec<String>> = list.iter().map(|info| self.row(info, &names)).collect();
            output::table(&["ID", "NAME", "IMAGE", "CREATED", "STATUS", "SANDBOX"], &rows);
        })
    }

    fn row(&self, info: &SubcontainerInfo, names: &HashMap<String, Option<String>>) -> Vec<String> {
        let id = |guid: &str| {
            if self.no_trunc { guid.to_owned() } else { guid.chars().take(SHORT).collect() }
        };
        // One that has lost its name shows its digest.
        let image = match names.get(&info.image_id) {
            Some(Some(name)) => output::plain(name),
            _ => info.image_id.chars().take(19).collect(),
        };
        let name = info.name.as_deref().map(output::plain).unwrap_or_default();
        let sandbox = info.sandbox.as_deref().map(id).unwrap_or_default();
        let status = format!("{}{}", status(&info.state), health(info));
        vec![id(&info.guid), name, image, ago(info.created), status, sandbox]
    }
}
