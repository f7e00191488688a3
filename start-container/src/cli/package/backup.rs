//! For the operator: a package's data, saved and brought back. The host does it.

use std::path::{Path, PathBuf};

use protocol::ErrorKind;
use protocol::package::{BackupInfo, BackupParams, RestoreParams};
use serde::Serialize;

use super::super::image::{Bars, cancel_on_ctrl_c};
use super::decide::connect;
use super::{Context, distance, output};
use crate::error::{Failure, Result};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The directory has to be there: where a disk is to be mounted and is not, nothing is written. The backup is in a directory of the
package's in it, and replaces the one before when it is whole and on disk, not sooner.

In it are the package's volumes, what it keeps with the host, and what it adds itself (a dump, by setupBackups of the SDK or the
job that its manifest names). Its secrets stay encrypted: keep a copy of DATA_DIR/secrets.key somewhere else. The package is
stopped while its files are copied, and started again. Ctrl-C leaves the former backup as it was.

  start-container package backup notes /mnt/stick
  start-container package restore notes /mnt/stick")]
pub(in crate::cli) struct Backup {
    /// The package
    id: String,
    /// Where to: a directory
    #[arg(value_name = "TARGET_DIR")]
    target: PathBuf,
}

impl Backup {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let params = BackupParams { package_id: self.id, target: absolute(&self.target)? };
        let done = call(context, "package.backup", &params)?;
        if context.json {
            return output::json(&done);
        }
        output::line(&format!(
            "{} {} is backed up: {} in {}",
            done.package_id,
            done.version,
            output::bytes(done.bytes),
            output::bytes(done.size)
        ));
        if done.left_out > 0 {
            output::error(&format!("{} sockets and devices are not in it", done.left_out));
        }
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The package has to be installed, in the version of the backup or a later one. All of its data are replaced: volumes that the backup has
not are empty then. The whole backup is checked before anything is changed; what was there before is kept until the package has
started with the new, and comes back where anything fails, on Ctrl-C and when the host is killed. Packages that need it have to
be disabled first.

Secrets are read with DATA_DIR/secrets.key of the host that made the backup. Where this host has another one, nothing is
restored, unless --without-secrets says so.")]
pub(in crate::cli) struct Restore {
    /// The package
    id: String,
    /// Where it was backed up to
    #[arg(value_name = "TARGET_DIR")]
    target: PathBuf,
    /// Leave out the secrets that this host's key does not open
    #[arg(long)]
    without_secrets: bool,
}

impl Restore {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let (package_id, without_secrets) = (self.id, self.without_secrets);
        let params = RestoreParams { package_id, target: absolute(&self.target)?, without_secrets };
        let done = call(context, "package.restore", &params)?;
        if context.json {
            return output::json(&done);
        }
        let when = distance(done.created);
        let amount = output::bytes(done.bytes);
        output::line(&format!(
            "{} is restored: version {}, made {when}, {amount}",
            done.package_id, done.version
        ));
        if !done.closed_secrets.is_empty() {
            let names: Vec<String> = done.closed_secrets.iter().map(|name| output::plain(name)).collect();
            output::error(&format!("without its secrets {}", names.join(", ")));
        }
        Ok(())
    }
}

fn absolute(path: &Path) -> Result<String> {
    let whole = std::path::absolute(path)
        .map_err(|error| Failure::new(ErrorKind::Invalid, "read the path", path.display()).because(error))?;
    Ok(whole.display().to_string())
}

fn call(context: &Context, method: &str, params: &impl Serialize) -> Result<BackupInfo> {
    let mut client = connect(context)?;
    let bars = Bars::new(!context.json);
    let cancel = cancel_on_ctrl_c()?;
    let done = client.call_watched(method, params, (&bars, &cancel));
    bars.clear();
    done
}
