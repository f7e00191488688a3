//! `start-container package trust …`: the operator's file of keys.

use std::path::PathBuf;

use clap::Subcommand;
use packages::keys::PublicKey;
use packages::manifest::Line;
use packages::trust::{self, Pattern, TrustedKey};
use serde_json::json;

use super::{Context, distance, now, output};
use crate::error::Result;

#[derive(Debug, Subcommand)]
#[command(
    defer = true,
    after_help = "\
The keys are in DATA_DIR/trust.json, and nowhere else: nothing that is installed can add one. To exchange a key, add the
new one, and revoke the old one when everything is signed anew."
)]
pub(in crate::cli) enum Trust {
    /// Trust a key with some packages
    Add {
        /// ed25519:…, as `package keygen` printed it
        key: PublicKey,
        /// Whose it is
        #[arg(long)]
        name: Line,
        /// What it may sign: ID, PREFIX.* or *; may be repeated
        #[arg(long = "package", value_name = "PATTERN", required = true)]
        packages: Vec<Pattern>,
        /// It signs nothing new after so many days
        #[arg(long)]
        days: Option<u32>,
    },
    /// List the keys
    Ls,
    /// Trust a key no more; what it signed does not start any more
    Revoke {
        /// The key, or the name of its owner
        key_or_name: String,
    },
}

/// The trust file of the data directory.
pub(super) fn file(context: &Context) -> PathBuf {
    context.data_dir().join(trust::FILE)
}

impl Trust {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let file = file(context);
        match self {
            Self::Add { key, name, packages, days } => {
                let added = now();
                let expires = days.map(|days| added + u64::from(days) * 86_400_000);
                let new = TrustedKey { key, name, packages, added, expires, revoked: None };
                packages::Trust::change(&file, |trust| trust.add(new))?;
                if context.json { output::json(&json!({ "key": key })) } else { Ok(()) }
            }
            Self::Ls => {
                let trust = packages::Trust::read(&file)?;
                if context.json {
                    return output::json(&trust);
                }
                let rows: Vec<Vec<String>> = trust.keys.iter().map(row).collect();
                output::table(&["NAME", "KEY", "PACKAGES", "STATE"], &rows);
                Ok(())
            }
            Self::Revoke { key_or_name } => {
                let mut revoked = 0;
                packages::Trust::change(&file, |trust| {
                    revoked = trust.revoke(&key_or_name, now())?;
                    Ok(())
                })?;
                if context.json { output::json(&json!({ "revoked": revoked })) } else { Ok(()) }
            }
        }
    }
}

fn row(key: &TrustedKey) -> Vec<String> {
    let packages: Vec<String> = key.packages.iter().map(ToString::to_string).collect();
    let state = match (key.revoked, key.expires) {
        (Some(revoked), _) => format!("revoked {}", distance(revoked)),
        (None, Some(expires)) if expires <= now() => format!("expired {}", distance(expires)),
        (None, Some(expires)) => format!("expires {}", distance(expires)),
        (None, None) => "good".to_owned(),
    };
    vec![key.name.to_string(), key.key.to_string(), packages.join(" "), state]
}
