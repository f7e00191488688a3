//! For the operator: what is installed, granted and active. The host does it; these ask it to.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use packages::fetch::{Watch, git, s3};
use protocol::package::{
    AuditOutcome, AuditParams, AuditResult, DisableParams, GrantParams, InstallParams, ListPackagesResult,
    PackageInfo, PackageParams, PackageRun, PackageSource, PackageStatus, RekeyResult, RemovePackageParams,
    RollbackParams, Scopes,
};
use protocol::subcontainer::Empty;
use serde_json::json;

use super::super::client::Client;
use super::super::image::{Bars, cancel_on_ctrl_c};
use super::{Context, distance, output};
use crate::error::{Failure, Result};

pub(super) fn connect(context: &Context) -> Result<Client> {
    Client::connect(&context.data_dir().join("rpc/host.sock"))
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Ls {}

impl Ls {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let list: ListPackagesResult = connect(context)?.call("package.list", &Empty {})?;
        if context.json {
            return output::json(&list.packages);
        }
        let rows: Vec<Vec<String>> = list.packages.iter().map(row).collect();
        output::table(&["ID", "VERSION", "STATUS", "RUN", "NAME", "NOTE"], &rows);
        Ok(())
    }
}

fn row(info: &PackageInfo) -> Vec<String> {
    let note = match (&info.stale, &info.run) {
        (Some(stale), _) => stale.clone(),
        (None, PackageRun::Errored { reason }) => reason.clone(),
        _ if super::worker::note(info).is_some() => super::worker::note(info).unwrap_or_default(),
        _ if !info.missing.is_empty() => format!("not granted: {}", names(&info.missing)),
        _ if quarantined(info).is_some() => {
            format!("in quarantine: {}", quarantined(info).unwrap_or_default())
        }
        _ => String::new(),
    };
    let id = info.package_id.clone();
    vec![id, info.version.clone(), status(info).to_owned(), run(info).to_owned(), info.name.clone(), note]
}

fn quarantined(info: &PackageInfo) -> Option<&str> {
    info.calls.as_ref()?.quarantined.as_deref()
}

fn status(info: &PackageInfo) -> &'static str {
    match info.status {
        PackageStatus::Verified => "verified",
        PackageStatus::Installed => "installed",
        PackageStatus::Active => "active",
        PackageStatus::Disabled => "disabled",
    }
}

fn run(info: &PackageInfo) -> &'static str {
    match info.run {
        PackageRun::Unknown => "-",
        PackageRun::Loading => "loading",
        PackageRun::Running => "running",
        PackageRun::Stopped => "stopped",
        PackageRun::Errored { .. } => "errored",
    }
}

fn names(scopes: &Scopes) -> String {
    scopes.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// What a package is after a decision.
pub(super) fn show(context: &Context, info: &PackageInfo) -> Result<()> {
    if context.json {
        return output::json(info);
    }
    output::line(&format!("{} {} is {}", info.package_id, info.version, status(info)));
    if !info.missing.is_empty() {
        output::error("it asks for what it was not granted:");
        changes(&info.missing, '+');
        output::error(&format!("hint: start-container package grant {} --all", info.package_id));
    }
    Ok(())
}

/// A line for each item: `+ http:egress api.example.com:443`.
fn changes(scopes: &Scopes, sign: char) {
    for (name, scope) in scopes {
        if scope.is_empty() {
            output::error(&format!("  {sign} {name}"));
        }
        for item in scope.values().flatten() {
            output::error(&format!("  {sign} {name} {item}"));
        }
    }
}

// Where a bundle is.
#[derive(Debug, clap::Args)]
struct Source {
    /// The bundle's file, `oci://[registry/]repository[:tag][@digest]`, `git+https://host/repository#commit[:path]` or
    /// `s3://bucket/key`
    bundle: String,
    /// Speak plain HTTP to the registry, the git server or the object store
    #[arg(long)]
    insecure: bool,
}

/// Where the host finds a bundle, for as long as this is there.
struct Found {
    source: PackageSource,
    /// Has no name: it is found by way of this process.
    _fetched: Option<File>,
}

impl Source {
    fn find(self, context: &Context) -> Result<Found> {
        let Self { bundle, insecure } = self;
        if let Some(reference) = bundle.strip_prefix("oci://") {
            let source = PackageSource::Oci { reference: reference.to_owned(), insecure };
            return Ok(Found { source, _fetched: None });
        }
        if bundle.starts_with("git+") || bundle.starts_with("s3://") {
            let file = fetch(context, &bundle, insecure)?;
            let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
            return Ok(Found { source: PackageSource::File { path }, _fetched: Some(file) });
        }
        let path = std::path::absolute(PathBuf::from(&bundle)).map_err(|error| {
            Failure::new(protocol::ErrorKind::Invalid, "read the path of the bundle", &bundle).because(error)
        })?;
        Ok(Found { source: PackageSource::File { path: path.display().to_string() }, _fetched: None })
    }
}

/// Fetches a bundle ourselves, with what the operator who runs us may know and the host need not.
fn fetch(context: &Context, bundle: &str, insecure: bool) -> Result<File> {
    let store = packages::Store::open(context.data_dir())?;
    let bars = Bars::new(!context.json);
    let progress = |done, total| images::Progress::update(&bars, "bundle", done, total);
    let cancel = cancel_on_ctrl_c()?;
    let watch = Watch { progress: &progress, cancelled: cancel.as_ref() };
    let fetched = if bundle.starts_with("s3://") {
        bundle.parse().and_then(|object: s3::Source| object.fetch(&store, insecure, &watch))
    } else {
        bundle.parse().and_then(|commit: git::Source| {
            if commit.is_plain() && !insecure {
                let reason = "what comes over plain HTTP may be anybody's: say --insecure for it".to_owned();
                return Err(packages::Error::Source { place: commit.to_string(), reason });
            }
            commit.fetch(&store, &watch)
        })
    };
    bars.clear();
    Ok(fetched?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A bundle from git is named by the whole id of a commit; without one the error says which commit is there now. What comes by
git+ and s3:// is fetched by this command, with your git configuration, or with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_REGION, AWS_ENDPOINT_URL or AWS_PROFILE; the host is told none of it. Wherever it comes from, the signature decides.")]
pub(in crate::cli) struct Install {
    #[command(flatten)]
    source: Source,
    /// Also a version older than one that was installed before
    #[arg(long)]
    older: bool,
}

impl Install {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let mut client = connect(context)?;
        let found = self.source.find(context)?;
        let source = found.source.clone();
        let params = InstallParams { source, grant_all: false, older: self.older };
        show(context, &client.call("package.install", &params)?)
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A new version that asks for more than was granted is turned away, and the one that is there goes on as it was. To consent:
--grant-all, having seen what it asks for.")]
pub(in crate::cli) struct Update {
    #[command(flatten)]
    source: Source,
    /// Grant what the new version asks for beyond what was granted
    #[arg(long)]
    grant_all: bool,
    /// Also a version older than the one that is there
    #[arg(long)]
    older: bool,
}

impl Update {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let (grant_all, older) = (self.grant_all, self.older);
        let mut client = connect(context)?;
        let found = self.source.find(context)?;
        let params = InstallParams { source: found.source.clone(), grant_all, older };
        show(context, &client.call("package.update", &params)?)
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without options it shows what the package asks for: + is not granted, = is. A grant is for what the package asks for today,
item by item; what a later version asks for beyond it is asked again.")]
pub(in crate::cli) struct Grant {
    /// The package
    id: String,
    /// Capabilities to grant
    #[arg(value_name = "CAPABILITY")]
    capabilities: Vec<String>,
    /// Everything that it asks for
    #[arg(long)]
    all: bool,
    /// Take this back; a package that runs is disabled first, with those that need it
    #[arg(long, value_name = "CAPABILITY")]
    revoke: Vec<String>,
}

impl Grant {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let mut client = connect(context)?;
        let Self { id, capabilities, all, revoke } = self;
        let looks = !all && capabilities.is_empty() && revoke.is_empty();
        let name = PackageParams { package_id: id.clone() };
        let before: PackageInfo = client.call("package.inspect", &name)?;
        if looks {
            if context.json {
                return output::json(&before);
            }
            output::line(&format!("{} {} asks for", before.package_id, before.version));
            for (name, scope) in &*before.asked {
                let items: Vec<&String> = scope.values().flatten().collect();
                let granted = before.granted.get(name);
                if items.is_empty() {
                    output::line(&format!("  {} {name}", if granted.is_some() { '=' } else { '+' }));
                }
                for item in items {
                    let has = granted.is_some_and(|scope| scope.values().any(|items| items.contains(item)));
                    output::line(&format!("  {} {name} {item}", if has { '=' } else { '+' }));
                }
            }
            return Ok(());
        }
        let params = GrantParams { package_id: id, all, grant: capabilities, revoke };
        let after: PackageInfo = client.call("package.grant", &params)?;
        if !context.json {
            changes(&packages::manifest::missing(&after.granted, &before.granted), '+');
            changes(&packages::manifest::missing(&before.granted, &after.granted), '-');
        }
        show(context, &after)
    }
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Activate {
    /// The package
    id: String,
}

impl Activate {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        show(context, &connect(context)?.call("package.activate", &PackageParams { package_id: self.id })?)
    }
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Disable {
    /// The package
    id: String,
    /// Those that need it, too
    #[arg(long)]
    dependents: bool,
}

impl Disable {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let params = DisableParams { package_id: self.id, dependents: self.dependents };
        show(context, &connect(context)?.call("package.disable", &params)?)
    }
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Rollback {
    /// The package
    id: String,
    /// To this version [default: the one before]
    #[arg(long)]
    to: Option<String>,
    /// Grant what that version asks for beyond what is granted
    #[arg(long)]
    grant_all: bool,
}

impl Rollback {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let params = RollbackParams { package_id: self.id, version: self.to, grant_all: self.grant_all };
        show(context, &connect(context)?.call("package.rollback", &params)?)
    }
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Remove {
    /// The package
    id: String,
    /// Its volumes, too
    #[arg(long)]
    data: bool,
}

impl Remove {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let params = RemovePackageParams { package_id: self.id.clone(), data: self.data };
        let _gone: Empty = connect(context)?.call("package.remove", &params)?;
        if context.json { output::json(&json!({ "removed": self.id })) } else { Ok(()) }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Calls are counted since the host has started. A kind of call that fails again and again rests for a while; a package that is
denied again and again is put in quarantine, until `package lift`.")]
pub(in crate::cli) struct Status {
    /// The package
    id: String,
}

impl Status {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let info: PackageInfo =
            connect(context)?.call("package.inspect", &PackageParams { package_id: self.id })?;
        if context.json {
            return output::json(&info);
        }
        output::line(&format!("package    {} {} ({})", info.package_id, info.version, info.name));
        let why = match &info.run {
            PackageRun::Errored { reason } => format!(": {reason}"),
            _ => String::new(),
        };
        output::line(&format!("status     {}, {}{why}", status(&info), run(&info)));
        if let Some(stale) = &info.stale {
            output::line(&format!("stale      {stale}"));
        }
        super::worker::all_lines(&info).iter().for_each(|line| output::line(line));
        output::line(&format!("granted    {}", packages::installed::shown(&info.granted)));
        if !info.missing.is_empty() {
            output::line(&format!("missing    {}", packages::installed::shown(&info.missing)));
        }
        let calls = info.calls.unwrap_or_default();
        let limited =
            if calls.limited > 0 { format!(", {} of them too many", calls.limited) } else { String::new() };
        output::line(&format!(
            "calls      {} done, {} denied{limited}, {} failed",
            calls.done, calls.denied, calls.failed
        ));
        if !calls.broken.is_empty() {
            output::line(&format!("resting    {}", calls.broken.join(", ")));
        }
        if let Some(why) = calls.quarantined {
            output::line(&format!("quarantine {why}"));
            output::error(&format!(
                "hint: start-container package audit {0}; package lift {0}",
                info.package_id
            ));
        }
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Look at what it did first: start-container package audit ID")]
pub(in crate::cli) struct Lift {
    /// The package
    id: String,
}

impl Lift {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        show(context, &connect(context)?.call("package.lift", &PackageParams { package_id: self.id })?)
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The key is in DATA_DIR/secrets.key. The old one is of no use afterwards: a backup of the database needs the key that was
there when it was made.")]
pub(in crate::cli) struct Rekey {}

impl Rekey {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let result: RekeyResult = connect(context)?.call("package.rekey", &Empty {})?;
        if context.json {
            return output::json(&result);
        }
        output::line(&format!("{} secrets are encrypted with a new key", result.secrets));
        Ok(())
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each entry is chained to the one before by a hash; --verify checks the chain from the first entry on. Keep the last hash
elsewhere, and you can tell whether the log was written anew.")]
pub(in crate::cli) struct Audit {
    /// Only of this package
    id: Option<String>,
    /// The last so many
    #[arg(short = 'n', long, default_value_t = 100)]
    last: u32,
    /// Check that nothing in the log was changed or taken away
    #[arg(long)]
    verify: bool,
}

impl Audit {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let params = AuditParams { package_id: self.id, last: Some(self.last), verify: self.verify };
        let result: AuditResult = connect(context)?.call("package.audit", &params)?;
        if context.json {
            return output::json(&result);
        }
        let rows: Vec<Vec<String>> = result
            .entries
            .iter()
            .map(|entry| {
                let outcome = match entry.outcome {
                    AuditOutcome::Done => "done",
                    AuditOutcome::Denied => "denied",
                    AuditOutcome::Failed => "failed",
                };
                vec![
                    entry.number.to_string(),
                    distance(entry.time),
                    entry.actor.clone(),
                    entry.package_id.clone(),
                    entry.action.clone(),
                    outcome.to_owned(),
                    entry.detail.clone(),
                ]
            })
            .collect();
        output::table(&["NUMBER", "WHEN", "WHO", "PACKAGE", "WHAT", "OUTCOME", "DETAIL"], &rows);
        if let Some(count) = result.verified {
            output::error(&format!("all {count} entries follow from each other"));
        }
        Ok(())
    }
}
