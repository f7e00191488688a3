//! Looking at a bundle: verify and inspect. Neither keeps anything.

use std::path::PathBuf;

use packages::bundle::{Contents, Limits, Sealed};
use packages::manifest::{Manifest, Scope};
use packages::trust::For;
use packages::{Trust, store};
use serde_json::json;

use super::{Context, now, output};
use crate::error::Result;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Ends with 0 if a key that is trusted for this package signed exactly these bytes, and everything in them is as it must be.")]
pub(in crate::cli) struct Verify {
    /// The bundle
    bundle: PathBuf,
    /// Whom to trust [default: DATA_DIR/trust.json]
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
}

impl Verify {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let trust = Trust::read(&self.trust.unwrap_or_else(|| super::trust::file(context)))?;
        let file = super::open(&self.bundle)?;
        let (sealed, contents, signers) = store::verify(file, &trust, &Limits::default(), now())?;
        let manifest = &contents.manifest;
        if context.json {
            return output::json(&json!({
                "id": manifest.id, "version": manifest.version, "digest": sealed.digest(), "signedBy": signers,
            }));
        }
        let names: Vec<&str> = signers.iter().map(|signer| signer.name.as_str()).collect();
        output::line(&format!("{} {} is signed by {}", manifest.id, manifest.version, names.join(", ")));
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Inspect {
    /// The bundle
    bundle: PathBuf,
    /// Whom to trust [default: DATA_DIR/trust.json]
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
}

impl Inspect {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let trust = Trust::read(&self.trust.unwrap_or_else(|| super::trust::file(context)))?;
        let limits = Limits::default();
        let sealed = Sealed::open(super::open(&self.bundle)?, &limits)?;
        let contents = sealed.read(&limits, |_| Ok(()), &mut ())?;
        let signatures: Vec<_> = sealed
            .envelope()
            .signatures
            .iter()
            .map(|signature| {
                let worth = trust.weigh(signature, &sealed.digest(), sealed.len(), For::Entry, now());
                let worth = worth.and_then(|key| {
                    Trust::for_package(&[key], &contents.manifest.id, sealed.digest())
                        .map(|_| key.name.to_string())
                        .map_err(|error| error.to_string())
                });
                (signature.key, worth)
            })
            .collect();
        if context.json {
            let signatures: Vec<_> = signatures
                .iter()
                .map(|(key, worth)| match worth {
                    Ok(name) => json!({ "key": key, "trusted": true, "name": name }),
                    Err(reason) => json!({ "key": key, "trusted": false, "reason": reason }),
                })
                .collect();
            return output::json(&json!({
                "digest": sealed.digest(), "packed": sealed.len(), "files": contents.files,
                "bytes": contents.bytes, "signatures": signatures, "manifest": contents.manifest,
            }));
        }
        head(&sealed, &contents);
        match signatures.as_slice() {
            [] => output::line("signed by    nobody"),
            some => {
                for (key, worth) in some {
                    match worth {
                        Ok(name) => output::line(&format!("signed by    {name} ({key}), trusted")),
                        Err(reason) => output::line(&format!("signed by    not trusted: {reason}")),
                    }
                }
            }
        }
        manifest(&contents.manifest);
        Ok(())
    }
}

fn head(sealed: &Sealed, contents: &Contents) {
    let manifest = &contents.manifest;
    output::line(&format!("package      {} {} ({})", manifest.id, manifest.version, manifest.name));
    if let Some(description) = &manifest.description {
        output::line(&format!("             {description}"));
    }
    output::line(&format!("digest       {}", sealed.digest()));
    let (files, bytes, packed) = (contents.files, contents.bytes, sealed.len());
    output::line(&format!(
        "size         {} in {files} files, {} packed",
        output::bytes(bytes),
        output::bytes(packed)
    ));
}

/// What a manifest says, for the operator who decides.
fn manifest(manifest: &Manifest) {
    for (id, dependency) in &manifest.dependencies {
        let reason = dependency.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        output::line(&format!("depends on   {id} {}{reason}", dependency.version));
        for volume in &dependency.volumes {
            output::line(&format!("mounts       volume {volume} of {id}"));
        }
    }
    for (name, entry) in &manifest.entries {
        output::line(&format!("entry        {name} ({})", entry.kind()));
    }
    let asked = manifest.capabilities.asked();
    if asked.is_empty() {
        output::line("asks for     nothing");
        return;
    }
    output::line("asks for");
    let rows: Vec<Vec<String>> = asked
        .into_iter()
        .map(|(kind, ask)| {
            let optional = if ask.optional() { "optional" } else { "" };
            vec![
                kind.name.to_owned(),
                kind.tier.to_string(),
                optional.to_owned(),
                scope(&ask.scope()),
                ask.reason().to_string(),
            ]
        })
        .collect();
    output::table(
        &["  CAPABILITY", "RISK", "", "FOR", "WHY"],
        &rows
            .into_iter()
            .map(|mut row| {
                row[0].insert_str(0, "  ");
                row
            })
            .collect::<Vec<_>>(),
    );
}

/// The items of a scope, or a dash where there is nothing to choose.
fn scope(scope: &Scope) -> String {
    let items: Vec<&str> = scope.values().flatten().map(String::as_str).collect();
    if items.is_empty() { "-".to_owned() } else { items.join(" ") }
}
