//! Packages for clients: who connects to the host's socket is the operator, and decides.
//!
//! Opened with the first question about them, or at the start of a host that has some.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use broker::chain::{Chain, ChainError};
use broker::egress::Guard;
use broker::{Broker, Databases, Rates};
use packages::manifest::PackageId;
use packages::{Packages, audit};
use protocol::ErrorKind;
use protocol::broker::DependencyInfo;
use protocol::function::{FetchParams, FetchResult};
use protocol::package::{
    AuditEntry, AuditLine, AuditParams, AuditResult, CallParams, DisableParams, GrantParams, InstallParams,
    ListPackagesResult, PackageInfo, PackageParams, PackageRun, PackageSource, PackageStatus, RekeyResult,
    ReloadParams, RemovePackageParams, RollbackParams,
};
use protocol::subcontainer::Empty;
use protocol::worker::{CallModuleResult, MOST_TOLD};

use super::backup::place;
use super::connection::{Answer, Call, answer, cancelled};
use super::jobs::Jobs;
use super::light::{self, Light};
use super::runner::Runner;
use super::state::{Host, blocking};
use crate::engine::lock;
use crate::error::{Failure, Result};
use crate::subcontainer::now;

/// The packages of a host, once somebody has asked for them, and the broker that their calls pass.
#[derive(Default)]
pub(super) struct Installed {
    opening: std::sync::Mutex<()>,
    open: OnceLock<Open>,
}

pub(super) struct Open {
    pub(super) packages: Packages,
    pub(super) broker: Arc<Broker>,
    pub(super) runner: Arc<Runner>,
}

/// The audit log of packages, for calls too: one chain tells in which order things were decided and done.
struct Audit;

impl Chain for Audit {
    fn append(
        &self,
        transaction: &rusqlite::Transaction<'_>,
        entries: &[AuditLine<'_>],
    ) -> std::result::Result<(), ChainError> {
        Ok(audit::append_all(transaction, entries).map_err(Failure::from)?)
    }

    fn last(
        &self,
        connection: &rusqlite::Connection,
        package: &str,
        most: u32,
    ) -> std::result::Result<Vec<AuditEntry>, ChainError> {
        Ok(audit::last(connection, Some(package), most).map_err(Failure::from)?)
    }
}

impl Host {
    /// The packages.
    pub(super) fn packages(self: &Arc<Self>) -> Result<&Packages> {
        Ok(&self.open_packages()?.packages)
    }

    /// The broker.
    pub(super) fn broker(self: &Arc<Self>) -> Result<&Arc<Broker>> {
        Ok(&self.open_packages()?.broker)
    }

    pub(super) fn open_packages(self: &Arc<Self>) -> Result<&Open> {
        let installed = &self.installed;
        if let Some(open) = installed.open.get() {
            return Ok(open);
        }
        let _one_at_a_time = lock(&installed.opening);
        if let Some(open) = installed.open.get() {
            return Ok(open);
        }
        let weak: Weak<Self> = Arc::downgrade(self);
        let runner = Arc::new(Runner::new(weak, tokio::runtime::Handle::current()));
        let data_dir = self.machine.data_dir();
        let shared: Arc<dyn packages::runner::Runner> = Arc::<Runner>::clone(&runner);
        let packages = Packages::open(data_dir, shared, now)?;
        let databases = Databases {
            write: packages::database::open(data_dir)?,
            read: packages::database::open(data_dir)?,
        };
        let guard = Guard::new().with_private(self.package_networks.clone());
        let broker = Broker::open(databases, Arc::new(Audit), data_dir, guard, Rates::default(), now)?;
        // Nothing of any package runs yet, and nobody can decide about one.
        tokio::runtime::Handle::current().block_on(place::recover(self, &broker));
        Ok(installed.open.get_or_init(|| Open { packages, broker, runner }))
    }

    /// A service of a package has ended by itself.
    pub(super) fn package_failed(&self, id: &PackageId, reason: &str) {
        if let Some(open) = self.installed.open.get() {
            open.packages.has_failed(id, reason);
        }
    }

    /// What of a package had failed for this reason is well again.
    pub(super) fn package_recovered(&self, id: &PackageId, reason: &str) {
        if let Some(open) = self.installed.open.get() {
            open.packages.has_recovered(id, reason);
        }
    }

    /// What a package that depends on this one is told of it.
    pub(super) fn dependency(self: &Arc<Self>, package: &str) -> Result<DependencyInfo> {
        let found = match self.packages()?.get(&id(package)?).map_err(Failure::from) {
            Ok(info) => self.complete_package(info)?,
            Err(failure) if failure.kind == ErrorKind::NotFound => {
                return Ok(DependencyInfo { package_id: package.to_owned(), ..DependencyInfo::default() });
            }
            Err(failure) => return Err(failure),
        };
        let told = found.worker.map(|worker| worker.told).unwrap_or_default();
        let running = found.status == PackageStatus::Active && found.run == PackageRun::Running;
        Ok(DependencyInfo {
            package_id: found.package_id,
            name: Some(found.name),
            version: Some(found.version),
            running,
            tasks: told.iter().flat_map(|told| told.tasks.clone()).take(MOST_TOLD).collect(),
            health: told.into_iter().flat_map(|told| told.health).take(MOST_TOLD).collect(),
        })
    }

    /// With what the broker and the runner know.
    fn complete_package(self: &Arc<Self>, mut info: PackageInfo) -> Result<PackageInfo> {
        let Open { broker, runner, .. } = self.open_packages()?;
        info.calls = broker.info(&info.package_id);
        info.worker = runner.worker_info(&info.package_id);
        info.functions = runner.functions_info(&info.package_id);
        Ok(info)
    }
}

/// Starts what is active, if anything ever was installed here.
pub(super) async fn boot(host: Arc<Host>) {
    let booted = blocking(move || {
        if !host.machine.data_dir().join(packages::database::FILE).exists() {
            return Ok(Vec::new());
        }
        Ok(host.packages()?.boot()?)
    });
    log(booted.await);
}

/// Stops what runs, those that need others first.
pub(super) async fn shutdown(host: Arc<Host>) {
    let stopped = blocking(move || match host.installed.open.get() {
        Some(open) => {
            let stopped = open.packages.shutdown();
            open.broker.close();
            Ok(stopped?)
        }
        None => Ok(Vec::new()),
    });
    log(stopped.await);
}

fn log(result: Result<Vec<packages::Error>>) {
    match result {
        Ok(errors) => {
            errors.into_iter().for_each(|error| tracing::error!("{}", Failure::from(error).sentence()));
        }
        Err(failure) => tracing::error!("{}", failure.sentence()),
    }
}

pub(super) fn id(text: &str) -> Result<PackageId> {
    text.parse().map_err(|error| Failure::new(ErrorKind::Invalid, "read package id", "").because(error))
}

/// A bundle, in a file that nobody else can write to.
fn fetch(host: &Host, packages: &Packages, source: &PackageSource) -> Result<File> {
    match source {
        PackageSource::File { path } => {
            let path = Path::new(path);
            if !path.is_absolute() {
                return Err(Failure::new(ErrorKind::Invalid, "open bundle", path.display())
                    .because(std::io::Error::other("a path for the host is absolute")));
            }
            Ok(packages::source::file(packages.store(), path)?)
        }
        PackageSource::Oci { reference, insecure } => {
            let what = images::Pull {
                reference,
                name: None,
                platform: None,
                insecure: *insecure,
                credentials: images::Credentials::Configured,
            };
            let (kind, cancel) = (packages::bundle::MEDIA_TYPE, images::Cancel::new());
            let most = packages::bundle::Limits::default().compressed;
            Ok(host.machine.store()?.artifact(&what, kind, most, &images::Silent, &cancel)?)
        }
    }
}

/// The jobs of a package that runs.
pub(super) async fn jobs(host: &Arc<Host>, package: &str) -> Result<Arc<Jobs>> {
    let (host, id) = (Arc::clone(host), id(package)?);
    blocking(move || host.open_packages()?.runner.jobs(&id)).await
}

/// `package.list`
pub(super) fn list(host: &Arc<Host>, _: Empty) -> Result<ListPackagesResult> {
    let mut packages = Vec::new();
    for info in host.packages()?.list()? {
        let mut info = host.complete_package(info)?;
        // Of one package: all of them together could be more than a message carries.
        if let Some(worker) = &mut info.worker {
            worker.told.clear();
        }
        packages.push(info);
    }
    Ok(ListPackagesResult { packages })
}

/// `package.inspect`
pub(super) fn inspect(host: &Arc<Host>, p: PackageParams) -> Result<PackageInfo> {
    host.complete_package(host.packages()?.get(&id(&p.package_id)?)?)
}

/// `package.install`
pub(super) fn install(host: &Arc<Host>, p: InstallParams) -> Result<PackageInfo> {
    let packages = host.packages()?;
    let bundle = fetch(host, packages, &p.source)?;
    Ok(packages.install(bundle, p.older)?)
}

/// `package.update`
pub(super) fn update(host: &Arc<Host>, p: InstallParams) -> Result<PackageInfo> {
    let packages = host.packages()?;
    let bundle = fetch(host, packages, &p.source)?;
    Ok(packages.update(bundle, p.grant_all, p.older)?)
}

/// `package.grant`
pub(super) fn grant(host: &Arc<Host>, p: GrantParams) -> Result<PackageInfo> {
    let id = id(&p.package_id)?;
    let info = host.packages()?.grant(&id, &p)?;
    // What was taken back has closed the door before.
    host.doors.set_granted(&id, &info.granted);
    host.complete_package(info)
}

/// `package.activate`
pub(super) fn activate(host: &Arc<Host>, p: PackageParams) -> Result<PackageInfo> {
    Ok(host.packages()?.activate(&id(&p.package_id)?)?)
}

/// `package.disable`
pub(super) fn disable(host: &Arc<Host>, p: DisableParams) -> Result<PackageInfo> {
    Ok(host.packages()?.disable(&id(&p.package_id)?, p.dependents)?)
}

/// `package.rollback`
pub(super) fn rollback(host: &Arc<Host>, p: RollbackParams) -> Result<PackageInfo> {
    let version = p.version.map(|text| packages::manifest::version(&text)).transpose()?;
    Ok(host.packages()?.rollback(&id(&p.package_id)?, version.as_ref(), p.grant_all)?)
}

/// `package.remove`
pub(super) fn remove(host: &Arc<Host>, p: RemovePackageParams) -> Result<Empty> {
    let id = id(&p.package_id)?;
    host.packages()?.remove(&id, p.data)?;
    if p.data {
        tokio::runtime::Handle::current().block_on(host.broker()?.forget(id.as_str()))?;
    }
    Ok(Empty {})
}

/// `package.reload`
pub(super) async fn reload(host: Arc<Host>, _: Call, p: ReloadParams) -> Answer<PackageInfo> {
    let worker = Arc::clone(&host);
    let prepared = blocking(move || {
        let (id, runner) = runner_of(&worker, &p.package_id)?;
        if let Some(files) = &p.files {
            // Written down first: nobody has signed what runs from here on.
            let noted = worker.broker()?.note(id.as_str(), "package.develop", files, None);
            tokio::runtime::Handle::current().block_on(noted)?;
            runner.develop(&id, Path::new(files))?;
        }
        Ok((id, runner))
    });
    let (id, runner) = answer(prepared.await)?;
    answer(runner.reload(&id).await)?;
    answer(blocking(move || inspect(&host, PackageParams { package_id: id.to_string() })).await)
}

/// `package.call`
pub(super) async fn call(host: Arc<Host>, call: Call, p: CallParams) -> Answer<CallModuleResult> {
    let CallParams { package_id, module, function, input, timeout } = p;
    let timeout = Duration::from_millis(timeout.unwrap_or(60_000).min(3_600_000));
    let (id, runner) = answer(blocking(move || runner_of(&host, &package_id)).await)?;
    tokio::select! {
        () = call.cancelled() => Err(cancelled()),
        result = runner.call(&id, module, function, input, timeout) => answer(result),
    }
}

/// `package.fetch`
pub(super) async fn send_request(host: Arc<Host>, call: Call, p: FetchParams) -> Answer<FetchResult> {
    let package_id = p.package_id.clone();
    let light = blocking(move || {
        let (id, runner) = runner_of(&host, &package_id)?;
        runner.light(&id)
    });
    let light = answer(light.await)?;
    tokio::select! {
        () = call.cancelled() => Err(cancelled()),
        result = light::fetch(&light, p) => answer(result),
    }
}

/// The functions of a package that runs, if it has some.
pub(super) async fn light(host: &Arc<Host>, package: &str) -> Result<Option<Arc<Light>>> {
    let (host, package) = (Arc::clone(host), package.to_owned());
    blocking(move || {
        let (id, runner) = runner_of(&host, &package)?;
        Ok(runner.light(&id).ok())
    })
    .await
}

fn runner_of(host: &Arc<Host>, package_id: &str) -> Result<(PackageId, Arc<Runner>)> {
    Ok((id(package_id)?, Arc::clone(&host.open_packages()?.runner)))
}

/// `package.lift`
pub(super) fn lift(host: &Arc<Host>, p: PackageParams) -> Result<PackageInfo> {
    let id = id(&p.package_id)?;
    tokio::runtime::Handle::current().block_on(host.broker()?.lift(id.as_str()))?;
    inspect(host, p)
}

/// `package.rekey`
pub(super) fn rekey(host: &Arc<Host>, _: Empty) -> Result<RekeyResult> {
    let secrets = tokio::runtime::Handle::current().block_on(host.broker()?.rekey())?;
    Ok(RekeyResult { secrets })
}

/// `package.audit`
pub(super) fn read_audit(host: &Arc<Host>, p: AuditParams) -> Result<AuditResult> {
    let of = p.package_id.as_deref().map(id).transpose()?;
    let last = p.last.unwrap_or(100).min(10_000);
    let (entries, verified) = host.packages()?.audit(of.as_ref(), last, p.verify)?;
    Ok(AuditResult { entries, verified })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn b3_manifests_and_the_broker_know_the_same_capabilities() {
        let of_manifests: BTreeSet<&str> =
            packages::manifest::capability::KINDS.iter().map(|kind| kind.name).collect();
        let of_the_broker: BTreeSet<&str> =
            broker::capability::Capability::ALL.iter().map(|capability| capability.name()).collect();
        assert_eq!(of_manifests, of_the_broker);
    }
}
