//! `start-container bind-mount`

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::Args;
use protocol::subcontainer::IdMap;

use crate::error::{Failure, Result};
use crate::subcontainer::check_guid;
use crate::subcontainer::state::Locked;

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
    pub(super) fn run(self, run_dir: &Path) -> Result<()> {
        // Whoever is being launched there meanwhile would not see it.
        let _lock = rootfs_of(&self.target).map(|guid| Locked::existing(run_dir, guid)).transpose()?;
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

/// The subcontainer in whose rootfs a path lies, if it does: `…/subcontainers/<guid>/…`.
fn rootfs_of(path: &Path) -> Option<&str> {
    let mut parts = path.iter();
    parts.find(|part| *part == OsStr::new("subcontainers"))?;
    parts.next()?.to_str().filter(|guid| check_guid(guid).is_ok())
}
