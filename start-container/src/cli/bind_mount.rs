//! `start-container bind-mount`

use std::path::PathBuf;

use clap::Args;
use protocol::subcontainer::IdMap;

use crate::error::{Failure, Result};

#[derive(Debug, Args)]
pub(super) struct BindMount {
    /// What to mount
    #[arg(long, value_name = "PATH")]
    source: PathBuf,
    /// Where to mount it
    #[arg(long, value_name = "PATH")]
    target: PathBuf,
    /// With everything that is mounted beneath it
    #[arg(long)]
    recursive: bool,
    /// Nothing can be written through it
    #[arg(long)]
    readonly: bool,
    /// Source and target are files; a missing target is created as one
    #[arg(long)]
    file: bool,
    /// Ids FROM.. of the source appear as TO.., for RANGE ids (1 if left out). Repeatable
    #[arg(long, value_name = "FROM:TO[:RANGE]", value_parser = volumes::parse_id_map)]
    idmap: Vec<IdMap>,
}

impl BindMount {
    pub(super) fn run(self) -> Result<()> {
        let options = volumes::BindOptions {
            recursive: self.recursive,
            readonly: self.readonly,
            file: self.file,
            idmap: self.idmap,
            root: None,
        };
        volumes::bind(&self.source, &self.target, &options).map_err(Failure::from)
    }
}
